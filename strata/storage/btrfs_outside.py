"""btrfs subvolumes outside the pool of the store: adopted ones, and places for volumes.

Everything of Strata's lies in a directory ``.strata`` beside the subvolume: ``snapshots/<guid>/``
and ``staging/`` as in the pool, in a place for volumes also the file ``pool`` with its holder.
Root enters by paths, so only places are served where root alone may change what a path means.
"""

from __future__ import annotations

import os
import stat

from strata import trace
from strata.errors import AlreadyExists, StorageError, UsageError
from strata.linux import btrfs, mount
from strata.linux.renames import rename_new
from strata.storage import layout
from strata.storage.btrfs import BESIDE, MARKER, ORIGIN, Doing
from strata.storage.btrfs_tree import destroy_tree
from strata.storage.driver import DatasetNotFound, HasDependants
from strata.storage.marker import write_file
from strata.storage.outside import Outside, PlaceMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.linux.mount import MountInfo
    from strata.storage.btrfs import Btrfs
    from strata.storage.driver import Dataset

PLACE = "strata"
_FILE = "pool"
_PREFIX = "trusted.strata."
_HOLDER = "trusted.strata.holder"


def _is_on_btrfs(path: str) -> bool:
    try:
        fd = btrfs.open_directory(path)
    except NotADirectoryError:
        return False
    try:
        btrfs.get_file_system(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _is_subvolume(path: str) -> bool:
    try:
        return os.lstat(path).st_ino == btrfs.ROOT_INODE and _is_on_btrfs(path)
    except FileNotFoundError:
        return False


def check_folder(path: str) -> None:
    """Refuse a directory in which somebody else than root could put things in place of ours."""
    while True:
        info = os.stat(path)
        open_to_others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if info.st_uid != 0 or (open_to_others and not info.st_mode & stat.S_ISVTX):
            raise StorageError(
                f"{path} can be changed by others than root, and so could Strata's snapshots in it",
                hint=f"chown root {path}; chmod go-w {path}",
            )
        if path == "/":
            return
        path = os.path.dirname(path)


def check_no_store(path: str) -> None:
    """Refuse a path inside a store's pool or a place for volumes."""
    while path != "/":
        if os.path.lexists(f"{path}/{MARKER}") or os.path.lexists(f"{path}/{BESIDE}/{_FILE}"):
            raise StorageError(f"{path} belongs to a store of Strata", hint="name a place outside")
        path = os.path.dirname(path)


def _remove_beside(folder: str) -> None:
    """Remove the directory beside datasets when nothing is left in it."""
    for path in ("staging", "snapshots", ""):
        try:
            os.rmdir(f"{folder}/{BESIDE}/{path}".rstrip("/"))
        except OSError:
            continue


def _locate_mounted(mounts: Sequence[MountInfo], name: str) -> tuple[str, str]:
    """Device of a dataset and its path on it, as mounts show it; "" when they do not."""
    best = None
    for entry in mounts:
        target = entry.target.rstrip("/")
        if name.startswith(f"{target}/") and (best is None or len(target) >= len(best.target)):
            best = entry
    if best is None or best.fstype != "btrfs":
        return "", ""
    return best.source, f"{best.root.rstrip('/')}{name[len(best.target.rstrip('/')) :]}"


class BtrfsOutside(Outside):
    """See `Outside`."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Btrfs) -> None:
        self._driver = driver

    def locate(self, text: str) -> str:
        if not text.startswith("/"):
            raise UsageError(
                f"{text!r} is no absolute path",
                hint="the store is on btrfs: name the path of a subvolume",
            )
        return layout.check_outside(os.path.realpath(text))

    def get_pool(self, name: str) -> str:
        """The file system's uuid."""
        path = self._driver.get_path(name.partition("@")[0])
        with Doing(name):
            fd = btrfs.open_directory(path)
            try:
                return btrfs.get_file_system(fd)
            finally:
                os.close(fd)

    def check_place(self, name: str) -> None:
        """What Strata made beside the dataset tells its file system from an empty mount point, or
        from another file system mounted there."""
        if not layout.is_outside(name):
            return
        dataset = name.partition("@")[0]
        folder = os.path.dirname(dataset)
        if not os.path.isdir(f"{folder}/{BESIDE}/snapshots") and not _is_subvolume(dataset):
            raise PlaceMissing(
                f"the file system of the dataset {name} is not mounted at {folder}",
                hint="mount it: see /etc/fstab for what belongs there",
            )

    # -- adopting ----------------------------------------------------------------------------------

    def check_adoptable(self, name: str) -> Dataset:
        layout.check_outside(name)
        if not os.path.lexists(name):
            raise DatasetNotFound(f"{name}: no such dataset", hint="name the path of a subvolume")
        if not _is_on_btrfs(name):
            raise StorageError(
                f"{name} is not on btrfs",
                hint="the store is on btrfs, and so must be what it adopts",
            )
        fd = btrfs.open_directory(name)
        try:
            if not btrfs.is_subvolume(fd):
                raise StorageError(
                    f"{name} is a directory, not a subvolume",
                    hint=f"make one and move the files: btrfs subvolume create {name}.new",
                )
            if btrfs.is_readonly(fd):
                raise StorageError(f"{name} is read-only: it is a snapshot",
                                   hint="adopt a writable snapshot of it")  # fmt: skip
        finally:
            os.close(fd)
        if os.path.isdir(f"{name}/{BESIDE}/snapshots"):
            raise StorageError(f"{name} holds snapshots of subvolumes inside it, which are adopted",
                               hint="forget those volumes first")  # fmt: skip
        parent = os.path.dirname(name)
        if mount.find_mount(name) is not None:
            raise StorageError(
                f"{name} is a mount point: there is no place beside it for snapshots",
                hint="mount the file system's top somewhere and name the subvolume below that",
            )
        check_folder(parent)
        check_no_store(parent)
        return self._driver.get(name)

    def find_holder(self, name: str) -> str:
        """A snapshot's copy of the note is not believed."""
        fd = self._driver.open_dataset(name)
        try:
            if self._driver.read_attribute(fd, f"{_PREFIX}self") != btrfs.get_info(fd).uuid:
                return ""
            return self._driver.read_attribute(fd, _HOLDER)
        finally:
            os.close(fd)

    def adopt(self, name: str, identity: Mapping[str, str], holder: str) -> None:
        self._driver.ensure_beside(name)
        fd = self._driver.open_dataset(name)
        try:
            guid, uuid = self._driver.get_guid(fd), btrfs.get_info(fd).uuid
            origin = ""  # a copy of somebody else's note, unless it names this very subvolume
            if self._driver.read_attribute(fd, f"{_PREFIX}self") == uuid:
                origin = self._driver.read_attribute(fd, ORIGIN)
            self._driver.write_identity(fd, uuid, guid, origin, identity)
            trace.point("dataset:marked")
            os.setxattr(fd, _HOLDER, os.fsencode(holder))
        finally:
            os.close(fd)
        self._driver.changes += 1

    def give_back(self, name: str) -> None:
        """What Strata made keeps the notes that find its snapshots."""
        fd = self._driver.open_dataset(name)
        try:
            kept = {"self", "guid", "origin"}
            folder = self._driver.get_folder(self._driver.get_guid(fd), name)
            self._driver.remove_folder(folder)
            if not layout.is_made(name) and not os.path.isdir(folder):
                kept = set()
            for key in os.listxattr(fd):
                if key.startswith(_PREFIX) and key.removeprefix(_PREFIX) not in kept:
                    os.removexattr(fd, key)
        finally:
            os.close(fd)
        self._driver.changes += 1
        _remove_beside(os.path.dirname(name))

    def find_snapshot_name(self, uuid: str, near: str) -> str | None:
        """``dataset@name`` of the snapshot with this uuid, among what lies beside ``near``."""
        parent = os.path.dirname(near)
        fd = btrfs.open_directory(parent)
        try:
            found = btrfs.find_entry(fd, uuid)
            if found is None:
                return None
            folder, _, short = found[1].rpartition("/")
            guid = os.path.basename(folder)
            if not folder.endswith(f"{BESIDE}/snapshots/{guid}"):
                return None
            found = btrfs.find_entry(fd, guid)
            dataset = f"{parent}/{os.path.basename(found[1])}" if found is not None else ""
        finally:
            os.close(fd)
        if not dataset or not os.path.isdir(dataset):
            return None
        fd = btrfs.open_directory(dataset)
        try:
            return f"{dataset}@{short}" if self._driver.get_guid(fd) == guid else None
        finally:
            os.close(fd)

    # -- places for volumes ------------------------------------------------------------------------

    def make_place(self, text: str, holder: str) -> str:
        """The directory ``strata`` below a path."""
        above = self.locate(text)
        if not os.path.isdir(above):
            raise DatasetNotFound(f"{above}: no such directory", hint="make it, or mount its pool")
        if not _is_on_btrfs(above):
            raise StorageError(f"{above} is not on btrfs",
                               hint="the store is on btrfs, and so must be its pools")  # fmt: skip
        check_folder(above)
        check_no_store(above)
        name = layout.check_outside(f"{above}/{PLACE}")
        if os.path.lexists(name):
            if self.find_place_holder(name) != holder:
                raise AlreadyExists(f"{name} exists and is no place of this store for volumes",
                                    hint="name another path, or remove it")  # fmt: skip
            return name
        # Whole or not there: what a killed run left under the other name is completed.
        staging = f"{above}/.{PLACE}.new"
        os.makedirs(staging, 0o700, exist_ok=True)
        self._driver.ensure_beside(f"{staging}/_")
        write_file(f"{staging}/{BESIDE}/{_FILE}", holder)
        trace.point("pool:staged")
        rename_new(staging, name)
        return name

    def find_place_holder(self, name: str) -> str:
        try:
            with open(f"{name}/{BESIDE}/{_FILE}") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def remove_place(self, name: str) -> None:
        left = [entry for entry in os.listdir(name) if entry != BESIDE]
        snapshots = f"{name}/{BESIDE}/snapshots"
        left += [f"{BESIDE}/snapshots/{e}" for e in self._driver.list_entries(snapshots)]
        if left:
            raise HasDependants(f"{name} is not empty: {', '.join(sorted(left)[:5])}", left)
        self.collect(f"{name}/_")
        # Under the other name it is no place any more, and may be met half removed.
        staging = f"{os.path.dirname(name)}/.{PLACE}.new"
        os.rename(name, staging)
        os.unlink(f"{staging}/{BESIDE}/{_FILE}")
        _remove_beside(staging)
        os.rmdir(staging)

    def collect(self, name: str) -> list[str]:
        """What was staged. Snapshots whose dataset is gone stay: the data was not ours."""
        from strata.storage.btrfs_collect import is_abandoned

        removed = []
        top = f"{os.path.dirname(name)}/{BESIDE}"
        staged = [f"{top}/staging/{entry}" for entry in self._driver.list_entries(f"{top}/staging")]
        for guid in self._driver.list_entries(f"{top}/snapshots"):
            folder = f"{top}/snapshots/{guid}"
            entries = self._driver.list_entries(folder)
            staged += [f"{folder}/{entry}" for entry in entries if entry.startswith(".")]
        for path in staged:
            if is_abandoned(os.path.basename(path).removeprefix(".")):
                destroy_tree(path)
                removed.append(path)
        return removed

    def find_shown(
        self, names: Sequence[str], here: Sequence[MountInfo], mounts: Sequence[MountInfo]
    ) -> list[MountInfo]:
        wanted = [_locate_mounted(here, self._driver.get_path(name)) for name in names]
        return [
            entry for entry in mounts if any(
                device and entry.source == device and f"{entry.root}/".startswith(f"{path}/")
                for device, path in wanted
            )
        ]  # fmt: skip

    def show(self, name: str) -> str:
        return name
