"""Undo, branches and what ``zfs`` did by hand, where datasets are ZFS ones."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from helpers.apart import apart
from helpers.store import BUSYBOX, POOL, Store, wait_until

pytestmark = [pytest.mark.root, pytest.mark.zfsfuse]


def zfs(*words: str, input: bytes | None = None) -> bytes:
    done = subprocess.run(["zfs", *words], input=input, capture_output=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def write(store: Store, text: str) -> None:
    store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", f"echo {text} >/d/f")


def read(store: Store) -> str:
    return store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "cat", "/d/f").line


def full_name(store: Store) -> str:
    e = store.engine()
    record = e.records.get("volume", e.records.resolve("volume", "data"))
    e.unmount_volume("data")
    e.driver.close(record["dataset"])
    return f"{e.config.dataset}/{record['dataset']}"


def names(store: Store) -> list[str]:
    rows = store.ok("log", "--format", "json", "data").json
    return [row["Name"] for row in rows]


def test_what_was_removed_comes_back() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        write(store, "one")
        store.ok("snapshot", "data@a")
        write(store, "two")
        store.ok("rollback", "data@a")
        store.ok("clone", "data@a", "copy")
        store.ok("snapshot", "rm", "data@a")
        assert store.strata("snapshot", "rm", "--now", "data@a").rc != 0
        assert store.ok("undo").line == "snapshot data@a"
        refused = store.strata("snapshot", "rm", "--now", "data@a")
        assert refused.rc == 2, "clones stand on it"
        store.ok("branch", "rm", "data", "g1")
        assert names(store) == ["g2"]
        assert store.ok("undo").line == "branch data g1"
        assert names(store) == ["g2", "g1", "a"], "with the snapshots that lie on it"
        store.ok("switch", "data", "g1")
        assert read(store) == "two"
        store.ok("create", "--name", "web", "-v", "data:/d", BUSYBOX, "cat", "/d/f")
        store.ok("volume", "rm", "-f", "data")
        store.ok("volume", "create", "data")
        done = store.ok("undo")
        assert "volume data-restored" in done.out
        assert store.ok("start", "-a", "web").line == "two"
        assert store.ok("diff", "data-restored@a").line.startswith("C /f")
        store.ok("container", "prune", "--force")
        store.ok("volume", "prune", "--all", "--force")
        assert store.ok("volume", "ls", "-q").out == ""
        assert {"volume data", "volume copy"} <= set(store.ok("undo").out.splitlines())
        assert store.ok("undo").line == "container web"
        assert store.ok("start", "-a", "web").line == "two"
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []

    apart(act)


def test_a_change_within_one_second_is_seen_in_both_directions() -> None:
    """The times of zfs-fuse are whole seconds: a change can leave size and times as they were."""

    def act(store: Store) -> None:
        store.ok("volume", "create", "data")
        path = store.ok("volume", "inspect", "data", "--format", "{{.Mountpoint}}").line
        known: list[float] = []
        while len(set(known)) != 1:
            store.strata("snapshot", "rm", "--now", "data@old")
            known = []
            for text in ("one", "two"):
                if known:
                    store.ok("snapshot", "data@old")
                with open(f"{path}/f", "w") as file:
                    file.write(text)
                known.append(os.stat(f"{path}/f").st_mtime)
        wait_until(lambda: time.time() > known[0] + 1.1, "the next second")
        store.ok("snapshot", "data@new")
        for specs in (["data@old"], ["data@old", "data@new"], ["data@new", "data@old"]):
            assert store.ok("diff", *specs).line == "C /f  3 B -> 3 B", specs

    apart(act)


def test_what_is_done_by_hand_breaks_no_command() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        write(store, "one")
        zfs("snapshot", f"{full_name(store)}@byhand")
        write(store, "two")
        store.ok("snapshot", "data@late")
        assert names(store) == ["g1", "late", "byhand"]
        assert "foreign" in store.ok("log", "data").out
        store.ok("rollback", "data@byhand")
        assert read(store) == "one"
        store.ok("switch", "data", "g1")
        # zfs rollback destroys what is newer: it is not there any more, and that is all.
        zfs("rollback", "-R", f"{full_name(store)}@byhand")
        assert "late" not in names(store)
        store.ok("snapshot", "data@late")
        # A renamed head is found by its GUID.
        old = full_name(store)
        zfs("rename", old, f"{old.rpartition('/')[0]}/elsewhere")
        assert read(store) == "one"
        store.ok("snapshot", "data@again")
        assert store.ok("volume", "inspect", "data").json[0]["Dataset"].endswith("/elsewhere")
        # A head that was sent, destroyed and received again is the volume's all the same.
        name = full_name(store)
        stream = zfs("send", f"{name}@again")
        zfs("rename", name, f"{name}-old")
        zfs("destroy", "-R", f"{name}-old")
        zfs("receive", name, input=stream)
        if not POOL:
            zfs("umount", name)  # zfs-fuse mounts what it received
        assert names(store)[:2] == ["g1", "again"]
        assert read(store) == "one"
        # A head that is gone says so, and everything else goes on.
        write(store, "three")
        store.ok("snapshot", "data@three")
        zfs("destroy", "-R", full_name(store))
        lost = store.strata("snapshot", "data@never")
        assert lost.rc == 125
        assert "destroyed outside Strata" in lost.err
        assert store.strata("log", "data").rc == 125
        store.ok("ps", "-a")
        store.ok("volume", "ls")
        store.ok("volume", "rm", "data")
        store.ok("volume", "create", "data")

    apart(act)


def test_the_trash_is_emptied_from_the_leaves_down() -> None:
    """What clones were made of goes with them, whichever was removed first."""

    def act(store: Store) -> None:
        store.ok("volume", "create", "data")
        store.ok("snapshot", "data@a")
        store.ok("rollback", "data@a")
        store.ok("rollback", "data@a")
        store.ok("clone", "data@a", "copy")
        store.ok("volume", "rm", "data")
        store.ok("volume", "rm", "copy")
        store.ok("trash", "empty", "--all", "--force")
        assert store.ok("trash", "ls", "--format", "json").json == []
        left = zfs("list", "-Hr", "-o", "name", store.engine().config.dataset or "").decode()
        assert not [name for name in left.split() if "data." in name or "copy." in name]

    apart(act)


def test_space_is_explained_in_parts() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        big = "dd if=/dev/urandom of=/d/big bs=1M count=4 2>/dev/null; sync"
        store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", big)
        store.ok("snapshot", "data@a")
        store.ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", "rm /d/big; sync")
        store.ok("volume", "create", "gone")
        store.ok("run", "--rm", "-v", "gone:/d", BUSYBOX, "sh", "-c", big)
        store.ok("create", "--name", "web", BUSYBOX, "true")
        store.ok("volume", "rm", "gone")
        rows = {row["Name"]: row for row in store.ok(
            "system", "df", "--explain", "--format", "json").json}  # fmt: skip
        assert rows["data"]["Held"] > 4_000_000
        assert rows["data"]["Unique"] < 1_000_000
        assert rows["gone"]["Trash"] > 4_000_000
        assert rows["web"]["Shared"] > rows["web"]["Unique"]
        ways = store.ok("system", "df", "--free", "6m", "--format", "json").json
        assert [row["Command"].rpartition(" ")[0] for row in ways] == [
            "strata trash empty", "strata snapshot rm --now"]  # fmt: skip
        assert "nothing more is known" in store.ok("system", "df", "--free", "1g").err

    apart(act)
