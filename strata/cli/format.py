"""How answers look: tables with Podman's headings, JSON, Go templates, human sizes and times.

A row is a dictionary as the engine returns it; ``--format json`` prints these. For tables and
templates the caller adds the human forms under Podman's field names.
"""

from __future__ import annotations

import sys

from strata.cli.messages import clean, to_unicode
from strata.errors import UsageError
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Row = dict[str, Any]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE, _HOUR = 60, 3600
#: the format that prints each row, or object, as JSON on a line of its own
JSON_LINES = "{{json .}}"
_PADDING, _NARROWEST = 2, 12


def human_size(size: float) -> str:
    """Return bytes with three digits and decimal units, as Podman shows image sizes: 170 MB."""
    value, unit = float(size), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.3g} {_UNITS[unit]}"


def short_size(size: float, digits: int = 3) -> str:
    """Return bytes as `human_size` does, without a blank: 1.98MB in ``ps``, 2.018MB in ``df``."""
    value, unit = float(size), 0
    while abs(value) >= 1000 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.{digits}g}{_UNITS[unit]}"


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
    fraction = ""
    if isinstance(moment, str) and moment[19:20] == ".":
        digits = moment[20 : len(moment) - len(moment[20:].lstrip("0123456789"))].rstrip("0")
        fraction = f".{digits}" if digits else ""
    import time

    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(seconds)))
    return f"{text}{fraction} +0000 UTC"


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
    raw: Sequence[Any] | None = None,
    heading: bool = True,
    name: str = "format",
) -> None:
    """Print rows as ``--format`` asks: a table (``columns``: heading and key), JSON, a template.

    ``raw`` are the rows for JSON when they differ from those shown; a row may also carry its own
    as ``_raw``. ``columns`` may name more headings than the table has columns: those whose key
    starts with ``*`` are only for ``table`` formats. ``name`` is what errors call the template.
    """
    format = normalise(format)
    if format == "json":
        show_json(list(rows if raw is None else raw))
    elif format == JSON_LINES:
        show_json_lines(rows if raw is None else raw)
    elif format in ("", "table"):
        shown = [column for column in columns if column[1][0] != "*"]
        headings = [text for text, _ in shown] if heading else []
        cells = [[_text(row.get(key)) for _, key in shown] for row in rows]
        write_lines(render_table(headings, cells))
    else:
        names = {key.lstrip("*"): text for text, key in columns}
        _show_templated(rows, names, format, heading=heading, name=name)


def _show_templated(
    rows: Sequence[Row], names: dict[str, str], format: str, *, heading: bool, name: str
) -> None:
    from strata.cli.template import Template
    from strata.cli.template_values import Struct, wrap

    table = format.startswith("table ")
    template = Template(lay_out(format[6:] if table else format, table=table), name)
    wrapped = [
        Struct(
            {key: wrap(item, key) for key, item in row.items() if key[0] != "_"}, row.get("_raw")
        )
        for row in rows
    ]
    if _ranges(format):
        sys.stdout.write(template.render(wrapped))
        return
    if not table:
        for row in wrapped:
            sys.stdout.write(template.render(row))
        return
    text = template.render_heading(names) if heading else ""
    text += "".join(template.render(row) for row in wrapped)
    write_lines(render_table((), [line.split("\t") for line in text.split("\n")[:-1]]))


def show_objects(objects: Sequence[Any], format: str | None) -> None:
    """Print what ``inspect`` found: a JSON array, or a template for each."""
    format = normalise(format or "")
    if format in ("", "json"):
        show_json(list(objects))
        return
    if format == JSON_LINES:
        show_json_lines(objects)
        return
    from strata.cli.template import Template
    from strata.cli.template_values import wrap

    template = Template(lay_out(format, table=False), "inspect")
    if _ranges(format):
        sys.stdout.write(template.render(wrap(list(objects))))
        return
    for found in objects:
        sys.stdout.write(template.render(found))


def show_json(value: Any) -> None:
    """Print JSON, indented as Podman does it."""
    import json

    sys.stdout.write(to_unicode(json.dumps(value, indent=4, ensure_ascii=False)) + "\n")


def show_json_lines(values: Sequence[Any]) -> None:
    """Print each value as JSON on one line, without blanks, as Go's templates do it."""
    write_lines([to_json_line(value) for value in values])


def to_json_line(value: Any) -> str:
    """A value as JSON on one line."""
    import json

    return to_unicode(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def normalise(format: str) -> str:
    """Return a format without blanks around it; ``{{json .}}`` in any spelling as `JSON_LINES`.

    Raises `UsageError` for a word that is no format.
    """
    stripped = format.strip()
    if stripped in ("json", "table", ""):
        return stripped
    if "".join(format.split()) in ("{{json}}", "{{json.}}"):
        return JSON_LINES
    if "{{" not in format:
        raise UsageError(
            f'unknown format "{format}"',
            hint="use json, table, or a Go template such as '{{.ID}}'",
        )
    return format.lstrip()


def lay_out(format: str, *, table: bool) -> str:
    r"""Return a format with ``\t`` and ``\n`` turned into what they mean, and a last line's end.

    In tables blanks divide columns too. What is inside of actions stays as it is; as with Podman,
    a format with ``"\\n"`` in one ends its lines itself.
    """
    pieces, position, ends = [], 0, False
    while position < len(format):
        start = format.find("{{", position)
        text = format[position:] if start < 0 else format[position:start]
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        pieces.append(text.replace(" ", "\t") if table else text)
        if start < 0:
            break
        end = format.find("}}", start)
        position = len(format) if end < 0 else end + 2
        action = format[start:position]
        ends = ends or ('"' in action and "\\n" in action)
        pieces.append(action)
    text = "".join(pieces)
    return text if ends or text.endswith("\n") else f"{text}\n"


def _ranges(format: str) -> bool:
    """Whether a format runs through the rows itself: ``{{range .}}…``."""
    return "".join(format.partition("}}")[0].split()).strip("{-") == "range."


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
