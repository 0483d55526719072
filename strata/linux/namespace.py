"""Running a step in another mount namespace: always in a child, never in the calling process."""

from __future__ import annotations

import ctypes
import os

from strata.linux import mount
from strata.linux.syscall import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

CLONE_NEWNS = 0x00020000

UNIFIED = "/sys/fs/cgroup/unified"


def unshare_mounts() -> None:
    """Give the calling process a mount namespace that still receives changes from the old one.

    Recursive slave, never private: a private copy would pin every mount of the host.
    """
    check(libc().unshare(ctypes.c_int(CLONE_NEWNS)), "unshare")
    mount.set_propagation("/", mount.MS_SLAVE)


def hide_unified() -> None:
    """Unmount the empty v2 hierarchy of a hybrid host here; crun refuses to run beside it."""
    mount.unmount(UNIFIED, lazy=True)


def reset_signals() -> None:
    """Default actions and an empty mask, for a child about to exec: Python ignores SIGPIPE."""
    import _signal

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGQUIT,
                   _signal.SIGTERM, _signal.SIGHUP, _signal.SIGCHLD):  # fmt: skip
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def fork_exec(prepare: Callable[[], None], program: str, argv: Sequence[str],
              env: dict[str, str]) -> tuple[int, int]:  # fmt: skip
    """Fork; the child runs ``prepare`` and executes ``program``. Returns pid and an error pipe.

    The pipe gives end of file once the program runs, or first what went wrong
    (`read_child_error`). ``prepare`` sees the descriptors of the caller; the error pipe is close
    on exec, so it must not close that one: descriptors are the caller's business through
    ``os.closerange`` below the number given by ``RESERVED_FD``.
    """
    errors, report = os.pipe()
    try:
        pid = os.fork()
    except BaseException:
        os.close(errors)
        os.close(report)
        raise
    if pid == 0:
        _child(prepare, program, argv, env, report)
    os.close(report)
    return pid, errors


def _child(prepare: Callable[[], None], program: str, argv: Sequence[str], env: dict[str, str],
           report: int) -> NoReturn:  # fmt: skip
    try:
        # The report moves out of the way of descriptors that prepare places at fixed numbers.
        import fcntl

        high = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, RESERVED_FD)
        os.close(report)
        report = high
        prepare()
        os.execve(program, list(argv), env)
    except BaseException as error:
        number = error.errno or 0 if isinstance(error, OSError) else 0
        text = f"{number}\0{error}"
        try:
            os.write(report, text.encode(errors="replace")[:4000])
        finally:
            os._exit(127)
    os._exit(127)


#: descriptors from here on are left alone by ``prepare``
RESERVED_FD = 60


def read_child_error(errors: int) -> str:
    """Wait until the child runs its program; return "" or the sentence of what went wrong."""
    chunks = []
    try:
        while chunk := os.read(errors, 4096):
            chunks.append(chunk)
    finally:
        os.close(errors)
    text = b"".join(chunks).decode(errors="replace")
    return text.partition("\0")[2] or text
