"""Renames that never overwrite and renames that swap: renameat2(2)."""

from __future__ import annotations

import os

from strata.linux.syscall import call

_AT_FDCWD = -100
_NOREPLACE = 1
_EXCHANGE = 2


def rename_new(source: str, target: str) -> None:
    """Rename; FileExistsError when ``target`` exists, even as an empty directory."""
    _rename(source, target, _NOREPLACE)


def exchange(first: str, second: str) -> None:
    """Swap two paths in one step; both must exist."""
    _rename(first, second, _EXCHANGE)


def _rename(source: str, target: str, flags: int) -> None:
    call("renameat2", _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags,
         what=target)  # fmt: skip
