"""Following a log while it is written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helpers.containers import Box, box

from strata.linux.process import open_pidfd
from strata.runtime.logs import read_logs

_ = box


def record(number: int) -> bytes:
    return b"2026-11-21T20:00:00.000000000+00:00 stdout F %d\n" % number


def test_a_follower_sees_every_line_across_rotations(tmp_path: Path) -> None:
    log = tmp_path / "log"
    read, write = os.pipe()

    def produce() -> None:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in range(3000):
            line = record(number)
            # Torn on purpose: a reader may see half a record.
            os.write(fd, line[:20])
            os.write(fd, line[20:])
            if number % 700 == 699:
                os.close(fd)
                fd = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.rename(tmp_path / "new", log)
        os.close(fd)
        os.close(write)

    thread = threading.Thread(target=produce)
    seen = []
    follower = read_logs(str(log), follow=True, end=read)
    thread.start()
    for entry in follower:
        seen.append(int(entry.text))
    thread.join()
    os.close(read)
    # A rotation that happens entirely between two looks takes its file away unread; what is
    # seen is in order, without repetition, and complete from the last rotation on.
    assert seen == sorted(set(seen))
    assert seen[-1] == 2999
    assert set(range(2800, 3000)) <= set(seen)


@pytest.mark.root
def test_following_a_container_ends_with_it_and_has_all(box: Box) -> None:
    container = box.create(
        ["sh", "-c", "for n in $(seq 2000); do echo $n; done; sleep 0.1; echo last >&2"]
    )
    from strata.runtime import launch

    end = open_pidfd(container.launched.conmon_pid)
    launch.start(container.launched)
    entries = list(read_logs(container.log, follow=True, end=end))
    os.close(end)
    text = b"".join(entry.text for entry in entries if entry.stream == "stdout")
    assert text == b"".join(b"%d\n" % number for number in range(1, 2001))
    assert entries[-1].text == b"last\n"


@pytest.mark.root
def test_until_ends_following(box: Box) -> None:
    import time

    container = box.start(["sleep", "1000"])
    assert list(read_logs(container.log, follow=True, until=time.time_ns() + 10**7)) == []
