"""Listing, inspecting and pruning containers."""

from __future__ import annotations

from strata.cli import losses
from strata.cli.context import Context, need_names, note, say, show_each
from strata.cli.handlers.choosing import choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about containers."""
    from strata.engine.containers import verbs as containers

    size = options.flag("size")
    # What of several there is is shown all the same.
    names = choose(context, options, arguments) if options.flag("latest") else arguments
    need_names(names, instead="--latest")
    return show_each(
        context, names,
        lambda name: containers.inspect(context.engine, [name], size=size),
        options.maybe("format"),
    )  # fmt: skip


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove the containers that do not run."""
    from strata.engine.containers import removal

    return losses.prune(
        context, options, "container", "This will remove all containers that do not run.",
        lambda filters: show_pruned(removal.prune(context.engine, filters)),
    )  # fmt: skip


def show_pruned(done: dict[str, Any]) -> None:
    """Print what a prune removed, and on standard error what that freed and what is still held."""
    from strata.cli.format import human_size

    for name in done["Deleted"]:
        say(name)
    for failure in done.get("Failed") or ():
        note(f"not removed: {failure}")
    freed, held = done.get("Freed") or 0, done.get("Trash") or 0
    text = f"freed {human_size(freed)}" + (" so far" if done.get("Freeing") else "")
    note(f"{text}; the trash holds {human_size(held)}" if held else text)
