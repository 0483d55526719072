"""logs of several containers, top and stats: looking at containers that run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, Store, wait_until

pytestmark = pytest.mark.btrfs

SLEEPER = ("run", "--detach", "--stop-signal", "KILL", "--network", "none")


@pytest.fixture(scope="module")
def pair(busybox_store: Store) -> Iterator[tuple[str, str]]:
    """Two running containers, each with a line on both streams."""
    s = busybox_store
    for name in ("wone", "wtwo"):
        s.ok(*SLEEPER, "--memory", "64m", "--name", name, BUSYBOX, "sh", "-c",
             f"echo out of {name}; echo err of {name} >&2; sleep 1000")  # fmt: skip
        s.wait_for_log(name, f"out of {name}")
    yield "wone", "wtwo"
    s.ok("rm", "--force", "--time", "0", "wone", "wtwo")


def get_pid(store: Store, name: str) -> int:
    return int(store.ok("container", "inspect", "--format", "{{.State.Pid}}", name).line)


def test_logs_of_one_container_are_as_written(busybox_store: Store, pair: tuple[str, str]) -> None:
    found = busybox_store.ok("logs", "--names", pair[0])
    assert (found.out, found.err) == ("out of wone\n", "err of wone\n")


def test_logs_of_several_say_whose_each_line_is(
    busybox_store: Store, pair: tuple[str, str]
) -> None:
    s = busybox_store
    found = s.ok("logs", "--names", *pair)
    assert found.out == "wone out of wone\nwtwo out of wtwo\n"
    assert found.err == "wone err of wone\nwtwo err of wtwo\n"
    ids = [s.ok("container", "inspect", "--format", "{{.Id}}", name).line[:12] for name in pair]
    assert s.ok("logs", *pair).out == f"{ids[0]} out of wone\n{ids[1]} out of wtwo\n"
    coloured = s.ok("logs", "--color", "--names", *pair).out
    assert "\33[32mwone\33[0m out of wone\n" in coloured
    assert s.strata("logs", "wone", "nobody").rc == 125


def test_following_several_shows_what_any_of_them_writes(busybox_store: Store) -> None:
    s = busybox_store
    for name in ("fone", "ftwo"):
        s.ok("create", "--interactive", "--name", name, BUSYBOX, "sh", "-c",
             f"echo begin {name}; read line; echo end {name}")  # fmt: skip
        s.ok("start", name)
    follower = s.start("logs", "--follow", "--names", "fone", "ftwo", stdout=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        begun = {follower.stdout.readline(), follower.stdout.readline()}
        assert begun == {b"fone begin fone\n", b"ftwo begin ftwo\n"}
        for name in ("ftwo", "fone"):
            s.ok("attach", "--sig-proxy=false", name, input="\n")
            assert follower.stdout.readline() == f"{name} end {name}\n".encode()
        assert follower.wait(15) == 0
    finally:
        follower.kill()
        follower.communicate()
        s.ok("rm", "--force", "--time", "0", "fone", "ftwo")


def test_top_shows_the_processes_inside(busybox_store: Store, pair: tuple[str, str]) -> None:
    s = busybox_store
    s.ok("exec", "--detach", "--user", "user", pair[0], "sleep", "77")
    wait_until(lambda: "sleep 77" in s.ok("top", pair[0]).out, "exec's process is seen")
    heading, *rows = s.ok("top", pair[0]).out.splitlines()
    assert heading.split() == ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]
    assert rows[0].split()[:3] == ["root", "1", "0"]
    assert 0 <= float(rows[0].split()[3]) < 50
    assert rows[0].endswith("sleep 1000")
    named = s.ok("top", pair[0], "hpid,user", "%c", "seccomp").out.splitlines()
    assert named[0].split() == ["HPID", "USER", "COMMAND", "SECCOMP"]
    assert named[1].split()[0] == str(get_pid(s, pair[0]))
    assert named[-1].split()[1:] == ["user", "sleep", "filter"]


def test_top_with_options_of_ps_asks_the_containers_own(
    busybox_store: Store, pair: tuple[str, str]
) -> None:
    lines = busybox_store.ok("top", pair[1], "-o", "pid,args").out.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert lines[1].split() == ["1", "sleep", "1000"]


def test_top_refuses_what_it_cannot_show(busybox_store: Store, pair: tuple[str, str]) -> None:
    s = busybox_store
    assert s.ok("top", pair[0], "aux").out.split()[0] in ("PID", "USER"), "BSD's options of ps"
    unknown = s.strata("top", pair[0], "nonsense")
    assert (unknown.rc, "unknown descriptor 'nonsense'" in unknown.err) == (125, True)
    assert s.strata("top").rc == 125
    s.ok("create", "--name", "idle", BUSYBOX, "true")
    stopped = s.strata("top", "idle")
    s.ok("rm", "idle")
    assert "top can only be used on running containers" in stopped.err


def test_stats_show_what_is_used(busybox_store: Store, pair: tuple[str, str]) -> None:
    s = busybox_store
    [row] = s.ok("stats", "--no-stream", "--format", "json", pair[1]).json
    assert row["name"] == pair[1]
    assert set(row) == {
        "id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent", "net_io",
        "block_io", "pids",
    }  # fmt: skip
    assert re.fullmatch(r"[\d.]+[kM]B / 67\.11MB", row["mem_usage"])
    assert row["net_io"] == "0B / 0B"
    assert int(row["pids"]) >= 1
    table = s.ok("stats", "--no-stream").out.splitlines()
    assert table[0].startswith("ID            NAME        CPU %       MEM USAGE / LIMIT")
    shown = s.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", *pair).out.splitlines()
    assert [line.split()[0] for line in shown] == list(pair)


def test_stats_go_on_and_measure_anew(busybox_store: Store, pair: tuple[str, str]) -> None:
    s = busybox_store
    s.ok("exec", "--detach", pair[1], "sh", "-c", "while true; do true; done")
    viewer = s.start("stats", "--interval", "1", "--format", "{{.CPU}}", pair[1],
                     stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert viewer.stdout is not None
        viewer.stdout.readline()
        second = float(viewer.stdout.readline().decode().strip().rstrip("%"))
        assert second > 5, "of the last second, not of the container's whole life"
    finally:
        viewer.kill()
        viewer.communicate()
        s.ok("restart", "--time", "0", pair[1])


def test_stats_of_what_does_not_run_are_dashes(busybox_store: Store) -> None:
    s = busybox_store
    s.ok("create", "--name", "idle", BUSYBOX, "true")
    try:
        line = s.ok("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.MemUsage}}").out
        assert "idle -- / --" in line
        assert "idle" not in s.ok("stats", "--no-stream").out
        assert s.strata("stats", "--no-stream", "--interval", "0").rc == 125
        assert s.strata("stats", "--no-stream", "nobody").rc == 125
    finally:
        s.ok("rm", "idle")
