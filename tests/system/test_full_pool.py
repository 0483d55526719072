"""A pool without a free byte: clear errors, whole records, and a way out by removing things."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from helpers.apart import apart
from helpers.store import BUSYBOX, Store, open_store, wait_until

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


@pytest.fixture
def full() -> Iterator[Store]:
    """A small store with a running and a stopped container, then filled to the last byte."""
    with open_store(size=256 << 20) as store:
        store.add_busybox()
        store.ok("run", "-d", "--name", "live", "--stop-timeout", "0", "-v", "vol:/v", IMAGE,
                 "sleep", "1000")  # fmt: skip
        store.ok("create", "--name", "idle", IMAGE)
        store.ok("snapshot", "vol@one")
        [live] = store.ok("container", "inspect", "live").json
        fill(f"{store.pool}/{live['Dataset']}/rootfs")
        yield store


def fill(folder: str) -> None:
    """Write until nothing fits any more, to the last small file."""
    block = os.urandom(1 << 20)
    for size in (1 << 20, 1 << 16, 1 << 12, 100):
        number = 0
        while True:
            path = f"{folder}/fill.{size}.{number}"
            try:
                with open(path, "wb") as file:
                    file.write(block[:size])
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                break
            number += 1


def test_what_needs_space_says_so_and_what_gives_space_works(full: Store) -> None:
    for argv in (["create", "--name", "new", IMAGE], ["run", "--rm", IMAGE, "true"],
                 ["volume", "create", "other"], ["rename", "idle", "busy"],
                 ["commit", "live", "localhost/x"]):  # fmt: skip
        outcome = full.strata(*argv)
        assert outcome.rc == 125, repr(outcome)
        assert "full" in outcome.err or "space" in outcome.err.lower(), repr(outcome)
        assert outcome.err.count("\n") <= 2, repr(outcome)
    rows = {row["Names"][0]: row["State"] for row in full.ok("ps", "-a", "--format", "json").json}
    assert rows == {"live": "running", "idle": "created"}
    assert full.ok("volume", "ls", "-q").out.split() == ["vol"]
    assert full.ok("exec", "live", "echo", "alive").line == "alive"
    full.ok("rm", "-f", "live")
    wait_until(lambda: full.strata("run", "--rm", IMAGE, "true").rc == 0, "there is room again")
    full.ok("rm", "idle")
    full.ok("snapshot", "rm", "vol@one")
    full.ok("volume", "rm", "vol")
    assert full.ok("ps", "-aq").out == ""
    full.ok("system", "check")

    def has_reserve() -> bool:
        """By the collection after some removal; space comes back a while after it was given."""
        full.ok("run", "--rm", IMAGE, "true")
        return os.path.exists(f"{full.pool}/records/reserve")

    wait_until(has_reserve, "the reserve is made anew")


def test_a_container_can_be_stopped_and_tells_its_code(full: Store) -> None:
    full.ok("stop", "live")
    assert full.ok("wait", "live").line == "137"
    full.ok("rm", "live")
    wait_until(lambda: full.strata("run", "--rm", IMAGE, "true").rc == 0, "there is room again")
    full.ok("system", "check")


def test_undo_on_a_full_pool_loses_nothing() -> None:
    with open_store(size=256 << 20) as store:
        store.ok("volume", "create", "keep")
        store.ok("snapshot", "keep@one")
        folder = store.ok("volume", "inspect", "--format", "{{.Mountpoint}}",
                          store.ok("volume", "create", "big").line).line  # fmt: skip
        fill(folder)
        store.ok("volume", "rm", "keep")
        tried = store.strata("undo")
        assert tried.rc in (0, 125)
        if tried.rc:
            assert "full" in tried.err
            assert [r["Name"] for r in store.ok("trash", "ls", "--format", "json").json] == ["keep"]
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        if tried.rc:
            wait_until(lambda: store.strata("undo").rc == 0, "there is room again")
        assert store.ok("snapshot", "ls", "-q", "keep").line == "keep@one"
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []


@pytest.mark.zfsfuse
def test_the_trash_gives_way_on_a_full_pool_the_oldest_first() -> None:
    """What was in a volume exists nowhere else, so it stays whatever is wanted."""

    def act(store: Store) -> None:
        store.add_busybox()
        store.ok("volume", "create", "lost")
        write = ("dd", "if=/dev/urandom", "bs=1M", "count=12")
        store.ok("run", "--rm", "-v", "lost:/d", BUSYBOX, *write, "of=/d/big")
        store.ok("volume", "rm", "lost")
        for name in ("old", "new"):
            store.ok("run", "--name", name, BUSYBOX, *write, "of=/big")
            store.ok("rm", name)
        store.ok("volume", "create", "data")
        fill(store.ok("volume", "inspect", "--format", "{{.Mountpoint}}", "data").line)

        def list_removed() -> list[str]:
            rows = store.ok("trash", "ls", "--format", "json").json
            return sorted(row["Name"] for row in rows)

        assert list_removed() == ["lost", "new", "old"]
        refused = store.strata("run", "--rm", BUSYBOX, "true")
        assert refused.rc == 125, repr(refused)
        assert "space" in refused.err, repr(refused)
        assert refused.err.count("\n") <= 2, repr(refused)
        store.ok("container", "prune", "--force")
        assert list_removed() == ["lost", "new"]
        store.ok("run", "--rm", BUSYBOX, "true")
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []

    apart(act, size=128 << 20)
