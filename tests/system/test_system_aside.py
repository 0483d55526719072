"""``system reset`` keeps the store aside, and ``undo`` brings it back."""

from __future__ import annotations

import os

import pytest
from helpers import kill
from helpers.apart import apart
from helpers.store import BUSYBOX, Store, list_loops, list_store_mounts, open_store

pytestmark = [pytest.mark.root]


@pytest.mark.btrfs
def test_a_store_comes_back_with_everything() -> None:
    with open_store(size=300 << 20) as store:
        store.add_busybox()
        store.ok("create", "--name", "web", "-v", "data:/d", BUSYBOX, "true")
        assert "1 container: web" in store.ok("system", "reset", "--dry-run").out
        done = store.ok("system", "reset", "--force")
        assert "strata undo" in done.err
        assert store.strata("ps").rc == 125
        assert list_store_mounts(store.base) == []
        assert list_loops(store.base) == []
        assert store.ok("undo", "--dry-run").out.startswith("would bring back the store")
        assert store.ok("undo").line == f"store {store.root}"
        assert store.ok("ps", "-a", "--format", "{{.Names}}").line == "web"
        store.ok("start", "-a", "web")
        assert not os.path.exists(f"{store.root}/removed")
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []


@pytest.mark.btrfs
def test_a_new_store_can_be_made_and_the_old_one_waits() -> None:
    with open_store(size=300 << 20) as store:
        store.ok("volume", "create", "old")
        store.ok("system", "reset", "--force")
        store.make(size=300 << 20)
        assert store.ok("volume", "ls", "-q").out == ""
        assert "nothing to undo" in store.strata("undo").err
        store.ok("system", "reset", "--force", "--now")
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "old"
        store.ok("system", "reset", "--force")
        store.ok("system", "reset", "--force", "--now")
        assert store.strata("undo").rc == 125
        assert not [name for name in os.listdir(store.root) if "pool" in name]


@pytest.mark.btrfs
def test_killed_anywhere_a_reset_and_its_undo_lose_nothing() -> None:
    with open_store(size=300 << 20) as store:
        kill.ok(store, "volume", "create", "data")
        reset = ("system", "reset", "--force")
        points = kill.list_points(store, *reset)
        kill.ok(store, "undo")
        for number in range(len(points)):
            where = f"reset at {number}, {kill.kill_at(store, number, *reset)}"
            again = kill.run(store, *reset)
            assert again.rc in (0, 125), f"{where}: {again!r}"
            assert kill.run(store, "undo").rc == 0, where
            assert kill.ok(store, "volume", "ls", "-q").line == "data", where
        kill.ok(store, *reset)
        points = kill.list_points(store, "undo")
        for number in range(len(points)):
            kill.ok(store, *reset)
            where = f"undo at {number}, {kill.kill_at(store, number, 'undo')}"
            kill.run(store, "undo")
            assert kill.ok(store, "volume", "ls", "-q").line == "data", where


@pytest.mark.zfsfuse
def test_a_zfs_store_comes_back() -> None:
    def act(store: Store) -> None:
        store.ok("volume", "create", "data")
        store.ok("system", "reset", "--force")
        assert store.strata("volume", "ls").rc == 125
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "data"
        store.ok("system", "reset", "--force", "--now")
        assert not os.path.exists(store.root)

    apart(act)
