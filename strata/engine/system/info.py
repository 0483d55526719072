"""``system info``: the host, the store, its driver and what containers.conf says.

The keys of ``host``, ``store``, ``plugins`` and ``version`` are Podman's (podman-info(1)), because
scripts read them; ``driver`` and ``config`` are our own.
"""

from __future__ import annotations

import os

from strata import __version__, command
from strata.engine import settings
from strata.engine.core import Engine, Record
from strata.errors import StrataError
from strata.linux import cgroup
from strata.oci import architecture
from strata.storage.marker import FORMAT
from strata.store import lifecycle


def info(e: Engine) -> Record:
    """Describe the engine, its store and this host."""
    described = e.driver.describe()
    facts = described.pop("facts", e.driver.facts.to_dict())
    return {
        "host": _describe_host(),
        "store": _describe_store(e),
        "driver": {**described, "facts": facts},
        "plugins": {
            "log": ["k8s-file", "none"], "network": ["bridge"], "volume": ["local"],
        },
        "config": _describe_config(e),
        "version": {"Version": __version__, "OsArch": f"linux/{architecture.find_host()[0]}"},
    }  # fmt: skip


def _describe_store(e: Engine) -> Record:
    space = e.driver.get_pool_space()
    statuses = [lifecycle.derive(record) for record in e.records.list_records("container")]
    running = sum(status in lifecycle.LIVE for status in statuses)
    return {
        "graphDriverName": e.driver.name,
        "graphRoot": e.paths.root,
        "graphRootAllocated": space.size,
        "graphRootUsed": space.size - space.free,
        "runRoot": e.paths.runroot,
        "volumePath": e.paths.volumes,
        "id": e.config.id,
        "format": FORMAT,
        "dataset": e.config.dataset or "",
        "file": e.config.file or "",
        "containerStore": {
            "number": len(statuses), "running": running, "stopped": len(statuses) - running,
        },
        "imageStore": {"number": len(e.records.list_ids("image"))},
        "layerStore": {"number": len(e.records.list_ids("layer"))},
        "volumeStore": {"number": len(e.records.list_ids("volume"))},
        "trash": {"number": len(e.trash.list_ids())},
        "operations": {"number": sum(alive for _, alive in e.journal.list_entries())},
    }  # fmt: skip


def _describe_config(e: Engine) -> Record:
    """What containers.conf says, and which file said it."""
    found = settings.load(e.paths.runroot)
    return {
        "files": settings.list_files(),
        "values": {key: {"value": value, "source": path} for key, (value, path) in found.items()},
    }


def _describe_host() -> Record:
    machine = os.uname()
    release = _read_release()
    memory = _read_memory()
    with open("/proc/uptime") as file:
        up = float(file.read().split()[0])
    return {
        "arch": architecture.find_host()[0],
        "cgroupControllers": cgroup.list_controllers(),
        "cgroupManager": "cgroupfs",
        "cgroupVersion": "v2" if cgroup.get_mode() == "v2" else "v1",
        "cgroupMode": cgroup.get_mode(),
        "conmon": _describe_program("conmon"),
        "cpus": len(os.sched_getaffinity(0)),
        "distribution": {"codename": release.get("VERSION_CODENAME", ""),
                         "distribution": release.get("ID", ""),
                         "version": release.get("VERSION_ID", "")},
        "eventLogger": "file",
        "hostname": machine.nodename,
        "kernel": machine.release,
        "logDriver": "k8s-file",
        "memFree": memory.get("MemFree", 0),
        "memTotal": memory.get("MemTotal", 0),
        "ociRuntime": {"name": "crun", **_describe_program("crun")},
        "os": machine.sysname.lower(),
        "runc": _describe_program("runc"),
        "security": {
            "apparmorEnabled": os.path.exists("/sys/kernel/security/apparmor/profiles"),
            "rootless": os.geteuid() != 0,
            "seccompEnabled": True,
            "selinuxEnabled": os.path.exists("/sys/fs/selinux/enforce"),
        },
        "serviceIsRemote": False,
        "swapFree": memory.get("SwapFree", 0),
        "swapTotal": memory.get("SwapTotal", 0),
        "uptime": f"{up // 3600:.0f}h {up % 3600 // 60:.0f}m {up % 60:.2f}s",
    }  # fmt: skip


def _describe_program(name: str) -> Record:
    """Where a program is and what it says of its version; empty when it is not installed."""
    path = command.find_program(name)
    if path is None:
        return {"path": "", "version": ""}
    try:
        lines = command.run([path, "--version"], check=False, timeout=10).text.splitlines()
    except StrataError:
        lines = []
    return {"path": path, "version": lines[0].strip() if lines else ""}


def _read_release() -> dict[str, str]:
    """The fields of os-release(5)."""
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            pairs = [line.strip().partition("=") for line in file]
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in pairs if key}


def _read_memory() -> dict[str, int]:
    """The fields of proc_meminfo(5) in bytes."""
    found = {}
    with open("/proc/meminfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdigit():
                found[key] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found
