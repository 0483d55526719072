"""Listing, inspecting and pruning containers."""

from __future__ import annotations

from strata.cli import losses, values
from strata.cli.context import Context, for_each, note, say
from strata.cli.handlers.choosing import choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about containers."""
    from strata.cli.format import show_objects
    from strata.engine.containers import verbs as containers

    found: list[Any] = []
    size = options.flag("size")
    code = for_each(
        context,
        choose(context, options, arguments),
        lambda name: found.extend(containers.inspect(context.engine, [name], size=size)),
    )
    show_objects(found, options.maybe("format"))
    return code


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove the containers that do not run."""
    from strata.engine.containers import removal

    filters = values.parse_filters(options.list("filter"))

    def find() -> list[dict[str, Any]]:
        from strata.engine.losses import list_prunable

        return list_prunable(context.engine, "container", filters)

    if losses.is_dry(options, find):
        return 0
    warning = "This will remove all containers that do not run."
    if losses.confirm(context, options, warning, find):
        show_pruned(removal.prune(context.engine, filters))
    return 0


def show_pruned(done: dict[str, Any]) -> None:
    """Print what a prune removed, and on standard error what that freed and what is still held."""
    from strata.cli.format import human_size

    for name in done["Deleted"]:
        say(name)
    for failure in done.get("Failed") or ():
        note(f"not removed: {failure}")
    freed, held = done.get("Freed") or 0, done.get("Trash") or 0
    text = f"freed {human_size(freed)}"
    note(f"{text}; the trash holds {human_size(held)}" if held else text)
