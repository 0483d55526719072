"""What the driver makes of OpenZFS 2.2 and later: encrypted datasets sent without their key, blocks
shared between datasets, answers in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from zfs_tools import zfs

from strata.linux import tree
from strata.storage import description, setup
from strata.storage.description import StoreConfig
from strata.storage.driver import Driver

pytestmark = pytest.mark.openzfs

IDENTITY = {"id": "4f1c", "kind": "volume", "name": "data", "lineage": "aa", "generation": "1",
            "schema": "1"}  # fmt: skip


@pytest.fixture(scope="module")
def config(pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    root = tmp_path_factory.mktemp("abilities") / "root"
    zfs("create", "-o", "mountpoint=none", f"{pool}/abilities")
    made = setup.initialize(str(root), driver="zfs", pool=f"{pool}/abilities")
    try:
        yield made
    finally:
        setup.reset(made)
        zfs("destroy", "-r", f"{pool}/abilities")


@pytest.fixture(scope="module")
def driver(config: StoreConfig) -> Driver:
    return description.open_driver(config)


def test_an_encrypted_dataset_is_copied_by_one_who_has_no_key(
    driver: Driver, config: StoreConfig, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("5" * 64)
    full = f"{config.dataset}/volumes/secret.1"
    zfs("create", "-p", f"{config.dataset}/volumes")
    zfs("create", "-o", "encryption=on", "-o", "keyformat=hex", "-o", f"keylocation=file://{key}",
        "-o", "strata:id=4f1c", full)  # fmt: skip
    with open(f"{driver.open('volumes/secret.1')}/data", "w") as file:
        file.write("a secret")
    driver.snapshot(["volumes/secret.1@a"])
    driver.close("volumes/secret.1")
    zfs("unload-key", full)
    stream = tmp_path / "stream"
    with open(stream, "w+b") as out:
        driver.send("volumes/secret.1@a", out.fileno(), raw=True)
        out.seek(0)
        driver.receive("volumes/secret.2", out.fileno(), IDENTITY)
    assert b"a secret" not in stream.read_bytes()
    copy = f"{config.dataset}/volumes/secret.2"
    assert zfs("get", "-H", "-o", "value", "keystatus", copy) == "unavailable"
    assert driver.get("volumes/secret.2").identity == IDENTITY
    zfs("load-key", "-L", f"file://{key}", copy)
    with open(f"{driver.open('volumes/secret.2')}/data") as file:
        assert file.read() == "a secret"


def test_a_copy_between_datasets_shares_its_blocks(driver: Driver, pool: str) -> None:
    """As when a new volume is filled from the image: not one block of data is written."""
    assert driver.facts.block_clone
    for name in ("volumes/from.1", "volumes/to.1"):
        driver.create(name, IDENTITY)
    source, target = driver.open("volumes/from.1"), driver.open("volumes/to.1")
    for name in ("cp", "engine"):
        with open(f"{source}/{name}", "wb") as file:
            file.write(os.urandom(8 << 20))
    os.sync()
    before = shared(pool)
    os.mkdir(f"{target}/cp")
    assert os.spawnlp(os.P_WAIT, "cp", "cp", "-a", "--reflink=auto", f"{source}/cp",
                      f"{target}/cp/") == 0  # fmt: skip
    os.sync()
    by_cp = shared(pool)
    assert by_cp - before >= 8 << 20
    with open(f"{source}/engine", "rb") as one, open(f"{target}/engine", "wb") as two:
        tree.copy_bytes(one.fileno(), two.fileno())
    os.sync()
    assert shared(pool) - by_cp >= 8 << 20


def test_a_host_that_does_not_share_blocks_is_believed(
    driver: Driver, config: StoreConfig, pool: str
) -> None:
    """As 2.2 is by default, and a careful owner of 2.3 makes it: then the data is written again."""
    with open("/sys/module/zfs/parameters/zfs_bclone_enabled", "r+") as switch:
        switch.write("0")
        switch.flush()
        try:
            assert not description.open_driver(config).facts.block_clone
            driver.create("volumes/plain.1", IDENTITY)
            place = driver.open("volumes/plain.1")
            with open(f"{place}/one", "wb") as file:
                file.write(os.urandom(1 << 20))
            os.sync()
            before = shared(pool)
            with open(f"{place}/one", "rb") as one, open(f"{place}/two", "wb") as two:
                tree.copy_bytes(one.fileno(), two.fileno())
            os.sync()
            assert shared(pool) == before
            assert os.stat(f"{place}/two").st_size == 1 << 20
        finally:
            switch.write("1")


def shared(pool: str) -> int:
    """Bytes of the pool that block cloning did not write a second time."""
    zfs("sync", pool.partition("/")[0], program="zpool")
    return int(zfs("get", "-Hp", "-o", "value", "bclonesaved", pool.partition("/")[0],
                   program="zpool"))  # fmt: skip


def test_values_with_line_breaks_and_tabs_are_read_whole(
    driver: Driver, config: StoreConfig
) -> None:
    """From 2.3 on; text output would lose the property, or invent another."""
    driver.create("volumes/odd.1", IDENTITY)
    driver.snapshot(["volumes/odd.1@a"])
    name = "two\tthree\nvolumes/odd.1\tstrata:id\tforged\tlocal"
    zfs("set", f"strata:name={name}", f"{config.dataset}/volumes/odd.1")
    found = driver.get("volumes/odd.1")
    assert (found.identity["id"], found.identity["name"]) == ("4f1c", name)
    (listed,) = [d for d in driver.list_datasets("volumes") if d.name == "volumes/odd.1"]
    assert listed.identity == found.identity
    assert [s.name for s in driver.list_snapshots("volumes/odd.1")] == ["a"]


def test_the_answers_in_json_and_in_text_agree(
    driver: Driver, config: StoreConfig
) -> None:  # fmt: skip
    """The text is what 2.1 and 2.2 answer."""
    driver.create("layers/base", IDENTITY)
    driver.snapshot(["layers/base@layer"])
    driver.clone("layers/base@layer", "layers/next", {**IDENTITY, "id": "5f1c"})

    def everything(driver: Driver) -> str:
        return json.dumps(
            [vars_of(driver.get("layers/next")), vars_of(driver.get("layers/base@layer")),
             [vars_of(d) for d in driver.list_datasets("layers")],
             [vars_of(s) for s in driver.list_snapshots("layers/base")],
             driver.get_properties("layers/base", ["compression", "quota", "origin", "strata:id"])]
        )  # fmt: skip

    earlier = description.open_driver(config, (2, 1))
    assert (driver.dialect.json, earlier.dialect.json) == (True, False)  # type: ignore[attr-defined]
    assert (earlier.facts.idmap, earlier.facts.block_clone) == (False, False)
    assert everything(driver) == everything(earlier)


def vars_of(value: object) -> dict[str, object]:
    """The slots of a value."""
    return {name: getattr(value, name) for name in type(value).__slots__}  # type: ignore[attr-defined]
