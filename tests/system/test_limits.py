"""Limits of volumes and containers, on btrfs and on ZFS: they hold, they stay, they explain."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.apart import apart
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root]

MIB = 1 << 20


def on_btrfs(act: Callable[[Store], None]) -> None:
    with open_store() as store:
        act(store)


STORES = [
    pytest.param(on_btrfs, id="btrfs", marks=pytest.mark.btrfs),
    pytest.param(apart, id="zfs-fuse", marks=pytest.mark.zfsfuse),
]


def get_limits(store: Store, kind: str, name: str) -> dict[str, Any]:
    words = ["volume", "inspect"] if kind == "volume" else ["container", "inspect"]
    found = store.ok(*words, name).json[0]
    rows = found["Limits" if kind == "volume" else "StorageLimits"]
    return {row["Name"]: row["Bytes"] for row in rows}


def make_file(folder: Path, size: int) -> str:
    path = folder / f"file-{size}"
    path.write_bytes(os.urandom(size))
    return str(path)


def fails(store: Store, *args: str) -> str:
    """The one line and the hint of a command line that must fail by itself."""
    outcome = store.strata(*args)
    assert outcome.rc == 125, repr(outcome)
    assert outcome.err.count("\n") <= 2, repr(outcome)
    assert "Traceback" not in outcome.err
    return outcome.err


def check_volume(store: Store, folder: Path) -> None:
    ok = store.ok
    ok("volume", "create", "-o", "size=8M", "data")
    assert get_limits(store, "volume", "data") == {"size": 8 * MIB}
    full = ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c",
              "dd if=/dev/urandom of=/d/big bs=1M count=20; sync").err  # fmt: skip
    assert "Disk quota exceeded" in full
    tar = folder / "in.tar"
    subprocess.run(["tar", "-C", folder, "-cf", tar, os.path.basename(make_file(folder, 4 * MIB))],
                   check=True)  # fmt: skip
    said = fails(store, "volume", "import", "data", str(tar))
    assert "volume data is full: its limit size=8M is reached" in said
    assert "strata volume update -o size=16M data" in said
    assert "more than size=4M" in fails(store, "volume", "update", "-o", "size=4M", "data")
    # What is full can be snapshotted, taken back, cloned, switched, and comes back from the trash.
    ok("snapshot", "data@a")
    ok("rollback", "data@a")
    ok("clone", "data@a", "other")
    for name in ("data", "other"):
        assert get_limits(store, "volume", name) == {"size": 8 * MIB}
    outcome = store.strata("run", "--rm", "-v", "other:/d", BUSYBOX, "sh", "-c",
                           "dd if=/dev/urandom of=/d/more bs=1M count=4; sync")  # fmt: skip
    assert "Disk quota exceeded" in outcome.err
    ok("volume", "update", "-o", "size=32M", "data")
    ok("switch", "data", "g1")
    assert get_limits(store, "volume", "data") == {"size": 32 * MIB}
    ok("volume", "import", "data", str(tar))
    assert store.ok("volume", "inspect", "data").json[0]["Options"] == {"size": "32M"}
    ok("volume", "rm", "data")
    ok("undo")
    assert get_limits(store, "volume", "data") == {"size": 32 * MIB}
    rows = ok("system", "df", "-v", "--format", "json").json["Volumes"]
    (row,) = [row for row in rows if row["VolumeName"] == "data"]
    assert row["Limits"][0]["Bytes"] == 32 * MIB
    assert 8 * MIB < row["Limits"][0]["Used"] < 32 * MIB
    assert "of 33.55MB" in ok("system", "df", "-v").out
    assert ok("system", "check").rc == 0
    ok("volume", "update", "-o", "size=none", "data")
    assert get_limits(store, "volume", "data") == {}
    ok("switch", "data", "g2")
    ok("run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c",
       "dd if=/dev/urandom of=/d/more bs=1M count=9; sync")  # fmt: skip


@pytest.mark.parametrize("on", STORES)
def test_a_volume_keeps_its_size(on: Callable[[Callable[[Store], None]], None],
                                 tmp_path: Path) -> None:  # fmt: skip
    def act(store: Store) -> None:
        store.add_busybox()
        check_volume(store, tmp_path)

    on(act)


def check_container(store: Store, folder: Path) -> None:
    ok = store.ok
    big, small = make_file(folder, 9 * MIB), make_file(folder, 2 * MIB)
    # An image of more than the limit: it does not count.
    ok("create", "--name", "base", BUSYBOX, "true")
    ok("cp", big, "base:/image")
    ok("commit", "base", "localhost/big:1")
    ok("run", "--detach", "--name", "web", "--storage-opt", "size=8M", "--stop-timeout", "0",
       "localhost/big:1", "sleep", "1000")  # fmt: skip
    assert get_limits(store, "container", "web") == {"size": 8 * MIB}
    ok("cp", small, "web:/one")
    said = fails(store, "cp", big, "web:/two")
    assert "container web is full: its limit size=8M is reached" in said
    assert "strata update --storage-opt size=16M web" in said
    ok("exec", "web", "rm", "-f", "/two")
    outcome = store.strata("exec", "web", "dd", "if=/dev/urandom", "of=/more", "bs=1M", "count=9")
    assert "Disk quota exceeded" in outcome.err
    # Full as it is, everything about it still works.
    ok("snapshot", "web@full")
    ok("rename", "web", "www")
    ok("rollback", "www@start")
    ok("rollback", "www@full")
    ok("clone", "www@full", "copy")
    ok("commit", "copy", "localhost/big:2")
    for name in ("www", "copy"):
        assert get_limits(store, "container", name) == {"size": 8 * MIB}
    assert ok("system", "check").rc == 0
    assert "more than size=1M" in fails(store, "update", "--storage-opt", "size=1M", "www")
    ok("update", "--storage-opt", "size=40M", "www")
    ok("cp", big, "www:/two")
    ok("rm", "--force", "www")
    ok("undo")
    assert get_limits(store, "container", "www") == {"size": 40 * MIB}
    # A container of an image that was made of a full one is not full.
    ok("run", "--rm", "localhost/big:2", "dd", "if=/dev/zero", "of=/x", "bs=1M", "count=9")
    ok("create", "--name", "whole", "--storage-opt", "refquota=40M", "localhost/big:1", "true")
    assert get_limits(store, "container", "whole") == {"refquota": 40 * MIB}
    said = fails(store, "update", "--storage-opt", "refquota=5M", "whole")
    assert "more than refquota=5M" in said


@pytest.mark.parametrize("on", STORES)
def test_the_image_of_a_container_does_not_count(on: Callable[[Callable[[Store], None]], None],
                                                 tmp_path: Path) -> None:  # fmt: skip
    def act(store: Store) -> None:
        store.add_busybox()
        check_container(store, tmp_path)

    on(act)


@pytest.mark.zfsfuse
def test_reservations_and_quotas_stay_with_the_head() -> None:
    def act(store: Store) -> None:
        ok = store.ok
        ok("volume", "create", "-o", "reservation=32M", "-o", "quota=64M", "data")
        wanted = {"quota": 64 * MIB, "reservation": 32 * MIB}
        assert get_limits(store, "volume", "data") == wanted
        ok("snapshot", "data@a")
        before = store.engine().driver.get_pool_space().free
        ok("rollback", "data@a")
        assert get_limits(store, "volume", "data") == wanted
        space = store.engine().driver.get_pool_space().free
        assert abs(before - space) < 8 * MIB, "the branch must not reserve anything any more"
        e = store.engine()
        record = e.records.get("volume", e.records.resolve("volume", "data"))
        e.driver.set_properties(record["dataset"], {"quota": "none"})
        found = store.strata("system", "check")
        assert found.rc == 1
        assert "volume data: its quota of 64M is not set any more" in found.out + found.err
        ok("system", "check", "--repair")
        assert get_limits(store, "volume", "data") == wanted
        assert store.ok("system", "check").rc == 0

    apart(act)


@pytest.mark.btrfs
def test_btrfs_counts_only_while_there_is_a_limit() -> None:
    with open_store() as store:

        def is_counting() -> bool:
            done = subprocess.run(["btrfs", "qgroup", "show", store.pool], capture_output=True,
                                  check=False)  # fmt: skip
            return done.returncode == 0

        ok = store.ok
        for option in ("quota=1G", "reservation=1G", "refreservation=1G"):
            said = fails(store, "volume", "create", "-o", option, "bad")
            assert "cannot be honoured: btrfs" in said
        assert not is_counting()
        ok("volume", "create", "-o", "size=8M", "data")
        assert is_counting()
        subprocess.run(["btrfs", "quota", "disable", store.pool], check=True)
        found = store.strata("system", "check")
        assert found.rc == 1
        assert "volume data: its size of 8M is not set any more" in found.out + found.err
        ok("system", "check", "--repair")
        assert get_limits(store, "volume", "data") == {"size": 8 * MIB}
        ok("snapshot", "data@a")
        ok("volume", "update", "-o", "size=none", "data")
        assert not is_counting()
        ok("volume", "update", "-o", "size=9M", "data")
        ok("volume", "rm", "--now", "data")
        ok("volume", "prune", "--force")
        assert not is_counting()


@pytest.mark.btrfs
def test_words_that_make_no_sense(busybox_store: Store) -> None:
    store = busybox_store
    store.ok("volume", "create", "sense")
    try:
        for option in ("size=1x", "size=", "size", "mountpoint=/x", "refquota=1K"):
            fails(store, "volume", "update", "-o", option, "sense")
        assert "two words for one limit" in fails(
            store, "volume", "create", "-o", "size=1G", "-o", "refquota=2G", "bad"
        )
        assert "nothing to change" in fails(store, "volume", "update", "sense")
        fails(store, "volume", "update", "-o", "size=1G", "none")
        fails(store, "update", "--storage-opt", "size", "none")
        assert store.ok("volume", "inspect", "sense").json[0]["Options"] == {}
        assert "size=" in store.ok("__complete", "--", "volume", "create", "-o", "").out
    finally:
        store.ok("volume", "rm", "--now", "sense")


@pytest.mark.btrfs
def test_no_limit_can_be_said_from_the_beginning(busybox_store: Store) -> None:
    store = busybox_store
    try:
        for name, options in (("zero", ("-o", "size=0")), ("word", ("-o", "refquota=none"))):
            assert store.ok("volume", "create", *options, name).line == name
            assert store.ok("volume", "inspect", name).json[0]["Limits"] == []
        store.ok("create", "--name", "free", "--storage-opt", "size=0", BUSYBOX, "true")
        assert store.ok("system", "df").rc == 0
        assert store.ok("start", "-a", "free").rc == 0
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []
    finally:
        store.strata("rm", "--now", "free")
        store.strata("volume", "rm", "--now", "zero", "word")


@pytest.mark.btrfs
def test_df_tells_numbers_where_the_pool_does_not_count(tmp_path: Path) -> None:
    with open_store() as store:
        ok = store.ok
        store.add_busybox()
        ok("volume", "create", "data")
        ok("create", "--name", "web", "-v", "data:/d", BUSYBOX, "true")
        ok("cp", make_file(tmp_path, 4 * MIB), "web:/d/old")
        ok("snapshot", "data@a")
        place = ok("volume", "inspect", "--format", "{{.Mountpoint}}", "data").line
        os.unlink(f"{place}/old")
        ok("cp", make_file(tmp_path, 2 * MIB), "web:/own")
        ok("cp", make_file(tmp_path, MIB), "web:/d/new")
        ok("volume", "create", "gone")
        place = ok("volume", "inspect", "--format", "{{.Mountpoint}}", "gone").line
        Path(place, "file").write_bytes(os.urandom(3 * MIB))
        ok("clone", "gone", "gone2")
        ok("volume", "rm", "gone")
        ok("volume", "rm", "gone2")
        rows = {row["Name"]: row for row in ok("system", "df", "--explain", "--format",
                                               "json").json}  # fmt: skip

        def parts(name: str) -> list[int]:
            return [rows[name][part] // MIB for part in ("Unique", "Shared", "Held", "Trash")]

        assert parts("data") == [1, 0, 4, 0]
        assert parts("web") == [2, 1, 0, 0]
        assert rows[BUSYBOX]["Shared"] > MIB
        shown = ok("system", "df", "--explain").out
        assert "-" not in [word for line in shown.splitlines() for word in line.split()]
        assert "4.19 MB" in shown
        # Neither of the two frees anything alone.
        ways = ok("system", "df", "--free", "5m", "--format", "json").json
        assert sum(way["Frees"] for way in ways) >= 5 * MIB
        assert [way["What"] for way in ways] == [
            "removed volume gone", "removed volume gone2", "snapshot data@a",
        ]  # fmt: skip
        summary = {row["Type"]: row for row in ok("system", "df", "--format", "json").json}
        assert 2 * MIB <= summary["Containers"]["RawSize"] < 3 * MIB
        assert 5 * MIB <= summary["Local Volumes"]["RawSize"] < 6 * MIB
