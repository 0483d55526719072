"""Drawing a history the way ``git log --graph`` does: one lane per branch, the newest on top."""

from __future__ import annotations

import time

from strata.cli.format import ago, human_size
from strata.cli.messages import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Row = dict[str, Any]

#: tip, snapshot, lane, what joins: first lane, between, last
_FINE = ("*", "●", "│", "├", "─", "╯")
_PLAIN = ("*", "o", "|", "|", "-", "'")
_YELLOW, _GREEN, _CYAN, _DIM, _OFF = "\033[33m", "\033[32m", "\033[36m", "\033[2m", "\033[0m"


def knows_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the user's locale shows UTF-8; the C locale, which is that of none, does not."""
    chosen = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    return "utf8" in next(filter(None, chosen), "C").lower().replace("-", "")


def draw(found: Row, *, colour: bool = False, plain: bool = False, now: float = 0.0) -> list[str]:
    """The lines of a history (see `strata.engine.history.graph.read`)."""
    tip, dot, bar, tee, dash, corner = _PLAIN if plain else _FINE
    now = now or time.time()
    lines = [_head_line(found)]
    lanes: list[str | None] = []
    left: dict[str, int] = {}
    starts: dict[str, str] = {}
    ended: set[int] = set()
    for row in found["Rows"]:
        left[row["Branch"]] = left.get(row["Branch"], 0) + 1
        starts[row["Branch"]] = row["Parent"]  # the oldest row of a branch comes last
    for row in found["Rows"]:
        if row["Kind"] == "snapshot":
            for branch in [lane for lane in lanes if lane is not None and lane != row["Branch"]]:
                if not left[branch] and starts[branch] == row["Name"]:
                    if row["Branch"] not in lanes:
                        lanes[lanes.index(branch)] = row["Branch"]
                        continue
                    lines.append(_join(lanes, row["Branch"], branch, bar, tee, dash, corner))
                    low, high = sorted((lanes.index(branch), lanes.index(row["Branch"])))
                    lanes[low], lanes[high] = row["Branch"], None
        if row["Branch"] not in lanes:
            free = lanes.index(None) if None in lanes else len(lanes)
            if free in ended:
                # What begins here does not come from what ended above it.
                lines.append(" ".join(bar if lane else " " for lane in lanes).rstrip())
            lanes[free : free + 1] = [row["Branch"]]
        ended.clear()
        cells = []
        for lane in lanes:
            mark = tip if row["Kind"] != "snapshot" else dot
            cells.append(mark if lane == row["Branch"] else (bar if lane else " "))
        lines.append(f"{' '.join(cells).rstrip()} {_describe(row, found, now, colour)}")
        left[row["Branch"]] -= 1
        if not left[row["Branch"]] and not starts[row["Branch"]]:
            ended.add(lanes.index(row["Branch"]))
            lanes[lanes.index(row["Branch"])] = None
        while lanes and lanes[-1] is None:
            lanes.pop()
    return lines


def _join(
    lanes: list[str | None], target: str, source: str, bar: str, tee: str, dash: str, corner: str
) -> str:  # fmt: skip
    """The line on which one lane ends in another."""
    low, high = sorted((lanes.index(target), lanes.index(source)))
    text = ""
    for number, lane in enumerate(lanes):
        inside = low < number <= high
        text += dash if inside else (" " if number else "")
        if number == low:
            text += tee
        elif number == high:
            text += corner
        else:
            text += dash if inside else (bar if lane else " ")
    return text.rstrip()


def _head_line(found: Row) -> str:
    text = f"{found['Kind']} {found['Target']}, on {found['Head']}"
    if found["Cloned"]:
        text += f", cloned from {found['Cloned']['name']}@{found['Cloned']['snapshot']}"
    if found["Users"]:
        text += f", used by {', '.join(found['Users'])}"
    return clean(text)


def _describe(row: Row, found: Row, now: float, colour: bool) -> str:
    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_OFF}" if colour else text

    name = clean(row["Name"])
    if row["Kind"] == "head":
        return paint(f"{name} (head)", _GREEN)
    if row["Kind"] == "branch":
        since = f"  left {ago(row['Created'], now)}" if row["Created"] else ""
        return f"{paint(name, _CYAN)}{paint(since, _DIM)}"
    details = [ago(row["Created"], now)]
    if row.get("Used") is not None:
        details.append(human_size(row["Used"]))
    if row["Foreign"]:
        details.append("foreign")
    text = f"{paint(name, _YELLOW)}  {paint(', '.join(details), _DIM)}"
    if row["Clones"]:
        shown = ", ".join(row["Clones"][:5])
        more = f" and {len(row['Clones']) - 5} more" if len(row["Clones"]) > 5 else ""
        text += f"  -> {clean(shown)}{more}"
    return text
