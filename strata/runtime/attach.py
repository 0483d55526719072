"""A container's standard streams: conmon's attach socket, its terminal, and signals for it.

conmon listens on a SOCK_SEQPACKET socket in the bundle. Each packet from it begins with the
stream's number (1 to 3: input echo, output, error), what we send is standard input, and shutting
our side down is its end. The size of the terminal goes through the FIFO ``ctl``.

The loop never polls by time. It ends when ``end`` becomes readable (the sync pipe of the process
that started the container, or a pidfd of conmon); by then conmon has put all output into the
socket, so what is queued there is read before returning: no tail is lost.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from strata.errors import StateImproper
from strata.linux import signals
from strata.linux.terminal import RawMode, find_size, set_size
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

EXITED, DETACHED, BROKEN = "exited", "detached", "broken"

#: conmon reads at most this much of a packet and drops the rest
_INPUT_SIZE = 8000
_PACKET_SIZE = 65536
_STDERR = 3
_VEOF = b"\4"
_ENDS = 64


class DetachFilter:
    """Looks for the detach sequence in what is typed, also across reads. Pure."""

    __slots__ = ("_held", "keys")

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the container, and whether the sequence is complete."""
        if not self.keys:
            return data, False
        out = bytearray()
        for byte in data:
            while self._held and self.keys[self._held] != byte:
                # The longest proper suffix that still is a beginning stays held.
                out.append(self.keys[0])
                tail = self.keys[1 : self._held]
                self._held = 0
                for held in range(len(tail), 0, -1):
                    if self.keys[:held] == tail[-held:]:
                        out += tail[: len(tail) - held]
                        self._held = held
                        break
                else:
                    out += tail
            if self.keys[self._held] == byte:
                self._held += 1
                if self._held == len(self.keys):
                    self._held = 0
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False


class Typing:
    """What a terminal is typed: the input as it comes, and its end as a terminal knows it. Pure.

    There VEOF ends the line so far, and the input only where a line begins (termios(3)); so an
    input that ends within a line needs two. And no end is kept: whoever reads next waits again,
    and a shell that sets up its line editor has none of what was typed before. So it is said once
    more after everything that was written since, `_ENDS` times at most, as an echo is that too.
    """

    __slots__ = ("_begins", "_ends")

    def __init__(self) -> None:
        self._begins = True
        self._ends = 0

    def feed(self, data: bytes) -> bytes:
        """What is typed for ``data``."""
        if data:
            self._begins = data.endswith((b"\n", b"\r"))
        return data

    def end(self) -> bytes:
        """What is typed for the end of the input."""
        self._ends = 1
        return _VEOF if self._begins else _VEOF * 2

    def end_again(self) -> bytes:
        """What is typed after output."""
        if not 0 < self._ends < _ENDS:
            return b""
        self._ends += 1
        return _VEOF


class Signals:
    """Signals as something to wait for, in the process of a command line only.

    While entered, ``numbers`` are caught; `read` gives those that came. The former handlers come
    back at the end. Without numbers nothing is touched, so that any thread may do it.
    """

    __slots__ = ("_before", "_read", "_wakeup", "_write", "numbers")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.numbers = numbers
        self._before: dict[int, Any] = {}
        self._read = self._write = self._wakeup = -1

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.numbers:
            self._wakeup = signals.set_wakeup(self._write)
        for number in self.numbers:
            self._before[number] = signals.set_handler(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signals.set_handler(number, handler)
        if self.numbers:
            signals.set_wakeup(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def read(self) -> list[int]:
        """The numbers that came since the last call."""
        try:
            return list(os.read(self._read, 4096))
        except BlockingIOError:
            return []


def _noted(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor carries the number; a handler must exist for it to be written."""


#: what ``--sig-proxy`` passes on: HUP, INT, QUIT, USR1, USR2, ALRM, TERM, CONT
PROXIED = (1, 2, 3, 10, 12, 14, 15, 18)


def connect(bundle: str) -> int:
    """Connect to the container's streams; a descriptor. `StateImproper` when nobody listens.

    Through a descriptor of the directory, because a socket's path may have 107 bytes at most.
    """
    folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    sock = _socket.socket(_socket.AF_UNIX, kind)
    try:
        sock.connect(f"/proc/self/fd/{folder}/attach")
        return sock.detach()
    except OSError as error:
        raise StateImproper(
            "you can only attach to running containers", hint="start the container first"
        ) from error
    finally:
        sock.close()
        os.close(folder)


def resize(bundle: str, rows: int, columns: int) -> None:
    """Give the container's terminal a size. Nothing happens when its conmon is gone."""
    try:
        fd = os.open(f"{bundle}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return
        raise
    try:
        os.write(fd, f"1 {rows} {columns}\n".encode())
    except BrokenPipeError:
        return
    finally:
        os.close(fd)


class Streams:
    """What a foreground command connects: descriptors of its own; None is not connected."""

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(
        self, stdin: int | None = 0, stdout: int | None = 1, stderr: int | None = 2
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


def run(
    bundle: str, sock: int, end: int, *, streams: Streams, tty: bool, detach_keys: bytes = b"",
    send_signal: Callable[[int], object] | None = None, started: Callable[[], None] | None = None,
) -> str:  # fmt: skip
    """Connect streams and container until it ends; returns `EXITED`, `DETACHED` or `BROKEN`.

    ``sock`` is from `connect` and is closed. ``end`` becomes readable when the container has
    ended. ``started`` is called when everything is in place: it starts the container, so that no
    output is missed and its terminal has its size from the beginning. ``send_signal`` makes this
    the signal proxy (main thread only). `BROKEN`: nobody reads our standard output any more; the
    container still runs.
    """
    raw = tty and streams.stdin is not None and os.isatty(streams.stdin)
    terminal = streams.stdin if raw and streams.stdin is not None else -1
    numbers = (*(PROXIED if send_signal else ()), *((signals.SIGWINCH,) if raw else ()))
    keys = DetachFilter(detach_keys if raw else b"")
    loop = _Loop(bundle, sock, end, streams, keys, terminal, send_signal, tty)
    try:
        with RawMode(terminal), Signals(numbers) as caught:
            if started is not None:
                loop.set_first_size()
                started()
            else:
                loop.follow_size()
            return loop.run(caught)
    finally:
        os.close(sock)


def wait(
    end: int, *, send_signal: Callable[[int], object] | None, started: Callable[[], None]
) -> str:  # fmt: skip
    """Stay with a container that has our streams itself; as `run`, without any of its own."""
    poll = select.poll()
    with Signals(PROXIED if send_signal else ()) as caught:
        started()
        poll.register(end, select.POLLIN)
        poll.register(caught.fileno(), select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            for number in caught.read():
                if send_signal is not None:
                    send_signal(number)
            if end in ready:
                return EXITED


class _Loop:
    """The state of `run`."""

    def __init__(
        self, bundle: str, sock: int, end: int, streams: Streams, keys: DetachFilter,
        terminal: int, send_signal: Callable[[int], object] | None, tty: bool,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.sock = sock
        self.end = end
        self.streams = streams
        self.keys = keys
        self.terminal = terminal
        self.send_signal = send_signal
        self.pending = b""
        self.poll = select.poll()
        self.stdin: int | None = streams.stdin
        #: for a terminal of the container whose input is none; a terminal ends when it hangs up
        self.typing = Typing() if tty and terminal < 0 else None

    def set_first_size(self) -> None:
        """Before the start, so that the process never sees another size: conmon's way is only
        begun when a write to its FIFO returns. The descriptor is still the runtime's own."""
        size = find_size(self.terminal) if self.terminal >= 0 else None
        if size is None:
            return
        with open(f"{self.bundle}/pidfile") as file:
            pid = int(file.read())
        try:
            fd = os.open(f"/proc/{pid}/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self.follow_size()
            return
        try:
            if os.isatty(fd):
                set_size(fd, *size)
        finally:
            os.close(fd)

    def follow_size(self) -> None:
        size = find_size(self.terminal) if self.terminal >= 0 else None
        if size is not None:
            resize(self.bundle, *size)

    def run(self, caught: Signals) -> str:
        poll, wakeup = self.poll, caught.fileno()
        poll.register(self.sock, select.POLLIN)
        poll.register(self.end, select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        if self.stdin is not None:
            self._watch_stdin()
        while True:
            ready = dict(poll.poll())
            if wakeup in ready:
                self._on_signals(caught.read())
            try:
                if self.sock in ready and ready[self.sock] & ~select.POLLOUT and not self._pump():
                    self._wait_end()
                    return EXITED
                if self.end in ready:
                    self._pump()
                    return EXITED
            except BrokenPipeError:
                return BROKEN
            if self.sock in ready and ready[self.sock] & select.POLLOUT:
                self._flush()
            if self.stdin is not None and self.stdin in ready and self._on_stdin():
                return DETACHED

    def _wait_end(self) -> None:
        """The socket closed first; the exit file follows at once."""
        waiter = select.poll()
        waiter.register(self.end, select.POLLIN)
        waiter.poll()

    def _watch_stdin(self) -> None:
        assert self.stdin is not None
        self.poll.register(self.stdin, select.POLLIN)

    def _on_signals(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == signals.SIGWINCH:
                self.follow_size()
            elif self.send_signal is not None:
                self.send_signal(number)

    def _pump(self) -> bool:
        """Write out all packets that are there; False at the end of the socket."""
        shown = False
        while True:
            try:
                packet = _receive(self.sock)
            except BlockingIOError:
                if shown and self.typing is not None and not self.pending:
                    self.pending = self.typing.end_again()
                    self._flush()
                return True
            except ConnectionResetError:
                # conmon left input of ours unread when it closed. The kernel says so once, before
                # it gives out what conmon had sent (net/unix/af_unix.c, unix_release_sock).
                continue
            if not packet:
                return False
            shown = True
            to = self.streams.stderr if packet[0] == _STDERR else self.streams.stdout
            if to is not None:
                write_all(to, packet[1:])

    def _on_stdin(self) -> bool:
        """Read what was typed; True when it ends with the detach keys."""
        assert self.stdin is not None
        try:
            data = os.read(self.stdin, _INPUT_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._forget_stdin()
            if self.typing is None:
                _shut_down(self.sock)
                return False
            # conmon would keep the container's terminal open: whoever reads there waited for ever.
            self.pending = self.typing.end()
            self._flush()
            return False
        data, detached = self.keys.feed(data)
        self.pending = data if self.typing is None else self.typing.feed(data)
        self._flush()
        return detached

    def _forget_stdin(self) -> None:
        if self.stdin is not None:
            self._unwatch(self.stdin)
            self.stdin = None

    def _unwatch(self, fd: int) -> None:
        try:
            self.poll.unregister(fd)
        except KeyError:
            return

    def _flush(self) -> None:
        """Send what is pending; while conmon takes none, standard input is not read."""
        if self.pending:
            try:
                os.write(self.sock, self.pending)
                self.pending = b""
            except BlockingIOError:
                self.poll.register(self.sock, select.POLLIN | select.POLLOUT)
                if self.stdin is not None:
                    self._unwatch(self.stdin)
                return
            except (BrokenPipeError, ConnectionResetError):
                self.pending = b""
                self._forget_stdin()
        self.poll.register(self.sock, select.POLLIN)
        if self.stdin is not None:
            self._watch_stdin()


def _receive(sock: int) -> bytes:
    """One packet: read(2) keeps the boundaries of SOCK_SEQPACKET."""
    return os.read(sock, _PACKET_SIZE)


def _shut_down(sock: int) -> None:
    """Tell conmon that standard input has ended."""
    handle = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, sock)
    try:
        handle.shutdown(_socket.SHUT_WR)
    except OSError:
        return
    finally:
        handle.detach()
