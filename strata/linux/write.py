"""write(2) until everything is written."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything, also to a descriptor somebody made non-blocking. OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            import select

            waiter = select.poll()
            waiter.register(fd, select.POLLOUT)
            waiter.poll()
