"""kill -9 at every traced step of what makes, changes and removes networks and attachments.

The store's commands run on a test host; links and rules there belong to what is compared before
and after.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from helpers.hosts import open_hosts
from helpers.kill import Scenario, empty_trash, kill_everywhere
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--stop-signal", "KILL", "--name", "c1", BUSYBOX, "sleep", "1000")
ON = ("--network", "net", "--publish", "8080:80")
GONE = ["rm", "--force", "--time", "0", "c1"]
RUN = ["run", "--detach", *ON, *SLEEPER]


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """A store whose networks have been in use once, so that their bridges are there."""
    with contextlib.ExitStack() as stack:
        (host,) = stack.enter_context(open_hosts("a"))
        store = stack.enter_context(open_store(netns=host.netns))
        store.add_busybox()
        for name in ("net", "other"):
            store.ok("network", "create", name)
            store.ok("run", "--rm", "--network", name, BUSYBOX, "true")
        empty_trash(store)
        yield store


SCENARIOS = [
    Scenario("create", ["network", "create", "--label", "a=b", "new"], codes=(0, 125),
             undo=[["network", "rm", "new"]]),
    Scenario("first-use", ["start", "c1"], undo=[GONE, ["network", "rm", "new"]],
             prepare=[["network", "create", "new"],
                      ["create", "--network", "new", *SLEEPER]]),
    Scenario("rm", ["network", "rm", "new"], codes=(0, 1),
             prepare=[["network", "create", "new"],
                      ["run", "--rm", "--network", "new", BUSYBOX, "true"]],
             undo=[["network", "rm", "new"]]),
    Scenario("rm-now", ["network", "rm", "--now", "new"], codes=(0, 1),
             prepare=[["network", "create", "new"]], undo=[["network", "rm", "new"]]),
    Scenario("prune", ["network", "prune", "--force", "--filter", "label=old"],
             prepare=[["network", "create", "--label", "old", "new"],
                      ["run", "--rm", "--network", "new", BUSYBOX, "true"]],
             undo=[["network", "rm", "new"]]),
    Scenario("undo", ["undo"], codes=(0, 125),
             prepare=[["network", "create", "new"],
                      ["create", "--network", "new", *SLEEPER],
                      ["network", "rm", "--force", "new"]],
             undo=[GONE, ["network", "rm", "new"]]),
    Scenario("restore-renumber", ["trash", "restore", "--renumber", "--name", "back", "new"],
             codes=(0, 125),
             prepare=[["network", "create", "--subnet", "10.77.5.0/24", "new"],
                      ["network", "rm", "new"],
                      ["network", "create", "--subnet", "10.77.0.0/16", "taken"]],
             undo=[["network", "rm", "back"], ["network", "rm", "taken"]]),
    Scenario("trash-empty", ["trash", "empty", "--force", "mesh"], codes=(0, 125),
             prepare=[["network", "create", "-d", "wireguard", "mesh"],
                      ["network", "rm", "mesh"]]),
    Scenario("run", ["run", "--rm", "--name", "c1", *ON, BUSYBOX, "true"], codes=(0, 125),
             undo=[GONE]),
    Scenario("start", ["start", "c1"], undo=[GONE],
             prepare=[["create", *ON, *SLEEPER]]),
    Scenario("stop", ["stop", "--time", "0", "c1"], prepare=[RUN], undo=[GONE]),
    Scenario("connect", ["network", "connect", "other", "c1"], prepare=[RUN], codes=(0, 125),
             undo=[GONE]),
    Scenario("connect-ports", ["network", "connect", "other", "c1"], codes=(0, 125),
             undo=[GONE, ["network", "rm", "new"]],
             prepare=[["network", "create", "--internal", "new"],
                      ["run", "--detach", "--network", "new", "--publish", "8080:80", *SLEEPER]]),
    Scenario("disconnect", ["network", "disconnect", "other", "c1"], codes=(0, 125),
             prepare=[RUN, ["network", "connect", "other", "c1"]], undo=[GONE]),
    Scenario("rename", ["rename", "c1", "c2"], prepare=[RUN], codes=(0, 125),
             undo=[["rm", "--force", "--ignore", "--time", "0", "c1", "c2"]]),
    Scenario("pasta", ["run", "--rm", "--name", "c1", "--network", "pasta", "--publish", "8080:80",
                       BUSYBOX, "true"], codes=(0, 125), undo=[GONE]),
    Scenario("reload", ["network", "reload", "c1"], prepare=[RUN], undo=[GONE]),
    Scenario("overlay-create", ["network", "create", "-d", "wireguard", "mesh"], codes=(0, 125),
             undo=[["network", "rm", "mesh"]]),
    Scenario("overlay-rm", ["network", "rm", "mesh"], codes=(0, 1),
             prepare=[["network", "create", "-d", "wireguard", "mesh"]],
             undo=[["network", "rm", "mesh"]]),
    Scenario("overlay-undo", ["undo"], codes=(0, 125),
             prepare=[["network", "create", "-d", "wireguard", "mesh"],
                      ["network", "rm", "mesh"]],
             undo=[["network", "rm", "mesh"]]),
    Scenario("fork-rm", ["fork", "rm", "--time", "0", "pr1"], codes=(0, 1),
             prepare=[["network", "create", "new"], ["create", "--network", "new", *SLEEPER],
                      ["fork", "c1", "--as", "pr1", "--no-start"]],
             undo=[["fork", "rm", "--time", "0", "pr1"], GONE, ["network", "rm", "new"]]),
    Scenario("overlay-first-use", ["start", "c1"],
             prepare=[["network", "create", "-d", "wireguard", "mesh"],
                      ["create", "--network", "mesh", *SLEEPER]],
             undo=[GONE, ["network", "rm", "mesh"]]),
    Scenario("overlay-last-use", ["stop", "--time", "0", "c1"],
             prepare=[["network", "create", "-d", "wireguard", "mesh"],
                      ["run", "--detach", "--network", "mesh", *SLEEPER]],
             undo=[GONE, ["network", "rm", "mesh"]]),
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_anywhere_nothing_is_left(shared: Store, scenario: Scenario) -> None:
    kill_everywhere(shared, scenario)
