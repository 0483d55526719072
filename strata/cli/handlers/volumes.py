"""The commands on volumes."""

from __future__ import annotations

from strata.cli import losses, values
from strata.cli.context import Context, for_each, need_names, note, say, show_each
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from strata.cli.parse import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Create a volume and print its name."""
    from strata.engine.names import check_name
    from strata.engine.volumes import making

    if options.given("name") and arguments:
        raise UsageError("--name and an argument cannot be used together")
    given = "".join(arguments) or options.text("name")
    name = check_name(given, "volume") if given else None
    if options.given("dataset"):
        return _adopt(context, options, name)
    made = making.create(
        context.engine,
        name,
        options=values.parse_pairs(options.list("opt"), "--opt"),
        labels=values.parse_pairs(options.list("label"), "--label"),
        profile=options.text("profile"),
        ignore=options.flag("ignore"),
        pool=options.text("pool"),
    )
    for text in made.get("Notes") or ():
        note(text)
    say(made["Name"])
    return 0


def _adopt(context: Context, options: Options, name: str | None) -> int:
    """Make a volume of a dataset that exists and print its name."""
    from strata.engine import adoption, names

    for word in ("opt", "profile", "pool"):
        if options.given(word):
            raise UsageError(
                f"--{word} cannot be used together with --dataset",
                hint="an adopted dataset stays where it is, with the settings it has",
            )
    if name is not None and options.flag("ignore") and names.exists(context.engine, "volume", name):
        say(name)
        return 0
    made = adoption.adopt(
        context.engine, options.text("dataset"), name,
        labels=values.parse_pairs(options.list("label"), "--label"),
    )  # fmt: skip
    say(made["Name"])
    return 0


def update(context: Context, options: Options, arguments: list[str]) -> int:
    """Change native properties of a volume and print its name."""
    from strata.engine import limits
    from strata.engine.names import get_volume

    record = get_volume(context.engine, arguments[0])
    wanted = values.parse_pairs(options.list("opt"), "--opt")
    for text in limits.change(context.engine, record, wanted):
        note(text)
    say(record["name"])
    return 0


def ls(context: Context, options: Options, arguments: list[str]) -> int:
    """List volumes."""
    from strata.cli.format import show_rows
    from strata.engine.volumes import listing

    if options.flag("long") or arguments:
        return _list_files(context, options, arguments)
    filters = values.parse_filters(options.list("filter"))
    found = listing.list_volumes(context.engine, filters)
    if options.flag("quiet"):
        if options.given("format"):
            raise UsageError("--quiet and --format cannot be used together")
        for volume in found:
            say(volume["Name"])
        return 0
    show_rows(
        [{**volume, "Label": _get_label(volume), "_raw": volume} for volume in found],
        [("DRIVER", "Driver"), ("VOLUME NAME", "Name")],
        format=options.text("format"),
        raw=found,
        heading=not options.flag("noheading"),
        name="ls",
    )
    return 0


def _get_label(volume: dict[str, Any]) -> Callable[[str], str]:
    return lambda key: str(volume["Labels"].get(key, ""))


def _list_files(context: Context, options: Options, arguments: list[str]) -> int:
    """``volume ls -l TARGET@NAME``: the files of a volume or container, as ls -l shows them."""
    import time

    from strata.cli.format import show_rows
    from strata.engine.history import reading

    if not options.flag("long") or not arguments:
        raise UsageError(
            "--long needs what to list" if options.flag("long") else
            f'unknown argument "{arguments[0]}" for "strata volume ls"',
            hint="strata volume ls -l VOLUME[@SNAPSHOT][:PATH]",
        )  # fmt: skip
    found = reading.list_files(context.engine, arguments[0])
    if options.flag("quiet"):
        for row in found:
            say(row["Name"])
        return 0
    rows = [
        {
            **row,
            "When": time.strftime("%Y-%m-%d %H:%M", time.gmtime(row["Modified"])),
            "Shown": f"{row['Name']} -> {row['Target']}" if row["Target"] else row["Name"],
        }
        for row in found
    ]
    columns = [("MODE", "Mode"), ("UID", "Uid"), ("GID", "Gid"), ("SIZE", "Size"),
               ("MODIFIED", "When"), ("NAME", "Shown")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found,
              heading=not options.flag("noheading"))  # fmt: skip
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about volumes."""
    from strata.engine.volumes import listing

    return show_each(
        context, _choose(context, options, arguments),
        lambda name: listing.inspect(context.engine, [name]), options.maybe("format"),
    )  # fmt: skip


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove volumes."""
    from strata.engine.volumes import removal

    wanted = _choose(context, options, arguments)

    def find() -> list[dict[str, Any]]:
        from strata.engine.losses import list_volumes

        return list_volumes(context.engine, wanted, force=options.flag("force"))

    def act(name: str) -> None:
        for gone in removal.remove(
            context.engine, [name], force=options.flag("force"), time=options.number("time"),
            report=note,
        ):  # fmt: skip
            say(gone)

    return losses.remove_each(context, options, wanted, act, find)


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove volumes that no container uses."""
    from strata.cli.handlers.containers import show_pruned
    from strata.engine.volumes import removal

    everything = options.flag("all")
    what = "volumes" if everything else "anonymous volumes"
    return losses.prune(
        context, options, "volume",
        f"This will remove all {what} not used by at least one container.",
        lambda filters: show_pruned(removal.prune(context.engine, filters, all=everything)),
        all=everything,
    )  # fmt: skip


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether a volume exists."""
    from strata.engine import names

    return 0 if names.exists(context.engine, "volume", arguments[0]) else 1


def export(context: Context, options: Options, arguments: list[str]) -> int:
    """Write a volume's files as a tar archive."""
    from strata.cli.handlers.files import write_archive
    from strata.engine.volumes.archives import export as export_files

    _ = context.engine.records.resolve("volume", arguments[0])
    write_archive(
        options.text("output"),
        lambda write: export_files(context.engine, arguments[0], write),
        "volume export",
    )
    return 0


def import_(context: Context, options: Options, arguments: list[str]) -> int:
    """Unpack a tar archive over a volume's files."""
    import os
    import sys

    from strata.engine.volumes.archives import import_ as import_files

    name, source = arguments[0], arguments[1] if len(arguments) > 1 else "-"
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError("cannot read from terminal, use command-line redirection or a file")
        import_files(context.engine, name, 0)
        return 0
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        import_files(context.engine, name, fd)
    finally:
        os.close(fd)
    return 0


def mount(context: Context, options: Options, arguments: list[str]) -> int:
    """Print where volumes are on the host."""
    from strata.engine.volumes import listing

    def act(name: str) -> None:
        say(listing.inspect(context.engine, [name])[0]["Mountpoint"])

    return for_each(context, arguments, act)


def unmount(context: Context, options: Options, arguments: list[str]) -> int:
    """Print the names of volumes; only those outside the store are unmounted."""
    from strata.engine import names
    from strata.engine.volumes.mounting import unmount

    def act(name: str) -> None:
        record = names.get_volume(context.engine, name)
        unmount(context.engine, record)
        say(record["name"])

    return for_each(context, arguments, act)


def reload(context: Context, options: Options, arguments: list[str]) -> int:
    """Do nothing: the list of volumes is the store's own."""
    note("there are no volume plug-ins; nothing to do")
    return 0


def profiles(context: Context, options: Options, arguments: list[str]) -> int:
    """List the profiles of volumes."""
    from strata.cli.format import join_pairs, show_rows
    from strata.engine.volumes import listing

    found = listing.profiles()
    rows = [{**profile, "Options": join_pairs(profile["Options"])} for profile in found]
    columns = [("PROFILE", "Name"), ("OPTIONS", "Options"), ("DESCRIPTION", "Description")]
    show_rows(rows, columns, format=options.text("format"), raw=found)
    return 0


def _choose(context: Context, options: Options, arguments: list[str]) -> list[str]:
    """Return the names given, or those that ``--all`` stands for."""
    everything = options.flag("all")
    need_names(arguments, all=everything, what="volume name")
    if not everything:
        return arguments
    from strata.engine.volumes import listing

    return [volume["Name"] for volume in listing.list_volumes(context.engine)]
