"""Renames that never overwrite and renames that swap: renameat2(2)."""

from __future__ import annotations

import os

from strata.linux.syscall import check, libc

_AT_FDCWD = -100
_NOREPLACE = 1
_EXCHANGE = 2


def rename_new(source: str, target: str) -> None:
    """Rename; FileExistsError when ``target`` exists, even as an empty directory."""
    result = libc().renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _NOREPLACE
    )
    check(result, target)


def exchange(first: str, second: str) -> None:
    """Swap two paths in one step; both must exist."""
    result = libc().renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE
    )
    check(result, second)
