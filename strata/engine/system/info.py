"""``system info``: the host, the store, its driver and what containers.conf says.

The keys of ``host``, ``store``, ``plugins``, ``registries`` and ``version`` are Podman's
(podman-info(1)), because scripts read them: all that Podman 5 has but for what would need a package
manager to answer. What there is nothing of here is empty. ``driver`` and ``config`` are our own.
"""

from __future__ import annotations

import os

from strata import __version__, command
from strata.engine import settings
from strata.engine.core import Engine, Record
from strata.errors import StrataError
from strata.linux import cgroup
from strata.network import dns
from strata.network.model import DRIVERS
from strata.oci import architecture, capabilities, seccomp
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
            "authorization": None,
            "log": ["k8s-file", "json-file", "journald", "passthrough", "none"],
            "network": list(DRIVERS),
            "volume": ["local"],
        },
        "registries": {},
        "config": _describe_config(e),
        "version": describe_version(),
    }


def describe_version() -> Record:
    """The version under Podman's keys; those of another language say nothing."""
    own = architecture.find_host()[0]
    return {
        "APIVersion": __version__, "Version": __version__, "GoVersion": "", "GitCommit": "",
        "BuiltTime": "", "Built": 0, "BuildOrigin": "", "OsArch": f"linux/{own}", "Os": "linux",
    }  # fmt: skip


def _describe_store(e: Engine) -> Record:
    space = e.driver.get_pool_space()
    statuses = [lifecycle.derive(record) for record in e.records.list_records("container")]
    live = sum(status in lifecycle.LIVE for status in statuses)
    paused = statuses.count(lifecycle.PAUSED)
    return {
        "graphDriverName": e.driver.name,
        "configFile": f"{e.paths.root}/store.json",
        "graphOptions": {},
        "graphStatus": {},
        "imageCopyTmpDir": e.spool,
        "transientStore": False,
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
            "number": len(statuses), "paused": paused, "running": live - paused,
            "stopped": len(statuses) - live,
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
        "buildahVersion": "",
        "cgroupControllers": cgroup.list_controllers(),
        "cgroupManager": "cgroupfs",
        "cgroupVersion": "v2" if cgroup.get_mode() == "v2" else "v1",
        "cgroupMode": cgroup.get_mode(),
        "conmon": _describe_program("conmon"),
        "cpuUtilization": _read_use(),
        "cpus": len(os.sched_getaffinity(0)),
        "databaseBackend": "",
        "distribution": {"codename": release.get("VERSION_CODENAME", ""),
                         "distribution": release.get("ID", ""),
                         "version": release.get("VERSION_ID", "")},
        "eventLogger": "file",
        "hostname": machine.nodename,
        "idMappings": {"gidmap": None, "uidmap": None},
        "kernel": machine.release,
        "linkmode": "",
        "logDriver": "k8s-file",
        "memFree": memory.get("MemFree", 0),
        "memTotal": memory.get("MemTotal", 0),
        "networkBackend": "strata",
        "networkBackendInfo": {
            "backend": "strata", "package": "", "path": "", "version": __version__,
            "dns": _describe_dns(),
        },
        "ociRuntime": {"name": "crun", **_describe_program("crun")},
        "os": machine.sysname.lower(),
        "pasta": {"executable": command.find_program("pasta") or "", "package": "", "version": ""},
        "remoteSocket": {"path": "", "exists": False},
        "rootlessNetworkCmd": "pasta",
        "runc": _describe_program("runc"),
        "security": {
            "apparmorEnabled": os.path.exists("/sys/kernel/security/apparmor/profiles"),
            "capabilities": ",".join(capabilities.DEFAULT),
            "rootless": os.geteuid() != 0,
            "seccompEnabled": True,
            "seccompProfilePath": _find_profile(),
            "selinuxEnabled": os.path.exists("/sys/fs/selinux/enforce"),
        },
        "serviceIsRemote": False,
        "slirp4netns": {"executable": "", "package": "", "version": ""},
        "swapFree": memory.get("SwapFree", 0),
        "swapTotal": memory.get("SwapTotal", 0),
        "uptime": f"{up // 3600:.0f}h {up % 3600 // 60:.0f}m {up % 60:.2f}s",
        "variant": architecture.find_host()[1],
    }  # fmt: skip


def _describe_dns() -> Record:
    path = next((path for path in dns.PROGRAMS if os.path.exists(path)), "")
    found = _describe_program(path) if path else {"path": "", "version": ""}
    return {"package": "", **found}


def _find_profile() -> str:
    """The file with the system calls that are allowed by default; empty when there is none."""
    paths = (seccomp.LOCAL_PROFILE, seccomp.DEFAULT_PROFILE)
    return next((path for path in paths if os.path.exists(path)), "")


def _read_use() -> dict[str, float]:
    """How the processors spent their time since boot, in percent; proc_stat(5)."""
    with open("/proc/stat") as file:
        times = [int(word) for word in file.readline().split()[1:]]
    total = sum(times) or 1
    shares = {"userPercent": times[0], "systemPercent": times[2], "idlePercent": times[3]}
    return {name: round(100 * share / total, 2) for name, share in shares.items()}


def _describe_program(name: str) -> Record:
    """Where a program is and what it says of its version; empty when it is not installed."""
    path = command.find_program(name)
    if path is None:
        return {"package": "", "path": "", "version": ""}
    try:
        lines = command.run([path, "--version"], check=False, timeout=10).text.splitlines()
    except StrataError:
        lines = []
    return {"package": "", "path": path, "version": lines[0].strip() if lines else ""}


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
