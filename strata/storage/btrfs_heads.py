"""Rollback and promote on btrfs: the two operations that change which head snapshots belong to.

Both are several steps. A rollback keeps the old and the new head known to `btrfs_collect` until it
is done; a promotion moves the origin snapshot last, so a second run completes a killed one.
"""

from __future__ import annotations

import os

from strata import trace
from strata.errors import StorageError
from strata.linux import btrfs
from strata.linux.renames import exchange, rename_new
from strata.storage import layout
from strata.storage.btrfs import HEADS, ORIGIN, SNAPSHOTS
from strata.storage.driver import DatasetExists, DatasetNotFound, HasDependants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.btrfs import Btrfs


def rollback(driver: Btrfs, snapshot: str) -> None:
    """Swap a copy of the newest snapshot for the head; GUID and identity stay."""
    dataset, short = layout.check_snapshot(snapshot)
    layout.check_made(dataset)
    known = driver.list_snapshots(dataset)
    if short not in [entry.name for entry in known]:
        raise DatasetNotFound(f"{snapshot}: no such snapshot")
    if known[-1].name != short:
        newer = [f"{dataset}@{entry.name}" for entry in known if entry.name != short]
        raise HasDependants(f"{snapshot} is not the newest snapshot of {dataset}", newer,
                            hint="destroy the newer ones, or clone it")  # fmt: skip
    staging = driver.make_staging_path(dataset)
    head = driver.open_dataset(dataset)
    try:
        old, guid = btrfs.get_info(head).uuid, driver.get_guid(head)
        origin = driver.read_attribute(head, ORIGIN)
        identity = driver.read_identity(head, old)
    finally:
        os.close(head)
    source = btrfs.open_directory(driver.get_snapshot_path(snapshot))
    try:
        driver.copy(source, staging, readonly=False)
        fd = btrfs.open_directory(staging)
        try:
            new = btrfs.get_info(fd).uuid
            driver.write_identity(fd, new, guid, origin, identity)
        finally:
            os.close(fd)
        # Whoever looks for orphaned snapshots must know either head in between.
        os.setxattr(driver.get_folder(guid, dataset), HEADS, f"{new} {old}".encode())
        trace.point("rollback:staged")
        exchange(staging, driver.get_path(dataset))
        trace.point("rollback:exchanged")
        driver.changes += 1
    finally:
        os.close(source)
        driver.discard(staging)


def trace_snapshot(driver: Btrfs, uuid: str) -> tuple[str, str] | None:
    """Dataset and name of the snapshot with this uuid, wherever both have been renamed to."""
    top = btrfs.open_directory(driver.pool)
    try:
        path = btrfs.find_path(top, uuid)
        parts = path.split("/") if path else []
        if len(parts) != 3 or parts[0] != SNAPSHOTS:
            return None
        heads = driver.read_attribute_of(driver.get_folder(parts[1]), HEADS).split()
        for head in [*heads, parts[1]]:
            dataset = btrfs.find_path(top, head)
            if dataset is not None and not dataset.startswith("."):
                return dataset, parts[2]
        return None
    finally:
        os.close(top)


def promote(driver: Btrfs, name: str) -> None:
    """Move the origin snapshot and older ones to a clone, and turn the origin around."""
    layout.check_inside(name)
    head = driver.open_dataset(name)
    try:
        origin = driver.read_attribute(head, ORIGIN)
        found = trace_snapshot(driver, origin) if origin else None
        if found is None:
            raise StorageError(f"{name} is not a clone, or its origin is gone")
        source, snapshot = found
        inherited = ""
        if source != name:  # else a killed run had moved all of them
            inherited = _move(driver, source, snapshot, name, head, origin)
        if inherited:
            os.setxattr(head, ORIGIN, inherited.encode())
        else:
            os.removexattr(head, ORIGIN)
        driver.changes += 1
    finally:
        os.close(head)


def _move(
    driver: Btrfs, source: str, snapshot: str, name: str, head: int, origin: str
) -> str:  # fmt: skip
    """Move the snapshots up to ``snapshot``; returns the origin the source had, "" for none."""
    folder = driver.get_folder(driver.get_guid(head))
    entries = driver.list_snapshots(source)
    moving = entries[: [entry.name for entry in entries].index(snapshot) + 1]
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    taken = [entry.name for entry in moving if os.path.lexists(f"{folder}/{entry.name}")]
    if taken:
        raise DatasetExists(f"{name}@{taken[0]}: the name is taken",
                            hint="rename or remove that snapshot first")  # fmt: skip
    other = driver.open_dataset(source)
    try:
        old = driver.get_folder(driver.get_guid(other))
        inherited = driver.read_attribute(other, ORIGIN)
        for entry in moving:
            _move_readonly(f"{old}/{entry.name}", f"{folder}/{entry.name}")
            trace.point("promote:moved")
        driver.set_own(other, ORIGIN, origin.encode())
    finally:
        os.close(other)
    return inherited


def _move_readonly(path: str, target: str) -> None:
    """Move a snapshot to another directory, for which it must be writable for a moment."""
    fd = btrfs.open_directory(path)
    try:
        for last in (False, True):
            btrfs.set_readonly(fd, False)
            trace.point("promote:writable")
            try:
                rename_new(path, target)
                break
            except OSError as error:
                # EROFS: `collect` of another command set the flag again meanwhile.
                if last or error.errno != 30:
                    raise
    finally:
        btrfs.set_readonly(fd, True)
        os.close(fd)
