"""Containers whose commands are interrupted, killed, or meet what killed ones left."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest
from helpers import kill, race
from helpers.store import BUSYBOX, Store

from strata.engine.containers import create
from strata.engine.containers import verbs as containers
from strata.linux import locks, process
from strata.store.journal import Journal

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--name", "c1", "--stop-timeout", "0", BUSYBOX, "sleep", "100000")


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("words", [["rm", "--force", "c1"], ["commit", "c1", "new"],
                                   ["rename", "c1", "c2"]])  # fmt: skip
def test_a_verb_does_not_wait_for_itself_to_start_what_a_killed_rollback_stopped(
    clean: Store, words: list[str]
) -> None:
    store = clean
    store.ok("run", "--detach", "--volume", "v:/data", *SLEEPER)
    store.ok("snapshot", "v@a")
    rollback = ("rollback", "v@a")
    points = kill.list_points(store, *rollback)
    kill.kill_at(store, points.index("rollback:stopped"), *rollback)
    begun = time.monotonic()
    store.ok(*words)
    assert time.monotonic() - begun < 30, "it waited for its own lock"
    if words[0] != "rm":
        assert store.ok("ps", "--format", "{{.Names}}").line == ("c2" if "c2" in words else "c1")
    kill.run(store, "rmi", "new")


def test_a_container_somebody_started_is_not_undone_with_its_create(clean: Store) -> None:
    store = clean
    e = store.engine()
    second = race.Second(store, "start", "c1")

    def start_and_interrupt() -> None:
        second.go()
        raise KeyboardInterrupt

    options = {"image": BUSYBOX, "command": ["sleep", "100000"], "name": "c1", "pull": "never",
               "network": "host"}  # fmt: skip
    with race.at("create:recorded", start_and_interrupt), pytest.raises(KeyboardInterrupt):
        create.create(e, options)
    assert second.end().rc == 0
    assert store.ok("exec", "c1", "cat", "/data/seed").line == "from the image"
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []


def test_a_create_that_cannot_write_its_id_leaves_nothing(clean: Store) -> None:
    store = clean
    assert store.strata("create", "--cidfile", "/nowhere/id", "--volume", "v:/data", *SLEEPER).rc
    assert store.ok("ps", "--all", "--quiet").out == ""
    assert store.ok("volume", "ls", "--quiet").out == ""


@pytest.mark.parametrize("point", ["start:created", "start:recorded"])
def test_a_start_that_is_interrupted_leaves_no_process(clean: Store, point: str) -> None:
    store = clean
    store.ok("create", *SLEEPER)
    e = store.engine()
    with race.at(point, _interrupt), pytest.raises(KeyboardInterrupt):
        containers.start(e, ["c1"])
    kill.wait_quiet(store)
    assert store.ok("ps", "--all", "--format", "{{.State}}").line in ("created", "exited")
    store.ok("start", "c1")


@pytest.mark.parametrize("point", ["start:planned", "start:recorded", "run:launched",
                                   "start:running"])  # fmt: skip
def test_a_run_that_is_interrupted_before_it_began_leaves_nothing(clean: Store, point: str) -> None:
    store = clean
    e = store.engine()
    options = {"image": BUSYBOX, "command": ["sleep", "100000"], "remove": True, "pull": "never",
               "network": "host"}  # fmt: skip
    with race.at(point, _interrupt), pytest.raises(KeyboardInterrupt):
        containers.run(e, options)
    kill.wait_quiet(store)
    assert store.ok("ps", "--all", "--quiet").out == ""
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []


def test_one_user_that_cannot_start_again_does_not_keep_the_others_from_it(
    clean: Store, tmp_path: Any
) -> None:
    store = clean
    source = str(tmp_path / "source")
    os.mkdir(source)
    store.ok("run", "--detach", "--volume", "v:/data", "--volume", f"{source}:/bind", *SLEEPER)
    store.ok("run", "--detach", "--volume", "v:/data", "--name", "c2", *SLEEPER[2:])
    store.ok("snapshot", "v@a")
    os.rmdir(source)
    outcome = store.strata("rollback", "v@a")
    assert outcome.rc == 125, outcome
    assert "v is on g2 now, but not all that used it started again" in outcome.err, outcome
    assert store.ok("ps", "--format", "{{.Names}}").line == "c2"
    os.mkdir(source)
    store.ok("volume", "create", "other")
    assert store.ok("ps", "--format", "{{.Names}}").line == "c2", "it started by itself"


def test_a_pid_of_an_earlier_boot_names_nobody(clean: Store) -> None:
    """After a reboot a process may have the number and, counted in ticks since the boot, the
    start time that a container's had."""
    store = clean
    e = store.engine()
    record = create.create(e, {"image": BUSYBOX, "command": ["sleep", "9"], "name": "c1",
                               "pull": "never", "network": "host", "stop_timeout": 0})  # fmt: skip
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    try:
        record["state"].update(
            status="running", pid=child, pid_start=process.find_start_time(child), conmon_pid=child,
            conmon_start=process.find_start_time(child), boot_id="of another boot",
        )  # fmt: skip
        e.records.save(record)
        assert store.ok("ps", "--all", "--format", "{{.State}}").line == "exited"
        begun = time.monotonic()
        store.ok("stop", "c1")
        assert time.monotonic() - begun < 5, "it waited for a stranger"
        assert process.find_start_time(child), "it killed a stranger"
        store.ok("start", "c1")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_recovery_runs_the_steps_that_were_valid_when_the_command_died(tmp_path: Any) -> None:
    """One goes on, past its point of no return, and dies, while another begins to recover."""
    folder, where = str(tmp_path / "journal"), str(tmp_path / "locks")
    os.mkdir(folder)
    os.mkdir(where)
    run: list[list[str]] = []
    operation = Journal(folder, where, lambda step: None).begin("commit", ["destroy", "layers/a"])

    def profile(frame: Any, event: str, called: Any) -> None:
        if event == "call" and frame.f_code is locks.try_lock.__code__:
            sys.setprofile(None)
            operation.replace(["settle-layer", "layers/a"])
            operation._lock.release()

    sys.setprofile(profile)
    try:
        assert Journal(folder, where, run.append).recover() == 1
    finally:
        sys.setprofile(None)
    assert run == [["settle-layer", "layers/a"]]
