"""The laws of datasets, snapshots and clones, for every driver."""

from __future__ import annotations

import os
import time

import pytest

from strata.errors import StorageError, UsageError
from strata.storage.driver import (
    DatasetExists,
    DatasetNotFound,
    Driver,
    HasDependants,
)

IDENTITY = {"id": "4f1c", "kind": "container", "name": "web", "lineage": "aa", "generation": "1",
            "schema": "1"}  # fmt: skip


def write(driver: Driver, dataset: str, text: str, file: str = "data") -> None:
    with open(f"{driver.open(dataset)}/{file}", "w") as out:
        out.write(text)


def read(driver: Driver, dataset: str, file: str = "data") -> str:
    with open(f"{driver.open(dataset)}/{file}") as source:
        return source.read()


def names(driver: Driver, dataset: str) -> list[str]:
    return [entry.name for entry in driver.list_snapshots(dataset)]


# -- create ------------------------------------------------------------------------------------


def test_a_new_dataset_is_empty_and_has_its_identity(driver: Driver, name: str) -> None:
    made = driver.create(name, IDENTITY)
    assert os.listdir(driver.open(name)) == []
    again = driver.get(name)
    assert again.identity == made.identity == IDENTITY
    assert again.guid == made.guid != ""
    assert again.name == name
    assert again.origin is None
    assert abs(again.creation - time.time()) < 3600
    assert again.createtxg > 0


def test_a_taken_name_is_refused_and_kept(driver: Driver, name: str) -> None:
    made = driver.create(name, IDENTITY)
    with pytest.raises(DatasetExists):
        driver.create(name, {**IDENTITY, "id": "other"})
    assert driver.get(name).guid == made.guid
    assert driver.get(name).identity["id"] == "4f1c"


def test_parents_are_made_and_have_no_identity(driver: Driver, name: str) -> None:
    project = f"volumes/{name.rpartition('/')[2]}"
    driver.create(f"{project}/data", IDENTITY)
    assert [entry.name for entry in driver.list_datasets(project)] == [f"{project}/data"]
    parent = driver.find(project)
    assert parent is None or parent.identity == {}


@pytest.mark.parametrize("bad", ["../x", "layers/../x", "layers//x", "/layers/x", "layers/x/",
                                 "layers/.x", "layers/a b", "layers/a@b", "", "layers/" + "x" * 300,
                                 "layers/a\nb", ".staging/x"])  # fmt: skip
def test_bad_names_are_refused(driver: Driver, bad: str) -> None:
    with pytest.raises(UsageError):
        driver.create(bad, IDENTITY)


@pytest.mark.parametrize("bad", [{"password": "x"}, {"id": "a\nb"}, {"name": "x" * 2000}])
def test_identity_carries_nothing_else(driver: Driver, name: str, bad: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        driver.create(name, bad)
    assert driver.find(name) is None


def test_names_of_the_limit_work(driver: Driver) -> None:
    long = "containers/" + "n" * 120
    driver.create(long, IDENTITY)
    driver.snapshot([f"{long}@{'s' * 50}"])
    assert names(driver, long) == ["s" * 50]
    driver.destroy_recursive(long)


def test_absent_things_are_not_found(driver: Driver, name: str) -> None:
    assert driver.find(name) is None
    for action in (
        lambda: driver.get(name),
        lambda: driver.destroy(name),
        lambda: driver.destroy_recursive(name),
        lambda: driver.destroy(f"{name}@s"),
        lambda: driver.snapshot([f"{name}@s"]),
        lambda: driver.clone(f"{name}@s", f"{name}c", IDENTITY),
        lambda: driver.rename(name, f"{name}n"),
        lambda: driver.promote(name),
        lambda: driver.rollback(f"{name}@s"),
        lambda: driver.open(name),
        lambda: driver.open(f"{name}@s"),
        lambda: driver.list_snapshots(name),
        lambda: driver.list_datasets(name),
        lambda: driver.set_properties(name, {"strata:name": "x"}),
        lambda: driver.get_usage(name),
    ):
        with pytest.raises(DatasetNotFound):
            action()
    driver.create(name, IDENTITY)
    for action in (
        lambda: driver.destroy(f"{name}@s"),
        lambda: driver.rename(f"{name}@s", f"{name}@t"),
        lambda: driver.clone(f"{name}@s", f"{name}c", IDENTITY),
        lambda: driver.rollback(f"{name}@s"),
        lambda: driver.open(f"{name}@s"),
    ):
        with pytest.raises(DatasetNotFound):
            action()
    assert driver.find(f"{name}@s") is None
    assert driver.find(f"{name}c") is None


def test_only_direct_children_are_listed(driver: Driver, name: str) -> None:
    project = f"volumes/{name.rpartition('/')[2]}"
    driver.create(f"{project}/b", {**IDENTITY, "id": "b"})
    driver.create(f"{project}/a", {**IDENTITY, "id": "a"})
    driver.snapshot([f"{project}/a@s"])
    found = driver.list_datasets(project)
    assert [(entry.name, entry.identity["id"]) for entry in found] == [
        (f"{project}/a", "a"), (f"{project}/b", "b")]  # fmt: skip
    assert f"{project}/a" not in [entry.name for entry in driver.list_datasets("volumes")]


# -- identity ----------------------------------------------------------------------------------


def test_identity_is_not_copied_into_clones_and_snapshots(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    assert driver.clone(f"{name}@s", f"{name}c", {"id": "c"}).identity == {"id": "c"}
    assert driver.get(f"{name}c").identity == {"id": "c"}
    assert driver.get(f"{name}@s").identity == {}


def test_inherited_identity_is_not_believed(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    try:
        driver.create(f"{name}/child", {"id": "c"})
    except StorageError:
        assert not driver.facts.properties_at_create  # btrfs: datasets do not lie in others
        return
    assert driver.get(f"{name}/child").identity == {"id": "c"}
    driver.destroy(f"{name}/child")


def test_identity_can_be_changed(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.set_properties(name, {"strata:generation": "2", "strata:name": "new"})
    assert driver.get(name).identity == {**IDENTITY, "generation": "2", "name": "new"}
    for key in ("strata:store", "strata:guid", "other:key"):
        with pytest.raises(StorageError):
            driver.set_properties(name, {key: "x"})


# -- snapshots and clones ----------------------------------------------------------------------


def test_a_snapshot_keeps_its_moment(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "then")
    driver.snapshot([f"{name}@s"])
    write(driver, name, "now")
    assert read(driver, f"{name}@s") == "then"
    assert read(driver, name) == "now"
    with pytest.raises(OSError, match=r"Read-only|read-only"):
        write(driver, f"{name}@s", "forged")
    driver.close(f"{name}@s")
    driver.close(f"{name}@s")


def test_snapshots_are_listed_oldest_first(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    for short in ("c", "a", "b"):
        driver.snapshot([f"{name}@{short}"])
    listed = driver.list_snapshots(name)
    assert [entry.full_name for entry in listed] == [f"{name}@c", f"{name}@a", f"{name}@b"]
    assert len({entry.guid for entry in listed}) == 3
    assert sorted(entry.createtxg for entry in listed) == [entry.createtxg for entry in listed]
    assert driver.get(f"{name}@a").guid == listed[1].guid


def test_one_snapshot_is_found_by_its_name(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@a"])
    driver.snapshot([f"{name}@b"])
    found = driver.find_snapshot(name, "b")
    assert found is not None
    listed = driver.list_snapshots(name)[1]
    assert (found.full_name, found.guid, found.createtxg, found.creation) == (
        listed.full_name, listed.guid, listed.createtxg, listed.creation
    )  # fmt: skip
    for absent in ("c", "", ".", "..", "a/b", "a b", "-", "\t"):
        assert driver.find_snapshot(name, absent) is None
    with pytest.raises(DatasetNotFound):
        driver.find_snapshot(f"{name}-absent", "a")


def test_a_taken_snapshot_name_is_refused(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    guid = driver.list_snapshots(name)[0].guid
    with pytest.raises(DatasetExists):
        driver.snapshot([f"{name}@s"])
    assert [entry.guid for entry in driver.list_snapshots(name)] == [guid]


def test_a_set_of_snapshots_is_made(driver: Driver, name: str) -> None:
    datasets = [f"{name}{letter}" for letter in "abc"]
    for dataset in datasets:
        driver.create(dataset, IDENTITY)
    before = driver.changes
    driver.snapshot([f"{dataset}@s" for dataset in datasets])
    moments = {driver.list_snapshots(dataset)[0].createtxg for dataset in datasets}
    if driver.facts.atomic_set:
        assert driver.changes - before == 1
        assert len(moments) == 1
    else:
        assert driver.changes - before == 3


@pytest.mark.parametrize("obstacle", ["absent", "taken"])
def test_a_failed_set_leaves_none(driver: Driver, name: str, obstacle: str) -> None:
    driver.create(f"{name}a", IDENTITY)
    if obstacle == "taken":
        driver.create(f"{name}b", IDENTITY)
        driver.snapshot([f"{name}b@s"])
    with pytest.raises((DatasetNotFound, DatasetExists)):
        driver.snapshot([f"{name}a@s", f"{name}b@s"])
    assert names(driver, f"{name}a") == []
    if obstacle == "taken":
        assert names(driver, f"{name}b") == ["s"]


def test_a_clone_starts_as_its_origin_and_goes_its_way(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "base")
    os.symlink("data", f"{driver.open(name)}/link")
    driver.snapshot([f"{name}@s"])
    clone = driver.clone(f"{name}@s", f"{name}c", {**IDENTITY, "id": "c"})
    assert clone.origin == f"{name}@s" == driver.get(f"{name}c").origin
    assert clone.guid != driver.get(name).guid
    assert read(driver, f"{name}c") == "base"
    assert os.readlink(f"{driver.open(f'{name}c')}/link") == "data"
    write(driver, f"{name}c", "mine")
    assert read(driver, name) == "base"
    assert names(driver, f"{name}c") == []
    clones = driver.list_snapshots(name)[0].clones
    assert clones == ([f"{name}c"] if driver.facts.clones_pin else [])


def test_a_clone_of_a_taken_name_is_refused(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    with pytest.raises(DatasetExists):
        driver.clone(f"{name}@s", name, IDENTITY)
    assert driver.collect() == []


def test_rollback_loses_what_came_after(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "then")
    driver.snapshot([f"{name}@s"])
    driver.set_properties(name, {"strata:generation": "7"})
    guid = driver.get(name).guid
    write(driver, name, "broken")
    write(driver, name, "more", "other")
    driver.rollback(f"{name}@s")
    assert read(driver, name) == "then"
    assert os.listdir(driver.open(name)) == ["data"]
    assert driver.get(name).guid == guid
    assert driver.get(name).identity["generation"] == "7"
    assert names(driver, name) == ["s"]
    clone = driver.clone(f"{name}@s", f"{name}c", IDENTITY)
    assert clone.origin == f"{name}@s"
    assert driver.collect() == []
    driver.snapshot([f"{name}@t"])
    assert names(driver, name) == ["s", "t"]


def test_rollback_goes_to_the_newest_only(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    driver.snapshot([f"{name}@t"])
    with pytest.raises(HasDependants):
        driver.rollback(f"{name}@s")
    assert names(driver, name) == ["s", "t"]


# -- rename ------------------------------------------------------------------------------------


def test_rename_keeps_guid_identity_snapshots_and_clones(driver: Driver, name: str) -> None:
    made = driver.create(name, IDENTITY)
    write(driver, name, "text")
    driver.snapshot([f"{name}@s"])
    guid = driver.list_snapshots(name)[0].guid
    driver.clone(f"{name}@s", f"{name}c", IDENTITY)
    new = name.replace("containers", "build/deep")
    driver.rename(name, new)
    assert driver.find(name) is None
    assert driver.get(new).guid == made.guid
    assert driver.get(new).identity == IDENTITY
    assert [entry.guid for entry in driver.list_snapshots(new)] == [guid]
    assert driver.get(f"{name}c").origin == f"{new}@s"
    assert read(driver, new) == "text"
    assert read(driver, f"{new}@s") == "text"
    driver.close(f"{new}@s")
    driver.create(name, IDENTITY)  # the old name is free, and starts without a past
    assert names(driver, name) == []


def test_a_snapshot_is_renamed_while_its_dataset_is_in_use(driver: Driver, name: str) -> None:
    """Its GUID stays, clones go on standing on it, and who reads or writes sees nothing of it."""
    driver.create(name, IDENTITY)
    write(driver, name, "text")
    driver.snapshot([f"{name}@s"])
    guid = driver.list_snapshots(name)[0].guid
    driver.clone(f"{name}@s", f"{name}c", IDENTITY)
    with open(f"{driver.open(name)}/held", "w") as held:
        driver.rename(f"{name}@s", f"{name}@removed-1")
        held.write("still")
    with open(f"{driver.open(name)}/held") as file:
        assert file.read() == "still"
    [entry] = driver.list_snapshots(name)
    assert (entry.name, entry.guid) == ("removed-1", guid)
    assert driver.get(f"{name}c").origin == f"{name}@removed-1"
    driver.rename(f"{name}@removed-1", f"{name}@s")
    assert read(driver, f"{name}@s") == "text"
    driver.close(f"{name}@s")
    driver.close(name)


def test_what_was_written_since_a_snapshot_is_told_or_not_known(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    write(driver, name, "text" * 100_000)
    driver.sync()
    written = driver.get_written(name, "s")
    assert written is None or written >= 0
    driver.close(name)


def test_rename_to_a_taken_name_is_refused(driver: Driver, name: str) -> None:
    first = driver.create(name, IDENTITY)
    second = driver.create(f"{name}x", IDENTITY)
    with pytest.raises(DatasetExists):
        driver.rename(name, f"{name}x")
    assert driver.get(name).guid == first.guid
    assert driver.get(f"{name}x").guid == second.guid


def test_a_snapshot_can_be_renamed(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    driver.snapshot([f"{name}@taken"])
    guid = driver.list_snapshots(name)[0].guid
    driver.rename(f"{name}@s", f"{name}@t")
    assert driver.get(f"{name}@t").guid == guid
    with pytest.raises(DatasetExists):
        driver.rename(f"{name}@t", f"{name}@taken")
    with pytest.raises(StorageError):
        driver.rename(f"{name}@t", f"{name}x@t")


# -- promote -----------------------------------------------------------------------------------


def test_promote_moves_the_snapshots(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "base")
    for short in ("old", "base"):
        driver.snapshot([f"{name}@{short}"])
    driver.clone(f"{name}@base", f"{name}c", {**IDENTITY, "id": "c"})
    driver.snapshot([f"{name}@late"])
    guids = {entry.name: entry.guid for entry in driver.list_snapshots(name)}
    driver.promote(f"{name}c")
    assert names(driver, name) == ["late"]
    moved = driver.list_snapshots(f"{name}c")
    assert {entry.name: entry.guid for entry in moved} == {
        short: guids[short] for short in ("old", "base")}  # fmt: skip
    assert driver.get(f"{name}c").origin is None
    assert driver.get(name).origin == f"{name}c@base"
    assert driver.get(name).identity == IDENTITY
    assert read(driver, f"{name}c@base") == "base"
    with pytest.raises(OSError, match=r"Read-only|read-only"):
        write(driver, f"{name}c@base", "forged")
    driver.close(f"{name}c@base")
    driver.destroy_recursive(name)  # nothing of the clone depends on it any more
    assert read(driver, f"{name}c") == "base"


def test_promote_refuses_a_name_that_would_clash(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    driver.snapshot([f"{name}@s"])
    driver.clone(f"{name}@s", f"{name}c", IDENTITY)
    driver.snapshot([f"{name}c@s"])
    with pytest.raises(DatasetExists):
        driver.promote(f"{name}c")
    assert names(driver, name) == names(driver, f"{name}c") == ["s"]
    assert driver.get(f"{name}c").origin == f"{name}@s"


@pytest.mark.parametrize("promote", [True, False])
def test_what_was_left_unfinished_is_completed_in_one_step(
    driver: Driver, name: str, promote: bool
) -> None:
    driver.create(name, {**IDENTITY, "id": "77e0"})
    write(driver, name, "one")
    driver.snapshot([f"{name}@s"])
    driver.clone(f"{name}@s", f"{name}c", IDENTITY, unfinished=True)
    assert driver.get(f"{name}c").identity in ({}, IDENTITY)
    driver.close(f"{name}c")
    before = driver.changes
    driver.finish(f"{name}c", IDENTITY, promote=promote, snapshot="" if promote else "t")
    assert driver.changes - before <= 1
    again = driver.get(f"{name}c")
    assert again.identity == IDENTITY
    assert names(driver, f"{name}c") == (["s"] if promote else ["t"])
    assert read(driver, f"{name}c") == "one"
    assert driver.get(name).identity["id"] == "77e0"
    if not promote:
        with pytest.raises(DatasetExists):
            driver.finish(f"{name}c", {**IDENTITY, "generation": "2"}, snapshot="t")
    with pytest.raises(DatasetNotFound):
        driver.finish(f"{name}n", IDENTITY, snapshot="t")
    with pytest.raises(UsageError):
        driver.finish(f"{name}c", IDENTITY, snapshot="a/b")


def test_promote_is_for_clones(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    with pytest.raises(StorageError):
        driver.promote(name)


# -- destroy -----------------------------------------------------------------------------------


def test_destroy_refuses_a_dataset_with_snapshots(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "kept")
    driver.snapshot([f"{name}@s"])
    with pytest.raises(HasDependants) as caught:
        driver.destroy(name)
    assert caught.value.dependants == [f"{name}@s"]
    assert read(driver, name) == "kept"
    assert names(driver, name) == ["s"]
    driver.destroy(f"{name}@s")
    driver.destroy(name)
    assert driver.find(name) is None


def test_a_snapshot_with_clones(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "base")
    driver.snapshot([f"{name}@s"])
    driver.clone(f"{name}@s", f"{name}c", IDENTITY)
    if driver.facts.clones_pin:
        for action in (lambda: driver.destroy(f"{name}@s"), lambda: driver.destroy_recursive(name)):
            with pytest.raises(HasDependants) as caught:
                action()
            assert caught.value.dependants == [f"{name}c"]
        assert names(driver, name) == ["s"]
        assert read(driver, name) == "base"
        driver.destroy(f"{name}c")
        driver.destroy_recursive(name)
    else:
        driver.destroy(f"{name}@s")
        assert driver.get(f"{name}c").origin is None
        driver.destroy_recursive(name)
        assert read(driver, f"{name}c") == "base"
    assert driver.find(name) is None


def test_destroy_recursive_takes_the_snapshots(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    for short in ("a", "b", "foreign-2026"):
        driver.snapshot([f"{name}@{short}"])
    read_path = driver.open(f"{name}@a")
    assert os.path.isdir(read_path)
    driver.destroy_recursive(name)
    assert driver.find(name) is None
    driver.create(name, IDENTITY)
    assert names(driver, name) == []
    assert driver.collect() == []


def test_each_change_is_counted(driver: Driver, name: str) -> None:
    def waits(action: object) -> int:
        before = driver.changes
        action()  # type: ignore[operator]
        return driver.changes - before

    assert waits(lambda: driver.create(name, IDENTITY)) == 1
    assert waits(lambda: driver.snapshot([f"{name}@s"])) == 1
    assert waits(lambda: driver.clone(f"{name}@s", f"{name}c", IDENTITY)) <= 2
    assert waits(lambda: driver.rename(f"{name}c", f"{name}d")) == 1
    assert waits(lambda: driver.destroy(f"{name}d")) == 1
    assert waits(lambda: driver.destroy_recursive(name)) == 1
    assert waits(lambda: driver.find(name)) == 0
