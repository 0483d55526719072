"""``--at`` of run and create: a command line about a snapshot becomes the engine's description."""

from __future__ import annotations

from strata.cli.context import Context
from strata.cli.parse import Options
from strata.errors import UsageError

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
    from strata.engine.history import past

    specs = options.list("at")
    if past.find_container(context.engine, specs) is None:
        if not arguments:
            raise UsageError("requires at least 1 arg(s), only received 0",
                             hint="name an image: --at VOLUME@NAME does not bring one")  # fmt: skip
        return {**read(options, arguments), "at": specs, "changed": {}}
    command = find_command("run")
    plain = read(Options(command.options if command else ()), ["-"])
    described = read(options, ["-", *arguments])
    changed = {key: value for key, value in described.items() if value != plain.get(key)}
    return {**described, "at": specs, "changed": changed}
