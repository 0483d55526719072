"""How much each dataset on btrfs takes, read from the trees of its subvolumes.

btrfs counts by itself only with quota groups, which cost every write. Reading the trees costs
nothing until somebody asks, and about a second for a million extents then. Counted are the extents
of files as they lie in the pool, packed; not the blocks of the trees themselves.
"""

from __future__ import annotations

import os

from strata.linux import btrfs
from strata.storage import layout
from strata.storage.driver import Usage
from strata.storage.shares import Shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from strata.storage.btrfs import Btrfs


def measure(driver: Btrfs, name: str) -> Usage:
    """Space of a dataset: ``used`` is what it and its snapshots hold of what was written since it
    was made, ``referenced`` what its files refer to now; for a snapshot both are the latter."""
    fd = driver.open_any(name)
    try:
        info = btrfs.get_info(fd)
        whole = _read(fd, info.tree_id)
        referenced = sum(whole.sizes.values())
        since = info.created_in if info.parent_uuid else 0
        own = whole.sizes
        if "@" not in name:
            if since:
                own = btrfs.read_extents(fd, info.tree_id, since).sizes
            for snapshot in driver.list_snapshots(name):
                inner = driver.open_any(snapshot.full_name)
                try:
                    tree_id = btrfs.get_info(inner).tree_id
                    own.update(btrfs.read_extents(inner, tree_id, since).sizes)
                finally:
                    os.close(inner)
                since = max(since, snapshot.createtxg)
    finally:
        os.close(fd)
    ratio = round(whole.logical / referenced, 2) if referenced else 1.0
    return Usage(sum(own.values()), referenced, whole.logical, ratio)


def _read(fd: int, tree_id: int) -> btrfs.Extents:
    """The extents of a subvolume with the subvolumes a container made in it."""
    found = btrfs.read_extents(fd, tree_id)
    for path in btrfs.list_children(fd):
        try:
            inner = btrfs.open_directory(path, fd)
        except OSError:
            continue  # gone meanwhile
        try:
            more = _read(inner, btrfs.get_info(inner).tree_id)
        finally:
            os.close(inner)
        found.sizes.update(more.sizes)
        found.logical += more.logical
    return found


def survey(driver: Btrfs) -> Shares:
    """Who holds which bytes of the pool: every dataset and snapshot of the store."""
    driver.sync()
    shares = Shares()
    for name in _list_holders(driver):
        try:
            fd = driver.open_any(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            found = _read(fd, btrfs.get_info(fd).tree_id)
        finally:
            os.close(fd)
        shares.add(name, found.sizes, found.logical)
    return shares


def _list_holders(driver: Btrfs) -> Iterator[str]:
    """Names of all datasets, each followed by those of its snapshots."""
    for parent in layout.PARENTS:
        if not os.path.isdir(f"{driver.pool}/{parent}"):
            continue
        for dataset in driver.list_datasets(parent):
            yield dataset.name
            for snapshot in driver.list_snapshots(dataset.name):
                yield snapshot.full_name
