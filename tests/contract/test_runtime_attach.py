"""A container's streams: nothing lost, nothing stuck, terminals, detaching, signals."""

from __future__ import annotations

import os
import pty
import signal
import termios
import threading
from collections.abc import Iterator

import pytest
from helpers.containers import Box, Container, box

from strata.errors import StateImproper
from strata.linux.process import is_alive
from strata.runtime import attach, launch
from strata.runtime.attach import Streams

pytestmark = pytest.mark.root
_ = box


class Sink:
    """A pipe whose reading end is emptied by a thread."""

    def __init__(self) -> None:
        read, self.fd = os.pipe()
        self._parts: list[bytes] = []
        self._seen = threading.Condition()
        self._thread = threading.Thread(target=self._drain, args=(read,), daemon=True)
        self._thread.start()

    def _drain(self, read: int) -> None:
        while data := _read(read):
            with self._seen:
                self._parts.append(data)
                self._seen.notify_all()
        os.close(read)

    def wait_for(self, text: bytes) -> None:
        with self._seen:
            assert self._seen.wait_for(lambda: text in b"".join(self._parts), 20)

    def finish(self) -> bytes:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._thread.join(20)
        return b"".join(self._parts)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""


@pytest.fixture
def out() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.finish()


@pytest.fixture
def err() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.finish()


def test_both_streams_arrive_whole_up_to_the_last_byte(box: Box, out: Sink, err: Sink) -> None:
    container = box.create(["sh", "-c", "head -c 3000000 /dev/zero; echo tail; echo e >&2; exit 4"])
    assert container.attach(streams=Streams(None, out.fd, err.fd), tty=False) == attach.EXITED
    assert out.finish() == b"\0" * 3000000 + b"tail\n"
    assert err.finish() == b"e\n"
    assert container.wait() == 4


def test_input_goes_in_and_its_end_too(box: Box, out: Sink, err: Sink) -> None:
    data = os.urandom(2_000_000)
    source = os.memfd_create("input")
    os.write(source, data)
    os.lseek(source, 0, os.SEEK_SET)
    container = box.create(["cat"], stdin=True)
    assert container.attach(streams=Streams(source, out.fd, err.fd), tty=False) == attach.EXITED
    assert out.finish() == data
    assert container.wait() == 0
    os.close(source)


def test_a_container_that_does_not_read_holds_nothing_up(box: Box, out: Sink, err: Sink) -> None:
    source = os.memfd_create("input")
    os.truncate(source, 4_000_000)
    container = box.create(["sh", "-c", "head -c 1000000 /dev/zero; exit 6"], stdin=True)
    assert container.attach(streams=Streams(source, out.fd, err.fd), tty=False) == attach.EXITED
    assert len(out.finish()) == 1_000_000
    assert container.wait() == 6
    os.close(source)


def test_a_reader_that_went_away_ends_the_attachment_not_the_container(box: Box, err: Sink) -> None:
    read, write = os.pipe()
    os.close(read)
    container = box.create(["sh", "-c", "while :; do echo y; sleep 0.01; done"])
    assert container.attach(streams=Streams(None, write, err.fd), tty=False) == attach.BROKEN
    os.close(write)
    assert is_alive(container.launched.pid, container.launched.pid_start)


def test_signals_are_passed_on_while_attached(box: Box, out: Sink, err: Sink) -> None:
    container = box.create(
        ["sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done"]
    )
    before = signal.getsignal(signal.SIGTERM)

    def send() -> None:
        out.wait_for(b"ready")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    outcome = container.attach(
        streams=Streams(None, out.fd, err.fd), tty=False,
        send_signal=lambda number: _send(container, number),
    )  # fmt: skip
    thread.join(20)
    assert outcome == attach.EXITED
    assert container.wait() == 42
    assert signal.getsignal(signal.SIGTERM) == before


def _send(container: Container, number: int) -> None:
    one = container.launched
    launch.kill(container.runtime, container.id, number, pid=one.pid, pid_start=one.pid_start)


class Terminal:
    """A pseudo terminal: what a user types and sees."""

    def __init__(self, rows: int, columns: int) -> None:
        self.user, self.fd = pty.openpty()
        termios.tcsetwinsize(self.fd, (rows, columns))
        self._parts = b""
        self._seen = threading.Condition()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while data := _read(self.user):
            with self._seen:
                self._parts += data
                self._seen.notify_all()

    def wait_for(self, text: bytes) -> None:
        with self._seen:
            assert self._seen.wait_for(lambda: text in self._parts, 20), self._parts

    def type(self, data: bytes) -> None:
        os.write(self.user, data)

    def close(self) -> None:
        os.close(self.fd)
        self._thread.join(20)
        os.close(self.user)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(33, 77)
    yield made
    made.close()


def test_a_terminal_has_its_size_follows_it_and_comes_back(box: Box, terminal: Terminal) -> None:
    container = box.create(
        # The new size takes a way of its own, so what is typed after it may come before it.
        ["sh", "-c", "stty size; read line; while [ \"$(stty size)\" = '33 77' ]; do sleep 0.01; "
         "done; stty size; echo got $line; exit 3"],
        tty=True, stdin=True,
    )  # fmt: skip
    before = termios.tcgetattr(terminal.fd)

    def act() -> None:
        terminal.wait_for(b"33 77")
        termios.tcsetwinsize(terminal.fd, (44, 88))
        os.kill(os.getpid(), signal.SIGWINCH)
        terminal.type(b"word\r")

    thread = threading.Thread(target=act)
    thread.start()
    outcome = container.attach(
        streams=Streams(terminal.fd, terminal.fd, terminal.fd), tty=True,
        detach_keys=b"\x10\x11",
    )  # fmt: skip
    thread.join(20)
    assert outcome == attach.EXITED
    terminal.wait_for(b"44 88")
    terminal.wait_for(b"got word")
    assert container.wait() == 3
    assert termios.tcgetattr(terminal.fd) == before


def test_detaching_leaves_the_container_and_one_can_come_back(box: Box, terminal: Terminal) -> None:
    container = box.create(["cat"], tty=True, stdin=True)
    streams = Streams(terminal.fd, terminal.fd, terminal.fd)

    def use(typed: bytes, start: bool) -> str:
        # Typed once the terminal is raw, as before it would take ctrl-q for itself.
        def begin() -> None:
            if start:
                launch.start(container.launched)
            terminal.type(typed)

        return attach.run(
            container.bundle, attach.connect(container.bundle), container.launched.sync,
            streams=streams, tty=True, detach_keys=b"\x10\x11", started=begin,
        )  # fmt: skip

    assert use(b"one\r\x10\x11", True) == attach.DETACHED
    assert is_alive(container.launched.pid, container.launched.pid_start)
    assert use(b"two\r\x10\x11", False) == attach.DETACHED


def test_nobody_listens_before_the_start_and_after_the_end(box: Box) -> None:
    container = box.start(["true"])
    container.wait()
    container.end()
    with pytest.raises(StateImproper, match="you can only attach to running containers"):
        attach.connect(container.bundle)


def test_a_bundle_may_have_a_long_path(box: Box, out: Sink, err: Sink) -> None:
    box.top = f"{box.top}/{'long' * 30}"
    os.makedirs(box.top)
    os.rename(box.rootfs.removesuffix("/rootfs"), f"{box.top}/tree")
    try:
        container = box.create(["echo", "far"])
        container.attach(streams=Streams(None, out.fd, err.fd), tty=False)
        container.wait()
    finally:
        box.top = box.top.rpartition("/")[0]
    assert out.finish() == b"far\n"
