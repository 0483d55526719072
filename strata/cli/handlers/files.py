"""The commands on a container's files: cp, commit and the like."""

from __future__ import annotations

from strata.cli.context import Context, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options


def commit(context: Context, options: Options, arguments: list[str]) -> int:
    """Make an image of a container and print its id."""
    from strata.engine.containers.commit import commit as commit_container

    image_id = commit_container(
        context.engine,
        arguments[0],
        arguments[1] if len(arguments) > 1 else None,
        author=options.text("author"),
        message=options.text("message"),
        changes=options.list("change"),
    )
    path = options.text("iidfile")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"sha256:{image_id}")
    say(image_id)
    return 0


def copy(context: Context, options: Options, arguments: list[str]) -> int:
    """Copy files between a container and the host."""
    if "-" in arguments:
        raise UsageError(
            "cp cannot read or write an archive in this version", hint="name a file or directory"
        )
    from strata.engine.containers.copy import copy as copy_files

    copy_files(
        context.engine,
        arguments[0],
        arguments[1],
        archive=options.flag("archive"),
        overwrite=options.flag("overwrite"),
        follow=options.flag("follow"),
    )
    return 0
