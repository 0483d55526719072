"""``system df``: what uses space, as Podman lays it out."""

from __future__ import annotations

import time

from strata.cli.context import Context
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options

    Row = dict[str, Any]

_DIGITS = 4
_TITLES = (
    ("Images", "Images"), ("Containers", "Containers"), ("Volumes", "Local Volumes"),
    ("Trash", "Trash"),
)  # fmt: skip


def df(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what uses space."""
    from strata.cli.format import make_heading, show_json, show_rows, write_lines
    from strata.engine.system import space

    verbose = options.flag("verbose")
    format = options.text("format")
    found = space.df(context.engine, verbose)
    if verbose and format:
        if format.strip() != "json":
            raise UsageError("cannot combine --format and --verbose flags", hint="use json")
        show_json(found)
        return 0
    if not verbose:
        rows = [summarise(row) for row in found["Summary"]]
        columns = [("TYPE", "Type"), ("TOTAL", "Total"), ("ACTIVE", "Active")]
        columns += [("SIZE", "Size"), ("RECLAIMABLE", "Reclaimable")]
        show_rows(rows, columns, format=format, name="df")
        return 0
    now = time.time()
    for key, title in _TITLES:
        write_lines([f"{title} space usage:", ""])
        rows = [_humanise(row, now) for row in found.get(key) or ()]
        keys = list(rows[0]) if rows else []
        show_rows(rows, [(make_heading(name, {}), name) for name in keys])
        write_lines([""])
    return 0


def summarise(row: Row) -> Row:
    """Return one kind's row with Podman's keys; what the driver cannot tell is a dash."""
    from strata.cli.format import short_size

    size, free = row["Size"], row["Reclaimable"]
    text = "-"
    if free is not None:
        percent = round(100 * free / size) if size else 0
        text = f"{short_size(free, _DIGITS)} ({percent}%)"
    return {
        "Type": "Local Volumes" if row["Type"] == "Volumes" else row["Type"],
        "Total": row["Total"],
        "Active": row["Active"],
        "RawSize": size,
        "RawReclaimable": free,
        "TotalCount": row["Total"],
        "Size": "-" if size is None else short_size(size, _DIGITS),
        "Reclaimable": text,
    }


def _humanise(row: Row, now: float) -> Row:
    """Return a row of the long form with sizes and moments for people."""
    from strata.cli.format import go_time, human_duration, short_size, to_seconds

    shown: Row = {}
    for key, value in row.items():
        if key.endswith(("Size", "Used", "Referenced", "Reclaimable")):
            shown[key] = "-" if value is None else short_size(value, _DIGITS)
        elif key == "Created":
            shown[key] = human_duration(max(0.0, now - (to_seconds(value) or now)))
        elif key in ("Deleted", "Due"):
            shown[key] = go_time(value)
        else:
            shown[key] = value
    return shown
