"""Volumes in pools beside the store's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.apart import apart
from helpers.outside import Disk, destroy_pool, open_disk, read, run, write
from helpers.store import BUSYBOX, POOL, Store, open_store

from strata.engine.system import verbs as system
from strata.linux import mount

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


@pytest.fixture
def disk(store: Store) -> Iterator[Disk]:
    with open_disk(store) as made:
        yield made


def inspect(store: Store, name: str) -> Any:
    return store.ok("volume", "inspect", name).json[0]


def problems(store: Store) -> list[str]:
    found = store.strata("system", "check", "--format", "json").json["Problems"]
    return [f"{p['Id']} {p['Object']}" for p in found]


def test_a_volume_lives_its_life_in_another_pool(store: Store, disk: Disk) -> None:
    store.add_busybox()
    assert store.ok("pool", "add", "fast", disk.top).line == "fast"
    assert store.ok("volume", "create", "--pool", "fast", "--label", "a=b", "data").line == "data"
    shown = inspect(store, "data")
    assert shown["Pool"] == "fast"
    assert shown["Dataset"].startswith(f"{disk.top}/strata/data.strata-")
    store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", "echo -n one >/d/f")
    store.ok("snapshot", "data@a")
    write(f"{shown['Mountpoint']}/f", "two")
    store.ok("rollback", "data@a")
    assert read(f"{shown['Mountpoint']}/f") == "one"
    store.ok("clone", "data@a", "copy")
    assert inspect(store, "copy")["Pool"] == "fast"
    rows = {row["Name"]: row for row in store.ok("pool", "ls", "--format", "json").json}
    assert (rows["fast"]["Volumes"], rows["store"]["Volumes"]) == (2, 0)
    assert rows["fast"]["Size"] < rows["store"]["Size"]
    assert "Pool fast" in store.ok("system", "df").out
    assert store.ok("volume", "ls", "--format", "{{.Name}} {{.Pool}}").out.splitlines() == [
        "copy fast", "data fast",
    ]  # fmt: skip
    store.ok("volume", "rm", "data")
    assert problems(store) == []
    refused = store.strata("pool", "rm", "fast")
    assert refused.rc == 125
    assert "volume copy" in refused.err
    store.ok("undo")
    assert inspect(store, "data")["Labels"] == {"a": "b"}
    assert problems(store) == []
    store.ok("volume", "rm", "data", "copy")
    assert "the trash has volume copy, volume data" in store.strata("pool", "rm", "fast").err
    store.ok("trash", "empty", "--all", "--force")
    assert store.ok("pool", "rm", "fast").line == "fast"
    assert os.listdir(disk.top) == []
    assert store.ok("pool", "ls", "-q").line == "store"


def test_a_mount_outside_strata_keeps_the_head_from_moving(store: Store, disk: Disk) -> None:
    store.add_busybox()
    store.ok("pool", "add", "fast", disk.top)
    store.ok("volume", "create", "--pool", "fast", "data")
    store.ok("run", "-d", "--name", "web", "-v", "data:/d", BUSYBOX, "sleep", "1000")
    store.ok("snapshot", "data@a")
    for _ in range(2):
        assert "started again: web" in store.ok("rollback", "data@a").err
    where = f"{store.base}/elsewhere"
    os.mkdir(where)
    mount.bind(inspect(store, "data")["Dataset"], where)
    refused = store.strata("rollback", "data@a")
    assert refused.rc == 125
    assert f"at {where}" in refused.err
    mount.unmount(where)
    store.ok("rollback", "data@a")
    store.ok("rm", "-f", "-t", "0", "web")


def test_what_cannot_be_a_pool_is_refused(store: Store, disk: Disk) -> None:
    os.mkdir(f"{disk.top}/taken")
    os.mkdir(f"{disk.top}/taken/strata")
    for place, reason in (
        (f"{disk.top}/none", "no such directory"), ("/proc", "not on btrfs"),
        (store.pool, "belongs to a store"), (f"{disk.top}/taken", "no place of this store"),
        ("tank", "no absolute path"),
    ):  # fmt: skip
        refused = store.strata("pool", "add", "fast", place)
        assert refused.rc == 125, refused
        assert reason in refused.err, refused
    assert store.strata("pool", "add", "store", disk.top).rc == 125
    assert store.strata("pool", "add", "../x", disk.top).rc == 125
    store.ok("pool", "add", "fast", disk.top)
    assert "pool 'fast' already" in store.strata("pool", "add", "fast", disk.top).err
    assert "pool 'fast' already" in store.strata("pool", "add", "quick", disk.top).err
    assert "there are: store, fast" in store.strata("volume", "create", "--pool", "x", "v").err
    assert store.strata("pool", "rm", "store").rc == 125
    assert store.strata("pool", "rm", "x").rc == 125
    with open_store() as other:
        assert "no place of this store" in other.strata("pool", "add", "f", disk.top).err


def test_a_pool_that_is_away_waits(store: Store, disk: Disk) -> None:
    store.ok("pool", "add", "fast", disk.top)
    store.ok("volume", "create", "--pool", "fast", "data")
    store.ok("volume", "create", "--pool", "fast", "gone")
    write(f"{inspect(store, 'data')['Mountpoint']}/f", "one")
    store.ok("volume", "rm", "gone")
    store.ok("volume", "unmount", "data")
    disk.unmount()
    assert "missing" in store.ok("pool", "ls").out
    store.ok("volume", "ls")
    store.ok("system", "df")
    for words in (("volume", "inspect", "data"), ("snapshot", "data@a"),
                  ("volume", "create", "--pool", "fast", "new"), ("undo",)):  # fmt: skip
        refused = store.strata(*words)
        assert refused.rc == 125, refused
        assert "not mounted" in refused.err, refused
    assert problems(store) == ["place-missing pool fast", "place-missing volume data"]
    store.ok("trash", "empty", "--all", "--force")
    disk.mount()
    assert problems(store) == []
    assert read(f"{inspect(store, 'data')['Mountpoint']}/f") == "one"
    store.ok("volume", "rm", "data")
    disk.unmount()
    assert "not there" in store.strata("pool", "rm", "fast").err
    store.ok("pool", "rm", "--force", "fast")
    assert store.ok("pool", "ls", "-q").line == "store"
    assert problems(store) == []


def test_rebuild_and_reset_know_the_pools(store: Store, disk: Disk) -> None:
    store.ok("pool", "add", "fast", disk.top)
    store.ok("volume", "create", "--pool", "fast", "--label", "a=b", "data")
    store.ok("snapshot", "data@a")
    store.ok("rollback", "data@a")
    head = inspect(store, "data")["Dataset"]
    for folder in ("volumes", "names/volume"):
        where = f"{store.pool}/records/{folder}"
        for name in os.listdir(where):
            os.unlink(f"{where}/{name}")
    assert problems(store) == [f"record-lost {head}"]
    store.ok("system", "rebuild")
    again = inspect(store, "data")
    assert (again["Dataset"], again["Labels"], again["Generation"]) == (head, {"a": "b"}, 2)
    assert problems(store) == []
    losses = system.list_losses(store.root, store.runroot)
    assert f"the pool fast: {disk.top}/strata" in losses
    store.ok("system", "reset", "--force")
    assert os.path.isdir(head)
    store.ok("undo")
    assert inspect(store, "data")["Dataset"] == head
    store.ok("system", "reset", "--force", "--now")
    assert os.listdir(disk.top) == []


def test_on_zfs() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        with open(f"{store.base}/tank", "wb") as file:
            file.truncate(200 << 20)
        tank = f"other{os.getpid()}"
        run("zpool", "create", "-o", "cachefile=none", "-m", f"{store.base}/mnt", tank,
            f"{store.base}/tank")  # fmt: skip
        own = store.engine().config.dataset or ""
        refusals = [(own, "belongs to a store"), (f"{tank}/none", "no such pool")]
        if not POOL:  # the whole pool is the store's
            refusals.append((own.partition("/")[0], "no place of this store"))
        for place, reason in refusals:
            refused = store.strata("pool", "add", "fast", place)
            assert reason in refused.err, refused
        store.ok("pool", "add", "fast", tank)
        store.ok("volume", "create", "--pool", "fast", "-o", "recordsize=16K", "data")
        shown = inspect(store, "data")
        assert shown["Dataset"].startswith(f"{tank}/strata/data.strata-")
        assert run("zfs", "get", "-H", "-o", "value", "recordsize", shown["Dataset"]) == "16K\n"
        store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", "echo -n one >/d/f")
        store.ok("snapshot", "data@a")
        write(f"{shown['Mountpoint']}/f", "two")
        store.ok("rollback", "data@a")
        assert store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "cat", "/d/f").line == "one"
        head = inspect(store, "data")["Dataset"]
        assert run("zfs", "get", "-H", "-o", "value", "recordsize", head) == "16K\n"
        store.ok("volume", "rm", "data")
        store.ok("undo")
        assert problems(store) == []
        store.ok("volume", "rm", "--now", "data")
        store.ok("pool", "rm", "fast")
        assert run("zfs", "list", "-H", "-o", "name", "-r", tank).split() == [tank]
        store.ok("pool", "add", "fast", tank)
        store.ok("volume", "create", "--pool", "fast", "data")
        store.ok("system", "reset", "--force", "--now")
        assert run("zfs", "list", "-H", "-o", "name", "-r", tank).split() == [tank]
        destroy_pool(tank)

    apart(act)
