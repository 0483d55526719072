"""Command lines, messages, detach keys and facts of the host: the pure parts of the runtime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.linux import process
from strata.linux.mount import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MountStep,
)
from strata.runtime import conmon, host, launch
from strata.runtime import exec as exec_
from strata.runtime.attach import DetachFilter, Typing

CONMON = """\
/bin/sh -c { echo 0 >"$1"; } 2>/dev/null; shift; umask 022; cd "$0" && exec "$@" /b /g/procs \
/usr/bin/conmon --api-version 1 -c ID -u ID -n web \
-r /usr/bin/nsenter -b /b -p /b/pidfile -P /b/conmon.pid -l k8s-file:/log --exit-dir /b/exit \
--full-attach --no-sync-log --runtime-arg --mount=/proc/7/ns/mnt --runtime-arg crun -i \
--exit-command strata --exit-command-arg cleanup"""


def test_conmons_command_line() -> None:
    argv = conmon.conmon_argv(
        container_id="ID", name="web", bundle="/b", conmon="/usr/bin/conmon",
        runtime=["/usr/bin/nsenter", "--mount=/proc/7/ns/mnt", "crun"], log="k8s-file:/log",
        tty=False, stdin=True, exit_argv=conmon.exit_command(["strata", "cleanup"], None, "/b"),
        procs="/g/procs",
    )  # fmt: skip
    assert " ".join(argv) == CONMON


def test_a_terminal_needs_no_separate_input() -> None:
    argv = conmon.conmon_argv(
        container_id="ID", name="web", bundle="/b", conmon="conmon", runtime=["crun"], log="none",
        tty=True, stdin=True, exit_argv=[], procs="",
    )  # fmt: skip
    assert "-t" in argv
    assert "-i" not in argv
    assert "--exit-command" not in argv


def test_without_a_cleanup_there_is_no_exit_command() -> None:
    assert conmon.exit_command([], (1, 2), "/b") == []


def test_a_rootfs_allows_programs_and_devices_but_stays_read_only_when_it_was() -> None:
    step = launch.rootfs_step(MountStep("/pool/c", "", add=MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY),
                              "/b")  # fmt: skip
    assert (step.target, step.subdirectory) == ("/b/rootfs", "rootfs")
    assert step.add == MOUNT_ATTR_RDONLY
    assert step.clear & MOUNT_ATTR_NOSUID
    assert step.clear & MOUNT_ATTR_NODEV


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", 127),
        ('exec: "x": executable file not found in $PATH: unknown', 127),
        ("open executable: Permission denied", 126),
        ("mount `x` to `y`: Operation not permitted", 126),
        ("cgroups in hybrid mode not supported", 125),
    ],
)
def test_messages_of_a_runtime_become_exit_codes(text: str, code: int) -> None:
    error = launch.classify("crun", f"{text}\n")
    assert error.exit_code == code
    assert "\n" not in error.message
    assert text in error.message


def test_exec_command_line() -> None:
    runtime = launch.Runtime("crun", "/usr/bin/crun", "/run/s/crun")
    argv = exec_.exec_argv(runtime, "ID", "/b/p.json", detach=True, preserve_fds=2)
    assert " ".join(argv) == (
        "/usr/bin/crun --root /run/s/crun exec --process /b/p.json --detach --preserve-fds 2 ID"
    )


def test_the_detach_sequence_is_found_across_reads() -> None:
    keys = DetachFilter(b"\x10\x11")
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"c") == (b"\x10c", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)


@given(st.lists(st.binary(max_size=6).map(lambda data: bytes(b"abc"[b % 3] for b in data))))
def test_no_typed_byte_is_lost_or_changed(reads: list[bytes]) -> None:
    for keys in (b"ab", b"aab", b"aba", b"c"):
        filtered, typed, passed = DetachFilter(keys), b"", b""
        for data in reads:
            out, detached = filtered.feed(data)
            typed, passed = typed + data, passed + out
            if detached:
                assert typed.find(keys) == len(passed)
                break
            assert typed.startswith(passed)
            assert keys.startswith(typed[len(passed) :])
            assert keys not in typed


def test_the_end_of_input_is_typed_where_a_line_begins() -> None:
    for text, end in ((b"", b"\4"), (b"a\n", b"\4"), (b"a", b"\4\4"), (b"a\r", b"\4")):
        typing = Typing()
        assert typing.feed(text) == text
        assert typing.end_again() == b""  # it has not ended
        assert typing.end() == end
    said = [typing.end_again() for _ in range(1000)]
    assert said[0] == b"\4"
    assert said[-1] == b""


STATUS = "Name:\tx\nCapEff:\t0000000000000003\nCapBnd:\t00000000000000ff\n"
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 20000                files
Max core file size        0                    unlimited            bytes
Max novelties             1                    2                    things
"""


def test_facts_of_the_host_are_parsed() -> None:
    assert process.parse_mask(STATUS, "CapBnd") == 0xFF
    assert process.parse_mask(STATUS, "CapAmb") == 0
    assert host.parse_limits(LIMITS) == {"nofile": (1024, 20000), "core": (0, 2**64 - 1)}
