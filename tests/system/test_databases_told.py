"""Asking what runs in a container before a snapshot: what happens when it cannot be asked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from helpers import kill, race
from helpers.databases import DATABASES, mariadb, start_mariadb
from helpers.store import BUSYBOX, Store, wait_until

from strata.engine.history import moments, quiescing
from strata.errors import Busy, StrataError
from strata.linux import cgroup

pytestmark = [pytest.mark.btrfs, pytest.mark.network]


@pytest.fixture
def database(database_store: Store) -> Iterator[Store]:
    """A store where containers called ``db`` with the volume ``my`` are made."""
    yield database_store
    database_store.strata("rm", "-f", "-t", "0", "--now", "db")
    database_store.strata("volume", "rm", "--now", "my")


def pid_of(store: Store, name: str) -> int:
    return int(store.ok("container", "inspect", "--format", "{{.State.Pid}}", name).line)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-e", "MARIADB_ROOT_PASSWORD=wrong"), "Access denied for user 'root'@'localhost'"),
        (("-v", "/dev/null:/usr/bin/mariadb:ro"), "no client"),
    ],
    ids=["wrong-password", "no-client"],
)
def test_a_database_that_cannot_be_asked_is_held_still(
    database: Store, options: tuple[str, ...], reason: str
) -> None:
    store = database
    start_mariadb(store, "db", "my")
    mariadb(store, "db", "ALTER USER root@localhost IDENTIFIED BY 'right'")
    store.ok("rm", "-f", "db")
    store.ok("run", "-d", "--name", "db", "--network", "none", "-u", "mysql", "-v",
             "my:/var/lib/mysql", *options, DATABASES, "mariadbd")  # fmt: skip
    pid, said, still = pid_of(store, "db"), [], []
    wait_until(lambda: os.path.exists(f"/proc/{pid}/root/run/mysqld/mysqld.sock"), "it listens")
    with race.at("freeze:frozen", lambda: still.append(cgroup.is_frozen(pid))):
        taken = moments.take(store.engine(), ["my@one"], report=said.append)
    assert taken == ["my@one"]
    assert still == [True]
    assert not cgroup.is_frozen(pid)
    assert said[0] == "db: mysql (by its program)"
    assert said[1].startswith("db: mysql could not be told, so it is held still: ")
    assert reason in said[1]
    assert len(said) == 2
    assert "\n" not in said[1]


def test_a_lock_that_is_not_given_stops_writers_for_no_longer_than_its_limit(
    database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = database
    monkeypatch.setattr(quiescing, "LIMIT", 1.0)
    start_mariadb(store, "db", "my")
    mariadb(store, "db", "CREATE DATABASE test; CREATE TABLE test.t (n int); "
            "CREATE TABLE test.other (n int)")  # fmt: skip
    store.ok("exec", "-d", "-u", "0", "db", "mariadb", "-e",
             "LOCK TABLES test.t WRITE; SELECT SLEEP(1000)")  # fmt: skip
    listing = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(1000)'"
    wait_until(lambda: mariadb(store, "db", listing) != "0", "somebody has a table")
    said: list[str] = []
    begun = time.monotonic()
    moments.take(store.engine(), ["my@one"], report=said.append)
    assert time.monotonic() - begun < 8
    assert "Lock wait timeout exceeded" in said[1]
    mariadb(store, "db", "INSERT INTO test.other VALUES (1)")
    assert mariadb(store, "db", "SELECT n FROM test.other") == "1"


def test_no_snapshot_counts_for_which_the_lock_was_lost(database: Store) -> None:
    store = database
    start_mariadb(store, "db", "my")

    def kill_session() -> None:
        found = "SELECT max(id) FROM information_schema.processlist WHERE command = 'Sleep'"
        mariadb(store, "db", f"KILL {mariadb(store, 'db', found)}")

    with race.at("quiesce:begun", kill_session), pytest.raises(Busy) as caught:
        moments.take(store.engine(), ["my@lost"])
    assert caught.value.message == "db: its database went on before the snapshot was taken"
    assert store.ok("snapshot", "ls", "-q").out == ""
    store.ok("snapshot", "my@kept")
    short = store.ok("container", "inspect", "--format", "{{.Id}}", "db").line[:12]
    left = [name for name in os.listdir(f"{store.runroot}/c/{short}") if name.startswith("exec")]
    assert left == []


def test_a_lock_ends_with_a_command_that_is_killed(database: Store) -> None:
    store = database
    start_mariadb(store, "db", "my")
    mariadb(store, "db", "CREATE DATABASE test; CREATE TABLE test.t (n int)")
    points = kill.list_points(store, "snapshot", "my@one")
    kill.kill_at(store, points.index("quiesce:begun"), "snapshot", "my@two")
    begun = time.monotonic()
    mariadb(store, "db", "INSERT INTO test.t VALUES (1)")
    assert mariadb(store, "db", "SELECT n FROM test.t") == "1"
    assert time.monotonic() - begun < 5, "the server had to end the session"


# -- a command of the user's ---------------------------------------------------------------------

#: notes each call, and does as its first word says
_HOOK = """#!/bin/sh
echo "$STRATA_QUIESCE $(id -u)" >>/tmp/calls
case $STRATA_QUIESCE-$(cat /tmp/$STRATA_QUIESCE 2>/dev/null) in
*-fail) echo 'the disk is on fire'; exit 3 ;;
*-hang) sleep 1000 ;;
esac
"""


@pytest.fixture
def hooked(busybox_store: Store) -> Iterator[Store]:
    """A store with the container ``app`` on the volume ``data``, which has a command to call."""
    store = busybox_store
    store.ok(
        "run", "-d", "--name", "app", "-u", "1000", "-v", "data:/d", "--stop-timeout", "0",
        "--label", "io.strata.quiesce=exec:sh /tmp/hook", BUSYBOX, "sleep", "1000",
    )  # fmt: skip
    store.ok("exec", "-i", "app", "sh", "-c", "cat >/tmp/hook", input=_HOOK)
    try:
        yield store
    finally:
        store.ok("rm", "-f", "app")
        store.ok("volume", "rm", "data")
        store.ok("trash", "empty", "--all", "--force")


def calls(store: Store) -> list[str]:
    """What the command was called for since the last look, and as which user."""
    return store.ok("exec", "app", "sh", "-c", "cat /tmp/calls; rm /tmp/calls").out.splitlines()


def test_a_command_is_called_before_and_after_as_the_containers_user(hooked: Store) -> None:
    told = hooked.ok("snapshot", "data@one")
    assert told.err == "app: exec:sh /tmp/hook (by its label)\n"
    assert calls(hooked) == ["begin 1000", "end 1000"]


def test_a_command_that_fails_prevents_the_snapshot_and_may_tidy_up(hooked: Store) -> None:
    hooked.ok("exec", "app", "sh", "-c", "echo fail >/tmp/begin")
    tried = hooked.strata("snapshot", "data@one")
    assert tried.rc == 125
    assert tried.err.splitlines()[1:] == [
        "Error: app: exec:sh /tmp/hook failed: the disk is on fire (exit code 3)",
        "hint: --quiesce none takes the snapshot without asking what runs there",
    ]
    assert hooked.ok("snapshot", "ls", "-q").out == ""
    assert calls(hooked) == ["begin 1000", "end 1000"]
    hooked.ok("snapshot", "--quiesce", "none", "data@one")
    assert hooked.strata("exec", "app", "cat", "/tmp/calls").rc == 1


def test_a_command_that_fails_afterwards_is_told_about(hooked: Store) -> None:
    hooked.ok("exec", "app", "sh", "-c", "echo fail >/tmp/end")
    told = hooked.ok("snapshot", "data@one")
    assert told.line == "data@one"
    assert told.err.splitlines()[1:] == [
        "app: exec:sh /tmp/hook failed: the disk is on fire (exit code 3)"
    ]


def test_a_command_that_does_not_end_is_ended(
    hooked: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiescing, "_DEADLINE", 0.5)
    hooked.ok("exec", "app", "sh", "-c", "echo hang >/tmp/begin")
    with pytest.raises(StrataError) as caught:
        moments.take(hooked.engine(), ["data@one"])
    assert caught.value.message == (
        "app: exec:sh /tmp/hook failed: no answer within 0.5 seconds"
    )  # fmt: skip
    assert hooked.ok("snapshot", "ls", "-q").out == ""
    assert calls(hooked) == ["begin 1000", "end 1000"]
