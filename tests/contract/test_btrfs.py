"""What only btrfs has: subvolumes inside datasets, copied attributes, staged leftovers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from strata import command, trace
from strata.linux import btrfs
from strata.storage import description
from strata.storage.btrfs import STAGING, Btrfs
from strata.storage.driver import DatasetExists, DatasetNotFound

if TYPE_CHECKING:
    from conftest import Maker

pytestmark = [pytest.mark.btrfs, pytest.mark.root]

IDENTITY = {"id": "4f1c", "kind": "container", "name": "web"}


@pytest.fixture(scope="module")
def pool(make_store: Maker) -> Btrfs:
    driver = description.open_driver(make_store("btrfs", "btrfs-only"))
    assert isinstance(driver, Btrfs)
    driver.attach()
    return driver


def put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def get(path: str) -> str:
    with open(path) as file:
        return file.read()


def make_inner(path: str) -> None:
    parent, _, short = path.rpartition("/")
    os.makedirs(parent, exist_ok=True)
    fd = btrfs.open_directory(parent)
    btrfs.create_subvolume(fd, short)
    os.close(fd)
    put(f"{path}/file", short)


@pytest.mark.parametrize("file", [False, True])
def test_who_comes_second_to_a_name_replaces_nothing(pool: Btrfs, name: str, file: bool) -> None:
    other = description.open_driver(description.load(pool.root))

    def be_faster(point: str) -> None:
        if point == "dataset:staged":
            trace.hook = None
            other.create(name, {**IDENTITY, "id": "7b2d"})
            if file:
                put(f"{other.open(name)}/file", "theirs")

    trace.hook = be_faster
    try:
        with pytest.raises(DatasetExists):
            pool.create(name, IDENTITY)
    finally:
        trace.hook = None
    assert pool.get(name).identity["id"] == "7b2d"
    assert os.listdir(pool.open(name)) == (["file"] if file else [])
    assert os.listdir(f"{pool.pool}/{STAGING}") == []


@pytest.fixture
def nested(pool: Btrfs, name: str) -> str:
    """A dataset in which a container made subvolumes, one inside another."""
    pool.create(name, IDENTITY)
    path = pool.open(name)
    make_inner(f"{path}/rootfs/var/lib/machines")
    make_inner(f"{path}/rootfs/var/lib/machines/deep/er")
    make_inner(f"{path}/rootfs/srv")
    return name


INNER = {"rootfs/var/lib/machines": "machines", "rootfs/var/lib/machines/deep/er": "er",
         "rootfs/srv": "srv"}  # fmt: skip


def test_a_snapshot_keeps_inner_subvolumes(pool: Btrfs, nested: str) -> None:
    pool.snapshot([f"{nested}@s"])
    for inner in INNER:
        put(f"{pool.open(nested)}/{inner}/file", "changed")
    path = pool.open(f"{nested}@s")
    for inner, text in INNER.items():
        assert get(f"{path}/{inner}/file") == text
        with pytest.raises(OSError, match="Read-only"):
            put(f"{path}/{inner}/file", "forged")
    with pytest.raises(OSError, match="Read-only"):
        put(f"{path}/rootfs/file", "forged")
    assert [entry.name for entry in pool.list_snapshots(nested)] == ["s"]


def test_a_clone_keeps_inner_subvolumes(pool: Btrfs, nested: str) -> None:
    pool.snapshot([f"{nested}@s"])
    clone = pool.clone(f"{nested}@s", f"{nested}c", IDENTITY)
    assert clone.origin == f"{nested}@s"
    path = pool.open(f"{nested}c")
    for inner, text in INNER.items():
        assert get(f"{path}/{inner}/file") == text
        put(f"{path}/{inner}/file", "mine")
    for inner, text in INNER.items():
        assert get(f"{pool.open(nested)}/{inner}/file") == text


def test_destroy_takes_inner_subvolumes(pool: Btrfs, nested: str) -> None:
    pool.snapshot([f"{nested}@s"])
    pool.clone(f"{nested}@s", f"{nested}c", IDENTITY)
    pool.destroy(f"{nested}c")
    pool.destroy(f"{nested}@s")
    pool.snapshot([f"{nested}@t"])
    pool.destroy_recursive(nested)
    assert pool.find(nested) is pool.find(f"{nested}c") is None
    assert pool.collect() == []


def test_rollback_and_promote_keep_inner_subvolumes(pool: Btrfs, nested: str) -> None:
    pool.snapshot([f"{nested}@s"])
    put(f"{pool.open(nested)}/rootfs/srv/file", "broken")
    pool.rollback(f"{nested}@s")
    assert get(f"{pool.open(nested)}/rootfs/srv/file") == "srv"
    pool.clone(f"{nested}@s", f"{nested}c", IDENTITY)
    pool.promote(f"{nested}c")
    pool.destroy(nested)
    assert get(f"{pool.open(f'{nested}c@s')}/rootfs/srv/file") == "srv"
    assert pool.collect() == []


def test_many_inner_subvolumes(pool: Btrfs, name: str) -> None:
    pool.create(name, IDENTITY)
    for number in range(300):  # more than one answer of the kernel holds
        make_inner(f"{pool.open(name)}/v{number}")
    fd = btrfs.open_directory(pool.open(name))
    assert len(btrfs.list_children(fd)) == 300
    os.close(fd)
    pool.destroy(name)
    assert pool.find(name) is None


def test_a_copied_identity_is_not_believed(pool: Btrfs, name: str) -> None:
    made = pool.create(name, IDENTITY)
    command.run(["btrfs", "-q", "subvolume", "snapshot", pool.open(name), f"{pool.pool}/{name}x"])
    copy = pool.get(f"{name}x")
    assert copy.identity == {}
    assert copy.guid != made.guid
    assert copy.origin is None


def test_files_and_directories_are_no_datasets(pool: Btrfs, name: str) -> None:
    put(f"{pool.pool}/{name}", "")
    os.mkdir(f"{pool.pool}/{name}d")
    for other in (name, f"{name}d", "containers", ".staging"):
        with pytest.raises(DatasetNotFound):
            pool.get(other)
        with pytest.raises(DatasetNotFound):
            pool.destroy(other)
    assert os.path.exists(f"{pool.pool}/{name}")
    listed = [entry.name for entry in pool.list_datasets("containers")]
    assert name not in listed
    assert f"{name}d" not in listed


def run_and_kill(pool: Btrfs, work: Callable[[], None]) -> None:
    """Do something in a process that is then killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def stage(pool: Btrfs) -> str:
    path = pool.make_staging_path()
    make_inner(path)
    make_inner(f"{path}/rootfs/inner")
    return path


def test_leftovers_of_killed_commands_are_collected(pool: Btrfs, name: str) -> None:
    kept = stage(pool)
    run_and_kill(pool, lambda: stage(pool) and None)
    removed = pool.collect()
    assert len(removed) == 1
    assert removed[0].startswith(STAGING)
    assert os.listdir(f"{pool.pool}/{STAGING}") == [os.path.basename(kept)]
    pool.discard(kept)


def test_half_destroyed_datasets_are_collected(pool: Btrfs, name: str) -> None:
    pool.create(name, IDENTITY)
    pool.snapshot([f"{name}@a"])
    pool.snapshot([f"{name}@b"])
    pool.create(f"{name}keep", IDENTITY)
    pool.snapshot([f"{name}keep@a"])
    fd = btrfs.open_directory(f"{pool.pool}/containers")
    btrfs.destroy_subvolume(fd, name.rpartition("/")[2])
    os.close(fd)
    assert len(pool.collect()) == 2
    assert [entry.name for entry in pool.list_snapshots(f"{name}keep")] == ["a"]
    assert pool.collect() == []


def test_compression_reaches_the_files_of_a_container(pool: Btrfs, name: str) -> None:
    pool.create(name, IDENTITY)
    os.mkdir(f"{pool.open(name)}/rootfs")
    pool.snapshot([f"{name}@s"])
    pool.clone(f"{name}@s", f"{name}c", IDENTITY, {"compression": "lzo"})
    path = f"{pool.open(f'{name}c')}/rootfs"
    put(f"{path}/new", "text")
    assert os.getxattr(f"{path}/new", "btrfs.compression") == b"lzo"


def test_no_kill_breaks_a_law(pool: Btrfs, name: str) -> None:
    """Kill a life of operations at every traced step; what is there is whole, and the rest of
    the life can be lived."""

    def live(base: str) -> None:
        pool.create(base, IDENTITY)
        make_inner(f"{pool.open(base)}/rootfs/inner")
        pool.snapshot([f"{base}@a", f"{base}@b"])
        pool.rollback(f"{base}@b")
        pool.clone(f"{base}@b", f"{base}c", IDENTITY)
        pool.promote(f"{base}c")
        pool.rename(base, f"{base}r")
        pool.destroy_recursive(f"{base}c")

    step = 0
    while True:
        step += 1
        base = f"{name}k{step}"

        def dying(base: str = base, left: int = step) -> None:
            def hook(_: str) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            trace.hook = hook
            live(base)
            os._exit(0)

        pid = os.fork()
        if pid == 0:
            try:
                dying()
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        pool.collect()
        assert os.listdir(f"{pool.pool}/{STAGING}") == []
        for found in pool.list_datasets("containers"):
            if not found.name.startswith(base):
                continue
            assert found.identity == IDENTITY
            if step == 2:
                continue  # killed before the container made anything
            assert get(f"{pool.open(found.name)}/rootfs/inner/file") == "inner"
            for snapshot in pool.list_snapshots(found.name):
                path = pool.open(snapshot.full_name)
                assert get(f"{path}/rootfs/inner/file") == "inner"
                with pytest.raises(OSError, match="Read-only"):
                    put(f"{path}/forged", "")
        if pool.find(f"{base}c") is not None and pool.get(f"{base}c").origin is not None:
            pool.promote(f"{base}c")
            assert [entry.name for entry in pool.list_snapshots(f"{base}c")] == ["a", "b"]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert step > 15
            return


@pytest.mark.parametrize("verb", ["snapshot", "destroy"])
def test_a_container_cannot_lead_us_elsewhere(pool: Btrfs, name: str, verb: str) -> None:
    """A container swaps a directory above its inner subvolume for a link, after the kernel told
    us the path (and, in a snapshot, after the stand-in is there), before we open it."""
    pool.create(f"{name}v", IDENTITY)
    victim = pool.open(f"{name}v")
    make_inner(f"{victim}/lib/machines")
    put(f"{victim}/lib/machines/secret", "secret")
    pool.create(name, IDENTITY)
    root = pool.open(name)
    make_inner(f"{root}/var/lib/machines")
    snap_create, get_flags, path_told = 0x50009417, 0x80089419, 0xD000943E
    seen: list[object] = []

    def swap(event: str, arguments: tuple[object, ...]) -> None:
        if not active or "swapped" in seen or event not in {"fcntl.ioctl", "open"}:
            return
        if event == "fcntl.ioctl":
            seen.append(arguments[1])
        ready = path_told in seen and (
            event == "open" and snap_create in seen if verb == "snapshot" else get_flags in seen
        )
        if ready:
            seen.append("swapped")
            os.rename(f"{root}/var", f"{root}/moved")
            os.symlink(victim, f"{root}/var")

    active = True
    sys.addaudithook(swap)
    try:
        if verb == "snapshot":
            pool.snapshot([f"{name}@s"])
        else:
            pool.destroy_recursive(name)
    finally:
        active = False
    assert "swapped" in seen
    assert get(f"{victim}/lib/machines/secret") == "secret"
    if verb == "snapshot":
        path = f"{pool.open(f'{name}@s')}/var/lib/machines"
        assert not os.path.exists(f"{path}/secret")
    else:
        assert pool.find(name) is None
