"""How answers look: tables with Podman's headings, JSON, Go templates, human sizes and times.

A row is a dictionary as the engine returns it; ``--format json`` prints these. For tables and
templates the caller adds the human forms under Podman's field names.
"""

from __future__ import annotations

import sys

from strata.cli.messages import clean
from strata.errors import UsageError
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Row = dict[str, Any]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE, _HOUR = 60, 3600
_PADDING, _NARROWEST = 2, 12


def human_size(size: float) -> str:
    """Return bytes with three digits and decimal units, as Podman shows image sizes: 170 MB."""
    value, unit = float(size), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.3g} {_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Return a duration in words, as Docker and Podman do: About an hour, 3 days."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    minutes, hours = whole // _MINUTE, int(seconds / _HOUR + 0.5)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // (24 * 7)} weeks"
    if hours < 24 * 730:
        return f"{hours // (24 * 30)} months"
    return f"{hours // (24 * 365)} years"


def ago(moment: Any, now: float) -> str:
    """Return how long ago a moment was (see `to_seconds`), or nothing for no moment."""
    seconds = to_seconds(moment)
    return f"{human_duration(max(0.0, now - seconds))} ago" if seconds is not None else ""


def to_seconds(moment: Any) -> float | None:
    """Return Unix seconds for a number or an RFC 3339 text; None for nothing or nonsense."""
    if isinstance(moment, (int, float)):
        return float(moment) if moment else None
    if not isinstance(moment, str):
        return None
    return parse_time(moment) or None


def go_time(moment: Any) -> str:
    """Return a moment as Go prints it, in UTC: 2026-01-31 12:00:00 +0000 UTC."""
    seconds = to_seconds(moment)
    if seconds is None:
        return ""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))


def render_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table laid out as Go's tabwriter does it for Podman.

    Columns are padded by two spaces to at least twelve; the last is not padded. No headings: none.
    """
    lines = [list(headings)] if headings else []
    lines += [[clean(cell) for cell in row] for row in rows]
    if not lines:
        return []
    count = max(len(line) for line in lines)
    widths = [
        max(_NARROWEST, _PADDING + max(len(line[i]) for line in lines if i < len(line)))
        for i in range(count - 1)
    ]
    texts = []
    for line in lines:
        padded = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)]
        texts.append(("".join(padded[: len(line) - 1]) + line[-1]).rstrip())
    return texts


def show_rows(
    rows: Sequence[Row],
    columns: Sequence[tuple[str, str]],
    *,
    format: str = "",
    raw: Sequence[Row] | None = None,
    heading: bool = True,
) -> None:
    """Print rows as ``--format`` asks: a table (``columns``: heading and key), JSON, a template.

    ``raw`` are the rows for JSON when they differ from those shown.
    """
    format = normalise(format)
    if format == "json":
        show_json(list(rows if raw is None else raw))
    elif format in ("", "table"):
        headings = [name for name, _ in columns] if heading else []
        cells = [[_text(row.get(key)) for _, key in columns] for row in rows]
        write_lines(render_table(headings, cells))
    elif format.startswith("table "):
        from strata.cli.template import Template

        template = Template(format[6:])
        names = {key: name for name, key in columns}
        lines = [template.render_heading(names)] if heading else []
        lines += [template.render(row) for row in rows]
        write_lines(render_table((), [line.split("\t") for line in lines]))
    else:
        from strata.cli.template import Template

        template = Template(format)
        write_lines([template.render(row) for row in rows])


def show_objects(objects: Sequence[Any], format: str | None) -> None:
    """Print what ``inspect`` found: a JSON array, or a template for each."""
    format = normalise(format or "")
    if format in ("", "json"):
        show_json(list(objects))
        return
    from strata.cli.template import Template

    template = Template(format)
    write_lines([template.render(found) for found in objects])


def show_json(value: Any) -> None:
    """Print JSON, indented as Podman does it."""
    import json

    sys.stdout.write(json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def normalise(format: str) -> str:
    r"""Return a format with ``\t`` and ``\n`` turned into what they mean; check ``json``."""
    stripped = format.strip()
    if stripped in ("json", "table", ""):
        return stripped
    if "{{" not in format:
        raise UsageError(
            f'unknown format "{format}"',
            hint="use json, table, or a Go template such as '{{.ID}}'",
        )
    return format.replace("\\t", "\t").replace("\\n", "\n")


def write_lines(lines: Sequence[str]) -> None:
    """Write lines to standard output."""
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")


def join_pairs(pairs: dict[str, str] | None) -> str:
    """Return labels as Podman shows them in a table: ``a=1,b=2``."""
    return ",".join(f"{key}={value}" for key, value in (pairs or {}).items())


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)
