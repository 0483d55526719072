"""Unit tests cannot run programs: an audit hook refuses while one of them is running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from strata.linux import cgroup

_FORBIDDEN = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn",
    "subprocess.Popen",
}  # fmt: skip

_guarded = False


def _refuse_programs(event: str, _: tuple[Any, ...]) -> None:
    if _guarded and event in _FORBIDDEN:
        raise RuntimeError(f"a unit test tried to run a program ({event}); plan it, or test it "
                           "in the contract or system lane")  # fmt: skip


# An audit hook cannot be removed, so the switch is a variable; other lanes stay untouched.
sys.addaudithook(_refuse_programs)


@pytest.fixture(autouse=True)
def forbid_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guard every test of this lane. Warming up the kernel for a start is left out."""
    global _guarded
    monkeypatch.setattr(cgroup, "warm_up", lambda: None)
    _guarded = True
    try:
        yield
    finally:
        _guarded = False
