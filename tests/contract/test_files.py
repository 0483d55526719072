"""Mounting, who holds what, properties, space, and what containers do inside a dataset."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from strata.errors import NoSpace
from strata.linux import mount
from strata.storage import description, properties
from strata.storage.description import StoreConfig
from strata.storage.driver import DatasetBusy, Driver

if TYPE_CHECKING:
    from conftest import Maker, Namespace

IDENTITY = {"id": "4f1c", "kind": "container", "name": "web"}


def write(driver: Driver, dataset: str, text: str, file: str = "data") -> None:
    with open(f"{driver.open(dataset)}/{file}", "w") as out:
        out.write(text)


def read(driver: Driver, dataset: str, file: str = "data") -> str:
    with open(f"{driver.open(dataset)}/{file}") as source:
        return source.read()


# -- opening -----------------------------------------------------------------------------------


def test_opened_datasets_are_hidden_and_harmless(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    path = driver.open(name)
    assert driver.open(name) == path
    flags = os.statvfs(path).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    parents = [path.rsplit("/", depth)[0] for depth in range(1, path.count("/"))]
    assert any(stat.S_IMODE(os.stat(parent).st_mode) == 0o700 for parent in parents)
    driver.close(name)
    driver.close(name)
    write(driver, name, "again")
    assert read(driver, name) == "again"


def test_files_survive_closing_and_renaming(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "kept")
    driver.close(name)
    driver.rename(name, f"{name}n")
    assert read(driver, f"{name}n") == "kept"


def test_a_mount_allows_what_a_root_file_system_needs(
    driver: Driver, name: str, namespace: type[Namespace], store: StoreConfig
) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "inside")
    driver.close(name)
    step = driver.prepare_mount(name)
    assert step.target == ""
    target = f"{store.root}/target"
    os.makedirs(target, exist_ok=True)
    step.target = target

    def enter() -> None:
        step.execute()
        with open(f"{target}/data") as file:
            assert file.read() == "inside"
        flags = os.statvfs(target).f_flag
        assert not flags & (os.ST_NOSUID | os.ST_NODEV | os.ST_RDONLY)
        with open(f"{target}/written", "w") as file:
            file.write("by the container")

    with namespace(enter):
        assert not os.path.exists(f"{target}/data")
        at_home = [entry for entry in mount.list_mounts() if entry.source.endswith(name)]
        if driver.facts.private_mount:
            assert at_home == []
    assert read(driver, name, "written") == "by the container"


def test_a_mounted_snapshot_is_read_only(
    driver: Driver, name: str, namespace: type[Namespace], store: StoreConfig
) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "then")
    driver.snapshot([f"{name}@s"])
    step = driver.prepare_mount(f"{name}@s")
    step.target = f"{store.root}/target"
    os.makedirs(step.target, exist_ok=True)

    def enter() -> None:
        step.execute()
        with open(f"{step.target}/data") as file:
            assert file.read() == "then"
        with pytest.raises(OSError, match="Read-only"):
            open(f"{step.target}/new", "w")

    with namespace(enter):
        pass
    driver.close(f"{name}@s")


# -- who holds it ------------------------------------------------------------------------------


@pytest.fixture
def held(driver: Driver, name: str, namespace: type[Namespace], store: StoreConfig) -> Namespace:
    """A foreign namespace that has the dataset ``name`` mounted."""
    driver.create(name, IDENTITY)
    write(driver, name, "in use")
    step = driver.prepare_mount(name)
    step.target = f"{store.root}/target"
    os.makedirs(step.target, exist_ok=True)
    return namespace(step.execute)


def test_destroying_what_another_namespace_holds(
    driver: Driver, name: str, held: Namespace
) -> None:
    try:
        if driver.facts.reports_busy:
            with pytest.raises(DatasetBusy):
                driver.destroy(name)
            assert driver.find(name) is not None
        else:
            driver.destroy(name)
            assert driver.find(name) is None
    finally:
        held.end()
    if driver.facts.reports_busy:
        driver.destroy(name)
    assert driver.find(name) is None


def test_renaming_what_another_namespace_holds(driver: Driver, name: str, held: Namespace) -> None:
    guid = driver.get(name).guid
    try:
        if driver.facts.rename_busy:
            driver.rename(name, f"{name}n")
            assert driver.get(f"{name}n").guid == guid
            driver.create(name, IDENTITY)  # the name can be used again at once
            assert read(driver, f"{name}n") == "in use"
        else:
            with pytest.raises(DatasetBusy):
                driver.rename(name, f"{name}n")
            assert driver.get(name).guid == guid
    finally:
        held.end()


def test_snapshot_and_clone_under_a_running_user(
    driver: Driver, name: str, held: Namespace
) -> None:
    try:
        driver.snapshot([f"{name}@s"])
        driver.clone(f"{name}@s", f"{name}c", IDENTITY)
        assert read(driver, f"{name}c") == "in use"
    finally:
        held.end()


def test_renaming_what_is_open_at_home(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "in use")
    with open(f"{driver.open(name)}/data") as held:
        if driver.facts.rename_busy:
            driver.rename(name, f"{name}n")
            driver.create(name, IDENTITY)
            assert os.listdir(driver.open(name)) == []
            assert read(driver, f"{name}n") == held.read() == "in use"
        else:
            with pytest.raises(DatasetBusy):
                driver.rename(name, f"{name}n")
            assert read(driver, name) == held.read() == "in use"


def test_an_open_snapshot_does_not_outlive_its_name(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "first")
    driver.snapshot([f"{name}@s"])
    assert read(driver, f"{name}@s") == "first"
    driver.rename(name, f"{name}n")
    driver.create(name, IDENTITY)
    write(driver, name, "second")
    driver.snapshot([f"{name}@s"])
    assert read(driver, f"{name}@s") == "second"
    assert read(driver, f"{name}n@s") == "first"


# -- native properties and space ---------------------------------------------------------------


def test_compression_is_set(driver: Driver, name: str) -> None:
    wanted, _ = properties.plan({"compression": "gzip"}, driver.flavour)
    driver.create(name, IDENTITY, wanted)
    assert driver.get_properties(name, ["compression"]) == wanted
    driver.set_properties(name, properties.plan({"compression": "off"}, driver.flavour)[0])
    assert driver.get_properties(name, ["compression"])["compression"] in {"off", "none"}


def test_every_profile_fits_every_driver(driver: Driver, name: str) -> None:
    for profile in properties.PROFILES:
        native, _ = properties.plan({}, driver.flavour, profile)
        driver.create(f"{name}-{profile}", IDENTITY, native)
        found = driver.get_properties(f"{name}-{profile}", list(native)) if native else {}
        assert found == native


def test_a_quota_holds_until_it_is_taken_away(driver: Driver, name: str) -> None:
    native, _ = properties.plan({"refquota": "8M"}, driver.flavour)
    driver.create(name, IDENTITY, native)
    path = f"{driver.open(name)}/data"

    def fill() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for _ in range(24):
                os.write(fd, os.urandom(1 << 20))
            os.fsync(fd)
        finally:
            os.close(fd)

    with pytest.raises(OSError, match=r"[Qq]uota"):
        fill()
    os.unlink(path)
    driver.set_properties(name, properties.plan({"refquota": "none"}, driver.flavour)[0])
    fill()
    driver.sync()
    usage = driver.get_usage(name)
    assert usage.referenced is None or usage.referenced >= 8 << 20
    driver.destroy(name)


def test_space_is_told(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    space = driver.get_pool_space()
    assert 0 < space.free <= space.size
    usage = driver.get_usage(name)
    for value in (usage.used, usage.referenced, usage.logical):
        assert value is None or value >= 0
    described = driver.describe()
    assert described["flavour"] == driver.flavour
    assert described["facts"] == driver.facts.to_dict()


def test_a_full_pool_is_said_and_survived(make_store: Maker, store: StoreConfig) -> None:
    size = (256 if store.driver == "btrfs" else 128) << 20
    config = make_store(store.driver, f"full-{store.driver}", size, own_pool=True)
    driver = description.open_driver(config)
    driver.create("containers/a", IDENTITY)
    driver.create("containers/b", IDENTITY)
    path = driver.open("containers/a")
    _fill(f"{path}/data")
    with pytest.raises(NoSpace) as caught:
        _create_many(driver)
    assert caught.value.hint
    made = driver.list_datasets("containers")
    assert all(entry.identity == IDENTITY for entry in made)
    for file in os.listdir(path):
        os.unlink(f"{path}/{file}")
    for entry in made[3:]:
        driver.destroy(entry.name)
    _wait_for_space(driver)
    assert read(driver, "containers/after") == "alive"


def _create_many(driver: Driver) -> None:
    for number in range(4000):
        driver.create(f"containers/n{number}", IDENTITY)


def _wait_for_space(driver: Driver) -> None:
    """Both file systems free what was deleted in the background; each commit moves it on."""
    deadline = time.monotonic() + 60
    while True:
        try:
            driver.sync()
            driver.create("containers/after", IDENTITY)
            write(driver, "containers/after", "alive")
            return
        except NoSpace as error:
            if time.monotonic() >= deadline:
                raise AssertionError("no space came back") from error


def _fill(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, os.urandom(1 << 20))
            os.fsync(fd)
    except OSError as error:
        if error.errno not in {28, 122}:
            raise
    finally:
        os.close(fd)
