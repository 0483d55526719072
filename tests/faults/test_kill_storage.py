"""kill -9 at every traced step of the verbs that change images, volumes and datasets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.kill import Scenario, empty_trash, kill_everywhere, ok
from helpers.registry import RegistryServer, make_tar
from helpers.store import BUSYBOX, BUSYBOX_TAR, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

MADE = ("--name", "c1", BUSYBOX, "sh", "-c", "exit 0")


def _write_into_container(store: Store) -> None:
    e = store.engine()
    record = e.records.get("container", e.records.resolve("container", "c1"))
    with open(f"{e.driver.open(record['dataset'])}/rootfs/new", "w") as file:
        file.write("made in the container\n")


SCENARIOS = [
    Scenario(
        "import", ["import", BUSYBOX_TAR, "localhost/other:1"],
        undo=[["rmi", "--force", "localhost/other:1"], ["image", "prune", "--force"]],
    ),
    Scenario(
        "tag", ["tag", BUSYBOX, "localhost/other:2"], undo=[["untag", BUSYBOX, "localhost/other:2"]]
    ),
    Scenario(
        "rmi", ["rmi", "localhost/other:3"], codes=(0, 1),
        prepare=[["import", "--message", "third", BUSYBOX_TAR, "localhost/other:3"]],
        undo=[["rmi", "--force", "localhost/other:3"]],
    ),
    Scenario(
        "volume-create", ["volume", "create", "v1"], codes=(0, 125),
        undo=[["volume", "rm", "v1"]],
    ),
    Scenario(
        "volume-rm", ["volume", "rm", "v1"], codes=(0, 1), prepare=[["volume", "create", "v1"]],
    ),
    Scenario(
        "create", ["create", "--volume", "v1:/data", *MADE], codes=(0, 125),
        undo=[["rm", "--force", "c1"], ["volume", "rm", "v1"]],
    ),
    Scenario("rm", ["rm", "c1"], codes=(0, 1), prepare=[["create", *MADE]]),
    Scenario(
        "rename", ["rename", "c1", "c2"], codes=(0, 1, 125), prepare=[["create", *MADE]],
        undo=[["rm", "--force", "c1"], ["rm", "--force", "c2"]],
    ),
    Scenario(
        "commit", ["commit", "c1", "localhost/made:1"], prepare=[["create", *MADE]],
        undo=[["rm", "--force", "c1"], ["rmi", "--force", "localhost/made:1"],
              ["image", "prune", "--force"]],
        touch=_write_into_container,
    ),
    Scenario(
        "snapshot", ["snapshot", "v1@a"], prepare=[["volume", "create", "v1"]], codes=(0, 125),
        undo=[["volume", "rm", "v1"]],
    ),
    Scenario(
        "snapshot-rm", ["snapshot", "rm", "v1@a"], codes=(0, 1, 125),
        prepare=[["volume", "create", "v1"], ["snapshot", "v1@a"]], undo=[["volume", "rm", "v1"]],
    ),
    Scenario(
        "rollback-volume", ["rollback", "v1@a"], telling=["rollback:switched"],
        prepare=[["volume", "create", "v1"], ["snapshot", "v1@a"]], undo=[["volume", "rm", "v1"]],
    ),
    Scenario(
        "rollback-container", ["rollback", "c1@a"],
        prepare=[["create", *MADE], ["snapshot", "c1@a"]], undo=[["rm", "--force", "c1"]],
    ),
    Scenario(
        "clone-volume", ["clone", "v1@a", "v2"], codes=(0, 125),
        prepare=[["volume", "create", "v1"], ["snapshot", "v1@a"]],
        undo=[["volume", "rm", "v2"], ["volume", "rm", "v1"]],
    ),
    Scenario(
        "clone-container", ["clone", "c1@a", "c2"], codes=(0, 125),
        prepare=[["create", *MADE], ["snapshot", "c1@a"]],
        undo=[["rm", "--force", "c2"], ["rm", "--force", "c1"]],
    ),
]  # fmt: skip


def test_a_pull_killed_anywhere_is_completed_by_the_next(shared: Store) -> None:
    """Two layers, one of them empty; what was unpacked before the kill is used again."""
    layers = [make_tar({"etc/": b"", "etc/motd": os.urandom(100_000)}), bytes(1024)]
    with RegistryServer() as registry:
        registry.push_image("app", "1", layers)
        name = f"{registry.address}/app:1"
        gone = [["rmi", "--force", name], ["image", "prune", "--force"]]
        kill_everywhere(shared, Scenario("pull", ["pull", name], undo=gone))


def test_a_load_killed_anywhere_is_completed_by_the_next(shared: Store, tmp_path: Path) -> None:
    archive = str(tmp_path / "archive.tar")
    ok(shared, "import", "--message", "loaded", BUSYBOX_TAR, "localhost/loaded:1")
    ok(shared, "save", "--output", archive, "localhost/loaded:1")
    gone = [["rmi", "--force", "localhost/loaded:1"], ["image", "prune", "--force"]]
    for words in gone:
        ok(shared, *words)
    empty_trash(shared)
    kill_everywhere(shared, Scenario("load", ["load", "--input", archive], undo=gone))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_anywhere_it_leaves_nothing_that_hinders(shared: Store, scenario: Scenario) -> None:
    kill_everywhere(shared, scenario)
