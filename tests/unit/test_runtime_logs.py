"""Reading k8s-file logs that are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata.runtime import logs
from strata.times import parse_ns


def record(text: str, *, tag: str = "F", stream: str = "stdout", second: int = 0) -> bytes:
    return f"2026-11-21T20:00:{second:02d}.000000000+00:00 {stream} {tag} {text}\n".encode()


def test_records_are_parsed() -> None:
    entry = logs.parse_line(record("hello  world ", stream="stderr")[:-1])
    assert entry is not None
    assert (entry.stream, entry.text, entry.partial) == ("stderr", b"hello  world \n", False)
    part = logs.parse_line(record("hal", tag="P")[:-1])
    assert part is not None
    assert (part.text, part.partial) == (b"hal", True)
    empty = logs.parse_line(record("")[:-2])
    assert empty is not None
    assert empty.text == b"\n"
    for nonsense in (b"", b"x", b"a b c d", b"2026 stdin F x"):
        assert logs.parse_line(nonsense) is None


def read(path: Path, **options: int | None) -> list[str]:
    return [entry.text.decode() for entry in logs.read_logs(str(path), **options)]  # type: ignore[arg-type]


def test_tail_counts_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(record("one") + record("tw", tag="P") + record("o") + record("three"))
    assert read(log, tail=1) == ["three\n"]
    assert read(log, tail=2) == ["tw", "o\n", "three\n"]
    assert read(log, tail=0) == []
    assert read(log, tail=9) == read(log) == ["one\n", "tw", "o\n", "three\n"]
    log.write_bytes(record("one") + record("unfini", tag="P"))
    assert read(log, tail=1) == ["unfini"]
    assert read(log, tail=2) == ["one\n", "unfini"]


@pytest.mark.parametrize("width", [10, 70, 5000])
@pytest.mark.parametrize("tail", [1, 2, 500, 1999])
def test_tail_of_a_long_log_reads_across_blocks(tmp_path: Path, width: int, tail: int) -> None:
    log = tmp_path / "log"
    lines = [f"{number:06d}".ljust(width, "x") for number in range(2000)]
    log.write_bytes(b"".join(record(line) for line in lines))
    assert read(log, tail=tail) == [f"{line}\n" for line in lines[-tail:]]


def test_since_and_until_bound_the_times(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(record(str(second), second=second) for second in range(10)))
    start = parse_ns("2026-11-21T20:00:03Z")
    stop = parse_ns("2026-11-21T20:00:05Z")
    assert read(log, since=start, until=stop) == ["3\n", "4\n", "5\n"]
    assert read(log, since=start, tail=2) == ["8\n", "9\n"]


def test_older_parts_come_first(tmp_path: Path) -> None:
    (tmp_path / "log.2").write_bytes(record("a"))
    (tmp_path / "log.1").write_bytes(record("b") + record("c"))
    (tmp_path / "log").write_bytes(record("d"))
    assert read(tmp_path / "log") == ["a\n", "b\n", "c\n", "d\n"]
    assert read(tmp_path / "log", tail=2) == ["c\n", "d\n"]
    assert read(tmp_path / "log", tail=4) == ["a\n", "b\n", "c\n", "d\n"]


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []
    assert read(tmp_path / "none", tail=5) == []
