"""Staying with a container: exit codes, signals, streams, terminals, and what kills do."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.store import TOP, Store, list_processes, wait_until

from strata.linux.process import find_start_time, is_alive

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
READY = "echo ready; while :; do sleep 0.05; done"


def state(store: Store, name: str) -> dict[str, Any]:
    found: dict[str, Any] = store.ok("container", "inspect", name).json[0]["State"]
    return found


def is_gone(store: Store, name: str) -> bool:
    return store.strata("container", "exists", name).rc == 1


# -- exit codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0), (["false"], 1), (["sh", "-c", "exit 200"], 200), (["/none"], 127),
        (["none-in-path"], 127), (["/etc/passwd"], 126), (["/data"], 126),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["sh", "-c", "sh -c 'kill $$'; exit $?"], 143),
    ],
)  # fmt: skip
def test_exit_codes_of_run(busybox_store: Store, argv: list[str], code: int) -> None:
    outcome = busybox_store.strata("run", "--rm", IMAGE, *argv)
    assert outcome.rc == code, repr(outcome)
    if code in (126, 127):
        assert outcome.err.startswith("Error: crun: ")
        assert outcome.err.count("\n") == 1


def test_exit_codes_of_our_own_failures(busybox_store: Store) -> None:
    for line in ("run --rm --pull never no-such-image", "run --bogus", "run", "exec nobody true",
                 "attach nobody", "start nobody"):  # fmt: skip
        outcome = busybox_store.strata(*line.split())
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.startswith("Error: ")


@pytest.fixture(scope="module")
def sleeper(busybox_store: Store) -> Iterator[str]:
    busybox_store.ok("run", "-d", "--init", "--name", "sleeper", "-e", "WHERE=container",
                     "--tmpfs", "/mem", IMAGE, "sleep", "1000")  # fmt: skip
    yield "sleeper"
    busybox_store.ok("rm", "-f", "-t", "0", "sleeper")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0), (["sh", "-c", "exit 77"], 77), (["/none"], 127), (["none"], 127),
        (["/etc/passwd"], 126), (["/data"], 126), (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "exit 255"], 255),
    ],
)  # fmt: skip
def test_exit_codes_of_exec(busybox_store: Store, sleeper: str, argv: list[str], code: int) -> None:
    outcome = busybox_store.strata("exec", sleeper, *argv)
    assert outcome.rc == code, repr(outcome)


def test_exec_sees_the_container_as_its_own_processes_do(
    busybox_store: Store, sleeper: str
) -> None:
    script = "echo $WHERE $ADDED $PWD $(id -u); touch /mem/x && cat"
    outcome = busybox_store.ok(
        "exec", "-i", "-e", "ADDED=yes", "-w", "/tmp", "-u", "user", sleeper, "sh", "-c",
        "cat; echo $WHERE $ADDED $PWD $(id -u)", input="in\n",
    )  # fmt: skip
    assert outcome.out == "in\ncontainer yes /tmp 1000\n"
    assert busybox_store.ok("exec", sleeper, "sh", "-c", script).out == "container / 0\n"
    both = busybox_store.ok("exec", sleeper, "sh", "-c", "echo out; echo err >&2")
    assert (both.out, both.err) == ("out\n", "err\n")


def test_exec_does_not_hold_a_closed_input(busybox_store: Store, sleeper: str) -> None:
    assert busybox_store.ok("exec", sleeper, "cat").out == ""
    counted = busybox_store.ok("exec", "-i", sleeper, "wc", "-c", input=b"x" * 300_000)
    assert counted.line == "300000"


def test_exec_detached_comes_back_at_once(busybox_store: Store, sleeper: str) -> None:
    busybox_store.ok("exec", "-d", sleeper, "sh", "-c",
                     "echo done >/mem/detached; exec sleep 100")  # fmt: skip
    wait_until(
        lambda: busybox_store.strata("exec", sleeper, "cat", "/mem/detached").out == "done\n",
        "the detached process wrote its file",
    )


def test_exec_in_a_container_that_does_not_run(busybox_store: Store) -> None:
    busybox_store.ok("create", "--name", "idle", IMAGE)
    outcome = busybox_store.strata("exec", "idle", "true")
    assert outcome.rc == 125
    assert "idle is in state created" in outcome.err
    busybox_store.ok("rm", "idle")


# -- streams ---------------------------------------------------------------------------------------


def test_streams_stay_apart(busybox_store: Store) -> None:
    outcome = busybox_store.ok("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (outcome.out, outcome.err) == ("out\n", "err\n")


def test_a_hundred_megabytes_come_through_to_the_last_byte(busybox_store: Store) -> None:
    size = 100_000_000
    expected = hashlib.sha256(bytes(size) + b"end\n").hexdigest()
    found = hashlib.sha256()
    with busybox_store.start(
        "run", "--rm", "--log-driver", "none", IMAGE, "sh", "-c",
        f"head -c {size} /dev/zero; echo end", stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while chunk := process.stdout.read(1 << 20):
            found.update(chunk)
    assert process.returncode == 0
    assert found.hexdigest() == expected


def test_no_tail_is_lost_by_a_container_that_ends_at_once(busybox_store: Store) -> None:
    for size in (1, 8192, 8193, 70_000):
        for _ in range(5):
            outcome = busybox_store.ok("run", "--rm", IMAGE, "head", "-c", str(size), "/dev/zero")
            assert len(outcome.out) == size


def test_input_goes_through_a_pipe_both_ways(busybox_store: Store) -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(busybox_store.argv("run", "--rm", "-i", IMAGE, "cat"), input=data,
                          capture_output=True, check=True, timeout=60, cwd=TOP)  # fmt: skip
    assert done.stdout == data


def test_without_interactive_nothing_is_read(busybox_store: Store) -> None:
    read, write = os.pipe()
    os.write(write, b"for somebody else\n")
    os.close(write)
    with os.fdopen(read, "rb") as rest:
        with busybox_store.start("run", "--rm", IMAGE, "cat", stdin=rest.fileno()) as process:
            assert process.wait(30) == 0
        assert rest.read() == b"for somebody else\n"


def test_a_reader_that_goes_away_ends_the_command_not_the_container(busybox_store: Store) -> None:
    with busybox_store.start(
        "run", "--rm", "--name", "talker", "--log-driver", "none", IMAGE, "yes",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.stderr.read().decode() == (
            "WARN: nobody reads the output of talker any more, and it goes on: "
            "`strata stop talker` ends it\n"
        )
        assert process.wait(20) == 141
    assert state(busybox_store, "talker")["Running"] is True
    busybox_store.ok("stop", "-t", "0", "talker")
    wait_until(lambda: is_gone(busybox_store, "talker"), "the exit command removed it")


def test_closed_standard_streams_are_no_harm(busybox_store: Store) -> None:
    argv = " ".join(busybox_store.argv("run", "--rm", IMAGE, "sh", "-c", "'echo x; exit 5'"))
    done = subprocess.run(["sh", "-c", f"exec {argv} 0<&- 1>&- 2>&-"], check=False, timeout=30,
                          cwd=TOP)  # fmt: skip
    assert done.returncode in (5, 141)


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 43), (signal.SIGINT, 42)])
def test_signals_are_passed_on(busybox_store: Store, number: int, code: int) -> None:
    script = f"trap 'exit 42' INT; trap 'exit 43' TERM; {READY}"
    with busybox_store.start("run", "--rm", IMAGE, "sh", "-c", script,
                             stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(20) == code
    assert busybox_store.ok("ps", "-aq", "--filter", "ancestor=busybox",
                            "--filter", "status=running").out.count("\n") <= 1  # fmt: skip


def test_without_the_proxy_the_command_dies_and_the_container_does_not(
    busybox_store: Store,
) -> None:
    with busybox_store.start("run", "--rm", "--name", "alone", "--sig-proxy=false", IMAGE, "sh",
                             "-c", READY, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
    assert state(busybox_store, "alone")["Running"] is True
    busybox_store.ok("kill", "alone")
    wait_until(lambda: is_gone(busybox_store, "alone"), "the exit command removed it")


def test_a_killed_foreground_leaves_the_container_to_its_monitor(busybox_store: Store) -> None:
    with busybox_store.start("run", "--rm", "--name", "orphan", IMAGE, "sh", "-c", READY,
                             stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert state(busybox_store, "orphan")["Running"] is True
    assert busybox_store.ok("exec", "orphan", "echo", "here").line == "here"
    busybox_store.ok("kill", "orphan")
    wait_until(lambda: is_gone(busybox_store, "orphan"), "the exit command removed it")


def test_a_killed_monitor_is_noticed(busybox_store: Store) -> None:
    busybox_store.ok("run", "-d", "--name", "widow", IMAGE, "sleep", "1000")
    os.kill(state(busybox_store, "widow")["ConmonPid"], signal.SIGKILL)
    pid = state(busybox_store, "widow")["Pid"]
    started = find_start_time(pid)
    assert started is not None
    assert busybox_store.ok("exec", "widow", "echo", "here").line == "here"
    busybox_store.ok("stop", "-t", "0", "widow")
    assert not is_alive(pid, started)
    assert state(busybox_store, "widow")["Status"] == "exited"
    assert busybox_store.ok("start", "widow").line == "widow"
    busybox_store.ok("rm", "-f", "-t", "0", "widow")


def test_a_first_process_killed_from_outside_is_settled(busybox_store: Store) -> None:
    busybox_store.ok("run", "-d", "--name", "shot", IMAGE, "sleep", "1000")
    os.kill(state(busybox_store, "shot")["Pid"], signal.SIGKILL)
    assert busybox_store.ok("wait", "shot").line == "137"
    busybox_store.ok("rm", "shot")


def test_kill_sends_what_it_is_told(busybox_store: Store) -> None:
    script = f"trap 'echo got; exit 9' USR1; {READY}"
    busybox_store.ok("run", "-d", "--name", "target", IMAGE, "sh", "-c", script)
    busybox_store.wait_for_log("target", "ready")
    busybox_store.ok("kill", "-s", "SIGUSR1", "target")
    assert busybox_store.ok("wait", "target").line == "9"
    outcome = busybox_store.strata("kill", "target")
    assert outcome.rc in (2, 125)
    assert "can only kill running containers" in outcome.err
    assert busybox_store.strata("kill", "-s", "NONSENSE", "target").rc == 125
    busybox_store.ok("rm", "target")


# -- terminals -------------------------------------------------------------------------------------


class Terminal:
    """A command line on a terminal of its own, as a person has it."""

    def __init__(self, store: Store, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.seen = b""
        self.process = subprocess.Popen(
            store.argv(*args), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            cwd=TOP, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, text: str, seconds: float = 20) -> None:
        """Read until the text has come; what came before it is forgotten."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come: {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait(self, seconds: float = 20) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end: {self.seen!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536)
        return self.process.returncode

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def test_a_terminal_has_its_size_from_the_start_and_follows(busybox_store: Store) -> None:
    with Terminal(busybox_store, "run", "--rm", "-it", IMAGE, "sh", rows=31, columns=97) as t:
        t.type("tty; stty size; echo $TERM\n")
        t.expect("/dev/pts/0")
        t.expect("31 97")
        t.expect("xterm")
        t.resize(40, 120)
        t.type("until stty size | grep -q '40 120'; do sleep 0.05; done; echo resized''now\n")
        t.expect("resizednow")
        assert termios.tcgetattr(t.slave) != t.before, "raw while the container has it"
        t.type("exit 6\n")
        assert t.wait() == 6
        assert termios.tcgetattr(t.slave) == t.before


def test_ctrl_c_on_a_terminal_reaches_the_process_in_the_container(busybox_store: Store) -> None:
    script = f"trap 'echo caught; exit 5' INT; {READY}"
    with Terminal(busybox_store, "run", "--rm", "-it", IMAGE, "sh", "-c", script) as t:
        t.expect("ready")
        t.type("\x03")
        t.expect("caught")
        assert t.wait() == 5


def test_detach_keys_leave_it_running_and_attach_comes_back(busybox_store: Store) -> None:
    with Terminal(busybox_store, "run", "--rm", "-it", "--name", "left", IMAGE, "sh") as t:
        t.type("echo here''now\n")
        t.expect("herenow")
        t.type("\x10\x11")
        assert t.wait() == 0
        assert termios.tcgetattr(t.slave) == t.before
    assert state(busybox_store, "left")["Running"] is True
    with Terminal(busybox_store, "attach", "left", rows=33, columns=99) as t:
        t.type("stty size\n")
        t.expect("33 99")
        t.type("exit 4\n")
        assert t.wait() == 4
        assert termios.tcgetattr(t.slave) == t.before
    wait_until(lambda: is_gone(busybox_store, "left"), "the exit command removed it")


def test_other_detach_keys(busybox_store: Store) -> None:
    with Terminal(busybox_store, "run", "-it", "--name", "keys", "--detach-keys", "ctrl-x,y",
                  IMAGE, "sh") as t:  # fmt: skip
        t.type("echo \x10\x11here''now\n")
        t.expect("herenow")
        t.type("\x18")
        t.type("y")
        assert t.wait() == 0
    busybox_store.ok("rm", "-f", "-t", "0", "keys")


def test_an_exec_session_can_be_left_and_goes_on(busybox_store: Store, sleeper: str) -> None:
    s = busybox_store
    words = ("exec", "-it", "--detach-keys", "ctrl-x,y", sleeper, "sh")
    with Terminal(s, *words, rows=31, columns=97) as t:
        t.type("stty size; echo \x10\x11here''now\n")
        t.expect("31 97")
        t.expect("herenow")
        t.type("sleep 4321\n")
        wait_until(lambda: "sleep 4321" in s.ok("top", sleeper).out, "the command runs")
        t.type("\x18y")
        assert t.wait() == 0
        assert termios.tcgetattr(t.slave) == t.before
    assert "sleep 4321" in s.ok("top", sleeper).out
    with Terminal(s, *words) as t:
        t.type("exit 7\n")
        assert t.wait() == 7
    assert s.strata("exec", "--detach-keys", "ctrl-", sleeper, "true").rc == 125
    s.ok("restart", "--time", "0", sleeper)
    wait_until(lambda: not _find_words(s, b"--detach-keys"), "what held the session has ended")


def _find_words(store: Store, word: bytes) -> list[int]:
    """Processes of the store with a word on their command line."""
    found = []
    for pid in list_processes(store):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if word in file.read().split(b"\0"):
                found.append(pid)
    return found


def test_the_terminal_is_restored_when_the_container_dies(busybox_store: Store) -> None:
    with Terminal(busybox_store, "run", "--rm", "-it", "--name", "dies", IMAGE, "sh") as t:
        t.type("echo here''now\n")
        t.expect("herenow")
        busybox_store.ok("kill", "dies")
        assert t.wait() == 137
        assert termios.tcgetattr(t.slave) == t.before


def test_a_terminal_that_is_hung_up_leaves_nobody_behind(busybox_store: Store) -> None:
    """The container gets the hangup; one that does not care still is removed at its end."""
    with Terminal(busybox_store, "run", "--rm", "-it", "--name", "hung", IMAGE, "sh", "-c",
                  f"trap '' HUP; {READY}") as t:  # fmt: skip
        t.expect("ready")
        os.close(t.slave)
        os.close(t.master)
        t.master, t.slave = pty.openpty()
        busybox_store.ok("kill", "hung")
        t.process.wait(20)
    wait_until(lambda: is_gone(busybox_store, "hung"), "it is removed")


def test_exec_on_a_terminal(busybox_store: Store, sleeper: str) -> None:
    with Terminal(busybox_store, "exec", "-it", sleeper, "sh", rows=22, columns=66) as t:
        t.type("stty size; echo $WHERE\n")
        t.expect("22 66")
        t.expect("container")
        t.resize(20, 50)
        t.type("until stty size | grep -q '20 50'; do sleep 0.05; done; echo resized''now\n")
        t.expect("resizednow")
        t.type("exit 8\n")
        assert t.wait() == 8
        assert termios.tcgetattr(t.slave) == t.before


def test_a_terminal_in_the_container_without_one_outside(busybox_store: Store) -> None:
    outcome = busybox_store.ok("run", "--rm", "-t", IMAGE, "sh", "-c", "tty; echo x")
    assert outcome.out == "/dev/pts/0\r\nx\r\n"


# -- detached --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "line\n", "part"])
def test_the_end_of_input_reaches_a_terminal(
    busybox_store: Store, sleeper: str, given: str
) -> None:
    """A process that reads there would wait for ever; so would the next one."""
    for words in (("run", "--rm", "-it", IMAGE), ("exec", "-it", sleeper)):
        outcome = busybox_store.strata(*words, "sh", "-c", "stty -echo; echo; cat; echo then; "
                                       "cat; echo last", input=given)  # fmt: skip
        assert outcome.rc == 0, repr(outcome)
        assert outcome.out.replace("\r", "").endswith(f"\n{given}then\nlast\n"), repr(outcome)
        warned = "The input device is not a TTY" in outcome.err
        assert warned == (words[0] == "run")


def test_a_shell_with_a_line_editor_ends_with_its_input(busybox_store: Store, sleeper: str) -> None:
    """It drops what was typed before it took over the terminal."""
    busybox_store.ok("run", "-dit", "--name", "shell", IMAGE, "sh")
    for words in (("run", "--rm", "-it", IMAGE, "sh"), ("exec", "-it", sleeper, "sh"),
                  ("attach", "shell"), ("start", "-ai", "shell")):  # fmt: skip
        assert busybox_store.strata(*words, input="").rc == 0, words
    assert busybox_store.strata("start", "-ai", "shell", input="exit 4\n").rc == 4
    busybox_store.ok("rm", "shell")


def test_an_echo_of_the_end_is_not_answered_for_ever(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "--rm", "-it", IMAGE, "sh", "-c",
                                   "stty -icanon echo; echo set; sleep 0.5", input="")  # fmt: skip
    assert outcome.rc == 0, repr(outcome)
    assert outcome.out.count("^D") < 100


def test_a_container_that_ends_at_once_is_settled(busybox_store: Store) -> None:
    for _ in range(10):
        name = busybox_store.ok("run", "-d", IMAGE, "sh", "-c", "exit 3").line
        assert busybox_store.ok("wait", name).line == "3"
        busybox_store.ok("rm", name)


def test_detached_with_rm_goes_away_by_itself(busybox_store: Store) -> None:
    name = busybox_store.ok("run", "-d", "--rm", "-v", "/anon", IMAGE, "true").line
    wait_until(lambda: is_gone(busybox_store, name), "the exit command removed it")
    wait_until(lambda: busybox_store.ok("volume", "ls", "-q").out == "", "and its volume")


def test_attach_to_a_container_without_a_terminal(busybox_store: Store) -> None:
    busybox_store.ok("run", "-d", "-i", "--name", "reader", IMAGE, "sh", "-c",
                     "echo ready; cat; exit 12")  # fmt: skip
    busybox_store.wait_for_log("reader", "ready")
    outcome = busybox_store.strata("attach", "reader", input="typed\n")
    assert (outcome.rc, outcome.out) == (12, "typed\n"), repr(outcome)
    outcome = busybox_store.strata("attach", "reader")
    assert outcome.rc == 125
    assert "cannot attach to a stopped container" in outcome.err
    busybox_store.ok("rm", "reader")


def test_start_attached_gives_output_and_code(busybox_store: Store) -> None:
    busybox_store.ok("create", "-i", "--name", "again", IMAGE, "sh", "-c", "cat; exit 21")
    for text in ("one", "two"):
        outcome = busybox_store.strata("start", "-ai", "again", input=text)
        assert (outcome.rc, outcome.out) == (21, text), repr(outcome)
    assert busybox_store.ok("logs", "again").out == "onetwo"
    busybox_store.ok("rm", "again")


# -- logs ------------------------------------------------------------------------------------------


def test_logs(busybox_store: Store) -> None:
    script = "for n in 1 2 3 4 5; do echo line $n; done; printf tail"
    busybox_store.ok("run", "--name", "talks", IMAGE, "sh", "-c", script)
    try:
        whole = busybox_store.ok("logs", "talks")
        assert whole.out == "".join(f"line {n}\n" for n in range(1, 6)) + "tail"
        assert whole.err == ""
        assert busybox_store.ok("logs", "--tail", "2", "talks").out == "line 5\ntail"
        assert busybox_store.ok("logs", "--tail", "0", "talks").out == ""
        stamped = busybox_store.ok("logs", "-t", "talks").out.splitlines()
        assert all(line.startswith("20") and " line " in line for line in stamped[:5])
        assert busybox_store.ok("logs", "--since", "1h", "talks").out == whole.out
        assert busybox_store.ok("logs", "--until", "1h", "talks").out == ""
        assert busybox_store.ok("logs", "-f", "talks").out == whole.out
    finally:
        busybox_store.ok("rm", "talks")


def test_logs_keep_the_streams_apart(busybox_store: Store) -> None:
    busybox_store.ok("run", "--name", "both", IMAGE, "sh", "-c", "echo out; echo problem >&2")
    both = busybox_store.ok("logs", "both")
    assert (both.out, both.err) == ("out\n", "problem\n")
    busybox_store.ok("rm", "both")


def test_logs_of_nobody_and_of_a_removed_container(busybox_store: Store) -> None:
    assert busybox_store.strata("logs", "nobody").rc == 125
    container = busybox_store.ok("run", "-d", IMAGE, "echo", "x").line
    busybox_store.ok("wait", container)
    folder = busybox_store.engine().logs
    assert any(container in name for name in os.listdir(folder))
    busybox_store.ok("rm", "--now", container)
    assert not any(container in name for name in os.listdir(folder))


def test_no_process_of_these_tests_is_left(busybox_store: Store, sleeper: str) -> None:
    """What ran above is gone but for the container that they share."""

    def names() -> list[str]:
        found = []
        for pid in list_processes(busybox_store):
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        return sorted(found)

    expected = {"strata-init", "conmon", "sleep"}
    with contextlib.suppress(AssertionError):
        wait_until(lambda: set(names()) <= expected, "processes end", 5)
    assert set(names()) <= expected
    assert names().count("conmon") == 1
