"""Limits on btrfs: quota groups, which are on only while some dataset has a limit.

Quota groups cost every write and every removal of the whole pool, and the more clones share data,
the more: so nothing switches them on but a limit, and the collector switches them off after the
last. Simple quotas (Linux 6.7) would cost nearly nothing, but they book data to whoever wrote it
first: after a rollback the head would own nothing and its limit would forget what it holds.

Switching on and setting a limit, and looking for limits and switching off, are each done under a
lock, so a limit never gets lost between two commands.
"""

from __future__ import annotations

import fcntl
import os

from strata.linux import btrfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.btrfs import Btrfs

_STAGING = ".staging"
_OFF = frozenset({107, 22, 2})  # ENOTCONN, EINVAL, ENOENT: quota groups are off


class _Alone:
    """The lock, for a ``with`` block; its value is a descriptor of the pool."""

    __slots__ = ("_fd",)

    def __init__(self, driver: Btrfs) -> None:
        self._fd = btrfs.open_directory(f"{driver.pool}/{_STAGING}")

    def __enter__(self) -> int:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _choose_top(pool: int, fd: int) -> int:
    """The descriptor to change limits through: the pool's, for through itself a full subvolume has
    no room for that; outside the pool there is only its own."""
    return pool if btrfs.get_file_system(pool) == btrfs.get_file_system(fd) else fd


def set_limit(driver: Btrfs, fd: int, limit: int | None) -> None:
    """Limit the bytes a subvolume may refer to; None takes the limit away."""
    tree_id = btrfs.get_info(fd).tree_id
    with _Alone(driver) as pool:
        top = _choose_top(pool, fd)
        if limit is not None:
            btrfs.enable_quota(top)
        try:
            btrfs.set_limit(top, tree_id, limit)
        except OSError as error:
            if limit is not None or error.errno not in _OFF:
                raise


def drop_inherited(driver: Btrfs, folder: int, short: str) -> None:
    """Take away the limit that a new snapshot or clone was given because its source has one."""
    fd = btrfs.open_directory(short, folder)
    try:
        set_limit(driver, fd, None)
    finally:
        os.close(fd)


class Lifted:
    """For a ``with`` block without the limit of one subvolume, which is there again afterwards.

    Killed inside, `system check` finds the limit missing.
    """

    __slots__ = ("_driver", "_fd", "_limit")

    def __init__(self, driver: Btrfs, fd: int) -> None:
        self._driver = driver
        self._fd = fd
        self._limit = btrfs.find_limit(fd, btrfs.get_info(fd).tree_id)

    def __enter__(self) -> None:
        set_limit(self._driver, self._fd, None)

    def __exit__(self, *_: object) -> None:
        if self._limit is not None:
            set_limit(self._driver, self._fd, self._limit)


def count_referenced(driver: Btrfs, fd: int) -> int:
    """What a limit counts of a subvolume: its data, and the blocks of its tree."""
    tree_id = btrfs.get_info(fd).tree_id
    with _Alone(driver) as pool:
        top = _choose_top(pool, fd)
        btrfs.enable_quota(top)
        if not btrfs.is_quota_consistent(top):
            btrfs.rescan_quota(top)
        btrfs.sync(top)
        quota = btrfs.find_quota(fd, tree_id)
    return quota[0] if quota is not None else 0


def settle_counting(driver: Btrfs) -> bool:
    """Switch quota groups off unless a limit needs them; then count anew where the kernel gave
    its counts up, as it does when large trees go. Returns whether something was done."""
    top = btrfs.open_directory(driver.pool)
    try:
        if not btrfs.has_quota(top):
            return False
        with _Alone(driver) as pool:
            if not btrfs.has_limits(pool):
                btrfs.disable_quota(pool)
            elif btrfs.is_quota_consistent(pool):
                return False
            else:
                btrfs.rescan_quota(pool)
            return True
    finally:
        os.close(top)
