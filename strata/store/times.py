"""Times as records and documents carry them: RFC 3339, UTC, nanosecond digits."""

from __future__ import annotations

import calendar
import time


def format_time(seconds: float) -> str:
    """``2026-01-31T12:00:00.123456789Z`` for seconds since the epoch."""
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{nanoseconds:09d}Z"


def parse_time(text: str) -> float:
    """Seconds since the epoch of what `format_time` wrote, or of any RFC 3339 UTC time; 0.0 when
    it is none."""
    try:
        base = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        fraction = text[19:].rstrip("Zz").partition("+")[0]
        return base + (float(fraction) if fraction.startswith(".") else 0.0)
    except ValueError:
        return 0.0


def now() -> float:
    """Seconds since the epoch on the wall clock."""
    return time.time()
