"""Listing, inspecting and pruning containers."""

from __future__ import annotations

import time

from strata.cli import values
from strata.cli.context import Context, for_each, note, say
from strata.cli.handlers.choosing import choose
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def ps(context: Context, options: Options, arguments: list[str]) -> int:
    """List containers."""
    filters = values.parse_filters(options.list("filter"))
    last = options.number("last")
    if last is not None and options.flag("latest"):
        raise UsageError("--last and --latest cannot be used together")
    quiet = options.flag("quiet")
    if quiet and options.given("format"):
        raise UsageError("--quiet and --format cannot be used together")
    from strata.engine.containers.listing import list_containers

    rows = list_containers(
        context.engine,
        all=options.flag("all"),
        filters=filters,
        last=last if last and last > 0 else None,
        latest=options.flag("latest"),
        size=options.flag("size"),
    )
    full = options.flag("no-trunc")
    if quiet:
        for row in rows:
            say(row["Id"] if full else row["Id"][:12])
        return 0
    from strata.cli.format import show_rows

    now = time.time()
    columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ]
    if options.flag("size"):
        columns.append(("SIZE", "Size"))
    show_rows(
        [describe_row(row, now, full=full) for row in rows],
        columns,
        format=options.text("format"),
        raw=[{**row, "Status": describe_status(row, now)} for row in rows],
        heading=not options.flag("noheading"),
    )
    return 0


def describe_row(row: dict[str, Any], now: float, *, full: bool) -> dict[str, Any]:
    """Return a row of ``ps`` with Podman's field names in their human form."""
    from strata.cli.format import ago, go_time, human_size, join_pairs

    command = " ".join(row["Command"])
    if not full and len(command) > 17:
        command = f"{command[:17]}..."
    created = ago(row["Created"], now)
    size = row.get("Size")
    return {
        **row,
        "ID": row["Id"] if full else row["Id"][:12],
        "Command": command,
        "CreatedAt": go_time(row["Created"]),
        "CreatedHuman": created,
        "RunningFor": created,
        "Labels": join_pairs(row["Labels"]),
        "Mounts": ",".join(row["Mounts"]),
        "Names": ",".join(row["Names"]),
        "Networks": ",".join(row["Networks"]),
        "Ports": "",
        "Size": f"{human_size(size['rwSize'])} (virtual {human_size(size['rootFsSize'])})"
        if size
        else "",
        "Status": describe_status(row, now),
    }


def describe_status(row: dict[str, Any], now: float) -> str:
    """Return a container's status in words: Up 2 minutes, Exited (0) 3 hours ago."""
    from strata.cli.format import ago, human_duration, to_seconds

    state = row["State"]
    if state == "running":
        since = to_seconds(row["StartedAt"])
        return f"Up {human_duration(max(0.0, now - since))}" if since else "Up"
    if state == "exited":
        return f"Exited ({row['ExitCode']}) {ago(row['ExitedAt'], now)}".rstrip()
    if state == "removing":
        return "Removal In Progress"
    return str(state).capitalize()


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

    warning = "This will remove all containers that do not run."
    if context.confirm(warning, force=options.flag("force")):
        filters = values.parse_filters(options.list("filter"))
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
