"""Bars for people: drawn on a terminal, absent elsewhere."""

from __future__ import annotations

import os
import sys

import pytest

from strata.cli.progress import make_progress

BLOB = "sha256:0123456789abcdef"


def _read_all(fd: int) -> bytes:
    """What was shown on a terminal nobody writes to any more; EIO is its end."""
    data = b""
    with open(fd, "rb", buffering=0) as file:
        while True:
            try:
                data += file.read(1 << 16)
            except OSError:
                return data


def test_bars_are_drawn_on_a_terminal_until_the_last_blob_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user, terminal = os.openpty()
    with open(terminal, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        report = make_progress()
        assert report is not None
        report(BLOB, 0, 10)
        report(BLOB, 10, 10)
    shown = _read_all(user).decode()
    assert "Copying blob 0123456789ab" in shown
    # The cursor is back: the terminal belongs to whatever comes next.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_nothing_is_drawn_in_a_pipe_or_when_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user, terminal = os.openpty()
    with open(user), open(terminal, "w", encoding="utf-8") as screen, open(os.devnull, "w") as sink:
        monkeypatch.setattr(sys, "stderr", screen)
        assert make_progress(quiet=True) is None
        monkeypatch.setattr(sys, "stderr", sink)
        assert make_progress() is None
