"""Native properties of a dataset on btrfs: compression, limits, what quota groups count."""

from __future__ import annotations

import os

from strata.errors import StorageError
from strata.linux import btrfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from strata.storage.btrfs import Btrfs

_COMPRESSION = "btrfs.compression"


def set_native(driver: Btrfs, fd: int, properties: Mapping[str, str]) -> None:
    """Set properties of an open dataset. `StorageError` for one that btrfs has not."""
    for key, value in properties.items():
        if key == "compression":
            _set_compression(fd, value)
        elif key == "refquota":
            from strata.storage import btrfs_quota

            btrfs_quota.set_limit(driver, fd, None if value == "none" else int(value))
        else:
            raise StorageError(f"btrfs has no property {key}")


def _set_compression(fd: int, value: str) -> None:
    """Directories pass the property on to what is made in them, so the root file system of
    a clone gets it too; directories that exist below keep what they had."""
    for name in (".", "rootfs"):
        try:
            inner = btrfs.open_directory(name, fd)
        except FileNotFoundError:
            continue
        try:
            os.setxattr(inner, _COMPRESSION, value.encode())
        finally:
            os.close(inner)


def find_native(driver: Btrfs, fd: int, key: str) -> str | None:
    """A property of an open dataset as text; None for one that btrfs has not, or does not count."""
    if key == "compression":
        return driver.read_attribute(fd, _COMPRESSION) or "zstd"
    if key == "refquota":
        limit = btrfs.find_limit(fd, btrfs.get_info(fd).tree_id)
        return "none" if limit is None else str(limit)
    if key in {"used", "referenced"}:
        quota = btrfs.find_quota(fd, btrfs.get_info(fd).tree_id)
        return None if quota is None else str(quota[1 if key == "used" else 0])
    return None
