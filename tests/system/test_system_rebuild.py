"""``system rebuild`` writes the records anew; reset removes one store and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.store import BUSYBOX, Store, list_processes, list_store_mounts, open_store

from strata.engine.containers import checkpoints
from strata.engine.core import Engine
from strata.runtime import criu

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

VOLATILE = {"state", "branches", "snapshots"}


@pytest.fixture
def filled() -> Iterator[Store]:
    """Containers, volumes, branches, snapshots, a committed image, something in the trash."""
    with open_store() as store:
        store.add_busybox()
        store.ok("create", "--name", "web", "--env", "A=1", "--label", "tier=front",
                 "--volume", "data:/data", "--stop-signal", "KILL", BUSYBOX, "sleep",
                 "1000")  # fmt: skip
        made = ("--name", "made", BUSYBOX, "sh", "-c", "echo new > /new; exit 3")
        assert store.strata("run", *made).rc == 3
        store.ok("commit", "made", "localhost/made:1")
        store.ok("tag", BUSYBOX, "localhost/more:1")
        store.ok("snapshot", "data@before")
        store.ok("rollback", "data@before")
        store.ok("snapshot", "web@clean")
        store.ok("rollback", "web@clean")
        store.ok("create", "--name", "removed", BUSYBOX, "true")
        store.ok("rm", "removed")
        yield store


def destroy_records(store: Store) -> None:
    store.engine().driver.destroy_recursive("records")


def read_all(e: Engine) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        kind: {record["id"]: record for record in e.records.list_records(kind)}
        for kind in ("container", "image", "layer", "volume")
    }


def list_trash(store: Store) -> set[tuple[str, str]]:
    rows = store.ok("trash", "ls", "--format", "json").json
    return {(row["Kind"], row["Name"]) for row in rows}


def check(store: Store) -> None:
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []


def test_a_store_without_records_says_how_to_get_them_back(filled: Store) -> None:
    destroy_records(filled)
    outcome = filled.strata("ps")
    assert outcome.rc == 125
    assert "strata system rebuild" in outcome.err


def test_everything_the_datasets_know_comes_back(filled: Store) -> None:
    before = read_all(filled.engine())
    destroy_records(filled)
    outcome = filled.ok("system", "rebuild")
    assert outcome.out.split() == [
        "Images:", "2", "Containers:", "2", "Volumes:", "1", "Layers:", "2",
    ]  # fmt: skip
    e = filled.engine()
    after = read_all(e)
    assert after["layer"] == before["layer"]
    assert after["image"] == before["image"]
    for object_id, record in before["container"].items():
        again = after["container"][object_id]
        assert {k: v for k, v in again.items() if k not in VOLATILE} == {
            k: v for k, v in record.items() if k not in VOLATILE
        }
        assert [b["guid"] for b in again["branches"]] == [b["guid"] for b in record["branches"]]
    (volume,) = after["volume"].values()
    assert (volume["name"], volume["generation"], len(volume["branches"])) == ("data", 2, 1)
    check(filled)
    filled.ok("start", "web")
    assert filled.ok("exec", "web", "sh", "-c", "echo $A").line == "1"
    filled.ok("rollback", "data@before")
    assert filled.ok("run", "--rm", "localhost/made:1", "cat", "/new").line == "new"
    filled.ok("run", "--rm", "localhost/more:1", "true")


def test_what_ended_has_ended_but_nobody_knows_how(filled: Store) -> None:
    assert filled.ok("inspect", "made").json[0]["State"]["ExitCode"] == 3
    destroy_records(filled)
    filled.ok("system", "rebuild")
    state = {row["Names"][0]: row["State"] for row in
             filled.ok("ps", "--all", "--format", "json").json}  # fmt: skip
    assert state["web"] == "created"
    assert state["made"] in ("created", "exited")


def test_a_container_that_runs_goes_on_running(filled: Store) -> None:
    filled.ok("start", "web")
    pid = filled.ok("inspect", "web").json[0]["State"]["Pid"]
    destroy_records(filled)
    filled.ok("system", "rebuild")
    state = filled.ok("inspect", "web").json[0]["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    check(filled)
    filled.ok("stop", "web")
    check(filled)


def test_what_was_removed_stays_removed(filled: Store) -> None:
    destroy_records(filled)
    filled.ok("system", "rebuild")
    assert "removed" not in filled.ok("ps", "--all").out
    (entry,) = filled.engine().trash.list_entries()
    assert entry["name"] == "removed"


def test_removed_images_and_networks_are_in_the_trash_again(filled: Store) -> None:
    filled.ok("rmi", "localhost/more:1")  # a name, of which nothing is written elsewhere
    filled.ok("rm", "made")
    filled.ok("rmi", "localhost/made:1")
    filled.ok("network", "create", "--subnet", "10.99.7.0/24", "back")
    filled.ok("network", "rm", "back")
    filled.ok("network", "create", "gone")
    filled.ok("network", "rm", "--now", "gone")
    destroy_records(filled)
    filled.ok("system", "rebuild")
    assert list_trash(filled) == {
        ("container", "made"), ("container", "removed"), ("image", "localhost/made:1"),
        ("network", "back"),
    }  # fmt: skip
    check(filled)
    assert "localhost/made" not in filled.ok("images").out
    assert "back" not in filled.ok("network", "ls", "-q").out
    filled.ok("container", "prune", "--force")  # collects
    filled.ok("trash", "restore", "back", "localhost/made:1")
    (network,) = filled.ok("network", "inspect", "back").json
    assert network["subnets"][0]["subnet"] == "10.99.7.0/24"
    assert filled.ok("run", "--rm", "localhost/made:1", "cat", "/new").line == "new"
    check(filled)
    destroy_records(filled)
    filled.ok("system", "rebuild")
    assert "back" in filled.ok("network", "ls").out
    assert "localhost/made" in filled.ok("images").out
    assert list_trash(filled) >= {("container", "removed")}
    check(filled)


def test_a_removed_branch_of_what_is_alive_is_a_branch_again(filled: Store) -> None:
    path = filled.ok("volume", "inspect", "data", "--format", "{{.Mountpoint}}").line
    with open(f"{path}/now", "w") as file:
        file.write("alive")
    for target in ("data", "web"):
        filled.ok("branch", "rm", target, "g1")
    destroy_records(filled)
    filled.ok("system", "rebuild")
    assert list_trash(filled) == {
        ("branch", "data g1"), ("branch", "web g1"), ("container", "removed"),
    }  # fmt: skip
    check(filled)
    filled.ok("container", "prune", "--force", "--filter", "label=none")  # collects
    assert os.path.exists(f"{path}/now"), "what is alive goes on"
    filled.ok("undo")
    for target in ("data", "web"):
        rows = filled.ok("branch", "ls", target, "--format", "json").json
        assert [row["Name"] for row in rows] == ["g2", "g1"]
    filled.ok("switch", "data", "g1")
    filled.ok("switch", "data", "g2")
    assert os.path.exists(f"{path}/now")
    check(filled)


def test_what_comes_back_of_the_trash_lies_where_it_did(filled: Store) -> None:
    filled.ok("volume", "create", "other")
    e = filled.engine()
    known = {kind: e.records.get(kind, e.records.resolve(kind, name))["dataset"]
             for kind, name in (("volume", "other"), ("container", "made"))}  # fmt: skip
    filled.ok("volume", "rm", "other")
    filled.ok("rm", "made")
    destroy_records(filled)
    filled.ok("system", "rebuild")
    filled.ok("undo")
    e = filled.engine()
    assert known == {kind: e.records.get(kind, e.records.resolve(kind, name))["dataset"]
                     for kind, name in (("volume", "other"), ("container", "made"))}  # fmt: skip
    check(filled)


def test_a_checkpoint_is_found(filled: Store) -> None:
    """What CRIU wrote is looked for, not read; the lane of OpenZFS has a CRIU that goes on."""
    e = filled.engine()
    web = e.records.get("container", e.records.resolve("container", "web"))
    folder = f"{checkpoints.find_folder(e, web)}/{checkpoints.IMAGES}"
    os.makedirs(folder)
    with open(f"{folder}/{criu.INVENTORY}", "w"):
        pass
    os.utime(f"{folder}/{criu.INVENTORY}", (1700000000, 1700000000))
    destroy_records(filled)
    filled.ok("system", "rebuild")
    state = filled.ok("container", "inspect", "web").json[0]["State"]
    assert state["Checkpointed"] is True
    assert state["CheckpointedAt"].startswith("2023-11-14T22:13:20")
    assert filled.ok("container", "inspect", "made").json[0]["State"]["Checkpointed"] is False
    filled.ok("start", "web")
    assert not os.path.exists(folder), "a plain start drops it"


def test_records_that_are_sound_are_kept(filled: Store) -> None:
    before = read_all(filled.engine())
    outcome = filled.ok("system", "rebuild")
    assert outcome.out.split() == [
        "Images:", "0", "Containers:", "0", "Volumes:", "0", "Layers:", "0",
    ]  # fmt: skip
    assert read_all(filled.engine()) == before


def test_of_two_that_claim_a_name_the_newest_keeps_it(filled: Store) -> None:
    e = filled.engine()
    filled.ok("create", "--name", "web2", BUSYBOX, "true")
    newest = e.records.get("container", e.records.resolve("container", "web2"))
    e.write_copy(newest["dataset"], {**newest, "name": "web"})
    oldest = e.records.get("container", e.records.resolve("container", "web"))
    destroy_records(filled)
    outcome = filled.ok("system", "rebuild")
    e = filled.engine()
    assert e.records.resolve("container", "web") == newest["id"]
    suffixed = f"web-{oldest['id'][:4]}"
    assert suffixed in outcome.err
    assert e.records.resolve("container", suffixed) == oldest["id"]
    check(filled)


def test_documents_of_an_image_that_were_changed_are_not_believed(filled: Store) -> None:
    e = filled.engine()
    image = e.records.get("image", str(e.records.find_name("image", BUSYBOX)))
    with open(f"{e.images_folder}/{image['id']}/config.json", "ab") as file:
        file.write(b" ")
    destroy_records(filled)
    outcome = filled.ok("system", "rebuild")
    assert image["id"][:12] in outcome.err
    assert BUSYBOX not in filled.ok("images").out


# -- the rest of the verbs on the store ------------------------------------------------------------


def test_reset_removes_this_store_and_nothing_else(filled: Store) -> None:
    filled.ok("start", "web")
    with open_store() as neighbour:
        neighbour.ok("volume", "create", "safe")
        filled.ok("system", "reset", "--force", "--now")
        assert neighbour.ok("volume", "ls", "--quiet").line == "safe"
    assert not os.path.exists(filled.root)
    assert not os.path.exists(filled.runroot)
    assert list_store_mounts(filled.base) == []
    assert list_processes(filled) == []
    assert filled.strata("ps").rc == 125
    filled.make()
    assert filled.ok("ps", "--all", "--quiet").out == ""


def test_reset_without_a_yes_changes_nothing(filled: Store) -> None:
    outcome = filled.strata("system", "reset")
    assert outcome.rc == 125
    assert "--force" in outcome.err
    assert "data" in filled.ok("volume", "ls").out


def test_df_counts_every_kind(filled: Store) -> None:
    filled.ok("start", "web")
    rows = {row["Type"]: row for row in filled.ok("system", "df", "--format", "json").json}
    assert {kind: (row["Total"], row["Active"]) for kind, row in rows.items()} == {
        "Images": (2, 1), "Containers": (2, 1), "Local Volumes": (1, 1), "Trash": (1, 0),
        "Pool": (1, 1),
    }  # fmt: skip
    assert rows["Images"]["RawSize"] > 1 << 20
    listed = filled.ok("system", "df", "--verbose", "--format", "json").json
    assert [row["Names"] for row in listed["Containers"]]
    assert [row["VolumeName"] for row in listed["Volumes"]] == ["data"]


def test_info_says_what_and_where(filled: Store) -> None:
    found = filled.ok("system", "info", "--format", "json").json
    store = found["store"]
    assert (store["graphDriverName"], store["graphRoot"]) == ("btrfs", filled.root)
    assert store["containerStore"] == {
        "number": 2, "paused": 0, "running": 0, "stopped": 2,
    }  # fmt: skip
    assert store["format"] == 1
    assert found["driver"]["facts"]["quota"] is True
    assert found["host"]["ociRuntime"]["version"].startswith("crun")
