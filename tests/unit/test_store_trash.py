"""The trash's own clock: it goes on by the time the machine was up."""

from __future__ import annotations

from strata.store.trash import DAY, advance


def _clock(time: float, wall: float, boot: str = "a", uptime: float = 100.0) -> dict[str, object]:
    return {"schema": 1, "time": time, "wall": wall, "boot": boot, "uptime": uptime}


def test_it_starts_as_the_wall_clock() -> None:
    assert advance(None, 5000.0, "a", 10.0)["time"] == 5000.0


def test_a_wall_clock_that_jumps_does_not_matter_while_the_machine_is_up() -> None:
    old = _clock(1000.0, 1000.0)
    assert advance(old, 9e9, "a", 160.0)["time"] == 1060.0
    assert advance(old, 3.0, "a", 160.0)["time"] == 1060.0


def test_a_machine_that_was_off_counts_for_a_day_at_most_and_never_back() -> None:
    old = _clock(1000.0, 1000.0)
    assert advance(old, 1500.0, "b", 5.0)["time"] == 1500.0
    assert advance(old, 1000.0 + 400 * DAY, "b", 5.0)["time"] == 1000.0 + DAY
    assert advance(old, 3.0, "b", 5.0)["time"] == 1000.0
