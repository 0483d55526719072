"""What killed commands left on btrfs: staged subvolumes, snapshots whose dataset is gone.

Safe beside running commands: a staged name tells its owner, and only what has a dead owner goes.
"""

from __future__ import annotations

import os

from strata.linux import btrfs
from strata.linux.process import is_alive
from strata.storage.btrfs import HEADS, SNAPSHOTS, STAGING
from strata.storage.btrfs_tree import destroy_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.btrfs import Btrfs


def collect(driver: Btrfs) -> list[str]:
    """Remove leftovers; returns their paths relative to the pool."""
    unwanted = [
        f"{STAGING}/{name}"
        for name in driver.list_entries(f"{driver.pool}/{STAGING}")
        if is_abandoned(name)
    ]
    top = btrfs.open_directory(driver.pool)
    try:
        # Nothing is removed before all were looked at: a head in staging still counts as one.
        for guid in driver.list_entries(f"{driver.pool}/{SNAPSHOTS}"):
            folder = driver.get_folder(guid)
            heads = [guid, *driver.read_attribute_of(folder, HEADS).split()]
            orphaned = all(btrfs.find_path(top, head) is None for head in heads)
            for name in driver.list_entries(folder):
                staged = name.startswith(".")
                if orphaned or (staged and is_abandoned(name[1:])):
                    unwanted.append(f"{SNAPSHOTS}/{guid}/{name}")
                elif not staged:
                    _freeze(f"{folder}/{name}")
            if orphaned:
                driver.remove_folder(folder)
    finally:
        os.close(top)
    removed = [path for path in unwanted if _remove(f"{driver.pool}/{path}")]
    for guid in {path.split("/")[1] for path in removed if path.startswith(f"{SNAPSHOTS}/")}:
        driver.remove_folder(driver.get_folder(guid))
    return removed


def is_abandoned(name: str) -> bool:
    """Whether the process named in a staged name (pid, start time) is gone."""
    pid, _, rest = name.partition("-")
    start = rest.partition("-")[0]
    return not (pid.isdecimal() and start.isdecimal() and is_alive(int(pid), int(start)))


def _freeze(path: str) -> None:
    """Make a snapshot read-only that a killed promotion left writable."""
    try:
        fd = btrfs.open_directory(path)
    except FileNotFoundError:
        return
    try:
        btrfs.set_readonly(fd, True)
    finally:
        os.close(fd)


def _remove(path: str) -> bool:
    try:
        destroy_tree(path)
    except FileNotFoundError:
        return False
    return True
