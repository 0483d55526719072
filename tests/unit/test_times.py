"""Times and durations as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import UsageError
from strata.times import format_time, parse_duration, parse_moment, parse_ns, parse_time


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_moments_are_read_to_the_nanosecond(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    aware = moment.replace(tzinfo=zone)
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_ns(aware.isoformat()) == expected
    assert parse_time(aware.isoformat()) == pytest.approx(aware.timestamp(), abs=1e-5)


@pytest.mark.parametrize("text", ["", "yesterday", "20xx-01-01T", "0001-01-01T00:00:00Z"])
def test_no_moment_is_nothing(text: str) -> None:
    assert parse_ns(text) == 0
    assert parse_time(text) == 0.0


@given(st.integers(0, 7_000_000_000))
def test_moments_are_written_as_they_are_read(seconds: int) -> None:
    assert parse_time(format_time(float(seconds))) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        ("10s", 10.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2m1.5s", 121.5),
        ("5us", 5e-6),
        ("0", 0.0),
        ("7d", 604800.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10x", "1h2", "-5s", "1..5s", "h1", ".s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", 1700000000.0),
        ("1700000000.5", 1700000000.5),
        ("10m", 2000000000.0 - 600),
        ("-10m", 2000000000.0 - 600),
        ("2023-11-14T22:13:20Z", 1700000000.0),
        ("2023-11-14T23:13:20+01:00", 1700000000.0),
        ("2023-11-14T22:13:20.123456789Z", 1700000000.123456),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert parse_moment(text, 2e9) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "12:00"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="failed to parse"):
        parse_moment(text, 2e9)
