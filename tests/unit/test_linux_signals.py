"""Signals by name and number."""

from __future__ import annotations

import pytest

from strata.errors import UsageError
from strata.linux.signals import NUMBERS, parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("term", 15),
        ("sigUSR1", 10),
        ("9", 9),
        ("64", 64),
        ("RTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMAX-1", 63),
        ("RTMAX", 64),
        ("POLL", 29),
        ("SYS", 31),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+99", "RTMAX+1", "KILL+1", "RTMIN-1", "RTMIN+"],
)
def test_other_signals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid signal"):
        parse_signal(text)


def test_signal_numbers_are_the_kernels() -> None:
    import signal

    for name, number in NUMBERS.items():
        if name != "STKFLT" or hasattr(signal, "SIGSTKFLT"):
            assert getattr(signal, f"SIG{name}") == number
