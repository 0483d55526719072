"""Times as records and documents carry them: RFC 3339, UTC, nanosecond digits.

By hand, because ``calendar`` and ``strptime`` cost more to import than listing containers takes.
"""

from __future__ import annotations

import time

_DAYS_TO_EPOCH = 719468


def format_time(seconds: float) -> str:
    """``2026-01-31T12:00:00.123456789Z`` for seconds since the epoch."""
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{nanoseconds:09d}Z"


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0.0 when the text is none."""
    try:
        days = _count_days(int(text[0:4]), int(text[5:7]), int(text[8:10]))
        clock = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        rest = text[19:]
        digits = rest[1:] if rest.startswith(".") else ""
        zone = digits.lstrip("0123456789") if digits else rest
        fraction = digits[: len(digits) - len(zone)] if digits else ""
        offset = 0
        if zone[:1] in ("+", "-"):
            offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
            offset = -offset if zone[0] == "-" else offset
        return days * 86400 + clock - offset + (float(f"0.{fraction}") if fraction else 0.0)
    except (ValueError, IndexError):
        return 0.0


def _count_days(year: int, month: int, day: int) -> int:
    """Days since the epoch in the Gregorian calendar; March is the first month of the count."""
    if month <= 2:
        year -= 1
    shifted = (month + 9) % 12
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * shifted + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _DAYS_TO_EPOCH


def now() -> float:
    """Seconds since the epoch on the wall clock."""
    return time.time()
