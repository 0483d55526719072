"""The commands on snapshots of containers and volumes."""

from __future__ import annotations

from strata.cli.context import Context, note, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Make snapshots of one moment and print their names."""
    for spec in arguments:
        _check(spec)
    from strata.engine.history import moments

    taken = moments.take(
        context.engine,
        arguments,
        with_volumes=options.flag("volumes"),
        quiesce=options.text("quiesce"),
        report=note,
    )
    for name in taken:
        say(name)
    return 0


def ls(context: Context, options: Options, arguments: list[str]) -> int:
    """List snapshots of one target or of all."""
    import time

    from strata.cli.format import ago, go_time, human_size, show_rows
    from strata.engine.history import snapshots

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
    from strata.cli import losses
    from strata.engine.history import snapshot_removal

    def act(spec: str) -> None:
        for gone in snapshot_removal.remove(context.engine, [spec], now=options.flag("now")):
            say(gone)

    return losses.remove_each(
        context, options, arguments, act,
        lambda: snapshot_removal.plan_removal(context.engine, arguments),
    )  # fmt: skip


def rollback(context: Context, options: Options, arguments: list[str]) -> int:
    """Take a target back to a snapshot."""
    _check(arguments[0])
    from strata.engine.history import heads

    done = heads.rollback(context.engine, arguments[0], stop=not options.flag("no-stop"))
    say(f"{done['Target']}@{done['Snapshot']}")
    show_moved(done)
    return 0


def show_moved(done: dict[str, Any]) -> None:
    """Say what became of the old head and of the containers that were stopped."""
    lost = ""
    if done["Lost"]:
        from strata.cli.format import human_size

        lost = f", with {human_size(done['Lost'])} written since its last snapshot"
    if done["Dataset"]:
        note(f"the volume is {done['Dataset']} now; what it was stays where it is")
    if done["Branch"]:
        note(f"the state before is kept as the branch {done['Branch']}{lost}: "
             f"'strata switch {done['Target']} {done['Branch']}' goes back to it")  # fmt: skip
    else:
        note("the state before is not kept: it was destroyed outside Strata")
    for name in done["Restarted"]:
        note(f"started again: {name}")


def clone(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a new container or volume from another and print its name."""
    from strata.engine.history import clones

    say(clones.clone(context.engine, arguments[0], arguments[1]))
    return 0


def _check(spec: str) -> None:
    target, at, name = spec.rpartition("@")
    if not (target and at and name):
        raise UsageError(
            f'"{spec}" does not name a snapshot',
            hint="write TARGET@NAME, as in data@before-upgrade",
        )
