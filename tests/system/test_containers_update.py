"""update: other limits at once and for good, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, Store

from strata.linux import cgroup

pytestmark = pytest.mark.btrfs


@pytest.fixture
def limited(busybox_store: Store) -> Iterator[str]:
    """A running container with a limit on memory."""
    s = busybox_store
    s.ok("run", "-d", "--stop-signal", "KILL", "--network", "none", "--memory", "64m", "--name",
         "limited", BUSYBOX, "sleep", "1000")  # fmt: skip
    yield "limited"
    s.ok("rm", "--force", "--time", "0", "limited")


def read_limits(store: Store, name: str) -> dict[str, int]:
    """Limits as the kernel has them; -1 for none."""
    pid = int(store.ok("container", "inspect", "--format", "{{.State.Pid}}", name).line)
    folders = cgroup.find_directories(pid)

    def read(v1: str, v2: str) -> str:
        controller = v1.partition(".")[0]
        path = f"{folders['']}/{v2}" if "" in folders else f"{folders[controller]}/{v1}"
        with open(path) as file:
            return file.read().split()[0]

    found = {"memory": read("memory.limit_in_bytes", "memory.max"),
             "quota": read("cpu.cfs_quota_us", "cpu.max"),
             "pids": read("pids.max", "pids.max")}  # fmt: skip
    return {key: int(text) if text.lstrip("-").isdigit() else -1 for key, text in found.items()}


def test_limits_change_at_once_and_stay(busybox_store: Store, limited: str) -> None:
    s = busybox_store
    found = s.ok("update", "--memory", "96m", "--cpus", "0.5", "--pids-limit", "50", limited)
    assert len(found.line) == 64
    expected = {"memory": 96 << 20, "quota": 50_000, "pids": 50}
    assert read_limits(s, limited) == expected
    s.ok("restart", "--time", "0", limited)
    assert read_limits(s, limited) == expected
    s.ok("stop", limited)
    s.ok("update", "--memory", "32m", limited)
    s.ok("start", limited)
    assert read_limits(s, limited) == {**expected, "memory": 32 << 20}


def test_a_limit_can_be_taken_away(busybox_store: Store, limited: str) -> None:
    s = busybox_store
    s.ok("update", "--cpus", "0.5", "--pids-limit", "50", limited)
    s.ok("update", "--cpus", "0", "--pids-limit", "-1", "--memory", "0", limited)
    found = read_limits(s, limited)
    assert found["quota"] == -1
    assert found["pids"] > 1 << 20
    assert found["memory"] == -1 or found["memory"] > 1 << 50


def test_a_refused_limit_changes_nothing(busybox_store: Store, limited: str) -> None:
    s = busybox_store
    before = read_limits(s, limited)
    refused = s.strata("update", "--memory", "1k", "--pids-limit", "7", limited)
    assert refused.rc == 125
    assert s.ok("exec", limited, "echo", "alive").line == "alive"
    assert read_limits(s, limited) == before
    s.ok("restart", "--time", "0", limited)
    assert read_limits(s, limited) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to update"),
        (("--restart", "sometimes"), "restart policy"),
        (("--cpus", "1", "--cpu-quota", "5000"), "cannot be set together"),
        (("--memory", "lots"), "invalid"),
        (("--cpuset-cpus", "4000"), "not available"),
        (("--pids-limit", "-2"), "invalid --pids-limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_nonsense_is_refused(
    busybox_store: Store, limited: str, words: tuple[str, ...], message: str
) -> None:
    refused = busybox_store.strata("update", *words, limited)
    assert (refused.rc, message in refused.err) == (125, True), repr(refused)
