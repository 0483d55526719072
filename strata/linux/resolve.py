"""Paths inside a tree that somebody else controls: openat2(2) with RESOLVE_IN_ROOT.

Symbolic links, also absolute ones and ``..``, are followed as if the tree were ``/``; nothing
outside can be reached, whatever a running container does meanwhile.
"""

from __future__ import annotations

import _struct as struct
import os

from strata.linux.syscall import OPENAT2, syscall

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


def open_at(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2); a close-on-exec descriptor. OSError."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)  # struct open_how
    return syscall(OPENAT2, directory, os.fsencode(path), how, len(how), what=path)


def open_in_root(root: str | int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path`` as seen by a process whose root is ``root``; a descriptor. OSError."""
    directory = root if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        return open_at(directory, path.lstrip("/") or ".", flags, resolve, mode)
    finally:
        if not isinstance(root, int):
            os.close(directory)
