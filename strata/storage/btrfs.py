"""The btrfs driver: a subvolume is a dataset. Ioctls only, no programs.

Below the mounted pool::

    .strata-store            the marker
    layers/… containers/… volumes/_/…  records images logs     datasets, under their names
    .snapshots/<guid>/<name>           snapshots, by the GUID of their dataset
    .staging/                          what is not finished or not wanted any more

Snapshots lie under the GUID, so renaming a dataset is one rename and its snapshots follow.

A dataset is made in ``.staging``, gets its identity as ``trusted.strata.*`` attributes, and is
renamed into place: it never exists without. btrfs copies attributes into every snapshot; so the
attribute ``self`` holds the subvolume's own uuid, and attributes beside a foreign ``self`` (copies,
also those made by hand) are not believed. ``guid`` is the uuid the dataset began with, ``origin``
the uuid of the snapshot it was cloned from.

A snapshot leaves out the subvolumes that a container made inside a dataset (systemd does), and a
subvolume that holds others cannot be deleted. So snapshot, clone and destroy look for inner
subvolumes (one ioctl when there are none) and take them along.

A dataset outside is a subvolume under its absolute path, on whatever btrfs is mounted there. Its
snapshots and what is not finished lie in a directory ``.strata`` beside it, which is all that
Strata makes there but the clones of those snapshots.

What is durable: snapshot and clone wait for a transaction; the rename that follows a clone, and
everything else, is durable after the next one or after `Btrfs.sync`.
"""

from __future__ import annotations

import os

from strata import trace
from strata.errors import NoSpace, StorageError, StrataError
from strata.linux import btrfs
from strata.storage import layout
from strata.storage.btrfs_tree import copy_tree, destroy_tree
from strata.storage.driver import (
    Dataset,
    DatasetBusy,
    DatasetExists,
    DatasetNotFound,
    Driver,
    Facts,
    HasDependants,
    PoolSpace,
    Snapshot,
    Usage,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from strata.linux.mount import MountStep
    from strata.storage.btrfs_outside import BtrfsOutside
    from strata.storage.shares import Shares

MARKER = ".strata-store"
SNAPSHOTS = ".snapshots"
STAGING = ".staging"
BESIDE = ".strata"
"""Directory beside datasets outside, with ``snapshots/`` and ``staging/``."""

_PREFIX = "trusted.strata."
_SELF = "trusted.strata.self"
_GUID = "trusted.strata.guid"
ORIGIN = "trusted.strata.origin"
HEADS = "trusted.strata.heads"
_INTERNAL = frozenset({"self", "guid", "origin", "holder"})

FACTS = Facts(
    private_mount=False, rename_busy=True, atomic_set=False, properties_at_create=False,
    reports_busy=False, clones_pin=False, native_properties=True, quota=True, send=False,
    send_since=False, send_raw=False, send_resume=False, holds=False, bookmarks=False,
    block_clone=True, idmap=True, waits=False, counts=False, quota_snapshots=False,
    reservation=False, shows_snapshots=True,
)  # fmt: skip


def _translate(error: OSError, what: str) -> StrataError:
    """The error of this room for an errno; the one place that knows what btrfs means by them."""
    number = error.errno
    if number in {28, 122}:  # ENOSPC, EDQUOT
        where = "the pool is full" if number == 28 else "its quota is used up"
        return NoSpace(f"{what}: {where}", hint="see `strata system df`; prune, or enlarge it")
    if number in {2, 20}:  # ENOENT, ENOTDIR
        return DatasetNotFound(f"{what}: no such dataset")
    if number == 17:
        return DatasetExists(f"{what}: the name is taken")
    if number in {16, 1, 26}:  # EBUSY; EPERM while a send reads it; ETXTBSY
        return DatasetBusy(f"{what}: dataset is busy")
    if number == 30:
        return StorageError(f"{what}: the pool is read-only",
                            hint="the kernel log says why btrfs stopped writing")  # fmt: skip
    return StorageError(f"{what}: {error.strerror}")


class Doing:
    """Turns an `OSError` inside a ``with`` block into the error of this room."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise _translate(error, self.what) from error


def _rename_new(source: str, target: str) -> None:
    """Rename a subvolume; `FileExistsError` when another has the name by now.

    btrfs replaces no subvolume, not even an empty one. So this needs nothing that Python has not;
    `strata.linux.renames` does, and would be all that a clone needs it for.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        import errno

        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY):
            raise
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None


class Btrfs(Driver):
    """Datasets on a btrfs pool mounted at ``<root>/pool``; ``file`` is the pool file."""

    name = "btrfs"
    flavour = "btrfs"
    facts = FACTS

    def __init__(self, root: str, store_id: str, file: str | None) -> None:
        self.root = root
        self.pool = f"{root}/pool"
        self.store_id = store_id
        self.file = file
        self.changes = 0
        self._staging_number = 0
        self._owner = ""

    # -- changing ------------------------------------------------------------------------------

    def create(
        self, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        layout.check_made(name)
        layout.check_identity(identity)
        with Doing(name):
            self._check_free(name)
            staging = self.make_staging_path(name)
            folder = btrfs.open_directory(os.path.dirname(staging))
            try:
                btrfs.create_subvolume(folder, staging.rpartition("/")[2])
            finally:
                os.close(folder)
            return self._settle(staging, name, identity, properties)

    def clone(
        self, snapshot: str, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        layout.check_made(name)
        layout.check_identity(identity)
        with Doing(snapshot):
            source = btrfs.open_directory(self.get_snapshot_path(snapshot))
        try:
            with Doing(name):
                self._check_free(name)
                staging = self.make_staging_path(name)
                origin = btrfs.get_info(source).uuid
                try:
                    self.copy(source, staging, readonly=False)
                except BaseException:
                    self.discard(staging)
                    raise
                return self._settle(staging, name, identity, properties, origin, snapshot)
        finally:
            os.close(source)

    def _check_free(self, name: str) -> None:
        """Refuse a taken name before work is done; the rename into place decides a race."""
        if os.path.lexists(self.get_path(name)):
            raise DatasetExists(f"{name}: the name is taken")

    def _settle(
        self, staging: str, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None, origin: str = "", snapshot: str = "",
    ) -> Dataset:  # fmt: skip
        """Give a staged subvolume its identity and its name; on failure nothing is left.

        ``origin``: the uuid of the ``snapshot`` it is a clone of.
        """
        try:
            fd = btrfs.open_directory(staging)
            try:
                info = btrfs.get_info(fd)
                self.write_identity(fd, info.uuid, info.uuid, origin, identity)
                if properties:
                    self._set_native(fd, properties)
            finally:
                os.close(fd)
            trace.point("dataset:staged")
            self._place(staging, self.get_path(name))
        except BaseException:
            self.discard(staging)
            raise
        self.changes += 1
        trace.point("dataset:placed")
        return Dataset(
            name, info.uuid, info.created_in, info.creation, snapshot or None, dict(identity)
        )

    def _place(self, source: str, target: str) -> None:
        try:
            _rename_new(source, target)
        except FileNotFoundError:
            parent = target.rpartition("/")[0]
            os.makedirs(parent, 0o700, exist_ok=True)
            self._check_parent(parent)
            _rename_new(source, target)

    def _check_parent(self, parent: str) -> None:
        """Datasets do not lie inside others: they would be part of them."""
        if os.stat(parent).st_dev != os.stat(self.pool).st_dev:
            name = parent.removeprefix(f"{self.pool}/")
            raise StorageError(f"{name} is a dataset; datasets do not lie inside others")

    @staticmethod
    def write_identity(
        fd: int, uuid: str, guid: str, origin: str, identity: Mapping[str, str]
    ) -> None:
        wanted = {f"{_PREFIX}{key}": value for key, value in identity.items()}
        wanted[_SELF], wanted[_GUID] = uuid, guid
        if origin:
            wanted[ORIGIN] = origin
        for key in os.listxattr(fd):
            if key.startswith(_PREFIX) and key not in wanted:
                os.removexattr(fd, key)
        for key, value in wanted.items():
            os.setxattr(fd, key, os.fsencode(value))

    def snapshot(self, names: Sequence[str]) -> None:
        made: list[str] = []
        try:
            for name in names:
                self._snapshot(name)
                made.append(name)
        except BaseException:
            for name in reversed(made):
                self.destroy(name)
            raise

    def _snapshot(self, name: str) -> None:
        dataset, short = layout.check_snapshot(name)
        with Doing(dataset):
            source = self.open_dataset(dataset)
        try:
            with Doing(name):
                folder = self.get_folder(self.get_guid(source), dataset)
                target = f"{folder}/{short}"
                if os.path.lexists(target):
                    raise DatasetExists(f"{name}: the name is taken")
                if layout.is_outside(dataset):
                    self.ensure_beside(dataset)
                try:
                    os.mkdir(folder, 0o700)
                except FileExistsError:
                    pass
                if not btrfs.list_children(source):
                    self.copy(source, target, readonly=True)
                    return
                # Inner subvolumes are put in one by one, so the whole appears by a rename.
                # In the same directory: a read-only subvolume cannot leave its directory.
                staging = f"{folder}/.{self.make_staging_path(name).rpartition('/')[2]}"
                try:
                    # Read-only ones outside are others' snapshots, such as snapper's: not data.
                    whole = not layout.is_outside(dataset)
                    self.copy(source, staging, readonly=True, with_frozen=whole)
                    trace.point("snapshot:staged")
                    self._place(staging, target)
                except BaseException:
                    self.discard(staging)
                    raise
        finally:
            os.close(source)

    def copy(
        self, source: int, target: str, *, readonly: bool, with_frozen: bool = True
    ) -> None:  # fmt: skip
        parent, _, short = target.rpartition("/")
        folder = btrfs.open_directory(parent)
        try:
            self.changes += copy_tree(
                source, folder, short, readonly=readonly, with_frozen=with_frozen
            )
            if btrfs.find_limit(source, btrfs.get_info(source).tree_id) is not None:
                from strata.storage import btrfs_quota

                btrfs_quota.drop_inherited(self, folder, short)
        finally:
            os.close(folder)

    def rollback(self, snapshot: str) -> None:
        from strata.storage import btrfs_heads

        with Doing(snapshot):
            btrfs_heads.rollback(self, snapshot)

    def rename(self, name: str, new: str) -> None:
        if "@" in name:
            self._rename_snapshot(name, new)
            return
        layout.check_made(name)
        layout.check_made(new)
        if layout.is_outside(name) != layout.is_outside(new):
            raise StorageError(f"{name} cannot become {new}: it would leave its pool")
        with Doing(name):
            os.close(self.open_dataset(name))
        with Doing(new):
            self._rename(self.get_path(name), self.get_path(new))
        self.changes += 1

    def _rename(self, path: str, new: str) -> None:
        try:
            self._place(path, new)
        except OSError as error:
            if error.errno != 122:
                raise
            from strata.storage import btrfs_quota

            # A rename writes the subvolume's own time, for which a full one has no room.
            fd = btrfs.open_directory(path)
            try:
                with btrfs_quota.Lifted(self, fd):
                    self._place(path, new)
            finally:
                os.close(fd)

    def _rename_snapshot(self, name: str, new: str) -> None:
        dataset, _ = layout.check_snapshot(name)
        dataset_new, short = layout.check_snapshot(new)
        if dataset != dataset_new:
            raise StorageError(f"{name} cannot become a snapshot of {dataset_new}")
        from strata.linux.renames import rename_new

        with Doing(name):
            path = self.get_snapshot_path(name)
            os.lstat(path)
        with Doing(new):
            rename_new(path, f"{path.rpartition('/')[0]}/{short}")
        self.changes += 1

    def promote(self, name: str) -> None:
        from strata.storage import btrfs_heads

        with Doing(name):
            btrfs_heads.promote(self, name)

    def destroy(self, name: str) -> None:
        if "@" in name:
            with Doing(name):
                destroy_tree(self.get_snapshot_path(name))
            self.changes += 1
            return
        if layout.is_outside(name):
            layout.check_made(name)
        with Doing(name):
            folder = self.find_folder(name)
            names = [entry for entry in self.list_entries(folder) if not entry.startswith(".")]
            if names:
                raise HasDependants(
                    f"{name} has snapshots: {', '.join(sorted(names)[:5])}",
                    [f"{name}@{entry}" for entry in sorted(names)],
                    hint="destroy its snapshots first",
                )
            destroy_tree(self.get_path(name))
            self.remove_folder(folder)
        self.changes += 1

    def destroy_recursive(self, name: str) -> None:
        if layout.is_outside(name):
            layout.check_made(name)
        with Doing(name):
            folder = self.find_folder(name)
            # The head first: when this is cut short the name is gone, and what is left has no
            # dataset any more and is found by `collect`.
            destroy_tree(self.get_path(name))
            for entry in self.list_entries(folder):
                trace.point("destroy:head-gone")
                destroy_tree(f"{folder}/{entry}")
            self.remove_folder(folder)
        self.changes += 1

    def discard(self, path: str) -> None:
        """Delete something unfinished; what resists is left to `collect`."""
        try:
            destroy_tree(path)
        except (OSError, StorageError):
            pass

    def remove_folder(self, folder: str) -> None:
        try:
            os.rmdir(folder)
        except (FileNotFoundError, OSError):
            pass

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        with Doing(name):
            fd = self.open_dataset(name)
            try:
                native: dict[str, str] = {}
                for key, value in properties.items():
                    prefix, separator, own = key.partition(":")
                    if not separator:
                        native[key] = value
                    elif prefix != "strata" or own not in layout.IDENTITY_KEYS:
                        raise StorageError(f"the property {key} cannot be set")
                    else:
                        self.set_own(fd, f"{_PREFIX}{own}", os.fsencode(value))
                if native:
                    self._set_native(fd, native)
            finally:
                os.close(fd)
        self.changes += 1

    def set_own(self, fd: int, key: str, value: bytes) -> None:
        """Set an attribute of ours on a dataset, also on one that is full by its limit."""
        try:
            os.setxattr(fd, key, value)
        except OSError as error:
            if error.errno != 122:
                raise
            from strata.storage import btrfs_quota

            with btrfs_quota.Lifted(self, fd):
                os.setxattr(fd, key, value)

    def _set_native(self, fd: int, properties: Mapping[str, str]) -> None:
        from strata.storage.btrfs_native import set_native

        set_native(self, fd, properties)

    # -- reading -------------------------------------------------------------------------------

    def get(self, name: str) -> Dataset:
        with Doing(name):
            fd = self.open_any(name)
            try:
                return self._read(name, fd)
            finally:
                os.close(fd)

    def find_guid(self, name: str) -> str | None:
        try:
            with Doing(name):
                fd = self.open_any(name)
                try:
                    return self.get_guid(fd)
                finally:
                    os.close(fd)
        except DatasetNotFound:
            return None

    def list_datasets(self, parent: str) -> list[Dataset]:
        found: list[Dataset] = []
        with Doing(parent):
            with os.scandir(self.get_path(parent) if parent else self.pool) as entries:
                names = [entry.name for entry in entries
                         if entry.name[0] != "." and (
                             entry.inode() == btrfs.ROOT_INODE
                             or entry.is_dir(follow_symlinks=False))]  # fmt: skip
            for short in sorted(names):
                name = f"{parent}/{short}" if parent else short
                try:
                    fd = self.open_dataset(name)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # a plain directory, or gone since
                try:
                    found.append(self._read(name, fd))
                finally:
                    os.close(fd)
        return found

    def list_snapshots(self, name: str) -> list[Snapshot]:
        with Doing(name):
            folder = self.find_folder(name)
            found: list[tuple[int, int, Snapshot]] = []
            for short in self.list_entries(folder):
                info = self._find_info(f"{folder}/{short}")
                if info is not None and not short.startswith("."):
                    entry = Snapshot(name, short, info.uuid, info.created_in, info.creation)
                    found.append((info.created_in, info.tree_id, entry))
        return [entry for _, _, entry in sorted(found, key=lambda item: item[:2])]

    def find_snapshot(self, name: str, short: str) -> Snapshot | None:
        with Doing(name):
            folder = self.find_folder(name)
            info = self._find_info(f"{folder}/{short}")
        if info is None or not short or short[0] == "." or "/" in short:
            return None
        return Snapshot(name, short, info.uuid, info.created_in, info.creation)

    @staticmethod
    def _find_info(path: str) -> btrfs.SubvolumeInfo | None:
        try:
            fd = btrfs.open_directory(path)
        except FileNotFoundError:
            return None
        try:
            return btrfs.get_info(fd)
        finally:
            os.close(fd)

    def get_properties(self, name: str, keys: Sequence[str]) -> dict[str, str]:
        from strata.storage.btrfs_native import find_native

        found: dict[str, str] = {}
        with Doing(name):
            fd = self.open_dataset(name)
            try:
                own = self.read_identity(fd, btrfs.get_info(fd).uuid)
                for key in keys:
                    mine = key.startswith("strata:")
                    value = own.get(key[7:]) if mine else find_native(self, fd, key)
                    if value is not None:
                        found[key] = value
            finally:
                os.close(fd)
        return found

    def get_usage(self, name: str) -> Usage:
        with Doing(name):
            fd = self.open_any(name)
            try:
                quota = btrfs.find_quota(fd, btrfs.get_info(fd).tree_id)
            finally:
                os.close(fd)
        if quota is None:
            return Usage(None, None, None, None)
        return Usage(quota[1], quota[0], None, None)

    def measure(self, name: str) -> Usage:
        from strata.storage import btrfs_space

        with Doing(name):
            return btrfs_space.measure(self, name)

    def survey(self) -> Shares:
        from strata.storage import btrfs_space

        with Doing("pool"):
            return btrfs_space.survey(self)

    def count_referenced(self, name: str) -> int:
        from strata.storage import btrfs_quota

        with Doing(name):
            fd = self.open_any(name)
            try:
                return btrfs_quota.count_referenced(self, fd)
            finally:
                os.close(fd)

    def is_freeing(self) -> bool:
        with Doing("pool"):
            fd = btrfs.open_directory(self.pool)
            try:
                return btrfs.is_cleaning(fd)
            finally:
                os.close(fd)

    def settle_counting(self) -> bool:
        from strata.storage import btrfs_quota

        with Doing("pool"):
            return btrfs_quota.settle_counting(self)

    def get_pool_space(self, near: str = "") -> PoolSpace:
        with Doing(near or "pool"):
            state = os.statvfs(near or self.pool)
        return PoolSpace(state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)

    # -- files ---------------------------------------------------------------------------------

    def prepare_mount(self, name: str) -> MountStep:
        """A bind of the dataset with set-uid programs and devices allowed, as a container's root
        needs; the pool itself is mounted without."""
        from strata.linux import mount

        readonly = mount.MOUNT_ATTR_RDONLY if "@" in name else 0
        return mount.MountStep(self.open(name), "", add=readonly,
                               clear=mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV)  # fmt: skip

    def open(self, name: str) -> str:
        with Doing(name):
            path = self.get_snapshot_path(name) if "@" in name else self.get_path(name)
            if os.lstat(path).st_ino != btrfs.ROOT_INODE:
                raise DatasetNotFound(f"{name}: no such dataset")
        return path

    def close(self, name: str) -> None:
        """Nothing: the pool is mounted as a whole."""

    # -- outside the root dataset --------------------------------------------------------------

    @property
    def outside(self) -> BtrfsOutside:
        from strata.storage.btrfs_outside import BtrfsOutside

        return BtrfsOutside(self)

    # -- the store -----------------------------------------------------------------------------

    def is_attached(self) -> bool:
        """Whether the marker of this store is in reach: one file read."""
        from strata.storage.marker import read_marker

        return read_marker(f"{self.pool}/{MARKER}") == self.store_id

    def attach(self) -> None:
        if not self.is_attached():
            from strata.storage import btrfs_pool

            btrfs_pool.attach(self)

    def detach(self) -> None:
        from strata.storage import btrfs_pool

        btrfs_pool.detach(self)

    def sync(self) -> None:
        with Doing("pool"):
            fd = btrfs.open_directory(self.pool)
            try:
                btrfs.sync(fd)
            finally:
                os.close(fd)
        self.changes += 1

    def collect(self) -> list[str]:
        """Remove what killed commands left: staged subvolumes, snapshots without a dataset.

        Returns the paths removed, relative to the pool. Safe beside running commands.
        """
        from strata.storage import btrfs_collect

        with Doing("pool"):
            return btrfs_collect.collect(self)

    def describe(self) -> dict[str, object]:
        space = self.get_pool_space()
        return {
            "driver": self.name, "flavour": self.flavour, "kernel": os.uname().release,
            "pool": self.pool, "file": self.file, "size": space.size, "free": space.free,
            "facts": self.facts.to_dict(),
        }  # fmt: skip

    # -- inside --------------------------------------------------------------------------------

    def open_dataset(self, name: str) -> int:
        """A descriptor of a dataset; FileNotFoundError when there is no subvolume there."""
        if not name or name.startswith("."):
            raise FileNotFoundError(2, "no such dataset")
        fd = btrfs.open_directory(self.get_path(name))
        if btrfs.is_subvolume(fd):
            return fd
        os.close(fd)
        raise FileNotFoundError(2, "not a dataset")

    def open_any(self, name: str) -> int:
        if "@" in name:
            return btrfs.open_directory(self.get_snapshot_path(name))
        return self.open_dataset(name)

    def get_path(self, name: str) -> str:
        """Where a dataset is."""
        return name if layout.is_outside(name) else f"{self.pool}/{name}"

    def get_folder(self, guid: str, dataset: str = "") -> str:
        """Where the snapshots of a dataset are, by its GUID."""
        if layout.is_outside(dataset):
            return f"{os.path.dirname(dataset)}/{BESIDE}/snapshots/{guid}"
        return f"{self.pool}/{SNAPSHOTS}/{guid}"

    @staticmethod
    def ensure_beside(dataset: str) -> None:
        """Make the directories beside a dataset outside. Idempotent."""
        top = f"{os.path.dirname(dataset)}/{BESIDE}"
        for folder in (top, f"{top}/snapshots", f"{top}/staging"):
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue

    def find_folder(self, name: str) -> str:
        """Where a dataset's snapshots are; FileNotFoundError when there is none."""
        fd = self.open_dataset(name)
        try:
            return self.get_folder(self.get_guid(fd), name)
        finally:
            os.close(fd)

    def get_snapshot_path(self, name: str) -> str:
        dataset, short = layout.check_snapshot(name)
        return f"{self.find_folder(dataset)}/{short}"

    def get_guid(self, fd: int) -> str:
        """The GUID of a dataset: the one noted on it, where the note is its own."""
        uuid = btrfs.get_info(fd).uuid
        if self.read_attribute(fd, _SELF) == uuid:
            return self.read_attribute(fd, _GUID) or uuid
        return uuid

    @staticmethod
    def read_attribute(fd: int, key: str) -> str:
        try:
            return os.fsdecode(os.getxattr(fd, key))
        except OSError as error:
            if error.errno == 61:  # ENODATA
                return ""
            raise

    @staticmethod
    def read_attribute_of(path: str, key: str) -> str:
        try:
            return os.fsdecode(os.getxattr(path, key))
        except OSError:
            return ""

    def read_identity(self, fd: int, uuid: str) -> dict[str, str]:
        """Identity, empty when it is a copy from elsewhere."""
        own: dict[str, str] = {}
        for key in os.listxattr(fd):
            if key.startswith(_PREFIX):
                own[key[len(_PREFIX) :]] = os.fsdecode(os.getxattr(fd, key))
        if own.get("self") != uuid:
            return {}
        return {key: value for key, value in own.items() if key not in _INTERNAL}

    def _read(self, name: str, fd: int) -> Dataset:
        info = btrfs.get_info(fd)
        identity = self.read_identity(fd, info.uuid)
        guid, origin = info.uuid, ""
        if self.read_attribute(fd, _SELF) == info.uuid:
            guid = self.read_attribute(fd, _GUID) or guid
            origin = self.read_attribute(fd, ORIGIN)
        return Dataset(
            name, guid, info.created_in, info.creation,
            self._find_snapshot_name(origin, name) if origin else None, identity,
        )  # fmt: skip

    def _find_snapshot_name(self, uuid: str, near: str) -> str | None:
        if layout.is_outside(near):
            return self.outside.find_snapshot_name(uuid, near)
        from strata.storage.btrfs_heads import trace_snapshot

        found = trace_snapshot(self, uuid)
        return f"{found[0]}@{found[1]}" if found else None

    @staticmethod
    def list_entries(folder: str) -> Iterator[str]:
        try:
            return iter(sorted(os.listdir(folder)))
        except FileNotFoundError:
            return iter(())

    def make_staging_path(self, near: str = "") -> str:
        """A fresh path in the staging directory, that of the pool or the one beside a dataset
        outside. It names its owner, so that others can see when the owner is gone."""
        if not self._owner.startswith(f"{os.getpid()}-"):
            from strata.linux.process import find_start_time

            self._owner = f"{os.getpid()}-{find_start_time(os.getpid())}-{os.urandom(3).hex()}"
        self._staging_number += 1
        folder = f"{self.pool}/{STAGING}"
        if layout.is_outside(near):
            self.ensure_beside(near)
            folder = f"{os.path.dirname(near)}/{BESIDE}/staging"
        return f"{folder}/{self._owner}-{self._staging_number}"
