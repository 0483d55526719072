"""The commands on a container's files: cp, commit and the like."""

from __future__ import annotations

import os
import sys

from strata.cli.context import Context, for_each, say
from strata.cli.handlers.choosing import choose, choose_one
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
    from strata.engine.containers.copy import copy as copy_files

    source, destination = arguments
    if "-" in (source, destination):
        from strata.engine.containers import streaming

        if source == destination:
            raise UsageError("one of the two must be in a container", hint="CONTAINER:PATH")
        if source == "-":
            if os.isatty(0):
                raise UsageError("refusing to read an archive from a terminal", hint="use a pipe")
            streaming.copy_in(context.engine, destination, 0, overwrite=options.flag("overwrite"))
            return 0
        if os.isatty(1):
            raise UsageError("refusing to write an archive to a terminal", hint="use a pipe")
        from strata.linux.write import write_all

        streaming.copy_out(context.engine, source, lambda data: write_all(1, data))
        return 0
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
    if kind != "image" and "@" in arguments[0] and not _has_digest(arguments[0]):
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


def _has_digest(text: str) -> bool:
    """Whether what follows the @ is an image's digest, not a snapshot's name."""
    return text.partition("@")[2].partition(":")[0] in ("sha256", "sha384", "sha512")


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

    name = choose_one(context, options, arguments)
    _ = context.engine.records.resolve("container", name)
    write_archive(
        options.text("output"), lambda write: export_files(context.engine, name, write), "export"
    )
    return 0


def write_archive(
    output: str, produce: Callable[[Callable[[bytes], object]], object], verb: str
) -> None:  # fmt: skip
    """Let ``produce`` write an archive to standard output, or to a file that appears complete."""
    from strata.linux.write import write_all

    if not output:
        if os.isatty(1):
            raise UsageError(
                "refusing to export to terminal. Use -o flag or redirect",
                hint=f"strata {verb} -o files.tar NAME",
            )
        sys.stdout.flush()
        produce(lambda data: write_all(1, data))
        return
    if ":" in output:
        raise UsageError(f'invalid filename (should not contain ":") "{output}"')
    staging = f"{output}.{os.getpid()}"
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            produce(lambda data: write_all(fd, data))
        finally:
            os.close(fd)
        os.rename(staging, output)
    except BaseException:
        os.unlink(staging)
        raise


def mount(context: Context, options: Options, arguments: list[str]) -> int:
    """Show containers' files or snapshots on the host, or list what is shown."""
    from strata.engine.containers import mounting
    from strata.engine.history import reading
    from strata.engine.names import get_container

    if not arguments and not options.flag("all") and not options.flag("latest"):
        return _list_mounted(context, options)
    names = arguments if _are_snapshots(arguments) else choose(context, options, arguments)

    def act(name: str) -> None:
        if _are_snapshots([name]):
            say(reading.show(context.engine, name))
            return
        path = mounting.mount_container(context.engine, get_container(context.engine, name))
        say(path if len(names) == 1 and not options.flag("all") else f"{name} {path}")

    return for_each(context, names, act)


def _are_snapshots(names: list[str]) -> bool:
    """Whether a snapshot is meant: no container's name has an @."""
    return any("@" in name for name in names)


def _list_mounted(context: Context, options: Options) -> int:
    from strata.cli.format import show_rows
    from strata.engine.containers.mounting import list_mounted
    from strata.engine.history import reading

    full = options.flag("no-trunc")
    rows = [
        {"Spec": record["id"] if full else record["id"][:12], "Path": path, "id": record["id"],
         "mountpoint": path}
        for record, path in list_mounted(context.engine)
    ]  # fmt: skip
    rows += reading.list_shown(context.engine)
    # Without headings, as Podman lists them.
    show_rows(rows, [("MOUNTED", "Spec"), ("PATH", "Path")], format=options.text("format"),
              heading=False)  # fmt: skip
    return 0


def unmount(context: Context, options: Options, arguments: list[str]) -> int:
    """Take containers' files or snapshots away from the host."""
    from strata.engine.containers import mounting
    from strata.engine.history import reading
    from strata.engine.names import get_container

    if options.flag("all"):
        if arguments:
            raise UsageError("--all and names cannot be used together")
        names = [record["id"] for record, _ in mounting.list_mounted(context.engine)]
        shown = reading.list_shown(context.engine)
        names += [f"{row['Kind']}:{row['Spec']}" for row in shown]
    else:
        names = arguments if _are_snapshots(arguments) else choose(context, options, arguments)

    def act(name: str) -> None:
        if _are_snapshots([name]):
            reading.hide(context.engine, name)
        else:
            record = get_container(context.engine, name)
            mounting.unmount_container(context.engine, record, force=options.flag("force"))
        say(name)

    return for_each(context, names, act)


def clone_container(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a new container with the settings of another; print its id."""
    from strata.engine import names
    from strata.engine.containers import life, removal
    from strata.engine.history import clones
    from strata.engine.history.targets import START

    e = context.engine
    if options.flag("force") and not options.flag("destroy"):
        raise UsageError("cannot set --force without --destroy")
    old = names.get_container(e, arguments[0])
    wanted = arguments[1] if len(arguments) > 1 else options.text("name")
    if not wanted:
        wanted, number = f"{old['name']}-clone", 0
        while e.records.find_name("container", wanted) is not None:
            number += 1
            wanted = f"{old['name']}-clone{number}"
    clones.clone(e, f"container:{old['name']}@{START}", wanted)
    made = names.get_container(e, wanted)
    if options.flag("destroy"):
        removal.remove(e, [old["id"]], force=options.flag("force"))
    if options.flag("run"):
        life.start_container(e, made)
    say(made["id"])
    return 0
