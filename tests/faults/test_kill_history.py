"""kill -9 at every traced step of the verbs that move heads and bring back what was removed."""

from __future__ import annotations

import pytest
from helpers import kill
from helpers.kill import Scenario, kill_everywhere
from helpers.store import BUSYBOX, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

MADE = ("--name", "c1", BUSYBOX, "sh", "-c", "exit 0")
VOLUME = [["volume", "create", "v1"], ["snapshot", "v1@a"]]
BRANCHED = [*VOLUME, ["rollback", "v1@a"]]
GONE = [["volume", "rm", "v1"], ["volume", "rm", "v1-restored"]]


SCENARIOS = [
    Scenario("switch", ["switch", "v1", "g1"], prepare=BRANCHED, undo=GONE, codes=(0, 125)),
    Scenario(
        "switch-in-use", ["switch", "v1", "g1"], codes=(0, 125),
        prepare=[*BRANCHED, ["run", "--detach", "--volume", "v1:/data", "--stop-timeout", "0",
                             "--name", "c1", BUSYBOX, "sleep", "1000"]],
        undo=[["rm", "--force", "--time", "0", "c1"], *GONE],
    ),
    Scenario(
        "branch-rm", ["branch", "rm", "v1", "g1"], prepare=BRANCHED, undo=GONE, codes=(0, 1)
    ),
    Scenario(
        "branch-rename", ["branch", "rename", "v1", "g1", "old"], prepare=BRANCHED, undo=GONE,
        codes=(0, 125),
    ),
    Scenario(
        "undo-volume", ["undo"], prepare=[*BRANCHED, ["volume", "rm", "v1"]], undo=GONE,
        codes=(0, 125), telling=["restore:announced"],
    ),
    Scenario(
        "restore-volume", ["trash", "restore", "--name", "v1-restored", "v1"],
        prepare=[*VOLUME, ["volume", "rm", "v1"], ["volume", "create", "v1"]], undo=GONE,
        codes=(0, 125),
    ),
    Scenario(
        "undo-container", ["undo"], codes=(0, 125),
        prepare=[["create", "--volume", "/data", *MADE], ["rm", "--volumes", "c1"]],
        undo=[["rm", "--force", "--volumes", "c1"], ["volume", "prune", "--force"]],
    ),
    Scenario(
        "undo-image", ["undo"], codes=(0, 125),
        prepare=[["create", *MADE], ["commit", "c1", "localhost/made:1"], ["rm", "c1"],
                 ["rmi", "localhost/made:1"]],
        undo=[["rm", "--force", "c1"], ["rmi", "--force", "localhost/made:1"],
              ["image", "prune", "--force"]],
    ),
    Scenario(
        "undo-snapshot", ["undo"], prepare=[*VOLUME, ["snapshot", "rm", "v1@a"]], undo=GONE,
        codes=(0, 125),
    ),
    Scenario(
        "undo-branch", ["undo"], prepare=[*BRANCHED, ["branch", "rm", "v1", "g1"]], undo=GONE,
        codes=(0, 125),
    ),
    Scenario(
        "fork", ["fork", "c1", "--as", "f1", "--no-start"], codes=(0, 125),
        telling=["clone:dataset-made"],
        prepare=[*VOLUME, ["create", "--volume", "v1:/data", *MADE]],
        undo=[["fork", "rm", "--discard", "f1"], ["rm", "--force", "c1"], *GONE],
    ),
    Scenario(
        "run-at", ["create", "--at", "c1@a", "--name", "c2"], codes=(0, 125),
        prepare=[*VOLUME, ["create", "--volume", "v1:/data", *MADE], ["snapshot", "c1@a"]],
        undo=[["rm", "--force", "--volumes", "c2"], ["rm", "--force", "c1"],
              ["volume", "prune", "--force"], *GONE],
    ),
    Scenario(
        "limit", ["volume", "update", "-o", "size=64M", "v1"],
        prepare=[["volume", "create", "-o", "size=32M", "v1"]], undo=[["volume", "rm", "v1"]],
    ),
    Scenario(
        "limit-of-container", ["update", "--storage-opt", "size=64M", "c1"],
        prepare=[["create", "--storage-opt", "size=32M", *MADE]], undo=[["rm", "c1"]],
    ),
    Scenario(
        "clone-now", ["clone", "v1", "v2"], prepare=VOLUME, codes=(0, 125),
        undo=[["volume", "rm", "v2"], *GONE],
    ),
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_anywhere_nothing_is_lost(shared: Store, scenario: Scenario) -> None:
    kill_everywhere(shared, scenario)


@pytest.mark.parametrize("command", [
    ("fork", "c1", "--as", "f1", "--no-start"), ("clone", "v1", "v2"), ("clone", "c1", "c2"),
], ids=lambda words: "-".join(words[:2]))  # fmt: skip
def test_snapshots_for_a_copy_that_was_not_made_go(shared: Store, command: tuple[str, ...]) -> None:
    undo = [("fork", "rm", "--discard", "f1"), ("volume", "rm", "--now", "v2"),
            ("rm", "--now", "c2")]  # fmt: skip
    shared.ok("create", "-v", "v1:/data", *MADE)
    try:
        points = kill.list_points(shared, *command)
        for number in range(len(points)):
            for words in undo:
                shared.strata(*words)
            where = kill.kill_at(shared, number, *command)
            shared.ok("volume", "create", "next")
            shared.ok("volume", "rm", "--now", "next")
            made = [shared.strata(*words).rc for words in undo]
            left = shared.ok("snapshot", "ls", "-q").out
            assert left == "", f"killed at {number}, {where}; what was made: {made}"
    finally:
        shared.ok("rm", "--now", "c1")
        shared.ok("volume", "rm", "--now", "v1")
