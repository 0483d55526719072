"""kill -9 at every traced step of a container's life: start, stop, remove, roll back, run."""

from __future__ import annotations

import pytest
from helpers.kill import Scenario, kill_everywhere
from helpers.store import BUSYBOX, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

# Killed at once: a first process without a handler ignores every other signal.
SLEEPER = ("--stop-signal", "KILL", "--name", "c1", BUSYBOX, "sleep", "1000")
GONE = [["rm", "--force", "--time", "0", "c1"]]


SCENARIOS = [
    Scenario("start", ["start", "c1"], prepare=[["create", *SLEEPER]], undo=GONE),
    Scenario(
        "start-overlay", ["start", "c1"], undo=GONE,
        prepare=[["create", "-v", "/etc:/data:O", *SLEEPER], ["start", "c1"],
                 ["stop", "--time", "0", "c1"]],
    ),
    Scenario(
        "start-in-other-time", ["start", "c1"], undo=GONE,
        prepare=[["create", "--time", "private:3600", *SLEEPER]],
    ),
    Scenario(
        "start-again", ["start", "c1"], undo=GONE,
        prepare=[["create", *SLEEPER], ["start", "c1"], ["stop", "--time", "0", "c1"]],
    ),
    Scenario(
        "stop", ["stop", "--time", "0", "c1"], prepare=[["create", *SLEEPER], ["start", "c1"]],
        undo=GONE,
    ),
    Scenario(
        "restart", ["restart", "--time", "0", "c1"],
        prepare=[["create", *SLEEPER], ["start", "c1"]], undo=GONE,
    ),
    Scenario(
        "pause", ["pause", "c1"], again=["rm", "--force", "--time", "0", "c1"],
        prepare=[["create", *SLEEPER], ["start", "c1"]], undo=GONE,
    ),
    Scenario(
        "unpause", ["unpause", "c1"], again=["rm", "--force", "--time", "0", "c1"],
        prepare=[["create", *SLEEPER], ["start", "c1"], ["pause", "c1"]], undo=GONE,
    ),
    Scenario(
        "update", ["update", "--memory", "64m", "--pids-limit", "99", "c1"],
        prepare=[["create", *SLEEPER], ["start", "c1"]], undo=GONE,
    ),
    Scenario(
        "init", ["init", "c1"], again=["start", "c1"],
        prepare=[["create", *SLEEPER]], undo=GONE,
    ),
    Scenario(
        "rm-force", ["rm", "--force", "--time", "0", "c1"], codes=(0, 1),
        prepare=[["create", *SLEEPER], ["start", "c1"]], undo=GONE,
    ),
    Scenario(
        "run-detached", ["run", "--detach", *SLEEPER], codes=(0, 125), undo=GONE,
    ),
    Scenario(
        "run", ["run", "--rm", "--name", "c1", BUSYBOX, "true"], codes=(0, 125), undo=GONE,
    ),
    Scenario(
        "rollback-in-use", ["rollback", "v1@a"],
        prepare=[["create", "--volume", "v1:/data", *SLEEPER], ["snapshot", "v1@a"],
                 ["start", "c1"]],
        undo=[*GONE, ["volume", "rm", "v1"]],
    ),
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_anywhere_the_container_can_go_on(shared: Store, scenario: Scenario) -> None:
    kill_everywhere(shared, scenario)
