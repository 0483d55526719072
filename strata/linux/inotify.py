"""Waiting for changes of files: inotify(7)."""

from __future__ import annotations

import os
import struct

from strata.linux.syscall import call

IN_MODIFY = 0x002
IN_CLOSE_WRITE = 0x008
IN_MOVED_TO = 0x080
IN_CREATE = 0x100

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_HEADER = struct.Struct("iIII")


class Watcher:
    """An inotify descriptor; readable when something watched has changed."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = call("inotify_init1", _NONBLOCK_CLOEXEC, what="inotify")

    def add(self, path: str, mask: int) -> None:
        """Watch a path; watching it again changes nothing. OSError."""
        call("inotify_add_watch", self._fd, os.fsencode(path), mask, what=path)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> int:
        """Take all events that are there; how many."""
        count = 0
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return count
            offset = 0
            while offset < len(data):
                offset += _HEADER.size + _HEADER.unpack_from(data, offset)[3]
                count += 1

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
