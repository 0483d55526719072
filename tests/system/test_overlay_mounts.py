"""Mounts with ``O``: what a container writes over a directory, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.store import Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
CHANGE = "cat /m/*; echo new >/m/b; rm /m/a; stat -c %a:%u /m"


@pytest.fixture
def source(busybox_store: Store) -> Iterator[str]:
    """A directory of the host with a file, a comma and a colon in its name."""
    path = f"{busybox_store.base}/so,ur\\ce"
    os.mkdir(path)
    os.chmod(path, 0o751)
    os.chown(path, 7, 0)
    with open(f"{path}/a", "w") as file:
        file.write("low\n")
    try:
        yield path
    finally:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def changes_of(store: Store, name: str) -> list[str]:
    """What lies beside the root file system of a container for its first overlay."""
    dataset = store.ok("inspect", "--format", "{{.Dataset}}", name).line
    return sorted(os.listdir(f"{store.pool}/{dataset}/.strata/overlay/0/upper"))


def test_the_host_keeps_its_files_and_every_start_begins_with_them(
    busybox_store: Store, source: str
) -> None:
    busybox_store.ok("create", "--name", "over", "-v", f"{source}:/m:O", IMAGE, "sh", "-c", CHANGE)
    for _ in range(2):
        assert busybox_store.ok("start", "-a", "over").out == "low\n751:7\n"
        assert os.listdir(source) == ["a"]
    assert changes_of(busybox_store, "over") == ["a", "b"]
    (shown,) = busybox_store.ok("inspect", "over").json[0]["Mounts"]
    assert (shown["Source"], shown["Destination"], shown["RW"]) == (source, "/m", True)
    busybox_store.ok("rm", "over")


def test_what_was_written_is_in_the_containers_snapshot_and_goes_with_it(
    busybox_store: Store, source: str
) -> None:
    busybox_store.ok("run", "-d", "--name", "over", "--stop-timeout", "0", "-v", f"{source}:/m:O",
                     IMAGE, "sh", "-c", "echo new >/m/b; echo done; sleep 1000")  # fmt: skip
    busybox_store.wait_for_log("over", "done")
    busybox_store.ok("snapshot", "create", "over@written")
    assert changes_of(busybox_store, "over") == ["b"]
    assert busybox_store.ok("exec", "over", "cat", "/m/a", "/m/b").out == "low\nnew\n"
    # A commit takes the root file system alone.
    busybox_store.ok("commit", "over", "committed")
    assert busybox_store.ok("run", "--rm", "committed", "ls", "/m").out == ""
    busybox_store.ok("rm", "-f", "--now", "over")
    busybox_store.ok("rmi", "committed")
    assert busybox_store.ok("system", "check").rc == 0


def test_directories_of_the_users_own_keep_what_was_written(
    busybox_store: Store, source: str
) -> None:
    own = f"{busybox_store.base}/own"
    for name in ("", "/upper", "/work"):
        os.mkdir(own + name)
    where = f"{source}:/m:O,upperdir={own}/upper,workdir={own}/work"
    busybox_store.ok("run", "--rm", "-v", where, IMAGE, "sh", "-c", "echo kept >/m/b")
    assert os.listdir(f"{own}/upper") == ["b"]
    assert busybox_store.ok("run", "--rm", "-v", where, IMAGE, "cat", "/m/b").out == "kept\n"
    assert os.listdir(source) == ["a"]


def test_volumes_and_images_can_be_written_over(busybox_store: Store) -> None:
    words = ["run", "--rm", "-v", "lower:/m:O", "--mount",
             f"type=image,src={IMAGE},dst=/image,rw=true", IMAGE, "sh", "-c"]  # fmt: skip
    program = "ls /m; echo x >/m/new; echo y >/image/data/seed; cat /image/data/seed"
    for _ in range(2):
        assert busybox_store.ok(*words, program).out == "y\n"
    mountpoint = busybox_store.ok("volume", "inspect", "--format", "{{.Mountpoint}}", "lower").line
    assert os.listdir(mountpoint) == []
    busybox_store.ok("volume", "rm", "lower")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("O,ro", "can't use 'O' with other options"), ("O,z", "only specify 1"),
        ("O,upperdir=/none", "must set both"), ("upperdir=/none,workdir=/none", "unknown mount"),
        ("O,upperdir=/none,workdir=/none", "/none: no such directory"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(
    busybox_store: Store, source: str, options: str, said: str
) -> None:
    outcome = busybox_store.strata("run", "--rm", "-v", f"{source}:/m:{options}", IMAGE, "true")
    assert outcome.rc == 125
    assert said in outcome.err


def test_what_the_kernel_cannot_overlay_is_named(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "--rm", "-v", "/proc:/m:O", IMAGE, "true")
    assert outcome.rc == 125
    assert "mounting overlay failed '/proc': Invalid argument" in outcome.err
    assert "Errno" not in outcome.err


def test_only_directories_can_be_overlaid(busybox_store: Store, source: str) -> None:
    outcome = busybox_store.strata("run", "--rm", "-v", f"{source}/a:/m:O", IMAGE, "true")
    assert outcome.rc == 125
    assert "not a directory" in outcome.err
