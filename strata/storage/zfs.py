"""The ZFS driver: the ``zfs`` command of OpenZFS, or of zfs-fuse, over one root dataset.

Identity is given in the creating command as user properties ``strata:KEY``. User properties are
inherited by children and copied by no one, so they are believed only with source ``local`` (set
here) or ``received``. Each changing command waits for a transaction group; `Zfs.changes` counts
them. Names given and returned are relative to the root dataset; ``/tank/photos`` is the dataset
``tank/photos``, outside.

On OpenZFS datasets have ``mountpoint=legacy`` and are mounted with mount(2), in whatever namespace
wants them. zfs-fuse mounts in its daemon's namespace, below ``<root>/fuse``, and is bound from
there; it cannot show a snapshot's files, so `Zfs.open` of one makes a clone until `Zfs.close`.
"""

from __future__ import annotations

import os
import time

from strata import command, jsontext
from strata.errors import CommandFailed, NoSpace, StorageError, StoreMissing
from strata.linux import mount
from strata.linux.mount import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MountStep,
)
from strata.storage import layout
from strata.storage.driver import (
    Dataset,
    DatasetBusy,
    DatasetExists,
    DatasetNotFound,
    Driver,
    HasDependants,
    PoolSpace,
    Snapshot,
    Usage,
)
from strata.storage.marker import read_marker
from strata.storage.zfs_dialect import ParentMissing, classify, get_dialect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from strata.command import Result
    from strata.storage.zfs_outside import ZfsOutside

STORE_PROPERTY = "strata:store"
FORMAT_PROPERTY = "strata:format"
MARKER = ".strata-store"
"""Copy of the marker in the ``records`` dataset: seen without starting a program when mounted."""

_BELIEVED = frozenset({"local", "received"})
_SOURCES = {"LOCAL": "local", "RECEIVED": "received", "INHERITED": "inherited",
            "DEFAULT": "default", "TEMPORARY": "temporary"}  # fmt: skip
_READ = ("type", "guid", "createtxg", "creation", "origin",
         *(f"strata:{key}" for key in layout.IDENTITY_KEYS))  # fmt: skip

# zfs-fuse learns of an unmount when the kernel's FORGET message reaches its daemon: milliseconds
# after umount(2) returned, more under load.
_SETTLE_SECONDS = 5.0
_SETTLE_PAUSE = 0.01

_MAX_OPEN_TRIES = 3


class Zfs(Driver):
    """Datasets below ``dataset``, e.g. ``tank/strata``; ``file`` when the pool is ours."""

    name = "zfs"

    def __init__(
        self, root: str, store_id: str, dataset: str, dialect: str, *, file: str | None = None,
        version: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self.store_id = store_id
        self.dataset = dataset
        self.dialect = get_dialect(dialect, version)
        self.facts = self.dialect.facts
        self.flavour = self.dialect.name
        self.file = file
        self.changes = 0

    # -- running -------------------------------------------------------------------------------

    def full_name(self, name: str) -> str:
        if name[:1] == "/":
            return name[1:]
        return f"{self.dataset}/{name}" if name else self.dataset

    def _relative(self, full: str) -> str:
        """A name below the root dataset; names elsewhere in the pool stay as they are, with a
        leading ``/``."""
        inside = full.removeprefix(f"{self.dataset}/")
        return inside if inside != full else f"/{full}"

    def change(self, *arguments: str) -> Result:
        self.changes += 1
        try:
            return command.run(["zfs", *arguments], classify=classify)
        except HasDependants as error:
            error.dependants = [self._relative(name) for name in error.dependants]
            raise

    def change_settled(self, name: str, *arguments: str) -> Result:
        """A change that zfs-fuse calls busy for a moment after an unmount it has not seen yet; a
        rollback that meets the unmount half way is an I/O error to it.

        Waited for only while no process of any namespace has the dataset mounted: then nothing
        but that message is missing. Otherwise busy is the answer.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            try:
                return self.change(*arguments)
            except (DatasetBusy, CommandFailed) as error:
                if isinstance(error, CommandFailed) and "I/O error" not in error.stderr:
                    raise
                late = time.monotonic() >= deadline
                if self.dialect.kernel or late or is_mounted_anywhere(self.full_name(name)):
                    raise
                self.changes -= 1
                time.sleep(_SETTLE_PAUSE)

    def _values(self, *arguments: str) -> dict[str, dict[str, tuple[str, str]]]:
        """``zfs get -p``: name, then property, to value and source."""
        if self.dialect.json:
            try:
                answer = command.run(["zfs", "get", "-jp", *arguments], classify=classify)
                return parse_json(answer.text)
            except CommandFailed as error:
                if "invalid option" not in error.stderr:
                    raise
                self.dialect.json = False  # programs older than the module
        result = command.run(
            ["zfs", "get", "-Hp", "-o", "name,property,value,source", *arguments],
            classify=classify,
        )
        return parse_values(result.text)

    # -- changing ------------------------------------------------------------------------------

    def _options(
        self, identity: Mapping[str, str], properties: Mapping[str, str] | None, unfinished: bool
    ) -> list[str]:
        layout.check_identity(identity)
        options = list(self.dialect.create_options)
        # OpenZFS sets properties of a new dataset in a second transaction group.
        if not (unfinished and self.dialect.kernel):
            for key, value in identity.items():
                options += ["-o", f"strata:{key}={value}"]
        for key, value in (properties or {}).items():
            options += ["-o", f"{key}={value}"]
        return options

    def create(
        self, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        layout.check_made(name)
        options = self._options(identity, properties, unfinished)
        if layout.is_outside(name):
            options += self.outside.list_options(name)
        self._with_parents(name, "create", *options, self.full_name(name))
        return self.get(name)

    def clone(
        self, snapshot: str, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        dataset, _ = layout.check_snapshot(snapshot)
        layout.check_made(name)
        first: list[str] = []
        last: list[str] = []
        if layout.is_outside(name):
            first = self.outside.list_inherited(dataset, properties or {})
            last = self.outside.list_options(name)
        try:
            options = self._options(identity, properties, unfinished)
            self._clone(snapshot, name, [*first, *options, *last])
        except NoSpace:
            fitting = self._fit_limit(snapshot, properties)
            if fitting is None:
                raise
            options = self._options(identity, fitting, unfinished)
            self._clone(snapshot, name, [*first, *options, *last])
        return self.get(name)

    def _clone(self, snapshot: str, name: str, options: list[str]) -> None:
        self._with_parents(name, "clone", *options, self.full_name(snapshot), self.full_name(name))

    def _fit_limit(
        self, snapshot: str, properties: Mapping[str, str] | None
    ) -> dict[str, str] | None:  # fmt: skip
        """For a clone of what was full: a ``refquota`` of what it holds; None when that is not
        why it cannot be made. `NoSpace` when it holds more than a limit can mean."""
        limit = (properties or {}).get("refquota", "none")
        held = self.get_usage(snapshot).referenced or 0
        if limit == "none" or held <= int(limit):
            return None
        from strata.storage.properties import is_near

        if not is_near(int(limit), held):
            raise NoSpace(f"{snapshot} holds {held} bytes, more than the limit of {limit}",
                          hint="raise the limit first")  # fmt: skip
        return {**(properties or {}), "refquota": str(held + (held >> 7))}

    def _with_parents(self, name: str, *arguments: str) -> None:
        """Run a naming command; when the parents of the name are missing, make them first.

        Parents are rare, so asking before would cost a program for nothing.
        """
        try:
            self.change(*arguments)
        except ParentMissing:
            self._make_parents(name)
            self.change(*arguments)

    def _make_parents(self, name: str) -> None:
        if layout.is_outside(name):
            raise DatasetNotFound(f"{name}: what it would lie in is not there")
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = "/".join(parts[:depth])
            try:
                self.change("create", *self.dialect.create_options, self.full_name(parent))
            except DatasetExists:
                continue

    def snapshot(self, names: Sequence[str]) -> None:
        for name in names:
            layout.check_snapshot(name)
        if not names:
            return
        groups: dict[str, list[str]] = {}
        for name in names:  # one transaction is of one pool
            pool = self.full_name(name).partition("/")[0]
            groups.setdefault(pool if self.facts.atomic_set else name, []).append(name)
        made: list[str] = []
        try:
            for group in groups.values():
                self.change("snapshot", *(self.full_name(name) for name in group))
                made += group
        except BaseException:
            for name in reversed(made):
                self.change("destroy", self.full_name(name))
            raise

    def rollback(self, snapshot: str) -> None:
        dataset, _ = layout.check_snapshot(snapshot)
        layout.check_made(dataset)
        if not self.dialect.kernel:
            self.close(dataset)  # the daemon would unmount it below our bind
        self.change_settled(dataset, "rollback", self.full_name(snapshot))

    def rename(self, name: str, new: str) -> None:
        if "@" in name:
            if layout.check_snapshot(name)[0] != layout.check_snapshot(new)[0]:
                raise StorageError(f"{name} cannot become {new}: a snapshot keeps its dataset")
            self._rename_snapshot(name, new)
            return
        layout.check_made(name)
        layout.check_made(new)
        if layout.is_outside(name) != layout.is_outside(new):
            raise StorageError(f"{name} cannot become {new}: it would leave its pool")
        # Where a dataset in use can be renamed, our own mount is no reason against it either.
        self._close_with_snapshots(name, lazy=self.facts.rename_busy)
        verb = self.dialect.rename
        try:
            self.change_settled(name, *verb, self.full_name(name), self.full_name(new))
        except ParentMissing:
            self._make_parents(new)
            self.change_settled(name, *verb, self.full_name(name), self.full_name(new))

    def _rename_snapshot(self, name: str, new: str) -> None:
        try:
            self.change("rename", self.full_name(name), self.full_name(new))
        except (DatasetBusy, CommandFailed):
            # zfs-fuse mounts the dataset anew after the renaming, which fails while our binds
            # show it; they go on showing it, and the snapshot has its new name.
            if self.dialect.kernel or self.find(new) is None:
                raise

    def promote(self, name: str) -> None:
        layout.check_inside(name)
        self.change("promote", self.full_name(name))

    def finish(
        self, name: str, identity: Mapping[str, str], *, snapshot: str = "", promote: bool = False
    ) -> None:
        if self.dialect.kernel:
            from strata.storage import zfs_program

            if zfs_program.finish(self, name, identity, snapshot, promote):
                return
            self.set_properties(name, {f"strata:{key}": identity[key] for key in identity})
        super().finish(name, identity, snapshot=snapshot, promote=promote)

    def destroy(self, name: str) -> None:
        if "@" in name:
            layout.check_snapshot(name)
            self.close(name)
            self.change("destroy", self.full_name(name))
            return
        self.close(layout.check_made(name))
        self.change_settled(name, "destroy", self.full_name(name))

    def destroy_recursive(self, name: str) -> None:
        self._close_with_snapshots(layout.check_made(name))
        try:
            self.change_settled(name, "destroy", "-r", self.full_name(name))
        except HasDependants:
            if self.dialect.kernel:
                raise
            from strata.storage import zfs_fuse

            if not zfs_fuse.close_views(self, name):
                raise
            self.change_settled(name, "destroy", "-r", self.full_name(name))

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        for key, value in properties.items():
            if ":" in key and key not in {f"strata:{own}" for own in layout.IDENTITY_KEYS}:
                raise StorageError(f"the property {key} cannot be set")
            if self.dialect.kernel:
                continue
            self.change("set", f"{key}={value}", self.full_name(name))
        if self.dialect.kernel and properties:
            settings = [f"{key}={value}" for key, value in properties.items()]
            self.change("set", *settings, self.full_name(name))

    # -- reading -------------------------------------------------------------------------------

    def get(self, name: str) -> Dataset:
        full = self.full_name(name)
        return self._parse(full, self._values(",".join(_READ), full)[full])

    def _parse(self, full: str, values: Mapping[str, tuple[str, str]]) -> Dataset:
        def number(key: str) -> int:
            text = values.get(key, ("", ""))[0]
            return int(text) if text.isdecimal() else 0

        origin = values.get("origin", ("-", ""))[0]
        identity = {
            key.removeprefix("strata:"): value
            for key, (value, source) in values.items()
            if key.startswith("strata:") and source in _BELIEVED
        }
        return Dataset(
            self._relative(full), values["guid"][0], number("createtxg"), number("creation"),
            self._relative(origin) if origin not in {"-", ""} else None,
            {} if "@" in full else identity,
        )  # fmt: skip

    def list_datasets(self, parent: str) -> list[Dataset]:
        full = self.full_name(parent)
        kinds = ["-t", "filesystem"] if self.dialect.tagged_list else []
        found = self._values("-d", "1", *kinds, ",".join(_READ), full)
        return [
            self._parse(name, values)
            for name, values in sorted(found.items())
            if name != full and "@" not in name and values["type"][0] == "filesystem"
        ]

    def list_snapshots(self, name: str) -> list[Snapshot]:
        full = self.full_name(name)
        wanted = "guid,createtxg,creation," + ("clones" if self.dialect.kernel else "numclones")
        kinds = ["-t", "snapshot"] if self.dialect.tagged_list else []
        found = self._values("-d", "1", *kinds, wanted, full)
        snapshots: list[Snapshot] = []
        for entry, values in found.items():
            dataset, separator, short = entry.partition("@")
            if not separator or dataset != full:
                continue
            snapshots.append(Snapshot(
                name, short, values["guid"][0], int(values["createtxg"][0]),
                int(values["creation"][0]), self._parse_clones(values.get("clones")),
            ))  # fmt: skip
        if not self.dialect.kernel and any(
            values.get("numclones", ("-",))[0] not in {"-", "0"} for values in found.values()
        ):
            self._find_clones(snapshots)
        return sorted(snapshots, key=lambda entry: (entry.createtxg, entry.name))

    def _parse_clones(self, value: tuple[str, str] | None) -> list[str]:
        if value is None or value[0] in {"-", ""}:
            return []
        return sorted(self._relative(name) for name in value[0].split(","))

    def _find_clones(self, snapshots: list[Snapshot]) -> None:
        """zfs-fuse counts clones but does not name them: look where the store keeps datasets."""
        parents = [self.full_name(parent) for parent in layout.PARENTS]
        dataset = snapshots[0].dataset
        if layout.is_outside(dataset):
            parents = [self.full_name(dataset).rpartition("/")[0]]
        result = command.run(
            ["zfs", "list", "-H", "-d", "1", "-o", "name,origin", "-t", "filesystem", *parents],
            classify=classify,
        )
        by_origin: dict[str, list[str]] = {}
        for line in result.text.splitlines():
            name, _, origin = line.partition("\t")
            by_origin.setdefault(self._relative(origin), []).append(self._relative(name))
        for snapshot in snapshots:
            snapshot.clones = sorted(by_origin.get(snapshot.full_name, []))

    def get_properties(self, name: str, keys: Sequence[str]) -> dict[str, str]:
        full = self.full_name(name)
        values = self._values(",".join(keys), full)[full]
        return {key: value for key, (value, _) in values.items() if value != "-"}

    def get_usage(self, name: str) -> Usage:
        full = self.full_name(name)
        wanted = "used,referenced,compressratio" + (",logicalused" if self.dialect.kernel else "")
        values = self._values(wanted, full)[full]

        def number(key: str) -> int | None:
            text = values.get(key, ("", ""))[0]
            return int(text) if text.isdecimal() else None

        ratio = values.get("compressratio", ("", ""))[0].rstrip("x")
        return Usage(
            number("used"), number("referenced"), number("logicalused"),
            float(ratio) if ratio.replace(".", "", 1).isdecimal() else None,
        )  # fmt: skip

    def get_written(self, name: str, snapshot: str) -> int | None:
        if not self.dialect.kernel:
            return None
        text = self.get_properties(name, [f"written@{snapshot}"]).get(f"written@{snapshot}", "")
        return int(text) if text.isdecimal() else None

    def estimate_destroy(self, name: str) -> int | None:
        if not self.dialect.kernel:
            return None
        recursive = [] if "@" in name else ["-r"]
        argv = ["zfs", "destroy", "-nvp", *recursive, self.full_name(name)]
        for line in command.run(argv, check=False).text.splitlines():
            key, _, value = line.partition("\t")
            if key == "reclaim" and value.isdecimal():
                return int(value)
        return None

    def get_pool_space(self, near: str = "") -> PoolSpace:
        full = self.full_name(near)
        values = self._values("used,available", full)[full]
        used, free = int(values["used"][0]), int(values["available"][0])
        return PoolSpace(used + free, free)

    # -- files ---------------------------------------------------------------------------------

    def _place(self, name: str) -> str:
        return f"{self.root}/mnt/{layout.flatten(name)}"

    def prepare_mount(self, name: str) -> MountStep:
        readonly = MOUNT_ATTR_RDONLY if "@" in name else 0
        if self.dialect.kernel:
            return MountStep(self.full_name(name), "", fstype="zfs", add=readonly)
        return MountStep(self.open(name), "", add=readonly,
                         clear=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)  # fmt: skip

    def open(self, name: str) -> str:
        target = self._place(name)
        for _ in range(_MAX_OPEN_TRIES):
            if is_mounted(target):
                return target
            os.makedirs(target, 0o700, exist_ok=True)
            try:
                self._mount(name, target)
            except FileNotFoundError as error:
                if os.path.isdir(target):
                    os.rmdir(target)
                    raise DatasetNotFound(f"{name}: no such dataset") from error
                # another command closed it and took the directory away between our two steps
            except DatasetNotFound:
                os.rmdir(target)
                raise
        if is_mounted(target):
            return target
        raise DatasetBusy(f"{name}: cannot be mounted, it is opened and closed all the time")

    def _mount(self, name: str, target: str) -> None:
        if not self.dialect.kernel:
            from strata.storage import zfs_fuse

            zfs_fuse.open_dataset(self, name, target)
            return
        flags = mount.MS_NOSUID | mount.MS_NODEV | (mount.MS_RDONLY if "@" in name else 0)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            try:
                mount.mount(self.full_name(name), target, "zfs", flags)
                return
            except OSError as error:
                if error.errno == 2:
                    raise
                if error.errno != 16:
                    raise StorageError(f"cannot mount {name}: {error.strerror}") from error
                if is_mounted(target):
                    return  # another command was first
                # Between two mounts of one moment the first owns the dataset until it is done;
                # the second may then share it. A receive owns it for longer.
                if time.monotonic() >= deadline:
                    raise DatasetBusy(f"{name}: dataset is busy") from error
                time.sleep(_SETTLE_PAUSE)

    def close(self, name: str) -> None:
        self._leave(name)
        if not self.dialect.kernel:
            from strata.storage import zfs_fuse

            zfs_fuse.close_dataset(self, name)

    def _leave(self, name: str, *, lazy: bool = False) -> None:
        """Take our mount away; ``lazy`` leaves it to those who still have files open."""
        target = self._place(name)
        if not os.path.lexists(target):
            return
        while is_mounted(target):
            try:
                mount.unmount(target, lazy=lazy)
            except OSError as error:
                if error.errno == 16:
                    raise DatasetBusy(f"{name}: files of it are open") from error
                if error.errno != 22:  # EINVAL: another command unmounted it
                    raise
        try:
            os.rmdir(target)
        except FileNotFoundError:
            pass

    def _close_with_snapshots(self, name: str, *, lazy: bool = False) -> None:
        """Close a dataset and what is open of its snapshots: their names are about to end."""
        prefix = f"{layout.flatten(name)}@"
        try:
            opened = [entry for entry in os.listdir(f"{self.root}/mnt") if entry.startswith(prefix)]
        except FileNotFoundError:
            opened = []
        for target in (name, *(f"{name}@{entry[len(prefix) :]}" for entry in opened)):
            if lazy:
                self._leave(target, lazy=True)
            else:
                self.close(target)

    # -- outside the root dataset --------------------------------------------------------------

    @property
    def outside(self) -> ZfsOutside:
        from strata.storage.zfs_outside import ZfsOutside

        return ZfsOutside(self)

    # -- moving --------------------------------------------------------------------------------

    def send(
        self, snapshot: str, output: int, since: str | None = None, *, raw: bool = False
    ) -> None:
        self._streams("send").send(self, snapshot, output, since, raw)

    def resume_send(self, token: str, output: int) -> None:
        self._streams("send_resume").resume_send(token, output)

    def receive(
        self, name: str, input: int, identity: Mapping[str, str] | None = None, *,
        resumable: bool = False,
    ) -> None:  # fmt: skip
        self._streams("send").receive(self, name, input, identity or {}, resumable)

    def find_resume_token(self, name: str) -> str | None:
        token: str | None = self._streams("send_resume").find_resume_token(self, name)
        return token

    def abort_receive(self, name: str) -> None:
        self._streams("send_resume").abort_receive(self, name)

    def hold(self, snapshot: str, tag: str) -> None:
        self._streams("holds").hold(self, snapshot, tag)

    def release(self, snapshot: str, tag: str) -> None:
        self._streams("holds").release(self, snapshot, tag)

    def list_holds(self, snapshot: str) -> list[str]:
        tags: list[str] = self._streams("holds").list_holds(self, snapshot)
        return tags

    def bookmark(self, snapshot: str, bookmark: str) -> None:
        self._streams("bookmarks").bookmark(self, snapshot, bookmark)

    def list_bookmarks(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self._streams("bookmarks").list_bookmarks(self, name)
        return found

    def destroy_bookmark(self, bookmark: str) -> None:
        self._streams("bookmarks").destroy_bookmark(self, bookmark)

    def _streams(self, fact: str) -> ModuleType:
        """The module for what few commands need; `Unsupported` when the dialect lacks it."""
        if not getattr(self.facts, fact):
            raise self.lacks(fact)
        from strata.storage import zfs_streams

        return zfs_streams

    # -- the store -----------------------------------------------------------------------------

    def is_attached(self) -> bool:
        """Whether the marker of this store is in reach: one file read on ``records``."""
        return read_marker(f"{self._place('records')}/{MARKER}") == self.store_id

    def attach(self) -> None:
        if not self.is_attached():
            from strata.storage import zfs_pool

            zfs_pool.attach(self)

    def detach(self) -> None:
        from strata.storage import zfs_pool

        zfs_pool.detach(self)

    def check_marker(self) -> None:
        """Raise `StoreMissing` unless the root dataset itself carries this store's marker."""
        from strata.storage.marker import check_format

        try:
            values = self._values(f"{STORE_PROPERTY},{FORMAT_PROPERTY}", self.dataset)
        except DatasetNotFound as error:
            raise StoreMissing(f"the dataset {self.dataset} of the store is not there",
                               hint="import its pool") from error  # fmt: skip
        found, source = values[self.dataset].get(STORE_PROPERTY, ("-", "-"))
        if found != self.store_id or source not in _BELIEVED:
            raise StoreMissing(f"{self.dataset} does not hold the store of {self.root}",
                               hint="another store took its place")  # fmt: skip
        number = values[self.dataset].get(FORMAT_PROPERTY, ("", ""))[0]
        check_format(int(number) if number.isdecimal() else number, self.dataset)

    def collect(self) -> list[str]:
        """Nothing is staged on ZFS but the clones zfs-fuse shows snapshots by."""
        if self.dialect.kernel:
            return []
        from strata.storage import zfs_fuse

        return zfs_fuse.collect(self)

    def describe(self) -> dict[str, object]:
        space = self.get_pool_space()
        version = ""
        if self.dialect.kernel:
            version = command.run(["zfs", "version"], check=False).text.replace("\n", " ").strip()
        return {
            "driver": self.name, "flavour": self.flavour, "version": version or "zfs-fuse",
            "dataset": self.dataset, "file": self.file, "size": space.size, "free": space.free,
            "facts": self.facts.to_dict(),
        }  # fmt: skip


def parse_values(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """The output of ``zfs get -H -o name,property,value,source``."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 4:
            name, key, value, source = fields
            found.setdefault(name, {})[key] = (value, source)
    return found


def parse_json(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """The output of ``zfs get -j``, with the sources as `parse_values` has them."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, entry in jsontext.loads(text)["datasets"].items():
        found[name] = {
            key: (value["value"], _SOURCES.get(value["source"]["type"], "-"))
            for key, value in entry["properties"].items()
        }
    return found


def is_mounted(target: str) -> bool:
    """Whether a dataset is mounted at a path; a dead zfs-fuse mount is taken away first."""
    try:
        return os.stat(target).st_dev != os.stat(os.path.dirname(target)).st_dev
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != 107:  # ENOTCONN: its daemon died
            raise
        mount.unmount(target, lazy=True)
        return False


def is_mounted_anywhere(full: str) -> bool:
    """Whether any process of any mount namespace has this dataset mounted."""
    needle = f" {full} ".encode()
    seen: set[str] = set()
    for pid in os.listdir("/proc"):
        if not pid.isdecimal():
            continue
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            with open(f"/proc/{pid}/mountinfo", "rb") as file:
                if needle in file.read():
                    return True
        except OSError:
            continue  # it ended
    return False
