"""Times and durations as texts.

Records and documents carry RFC 3339: UTC, nanosecond digits. It is read and written by hand,
because ``calendar`` and ``strptime`` cost more to import than listing containers takes. People give
Go durations or moments; what depends on the clock takes the present as an argument.
"""

from __future__ import annotations

import time

from strata.errors import UsageError

_DAYS_TO_EPOCH = 719468
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0,
          "h": 3600.0, "d": 86400.0}  # fmt: skip


def format_time(seconds: float) -> str:
    """``2026-01-31T12:00:00.123456789Z`` for seconds since the epoch."""
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{nanoseconds:09d}Z"


def parse_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time (any offset; without one it is UTC).

    0 when the text is none, and for year 1, by which Go says "never".
    """
    try:
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        clock = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        zone, fraction = text[19:], ""
        if zone.startswith("."):
            zone = zone[1:].lstrip("0123456789")
            fraction = text[20 : len(text) - len(zone)]
        offset = 0
        if zone not in ("Z", "z", ""):
            offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * (-60 if zone[0] == "-" else 60)
    except (ValueError, IndexError):
        return 0
    if year <= 1:
        return 0
    seconds = _count_days(year, month, day) * 86400 + clock - offset
    return seconds * 10**9 + int(fraction.ljust(9, "0")[:9])


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0.0 where `parse_ns` gives 0."""
    return parse_ns(text) / 10**9  # of two integers, so rounded once


def _count_days(year: int, month: int, day: int) -> int:
    """Days since the epoch in the Gregorian calendar; March is the first month of the count."""
    if month <= 2:
        year -= 1
    shifted = (month + 9) % 12
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * shifted + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _DAYS_TO_EPOCH


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (``1h30m``, ``250ms``; also ``7d``) or a number. `UsageError`."""
    if text and text.isascii() and text.isdigit():
        return float(int(text))
    rest, total, seen = text, 0.0, False
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµμmshd"))]
        while unit and unit not in _UNITS:
            unit = unit[:-1]
        if number.count(".") > 1 or not number.strip(".") or not unit:
            seen = False
            break
        total += float(number) * _UNITS[unit]
        rest = rest[len(unit) :]
        seen = True
    if not seen:
        raise UsageError(
            f'invalid duration "{text}"', hint="durations look like 10s, 250ms or 1h30m"
        )
    return total


def parse_moment(text: str, now: float) -> float:
    """Seconds since the epoch of an RFC 3339 time (without an offset: local), of such seconds
    themselves, or of a duration before ``now``. `UsageError`."""
    stripped = text.strip()
    if stripped.replace(".", "", 1).isdigit() and stripped.isascii():
        return float(stripped)
    try:
        return now - parse_duration(stripped.removeprefix("-"))
    except UsageError:
        pass
    from datetime import datetime

    try:
        return datetime.fromisoformat(stripped).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f'failed to parse "{text}" as a time',
            hint="give 2026-01-31T12:00:00Z, Unix seconds, or a duration such as 10m",
        ) from None
