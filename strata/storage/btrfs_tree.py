"""Subvolumes together with the subvolumes that containers made inside them.

btrfs leaves inner subvolumes out of a snapshot (an empty directory stands in their place) and
refuses to delete what holds others. A running container may move things while we work, so inner
paths are opened beneath the dataset and through no symbolic link: it cannot lead us elsewhere.
"""

from __future__ import annotations

import os

from strata import trace
from strata.linux import btrfs
from strata.storage.driver import DatasetBusy

_ROUNDS = 10  # how often a removal goes back for inner subvolumes made meanwhile

# What says that an inner path is no longer what the kernel just told: gone, not a directory, a
# symbolic link on the way, a way out, a rename during the walk.
_MOVED = frozenset({2, 20, 40, 18, 11})


def _open_beneath(fd: int, path: str) -> int:
    """A directory below ``fd``; OSError with an errno of `_MOVED` when it is not plainly there."""
    from strata.linux import resolve

    if not path:
        return os.dup(fd)
    rules = resolve.RESOLVE_BENEATH | resolve.RESOLVE_NO_SYMLINKS | resolve.RESOLVE_NO_MAGICLINKS
    return resolve.open_at(fd, path, os.O_RDONLY | os.O_DIRECTORY, rules)


def copy_tree(
    source: int, folder: int, short: str, *, readonly: bool, with_frozen: bool = True
) -> int:  # fmt: skip
    """Snapshot a subvolume as ``short`` in a directory, inner subvolumes included, read-only ones
    only ``with_frozen``.

    Returns how many transactions were waited for. What it leaves behind on failure is for the
    caller to destroy.
    """
    inner = btrfs.list_children(source)
    btrfs.create_snapshot(source, folder, short, readonly=readonly and not inner)
    if not inner:
        return 1
    waits = 1
    target = btrfs.open_directory(short, folder)
    try:
        for path in inner:
            waits += _fill(source, target, path, readonly=readonly, with_frozen=with_frozen)
        if readonly:
            btrfs.set_readonly(target, True)
    finally:
        os.close(target)
    return waits


def _fill(source: int, target: int, path: str, *, readonly: bool, with_frozen: bool) -> int:
    """Put the inner subvolume at ``path`` in the place of its stand-in; how many waits."""
    above, _, short = path.rpartition("/")
    holder = child = -1
    try:
        holder = _open_beneath(target, above)
        child = _open_beneath(source, path)
        stand_in = os.stat(short, dir_fd=holder, follow_symlinks=False)
        if stand_in.st_ino != btrfs.PLACEHOLDER_INODE or not btrfs.is_subvolume(child):
            return 0
        if not with_frozen and btrfs.is_readonly(child):
            return 0
        os.rmdir(short, dir_fd=holder)
        trace.point("copy:placeholder-removed")
        return copy_tree(child, holder, short, readonly=readonly, with_frozen=with_frozen)
    except OSError as error:
        if error.errno in _MOVED:
            return 0  # it came or went between the two looks
        raise
    finally:
        for fd in (holder, child):
            if fd >= 0:
                os.close(fd)


def destroy_tree(path: str) -> None:
    """Delete a subvolume with those inside it; FileNotFoundError when there is none.

    `DatasetBusy` when a container makes new ones faster than they are deleted.
    """
    parent, _, short = path.rpartition("/")
    folder = btrfs.open_directory(parent)
    try:
        for _ in range(_ROUNDS):
            try:
                _empty(folder, short)
                btrfs.destroy_subvolume(folder, short)
                return
            except OSError as error:
                # ENOTEMPTY: there is one more inside; EROFS: `collect` of another command
                # set the flag again meanwhile.
                if error.errno not in {39, 30}:
                    raise
        raise DatasetBusy(f"{path}: subvolumes keep being made inside")
    finally:
        os.close(folder)


def _empty(folder: int, short: str) -> None:
    """Delete the subvolumes inside one, innermost first."""
    fd = btrfs.open_directory(short, folder)
    try:
        inner = btrfs.list_children(fd)
        if inner:
            btrfs.set_readonly(fd, False)
        for path in inner:
            above, _, last = path.rpartition("/")
            holder = -1
            try:
                holder = _open_beneath(fd, above)
                _empty(holder, last)
                btrfs.destroy_subvolume(holder, last)
            except OSError as error:
                if error.errno not in _MOVED:
                    raise
            finally:
                if holder >= 0:
                    os.close(holder)
    finally:
        os.close(fd)
