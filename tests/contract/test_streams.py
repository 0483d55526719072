"""Streams, holds and bookmarks: the same promise of every driver that has them, and a clear
"cannot" of every other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from strata.errors import StorageError, UsageError
from strata.storage.description import StoreConfig
from strata.storage.driver import (
    DatasetBusy,
    DatasetNotFound,
    Driver,
    StreamBroken,
    StreamMismatch,
    Unsupported,
)

IDENTITY = {"id": "4f1c", "kind": "volume", "name": "data", "lineage": "aa", "generation": "1",
            "schema": "1"}  # fmt: skip
RECEIVED = {**IDENTITY, "id": "77e0", "name": "copy", "lineage": "bb"}


def write(driver: Driver, dataset: str, text: str) -> None:
    with open(f"{driver.open(dataset)}/data", "w") as out:
        out.write(text)


def read(driver: Driver, dataset: str) -> str:
    with open(f"{driver.open(dataset)}/data") as source:
        return source.read()


@pytest.fixture
def file(store: StoreConfig) -> Iterator[int]:
    """A descriptor of an empty file for a stream."""
    path = f"{store.root}/stream"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        yield fd
    finally:
        os.close(fd)
        os.unlink(path)


def refill(file: int, produce: Callable[[int], None]) -> None:
    """Put a stream into the file, and rewind it."""
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, 0)
    produce(file)
    os.lseek(file, 0, os.SEEK_SET)


def test_a_driver_that_cannot_says_so(driver: Driver, name: str, file: int) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@a"])
    lacking = {
        "send": (lambda: driver.send(f"{name}@a", file), lambda: driver.receive(f"{name}r", file)),
        "send_resume": (
            lambda: driver.resume_send("1-2", file),
            lambda: driver.find_resume_token(name),
            lambda: driver.abort_receive(name),
        ),
        "holds": (
            lambda: driver.hold(f"{name}@a", "t"),
            lambda: driver.release(f"{name}@a", "t"),
            lambda: driver.list_holds(f"{name}@a"),
        ),
        "bookmarks": (
            lambda: driver.bookmark(f"{name}@a", f"{name}#a"),
            lambda: driver.list_bookmarks(name),
            lambda: driver.destroy_bookmark(f"{name}#a"),
        ),
    }
    for fact, actions in lacking.items():
        for action in () if getattr(driver.facts, fact) else actions:
            with pytest.raises(Unsupported, match=fact):
                action()


def test_a_stream_carries_the_data_but_not_who_it_is(
    driver: Driver, name: str, file: int
) -> None:  # fmt: skip
    if not driver.facts.send:
        return
    driver.create(name, IDENTITY)
    write(driver, name, "one")
    driver.snapshot([f"{name}@a"])
    write(driver, name, "two")
    refill(file, lambda fd: driver.send(f"{name}@a", fd))
    driver.receive(f"{name}r", file, RECEIVED)
    assert read(driver, f"{name}r") == "one"
    assert driver.get(f"{name}r").identity == RECEIVED
    assert driver.get(f"{name}r@a").guid == driver.get(f"{name}@a").guid
    os.lseek(file, 0, os.SEEK_SET)
    driver.receive(f"{name}s", file)
    assert driver.get(f"{name}s").identity == {}
    with pytest.raises(DatasetNotFound):
        driver.send(f"{name}@none", file)


def test_an_increment_begins_at_a_snapshot_or_a_bookmark(
    driver: Driver, name: str, file: int
) -> None:
    if not driver.facts.send_since:
        return
    driver.create(name, IDENTITY)
    for moment in ("a", "b", "c"):
        write(driver, name, moment)
        driver.snapshot([f"{name}@{moment}"])
    refill(file, lambda fd: driver.send(f"{name}@a", fd))
    driver.receive(f"{name}r", file, RECEIVED)
    refill(file, lambda fd: driver.send(f"{name}@c", fd, since=f"{name}@b"))
    with pytest.raises(StreamMismatch):
        driver.receive(f"{name}r", file)
    refill(file, lambda fd: driver.send(f"{name}@b", fd, since=f"{name}@a"))
    driver.receive(f"{name}r", file)
    assert read(driver, f"{name}r") == "b"
    assert driver.get(f"{name}r").identity == RECEIVED
    driver.close(f"{name}r")
    with pytest.raises(UsageError):
        driver.send(f"{name}@c", file, since="layers/other@b")
    if driver.facts.bookmarks:
        driver.bookmark(f"{name}@b", f"{name}#b")
        driver.destroy(f"{name}@b")
        refill(file, lambda fd: driver.send(f"{name}@c", fd, since=f"{name}#b"))
        driver.receive(f"{name}r", file)
        assert read(driver, f"{name}r") == "c"


def test_a_broken_stream_leaves_nothing_or_can_be_continued(
    driver: Driver, name: str, file: int
) -> None:
    if not driver.facts.send:
        return
    driver.create(name, IDENTITY)
    content = os.urandom(2 << 20).hex()
    write(driver, name, content)
    driver.snapshot([f"{name}@a"])

    def send_half(fd: int) -> None:
        driver.send(f"{name}@a", fd)
        os.ftruncate(fd, os.fstat(fd).st_size // 2)

    refill(file, send_half)
    with pytest.raises(StreamBroken):
        driver.receive(f"{name}r", file, RECEIVED)
    assert driver.find(f"{name}r") is None
    if not driver.facts.send_resume:
        return
    assert driver.find_resume_token(f"{name}r") is None
    for finish in (False, True):
        os.lseek(file, 0, os.SEEK_SET)
        with pytest.raises(StreamBroken):
            driver.receive(f"{name}r", file, RECEIVED, resumable=True)
        token = driver.find_resume_token(f"{name}r")
        assert token is not None
        if not finish:
            driver.abort_receive(f"{name}r")
            assert driver.find(f"{name}r") is None
            with pytest.raises(StorageError):
                driver.abort_receive(f"{name}r")
    whole = os.fstat(file).st_size * 2
    refill(file, lambda fd: driver.resume_send(token, fd))
    assert os.fstat(file).st_size < whole * 3 // 4
    driver.receive(f"{name}r", file, RECEIVED, resumable=True)
    assert driver.find_resume_token(f"{name}r") is None
    assert read(driver, f"{name}r") == content
    assert driver.get(f"{name}r").identity == RECEIVED
    refill(file, lambda fd: os.truncate(fd, 0))
    with pytest.raises(StreamBroken):
        driver.resume_send("1-nonsense", file)


def test_a_held_snapshot_is_not_destroyed(driver: Driver, name: str) -> None:
    if not driver.facts.holds:
        return
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@a"])
    for tag in ("two", "one", "one"):
        driver.hold(f"{name}@a", tag)
    assert driver.list_holds(f"{name}@a") == ["one", "two"]
    driver.release(f"{name}@a", "one")
    driver.release(f"{name}@a", "one")
    for destroy in (lambda: driver.destroy(f"{name}@a"), lambda: driver.destroy_recursive(name)):
        with pytest.raises(DatasetBusy):
            destroy()
    assert driver.list_holds(f"{name}@a") == ["two"]
    driver.release(f"{name}@a", "two")
    driver.destroy(f"{name}@a")
    for absent in (lambda: driver.hold(f"{name}@a", "t"), lambda: driver.list_holds(f"{name}@a")):
        with pytest.raises(DatasetNotFound):
            absent()


def test_bookmarks_outlive_their_snapshots(driver: Driver, name: str) -> None:
    if not driver.facts.bookmarks:
        return
    driver.create(name, IDENTITY)
    assert driver.list_bookmarks(name) == {}
    driver.snapshot([f"{name}@a"])
    guid = driver.get(f"{name}@a").guid
    driver.bookmark(f"{name}@a", f"{name}#kept")
    driver.destroy(f"{name}@a")
    assert driver.list_bookmarks(name) == {f"{name}#kept": guid}
    assert driver.list_snapshots(name) == []
    driver.destroy_bookmark(f"{name}#kept")
    assert driver.list_bookmarks(name) == {}
    with pytest.raises(DatasetNotFound):
        driver.destroy_bookmark(f"{name}#kept")
    with pytest.raises(DatasetNotFound):
        driver.bookmark(f"{name}@a", f"{name}#again")
    driver.snapshot([f"{name}@b"])
    with pytest.raises(UsageError):
        driver.bookmark(f"{name}@b", f"{name}@b")
