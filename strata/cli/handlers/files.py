"""The commands on a container's files: cp, commit and the like."""

from __future__ import annotations

import os
import sys

from strata.cli.context import Context, say
from strata.cli.handlers.choosing import choose_one
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


def diff(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what a container or image changed."""
    return _show_changes(context, options, arguments, "")


def diff_container(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what a container changed."""
    return _show_changes(context, options, arguments, "container")


def diff_image(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what the top layer of an image changed."""
    return _show_changes(context, options, arguments, "image")


def _show_changes(context: Context, options: Options, arguments: list[str], kind: str) -> int:
    from strata.cli.format import show_json, write_lines
    from strata.cli.messages import clean
    from strata.engine.containers.changes import list_changes

    format = options.text("format")
    if format not in ("", "json"):
        raise UsageError("only supported value for '--format' is 'json'")
    if options.flag("latest"):
        arguments = [choose_one(context, options, arguments)]
    if not arguments:
        raise UsageError("you must provide the name or id of a container or image")
    if kind != "image" and "@" in arguments[0] and ":" not in arguments[0].partition("@")[2]:
        return _show_past(context, arguments, format)
    found = list_changes(context.engine, *arguments, kind=kind)
    if format == "json":
        named = {"C": "changed", "A": "added", "D": "deleted"}
        shown: dict[str, list[str]] = {}
        for what, path in found:
            shown.setdefault(named[what], []).append(path)
        show_json(shown)
    else:
        write_lines([f"{what} {clean(path)}" for what, path in found])
    return 0


def _show_past(context: Context, arguments: list[str], format: str) -> int:
    """Show what changed since a snapshot, with the sizes before and after."""
    from strata.cli.format import human_size, show_json, write_lines
    from strata.cli.messages import clean
    from strata.engine.history import reading

    found = reading.compare(context.engine, *arguments)
    if format == "json":
        show_json([
            {"Kind": change.kind, "Path": os.fsdecode(change.path), "Before": change.before,
             "After": change.after}
            for change in found
        ])  # fmt: skip
        return 0
    lines = []
    for change in found:
        sizes = {"A": f"+{human_size(change.after)}", "D": f"-{human_size(change.before)}"}.get(
            change.kind, f"{human_size(change.before)} -> {human_size(change.after)}"
        )
        lines.append(f"{change.kind} {clean(os.fsdecode(change.path))}  {sizes}")
    write_lines(lines)
    return 0


def export(context: Context, options: Options, arguments: list[str]) -> int:
    """Write a container's files as a tar to a file or standard output."""
    from strata.engine.containers.changes import export as export_files
    from strata.linux.write import write_all

    name = choose_one(context, options, arguments)
    output = options.text("output")
    if not output:
        if os.isatty(1):
            raise UsageError(
                "refusing to export to terminal. Use -o flag or redirect",
                hint="strata export -o files.tar CONTAINER",
            )
        sys.stdout.flush()
        export_files(context.engine, name, lambda data: write_all(1, data))
        return 0
    if ":" in output:
        raise UsageError(f'invalid filename (should not contain ":") "{output}"')
    _ = context.engine.records.resolve("container", name)
    staging = f"{output}.{os.getpid()}"
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            export_files(context.engine, name, lambda data: write_all(fd, data))
        finally:
            os.close(fd)
        os.rename(staging, output)
    except BaseException:
        os.unlink(staging)
        raise
    return 0
