"""``inspect`` of a container: everything scripts read, under Podman 5's names.

Source: ``libpod/define/container_inspect.go`` of Podman 5, compared with what ``podman inspect``
prints. What Podman cannot know stands beside it: the dataset, its generation and branches, the
namespaces' numbers, and the limits that hold as the kernel tells them (`read_limits`).
Settings that an older record lacks have the value a container without them runs with.
"""

from __future__ import annotations

import os

from strata import jsontext
from strata.engine.containers import life
from strata.engine.containers.health import LOG_LENGTH, OUTPUT_LIMIT
from strata.engine.containers.hostconfig import (
    describe_bindings,
    describe_host_config,
    sign_limit,
)
from strata.engine.containers.listing import get_health
from strata.engine.core import Engine, Record
from strata.engine.networks.describing import make_settings
from strata.linux import cgroup, process
from strata.oci import capabilities
from strata.oci.spec import container_hostname
from strata.store import lifecycle

#: what Go's JSON says for a time that never was
NEVER = "0001-01-01T00:00:00Z"
_SECOND = 10**9
_SPANS = (
    ("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"),
    ("start_interval", "StartInterval"),
)  # fmt: skip


def inspect_container(e: Engine, record: Record, *, size: bool = False) -> Record:
    """One container in Podman's shape; ``size`` adds SizeRw and SizeRootFs, in bytes."""
    config, state = record["config"], record["state"]
    status = lifecycle.derive(record)
    live = status in lifecycle.LIVE
    pid = int(state["pid"]) if live else 0
    argv = [*config["entrypoint"], *config["command"]]
    bundle = e.paths.bundle(record["id"])
    bounding = list_bounding(config)
    sizes = _measure(e, record) if size else {}
    return {
        "Id": record["id"],
        "Created": record["created"],
        "Path": argv[0] if argv else "",
        "Args": argv[1:],
        "State": _describe_state(record, status, pid),
        "Image": record["image"],
        "ImageDigest": _find_digest(e, record["image"]),
        "ImageName": record["image_name"],
        "Rootfs": "",
        "Pod": "",
        "ResolvConfPath": f"{bundle}/resolv.conf",
        "HostnamePath": f"{bundle}/hostname",
        "HostsPath": f"{bundle}/hosts",
        "StaticDir": bundle,
        "OCIConfigPath": f"{bundle}/config.json",
        "OCIRuntime": config["runtime"],
        "ConmonPidFile": config.get("conmon_pidfile") or f"{bundle}/conmon.pid",
        "PidFile": config.get("pidfile") or f"{bundle}/pidfile",
        "Name": record["name"],
        "RestartCount": state.get("restarts", 0),
        "Driver": e.driver.name,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": config["apparmor"],
        "EffectiveCaps": life.read_capabilities(pid) if pid else bounding,
        "BoundingCaps": bounding,
        "ExecIDs": list(state.get("execs") or ()),
        "GraphDriver": {"Name": e.driver.name, "Data": {"Dataset": record["dataset"]}},
        **sizes,
        "Mounts": describe_mounts(e, config),
        "Dependencies": list(config.get("requires") or ()),
        "NetworkSettings": make_settings(e, record, live=live),
        "Namespace": "",
        "IsInfra": False,
        "IsService": False,
        "KubeExitCodePropagation": "invalid",
        "lockNumber": 0,
        "Config": _describe_config(record) | {"Env": read_environment(record, bundle)},
        "HostConfig": describe_host_config(config),
        "UseImageHosts": bool(config.get("no_hosts")),
        "UseImageHostname": bool(config.get("no_hostname")),
        "Dataset": record["dataset"],
        "Generation": record["generation"],
        "Branches": record["branches"],
        "Namespaces": life.read_namespaces(pid) if pid else {},
        "EffectiveLimits": read_limits(pid) if pid else {},
        "StorageLimits": _describe_limits(e, record),
    }


def _describe_limits(e: Engine, record: Record) -> list[Record]:
    if not record.get("native"):
        return []
    from strata.engine import limits

    return limits.describe(e, record)


def _describe_state(record: Record, status: str, pid: int) -> Record:
    state = record["state"]
    found: Record = {
        "OciVersion": "1.0.2",
        "Status": status,
        "Running": status in (lifecycle.RUNNING, lifecycle.STOPPING),
        "Paused": status == lifecycle.PAUSED,
        "Restarting": False,
        "OOMKilled": state["oom"],
        "Dead": False,
        "Pid": pid,
        "ExitCode": state["exit_code"],
        "Error": state["error"],
        "StartedAt": state["started"] or NEVER,
        "FinishedAt": state["finished"] or NEVER,
        "CheckpointedAt": state.get("checkpointed") or NEVER,
        "RestoredAt": state.get("restored") or NEVER,
        "Checkpointed": not pid and bool(state.get("checkpointed")),
        "Restored": bool(state.get("restored")),
    }
    if pid:
        found["ConmonPid"] = state["conmon_pid"]
        found["CgroupPath"] = life.read_cgroup(pid)
    if state.get("by_user") and not pid:
        found["StoppedByUser"] = True
    health = get_health(record)
    if health:
        known = state.get("health")
        details = known if isinstance(known, dict) else {}
        found["Health"] = {
            "Status": health,
            "FailingStreak": details.get("streak", 0),
            "Log": details.get("log") or [],
        }
    return found


def _find_digest(e: Engine, image_id: str) -> str:
    image = e.records.find("image", image_id) if image_id else None
    return str(image["manifest_digest"]) if image else ""


def _measure(e: Engine, record: Record) -> Record:
    """What a container's own files take, and those together with its image's, in bytes."""
    from strata.engine.containers.sizes import measure

    own, whole = measure(e, record)
    return {"SizeRw": own, "SizeRootFs": whole}


def list_bounding(config: Record) -> list[str]:
    """The capabilities a container may have at most."""
    host = capabilities.from_mask(process.read_mask("self", "CapBnd"))
    return list(
        capabilities.resolve(
            config["cap_add"], config["cap_drop"], host, privileged=bool(config["privileged"])
        )
    )


def describe_mounts(e: Engine, config: Record) -> list[Record]:
    """The mounts a user asked for: volumes, binds, images. Not those of tmpfs, as with Podman."""
    found = []
    for item in config["mounts"]:
        if item["type"] == "tmpfs":
            continue
        is_volume = item["type"] == "volume"
        options = list(item["options"])
        spread = [text for text in options if text.lstrip("r") in ("private", "shared", "slave")]
        kept = [text for text in options if text not in ("ro", "rw", "z", "Z", *spread)]
        if is_volume:
            kept = ["nosuid", "nodev", *(text for text in kept if text not in ("nosuid", "nodev"))]
        if item["type"] in ("bind", "volume") and not {"bind", "rbind"} & set(kept):
            kept.append("rbind")
        mount: Record = {"Type": item["type"]}
        if is_volume:
            mount["Name"] = item["source"]
        mount |= {
            "Source": e.paths.volume_mountpoint(item["source"]) if is_volume else item["source"],
            "Destination": item["destination"],
            "Driver": "local" if is_volume else "",
            "Mode": "".join(text for text in options if text in ("z", "Z")),
            "Options": kept,
            "RW": "ro" not in options,
            "Propagation": spread[0] if spread else "rprivate",
        }
        if item.get("subpath"):
            mount["SubPath"] = item["subpath"]
        found.append(mount)
    return found


def _describe_config(record: Record) -> Record:
    config = record["config"]
    health = config.get("health") or {}
    found: Record = {
        "Hostname": container_hostname(record, os.uname().nodename),
        "Domainname": "",
        "User": config["user"],
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": config["tty"],
        "OpenStdin": config["stdin"],
        "StdinOnce": False,
        "Env": config["env"],
        "Cmd": config["command"],
        "Image": record["image_name"],
        "Volumes": None,
        "WorkingDir": config["workdir"],
        "Entrypoint": config["entrypoint"],
        "OnBuild": None,
        "Labels": config["labels"],
        "Annotations": config["annotations"],
        "StopSignal": name_signal(config["stop_signal"]),
        "HealthcheckOnFailureAction": health.get("on_failure") or "none",
        "HealthLogDestination": health.get("log_to") or "local",
        "HealthcheckMaxLogCount": health.get("log_count", LOG_LENGTH),
        "HealthcheckMaxLogSize": health.get("log_size", OUTPUT_LIMIT),
        "CreateCommand": list(record.get("command_line") or ()),
        "Umask": config.get("umask") or "0022",
        "Timeout": config.get("timeout") or 0,
        "StopTimeout": config["stop_timeout"],
        "Passwd": bool(config.get("passwd", True)),
        "sdNotifyMode": config.get("sdnotify") or "container",
    }
    if health.get("test"):
        found["Healthcheck"] = _describe_check(health)
    if health.get("startup"):
        found["StartupHealthCheck"] = _describe_check(health["startup"])
        if health["startup"]["success"]:
            found["StartupHealthCheck"]["Successes"] = health["startup"]["success"]
    if config.get("timezone"):
        found["Timezone"] = config["timezone"]
    if config.get("systemd") == "always":
        found["SystemdMode"] = True
    if config.get("secrets"):
        found["Secrets"] = [
            {"Name": item.get("name", ""), "ID": item.get("id", ""), "UID": item.get("uid", 0),
             "GID": item.get("gid", 0), "Mode": item.get("mode", 0o444)}
            for item in config["secrets"] if isinstance(item, dict)
        ]  # fmt: skip
    ports = describe_bindings(config.get("ports") or [], config.get("expose") or ())
    if ports:
        found["ExposedPorts"] = {key: {} for key in ports}
    return found


def read_environment(record: Record, bundle: str) -> list[str]:
    """The variables of a container: what its last run had of them (with HOME, HOSTNAME, TERM),
    before the first what it was made with. What a secret gives is not shown."""
    config = record["config"]
    try:
        with open(f"{bundle}/config.json", errors="surrogateescape") as file:
            found = jsontext.loads(file.read())["process"]["env"]
    except (OSError, ValueError, KeyError, TypeError):
        return list(config["env"])
    hidden = {item.get("target") or item.get("name") for item in config.get("secrets") or ()
              if item.get("type") == "env"}  # fmt: skip
    return [text for text in found if text.partition("=")[0] not in hidden]


def name_signal(number: int) -> str:
    """``SIGTERM`` for 15, ``SIGRTMIN+3`` for 37."""
    from signal import Signals

    try:
        return Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}"


def _describe_check(health: Record) -> Record:
    """A health check as images write it: durations in nanoseconds, only what is not zero."""
    found: Record = {"Test": health["test"]}
    for key, name in _SPANS:
        if health.get(key):
            found[name] = round(health[key] * _SECOND)
    if health.get("retries"):
        found["Retries"] = health["retries"]
    return found


#: name in the answer -> (v2 file, v1 controller, v1 file)
_LIMIT_FILES = {
    "Memory": ("memory.max", "memory", "memory.limit_in_bytes"),
    "MemorySwap": ("memory.swap.max", "memory", "memory.memsw.limit_in_bytes"),
    "MemoryReservation": ("memory.low", "memory", "memory.soft_limit_in_bytes"),
    "Pids": ("pids.max", "pids", "pids.max"),
    "CpuWeight": ("cpu.weight", "cpu", "cpu.shares"),
    "CpuQuota": ("cpu.max", "cpu", "cpu.cfs_quota_us"),
    "CpusetCpus": ("cpuset.cpus.effective", "cpuset", "cpuset.effective_cpus"),
}  # fmt: skip
#: the kernel's way to say that v1 memory has no limit: the largest multiple of a page
_V1_UNLIMITED = 2**63 - 4096 * 16


def read_limits(pid: int) -> Record:
    """The limits that hold for a running process, as the kernel has them; -1: none.

    From its cgroup (bytes, processes, ``QUOTA PERIOD``), and ``Ulimits`` from proc_pid_limits(5).
    ``MemorySwap`` is swap alone on v2, memory and swap on v1.
    """
    from strata.runtime.host import parse_limits

    folders = cgroup.find_directories(pid)
    found: Record = {}
    for name, (unified, controller, classic) in _LIMIT_FILES.items():
        path = f"{folders['']}/{unified}" if "" in folders else ""
        if not path and controller in folders:
            path = f"{folders[controller]}/{classic}"
        text = _read_line(path) if path else ""
        if text:
            found[name] = _to_limit(text)
    try:
        with open(f"/proc/{pid}/limits") as file:
            limits = parse_limits(file.read())
    except (FileNotFoundError, ProcessLookupError):
        limits = {}
    found["Ulimits"] = [
        {"Name": f"RLIMIT_{name.upper()}", "Soft": sign_limit(soft), "Hard": sign_limit(hard)}
        for name, (soft, hard) in sorted(limits.items())
    ]
    return found


def _read_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def _to_limit(text: str) -> int | str:
    if text == "max" or text.startswith("max "):
        return -1
    if text.lstrip("-").isdigit():
        return -1 if int(text) >= _V1_UNLIMITED else int(text)
    return text
