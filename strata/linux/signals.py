"""Signal handlers, without the enumerations of the ``signal`` module.

That module only wraps the interpreter's built-in one, and loads ``enum`` for it, which costs more
than listing containers. Numbers are signal(7)'s on x86 and ARM.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], Any] | int | None

DEFAULT = 0
IGNORE = 1
SIGINT = 2
SIGQUIT = 3
SIGWINCH = 28


def set_handler(number: int, handler: Handler) -> Handler:
    """Set what a signal does in this process (main thread only); returns what it did before.

    None, which stands for a handler that Python did not set, is put back as `DEFAULT`.
    """
    before: Handler = _signal.signal(number, DEFAULT if handler is None else handler)
    return before


def set_wakeup(fd: int) -> int:
    """Write the number of every caught signal to a non-blocking descriptor (-1: to none).

    Returns the descriptor that was set before.
    """
    before: int = _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return before
