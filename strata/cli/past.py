"""``--at`` of run and create: a command line about a snapshot becomes the engine's description."""

from __future__ import annotations

from strata.cli.context import Context, note, quote
from strata.cli.parse import Options
from strata.errors import StrataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reader = Callable[[Options, list[str]], dict[str, Any]]


def describe(
    context: Context, options: Options, arguments: list[str], read: Reader
) -> dict[str, Any]:  # fmt: skip
    """The description of what ``--at`` asks for.

    With a container among the snapshots there is no image, and all arguments are the command;
    ``changed`` then holds what was said on the command line over the container's own settings.
    """
    from strata.cli.index import find_command
    from strata.cli.messages import clean
    from strata.engine.history import past

    specs = options.list("at")
    container = past.find_container(context.engine, specs)
    if container is None:
        if not arguments:
            raise UsageError("requires at least 1 arg(s), only received 0",
                             hint="name an image: --at VOLUME@NAME does not bring one")  # fmt: skip
        return {**read(options, arguments), "at": specs, "changed": {}}
    _check_image(context, specs, arguments)
    if not arguments and not options.given("entrypoint"):
        words = [*container["config"]["entrypoint"], *container["config"]["command"]]
        shown = " ".join(quote(clean(word)) for word in words)
        note(f"it runs the command of {container['name']}: {shown}")
    command = find_command("run")
    plain = read(Options(command.options if command else ()), ["-"])
    described = read(options, ["-", *arguments])
    changed = {key: value for key, value in described.items() if value != plain.get(key)}
    return {**described, "at": specs, "changed": changed}


def _check_image(context: Context, specs: list[str], arguments: list[str]) -> None:
    """Refuse an image where the command stands: who writes one as usual would run its name."""
    from strata.engine.names import find_image

    word = arguments[0] if arguments else ""
    if ":" not in word:
        return
    try:
        found = find_image(context.engine, word)
    except StrataError:
        return
    if found is not None:
        raise UsageError(
            f"{word} is an image, and --at brings that of its container",
            hint=f"leave it out: strata run --at {specs[0]} [COMMAND [ARG...]]",
        )
