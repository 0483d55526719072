"""A volume's head changes, or the volume goes, while somebody is about to use it."""

from __future__ import annotations

import os

import pytest
from helpers import race
from helpers.store import BUSYBOX, Store

from strata.engine.containers import create
from strata.engine.containers import verbs as containers
from strata.engine.history import heads
from strata.engine.volumes import removal
from strata.errors import InUse

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = {
    "image": BUSYBOX,
    "command": ["sleep", "100000"],
    "pull": "never",
    "stop_timeout": 0,
    "network": "host",
}


def _on(volume: str, **more: object) -> dict[str, object]:
    mount = {"type": "volume", "source": volume, "volume": "", "destination": "/data",
             "options": [], "anonymous": False}  # fmt: skip
    return {**SLEEPER, "mounts": [mount], **more}


def _snapshot(store: Store, text: str) -> str:
    """A volume ``v`` that held ``text`` at its snapshot ``a``; returns its mountpoint."""
    store.ok("volume", "create", "v")
    path: str = store.ok("volume", "inspect", "v").json[0]["Mountpoint"]
    with open(f"{path}/text", "w") as file:
        file.write(text)
    store.ok("snapshot", "v@a")
    return path


def test_a_container_that_starts_during_a_rollback_runs_on_the_new_head(clean: Store) -> None:
    store = clean
    path = _snapshot(store, "then")
    e = store.engine()
    create.create(e, _on("v", name="c1"))
    second = race.Second(store, "start", "c1")
    with race.at("rollback:cloned", second.go):
        heads.rollback(e, "v@a")
    assert second.end().rc == 0
    store.ok("exec", "c1", "sh", "-c", "echo now > /data/text")
    with open(f"{path}/text") as file:
        assert file.read() == "now\n", "the container runs on a branch"


def test_a_user_that_starts_just_before_the_rollback_is_stopped_and_started(clean: Store) -> None:
    store = clean
    path = _snapshot(store, "then")
    e = store.engine()
    create.create(e, _on("v", name="c1"))
    second = race.Second(store, "start", "c1")
    with race.at("rollback:begun", second.go):
        result = heads.rollback(e, "v@a")
    assert second.end().rc == 0
    assert result["Restarted"] == ["c1"]
    store.ok("exec", "c1", "sh", "-c", "echo now > /data/text")
    with open(f"{path}/text") as file:
        assert file.read() == "now\n", "the container runs on a branch"


def test_a_container_that_starts_during_its_own_rollback_runs_on_the_new_head(
    clean: Store,
) -> None:
    store = clean
    e = store.engine()
    create.create(e, {**SLEEPER, "name": "c1"})
    second = race.Second(store, "start", "c1")
    with race.at("rollback:begun", second.go):
        heads.rollback(e, "c1@start")
    assert second.end().rc == 0
    store.ok("exec", "c1", "touch", "/new")
    record = e.records.get("container", e.records.resolve("container", "c1"))
    assert os.path.exists(f"{e.driver.open(record['dataset'])}/rootfs/new")


def test_two_rollbacks_of_one_volume_leave_its_users_on_the_last(clean: Store) -> None:
    store = clean
    path = _snapshot(store, "then")
    e = store.engine()
    containers.start(e, [create.create(e, _on("v", name="c1"))["id"]])
    second = race.Second(store, "rollback", "v@a")
    with race.at("rollback:cloned", second.go):
        heads.rollback(e, "v@a")
    assert second.end().rc == 0
    store.ok("exec", "c1", "sh", "-c", "echo now > /data/text")
    with open(f"{path}/text") as file:
        assert file.read() == "now\n", "the container runs on a branch"
    assert store.ok("volume", "inspect", "v").json[0]["Generation"] == 3


def test_a_volume_that_a_container_is_being_made_with_is_not_removed(clean: Store) -> None:
    store = clean
    store.ok("volume", "create", "v")
    e = store.engine()
    second = race.Second(store, "volume", "rm", "v")
    with race.at("create:volume-filled", second.go):
        create.create(e, _on("v", name="c1"))
    other = second.end()
    assert other.rc == 2, other
    assert "being used" in other.err, other
    store.ok("start", "c1")


def test_a_container_made_during_a_removal_keeps_its_volume(clean: Store) -> None:
    """The users were looked up, then one more came."""
    store = clean
    store.ok("volume", "create", "v")
    e = store.engine()
    second = race.Second(store, "create", "--name", "c1", "--volume", "v:/data", BUSYBOX, "true")
    with race.at("volume-rm:unused", second.go), pytest.raises(InUse):
        removal.remove(e, ["v"])
    assert second.end().rc == 0
    store.ok("start", "c1")


def test_prune_passes_over_a_volume_that_was_taken_into_use_meanwhile(clean: Store) -> None:
    store = clean
    store.ok("volume", "create", "v")
    e = store.engine()
    second = race.Second(store, "create", "--name", "c1", "--volume", "v:/data", BUSYBOX, "true")
    with race.at("volume-prune:unused", second.go):
        done = removal.prune(e, all=True)
    assert done["Deleted"] == []
    assert second.end().rc == 0
    store.ok("start", "c1")


def test_two_containers_made_at_once_share_a_volume_that_was_not_there(clean: Store) -> None:
    store = clean
    e = store.engine()
    second = race.Second(store, "create", "--name", "c2", "--volume", "v:/data", BUSYBOX, "true")
    with race.at("volume:dataset-made", second.go):
        create.create(e, _on("v", name="c1"))
    assert second.end().rc == 0
    one, two = (store.ok("inspect", c).json[0]["Mounts"][0] for c in ("c1", "c2"))
    assert one["Name"] == two["Name"] == "v"
    assert len(list(e.records.list_records("volume"))) == 1


def test_one_volume_can_be_mounted_twice_in_a_container(clean: Store) -> None:
    clean.ok("run", "--rm", "--volume", "v:/a", "--volume", "v:/b", BUSYBOX, "touch", "/a/x")


def test_two_starts_that_mount_a_volume_first_do_not_unmount_it_under_each_other(
    clean: Store,
) -> None:
    store = clean
    path = _snapshot(store, "then")
    e = store.engine()
    create.create(e, _on("v", name="c1"))
    create.create(e, _on("v", name="c2"))
    e.unmount_volume("v")
    second = race.Second(store, "start", "c2")
    with race.at("volume:stale", second.go):
        containers.start(e, ["c1"])
    assert second.end().rc == 0
    assert second.waited
    for name in ("c1", "c2"):
        store.ok("exec", name, "touch", f"/data/{name}")
        assert os.path.exists(f"{path}/{name}")


def test_files_put_into_a_new_volume_are_not_written_over_by_the_image_s(clean: Store) -> None:
    store = clean
    path = store.ok("volume", "inspect", store.ok("volume", "create", "v").line).json[0][
        "Mountpoint"
    ]
    with open(f"{path}/seed", "w") as file:
        file.write("mine")
    store.ok("create", "--name", "c1", "--volume", "v:/data", BUSYBOX, "true")
    with open(f"{path}/seed") as file:
        assert file.read() == "mine"
