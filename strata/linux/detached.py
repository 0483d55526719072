"""A process that outlives its caller, made by copying it: nothing is loaded anew.

It has a session of its own, /dev/null as standard descriptors and a cgroup that no service manager
ends with the caller's. It gives up the locks it inherited, which belong to the caller's operation,
and what the caller handed on, as somebody may wait for the end of a pipe.
"""

from __future__ import annotations

import os

from strata import command
from strata.linux import cgroup, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

#: what a terminal sends to all who have it, also when the first of them ends
_FROM_TERMINAL = (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT)
#: children of this process that end as soon as they have made a child of their own
_between: list[int] = []


def run_detached(action: Callable[[], object], *, keep: Container[int] = ()) -> None:
    """Start ``action`` in such a process. It keeps only descriptors that nobody inherits, and
    those in ``keep``.

    The process between the two is waited for at the next call, or by whom we leave our children
    to: its copying takes milliseconds.
    """
    _between[:] = [left for left in _between if _is_there(left)]
    # Whoever runs a command over ssh has it as the first process of a terminal; when it ends, the
    # kernel hangs up all others, and those include the copy until it has a session of its own.
    before = signals.hold(_FROM_TERMINAL)
    try:
        pid = os.fork()
    except BaseException:
        signals.let(before)
        raise
    if pid:
        signals.let(before)
        _between.append(pid)
        return
    try:
        if os.fork():
            os._exit(0)
        os.setsid()
        for number in _FROM_TERMINAL:
            signals.set_handler(number, signals.IGNORE)  # forgets one that has come
            signals.set_handler(number, signals.DEFAULT)
        signals.let(before)
        cgroup.move_to_own()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            try:
                if (
                    fd > 2
                    and fd not in keep
                    and (fd in command.inherited or os.get_inheritable(fd))
                ):
                    os.close(fd)
            except OSError:
                continue
        command.inherited.clear()
        action()
    finally:
        os._exit(0)


def _is_there(pid: int) -> bool:
    """Whether a child has not ended; it is waited for when it has."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False  # of the process that we are a copy of
