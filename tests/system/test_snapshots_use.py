"""Snapshots, the way back, and clones, while somebody uses what they are of."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.store import Store, wait_until

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


@pytest.fixture
def volume(busybox_store: Store) -> Iterator[str]:
    """A volume with one file, ``state``, that says ``first``."""
    busybox_store.ok("run", "--rm", "-v", "data:/d", IMAGE, "sh", "-c", "echo first >/d/state")
    yield "data"
    busybox_store.strata("volume", "rm", "-f", "-t", "0", "data")


def read(store: Store, name: str = "data") -> str:
    return store.ok("run", "--rm", "-v", f"{name}:/d", IMAGE, "cat", "/d/state").line


def write(store: Store, text: str, name: str = "data") -> None:
    store.ok("run", "--rm", "-v", f"{name}:/d", IMAGE, "sh", "-c", f"echo {text} >/d/state")


def snapshots(store: Store, target: str) -> list[str]:
    return [row["Name"] for row in store.ok("snapshot", "ls", "--format", "json", target).json]


def state(store: Store, name: str) -> dict[str, Any]:
    found: dict[str, Any] = store.ok("container", "inspect", name).json[0]
    return found


def test_a_volume_goes_back_and_forth_without_loss(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    assert ok("snapshot", "data@one").line == "data@one"
    write(busybox_store, "second")
    ok("snapshot", "data@two")
    write(busybox_store, "third")
    ok("rollback", "data@one")
    assert read(busybox_store) == "first"
    ok("rollback", "data@two")
    assert read(busybox_store) == "second", "a newer snapshot is still there"
    ok("rollback", "data@one")
    assert read(busybox_store) == "first"
    assert sorted(snapshots(busybox_store, "data")) == ["one", "two"]
    [found] = ok("volume", "inspect", "data").json
    assert found["Generation"] == 4
    assert len(found["Branches"]) == 3


def test_the_mountpoint_shows_the_new_head(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    path = Path(ok("volume", "inspect", "--format", "{{.Mountpoint}}", "data").line, "state")
    ok("snapshot", "data@one")
    write(busybox_store, "second")
    assert path.read_text() == "second\n"
    ok("rollback", "data@one")
    assert path.read_text() == "first\n"


def test_users_are_stopped_and_started_again(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    ok("snapshot", "data@one")
    script = (
        "cat /d/state; echo changed >/d/state; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    )
    ok("run", "-d", "--name", "user", "-v", "data:/d", IMAGE, "sh", "-c", script)
    busybox_store.wait_for_log("user", "first")
    before = state(busybox_store, "user")["State"]["Pid"]
    outcome = ok("rollback", "data@one")
    assert "user" in outcome.out + outcome.err
    after = state(busybox_store, "user")["State"]
    assert after["Running"] is True
    assert after["Pid"] != before
    wait_until(lambda: ok("logs", "user").out == "first\nfirst\n", "it began with the old data")
    outcome = busybox_store.strata("rollback", "--no-stop", "data@one")
    assert outcome.rc != 0
    assert "user" in outcome.err
    assert state(busybox_store, "user")["State"]["Pid"] == after["Pid"]
    ok("rm", "-f", "-t", "0", "user")


def test_a_user_made_with_rm_is_restarted_not_removed(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    ok("snapshot", "data@one")
    ok("run", "-d", "--rm", "--name", "user", "--stop-timeout", "0", "-v", "data:/d", IMAGE,
       "sleep", "1000")  # fmt: skip
    with busybox_store.start(
        "run", "--rm", "--name", "watched", "--stop-timeout", "0", "-v", "data:/d", IMAGE, "sh",
        "-c", "echo ready; sleep 1000", stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        ok("rollback", "data@one")
        assert process.wait(20) == 137
    for name in ("user", "watched"):
        assert state(busybox_store, name)["State"]["Running"] is True
    for name in ("user", "watched"):
        ok("stop", name)
        wait_until(lambda name=name: busybox_store.strata("container", "exists", name).rc == 1,
                   "its end removes it now")  # fmt: skip


def test_a_container_goes_back_with_its_file_system_only(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    ok("run", "-d", "--name", "box", "-v", "data:/d", "--stop-timeout", "0", IMAGE, "sleep", "1000")
    ok("exec", "box", "sh", "-c", "echo one >/file; ln -s /file /link; chmod 4711 /bin/busybox")
    ok("snapshot", "box@one")
    ok("exec", "box", "sh", "-c", "rm /file /link; echo new >/other; echo second >/d/state")
    ok("rollback", "box@one")
    assert state(busybox_store, "box")["State"]["Running"] is True
    script = "cat /link /d/state; stat -c %a /bin/busybox; test -e /other || echo gone"
    assert ok("exec", "box", "sh", "-c", script).out == "one\nsecond\n4711\ngone\n"
    ok("rollback", "box@start")
    assert busybox_store.strata("exec", "box", "test", "-e", "/file").rc == 1
    ok("rollback", "box@one")
    assert ok("exec", "box", "cat", "/file").line == "one"
    ok("rm", "-f", "box")
    assert busybox_store.strata("snapshot", "ls", "box").rc != 0


def test_clones_stand_on_their_own(busybox_store: Store, volume: str) -> None:
    ok = busybox_store.ok
    ok("snapshot", "data@one")
    write(busybox_store, "second")
    ok("clone", "data@one", "copy")
    ok("clone", "data", "copy2")
    assert [read(busybox_store, name) for name in ("data", "copy", "copy2")] == [
        "second", "first", "second",
    ]  # fmt: skip
    write(busybox_store, "other", "copy")
    assert read(busybox_store) == "second"
    ok("volume", "rm", "data")
    assert read(busybox_store, "copy") == "other"
    ok("volume", "rm", "copy", "copy2")


def test_a_container_is_cloned_with_its_settings(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "orig", "-e", "A=1", IMAGE, "sh", "-c", "echo $A >>/count; wc -l </count")
    ok("clone", "orig", "twin")
    assert ok("start", "-a", "twin").line.strip() == "2"
    assert ok("start", "-a", "orig").line.strip() == "2"
    assert busybox_store.strata("clone", "orig", "twin").rc == 125
    ok("rm", "orig")
    assert ok("start", "-a", "twin").line.strip() == "3"
    ok("rm", "twin")


def test_snapshot_names(busybox_store: Store, volume: str) -> None:
    run = busybox_store.strata
    busybox_store.ok("snapshot", "data@one")
    outcome = run("snapshot", "data@one")
    assert outcome.rc == 125
    assert "already" in outcome.err
    bad = ["data@", "@one", "data", "data@a b", "data@../x", "data@a/b", "data@a@b", "data@-x",
           "data@" + "x" * 300, "data@é", "none@one", "data@x\ny", "data@%recv",
           "data@."]  # fmt: skip
    for spec in bad:
        outcome = run("snapshot", "create", "--", spec)
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.startswith("Error: "), repr(outcome)
        assert outcome.err.count("\n") <= 2
        assert run("rollback", "--", spec).rc == 125
    for word, hint in (("data", "'strata snapshot data@before-upgrade'"), ("lss", "snapshot ls'")):
        outcome = run("snapshot", word)
        assert outcome.rc == 125
        assert hint in outcome.err
    assert run("rollback", "data@none").rc == 125
    assert snapshots(busybox_store, "data") == ["one"]
    busybox_store.ok("snapshot", "rm", "data@one")
    assert snapshots(busybox_store, "data") == []
    assert run("snapshot", "rm", "data@one").rc != 0


def test_a_snapshot_that_a_clone_needs(busybox_store: Store, volume: str) -> None:
    """It may go where clones do not depend on their origin, or is refused; both lose nothing."""
    busybox_store.ok("snapshot", "data@one")
    busybox_store.ok("clone", "data@one", "copy")
    busybox_store.strata("snapshot", "rm", "data@one")
    assert read(busybox_store, "copy") == "first"
    busybox_store.ok("volume", "rm", "copy")


def test_an_object_of_each_kind_with_one_name(busybox_store: Store, volume: str) -> None:
    busybox_store.ok("create", "--name", "data", IMAGE)
    outcome = busybox_store.strata("snapshot", "data@x")
    assert outcome.rc == 125
    assert "volume:data" in outcome.err
    busybox_store.ok("snapshot", "volume:data@x")
    busybox_store.ok("snapshot", "container:data@y")
    assert snapshots(busybox_store, "volume:data") == ["x"]
    assert snapshots(busybox_store, "container:data") == ["y"]
    busybox_store.ok("rm", "data")


def test_commit_with_and_without_snapshots_of_its_own(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "plain", IMAGE, "sh", "-c", "echo 1 >/f; rm /data/seed")
    ok("commit", "plain", "localhost/plain")
    ok("snapshot", "plain@one")
    ok("start", "plain")
    ok("wait", "plain")
    ok("commit", "plain", "localhost/plain2")
    ok("rm", "plain")
    for image in ("localhost/plain", "localhost/plain2"):
        assert ok("run", "--rm", image, "sh", "-c", "cat /f; ls /data").out == "1\n"
        ok("rmi", image)


def test_commit_of_what_has_not_changed_makes_no_layer(busybox_store: Store) -> None:
    ok = busybox_store.ok

    def layers(image: str) -> list[str]:
        found: list[str] = ok("image", "inspect", image).json[0]["RootFS"]["Layers"]
        return found

    ok("create", "--name", "same", IMAGE, "true")
    ok("commit", "-c", "CMD echo from the image", "same", "localhost/same")
    assert layers("localhost/same") == layers(IMAGE)
    assert ok("run", "--rm", "localhost/same").line == "from the image"
    ok("rm", "same")
    ok("rmi", "localhost/same")


def test_commit_of_a_running_container(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "-d", "--name", "busy", "--stop-timeout", "0", IMAGE, "sh", "-c",
       "echo written >/f; echo ready; sleep 1000")  # fmt: skip
    busybox_store.wait_for_log("busy", "ready")
    ok("commit", "busy", "localhost/busy")
    assert ok("run", "--rm", "localhost/busy", "cat", "/f").line == "written"
    ok("exec", "busy", "sh", "-c", "echo still >/g")
    ok("commit", "busy", "localhost/busy:2")
    assert ok("run", "--rm", "localhost/busy:2", "cat", "/g").line == "still"
    ok("rm", "-f", "busy")
    ok("rmi", "localhost/busy", "localhost/busy:2")
