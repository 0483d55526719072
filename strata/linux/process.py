"""Processes named without doubt: a pid together with its start time, and this boot.

Everything is read from /proc: proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import os
import time

_boot: list[str] = []


def get_boot_id() -> str:
    """The kernel's random id of this boot."""
    if not _boot:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot.append(file.read().strip())
    return _boot[0]


def find_start_time(pid: int) -> int | None:
    """Start time in clock ticks since boot, or None when there is no such process.

    A zombie counts as gone: it holds no resources and runs nothing.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read(4096).rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def parse_mask(status: str, key: str) -> int:
    """One of the hexadecimal ``Cap…`` lines of proc_pid_status(5); 0 without it."""
    for line in status.splitlines():
        if line.startswith(f"{key}:"):
            return int(line.partition(":")[2], 16)
    return 0


def read_mask(pid: int | str, key: str) -> int:
    """A set of a process's capabilities (``CapEff``, ``CapBnd`` …) as bits; 0 when it is gone."""
    from strata.linux.read import read_text

    return parse_mask(read_text(f"/proc/{pid}/status"), key)


def is_alive(pid: int, start_time: int) -> bool:
    """Whether the very process that had this pid and start time still runs."""
    return pid > 0 and find_start_time(pid) == start_time


def open_pidfd(pid: int) -> int:
    """pidfd_open(2): a descriptor that becomes readable when the process ends. OSError ESRCH."""
    return os.pidfd_open(pid)


def signal_pidfd(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2). ProcessLookupError when it is gone."""
    from strata.linux.syscall import PIDFD_SEND_SIGNAL, syscall

    syscall(PIDFD_SEND_SIGNAL, pidfd, number, 0, 0, what="pidfd")


def copy_descriptor(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a copy of another process's descriptor. OSError."""
    from strata.linux.syscall import PIDFD_GETFD, syscall

    return syscall(PIDFD_GETFD, pidfd, number, 0, what=f"descriptor {number}")


def wait_gone(pid: int, start_time: int, timeout: float | None) -> bool:
    """Wait until the process is gone; False when ``timeout`` seconds pass first."""
    try:
        fd = open_pidfd(pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(pid, start_time):
            return True
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        deadline = None if timeout is None else time.monotonic() + timeout
        left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
        return bool(poll.poll(left))
    finally:
        os.close(fd)
