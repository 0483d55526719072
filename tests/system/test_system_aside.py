"""``system reset`` keeps the store aside, and ``undo`` brings it back."""

from __future__ import annotations

import json
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
        missing = store.strata("ps")
        assert missing.rc == 125
        assert "strata undo" in missing.err, "not only how to make another"
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
        refused = store.strata("undo")
        assert "nothing to undo" in refused.err
        assert "`strata system reset` and then `strata undo`" in refused.err
        store.ok("system", "reset", "--force", "--now")
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "old"
        store.ok("system", "reset", "--force")
        store.ok("system", "reset", "--force", "--now")
        assert store.strata("undo").rc == 125
        assert not [name for name in os.listdir(store.root) if "pool" in name]


@pytest.mark.btrfs
def test_a_clock_that_was_set_right_makes_no_store_due() -> None:
    with open_store(size=300 << 20) as store:
        store.ok("volume", "create", "old")
        store.ok("system", "reset", "--force")
        folder = f"{store.root}/removed"
        year = 365 * 86400
        for name in os.listdir(folder):
            # As if all this had happened a year ago, by a clock that was wrong, in another boot.
            with open(f"{folder}/{name}") as file:
                known = json.load(file)
            late = {key: known[key] - year for key in ("removed", "due", "time", "wall")
                    if key in known}  # fmt: skip
            with open(f"{folder}/{name}", "w") as file:
                json.dump({**known, **late, "boot": "another"}, file)
        store.make(size=300 << 20)
        store.ok("container", "prune", "--force")  # collects what is due
        store.ok("system", "reset", "--force", "--now")
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "old"


@pytest.mark.btrfs
def test_a_store_goes_when_its_week_is_over() -> None:
    with open_store(size=300 << 20) as store:
        store.ok("system", "reset", "--force")
        store.make(size=300 << 20)
        store.ok("container", "prune", "--force")
        assert [name for name in os.listdir(store.root) if ".removed-" in name]
        with open(f"{store.root}/removed/clock") as file:
            clock = json.load(file)
        with open(f"{store.root}/removed/clock", "w") as file:
            json.dump({**clock, "uptime": clock["uptime"] - 8 * 86400}, file)
        store.ok("container", "prune", "--force")
        assert not [name for name in os.listdir(store.root) if "removed" in name]


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


@pytest.mark.zfsfuse
def test_of_several_zfs_stores_each_comes_back() -> None:
    """Their pool files lie side by side, and their pools may have one name."""

    def act(store: Store) -> None:
        store.ok("system", "reset", "--force", "--now")
        for name in ("first", "second"):
            store.make("zfs", size=300 << 20)
            store.ok("volume", "create", name)
            store.ok("system", "reset", "--force")
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "second"
        store.ok("system", "reset", "--force", "--now")
        store.ok("undo")
        assert store.ok("volume", "ls", "-q").line == "first"

    apart(act)
