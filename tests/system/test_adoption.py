"""Volumes made of datasets that exist: everything works on them, and nothing happens to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.apart import apart
from helpers.outside import Disk, destroy_pool, open_disk, read, run, write
from helpers.store import BUSYBOX, Store, open_store, wait_until

from strata.engine.system import verbs as system

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

MARK = "trusted.strata."


@pytest.fixture
def disk(store: Store) -> Iterator[Disk]:
    with open_disk(store) as made:
        yield made


def marks(path: str) -> list[str]:
    return [key for key in os.listxattr(path) if key.startswith(MARK)]


def inspect(store: Store, name: str) -> Any:
    return store.ok("volume", "inspect", name).json[0]


def problems(store: Store) -> list[str]:
    found = store.strata("system", "check", "--format", "json").json["Problems"]
    return [f"{p['Id']} {p['Object']}" for p in found]


def test_time_goes_back_and_forth_beside_the_adopted_dataset(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    before = os.stat(path)
    assert store.ok("volume", "create", "--dataset", path, "photos").line == "photos"
    shown = inspect(store, "photos")
    assert (shown["Dataset"], shown["Adopted"]) == (path, True)
    assert read(f"{shown['Mountpoint']}/f") == "one"
    store.ok("snapshot", "photos@a")
    write(f"{path}/f", "two")
    assert store.ok("diff", "photos@a").line.startswith("C /f")
    done = store.ok("rollback", "photos@a")
    assert "stays where it is" in done.err
    assert read(f"{shown['Mountpoint']}/f") == "one"
    assert read(f"{path}/f") == "two", "the owner sees what was there"
    assert (os.stat(path).st_dev, os.stat(path).st_ino) == (before.st_dev, before.st_ino)
    head = inspect(store, "photos")["Dataset"]
    assert head.startswith(f"{path}.strata-")
    store.ok("cp", "photos@a:/f", f"{store.base}/out")
    assert read(f"{store.base}/out") == "one"
    where = store.ok("mount", "photos@a").line
    assert read(f"{where}/f") == "one"
    store.ok("unmount", "photos@a")
    refused = store.strata("branch", "rm", "photos", "g1")
    assert refused.rc != 0
    assert path in refused.err
    store.ok("switch", "photos", "g1")
    assert inspect(store, "photos")["Dataset"] == path
    store.ok("branch", "rm", "photos", "g2")
    store.ok("undo")
    store.ok("branch", "rm", "--now", "photos", "g2")
    assert not os.path.exists(head)
    store.ok("snapshot", "rm", "--now", "photos@a")
    assert problems(store) == []


def test_removing_it_only_forgets_and_undo_remembers(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.ok("volume", "create", "--label", "app=web", "--dataset", path, "photos")
    store.ok("snapshot", "photos@a")
    store.ok("snapshot", "rm", "photos@a")
    store.ok("snapshot", "photos@b")
    store.ok("rollback", "photos@b")
    store.ok("clone", "photos@b", "copy")
    head = inspect(store, "photos")["Dataset"]
    dry = store.ok("volume", "rm", "--dry-run", "photos").out
    assert dry.startswith("would forget volume photos")
    done = store.ok("volume", "rm", "photos")
    assert done.line == "photos"
    assert f"{head}, {path} stay as they are" in done.err
    assert read(f"{path}/f") == "one"
    assert os.path.isdir(head)
    assert f"{MARK}id" not in marks(path)
    assert not os.path.exists(f"{store.root}/volumes/photos")
    store.ok("snapshot", "ls")
    assert problems(store) == []
    assert "volume photos" in store.ok("undo").out
    again = inspect(store, "photos")
    assert (again["Dataset"], again["Labels"]) == (head, {"app": "web"})
    assert f"{MARK}id" in marks(path)
    store.ok("switch", "photos", "g1")
    # For good, and the snapshot that was removed before goes with it.
    store.ok("volume", "rm", "--now", "photos")
    wait_until(lambda: not store.engine().trash.list_ids(), "the trash is empty")
    assert read(f"{path}/f") == "one"
    assert os.path.isdir(head)
    [folder] = os.listdir(f"{disk.top}/.strata/snapshots")
    assert os.listdir(f"{disk.top}/.strata/snapshots/{folder}") == ["b"]
    store.ok("volume", "create", "--dataset", path, "photos")
    assert "b" in store.ok("log", "photos").out
    assert store.ok("volume", "prune", "--all", "--force").out.strip().startswith("copy")
    assert store.strata("volume", "exists", "photos").rc == 0
    store.ok("volume", "rm", "--all")
    assert read(f"{path}/f") == "one"


def test_nothing_is_left_on_a_dataset_without_snapshots(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.ok("volume", "create", "--dataset", path, "photos")
    store.ok("volume", "rm", "--now", "photos")
    assert marks(path) == []
    assert os.listdir(disk.top) == ["photos"]
    assert read(f"{path}/f") == "one"


def test_what_cannot_be_adopted_is_refused_with_the_reason(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    os.mkdir(f"{disk.top}/plain")
    run("btrfs", "subvolume", "snapshot", "-r", path, f"{disk.top}/frozen")
    run("btrfs", "subvolume", "create", f"{path}/inner")
    for dataset, reason in (
        (f"{disk.top}/none", "no such dataset"),
        (f"{disk.top}/plain", "not a subvolume"),
        (f"{disk.top}/frozen", "read-only"),
        ("/proc", "not on btrfs"),
        ("tank/photos", "no absolute path"),
        (disk.top, "mount point"),
        (f"{store.pool}/records", "belongs to a store"),
    ):
        refused = store.strata("volume", "create", "--dataset", dataset, "x")
        assert refused.rc == 125, refused
        assert reason in refused.err, refused
        assert "hint:" in refused.err
    refused = store.strata("volume", "create", "--dataset", path, "-o", "size=1g", "x")
    assert "--opt cannot be used" in refused.err
    store.ok("volume", "create", "--dataset", path, "photos")
    for dataset, name in ((path, "y"), (f"{path}/inner", "y")):
        refused = store.strata("volume", "create", "--dataset", dataset, name)
        assert refused.rc == 125
        assert "photos" in refused.err
    other = disk.add("music")
    assert store.strata("volume", "create", "--dataset", other, "photos").rc == 125
    assert marks(other) == []
    os.chmod(disk.top, 0o777)
    refused = store.strata("volume", "create", "--dataset", other, "music")
    assert "changed by others than root" in refused.err
    assert store.ok("volume", "ls", "-q").line == "photos"


def test_another_store_that_has_it_is_named_until_it_is_gone(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    with open_store() as other:
        other.ok("volume", "create", "--dataset", path, "pictures")
        refused = store.strata("volume", "create", "--dataset", path, "photos")
        assert refused.rc == 125
        assert "the volume pictures of the store at" in refused.err
        assert other.root in refused.err
        other.ok("system", "reset", "--force")
        assert other.root in store.strata("volume", "create", "--dataset", path, "photos").err
        other.ok("undo")
        assert inspect(other, "pictures")["Dataset"] == path
        losses = system.list_losses(other.root, other.runroot)
        assert f"the records of adopted datasets, which stay: {path}" in losses
        other.ok("system", "reset", "--force", "--now")
        assert read(f"{path}/f") == "one"
        assert marks(path) == []
    store.ok("volume", "create", "--dataset", path, "photos")


def test_subvolumes_inside_go_along_but_not_the_snapshots_of_others(
    store: Store, disk: Disk
) -> None:
    path = disk.add("photos")
    run("btrfs", "subvolume", "create", f"{path}/inner")
    write(f"{path}/inner/f", "inside")
    os.mkdir(f"{path}/.snapshots")
    run("btrfs", "subvolume", "snapshot", "-r", path, f"{path}/.snapshots/1")
    store.ok("volume", "create", "--dataset", path, "photos")
    store.ok("snapshot", "photos@a")
    store.ok("rollback", "photos@a")
    head = inspect(store, "photos")["Dataset"]
    assert read(f"{head}/inner/f") == "inside"
    assert os.listdir(f"{head}/.snapshots/1") == []
    assert read(f"{path}/.snapshots/1/f") == "one"
    store.ok("switch", "photos", "g1")
    store.ok("branch", "rm", "--now", "photos", "g2")


def test_a_pool_that_is_away_breaks_nothing_else(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.add_busybox()
    store.ok("volume", "create", "--dataset", path, "photos")
    store.ok("create", "--name", "web", "-v", "photos:/d", BUSYBOX, "cat", "/d/f")
    store.ok("snapshot", "photos@a")
    store.ok("rollback", "photos@a")
    store.ok("branch", "rename", "photos", "g1", "mine")
    store.ok("volume", "unmount", "photos")
    disk.unmount()
    for words in (
        ("snapshot", "photos@b"), ("rollback", "photos@a"), ("log", "photos"),
        ("volume", "inspect", "photos"), ("start", "web"), ("clone", "photos@a", "copy"),
        ("switch", "photos", "mine"), ("diff", "photos@a"),
    ):  # fmt: skip
        refused = store.strata(*words)
        assert refused.rc == 125, refused
        assert f"not mounted at {disk.top}" in refused.err, refused
    assert store.ok("volume", "ls", "-q").line == "photos"
    assert "web" in store.ok("ps", "-a").out
    store.ok("system", "df", "-v")
    store.ok("snapshot", "ls")
    assert problems(store) == ["place-missing volume photos"]
    assert store.strata("system", "check", "--repair").rc == 1
    disk.mount()
    assert problems(store) == []
    assert store.ok("start", "-a", "web").line == "one"
    names = [row["Name"] for row in store.ok("log", "--format", "json", "photos").json]
    assert sorted(names) == ["a", "g2", "mine"], "the branch is known"
    # Forgotten while it is away, it can come back when that is back.
    store.ok("rm", "web")
    store.ok("volume", "unmount", "photos")
    disk.unmount()
    store.ok("volume", "rm", "photos")
    assert "not mounted" in store.strata("undo").err
    disk.mount()
    store.ok("undo")
    assert inspect(store, "photos")["Dataset"].startswith(path)


def test_what_was_removed_on_a_disk_waits_for_it(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.ok("volume", "create", "--dataset", path, "photos")
    store.ok("snapshot", "photos@a")
    store.ok("snapshot", "photos@b")
    store.ok("rollback", "photos@b")
    store.ok("switch", "photos", "g1")
    store.ok("snapshot", "rm", "photos@a")
    store.ok("branch", "rm", "photos", "g2")
    store.ok("volume", "unmount", "photos")
    disk.unmount()
    assert "photos@a" in store.ok("trash", "ls").out
    for _ in range(2):
        assert "not mounted" in store.strata("undo").err
    store.ok("trash", "empty", "--all", "--force")
    disk.mount()
    assert sorted(row["Name"] for row in store.ok("log", "--format", "json", "photos").json) == [
        "b", "g1",
    ]  # fmt: skip
    store.ok("volume", "prune", "--force")
    assert store.engine().trash.list_ids() == []
    assert len(os.listdir(disk.top)) == 2
    [folder] = os.listdir(f"{disk.top}/.strata/snapshots")
    assert os.listdir(f"{disk.top}/.strata/snapshots/{folder}") == ["b"]


def test_a_dataset_renamed_or_destroyed_by_hand(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.ok("volume", "create", "--dataset", path, "photos")
    os.rename(path, f"{disk.top}/pictures")
    store.ok("snapshot", "photos@a")
    assert inspect(store, "photos")["Dataset"] == f"{disk.top}/pictures"
    store.ok("volume", "unmount", "photos")
    run("btrfs", "subvolume", "delete", f"{disk.top}/pictures")
    lost = store.strata("snapshot", "photos@b")
    assert lost.rc == 125
    assert "renamed or destroyed outside Strata" in lost.err
    assert "volume rm photos" in lost.err
    assert store.ok("volume", "ls", "-q").line == "photos"
    assert problems(store) == ["dataset-lost volume photos"]
    store.ok("volume", "rm", "photos")
    assert store.strata("undo").rc == 125
    assert problems(store) == []


def test_containers_use_it_and_a_set_is_of_one_moment(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    store.add_busybox()
    store.ok("volume", "create", "--dataset", path, "photos")
    store.ok("run", "-d", "--name", "web", "-v", "photos:/d", BUSYBOX, "sleep", "1000")
    store.ok("exec", "web", "sh", "-c", "echo -n two >/d/f")
    assert read(f"{path}/f") == "two"
    done = store.ok("snapshot", "--volumes", "web@a")
    assert "web held still: the snapshots are of different pools" in done.err
    store.ok("exec", "web", "sh", "-c", "echo -n three >/d/f")
    done = store.ok("rollback", "photos@a")
    assert "started again: web" in done.err
    assert store.ok("exec", "web", "cat", "/d/f").line == "two"
    assert read(f"{path}/f") == "three"
    assert store.ok("run", "--rm", "--at", "photos@a", "-v", "photos:/d", BUSYBOX,
                    "cat", "/d/f").line == "two"  # fmt: skip
    store.ok("fork", "web", "--as", "f1")
    store.ok("exec", "f1-web", "sh", "-c", "echo -n fork >/d/f")
    assert store.ok("exec", "web", "cat", "/d/f").line == "two"
    store.ok("fork", "rm", "--discard", "f1")
    assert "running container(s): web" in store.strata("volume", "unmount", "photos").err
    refused = store.strata("volume", "rm", "photos")
    assert refused.rc == 2
    store.ok("rm", "-f", "-t", "0", "web")
    store.ok("volume", "rm", "photos")
    assert read(f"{path}/f") == "three"


def test_rebuild_finds_it_again(store: Store, disk: Disk) -> None:
    path = disk.add("photos")
    away = disk.add("music")
    store.ok("volume", "create", "--label", "app=web", "--dataset", path, "photos")
    store.ok("volume", "create", "--dataset", away, "music")
    store.ok("snapshot", "photos@a")
    store.ok("rollback", "photos@a")
    store.ok("clone", "photos@a", "copy")
    head = inspect(store, "photos")["Dataset"]
    for folder in ("volumes", "names/volume"):
        where = f"{store.pool}/records/{folder}"
        for name in os.listdir(where):
            os.unlink(f"{where}/{name}")
    store.ok("system", "rebuild")
    again = inspect(store, "photos")
    assert (again["Dataset"], again["Adopted"], again["Labels"]) == (head, True, {"app": "web"})
    assert store.ok("volume", "ls", "-q").out.split() == ["copy", "music", "photos"]
    assert inspect(store, "copy")["Adopted"] is False
    assert problems(store) == []
    store.ok("volume", "rm", "photos")
    assert read(f"{path}/f") == "one"


def test_on_zfs() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        with open(f"{store.base}/tank", "wb") as file:
            file.truncate(200 << 20)
        tank = f"tank{os.getpid()}"
        run("zpool", "create", "-o", "cachefile=none", "-m", f"{store.base}/mnt", tank,
            f"{store.base}/tank")  # fmt: skip
        run("zfs", "create", "-o", "recordsize=16K", f"{tank}/photos")
        path = f"{store.base}/mnt/photos"
        write(f"{path}/f", "one")
        run("zfs", "snapshot", f"{tank}/photos@autosnap_2026-11-22_00:00:00_daily")
        for dataset, reason in ((tank, "whole pool"), (f"{tank}/none", "no such dataset"),
                                (store.engine().config.dataset or "", "belongs")):  # fmt: skip
            refused = store.strata("volume", "create", "--dataset", dataset, "x")
            assert reason in refused.err, refused
        store.ok("volume", "create", "--dataset", f"{tank}/photos", "photos")
        assert inspect(store, "photos")["Dataset"] == f"{tank}/photos"
        rows = store.ok("log", "--format", "json", "photos").json
        assert [(row["Name"], row["Foreign"]) for row in rows][1:] == [
            ("autosnap_2026-11-22_00:00:00_daily", True)
        ]
        assert "autosnap" in store.ok("snapshot", "ls", "photos").out
        write(f"{path}/f", "two")
        store.ok("snapshot", "photos@a")
        assert store.ok("diff", "photos@autosnap_2026-11-22_00:00:00_daily").line.startswith("C /f")
        store.ok("rollback", "photos@autosnap_2026-11-22_00:00:00_daily")
        head = inspect(store, "photos")["Dataset"]
        assert head.startswith(f"{tank}/photos.strata-")
        assert read(f"{path}/f") == "two"
        assert store.ok("run", "--rm", "-v", "photos:/d", BUSYBOX, "cat", "/d/f").line == "one"
        shown = run("zfs", "get", "-H", "-o", "value", "recordsize,mountpoint", head).split()
        assert shown[0] == "16K"
        # Where the module can mount it in one namespace alone, it has no place of its own.
        assert shown[1] == "legacy" or shown[1].startswith(store.root)
        assert (
            run("zfs", "get", "-H", "-o", "value", "mountpoint", f"{tank}/photos").strip() == path
        )
        store.ok("clone", "photos@a", "copy")
        store.ok("volume", "rm", "copy")
        store.ok("undo")
        assert problems(store) == []
        done = store.ok("volume", "rm", "photos")
        assert f"{tank}/photos" in done.err
        properties = run("zfs", "get", "-H", "-o", "property,source", "all", f"{tank}/photos")
        assert "strata:" not in properties
        store.ok("undo")
        store.ok("switch", "photos", "g1")
        store.ok("branch", "rm", "--now", "photos", "g2")
        store.ok("volume", "rm", "--now", "copy")
        store.ok("volume", "unmount", "photos")
        run("zpool", "export", tank)
        lost = store.strata("snapshot", "photos@b")
        assert lost.rc == 125
        assert f"the pool {tank} of the dataset {tank}/photos is not imported" in lost.err
        assert f"zpool import {tank}" in lost.err
        assert store.ok("volume", "ls", "-q").line == "photos"
        assert problems(store) == ["place-missing volume photos"]
        run("zpool", "import", "-d", store.base, "-o", "cachefile=none", tank)
        store.ok("snapshot", "photos@b")
        store.ok("system", "reset", "--force", "--now")
        assert read(f"{path}/f") == "two"
        destroy_pool(tank)

    apart(act)
