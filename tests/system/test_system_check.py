"""``system check`` finds what was damaged, repairs it without loss, and cries no wolf."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.kill import describe, empty_trash, wait_quiet
from helpers.store import BUSYBOX, BUSYBOX_TAR, Store, open_store

from strata.engine.core import Engine

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

Record = dict[str, Any]


@pytest.fixture
def filled() -> Iterator[Store]:
    """A container with a volume, a second one, and a volume that was rolled back."""
    with open_store() as store:
        store.add_busybox()
        store.ok("create", "--name", "web", "--env", "A=1", "--volume", "data:/data",
                 "--stop-signal", "KILL", BUSYBOX, "sleep", "1000")  # fmt: skip
        store.ok("create", "--name", "other", "--privileged", BUSYBOX, "true")
        store.ok("snapshot", "data@before")
        store.ok("rollback", "data@before")
        yield store


def get(e: Engine, kind: str, name: str) -> Record:
    """The record of a container or volume by its name."""
    return e.records.get(kind, e.records.resolve(kind, name))


def find(store: Store) -> list[Record]:
    """The problems that a check finds."""
    found: list[Record] = store.strata("system", "check", "--format", "json").json["Problems"]
    return found


def repair(store: Store, *ids: str) -> list[Record]:
    """Find problems of just these ids, repair them, and find nothing afterwards."""
    assert sorted({problem["Id"] for problem in find(store)}) == sorted(ids)
    done = store.strata("system", "check", "--repair", "--format", "json")
    assert done.rc == 0, repr(done)
    assert all(problem["Repaired"] for problem in done.json["Problems"])
    assert find(store) == []
    return list(done.json["Problems"])


def test_a_healthy_store_has_no_problems_at_any_time(filled: Store) -> None:
    store = filled
    assert find(store) == []
    steps = [
        ["start", "web"], ["exec", "web", "sh", "-c", "echo hi > /data/x"],
        ["snapshot", "data@later"], ["clone", "data@later", "copy"],
        ["commit", "other", "localhost/made:1"], ["rename", "other", "another"],
        ["rollback", "data@before"], ["snapshot", "another@s"], ["rollback", "another@s"],
        ["tag", BUSYBOX, "localhost/more:1"], ["rmi", "localhost/more:1"],
        ["run", "--rm", "--volume", "/anonymous", BUSYBOX, "true"], ["stop", "web"],
        ["rm", "another"], ["volume", "rm", "copy"], ["rmi", "localhost/made:1"],
        ["container", "prune", "--force"], ["image", "prune", "--all", "--force"],
        ["volume", "prune", "--all", "--force"],
    ]  # fmt: skip
    for words in steps:
        store.ok(*words)
        assert find(store) == [], words
    assert store.strata("system", "check", "--repair").out == ""


def test_a_store_full_of_commands_has_no_problems(busybox_store: Store) -> None:
    """Others go on while the check looks; what they are at is not damage."""
    script = f"""
for i in 1 2 3; do
  {" ".join(busybox_store.argv("run", "--rm", "--volume", "busy:/data", BUSYBOX, "true"))}
  {" ".join(busybox_store.argv("volume", "create", "more"))}
  {" ".join(busybox_store.argv("volume", "rm", "more", "busy"))}
done
"""
    busy = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, cwd=os.getcwd())
    while busy.poll() is None:
        assert find(busybox_store) == []
    assert busy.returncode == 0
    wait_quiet(busybox_store)
    empty_trash(busybox_store)


def test_a_damaged_container_record_comes_back_from_its_copy(filled: Store) -> None:
    e = filled.engine()
    before = get(e, "container", "web")
    with open(e.records.path("container", before["id"]), "w") as file:
        file.write('{"schema": 1, "kind": "conta')
    repair(filled, "record-damaged")
    assert get(e, "container", "web") == before
    assert os.listdir(f"{e.records.folder}/damaged")
    filled.ok("start", "web")


def test_a_lost_container_record_comes_back_from_its_copy(filled: Store) -> None:
    e = filled.engine()
    before = get(e, "container", "web")
    e.records.delete("container", before["id"])
    repair(filled, "record-lost")
    assert get(e, "container", "web") == before


def test_a_lost_volume_comes_back_with_its_data_and_branches(filled: Store) -> None:
    e = filled.engine()
    before = get(e, "volume", "data")
    with open(f"{e.driver.open(before['dataset'])}/kept", "w") as file:
        file.write("kept")
    e.records.delete("volume", before["id"])
    e.records.drop_name("volume", "data")
    repair(filled, "record-lost", "volume-gone")
    after = get(e, "volume", "data")
    for key in ("id", "dataset", "guid", "generation", "lineage"):
        assert after[key] == before[key]
    assert [b["guid"] for b in after["branches"]] == [b["guid"] for b in before["branches"]]
    filled.ok("start", "web")
    assert filled.ok("exec", "web", "cat", "/data/kept").out == "kept"


def test_damaged_image_and_layer_records_come_back(filled: Store) -> None:
    e = filled.engine()
    kept = {}
    for kind in ("image", "layer"):
        for object_id in e.records.list_ids(kind):
            path = e.records.path(kind, object_id)
            kept[path] = e.records.get(kind, object_id)
            with open(path, "w") as file:
                json.dump({"schema": 1, "kind": "volume"}, file)
    repair(filled, "record-damaged")
    for path, record in kept.items():
        with open(path) as file:
            assert json.load(file) == record


def test_a_record_of_a_newer_version_is_left_alone(filled: Store) -> None:
    e = filled.engine()
    path = e.records.path("container", get(e, "container", "other")["id"])
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump({**record, "schema": 99}, file)
    outcome = filled.strata("system", "check", "--repair", "--format", "json")
    assert outcome.rc == 1
    assert [problem["Id"] for problem in outcome.json["Problems"]] == ["record-newer"]
    with open(path) as file:
        assert json.load(file)["schema"] == 99


def test_a_copy_that_is_another_containers_gives_no_privileges(filled: Store) -> None:
    """The identity of the dataset must vouch for what its copy says."""
    e = filled.engine()
    web, other = get(e, "container", "web"), get(e, "container", "other")
    assert other["config"]["privileged"]
    copy = f"{e.driver.open(web['dataset'])}/.strata/record.json"
    with open(copy, "w") as file:
        json.dump(other, file)
    repair(filled, "copy-missing")
    with open(copy) as file:
        assert json.load(file)["id"] == web["id"]
    with open(copy, "w") as file:
        json.dump({**other, "name": "web"}, file)
    e.records.delete("container", web["id"])
    repair(filled, "record-lost")
    after = get(e, "container", "web")
    assert after["id"] == web["id"]
    assert after["layer"] == web["layer"]
    assert not after["config"]["privileged"]
    assert after["config"]["command"] == ["/bin/sh"]
    filled.ok("start", "web")


def test_a_copy_of_the_wrong_shape_is_not_believed(filled: Store) -> None:
    e = filled.engine()
    web = get(e, "container", "web")
    with open(f"{e.driver.open(web['dataset'])}/.strata/record.json", "w") as file:
        json.dump({**web, "config": {**web["config"], "mounts": ["../../etc"]}}, file)
    e.records.delete("container", web["id"])
    repair(filled, "record-lost")
    assert get(e, "container", "web")["config"]["mounts"] == []


def test_a_volume_destroyed_by_hand_is_named_and_its_name_is_free(filled: Store) -> None:
    e = filled.engine()
    filled.ok("volume", "create", "lost")
    e.driver.destroy_recursive(get(e, "volume", "lost")["dataset"])
    problem = repair(filled, "dataset-lost")[0]
    assert problem["Object"] == "volume lost"
    assert "gone" in problem["Text"]
    filled.ok("volume", "create", "lost")


def test_a_lost_head_gives_way_to_the_newest_branch(filled: Store) -> None:
    e = filled.engine()
    before = get(e, "volume", "data")
    e.driver.destroy_recursive(before["dataset"])
    repair(filled, "dataset-lost")
    after = get(e, "volume", "data")
    assert after["dataset"] == before["branches"][0]["dataset"]
    assert after["branches"] == []
    filled.ok("rollback", "data@before")


def test_a_container_whose_volume_is_lost_is_named_until_it_goes(filled: Store) -> None:
    e = filled.engine()
    volume = get(e, "volume", "data")
    for dataset in (volume["dataset"], *(b["dataset"] for b in volume["branches"])):
        e.driver.destroy_recursive(dataset)
    done = filled.strata("system", "check", "--repair", "--format", "json")
    left = [problem for problem in done.json["Problems"] if not problem["Repaired"]]
    assert done.rc == 1
    assert [(problem["Id"], problem["Object"]) for problem in left] == [
        ("volume-gone", "container web, /data")
    ]
    filled.ok("rm", "web")
    assert find(filled) == []


def test_a_lost_layer_says_what_to_pull_and_comes_back_with_it(filled: Store) -> None:
    e = filled.engine()
    layer = next(e.records.list_records("layer"))
    e.driver.destroy_recursive(layer["dataset"])
    done = filled.strata("system", "check", "--repair", "--format", "json")
    assert done.rc == 1
    (problem,) = done.json["Problems"]
    assert problem["Id"] == "layer-lost"
    assert BUSYBOX in problem["Text"]
    filled.ok("import", "--change", "CMD /bin/sh", BUSYBOX_TAR, "localhost/again:1")
    repair(filled, "layer-lost")
    filled.ok("run", "--rm", BUSYBOX, "true")
    filled.ok("start", "web")


def test_datasets_renamed_by_hand_are_found_again(filled: Store) -> None:
    e = filled.engine()
    for kind, name in (("container", "web"), ("volume", "data")):
        dataset = get(e, kind, name)["dataset"]
        e.driver.rename(dataset, f"{dataset}.moved")
    layer = next(e.records.list_records("layer"))
    e.driver.rename(layer["dataset"], f"{layer['dataset']}moved")
    branch = get(e, "volume", "data")["branches"][0]
    e.driver.rename(branch["dataset"], f"{branch['dataset']}.old")
    repair(filled, "dataset-renamed", "branch-lost")
    filled.ok("start", "web")
    filled.ok("rollback", "data@before")
    filled.ok("run", "--rm", BUSYBOX, "true")


def test_a_dataset_replaced_by_hand_is_taken_as_it_is(filled: Store) -> None:
    """As after restoring a volume from a backup."""
    e = filled.engine()
    volume = get(e, "volume", "data")
    path = f"{filled.pool}/{volume['dataset']}"
    e.driver.destroy_recursive(volume["dataset"])
    subprocess.run(["btrfs", "-q", "subvolume", "create", path], check=True)
    with open(f"{path}/restored", "w") as file:
        file.write("yes")
    repair(filled, "dataset-replaced", "mountpoint-stale")
    filled.ok("start", "web")
    assert filled.ok("exec", "web", "cat", "/data/restored").out == "yes"


def test_a_container_rolled_back_by_hand_is_no_problem(filled: Store) -> None:
    e = filled.engine()
    dataset = get(e, "container", "web")["dataset"]
    filled.ok("snapshot", "web@then")
    filled.ok("start", "web")
    filled.ok("exec", "web", "touch", "/new")
    filled.ok("stop", "web")
    e.driver.rollback(f"{dataset}@then")
    assert find(filled) == []
    assert not os.path.exists(f"{e.driver.open(dataset)}/rootfs/new")
    filled.ok("start", "web")


def test_a_branch_destroyed_by_hand_is_struck_off(filled: Store) -> None:
    e = filled.engine()
    e.driver.destroy_recursive(get(e, "volume", "data")["branches"][0]["dataset"])
    repair(filled, "branch-lost")
    assert get(e, "volume", "data")["branches"] == []


def test_a_dataset_that_does_not_say_what_it_is_is_left_alone(filled: Store) -> None:
    for place in ("containers", "volumes/_", "layers", "trash"):
        path = f"{filled.pool}/{place}/mine"
        subprocess.run(["btrfs", "-q", "subvolume", "create", path], check=True)
    done = filled.strata("system", "check", "--repair", "--format", "json")
    assert done.rc == 1
    assert {problem["Id"] for problem in done.json["Problems"]} == {"dataset-unknown"}
    assert len(done.json["Problems"]) == 4
    for place in ("containers", "volumes/_", "layers", "trash"):
        assert os.path.isdir(f"{filled.pool}/{place}/mine")


def test_names_and_records_are_brought_together_again(filled: Store) -> None:
    e = filled.engine()
    web, other = get(e, "container", "web"), get(e, "container", "other")
    image = next(e.records.list_records("image"))
    layer = next(e.records.list_records("layer"))
    e.records.set_name("container", "web", other["id"])
    e.records.drop_name("container", "other")
    e.records.set_name("container", "ghost", "cd" * 32)
    e.records.drop_name("image", BUSYBOX)
    e.records.set_name("image", "localhost/unknown:1", image["id"])
    e.records.drop_name("chain", layer["chain_id"].partition(":")[2])
    repair(filled, "name-dangling", "name-missing", "name-stale")
    assert get(e, "container", "web")["id"] == web["id"]
    assert get(e, "container", "other")["id"] == other["id"]
    filled.ok("run", "--rm", BUSYBOX, "true")
    filled.ok("run", "--rm", "localhost/unknown:1", "true")


def test_two_records_of_one_name_keep_both(filled: Store) -> None:
    e = filled.engine()
    other = get(e, "container", "other")
    e.records.save({**other, "name": "web"})
    e.records.drop_name("container", "other")
    repair(filled, "name-missing")
    assert get(e, "container", f"web-{other['id'][:4]}")["id"] == other["id"]


def test_two_records_of_one_dataset_are_told_apart(filled: Store) -> None:
    e = filled.engine()
    web, other = get(e, "container", "web"), get(e, "container", "other")
    e.records.save({**other, "dataset": web["dataset"], "guid": web["guid"]})
    repair(filled, "dataset-lost", "branch-unlisted")
    assert get(e, "container", "other")["dataset"] == other["dataset"]
    assert get(e, "container", "web")["dataset"] == web["dataset"]


def test_a_container_that_nobody_saw_end_has_exited(filled: Store) -> None:
    filled.ok("start", "web")
    state = get(filled.engine(), "container", "web")["state"]
    for key in ("conmon_pid", "pid"):
        os.kill(state[key], signal.SIGKILL)
    wait_quiet(filled)
    repair(filled, "state-stale")
    state = get(filled.engine(), "container", "web")["state"]
    assert (state["status"], state["pid"]) == ("exited", 0)
    filled.ok("start", "web")


def test_what_killed_commands_leave_lying_about_goes(filled: Store) -> None:
    e = filled.engine()
    before = describe(filled)
    os.makedirs(f"{e.paths.bundles}/{'ab' * 6}/rootfs")
    os.makedirs(e.paths.volume_mountpoint("never"))
    os.makedirs(f"{e.paths.runroot}/crun/{'ab' * 32}", exist_ok=True)
    pid = subprocess.Popen(["true"])
    pid.wait()
    for path in (
        f"{e.records.folder}/containers/.new-{pid.pid}-{'ab' * 32}.json",
        f"{e.records.folder}/journal/.new-{pid.pid}-{'ab' * 8}.json",
        f"{e.paths.locks}/op.{'ab' * 8}", f"{e.paths.locks}/2-container.{'ab' * 32}",
    ):  # fmt: skip
        with open(path, "w") as file:
            file.write("{}")
    repair(filled, "bundle-stale", "leftover", "mountpoint-stale", "runtime-stale")
    assert describe(filled) == before
    assert not os.path.exists(f"{e.paths.locks}/2-container.{'ab' * 32}")


def test_a_mountpoint_that_shows_another_dataset_is_put_right(filled: Store) -> None:
    e = filled.engine()
    filled.ok("volume", "create", "second")
    mountpoint = filled.ok("volume", "inspect", "data").json[0]["Mountpoint"]
    wrong = e.driver.open(get(e, "volume", "second")["dataset"])
    e.unmount_volume("data")
    subprocess.run(["mount", "--bind", wrong, mountpoint], check=True)
    repair(filled, "mountpoint-stale")
    there = os.stat(mountpoint)
    assert there.st_dev == os.stat(e.driver.open(get(e, "volume", "data")["dataset"])).st_dev


def test_a_half_moved_trash_entry_is_finished(filled: Store) -> None:
    e = filled.engine()
    filled.ok("rm", "other")
    entry = next(e.trash.list_entries())
    (dataset,) = entry["datasets"]
    e.trash.save({**entry, "datasets": ["containers/other.before", dataset]})
    repair(filled, "trash-stale")
    assert next(e.trash.list_entries())["datasets"] == [dataset]


def test_a_lost_trash_entry_is_written_anew(filled: Store) -> None:
    e = filled.engine()
    filled.ok("rm", "other")
    entry = next(e.trash.list_entries())
    e.trash.delete(entry["id"])
    repair(filled, "trash-lost")
    again = next(e.trash.list_entries())
    assert (again["id"], again["name"], again["datasets"]) == (
        entry["id"], "other", entry["datasets"],
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["{broken", '{"due": "x"}', "[]", ""])
def test_a_damaged_trash_entry_breaks_no_command(filled: Store, damage: str) -> None:
    e = filled.engine()
    filled.ok("rm", "other")
    entry = next(e.trash.list_entries())
    text = damage
    if damage == '{"due": "x"}':
        text = json.dumps({**entry, "due": "x"})
    with open(e.trash.path(entry["id"]), "w") as file:
        file.write(text)
    assert filled.ok("trash", "ls", "--format", "json").json == []
    assert "nothing to undo" in filled.strata("undo").err
    filled.ok("container", "prune", "--force", "--filter", "label=none")
    repair(filled, "trash-damaged", "trash-lost")
    assert filled.ok("undo").line == "container other"


def test_a_removal_that_kept_the_record_is_finished(filled: Store) -> None:
    e = filled.engine()
    record = get(e, "container", "other")
    filled.ok("rm", "other")
    e.records.save({**record, "dataset": next(e.trash.list_entries())["datasets"][0]})
    repair(filled, "removal-unfinished", "name-missing")
    assert "other" not in filled.ok("ps", "--all").out


def test_a_check_without_repair_changes_nothing(filled: Store) -> None:
    e = filled.engine()
    e.records.set_name("container", "ghost", "cd" * 32)
    with open(e.records.path("volume", get(e, "volume", "data")["id"]), "w") as file:
        file.write("")
    before = describe(filled)
    outcome = filled.strata("system", "check")
    assert outcome.rc == 1
    assert "--repair" in outcome.err
    assert describe(filled) == before


def test_a_running_container_whose_record_is_lost_goes_on_running(filled: Store) -> None:
    filled.ok("start", "web")
    e = filled.engine()
    before = get(e, "container", "web")
    e.records.delete("container", before["id"])
    repair(filled, "record-lost")
    after = get(e, "container", "web")["state"]
    assert (after["status"], after["pid"]) == ("running", before["state"]["pid"])
    assert filled.ok("exec", "web", "echo", "alive").line == "alive"
    filled.ok("stop", "web")
    assert find(filled) == []
