"""An exec session at a terminal that can be left by typing the detach keys.

The runtime gets a terminal of ours instead of the caller's, and what is typed passes through us.
Once left, a copy of this process holds the other side of that terminal and reads what is written
to it, so that the process in the container neither ends nor waits; it ends with the process.
"""

from __future__ import annotations

import os
import select

from strata import command
from strata.linux import signals
from strata.linux.terminal import RawMode, find_size, set_size
from strata.linux.write import write_all
from strata.runtime.attach import DetachFilter, Signals
from strata.runtime.exec import exec_argv, set_size_of, write_process
from strata.runtime.launch import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_BLOCK = 1 << 16
#: bytes of input passed on at once; a terminal's queue holds 4096
_TYPED = 1024


def run(
    runtime: Runtime, container_id: str, bundle: str, process: Mapping[str, Any], keys: bytes
) -> int | None:
    """Run a process with a terminal on descriptors 0 and 1, of which 0 is a terminal; its exit
    code, None when it was left."""
    name = write_process(bundle, process)
    ours = -1
    try:
        ours, theirs = os.openpty()
        try:
            # Before the runtime does it, so that nothing typed earlier is echoed.
            RawMode(theirs).__enter__()
            size = find_size(0)
            if size is not None:
                set_size(theirs, *size)
            pid = command.spawn(
                exec_argv(runtime, container_id, name), stdin=theirs, stdout=theirs,
                stderr=theirs, new_session=True,
            )  # fmt: skip
        finally:
            os.close(theirs)
        with RawMode(0), Signals((signals.SIGWINCH,)) as caught:
            left = _relay(ours, pid, keys, caught)
        if left:
            _hold(ours)
            return None
        code = command.wait(pid)
        return 128 - code if code < 0 else code
    finally:
        if ours >= 0:
            os.close(ours)
        os.unlink(name)


def _relay(terminal: int, pid: int, keys: bytes, caught: Signals) -> bool:
    """Pass bytes until the process ends (False) or the keys are typed (True)."""
    filtering = DetachFilter(keys)
    poll = select.poll()
    for fd in (terminal, 0, caught.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if caught.fileno() in ready and caught.read():
            size = find_size(0)
            if size is not None:
                set_size(terminal, *size)
                set_size_of(pid, *size)
        if terminal in ready:
            try:
                write_all(1, os.read(terminal, _BLOCK))
            except OSError:  # EIO: nobody has the other side open
                return False
        if 0 in ready:
            typed = os.read(0, _TYPED)
            if not typed:
                # The end of input as a terminal says it: VEOF, termios(3).
                typed = b"\4"
                poll.unregister(0)
            passed, left = filtering.feed(typed)
            if passed:
                write_all(terminal, passed)
            if left:
                return True


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
