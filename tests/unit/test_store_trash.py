"""The trash: its own clock, which goes on by the time the machine was up, and what is due."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from strata.store import files
from strata.store.trash import DAY, Trash, advance, make_entry


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


def test_what_is_not_due_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline can be told by a file's time; where that is wrong, the entry is read."""
    trash = Trash(str(tmp_path))
    for number, due in enumerate((0.0, 900.0, 5000.0, 6000.0)):
        record = {"id": f"{number:x}" * 64, "name": "x"}
        entry = make_entry("volume", record, [], verb="rm", keep=False, now=0, origin={})
        trash.save({**entry, "due": due})
    read: list[str] = []
    usual = files.read_json

    def read_json(path: str) -> dict[str, Any]:
        read.append(os.path.basename(path)[0])
        return usual(path)

    monkeypatch.setattr(files, "read_json", read_json)
    assert sorted(entry["due"] for entry in trash.list_due(1000.0)) == [0.0, 900.0]
    assert sorted(read) == ["0", "1"]
    os.utime(trash.path("2" * 64), (1.0, 1.0))
    read.clear()
    assert sorted(entry["due"] for entry in trash.list_due(1000.0)) == [0.0, 900.0]
    assert sorted(read) == ["0", "1", "2"]
    assert sorted(entry["due"] for entry in trash.list_due(5000.0)) == [0.0, 900.0, 5000.0]
