"""Whether this host can do what a container asks for beyond the everyday, and its devices.

Checked before a container is made and again before each start, so that a limit that cannot bind
is refused with its reason instead of being passed over.
"""

from __future__ import annotations

import os
import stat

from strata.errors import UsageError
from strata.linux import cgroup, process
from strata.oci import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: config keys -> the file of a v1 hierarchy that must be there
_V1_FILES = {
    "memory_swap": ("memory/memory.memsw.limit_in_bytes", "a limit on swap"),
    "memory_reservation": ("memory/memory.soft_limit_in_bytes", "a memory reservation"),
    "memory_swappiness": ("memory/memory.swappiness", "swappiness"),
    "oom_kill_disable": ("memory/memory.oom_control", "disabling the OOM killer"),
    "cpu_shares": ("cpu/cpu.shares", "CPU shares"),
    "cpu_quota": ("cpu/cpu.cfs_quota_us", "a CPU quota"),
    "cpu_period": ("cpu/cpu.cfs_period_us", "a CPU period"),
    "cpu_rt_period": ("cpu/cpu.rt_period_us", "a real-time CPU period"),
    "cpu_rt_runtime": ("cpu/cpu.rt_runtime_us", "real-time CPU time"),
    "cpuset_cpus": ("cpuset/cpuset.cpus", "choosing CPUs"),
    "cpuset_mems": ("cpuset/cpuset.mems", "choosing memory nodes"),
    "blkio_throttle": ("blkio/blkio.throttle.read_bps_device", "limiting block I/O"),
}
#: config keys -> controller of v2
_V2_CONTROLLERS = {
    "memory_swap": "memory", "memory_reservation": "memory", "cpu_shares": "cpu",
    "cpu_quota": "cpu", "cpu_period": "cpu", "cpuset_cpus": "cpuset", "cpuset_mems": "cpuset",
    "blkio_throttle": "io", "blkio_weight": "io", "blkio_weight_devices": "io",
}  # fmt: skip
_V1_ONLY = {
    "memory_swappiness": "swappiness", "oom_kill_disable": "disabling the OOM killer",
    "cpu_rt_period": "a real-time CPU period", "cpu_rt_runtime": "real-time CPU time",
}  # fmt: skip


def check(config: Mapping[str, Any], driver: str) -> None:
    """Raise `UsageError` for what this host, or a store on ``driver``, cannot do."""
    mode = cgroup.get_mode()
    if config.get("cgroups") == "disabled":
        _check_disabled(config)
    else:
        _check_cgroups(config, mode)
    _check_block(config, driver, mode)
    _check_cpus(config)
    if config.get("oom_score_adj") is not None:
        _check_oom_score(config["oom_score_adj"])
    if config.get("sysctls"):
        _check_sysctls(config)
    if "keep-groups" in config.get("group_add", ()) and not os.path.basename(
        config["runtime"]
    ).startswith("crun"):
        raise UsageError(
            "the '--group-add keep-groups' option needs crun as the OCI runtime",
            hint="name the groups, or use --runtime crun",
        )
    if config.get("devices"):
        list_devices(config)
    if config.get("init_path") and not os.access(config["init_path"], os.X_OK):
        raise UsageError(f"container-init binary not found on the host: {config['init_path']}")


def _check_disabled(config: Mapping[str, Any]) -> None:
    limits = [*_V1_FILES, "blkio_weight", "cgroup_conf", "cgroup_parent", "memory", "cpus"]
    asked = [key for key in limits if config.get(key)]
    if (config["pids_limit"] or 0) > 0:
        asked.append("pids_limit")
    if asked:
        raise UsageError(
            f"cannot set {asked[0].replace('_', '-')} without a cgroup: --cgroups=disabled"
        )
    if not os.path.basename(config["runtime"]).startswith("crun"):
        raise UsageError("--cgroups=disabled needs crun as the OCI runtime")


def _check_cgroups(config: Mapping[str, Any], mode: str) -> None:
    if mode == "v2":
        for key, what in _V1_ONLY.items():
            if config.get(key) is not None and config.get(key) is not False:
                raise UsageError(
                    f"{what} is not possible on this host: cgroup v2 has nothing like it",
                    hint="leave the option out",
                )
        with open(f"{cgroup.ROOT}/cgroup.controllers") as file:
            present = file.read().split()
        for key, controller in _V2_CONTROLLERS.items():
            if config.get(key) and controller not in present:
                raise UsageError(
                    f"--{_option(key)} is not possible on this host: its cgroups have no "
                    f"controller {controller!r}"
                )
        return
    for key, (name, what) in _V1_FILES.items():
        if config.get(key) is None or config.get(key) in (False, "", {}):
            continue
        if not os.path.exists(f"{cgroup.ROOT}/{name}"):
            raise UsageError(f"{what} is not possible on this host: its cgroups have no {name}")
    if config.get("cgroup_conf"):
        raise UsageError(
            "--cgroup-conf is not possible on this host: it is for cgroup v2, here is v1"
        )


def _option(key: str) -> str:
    return "device-read-bps" if key == "blkio_throttle" else key.replace("_", "-")


def _check_block(config: Mapping[str, Any], driver: str, mode: str) -> None:
    weight = config.get("blkio_weight") or config.get("blkio_weight_devices")
    throttle = config.get("blkio_throttle") or {}
    if not weight and not throttle:
        return
    option = "--blkio-weight" if weight else f"--device-{next(iter(throttle)).replace('_', '-')}"
    if driver == "zfs":
        raise UsageError(
            f"{option} cannot bind here: ZFS reads and writes in threads of its own, outside of "
            "the container's cgroup",
            hint="leave the option out",
        )
    if weight and not _has_weight(mode):
        raise UsageError(
            f"{option} is not possible on this host: no I/O scheduler with weights is active",
            hint="the kernel's bfq has them",
        )
    if mode != "v2" and any(kind.startswith("write") for kind in throttle):
        raise UsageError(
            f"--device-{next(k for k in throttle if k.startswith('write')).replace('_', '-')} "
            "cannot bind on this host: with cgroup v1 the kernel writes back buffered data outside "
            "of the container's cgroup",
            hint="cgroup v2 can limit writes",
        )
    read_numbers(config)


def _has_weight(mode: str) -> bool:
    names = ("io.weight", "io.bfq.weight") if mode == "v2" else ("blkio.weight", "blkio.bfq.weight")
    if mode != "v2":
        return any(os.path.exists(f"{cgroup.ROOT}/blkio/{name}") for name in names)
    for entry in os.listdir(cgroup.ROOT):
        if any(os.path.exists(f"{cgroup.ROOT}/{entry}/{name}") for name in names):
            return True
    return False


def read_numbers(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Device numbers of what ``--blkio-*`` and ``--device-*-bps`` name: path -> (major, minor)."""
    paths = [item["path"] for item in config.get("blkio_weight_devices") or ()]
    for items in (config.get("blkio_throttle") or {}).values():
        paths += [item["path"] for item in items]
    found = {}
    for path in paths:
        facts = _stat(path)
        if not stat.S_ISBLK(facts.st_mode):
            raise UsageError(f"{path} is not a block device, so its I/O cannot be limited")
        found[path] = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
    return found


def _check_cpus(config: Mapping[str, Any]) -> None:
    for key, name, what in (("cpuset_cpus", "cpu", "CPUs"), ("cpuset_mems", "node", "nodes")):
        text = config.get(key)
        if not text:
            continue
        try:
            with open(f"/sys/devices/system/{name}/online") as file:
                online = parse_list(file.read())
        except OSError:
            continue
        missing = parse_list(text) - online
        if missing:
            raise UsageError(
                f"requested {what} are not available - requested {text}, available: {_show(online)}"
            )


def parse_list(text: str) -> set[int]:
    """The numbers of a list like ``0-3,5``, as the kernel writes CPUs and nodes."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _show(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _check_oom_score(score: int) -> None:
    with open("/proc/self/oom_score_adj") as file:
        own = int(file.read())
    held = capabilities.from_mask(process.read_mask("self", "CapEff"))
    if score < own and "CAP_SYS_RESOURCE" not in held:
        raise UsageError(
            f"--oom-score-adj {score} is not possible here: it is below the engine's own, {own}, "
            "and lowering it needs CAP_SYS_RESOURCE"
        )


def _check_sysctls(config: Mapping[str, Any]) -> None:
    for name in config["sysctls"]:
        kind, option = ("Network", "network") if name.startswith("net.") else ("IPC", "ipc")
        if name == "kernel.domainname":
            kind, option = "UTS", "uts"
        chosen = config["network"] if option == "network" else config.get(f"{option}_mode")
        if chosen == "host":
            raise UsageError(
                f"sysctl {name} can't be set since {kind} Namespace set to host",
                hint=f"it would change the host; choose another --{option}",
            )
        path = f"/proc/sys/{name.replace('.', '/')}"
        if not os.path.exists(path) and "/" not in name and option != "network":
            raise UsageError(f"sysctl {name} is not possible on this host: the kernel has none")


def list_devices(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes that ``--device`` names as OCI ``linux.devices`` entries, with their ``access``.

    A directory stands for every node below it. `UsageError` when there is no such device.
    """
    found = []
    for item in config["devices"]:
        source, destination = item["source"], item["destination"]
        facts = _stat(source)
        if not stat.S_ISDIR(facts.st_mode):
            found.append(_make_node(source, destination, facts, item["permissions"]))
            continue
        below = []
        for folder, _, files in os.walk(source):
            for name in sorted(files):
                path = f"{folder}/{name}"
                place = f"{destination}{path[len(source) :]}"
                try:
                    node = os.lstat(path)
                except FileNotFoundError:
                    continue  # gone since it was listed
                if stat.S_ISCHR(node.st_mode) or stat.S_ISBLK(node.st_mode):
                    below.append(_make_node(path, place, node, item["permissions"]))
        if not below:
            raise UsageError(f"no devices found in {source}")
        found += below
    return found


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise UsageError(
            f"stat {path}: {(error.strerror or str(error)).lower()}",
            hint="the device must exist on the host",
        ) from None


def _make_node(source: str, path: str, facts: os.stat_result, access: str) -> dict[str, Any]:
    if not (stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode)):
        raise UsageError(f"{source} is not a device node", hint="bind it with --volume instead")
    return {
        "path": path, "type": "c" if stat.S_ISCHR(facts.st_mode) else "b",
        "major": os.major(facts.st_rdev), "minor": os.minor(facts.st_rdev),
        "fileMode": stat.S_IMODE(facts.st_mode), "uid": facts.st_uid, "gid": facts.st_gid,
        "access": access,
    }  # fmt: skip
