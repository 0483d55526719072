"""Two commands that want the same name."""

from __future__ import annotations

import contextlib

import pytest
from helpers import race
from helpers.store import Store

from strata.engine.history import clones
from strata.engine.volumes import making
from strata.errors import AlreadyExists

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


def test_a_volume_s_name_is_not_taken_from_who_is_about_to_record_it(store: Store) -> None:
    e = store.engine()
    second = race.Second(store, "volume", "create", "data")
    with race.at("name:taken", second.go):
        making.create(e, "data")
    other = second.end()
    assert other.rc == 125, other
    assert "already" in other.err, other
    assert [r["name"] for r in e.records.list_records("volume")] == ["data"]
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []


def test_a_clone_s_name_is_not_taken_from_who_is_about_to_record_it(busybox_store: Store) -> None:
    store = busybox_store
    store.ok("create", "--name", "c1", "localhost/busybox", "true")
    store.ok("snapshot", "c1@a")
    e = store.engine()
    second = race.Second(store, "create", "--name", "c2", "localhost/busybox", "true")
    with race.at("name:taken", second.go):
        clones.clone(e, "c1@a", "c2")
    other = second.end()
    assert other.rc == 125, other
    assert "already" in other.err, other
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []
    store.ok("rm", "c1", "c2")


def test_only_one_of_two_takes_over_a_name_that_a_killed_command_left(store: Store) -> None:
    e = store.engine()
    e.records.take_name("volume", "data", "ab" * 32)
    won = []
    second = race.Second(store, "volume", "create", "data")
    with race.at("name:stale", second.go), contextlib.suppress(AlreadyExists):
        making.create(e, "data")
        won.append("first")
    if second.end().rc == 0:
        won.append("second")
    assert won == ["second"]
    assert [r["name"] for r in e.records.list_records("volume")] == ["data"]
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []
