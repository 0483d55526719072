"""The commands on snapshots of containers and volumes."""

from __future__ import annotations

from strata.cli.context import Context, for_each, note, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a snapshot and print its name."""
    _check(arguments[0])
    from strata.engine import snapshots

    say(snapshots.take(context.engine, arguments[0]))
    return 0


def ls(context: Context, options: Options, arguments: list[str]) -> int:
    """List snapshots of one target or of all."""
    import time

    from strata.cli.format import ago, go_time, human_size, show_rows
    from strata.engine import snapshots

    found = snapshots.list_snapshots(context.engine, arguments[0] if arguments else None)
    if options.flag("quiet"):
        for snapshot in found:
            say(f"{snapshot['Target']}@{snapshot['Name']}")
        return 0
    now = time.time()
    rows = [
        {
            **row,
            "Snapshot": f"{row['Target']}@{row['Name']}",
            "CreatedSince": ago(row["Created"], now),
            "CreatedAt": go_time(row["Created"]),
            "Used": "" if row["Used"] is None else human_size(row["Used"]),
            "Referenced": "" if row["Referenced"] is None else human_size(row["Referenced"]),
            "Origin": "foreign" if row["Foreign"] else "strata",
        }
        for row in found
    ]
    columns = [("SNAPSHOT", "Snapshot"), ("KIND", "Kind"), ("CREATED", "CreatedSince")]
    if arguments:
        # Asking every dataset for its sizes would make the long list slow.
        columns += [("USED", "Used"), ("REFERENCED", "Referenced")]
    columns += [("ORIGIN", "Origin"), ("BRANCH", "Branch")]
    show_rows(
        rows,
        columns,
        format=options.text("format"),
        raw=found,
        heading=not options.flag("noheading"),
    )
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove snapshots."""
    for spec in arguments:
        _check(spec)
    from strata.engine import snapshots

    def act(spec: str) -> None:
        for gone in snapshots.remove(context.engine, [spec]):
            say(gone)

    return for_each(context, arguments, act, classify=True)


def rollback(context: Context, options: Options, arguments: list[str]) -> int:
    """Take a target back to a snapshot."""
    _check(arguments[0])
    from strata.engine import snapshots

    done = snapshots.rollback(context.engine, arguments[0], stop=not options.flag("no-stop"))
    say(f"{done['Target']}@{done['Snapshot']}")
    note(f"the state before is kept as {done['Branch']}")
    for name in done["Restarted"]:
        note(f"started again: {name}")
    return 0


def clone(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a new container or volume from another and print its name."""
    from strata.engine import snapshots

    say(snapshots.clone(context.engine, arguments[0], arguments[1]))
    return 0


def _check(spec: str) -> None:
    target, at, name = spec.rpartition("@")
    if not (target and at and name):
        raise UsageError(
            f'"{spec}" does not name a snapshot',
            hint="write TARGET@NAME, as in data@before-upgrade",
        )
