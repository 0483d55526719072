"""System calls and functions of the C library, errors as `OSError`.

Only what the standard library of Python 3.11 lacks. Numbers differ between architectures below
424; from there on they are the same everywhere.

The C library is reached through the core of ctypes, at the first call: the module ``ctypes`` itself
takes longer to load than everything else a short command needs of the standard library.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPEN_TREE = 428
MOVE_MOUNT = 429
OPENAT2 = 437
MOUNT_SETATTR = 442
PIDFD_SEND_SIGNAL = 424
PIDFD_GETFD = 438

_functions: dict[str, Callable[..., Any]] = {}
#: the rest is set by the first `_load`
_find: Callable[[str, bool], Callable[..., Any]] | None = None
_long: Callable[[int], object]
_get_errno: Callable[[], int]


def call(function: str, *args: int | bytes | None, what: str = "") -> int:
    """Call a function of the C library that returns -1 and sets errno when it fails.

    Integers are passed as 64-bit values, bytes as a pointer to them, None as a null pointer.
    """
    found = _functions.get(function) or _load(function)
    result: int = found(*[_long(a) if isinstance(a, int) else a for a in args])
    if result < 0:
        number = _get_errno()
        raise OSError(number, os.strerror(number), what or None)
    return result


def syscall(number: int, *args: int | bytes | None, what: str = "") -> int:
    """Call the kernel; arguments and errors as with `call`."""
    return call("syscall", number, *args, what=what)


def _load(function: str) -> Callable[..., Any]:
    find = _find or _open_library()
    found = _functions[function] = find(function, function == "syscall")
    return found


def _open_library() -> Callable[[str, bool], Callable[..., Any]]:
    """Set what `call` needs; how to find a function that returns a long, or an int."""
    global _find, _long, _get_errno
    import _ctypes

    class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "l"

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "i"

    class IntFunction(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    class LongFunction(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Long

    program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def find(name: str, long: bool) -> Callable[..., Any]:
        return (LongFunction if long else IntFunction)(_ctypes.dlsym(program, name))

    _find, _long, _get_errno = find, Long, _ctypes.get_errno
    return find
