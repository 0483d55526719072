"""Signals: their numbers, and handlers, without the enumerations of the ``signal`` module.

That module only wraps the interpreter's built-in one, and loads ``enum`` for it, which costs more
than listing containers. Numbers are signal(7)'s on x86 and ARM.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], Any] | int | None

NUMBERS = {
    name: number
    for number, name in enumerate(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT "
        "STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(),
        start=1,
    )
}
_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": 34, "RTMAX": 64}

DEFAULT = 0
IGNORE = 1
SIGHUP = 1
SIGINT = 2
SIGQUIT = 3
SIGWINCH = 28


def set_handler(number: int, handler: Handler) -> Handler:
    """Set what a signal does in this process (main thread only); returns what it did before.

    None, which stands for a handler that Python did not set, is put back as `DEFAULT`.
    """
    before: Handler = _signal.signal(number, DEFAULT if handler is None else handler)
    return before


def hold(numbers: Iterable[int]) -> set[int]:
    """Keep signals from this thread until `let`; returns what it did not get before.

    A copy of this process is kept from them as well.
    """
    before: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)
    return before


def let(before: set[int]) -> None:
    """Undo `hold`; what came meanwhile is delivered now."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def set_wakeup(fd: int) -> int:
    """Write the number of every caught signal to a non-blocking descriptor (-1: to none).

    Returns the descriptor that was set before.
    """
    before: int = _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return before


def parse_signal(text: str) -> int:
    """A signal's number from its name (``TERM``, ``SIGTERM``, ``RTMIN+3``) or its number.

    `UsageError` for what no signal is called.
    """
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        number = int(name)
    else:
        base, sign, offset = name, "", ""
        for mark in "+-":
            if mark in name:
                base, sign, offset = name.partition(mark)
        number = NUMBERS.get(base) or _ALIASES.get(base) or 0
        if sign and number:
            valid = offset.isascii() and offset.isdigit() and base in ("RTMIN", "RTMAX")
            number = number + int(sign + offset) if valid else 0
            number = number if number >= _ALIASES["RTMIN"] else 0
    if not 1 <= number <= 64:
        raise UsageError(f"invalid signal: {text}", hint="name it as in TERM, SIGTERM or 15")
    return number
