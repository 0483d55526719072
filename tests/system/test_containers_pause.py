"""restart, pause and unpause, and what the other verbs say to a paused container."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store

pytestmark = pytest.mark.btrfs

SLEEPER = ("run", "--detach", "--stop-signal", "KILL")


@pytest.fixture
def sleeper(busybox_store: Store) -> Iterator[str]:
    """A running container."""
    busybox_store.ok(*SLEEPER, "--name", "sleeper", BUSYBOX, "sleep", "1000")
    yield "sleeper"
    busybox_store.ok("rm", "--force", "--time", "0", "--ignore", "sleeper")


def get_state(store: Store, name: str) -> dict[str, object]:
    state = store.ok("container", "inspect", name).json[0]["State"]
    assert isinstance(state, dict)
    return state


def test_a_paused_container_stands_still_until_it_is_unpaused(
    busybox_store: Store, sleeper: str
) -> None:
    s = busybox_store
    pid = get_state(s, sleeper)["Pid"]
    assert s.ok("pause", sleeper).line == sleeper
    assert get_state(s, sleeper)["Status"] == "paused"
    with open(f"/proc/{pid}/status") as file:
        assert "State:\tD" in file.read() or _is_frozen(s, sleeper)
    assert s.ok("ps", "--format", "{{.Names}} {{.Status}}").line == "sleeper Paused"
    assert s.ok("unpause", sleeper).line == sleeper
    assert get_state(s, sleeper)["Status"] == "running"
    assert s.ok("exec", sleeper, "echo", "again").line == "again"


def _is_frozen(store: Store, name: str) -> bool:
    from strata.linux import cgroup

    pid = get_state(store, name)["Pid"]
    assert isinstance(pid, int)
    return cgroup.is_frozen(pid)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("exec", "sleeper", "true"), 125, "hint: `strata unpause sleeper` lets it go on"),
        (("stop", "sleeper"), 125, "can only stop created or running containers"),
        (("rm", "sleeper"), 2, "cannot be removed without force"),
        (("pause", "sleeper"), 125, "can't pause"),
        (("start", "sleeper"), 125, "must be in Created or Stopped state"),
        (("restart", "sleeper"), 125, "unable to restart a container in a paused"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_paused_container_refuses_what_podman_refuses(
    busybox_store: Store, sleeper: str, words: tuple[str, ...], code: int, message: str
) -> None:
    busybox_store.ok("pause", sleeper)
    refused = busybox_store.strata(*words)
    assert refused.rc == code, repr(refused)
    assert message in refused.err
    assert get_state(busybox_store, sleeper)["Status"] == "paused"


def test_a_paused_container_can_be_killed_and_removed(busybox_store: Store, sleeper: str) -> None:
    s = busybox_store
    s.ok("pause", sleeper)
    s.ok("kill", sleeper)
    assert s.ok("wait", sleeper).line == "137"
    s.ok("start", sleeper)
    s.ok("pause", sleeper)
    s.ok("rm", "--force", sleeper)
    assert s.strata("container", "exists", sleeper).rc == 1


def test_pausing_what_does_not_run_and_unpausing_what_does(
    busybox_store: Store, sleeper: str
) -> None:
    s = busybox_store
    assert "is not paused, can't unpause" in s.strata("unpause", sleeper).err
    s.ok("stop", sleeper)
    refused = s.strata("pause", sleeper)
    assert (refused.rc, "not running, can't pause" in refused.err) == (125, True)
    assert s.strata("pause", "nobody").rc == 125


def test_restart_gives_a_new_process_and_starts_what_was_stopped(
    busybox_store: Store, sleeper: str
) -> None:
    s = busybox_store
    before = get_state(s, sleeper)["Pid"]
    assert s.ok("restart", sleeper).line == sleeper
    after = get_state(s, sleeper)
    assert after["Pid"] not in (0, before)
    s.ok("stop", sleeper)
    s.ok("restart", "--time", "0", sleeper)
    assert get_state(s, sleeper)["Status"] == "running"


def test_a_container_made_with_rm_survives_a_restart(busybox_store: Store) -> None:
    s = busybox_store
    s.ok(*SLEEPER, "--rm", "--name", "brief", BUSYBOX, "sleep", "1000")
    s.ok("restart", "brief")
    assert get_state(s, "brief")["Status"] == "running"
    s.ok("stop", "brief")
    s.ok("rm", "--ignore", "brief")


def test_verbs_choose_by_filter_and_by_the_file_with_an_id(
    busybox_store: Store, tmp_path: Path
) -> None:
    s = busybox_store
    file = tmp_path / "id"
    s.ok(*SLEEPER, "--name", "one", "--label", "app=a", "--cidfile", str(file), BUSYBOX,
         "sleep", "1000")  # fmt: skip
    s.ok(*SLEEPER, "--name", "two", "--label", "app=b", BUSYBOX, "sleep", "1000")
    try:
        assert s.ok("pause", "--filter", "label=app=a").line == file.read_text()
        assert get_state(s, "two")["Status"] == "running"
        s.ok("unpause", "--all")
        s.ok("pause", "--cidfile", str(file))
        assert get_state(s, "one")["Status"] == "paused"
        s.ok("unpause", "--cidfile", str(file))
        stopped = s.ok("stop", "--filter", "label=app=b", "--filter", "status=running")
        assert get_state(s, "two")["Status"] == "exited"
        assert len(stopped.line) == 64
        missing = s.strata("stop", "--cidfile", str(tmp_path / "none"))
        assert (missing.rc, "reading CIDFile" in missing.err) == (125, True)
        assert s.ok("stop", "--ignore", "--cidfile", str(tmp_path / "none")).out == ""
        assert s.strata("stop", "--latest", "one").rc == 125
        assert s.strata("stop", "--filter", "nonsense=1").rc == 125
        assert s.strata("stop").rc == 125
    finally:
        s.ok("rm", "--force", "--time", "0", "one", "two")


def test_a_pause_that_fails_says_so_at_once_and_changes_nothing(
    busybox_store: Store, tmp_path: Path
) -> None:
    s = busybox_store
    program = tmp_path / "crun-that-cannot-pause"
    program.write_text(
        "#!/bin/sh\n"
        'case " $* " in *" pause "*) echo "no freezer today" >&2; exit 1 ;; esac\n'
        'exec crun "$@"\n'
    )
    program.chmod(0o755)
    s.ok(*SLEEPER, "--name", "awake", "--runtime", str(program), BUSYBOX, "sleep", "1000")
    try:
        began = time.monotonic()
        refused = s.strata("pause", "awake")
        # It used to wait for its own lock, five seconds.
        assert time.monotonic() - began < 4
        assert refused.rc == 125
        assert "no freezer today" in refused.err
        assert get_state(s, "awake")["Status"] == "running"
        assert glob.glob(f"{s.root}/*/records/journal/*") == []
    finally:
        s.ok("rm", "--force", "--time", "0", "awake")
