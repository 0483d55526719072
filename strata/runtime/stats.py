"""What a running container has used, from its cgroup and its network namespace.

Sources: Documentation/admin-guide/cgroup-v1 (memory.rst, blkio-controller.rst, cpuacct.rst) and
cgroup-v2.rst, proc_pid_net(5). As Podman does, memory is without the page cache that the kernel
would give up first (``inactive_file``). A container on the host's network has no counters of its
own.
"""

from __future__ import annotations

import os
import time

from strata.linux import cgroup
from strata.linux.read import read_text

#: what the v1 memory controller says when there is no limit, about
_UNLIMITED = 1 << 60


class Sample:
    """Counters at one moment. Times in ns, sizes in bytes; ``networks`` maps an interface to
    (received, sent)."""

    __slots__ = ("block_read", "block_written", "cpu_ns", "memory", "memory_limit", "networks",
                 "pids", "taken_ns")  # fmt: skip

    def __init__(self) -> None:
        self.taken_ns = time.time_ns()
        self.cpu_ns = 0
        self.memory = 0
        self.memory_limit = 0
        self.block_read = 0
        self.block_written = 0
        self.pids = 0
        self.networks: dict[str, tuple[int, int]] = {}


def take_sample(pid: int) -> Sample:
    """The counters of the container whose first process is ``pid``; zeros for one that is gone."""
    sample = Sample()
    folders = cgroup.find_directories(pid)
    if "" in folders:
        _read_v2(sample, folders[""])
    else:
        _read_v1(sample, folders)
    total = _read_total_memory()
    if not 0 < sample.memory_limit < total:
        sample.memory_limit = total
    if _has_own_network(pid):
        sample.networks = parse_net_dev(read_text(f"/proc/{pid}/net/dev"))
    return sample


def parse_net_dev(text: str) -> dict[str, tuple[int, int]]:
    """/proc/net/dev as interface -> (bytes received, bytes sent), the loopback left out."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) >= 9:
            found[name.strip()] = (int(fields[0]), int(fields[8]))
    return found


def parse_pairs(text: str) -> dict[str, int]:
    """``key value`` lines of memory.stat, cpu.stat and the like."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def parse_io_v1(text: str) -> tuple[int, int]:
    """Bytes read and written of ``blkio.throttle.io_service_bytes_recursive``."""
    read = written = 0
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] == "Read":
            read += int(fields[2])
        elif len(fields) == 3 and fields[1] == "Write":
            written += int(fields[2])
    return read, written


def parse_io_v2(text: str) -> tuple[int, int]:
    """Bytes read and written of ``io.stat``."""
    read = written = 0
    for line in text.splitlines():
        for field in line.split()[1:]:
            key, _, value = field.partition("=")
            if key == "rbytes":
                read += int(value)
            elif key == "wbytes":
                written += int(value)
    return read, written


def _read_v1(sample: Sample, folders: dict[str, str]) -> None:
    sample.cpu_ns = _number(f"{folders.get('cpuacct', '')}/cpuacct.usage")
    memory = folders.get("memory", "")
    cache = parse_pairs(read_text(f"{memory}/memory.stat")).get("total_inactive_file", 0)
    sample.memory = max(0, _number(f"{memory}/memory.usage_in_bytes") - cache)
    limit = _number(f"{memory}/memory.limit_in_bytes")
    sample.memory_limit = 0 if limit >= _UNLIMITED else limit
    sample.pids = _number(f"{folders.get('pids', '')}/pids.current")
    sample.block_read, sample.block_written = parse_io_v1(
        read_text(f"{folders.get('blkio', '')}/blkio.throttle.io_service_bytes_recursive")
    )


def _read_v2(sample: Sample, folder: str) -> None:
    sample.cpu_ns = parse_pairs(read_text(f"{folder}/cpu.stat")).get("usage_usec", 0) * 1000
    cache = parse_pairs(read_text(f"{folder}/memory.stat")).get("inactive_file", 0)
    sample.memory = max(0, _number(f"{folder}/memory.current") - cache)
    sample.memory_limit = _number(f"{folder}/memory.max")  # "max" is no number
    sample.pids = _number(f"{folder}/pids.current")
    sample.block_read, sample.block_written = parse_io_v2(read_text(f"{folder}/io.stat"))


def _number(path: str) -> int:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else 0


def _read_total_memory() -> int:
    for line in read_text("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _has_own_network(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:
        return False
