"""A process in a container with a terminal whose other side we hold.

crun hands that side over by a socket: when it passes the bytes itself, version 1.8 ends with the
process and drops what that wrote last. runc hands it over only for detached processes, but passes
everything on; it gets a pseudo terminal of ours to follow.

At a terminal the session can be left by typing the detach keys. Then a copy of this process holds
the terminal and reads what is written to it, so that the process in the container neither ends nor
waits; it ends with the process.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

from strata import command
from strata.linux import signals
from strata.linux.process import copy_descriptor, open_pidfd
from strata.linux.terminal import RawMode, find_size, set_size
from strata.linux.write import write_all
from strata.runtime.attach import DetachFilter, Signals, Typing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.runtime.launch import Runtime

_FD = struct.Struct("i")
_BLOCK = 1 << 16
#: bytes of input passed on at once; a terminal's queue holds 4096
_TYPED = 1024


class Ends:
    """What a terminal is connected with here: descriptors, None is nothing. ``keys`` leave it when
    they are typed at ``stdin``, which is a terminal then; ``follows``: SIGWINCH may be caught."""

    __slots__ = ("follows", "keys", "stdin", "stdout")

    def __init__(
        self, stdin: int | None, stdout: int | None, *, keys: bytes = b"", follows: bool = False
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.keys = keys
        self.follows = follows

    def find_size(self) -> tuple[int, int] | None:
        """Rows and columns the process is to see."""
        for fd in (self.stdin, self.stdout):
            size = find_size(fd) if fd is not None else None
            if size is not None:
                return size
        return None


def run(
    runtime: Runtime, argv: Sequence[str], bundle: str, ends: Ends, *, stderr: int | None,
    pass_fds: Sequence[int],
) -> int | None:  # fmt: skip
    """Run the runtime's ``exec`` of a process with a terminal and connect it until it ends; how the
    runtime ended (negative: by a signal), None when the session was left."""
    terminal = -1
    # From before the start, so that nothing typed early is echoed here or taken as a control.
    with (
        RawMode(-1 if ends.stdin is None else ends.stdin),
        Signals((signals.SIGWINCH,) if ends.follows else ()) as caught,
    ):
        try:
            spawn = _spawn_handing_over if runtime.is_crun else _spawn_following
            pid, terminal = spawn(argv, bundle, ends, stderr, pass_fds)
            if terminal >= 0 and _relay(terminal, pid, ends, caught, handed=runtime.is_crun):
                _hold(terminal)
                return None
            return command.wait(pid)
        finally:
            if terminal >= 0:
                os.close(terminal)


def _spawn_handing_over(
    argv: Sequence[str], bundle: str, ends: Ends, stderr: int | None, pass_fds: Sequence[int]
) -> tuple[int, int]:
    """Start a runtime that sends the terminal; its pid and the terminal, -1 when it sent none.

    Through a descriptor of the directory, because a socket's path may have 107 bytes at most.
    """
    folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    name = f"exec.{os.getpid()}.{os.urandom(4).hex()}.sock"
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{name}")
        listener.listen(1)
        at = argv.index("exec") + 1
        path = f"/proc/{os.getpid()}/fd/{folder}/{name}"
        words = [*argv[:at], f"--console-socket={path}", *argv[at:]]
        pid = command.spawn(
            words, stdout=stderr, stderr=stderr, pass_fds=pass_fds, new_session=bool(ends.keys)
        )
        return pid, _receive(listener, pid)
    finally:
        listener.close()
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        os.close(folder)


def _receive(listener: _socket.socket, pid: int) -> int:
    """The descriptor that a process sends over a connection; -1 when it ended without."""
    ended = open_pidfd(pid)
    connection = -1
    try:
        if not _is_first(listener.fileno(), ended):
            return -1
        connection, _ = listener._accept()  # type: ignore[attr-defined]
        return _take(connection) if _is_first(connection, ended) else -1
    finally:
        os.close(ended)
        if connection >= 0:
            os.close(connection)


def _take(connection: int) -> int:
    """The descriptor in the message that has come; -1 when there is none."""
    sock = _socket.socket(fileno=connection)
    try:
        space = _socket.CMSG_SPACE(_FD.size)
        _, sent, _, _ = sock.recvmsg(4096, space, _socket.MSG_CMSG_CLOEXEC)
    finally:
        sock.detach()
    for level, kind, data in sent:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            return int(_FD.unpack_from(data)[0])
    return -1


def _is_first(fd: int, ended: int) -> bool:
    """Wait for a descriptor to become readable, or a process to end before."""
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    waiter.register(ended, select.POLLIN)
    return any(ready == fd for ready, _ in waiter.poll())


def _spawn_following(
    argv: Sequence[str], bundle: str, ends: Ends, stderr: int | None, pass_fds: Sequence[int]
) -> tuple[int, int]:
    """Start a runtime that follows a terminal of ours; its pid and our side."""
    ours, theirs = os.openpty()
    try:
        RawMode(theirs).__enter__()  # before the runtime does it, as above
        size = ends.find_size()
        if size is not None:
            set_size(theirs, *size)
        pid = command.spawn(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, pass_fds=pass_fds,
            new_session=bool(ends.keys),
        )  # fmt: skip
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return pid, ours


def _relay(terminal: int, pid: int, ends: Ends, caught: Signals, *, handed: bool) -> bool:
    """Pass bytes until the process ends (False) or the keys are typed (True)."""
    ended = open_pidfd(pid)
    filtering, typing = DetachFilter(ends.keys), Typing()
    stdout = ends.stdout
    poll = select.poll()
    for fd in (terminal, ended, caught.fileno(), *([] if ends.stdin is None else [ends.stdin])):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if caught.fileno() in ready and caught.read():
                size = ends.find_size()
                if size is not None:
                    set_size(terminal, *size)
                    if not handed:
                        _set_size_of(pid, *size)
            # What the process wrote before its end is all there when its end is seen.
            while terminal in ready or (ended in ready and _has_more(terminal)):
                ready.discard(terminal)
                try:
                    data = os.read(terminal, _BLOCK)
                except OSError:  # EIO: nobody has the other side open
                    return False
                stdout = _write(stdout, data)
                again = typing.end_again()
                if again:
                    write_all(terminal, again)
            if ended in ready:
                return False
            if ends.stdin in ready:
                try:
                    typed = os.read(ends.stdin, _TYPED)
                except OSError:
                    typed = b""  # a terminal that was hung up
                passed, left = filtering.feed(typed)
                passed = typing.feed(passed)
                if not typed:
                    poll.unregister(ends.stdin)
                    passed = typing.end()
                if passed:
                    write_all(terminal, passed)
                if left:
                    return True
    finally:
        os.close(ended)


def _has_more(fd: int) -> bool:
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in waiter.poll(0))


def _write(stdout: int | None, data: bytes) -> int | None:
    """Write out; where to write from now on, None when nobody reads there any more."""
    if stdout is not None:
        try:
            write_all(stdout, data)
        except OSError:
            return None
    return stdout


def _set_size_of(pid: int, rows: int, columns: int) -> None:
    """Set the size of the terminal whose other side a runtime holds. Nothing when it is gone."""
    try:
        pidfd = open_pidfd(pid)
    except ProcessLookupError:
        return
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/fd/{name}")) != "ptmx":
                    continue
                fd = copy_descriptor(pidfd, int(name))
            except OSError:
                continue
            try:
                set_size(fd, rows, columns)
            finally:
                os.close(fd)
    except FileNotFoundError:
        return
    finally:
        os.close(pidfd)


def _hold(terminal: int) -> None:
    """Leave a process behind that keeps the terminal open and empty until nobody uses it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        # Before we end, as the end of the first process of a terminal ends those who have it.
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2 and fd != terminal:
                try:
                    os.close(fd)
                except OSError:
                    continue
        while os.read(terminal, _BLOCK):
            pass
    finally:
        os._exit(0)
