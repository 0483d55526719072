"""A container's life where systemd is PID 1 and every controller is in the v2 hierarchy.

The tests are one story on one store: programs start slowly in the lane's machine.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from checkpoint_story import Story
from helpers import kill
from helpers.store import BUSYBOX, TOP, Store, wait_until
from zfs_tools import list_datasets

pytestmark = pytest.mark.openzfs

CGROUPS = Path("/sys/fs/cgroup")
ENGINE = "/strata/engine"


def inspect(store: Store, name: str) -> dict[str, object]:
    """The container's inspection."""
    (found,) = store.ok("inspect", name).json
    assert isinstance(found, dict)
    return found


def group_of(store: Store, name: str) -> Path:
    """The directory of a container's cgroup."""
    return CGROUPS / "strata" / str(inspect(store, name)["Id"])


def monitor_of(store: Store, name: str) -> int:
    """The pid of a container's conmon."""
    path = Path(store.runroot, "c", str(inspect(store, name)["Id"])[:12], "conmon.pid")
    return int(path.read_text())


def events(group: Path, file: str) -> dict[str, int]:
    """A flat keyed file of a cgroup."""
    lines = (group / file).read_text().splitlines()
    return {key: int(value) for key, _, value in (line.partition(" ") for line in lines)}


def systemd(*words: str) -> str:
    """Run systemctl or systemd-run; its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def in_unit(store: Store, unit: str, *words: str, how: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs a verb as a systemd service."""
    return ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--working-directory={TOP}",
            *how, *store.argv(*words)]  # fmt: skip


# -- limits ----------------------------------------------------------------------------------------


def test_systemd_is_the_init_and_all_controllers_are_there() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers)


def test_limits_are_set_in_the_containers_own_cgroup(store: Store) -> None:
    store.ok("run", "-d", "--name", "limited", "--network", "none", "--memory", "64m",
           "--cpus", "0.5", "--pids-limit", "20", "--stop-timeout", "1", BUSYBOX,
           "sleep", "100000")  # fmt: skip
    group = group_of(store, "limited")
    values = {name: (group / name).read_text().strip()
              for name in ("memory.max", "cpu.max", "pids.max")}  # fmt: skip
    assert values == {"memory.max": str(64 << 20), "cpu.max": "50000 100000", "pids.max": "20"}
    (pid,) = (group / "cgroup.procs").read_text().split()
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/strata/{group.name}\n"


def test_the_container_sees_its_cgroup_as_the_root(store: Store) -> None:
    """And cannot change it: the file system is read-only there."""
    shown = store.ok("exec", "limited", "sh", "-c",
                   "cat /proc/self/cgroup /sys/fs/cgroup/pids.max;"
                   "echo 0 >/sys/fs/cgroup/cgroup.procs || echo refused").line  # fmt: skip
    assert shown.splitlines() == ["0::/", "20", "refused"]


def test_more_processes_than_allowed_are_refused(store: Store) -> None:
    store.strata("exec", "limited", "sh", "-c", "for n in $(seq 30); do sleep 5 & done")
    assert events(group_of(store, "limited"), "pids.events")["max"] > 0


def test_a_busy_container_is_slowed_down(store: Store) -> None:
    store.ok("run", "-d", "--name", "busy", "--network", "none", "--cpus", "0.1",
           "--stop-timeout", "0", BUSYBOX, "sh", "-c", "while :; do :; done")  # fmt: skip
    group = group_of(store, "busy")
    wait_until(lambda: events(group, "cpu.stat")["nr_throttled"] > 2, "never throttled")
    store.ok("rm", "-f", "busy")
    assert not group.exists()


def test_too_much_memory_ends_the_container_and_says_why(store: Store) -> None:
    done = store.strata("run", "--name", "hungry", "--network", "none", "--memory", "16m",
                       BUSYBOX, "tail", "/dev/zero")  # fmt: skip
    assert done.rc == 137, repr(done)
    state = inspect(store, "hungry")["State"]
    assert isinstance(state, dict)
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    store.ok("rm", "hungry")


def test_systemd_leaves_the_limits_alone(store: Store) -> None:
    """It manages the same hierarchy, and a unit with the same controllers comes and goes."""
    systemd("systemctl", "daemon-reload")
    systemd("systemd-run", "--quiet", "--wait", "--collect", "-p", "CPUQuota=20%",
            "-p", "MemoryMax=100M", "true")  # fmt: skip
    group = group_of(store, "limited")
    assert (group / "cpu.max").read_text() == "50000 100000\n"
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    store.ok("rm", "-f", "limited")


# -- units and sessions ----------------------------------------------------------------------------


def test_a_detached_container_outlives_the_service_that_started_it(store: Store) -> None:
    """systemd kills what is left in the cgroup of a service that ends (KillMode=control-group)."""
    systemd(*in_unit(store, "caller", "run", "-d", "--name", "kept", "--network", "none",
                     BUSYBOX, "sh", "-c", "trap 'exit 5' TERM; sleep 100000 & wait",
                     how=("--wait",)))  # fmt: skip
    assert not (CGROUPS / "system.slice" / "caller.service").exists()
    monitor = monitor_of(store, "kept")
    assert Path(f"/proc/{monitor}/cgroup").read_text() == f"0::{ENGINE}\n"
    assert store.ok("exec", "kept", "echo", "alive").line == "alive"


def test_its_end_is_still_seen(store: Store) -> None:
    store.ok("stop", "kept")
    state = inspect(store, "kept")["State"]
    assert isinstance(state, dict)
    assert (state["Status"], state["ExitCode"]) == ("exited", 5)
    store.ok("rm", "kept")


def test_a_detached_container_outlives_a_session_that_is_torn_down(store: Store) -> None:
    """A session is a scope: its end kills all of it, whatever still runs there."""
    shell = subprocess.Popen(
        ["systemd-run", "--quiet", "--scope", "--unit=visit", "sh", "-c", '"$@"; exec sleep 100000',
         "sh", *store.argv("run", "-d", "--rm", "--name", "visitor", "--network", "none",
                            "--stop-timeout", "1", BUSYBOX, "sleep", "100000")],
        cwd=TOP, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert shell.stdout is not None
        assert len(shell.stdout.readline().strip()) == 64
        systemd("systemctl", "stop", "visit.scope")
        assert shell.wait(60) != 0
        assert store.ok("exec", "visitor", "echo", "alive").line == "alive"
        # conmon's own end of a --rm container needs somebody to outlive the session too.
        store.ok("stop", "visitor")
        wait_until(lambda: store.strata("container", "exists", "visitor").rc == 1,
                   "the container was not removed")  # fmt: skip
        # And so does the collector that follows it.
        wait_until(lambda: not [name for name in (*list_datasets(store, "containers"),
                                                  *list_datasets(store, "trash"))
                                if "visitor" in name], "its dataset was not destroyed")  # fmt: skip
    finally:
        shell.kill()
        shell.wait()
        if shell.stdout is not None:
            shell.stdout.close()


def test_a_monitor_stays_in_its_unit_when_asked_to(store: Store) -> None:
    """For units that follow conmon themselves: with its pid file, ``systemctl stop`` ends it."""
    pid_file = Path(store.base, "monitor.pid")
    systemd(*in_unit(store, "forking", "run", "-d", "--name", "inside", "--network", "none",
                     "--cgroups", "no-conmon", "--conmon-pidfile", str(pid_file), "--init",
                     BUSYBOX, "sleep", "100000",
                     how=("-p", "Type=forking", "-p", f"PIDFile={pid_file}")))  # fmt: skip
    monitor = monitor_of(store, "inside")
    assert systemd("systemctl", "show", "-P", "MainPID", "forking.service") == str(monitor)
    group = Path(f"/proc/{monitor}/cgroup").read_text()
    assert group == "0::/system.slice/forking.service\n"
    systemd("systemctl", "stop", "forking.service")
    wait_until(lambda: not (CGROUPS / "system.slice/forking.service").exists(), "the unit stays")
    store.ok("rm", "-f", "inside")


def test_a_foreground_container_ends_with_its_service(store: Store) -> None:
    """``systemctl stop`` signals the command, which passes it on and waits for the end."""
    systemd(*in_unit(store, "front", "run", "--name", "front", "--network", "none", BUSYBOX,
                     "sh", "-c", "trap 'exit 6' TERM; sleep 100000 & wait"))  # fmt: skip
    wait_until(lambda: "front" in store.ok("ps", "--format", "{{.Names}}").out, "never started")
    systemd("systemctl", "stop", "front.service")
    state = inspect(store, "front")["State"]
    assert isinstance(state, dict)
    assert (state["Status"], state["ExitCode"]) == ("exited", 6)
    store.ok("rm", "front")


# -- output and overlays ---------------------------------------------------------------------------


def test_the_systems_journal_keeps_output_and_gives_it_back(store: Store) -> None:
    store.ok("run", "--name", "told", "--network", "none", "--log-driver", "journald", BUSYBOX,
             "sh", "-c", "echo first; echo second; printf third")  # fmt: skip
    assert store.ok("logs", "--tail", "2", "told").line == "second\nthird"
    kept = systemd("journalctl", "-q", "-o", "cat", "CONTAINER_NAME=told", "PRIORITY=6")
    assert kept.split() == ["first", "second", "third"]
    store.ok("rm", "told")


def test_an_overlay_has_its_changes_in_the_containers_dataset(store: Store) -> None:
    lower = Path(store.base, "lower")
    lower.mkdir()
    (lower / "old").write_text("old\n")
    store.ok("create", "--name", "over", "--network", "none", "-v", f"{lower}:/m:O", BUSYBOX, "sh",
           "-c", "ls /m; rm /m/old; echo new >/m/new; mkdir /m/dir; ls /m")  # fmt: skip
    for _ in range(2):
        assert store.ok("start", "-a", "over").out.split() == ["old", "dir", "new"]
    assert os.listdir(lower) == ["old"]
    store.ok("rm", "over")


def test_nothing_stays_behind(store: Store) -> None:
    kill.wait_quiet(store)
    told = store.ok("events", "--stream=false", "--filter", "type=container", "--format", "{{.ID}}")
    ours = set(told.out.split())
    assert ours
    assert not ours & set(os.listdir(CGROUPS / "strata"))
    store.ok("system", "check")


# -- checkpoints -----------------------------------------------------------------------------------


def test_memory_and_files_come_back_together(store: Store) -> None:
    story = Story(store)
    counter = story.count("counter")
    story("container", "checkpoint", "counter")
    last = counter.numbers[-1]
    assert story.status_of("counter") == ("exited", True, False)
    story("snapshot", "counter@moment")
    story("container", "restore", "counter")
    counter.goes_on(last)
    assert story.status_of("counter") == ("running", False, True)
    assert counter.numbers.count(1) == 1
    story("stop", "counter")
    story("rollback", "counter@moment")
    story("container", "restore", "counter")
    counter.wait_for(last + 2, times=2)
    assert counter.numbers.count(last) == 1
    assert int(story("exec", "counter", "cat", "/data/n")) > last
    story("rm", "-f", "counter")


def test_a_connection_goes_on_when_it_may(store: Store) -> None:
    story = Story(store)
    story("run", "-d", "--name", "echo", "--stop-timeout", "0", BUSYBOX,
          "busybox", "nc", "-l", "-p", "80", "-e", "cat")  # fmt: skip
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}"
    before = story("inspect", "--format", form, "echo")
    connections: list[socket.socket] = []

    def connect() -> bool:
        try:
            connections.append(socket.create_connection((before.split()[0], 80), 10))
        except ConnectionRefusedError:
            return False
        return True

    wait_until(connect, "nobody listens")
    with connections[0] as connection:
        connection.settimeout(60)
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        told = story.refused("container", "checkpoint", "echo").err
        assert "--tcp-established" in told
        story("container", "checkpoint", "--tcp-established", "echo")
        story("container", "restore", "--tcp-established", "echo")
        assert story("inspect", "--format", form, "echo") == before
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
    story("rm", "-f", "echo")
