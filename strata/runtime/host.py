"""Reading the host for the runtime spec: capabilities, limits, cgroups, devices."""

from __future__ import annotations

import os
import stat

from strata import command
from strata.linux import cgroup
from strata.linux.process import parse_mask
from strata.oci import capabilities
from strata.oci.facts import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT_NAMES = {
    "Max cpu time": "cpu", "Max file size": "fsize", "Max data size": "data",
    "Max stack size": "stack", "Max core file size": "core", "Max resident set": "rss",
    "Max processes": "nproc", "Max open files": "nofile", "Max locked memory": "memlock",
    "Max address space": "as", "Max file locks": "locks", "Max pending signals": "sigpending",
    "Max msgqueue size": "msgqueue", "Max nice priority": "nice",
    "Max realtime priority": "rtprio", "Max realtime timeout": "rttime",
}  # fmt: skip


def parse_limits(text: str) -> dict[str, tuple[int, int]]:
    """proc_pid_limits(5) as ulimit names to (soft, hard); unlimited is 2**64 - 1."""
    limits = {}
    for line in text.splitlines():
        name = _LIMIT_NAMES.get(line[:25].strip())
        fields = line[25:].split()
        if name is None or len(fields) < 2:
            continue
        soft, hard = (2**64 - 1 if text == "unlimited" else int(text) for text in fields[:2])
        limits[name] = (soft, hard)
    return limits


def read_host(config: dict[str, Any]) -> HostFacts:
    """The facts one container's configuration needs; the expensive ones only when it does."""
    with open("/proc/self/status") as file:
        status = file.read()
    with open("/proc/self/limits") as file:
        limits = parse_limits(file.read())
    mode = cgroup.get_mode()
    effective = parse_mask(status, "CapEff")
    facts = HostFacts(
        bounding=capabilities.from_mask(parse_mask(status, "CapBnd")),
        cgroup=mode,
        hostname=os.uname().nodename,
        can_raise_limits="CAP_SYS_RESOURCE" in capabilities.from_mask(effective),
        rlimits=limits,
        swap_limit=cgroup.has_swap_limit(mode) if config.get("memory") else True,
        devices=list_devices() if config.get("privileged") else (),
        init_program=_find_init(config) if config.get("init") else "",
    )
    if config.get("devices") or config.get("blkio_throttle") or config.get("blkio_weight_devices"):
        from strata.runtime import limits as asked

        facts.given_devices = asked.list_devices(config) if config.get("devices") else []
        facts.numbers = asked.read_numbers(config)
    return facts


def _find_init(config: dict[str, Any]) -> str:
    return config.get("init_path") or command.find_program("catatonit") or ""


#: made by the runtime itself, or meaningless in a container
_OWN_DEVICES = frozenset((
    "console", "full", "fuse", "null", "ptmx", "random", "tty", "urandom", "zero",
)) - {"fuse"}  # fmt: skip
_SKIPPED_FOLDERS = frozenset(("pts", "shm", "fd", "mqueue", "hugepages", ".udev", ".lxc"))


def list_devices(top: str = "/dev") -> list[dict[str, Any]]:
    """Every device node below ``top`` as an OCI ``linux.devices`` entry, for ``--privileged``."""
    found: list[dict[str, Any]] = []
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(facts.st_mode):
                if entry.name not in _SKIPPED_FOLDERS:
                    pending.append(entry.path)
            elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
                if folder == top and (entry.name in _OWN_DEVICES or _is_terminal(entry.name)):
                    continue
                found.append({
                    "path": entry.path, "type": "c" if stat.S_ISCHR(facts.st_mode) else "b",
                    "major": os.major(facts.st_rdev), "minor": os.minor(facts.st_rdev),
                    "fileMode": stat.S_IMODE(facts.st_mode), "uid": facts.st_uid,
                    "gid": facts.st_gid,
                })  # fmt: skip
    return found


def _is_terminal(name: str) -> bool:
    """Virtual consoles, which a container must not share unless it runs as the system's init."""
    return name.startswith("tty") and name[3:].isdigit()
