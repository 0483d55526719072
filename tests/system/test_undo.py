"""Undo and the trash through the command line: what a command removed comes back together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.sessions import replay
from helpers.store import Store, get_busybox_tar

from strata.engine.names import get_volume

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

IMAGE = "busybox"


@pytest.fixture
def used(busybox_store: Store) -> Iterator[Store]:
    """A store with the container ``web``, its anonymous volume and the volume ``data``."""
    store = busybox_store
    store.ok("trash", "empty", "--all", "--force")
    store.ok("run", "--name", "web", "-v", "data:/d", "-v", "/anon", IMAGE, "sh", "-c",
             "echo one >/d/f; echo two >/anon/f; echo said")  # fmt: skip
    yield store
    store.strata("rm", "-fv", "web", "web-restored")
    store.strata("volume", "rm", "-f", "data", "data-restored")
    store.strata("volume", "prune", "--force")
    store.strata("trash", "empty", "--all", "--force")


def trash(store: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.ok("trash", "ls", "--format", "json").json
    return found


def read(store: Store, volume: str) -> str:
    return store.ok("run", "--rm", "-v", f"{volume}:/d", IMAGE, "cat", "/d/f").line


def test_a_container_comes_back_with_its_anonymous_volumes_and_output(used: Store) -> None:
    used.ok("snapshot", "web@mon")
    used.ok("rm", "-v", "web")
    assert used.strata("container", "exists", "web").rc == 1
    rows = trash(used)
    assert {row["Operation"] for row in rows} == {rows[0]["Operation"]}
    assert rows[0]["Command"] == "rm -v web"
    done = used.ok("undo")
    assert "container web" in done.out.splitlines()
    assert trash(used) == []
    assert used.ok("logs", "web").line == "said"
    assert [r["Name"] for r in used.ok("snapshot", "ls", "--format", "json", "web").json] == ["mon"]
    used.ok("start", "-a", "web")
    assert used.ok("system", "check", "--format", "json").json["Problems"] == []


def test_the_newest_operation_is_undone_first_and_dry_run_changes_nothing(used: Store) -> None:
    used.ok("rm", "web")
    used.ok("volume", "rm", "data")
    first = used.ok("undo", "--dry-run")
    assert first.line == "would bring back volume data"
    assert len(trash(used)) == 2
    assert used.ok("undo").line == "volume data"
    assert used.ok("undo").line == "container web"
    nothing = used.strata("undo")
    assert nothing.rc == 125
    assert "nothing to undo" in nothing.err
    assert read(used, "data") == "one"


def test_an_operation_is_named_by_its_id(used: Store) -> None:
    used.ok("rm", "web")
    operation = trash(used)[0]["Operation"]
    used.ok("volume", "rm", "data")
    assert used.ok("undo", operation[:6]).line == "container web"
    assert [row["Name"] for row in trash(used)] == ["data"]
    assert used.strata("undo", "nosuch").rc == 125


def test_a_name_can_be_used_again_at_once_and_what_comes_back_gets_another(used: Store) -> None:
    used.ok("rm", "web")
    used.ok("volume", "rm", "data")
    used.ok("volume", "create", "data")
    done = used.ok("undo")
    assert done.line == "volume data-restored"
    assert "data is taken" in done.err
    assert read(used, "data-restored") == "one"
    used.ok("create", "--name", "web", IMAGE, "true")
    refused = used.strata("trash", "restore", "--name", "web", "web")
    assert refused.rc == 125
    assert "already in use" in refused.err
    used.ok("trash", "restore", "--name", "web-restored", "web")
    mounts = used.ok("container", "inspect", "web-restored").json[0]["Mounts"]
    assert "data-restored" in [mount.get("Name") for mount in mounts]
    used.ok("rm", "-v", "web-restored")


def test_one_command_brings_back_a_container_and_the_volume_it_was_removed_with(
    used: Store,
) -> None:
    used.ok("volume", "rm", "--force", "data")
    assert used.strata("container", "exists", "web").rc == 1
    done = used.ok("undo")
    assert done.out.splitlines()[0] == "volume data"
    assert "container web" in done.out.splitlines()
    used.ok("start", "-a", "web")


def test_images_and_their_names_come_back(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "maker", IMAGE, "sh", "-c", "echo new >/f")
    ok("commit", "maker", "localhost/made:1")
    ok("rm", "maker")
    ok("tag", "localhost/made:1", "localhost/made:2")
    ok("rmi", "localhost/made:2")
    assert ok("undo").line == "name localhost/made:2"
    ok("rmi", "-f", ok("image", "inspect", "--format", "{{.Id}}", "localhost/made:1").line)
    assert busybox_store.strata("image", "exists", "localhost/made:1").rc == 1
    ok("undo")
    assert ok("run", "--rm", "localhost/made:2", "cat", "/f").line == "new"
    assert ok("run", "--rm", "localhost/made:1", "cat", "/f").line == "new"
    ok("rmi", "-f", ok("image", "inspect", "--format", "{{.Id}}", "localhost/made:1").line)
    ok("trash", "empty", "--all", "--force")


def test_snapshots_and_branches_come_back(used: Store) -> None:
    ok = used.ok
    ok("snapshot", "data@mon")
    ok("run", "--rm", "-v", "data:/d", IMAGE, "sh", "-c", "echo three >/d/f")
    ok("snapshot", "data@tue")
    ok("rollback", "data@mon")
    ok("branch", "rm", "data", "g1")
    assert used.strata("rollback", "data@tue").rc == 125
    assert ok("undo").line == "branch data g1"
    ok("rollback", "data@tue")
    assert read(used, "data") == "three"
    ok("snapshot", "rm", "data@mon")
    ok("snapshot", "data@mon")
    done = ok("undo")
    assert done.line == "snapshot data@mon-restored"
    ok("rollback", "data@mon-restored")
    assert read(used, "data") == "one"


def test_a_snapshot_that_a_clone_needs_can_be_removed(used: Store) -> None:
    used.ok("snapshot", "data@mon")
    used.ok("clone", "data@mon", "copy")
    used.ok("snapshot", "rm", "data@mon")
    used.ok("trash", "empty", "--force", "data@mon")
    assert read(used, "copy") == "one"
    used.ok("volume", "rm", "--now", "copy")


def test_now_destroys_at_once(used: Store) -> None:
    driver = used.engine().driver
    before = len(driver.list_datasets("volumes/_"))
    used.ok("snapshot", "data@mon")
    used.ok("rm", "--now", "-v", "web")
    used.ok("volume", "rm", "--now", "data")
    assert trash(used) == []
    assert len(driver.list_datasets("volumes/_")) == before - 2
    assert driver.list_datasets("trash") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("rm", "-v", "web"), "container web ("),
        (("rm", "--all"), "container web"),
        (("container", "prune"), "container web"),
        (("volume", "rm", "-f", "data"), "volume data"),
        (("rmi", "-f", IMAGE), "image"),
        (("volume", "prune", "--all"), None),
        (("image", "prune", "--all"), None),
    ],
)
def test_a_dry_run_says_what_would_go_and_nothing_goes(
    used: Store, words: tuple[str, ...], expected: str | None
) -> None:
    done = used.ok(*words, "--dry-run")
    if "-v" in words:
        assert "with volume" in done.out
    if expected is None:
        assert done.out == ""
    else:
        assert f"would remove {expected}" in done.out
    assert used.strata("container", "exists", "web").rc == 0
    assert used.strata("volume", "exists", "data").rc == 0
    assert used.strata("image", "exists", IMAGE).rc == 0
    assert trash(used) == []


def test_a_dry_run_refuses_what_the_command_would_refuse(used: Store) -> None:
    used.ok("run", "-d", "--name", "busy", "--stop-timeout", "0", IMAGE, "sleep", "100")
    try:
        for words in (("rm", "nosuch"), ("rm", "busy"), ("volume", "rm", "data"), ("rmi", IMAGE),
                      ("volume", "rm", "nosuch"), ("network", "rm", "strata")):  # fmt: skip
            dry, real = used.strata(*words, "--dry-run"), used.strata(*words)
            assert real.rc != 0
            assert (dry.rc, dry.err) == (real.rc, real.err), words
    finally:
        used.ok("rm", "-f", "--now", "busy")
    assert used.strata("snapshot", "rm", "--dry-run", "data@nosuch").rc != 0


@pytest.mark.parametrize("words", [
    ("rm", "web"), ("volume", "rm", "-f", "data"), ("container", "prune", "--force"),
    ("image", "prune", "--all", "--force"), ("system", "prune", "--force"),
])  # fmt: skip
def test_at_a_terminal_a_removal_says_how_to_take_it_back(
    used: Store, words: tuple[str, ...]
) -> None:
    if words[0] == "image":
        used.ok("import", "--message", "another", get_busybox_tar(), "localhost/unused:1")
    lines = replay(used, [f"$ strata {' '.join(words)}"])
    operation = trash(used)[0]["Operation"]
    assert lines[-1] == f"'strata undo {operation}' brings it back"
    used.ok("undo")
    assert "brings it back" not in used.ok(*words).err, "only at a terminal"
    used.ok("undo")
    used.strata("rmi", "localhost/unused:1")


def test_what_was_destroyed_by_hand_is_said_and_keeps_nothing_else_from_coming_back(
    used: Store,
) -> None:
    used.ok("volume", "rm", "--force", "data")
    e = used.engine()
    [entry] = [found for found in e.trash.list_entries() if found["object"] == "volume"]
    e.driver.destroy_recursive(entry["datasets"][0])
    done = used.strata("undo")
    assert done.rc == 125
    assert "destroyed outside Strata" in done.err
    assert "container web" in done.out
    assert trash(used) == []


def test_the_trash_can_be_emptied_by_age_and_by_need(used: Store) -> None:
    used.ok("rm", "-v", "web")
    assert used.ok("trash", "empty", "--force", "--older-than", "1h").out == ""
    assert len(trash(used)) == 2
    assert used.ok("trash", "empty", "--force", "--free", "1m").out == ""
    assert len(trash(used)) == 2, "there is more free than that"
    done = used.ok("trash", "empty", "--dry-run", "--free", "100g")
    assert "would destroy container web" in done.out
    used.ok("trash", "empty", "--force", "--older-than", "0s")
    assert trash(used) == []
    for words in (("--all", "x"), ("--all", "--free", "1g"), ()):
        assert used.strata("trash", "empty", "--force", *words).rc == 125


def test_the_trash_shows_what_an_object_was(used: Store) -> None:
    used.ok("rm", "web")
    [found] = used.ok("trash", "show", "web").json
    assert found["Record"]["config"]["entrypoint"] == []
    assert found["Datasets"]
    assert used.ok("trash", "show", "-f", "{{.Kind}}", "web").line == "container"


def test_a_clock_that_jumps_makes_nothing_due(used: Store) -> None:
    used.ok("volume", "rm", "-f", "data")
    e = used.engine()
    with open(f"{e.trash.folder}/clock") as file:
        clock = json.load(file)
    # As after a boot with a wall clock that is a year ahead of the last one.
    clock.update(boot="another", wall=clock["wall"] - 365 * 86400)
    with open(f"{e.trash.folder}/clock", "w") as file:
        json.dump(clock, file)
    used.ok("container", "prune", "--force")
    row = next(row for row in trash(used) if row["Name"] == "data")
    assert row["Due"] - row["Removed"] < 7 * 86400
    assert used.ok("undo").rc == 0


def test_the_newest_removal_is_the_newest_also_when_the_clock_went_back(used: Store) -> None:
    used.ok("rm", "web")
    e = used.engine()
    for entry in list(e.trash.list_entries()):  # removed when the wall clock was a year ahead
        e.trash.save({**entry, "deleted": entry["deleted"] + 365 * 86400})
    used.ok("volume", "rm", "data")
    assert [row["Name"] for row in trash(used)] == ["data", "web"]
    assert used.ok("undo").line == "volume data"
    assert used.ok("undo").line == "container web"


def test_a_snapshot_or_branch_whose_name_is_taken_says_what_it_is_called_now(used: Store) -> None:
    used.ok("rm", "web")
    used.ok("snapshot", "data@mon")
    used.ok("snapshot", "rm", "data@mon")
    used.ok("snapshot", "data@mon")
    done = used.ok("undo")
    assert done.line == "snapshot data@mon-restored"
    assert "mon is taken: it is called mon-restored now" in done.err
    used.ok("rollback", "data@mon")
    used.ok("branch", "rm", "data", "g1")
    used.ok("branch", "rename", "data", "g2", "g1")
    done = used.ok("undo")
    assert done.line == "branch data g1-restored"
    assert "g1 is taken: it is called g1-restored now" in done.err
    used.ok("branch", "rm", "data", "g1-restored")
    done = used.ok("trash", "restore", "--name", "old", "data g1-restored")
    assert done.line == "branch data old"
    assert "it was called g1-restored" in done.err


@pytest.mark.parametrize("removed", ["snapshot", "branch"])
def test_what_is_left_of_a_volume_destroyed_by_hand_breaks_no_command(
    used: Store, removed: str
) -> None:
    """Its record is there, its dataset is not, and the trash has a part of it."""
    used.ok("rm", "web")
    used.ok("snapshot", "data@mon")
    used.ok("rollback", "data@mon")
    if removed == "snapshot":
        used.ok("snapshot", "rm", "data@mon")
    else:
        used.ok("branch", "rm", "data", "g1")
    e = used.engine()
    e.driver.destroy_recursive(get_volume(e, "data")["dataset"])
    assert [row["Kind"] for row in trash(used)] == [removed, "container"]
    assert used.ok("undo").line == (
        "snapshot data@mon" if removed == "snapshot" else "branch data g1"
    )
    lost = used.strata("snapshot", "data@never")
    assert lost.rc == 125
    assert lost.err.endswith("hint: `strata switch data g1` goes on with a branch\n")
    moved = used.ok("switch", "data", "g1")
    assert moved.err == "the state before is not kept: it was destroyed outside Strata\n"
    assert read(used, "data") == "one"
    assert [row["Name"] for row in used.ok("branch", "ls", "--format", "json", "data").json] == [
        "g1"
    ]
    assert used.ok("snapshot", "ls", "-q", "data").line == "data@mon"
    used.ok("trash", "empty", "--all", "--force")
    assert used.ok("system", "check", "--format", "json").json["Problems"] == []


def test_a_clone_comes_back_after_what_it_was_cloned_from_was_destroyed_by_hand(
    used: Store,
) -> None:
    used.ok("clone", "data", "data-restored")
    used.ok("volume", "rm", "data-restored")
    e = used.engine()
    used.ok("rm", "web")
    e.driver.destroy_recursive(get_volume(e, "data")["dataset"])
    used.ok("undo")
    assert used.ok("undo").line == "volume data-restored"
    assert read(used, "data-restored") == "one"
    used.ok("volume", "rm", "--now", "data-restored")


def test_a_removed_snapshot_whose_entry_is_lost_is_seen_again_after_a_rebuild(used: Store) -> None:
    used.ok("snapshot", "data@mon")
    used.ok("snapshot", "rm", "data@mon")
    e = used.engine()
    [entry] = list(e.trash.list_entries())
    e.trash.delete(entry["id"])
    assert used.ok("snapshot", "ls", "-q", "data").out == ""
    used.ok("system", "rebuild")
    assert used.ok("snapshot", "ls", "-q", "data").line.startswith("data@found-")
