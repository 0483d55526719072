"""``system df``: what uses space, as Podman lays it out."""

from __future__ import annotations

import time

from strata.cli.context import Context, note
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
    from strata.cli.format import show_json, show_rows, write_lines
    from strata.cli.template_values import make_heading
    from strata.engine.system import space

    if options.flag("explain") or options.given("free"):
        return _explain(context, options)
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
        elif key == "Limits":
            shown[key] = ", ".join(map(_show_limit, value)) or "-"
        elif key in ("Deleted", "Due"):
            shown[key] = go_time(value)
        else:
            shown[key] = value
    return shown


def _show_limit(row: Row) -> str:
    """``size 1.2GB of 10GB``; a reservation has no use."""
    from strata.cli.format import short_size

    size = short_size(row["Bytes"], _DIGITS)
    if row["Used"] is None:
        return f"{row['Name']} {size}"
    return f"{row['Name']} {short_size(row['Used'], _DIGITS)} of {size}"


def _explain(context: Context, options: Options) -> int:
    """``df --explain``: what each object holds, or what would free space."""
    from strata.cli.format import human_size, show_rows
    from strata.engine.system import explaining

    wanted = options.number("free")
    if wanted is not None:
        found = explaining.list_ways(context.engine, wanted)
        rows = [{**row, "Bytes": human_size(row["Frees"])} for row in found]
        show_rows(rows, [("FREES", "Bytes"), ("WHAT", "What"), ("COMMAND", "Command")],
                  format=options.text("format"), raw=found)  # fmt: skip
        total = sum(row["Frees"] for row in found)
        if total < wanted:
            note(f"these free {human_size(total)}; nothing more is known that could go without "
                 "removing what is in use")  # fmt: skip
        return 0
    found = explaining.explain(context.engine)
    parts = ("Unique", "Shared", "Held", "Trash")
    rows = [
        {**row, **{part: "-" if row[part] is None else human_size(row[part]) for part in parts},
         "Ratio": "-" if row["Ratio"] is None else f"{row['Ratio']:.2f}x"}
        for row in found
    ]  # fmt: skip
    columns = [("KIND", "Kind"), ("NAME", "Name"), ("UNIQUE", "Unique"), ("SHARED", "Shared"),
               ("SNAPSHOTS", "Held"), ("TRASH", "Trash"), ("COMPRESSED", "Ratio")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found)
    return 0
