"""Holding containers still for the time of a snapshot, so that they always go on again.

Three independent hands thaw what was frozen:

- the command that froze it, which takes some milliseconds;
- a guard, made and heard of before anything is frozen: a process in a session and cgroup of its
  own that thaws when the command ends in any way, or after `LIMIT`;
- any later command, when both were killed: a file under ``frozen`` in the run directory names
  what is held, and `strata.engine.core.open_engine` looks for it.

A container that its user paused stays paused. The freezer is written directly: the OCI runtime
would take as long as the snapshot itself.
"""

from __future__ import annotations

import os
import select
import time

from strata import trace
from strata.engine.core import Engine, Record
from strata.errors import Busy, StrataError
from strata.linux import cgroup, process
from strata.linux.detached import run_detached
from strata.store.files import list_leftovers, read_json, write_json
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: seconds after which the guard thaws, whatever its owner is doing
LIMIT = 10.0
_ACKNOWLEDGE = 5.0
_HALT = 5.0
_READY, _LATE = b"g", b"l"


class Freeze:
    """Containers held still; a context manager. `Busy` when they cannot be stopped in time."""

    __slots__ = ("_files", "_marker", "_release", "_say")

    def __init__(self, e: Engine, records: Sequence[Record]) -> None:
        self._files: list[str] = []
        for record in records:
            path = cgroup.find_freezer(record["state"]["pid"], record["id"])
            if path is not None and not cgroup.is_frozen(record["state"]["pid"]):
                self._files.append(path)
        self._marker = f"{e.paths.frozen}/{new_id(16)}.json"
        self._release = self._say = -1

    def __enter__(self) -> Freeze:
        if not self._files:
            return self
        own = os.getpid()
        try:
            os.makedirs(os.path.dirname(self._marker), 0o700, exist_ok=True)
            write_json(self._marker, {
                "files": self._files, "owner": [own, process.find_start_time(own)],
            }, durable=False)  # fmt: skip
            trace.point("freeze:announced")
            self._start_guard()
            trace.point("freeze:guarded")
            for path in self._files:
                cgroup.write_freezer(path, True)
            trace.point("freeze:begun")
            self._wait_still()
            trace.point("freeze:frozen")
        except BaseException:
            self.thaw()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()

    def _start_guard(self) -> None:
        held, self._release = os.pipe()
        self._say, answer = os.pipe()
        files, ours = self._files, (self._release, self._say)

        def guard() -> None:
            for fd in ours:
                os.close(fd)
            os.write(answer, _READY)
            waiter = select.poll()
            waiter.register(held, select.POLLIN)
            late = not waiter.poll(LIMIT * 1000)
            for path in files:
                cgroup.write_freezer(path, False)
            if late:
                try:
                    os.write(answer, _LATE)
                except OSError:
                    return

        try:
            run_detached(guard)
        finally:
            os.close(held)
            os.close(answer)
        waiter = select.poll()
        waiter.register(self._say, select.POLLIN)
        if not waiter.poll(_ACKNOWLEDGE * 1000) or os.read(self._say, 1) != _READY:
            raise StrataError("nobody would thaw the containers, so they are not frozen",
                              hint="try again")  # fmt: skip

    def _wait_still(self) -> None:
        deadline = time.monotonic() + _HALT
        pause = 0.0005
        for path in self._files:
            while not cgroup.read_freezer(path) and os.path.exists(path):
                if time.monotonic() >= deadline:
                    raise Busy("a process of the containers cannot be frozen: it waits for a disk",
                               hint="try again, or stop the containers")  # fmt: skip
                time.sleep(pause)
                pause = min(pause * 2, 0.02)

    def check(self) -> None:
        """Raise `Busy` when the guard has thawed already, so that what was done since is not of
        one moment."""
        if self._say < 0:
            return
        waiter = select.poll()
        waiter.register(self._say, select.POLLIN)
        # A guard that was killed says nothing; then we and later commands are left to thaw.
        if waiter.poll(0) and os.read(self._say, 1) == _LATE:
            raise Busy(f"it took longer than {LIMIT:g} seconds, so the containers went on before",
                       hint="try again when the pool has less to do")  # fmt: skip

    def thaw(self) -> None:
        """Let everything go on. Idempotent."""
        for path in self._files:
            cgroup.write_freezer(path, False)
        for fd in (self._release, self._say):
            if fd >= 0:
                os.close(fd)
        self._release = self._say = -1
        if self._files:
            _forget(self._marker)
            self._files = []


def thaw_left(e: Engine) -> None:
    """Thaw what killed commands left frozen. Called when there is a ``frozen`` directory."""
    try:
        names = os.listdir(e.paths.frozen)
    except FileNotFoundError:
        return
    for path in list_leftovers(e.paths.frozen):
        _forget(path)
    for name in names:
        path = f"{e.paths.frozen}/{name}"
        try:
            marker = read_json(path)
            pid, start = marker["owner"]
            if process.is_alive(pid, start):
                continue
            files = [str(file) for file in marker["files"]]
        except (FileNotFoundError, StrataError, KeyError, TypeError, ValueError):
            continue
        for file in files:
            cgroup.write_freezer(file, False)
        _forget(path)


def _forget(marker: str) -> None:
    try:
        os.unlink(marker)
    except FileNotFoundError:
        return
    try:
        os.rmdir(os.path.dirname(marker))
    except OSError:
        return  # another command holds something
