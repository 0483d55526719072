"""A reserve of space that only verbs which give space back may use.

A file of a few megabytes beside the records. On a full pool, writing down that something is
stopped or removed needs space; then the reserve is given up, once, and collection makes it anew
when there is room again. Bytes are random, so that a file system that compresses keeps them.
"""

from __future__ import annotations

import os
from _thread import _local

SIZE = 4 << 20
NAME = "reserve"
#: the pool needs this many times `SIZE` free before a new reserve is made
_ROOM = 8

#: ``path``: the reserve that a thread may use. The thread-local of the ``threading`` package.
_allowed = _local()


def allow(folder: str) -> None:
    """From here on in this thread, a write that finds the pool full may use the reserve."""
    _allowed.path = f"{folder}/{NAME}"


def give_up() -> bool:
    """Free the reserve where that is allowed; whether there was one."""
    path = getattr(_allowed, "path", "")
    if not path:
        return False
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def ensure(folder: str, free: int) -> None:
    """Make the reserve if it is missing and ``free`` bytes leave room for it. Idempotent."""
    path = f"{folder}/{NAME}"
    if free < _ROOM * SIZE or os.path.exists(path):
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                     0o600)  # fmt: skip
    except FileExistsError:
        return
    try:
        for _ in range(SIZE >> 20):
            os.write(fd, os.urandom(1 << 20))
    except OSError:
        os.unlink(path)
    finally:
        os.close(fd)
