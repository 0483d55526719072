"""Two commands at once, in an order that the test chooses.

The first runs in this process; `at` lets something happen when it comes to a traced point. The
second is a `Second`: a command line in a fork of this process, which tells when it has to wait for
a lock, so that no test needs to sleep::

    with race.at("create:dataset-made", lambda: second.go()):
        create.create(e, options)
    assert second.end().rc == 0
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from helpers.store import Outcome, Store
from strata import command, trace
from strata.cli.launcher import find_own_argv
from strata.cli.main import main
from strata.linux import locks


@contextlib.contextmanager
def at(point: str, do: Callable[[], object], *, time: int = 1) -> Iterator[list[str]]:
    """Do something when this process comes to a point for the ``time``-th time.

    Gives the list of points passed; fails when it never came there.
    """
    owner, seen = os.getpid(), []

    def hook(name: str) -> None:
        if os.getpid() != owner:
            return
        seen.append(name)
        if name == point and seen.count(name) == time:
            do()

    before, trace.hook = trace.hook, hook
    try:
        yield seen
    finally:
        trace.hook = before
    assert seen.count(point) >= time, f"never came to {point}: {seen}"


class Second:
    """A command line that runs beside this process; started by `go`."""

    def __init__(self, store: Store, *args: str) -> None:
        self.store = store
        self.args = args
        self.waited = False
        self._pid = 0
        self._out = os.memfd_create("out")
        self._err = os.memfd_create("err")

    def go(self) -> None:
        """Run it until it ends or has to wait for a lock (then `waited` is true)."""
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reader)
            self._become(writer)
        os.close(writer)
        self.waited = os.read(reader, 1) == b"w"
        os.close(reader)

    def end(self) -> Outcome:
        """Wait for its end."""
        _, status = os.waitpid(self._pid, 0)
        out, err = (os.pread(fd, 1 << 20, 0).decode() for fd in (self._out, self._err))
        os.close(self._out)
        os.close(self._err)
        return Outcome(self.args, os.waitstatus_to_exitcode(status), out, err)

    def _become(self, writer: int) -> None:
        try:
            trace.hook = None
            # Not a program of the first command: its locks are not ours.
            for fd in sorted(command.inherited):
                os.close(fd)
            command.inherited.clear()
            null = os.open("/dev/null", os.O_RDWR)
            for source, target in ((null, 0), (self._out, 1), (self._err, 2)):
                os.dup2(source, target)
            sys.stdin = open(0, closefd=False)
            sys.stdout = open(1, "w", closefd=False)
            sys.stderr = open(2, "w", closefd=False)

            def profile(frame: Any, event: str, called: Any) -> None:
                in_locks = frame.f_code.co_filename == locks.__file__
                if event == "c_call" and called is time.sleep and in_locks:
                    os.write(writer, b"w")
                    sys.setprofile(None)

            command.find_own_argv = lambda: find_own_argv(None)
            sys.setprofile(profile)
            code = main(self.store.words(*self.args))
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)
