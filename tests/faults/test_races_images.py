"""Images and layers that are collected or removed while somebody comes to need them."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import kill, race
from helpers.registry import make_tar
from helpers.store import BUSYBOX, Store, open_store

from strata.engine.images import verbs as images
from strata.engine.system import collect
from strata.linux import locks

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


@pytest.fixture
def clean() -> Iterator[Store]:
    with open_store() as store:
        yield store


def _import(store: Store, folder: Path, name: str) -> str:
    """An image of one small layer; returns the path of an archive with it."""
    tar, archive = folder / f"{name}.tar", folder / f"{name}.archive"
    tar.write_bytes(make_tar({f"{name}": name.encode()}))
    store.ok("import", str(tar), name)
    store.ok("save", "--output", str(archive), name)
    return str(archive)


def _assert_sound(store: Store, name: str) -> None:
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []
    store.ok("create", "--name", "made", name, "/nothing")
    store.ok("save", "--output", f"{store.base}/again", name)


def test_a_layer_that_came_into_use_during_a_collection_stays(clean: Store, tmp_path: Path) -> None:
    store = clean
    archives = {name: _import(store, tmp_path, name) for name in ("one", "two")}
    e = store.engine()
    chains = {name: e.records.get("layer", images.names.get_image(e, name)[0]["layers"][0])
              for name in archives}  # fmt: skip
    store.ok("rmi", "one", "two")
    kill.make_due(store)
    loaded: list[str] = []

    def load_the_other() -> None:
        [name] = [n for n, layer in chains.items() if e.driver.find(layer["dataset"]) is not None]
        second = race.Second(store, "load", "--input", archives[name])
        second.go()
        assert second.end().rc == 0
        loaded.append(name)

    with race.at("collect:layer-destroyed", load_the_other):
        collect.collect(e)
    _assert_sound(store, loaded[0])


def test_a_layer_that_is_being_destroyed_is_not_taken_for_there(
    clean: Store, tmp_path: Path
) -> None:
    store = clean
    archive = _import(store, tmp_path, "one")
    e = store.engine()
    store.ok("rmi", "one")
    kill.make_due(store)
    second = race.Second(store, "load", "--input", archive)
    with race.at("collect:layer-unneeded", second.go):
        collect.collect(e)
    assert second.end().rc == 0
    _assert_sound(store, "one")


def test_an_image_that_comes_back_while_it_is_forgotten_has_its_documents(
    clean: Store, tmp_path: Path
) -> None:
    store = clean
    archive = _import(store, tmp_path, "one")
    e = store.engine()
    store.ok("rmi", "one")
    kill.make_due(store)
    second = race.Second(store, "load", "--input", archive)
    with race.at("collect:image-settled", second.go):
        collect.collect(e)
    assert second.end().rc == 0
    _assert_sound(store, "one")


def test_an_image_is_not_removed_under_a_container_made_meanwhile(
    clean: Store, tmp_path: Path
) -> None:
    store = clean
    _import(store, tmp_path, "one")
    e = store.engine()
    second = race.Second(store, "create", "--name", "c1", "one", "/nothing")
    with race.at("rmi:unused", second.go):
        done = images.prune(e, all=True)
    assert second.end().rc == 0
    assert done["Deleted"] == []
    assert store.ok("ps", "--all", "--format", "{{.Names}}").line == "c1"
    _assert_sound(store, "one")


def test_an_image_keeps_the_name_it_got_while_another_was_removed(
    clean: Store, tmp_path: Path
) -> None:
    store = clean
    _import(store, tmp_path, "one")
    e = store.engine()
    second = race.Second(store, "tag", "one", "two")
    with race.at("rmi:unused", second.go):
        done = images.remove(e, ["one"])
    assert second.end().rc == 0
    assert [list(step) for step in done] == [["Untagged"]]
    _assert_sound(store, "two")


def test_a_container_whose_image_is_gone_is_committed_with_all_its_layers(clean: Store) -> None:
    store = clean
    image = store.add_busybox()
    store.ok("run", "--name", "c1", BUSYBOX, "touch", "/new")
    e = store.engine()
    e.records.drop_name("image", BUSYBOX)
    e.records.delete("image", image)
    store.ok("commit", "c1", "made")
    assert len(store.ok("image", "inspect", "made").json[0]["RootFS"]["Layers"]) == 2
    store.ok("save", "--output", f"{store.base}/made", "made")
    assert store.ok("run", "--rm", "made", "ls", "/new").line == "/new"


def test_an_entry_of_the_trash_that_is_gone_is_not_emptied(clean: Store) -> None:
    """It was read, and then somebody took the object out again or moved its dataset."""
    store = clean
    store.ok("volume", "create", "v")
    e = store.engine()
    store.ok("volume", "rm", "v")
    [entry] = e.trash.list_entries()
    e.trash.delete(entry["id"])
    collect.empty_entry(e, {**entry, "due": 0}, collect.Collected())
    assert e.driver.find(entry["datasets"][0]) is not None


def test_the_collection_keeps_no_pipe_of_the_caller_open(busybox_store: Store) -> None:
    store = busybox_store
    store.ok("create", "--name", "c1", BUSYBOX, "true")
    reader, writer = os.pipe()
    with locks.lock(f"{store.runroot}/locks/0-collect"):
        with store.start("rm", "c1", pass_fds=(writer,)) as command:
            assert command.wait() == 0
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], 10)
        assert ready, "the collection, which waits for its lock, holds the pipe"
    os.close(reader)
    kill.wait_quiet(store)
