"""Kernel locks on files: open file description locks, fcntl_locking(2).

A held lock belongs to the open file, so it lives until the last descriptor of it is closed, also
in programs that inherited the descriptor. That is wanted: when an owner is killed while a
``zfs`` it started still works, the lock stays until that ``zfs`` ends. Unlocking is closing.
Waiting is polling with a deadline, because a blocking wait could not be given one without signals.
"""

from __future__ import annotations

import fcntl
import os
import time
from _struct import Struct

from strata import command
from strata.errors import Busy

_F_OFD_SETLK = 37
_FLOCK = Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid on 64-bit Linux

_POLL_FIRST = 0.001
_POLL_LAST = 0.05


class Lock:
    """A held lock; ``release`` or leaving the ``with`` block closes it."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def share(self) -> None:
        """Let others in who share it; in one step, so that nobody comes in between alone."""
        fcntl.fcntl(self._fd, _F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, 0, 0, 0, 0))

    def release(self) -> None:
        """Give the lock up. Idempotent."""
        if self._fd >= 0:
            command.inherited.discard(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(path: str, *, shared: bool = False) -> Lock | None:
    """Take the lock on ``path`` (made when absent) if it is free now, else None."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(fd, _F_OFD_SETLK, _FLOCK.pack(kind, 0, 0, 0, 0))
        except (BlockingIOError, PermissionError):
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        # The file may have been removed or replaced between open and lock; then it is not ours.
        try:
            there, ours = os.stat(path), os.fstat(fd)
        except FileNotFoundError:
            os.close(fd)
            continue
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            os.close(fd)
            continue
        command.inherited.add(fd)
        return Lock(path, fd)


def lock(path: str, *, shared: bool = False, timeout: float = 60.0, what: str = "") -> Lock:
    """Take the lock on ``path``; raise `Busy` after ``timeout`` seconds.

    ``what`` names the object for the message.
    """
    deadline = time.monotonic() + timeout
    pause = _POLL_FIRST
    while True:
        held = try_lock(path, shared=shared)
        if held is not None:
            return held
        if time.monotonic() >= deadline:
            raise Busy(
                f"{what or path} is being changed by another command",
                hint="wait for it to end; `strata system check` shows running operations",
            )
        time.sleep(pause)
        pause = min(pause * 2, _POLL_LAST)
