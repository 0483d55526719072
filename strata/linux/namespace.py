"""Mount namespaces, always made in a child, never in the calling process."""

from __future__ import annotations

import os

from strata.linux import mount
from strata.linux.syscall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWTIME = 0x00000080

#: where a hybrid host mounts its empty v2 hierarchy
UNIFIED = "/sys/fs/cgroup/unified"

_READY = b"ready"
#: milliseconds between two beats of a keeper that waits
_BEAT = 4


class Keeper:
    """A child that holds a mount namespace until told to leave, or until its parent dies.

    ``ns_path`` names the namespace for nsenter(1); ``root`` is how the parent sees its files.
    """

    __slots__ = ("_answer", "_hold", "pid")

    def __init__(self, pid: int, answer: int, hold: int) -> None:
        self.pid = pid
        self._answer = answer
        self._hold = hold

    @property
    def ns_path(self) -> str:
        return f"/proc/{self.pid}/ns/mnt"

    @property
    def root(self) -> str:
        return f"/proc/{self.pid}/root"

    @property
    def time_path(self) -> str:
        """The time namespace that the child made for others (`make_time`)."""
        return f"/proc/{self.pid}/ns/time_for_children"

    def wait_ready(self) -> None:
        """Wait until the namespace is as wanted. `OSError` with what went wrong in the child."""
        chunks = []
        try:
            while chunk := os.read(self._answer, 4096):
                chunks.append(chunk)
                if chunk == _READY:
                    return
        finally:
            os.close(self._answer)
            self._answer = -1
        number, _, text = b"".join(chunks).decode(errors="replace").partition("\0")
        raise OSError(int(number or 0), text or "the child of the mount namespace died")

    def leave(self) -> None:
        """Let the child end, without waiting for it. Idempotent."""
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def close(self) -> None:
        """Let the child end and reap it. Idempotent."""
        self.leave()
        if self._answer >= 0:
            os.close(self._answer)
            self._answer = -1
        if self.pid > 0:
            os.waitpid(self.pid, 0)
            self.pid = 0


def fork_keeper(prepare: Callable[[], None], beat: Callable[[], None] | None = None) -> Keeper:
    """Fork a child with a mount namespace of its own in which it runs ``prepare``.

    The namespace is a recursive slave of ours, never private: a private copy would pin every
    mount of the host. Both functions do system calls with values made before; while the child
    waits to be told to leave it calls ``beat`` every few milliseconds, until that raises an
    `OSError`.
    """
    answer, report = os.pipe()
    wait, hold = os.pipe()
    try:
        pid = os.fork()
    except BaseException:
        for fd in (answer, report, wait, hold):
            os.close(fd)
        raise
    if pid == 0:
        _keep(prepare, beat, report, wait)
    os.close(report)
    os.close(wait)
    return Keeper(pid, answer, hold)


def _keep(
    prepare: Callable[[], None], beat: Callable[[], None] | None, report: int, wait: int
) -> NoReturn:  # fmt: skip
    code = 1
    try:
        # A copy of any other descriptor (pipes, locks) would keep its other end waiting.
        low, high = sorted((report, wait))
        for first, last in ((0, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, last)
        os.setsid()
        call("unshare", CLONE_NEWNS, what="unshare")
        mount.set_propagation("/", mount.MS_SLAVE)
        prepare()
        os.write(report, _READY)
        if beat is not None:
            _wait_beating(wait, beat)
        os.read(wait, 1)
        code = 0
    except BaseException as error:
        number, text = 0, str(error)
        if isinstance(error, OSError) and error.strerror:
            number = error.errno or 0
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        os.write(report, f"{number}\0{text}".encode(errors="replace")[:4000])
    finally:
        os._exit(code)


def _wait_beating(wait: int, beat: Callable[[], None]) -> None:
    import select

    poll = select.poll()
    poll.register(wait, select.POLLIN)
    try:
        while not poll.poll(_BEAT):
            beat()
    except OSError:
        return


def make_time(seconds: int) -> None:
    """Give the children of this process a time namespace in which the clocks that count from boot
    are ``seconds`` ahead. time_namespaces(7); OSError."""
    call("unshare", CLONE_NEWTIME, what="a time namespace")
    if seconds:
        with open("/proc/self/timens_offsets", "w") as file:
            file.write(f"monotonic {seconds} 0\nboottime {seconds} 0\n")


def hide_unified() -> None:
    """Unmount the empty v2 hierarchy of a hybrid host, in this namespace only."""
    mount.unmount(UNIFIED, lazy=True)
