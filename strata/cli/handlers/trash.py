"""The commands on the trash."""

from __future__ import annotations

import time

from strata.cli.context import Context, need_names, note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def _row(row: dict[str, Any], now: float, *, full: bool) -> dict[str, Any]:
    from strata.cli.format import ago, human_duration, human_size

    return {
        **row,
        "ID": row["Id"] if full else row["Id"][:12],
        "RemovedSince": ago(row["Removed"], now),
        "Left": human_duration(max(0.0, row["Due"] - now)),
        "Size": "" if row["Size"] is None else human_size(row["Size"]),
        "Snapshots": ", ".join(row["Snapshots"]),
    }


def list_(context: Context, options: Options, arguments: list[str]) -> int:
    """List what is in the trash."""
    from strata.cli.format import show_rows
    from strata.engine.system import emptying

    found = emptying.list_trash(context.engine)
    now = time.time()
    show_rows(
        [_row(row, now, full=options.flag("no-trunc")) for row in found],
        [("ID", "ID"), ("KIND", "Kind"), ("NAME", "Name"), ("REMOVED", "RemovedSince"),
         ("KEPT FOR", "Left"), ("SIZE", "Size"), ("SNAPSHOTS", "Snapshots")],
        format=options.text("format"),
        raw=found,
        heading=True,
    )  # fmt: skip
    return 0


def empty(context: Context, options: Options, arguments: list[str]) -> int:
    """Destroy what is in the trash before its time."""
    from strata.cli.handlers.containers import show_pruned
    from strata.engine.system import emptying

    everything = options.flag("all")
    need_names(arguments, all=everything)
    rows = emptying.choose(context.engine, arguments, all=everything)
    if not rows:
        return 0
    now = time.time()
    for row in rows:
        shown = _row(row, now, full=False)
        held = f", with the snapshots {shown['Snapshots']}" if row["Snapshots"] else ""
        note(f"{row['Kind']} {row['Name'] or shown['ID']}, removed {shown['RemovedSince']}{held}")
    if not context.confirm("This destroys the above for good.", force=options.flag("force")):
        return 1
    show_pruned(emptying.empty(context.engine, rows))
    return 0
