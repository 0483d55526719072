"""ZFS datasets outside the root dataset of the store: adopted ones, and places for volumes.

An adopted dataset carries the identity as user properties and ``strata:holder``, whose it is. It
keeps its mountpoint and all its settings; what Strata shows of it is another mount. Clones made
beside it have no mountpoint of their own and the settings their origin has, not those they would
inherit there.
"""

from __future__ import annotations

import os

from strata import command, trace
from strata.errors import AlreadyExists, StorageError
from strata.storage import layout, zfs_dialect
from strata.storage.driver import DatasetExists, DatasetNotFound, HasDependants
from strata.storage.outside import Outside, PlaceMissing
from strata.storage.zfs import STORE_PROPERTY, Zfs, parse_values
from strata.storage.zfs_dialect import classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from strata.linux.mount import MountInfo
    from strata.storage.driver import Dataset

PLACE = "strata"
HOLDER_PROPERTY = "strata:holder"
PLACE_PROPERTY = "strata:pool"
"""On the parent of volumes in another pool: the store it belongs to, and its root."""

_OWN = ("local", "received")
# What decides how files are stored and read back, where the owner set it.
_INHERITED = (
    "recordsize", "compression", "atime", "relatime", "sync", "logbias", "primarycache",
    "secondarycache", "copies", "checksum", "dedup", "xattr", "acltype", "aclinherit", "refquota",
)  # fmt: skip


def _read(full: str) -> dict[str, tuple[str, str]]:
    """All properties of a dataset, with their sources."""
    words = ["zfs", "get", "-Hp", "-o", "name,property,value,source", "all", full]
    return parse_values(command.run(words, classify=classify).text)[full]


class ZfsOutside(Outside):
    """See `Outside`."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Zfs) -> None:
        self._driver = driver

    def locate(self, text: str) -> str:
        return layout.check_outside(f"/{text.strip('/')}")

    def show(self, name: str) -> str:
        return name[1:] if layout.is_outside(name) else name

    def get_pool(self, name: str) -> str:
        return self._driver.full_name(name).partition("@")[0].partition("/")[0]

    def find_shown(
        self, names: Sequence[str], here: Sequence[MountInfo], mounts: Sequence[MountInfo]
    ) -> list[MountInfo]:
        wanted = {self._driver.full_name(name) for name in names}
        return [entry for entry in mounts if entry.source in wanted]

    def list_options(self, name: str) -> list[str]:
        """How a dataset that Strata makes outside is kept from being mounted by itself."""
        if self._driver.dialect.kernel:
            return ["-o", "mountpoint=legacy", "-o", "canmount=noauto"]
        from strata.storage import zfs_fuse

        path = f"{zfs_fuse.get_mountpoint(self._driver.root)}/{layout.flatten(name)}"
        return ["-o", f"mountpoint={path}"]

    def list_inherited(self, dataset: str, given: Container[str]) -> list[str]:
        """The settings of a clone's origin that the clone would not have where it lies, except
        those that are ``given`` otherwise."""
        values = _read(self._driver.full_name(dataset))
        options = []
        for key in _INHERITED:
            value, source = values.get(key, ("", ""))
            if key not in given and source in _OWN and value not in {"", "-", "0"}:
                options += ["-o", f"{key}={value}"]
        return options

    def check_place(self, name: str) -> None:
        if not layout.is_outside(name):
            return
        pool = self.get_pool(name)
        words = ["zpool", "list", "-H", "-o", "name", pool]
        if command.run(words, check=False).returncode != 0:
            raise PlaceMissing(
                f"the pool {pool} of the dataset {self.show(name)} is not imported",
                hint=f"zpool import {pool}",
            )

    def collect(self, name: str) -> list[str]:
        """The views of zfs-fuse: nothing else is made on the way of ZFS."""
        if self._driver.dialect.kernel:
            return []
        from strata.storage import zfs_fuse

        return zfs_fuse.collect(self._driver, name.rpartition("/")[0])

    # -- adopting ----------------------------------------------------------------------------------

    def check_adoptable(self, name: str) -> Dataset:
        full = self._driver.full_name(layout.check_outside(name))
        try:
            values = _read(full)
        except DatasetNotFound:
            raise DatasetNotFound(f"{full}: no such dataset",
                                  hint="`zfs list` shows what there is") from None  # fmt: skip
        kind = values.get("type", ("", ""))[0]
        if kind != "filesystem":
            raise StorageError(f"{full} is a {kind}, not a file system")
        if values.get("keystatus", ("", ""))[0] == "unavailable":
            raise StorageError(f"the key of {full} is not loaded", hint=f"zfs load-key {full}")
        if values.get("zoned", ("", ""))[0] == "on":
            raise StorageError(f"{full} is given to a zone")
        self.check_free(full, values)
        if "/" not in full:
            raise StorageError(
                f"{full} is the whole pool: there is no place beside it for branches",
                hint=f"adopt a dataset in it: zfs create {full}/data",
            )
        where = values.get("mountpoint", ("", ""))[0]
        if not self._driver.dialect.kernel and where in {"none", "legacy"}:
            raise StorageError(
                f"{full} has the mountpoint {where}, and zfs-fuse mounts it nowhere else",
                hint=f"zfs set mountpoint=PATH {full}",
            )
        return self._driver.get(name)

    def check_free(self, full: str, values: Mapping[str, tuple[str, str]]) -> None:
        """Refuse what belongs to a store, this one or another, or holds this one."""
        for key in (STORE_PROPERTY, PLACE_PROPERTY):
            if values.get(key, ("-", "-"))[0] not in {"-", ""}:
                root = values.get("strata:root", ("", ""))[0]
                raise StorageError(f"{full} belongs to the store at {root or 'another place'}",
                                   hint="name a dataset outside of it")  # fmt: skip
        if f"{self._driver.dataset}/".startswith(f"{full}/"):
            raise StorageError(f"{full} holds this store itself", hint="name a dataset beside it")

    def find_holder(self, name: str) -> str:
        full = self._driver.full_name(name)
        words = ["zfs", "get", "-Hp", "-o", "name,property,value,source", HOLDER_PROPERTY, full]
        found = parse_values(command.run(words, classify=classify).text).get(full, {})
        value, source = found.get(HOLDER_PROPERTY, ("", ""))
        return value if source in _OWN else ""

    def adopt(self, name: str, identity: Mapping[str, str], holder: str) -> None:
        settings = [f"strata:{key}={value}" for key, value in identity.items()]
        settings.append(f"{HOLDER_PROPERTY}={holder}")
        full = self._driver.full_name(layout.check_outside(name))
        at_once = len(settings) if self._driver.dialect.kernel else 1
        for first in range(0, len(settings), at_once):
            words = settings[first : first + at_once]
            self._driver.change("set", *words, full)
            trace.point("dataset:marked")

    def give_back(self, name: str) -> None:
        full = self._driver.full_name(layout.check_outside(name))
        for key, (_, source) in _read(full).items():
            if key.startswith("strata:") and source in _OWN:
                self._driver.change("inherit", key, full)

    # -- places for volumes ------------------------------------------------------------------------

    def make_place(self, text: str, holder: str) -> str:
        """The dataset ``strata`` in a pool or dataset."""
        above = self.locate(text)
        layout.check_root(above[1:])
        name = f"{above}/{PLACE}"
        full = self._driver.full_name(name)
        try:
            values = _read(above[1:])
        except DatasetNotFound:
            raise DatasetNotFound(
                f"no such pool or dataset {above[1:]!r}",
                hint="`zpool list` shows the imported pools",
            ) from None
        if values.get("type", ("", ""))[0] != "filesystem":
            raise StorageError(f"{above[1:]} is not a file system")
        for key in (STORE_PROPERTY, PLACE_PROPERTY):
            if values.get(key, ("-", "-"))[0] not in {"-", ""}:
                raise StorageError(f"{above[1:]} belongs to a store of Strata",
                                   hint="name a dataset outside of it")  # fmt: skip
        properties = dict(zfs_dialect.get_dialect(self._driver.flavour).root_properties)
        properties.update({PLACE_PROPERTY: holder, "strata:root": self._driver.root})
        if not self._driver.dialect.kernel:
            from strata.storage import zfs_fuse

            where = f"{zfs_fuse.get_mountpoint(self._driver.root)}/{layout.flatten(name)}"
            properties["mountpoint"] = where
        options = [part for key, value in properties.items() for part in ("-o", f"{key}={value}")]
        try:
            self._driver.change("create", *options, full)
        except DatasetExists:
            if self.find_place_holder(name) != holder:
                raise AlreadyExists(
                    f"the dataset {full} exists and is no place of this store for volumes",
                    hint="name another parent, such as POOL/DATASET",
                ) from None
        return name

    def find_place_holder(self, name: str) -> str:
        try:
            value, source = _read(self._driver.full_name(name)).get(PLACE_PROPERTY, ("", ""))
        except DatasetNotFound:
            return ""
        return value if source == "local" else ""

    def remove_place(self, name: str) -> None:
        left = [dataset.name for dataset in self._driver.list_datasets(name)]
        left += [snapshot.full_name for snapshot in self._driver.list_snapshots(name)]
        if left:
            shown = ", ".join(self.show(entry) for entry in left[:5])
            raise HasDependants(f"{self.show(name)} is not empty: {shown}", left)
        full = self._driver.full_name(name)
        if not self.find_place_holder(name):
            raise StorageError(f"{full} is no place of this store for volumes")
        self._driver.change_settled(name, "destroy", full)
        if not self._driver.dialect.kernel:
            from strata.storage import zfs_fuse

            try:
                os.rmdir(f"{zfs_fuse.get_mountpoint(self._driver.root)}/{layout.flatten(name)}")
            except OSError:
                return
