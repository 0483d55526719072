"""kill -9 at every traced step of making, repairing, collecting and removing a store."""

from __future__ import annotations

import os
import shutil

import pytest
from helpers import kill
from helpers.store import (
    BUSYBOX,
    Store,
    list_loops,
    list_store_mounts,
    open_store,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

INIT = ("system", "init", "--driver", "btrfs", "--size", "300M")


def _clear(store: Store) -> None:
    store.close()
    os.mkdir(store.base)


def test_a_killed_init_is_completed_by_the_next() -> None:
    with open_store(make=False) as store:
        points = kill.list_points(store, *INIT)
        _clear(store)
        for number in range(len(points)):
            where = f"init at {number}, {kill.kill_at(store, number, *INIT)}"
            early = kill.run(store, "ps")
            made = os.path.exists(f"{store.root}/store.json")
            assert early.rc == (0 if made else 125), f"{where}: {early!r}"
            again = kill.run(store, *INIT)
            assert again.rc == (125 if made else 0), f"{where}: {again!r}"
            kill.assert_repairs(store, where)
            assert sorted(os.listdir(store.root)) == [".attach.lock", "pool", "pool.btrfs",
                                                      "store.json"], where  # fmt: skip
            kill.ok(store, "volume", "create", "data")
            _clear(store)


def test_a_killed_reset_is_completed_by_the_next() -> None:
    with open_store(make=False) as store:
        store.make(size=300 << 20)
        kill.ok(store, "volume", "create", "data")
        points = kill.list_points(store, "system", "reset", "--force", "--now")
        assert not os.path.exists(store.root)
        for number in range(len(points)):
            store.make(size=300 << 20)
            kill.ok(store, "volume", "inspect", kill.ok(store, "volume", "create", "data").line)
            where = (
                f"{number}, {kill.kill_at(store, number, 'system', 'reset', '--force', '--now')}"
            )
            again = kill.run(store, "system", "reset", "--force", "--now")
            assert again.rc in (0, 125), f"{where}: {again!r}"
            assert not os.path.exists(f"{store.root}/store.json"), where
            assert not os.path.exists(f"{store.root}/pool.btrfs"), where
            assert list_store_mounts(store.base) == [], where
            assert list_loops(store.base) == [], where
            shutil.rmtree(store.root, ignore_errors=True)


def _damage(store: Store) -> None:
    """Some of everything that a repair puts right."""
    kill.ok(store, "create", "--name", "c1", "--volume", "v1:/data", BUSYBOX, "true")
    kill.ok(store, "create", "--name", "c2", BUSYBOX, "true")
    kill.ok(store, "volume", "create", "v2")
    e = store.engine()
    first = e.records.get("container", e.records.resolve("container", "c1"))
    second = e.records.get("container", e.records.resolve("container", "c2"))
    with open(e.records.path("container", first["id"]), "w") as file:
        file.write("{")
    e.records.delete("container", second["id"])
    e.driver.destroy_recursive(
        e.records.get("volume", e.records.resolve("volume", "v2"))["dataset"]
    )
    e.records.take_name("volume", "nothing", "ab" * 32)


def test_a_killed_repair_is_completed_by_the_next(busybox_store: Store) -> None:
    store = busybox_store
    kill.empty_trash(store)
    before = kill.describe(store)

    def clean() -> None:
        kill.ok(store, "rm", "--force", "c1", "c2")
        kill.run(store, "volume", "rm", "v1")
        kill.empty_trash(store)
        shutil.rmtree(f"{store.pool}/records/damaged", ignore_errors=True)

    repair = ("system", "check", "--repair")
    for _ in range(2):
        # The first repair of a store also tidies what earlier tests left to it.
        _damage(store)
        points = kill.list_points(store, *repair)
        clean()
    for number in range(0, len(points), 2):
        _damage(store)
        where = f"repair at {number}, {kill.kill_at(store, number, *repair)}"
        kill.assert_repairs(store, where)
        names = kill.ok(store, "ps", "--all", "--format", "{{.Names}}").out.split()
        assert sorted(names) == ["c1", "c2"], where
        assert kill.ok(store, "volume", "ls", "--quiet").out.split() == ["v1"], where
        clean()
        left = kill.describe(store)
        left.pop("/records", None)
        assert left == {k: v for k, v in before.items() if k != "/records"}, where


def test_a_killed_rebuild_is_completed_by_the_next(busybox_store: Store) -> None:
    store = busybox_store
    before = kill.describe(store)
    kill.ok(store, "create", "--name", "c1", "--volume", "v1:/data", BUSYBOX, "true")
    kill.ok(store, "snapshot", "v1@a")
    kill.ok(store, "rollback", "v1@a")
    held = kill.describe(store)

    def destroy() -> None:
        store.engine().driver.destroy_recursive("records")

    destroy()
    points = kill.list_points(store, "system", "rebuild")
    for number in range(len(points)):
        destroy()
        where = f"rebuild at {number}, {kill.kill_at(store, number, 'system', 'rebuild')}"
        kill.ok(store, "system", "rebuild")
        kill.assert_repairs(store, where)
        assert kill.describe(store) == held, where
    kill.ok(store, "rm", "c1")
    kill.ok(store, "volume", "rm", "v1")
    kill.empty_trash(store)
    assert kill.describe(store) == before


def test_a_killed_collection_is_completed_by_the_next(busybox_store: Store) -> None:
    store = busybox_store
    before = kill.describe(store)

    def remove_things() -> None:
        kill.ok(store, "create", "--name", "c1", "--volume", "v1:/data", BUSYBOX, "true")
        kill.ok(store, "snapshot", "v1@a")
        kill.ok(store, "rm", "c1")
        kill.ok(store, "volume", "rm", "v1")
        kill.wait_quiet(store)
        e = store.engine()
        for entry in list(e.trash.list_entries()):
            e.trash.save({**entry, "due": 0})

    prune = ("container", "prune", "--force")
    remove_things()
    points = kill.list_points(store, *prune)
    for number in range(len(points)):
        remove_things()
        where = f"prune at {number}, {kill.kill_at(store, number, *prune)}"
        kill.assert_repairs(store, where)
        assert kill.describe(store) == before, where


def test_a_killed_bootstrap_takes_everything_it_started_with_it(store: Store) -> None:
    spool = f"{store.pool}/images/spool"

    def list_users() -> list[str]:
        """Processes that name a file of the spool."""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if spool.encode() in file.read():
                        found.append(pid)
            except OSError:
                continue
        return found

    def has_begun() -> bool:
        """Whether the tree of the new system has its first directories."""
        return os.path.isdir(spool) and any(
            "etc" in os.listdir(f"{spool}/{operation}/{name}")
            for operation in os.listdir(spool)
            for name in os.listdir(f"{spool}/{operation}")
            if name.startswith("mmdebstrap")
        )

    running = store.start("image", "bootstrap", "debian:12")
    try:
        wait_until(has_begun, "mmdebstrap makes its first files", 60)
        assert list_users()
    finally:
        running.kill()
        running.wait()
    wait_until(lambda: not list_users(), "all that mmdebstrap started is gone", 5)
    kill.ok(store, "volume", "create", "data")
    assert os.listdir(spool) == []
    kill.assert_repairs(store, "bootstrap")
