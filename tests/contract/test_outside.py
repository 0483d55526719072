"""Datasets outside the store: adopted ones and places for volumes, for every driver."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from helpers.outside import destroy_pool

from strata.errors import AlreadyExists, StorageError, UsageError
from strata.linux import loop, mount
from strata.storage import description, layout
from strata.storage.description import StoreConfig
from strata.storage.driver import DatasetExists, DatasetNotFound, Driver, HasDependants
from strata.storage.outside import PlaceMissing

IDENTITY = {"id": "4f1c", "kind": "volume", "name": "photos", "lineage": "aa", "generation": "1",
            "schema": "1"}  # fmt: skip
HOLDER = "0123 /var/lib/elsewhere"


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


class Foreign:
    """A pool that somebody else made: ``make`` gives a dataset of it as a user would name it."""

    def __init__(self, driver: Driver, folder: str) -> None:
        self.driver = driver
        self.folder = folder
        self.top = ""
        self.number = 0

    def make(self) -> str:
        """Make a dataset with a file in it; its name for the driver."""
        self.number += 1
        if self.driver.name == "btrfs":
            path = f"{self.top}/photos{self.number}"
            run("btrfs", "subvolume", "create", path)
        else:
            name = f"{self.top}/photos{self.number}"
            path = f"{self.folder}/photos{self.number}"
            run("zfs", "create", "-o", f"mountpoint={path}", name)
        with open(f"{path}/data", "w") as file:
            file.write("one")
        return self.driver.outside.locate(path if self.driver.name == "btrfs" else name)

    def take_away(self) -> None:
        """Make the pool unreachable."""
        if self.driver.name == "btrfs":
            mount.unmount(self.top)
        else:
            run("zpool", "export", self.top)

    def bring_back(self) -> None:
        if self.driver.name == "btrfs":
            self.mount()
        else:
            run("zpool", "import", "-d", self.folder, "-o", "cachefile=none", self.top)

    def mount(self) -> None:
        os.makedirs(self.top, exist_ok=True)
        device, fd = loop.attach(f"{self.folder}/pool")
        mount.mount(device, self.top, "btrfs")
        os.close(fd)


@pytest.fixture(scope="module")
def foreign(store: StoreConfig, folder: str) -> Iterator[Foreign]:
    driver = description.open_driver(store)
    driver.attach()
    path = tempfile.mkdtemp(prefix="foreign-", dir=folder)  # it may be asked for again
    made = Foreign(driver, path)
    with open(f"{path}/pool", "wb") as file:
        file.truncate(256 << 20)
    if driver.name == "btrfs":
        run("mkfs.btrfs", "-q", f"{path}/pool")
        made.top = f"{path}/top"
        made.mount()
        yield made
        mount.unmount(made.top)
    else:
        made.top = f"foreign-{os.getpid()}"
        run("zpool", "create", "-o", "cachefile=none", "-m", f"{path}/top", made.top,
            f"{path}/pool")  # fmt: skip
        yield made
        destroy_pool(made.top)


def read(driver: Driver, name: str) -> str:
    with open(f"{driver.open(name)}/data") as file:
        return file.read()


def write(driver: Driver, name: str, text: str) -> None:
    with open(f"{driver.open(name)}/data", "w") as file:
        file.write(text)


def test_snapshots_and_clones_work_as_inside(driver: Driver, foreign: Foreign) -> None:
    name = foreign.make()
    assert read(driver, name) == "one"
    driver.snapshot([f"{name}@a"])
    write(driver, name, "two")
    driver.snapshot([f"{name}@b"])
    assert [s.name for s in driver.list_snapshots(name)] == ["a", "b"]
    assert read(driver, f"{name}@a") == "one"
    driver.close(f"{name}@a")
    with pytest.raises(DatasetExists):
        driver.snapshot([f"{name}@a"])
    beside = name.rpartition("/")[0]
    clone = f"{beside}/copy.strata-00000001"
    made = driver.clone(f"{name}@a", clone, IDENTITY)
    assert (made.name, made.origin, made.identity) == (clone, f"{name}@a", IDENTITY)
    assert driver.get(clone).origin == f"{name}@a"
    assert read(driver, clone) == "one"
    write(driver, clone, "three")
    assert read(driver, name) == "two"
    assert clone in [entry.name for entry in driver.list_datasets(beside)]
    assert name in [entry.name for entry in driver.list_datasets(beside)]
    driver.rename(f"{name}@b", f"{name}@c")
    driver.destroy_recursive(clone)
    driver.destroy(f"{name}@c")
    assert [s.full_name for s in driver.list_snapshots(name)] == [f"{name}@a"]
    assert driver.find(clone) is None


def test_what_showed_a_snapshot_goes_once_nobody_looks(driver: Driver, foreign: Foreign) -> None:
    """A host that went down while somebody looked leaves the clone that some pools need for it."""
    name = foreign.make()
    driver.snapshot([f"{name}@a"])
    beside = name.rpartition("/")[0]
    before = sorted(entry.name for entry in driver.list_datasets(beside))
    assert read(driver, f"{name}@a") == "one"
    assert driver.outside.collect(f"{beside}/_") == []
    assert read(driver, f"{name}@a") == "one"
    shown = (f"{layout.flatten(name)}@a", "view-")
    for entry in reversed(mount.list_mounts()):
        if entry.target.startswith(driver.root) and any(word in entry.target for word in shown):
            mount.unmount(entry.target)
    found = driver.outside.collect(f"{beside}/_")
    assert len(found) == (0 if driver.facts.shows_snapshots else 1)
    assert sorted(entry.name for entry in driver.list_datasets(beside)) == before
    driver.close(f"{name}@a")


def test_what_others_made_is_never_destroyed_renamed_or_rolled_back(
    driver: Driver, foreign: Foreign
) -> None:
    name = foreign.make()
    driver.snapshot([f"{name}@a"])
    beside = name.rpartition("/")[0]
    for act in (
        lambda: driver.destroy(name),
        lambda: driver.destroy_recursive(name),
        lambda: driver.rename(name, f"{beside}/x.strata-00000002"),
        lambda: driver.rollback(f"{name}@a"),
        lambda: driver.promote(name),
        lambda: driver.create(f"{beside}/plain", IDENTITY),
        lambda: driver.clone(f"{name}@a", f"{beside}/plain", IDENTITY),
    ):
        with pytest.raises(UsageError):
            act()
    assert read(driver, name) == "one"


def test_an_adopted_dataset_says_whose_it_is_until_it_is_given_back(
    driver: Driver, foreign: Foreign
) -> None:
    name = foreign.make()
    found = driver.outside.check_adoptable(name)
    assert (found.name, found.identity) == (name, {})
    assert driver.outside.find_holder(name) == ""
    driver.outside.adopt(name, IDENTITY, HOLDER)
    driver.outside.adopt(name, IDENTITY, HOLDER)
    assert driver.outside.find_holder(name) == HOLDER
    again = driver.get(name)
    assert (again.identity, again.guid) == (IDENTITY, found.guid)
    driver.outside.give_back(name)
    driver.outside.give_back(name)
    assert driver.outside.find_holder(name) == ""
    assert driver.get(name).identity == {}
    assert driver.get(name).guid == found.guid
    assert read(driver, name) == "one"


def test_a_clone_carries_no_holder(driver: Driver, foreign: Foreign) -> None:
    name = foreign.make()
    driver.outside.adopt(name, IDENTITY, HOLDER)
    driver.snapshot([f"{name}@a"])
    clone = f"{name}.strata-00000003"
    driver.clone(f"{name}@a", clone, {**IDENTITY, "generation": "2"})
    assert driver.outside.find_holder(clone) == ""
    assert driver.get(clone).identity["generation"] == "2"
    driver.outside.give_back(name)
    assert driver.get(clone).origin == f"{name}@a"
    driver.destroy_recursive(clone)


def test_a_pool_that_is_away_is_told_from_a_dataset_that_is_gone(
    driver: Driver, foreign: Foreign
) -> None:
    name = foreign.make()
    driver.snapshot([f"{name}@a"])
    gone = f"{name.rpartition('/')[0]}/gone"
    driver.outside.check_place(gone)
    driver.close(name)
    foreign.take_away()
    try:
        assert driver.find(name) is None
        with pytest.raises(PlaceMissing):
            driver.outside.check_place(name)
    finally:
        foreign.bring_back()
    driver.outside.check_place(name)
    assert driver.find(name) is not None
    with pytest.raises(DatasetNotFound):
        driver.get(gone)


def test_a_store_is_not_adopted(driver: Driver, foreign: Foreign) -> None:
    inside = {"btrfs": f"{driver.open('records')}"}.get(driver.name, "")
    if not inside:
        inside = f"/{driver.full_name('records')}"  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="store"):
        driver.outside.check_adoptable(driver.outside.locate(inside))
    place = driver.outside.make_place(foreign.top, HOLDER)
    made = f"{place}/data.strata-00000004"
    driver.create(made, IDENTITY)
    with pytest.raises(StorageError, match="belongs"):
        driver.outside.check_adoptable(made)
    driver.destroy(made)
    driver.outside.remove_place(place)


def test_a_place_holds_volumes_and_goes_only_when_empty(driver: Driver, foreign: Foreign) -> None:
    place = driver.outside.make_place(foreign.top, HOLDER)
    assert driver.outside.make_place(foreign.top, HOLDER) == place
    with pytest.raises(AlreadyExists):
        driver.outside.make_place(foreign.top, "4567 /var/lib/other")
    name = f"{place}/data.strata-00000005"
    made = driver.create(name, IDENTITY)
    assert (made.name, made.identity) == (name, IDENTITY)
    write(driver, name, "one")
    driver.snapshot([f"{name}@a"])
    assert driver.outside.get_pool(name) == driver.outside.get_pool(place)
    assert driver.outside.get_pool(name) != driver.outside.get_pool("records")
    assert driver.get_pool_space(place).size != driver.get_pool_space().size
    with pytest.raises(HasDependants):
        driver.outside.remove_place(place)
    driver.destroy_recursive(name)
    driver.outside.remove_place(place)
    assert driver.find(name) is None
    again = driver.outside.make_place(foreign.top, "4567 /var/lib/other")
    driver.outside.remove_place(again)


@pytest.mark.parametrize("bad", ["", "/a@b", "/a\nb", "/x" * 600])
def test_names_that_cannot_be_are_refused(driver: Driver, bad: str) -> None:
    with pytest.raises(UsageError):
        driver.outside.check_adoptable(driver.outside.locate(bad))
