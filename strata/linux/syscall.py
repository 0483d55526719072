"""System calls by number, through the C library, errors as `OSError`.

Only what the standard library of Python 3.11 lacks. Numbers differ between architectures below
424; from there on they are the same everywhere.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

OPEN_TREE = 428
MOVE_MOUNT = 429
OPENAT2 = 437
MOUNT_SETATTR = 442
PIDFD_SEND_SIGNAL = 424
PIDFD_OPEN = 434
PIDFD_GETFD = 438


def check(result: int, what: str = "") -> int:
    """Return ``result``, or raise the `OSError` of errno when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what or None)
    return result


def syscall(number: int, *args: int | bytes | object, what: str = "") -> int:
    """Call the kernel. Integers are passed as 64-bit values; bytes as a pointer to a C string."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return check(_libc.syscall(ctypes.c_long(number), *converted), what)


def libc() -> ctypes.CDLL:
    """The C library with errno kept; callers wrap results in `check`."""
    return _libc
