"""The settings of a container under the names of ``HostConfig``, as ``inspect`` shows them. Pure
but for the kind of cgroups the host has.
"""

from __future__ import annotations

from strata.linux import cgroup
from strata.oci.mounts import SHM_SIZE
from strata.oci.spec import PIDS_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Record = dict[str, Any]


def describe_host_config(config: Mapping[str, Any]) -> Record:
    """``HostConfig`` of a record's ``config``; what an older one lacks has Podman's default."""
    get = config.get
    restart = get("restart") or {}
    memory = config["memory"] or 0
    swap = get("memory_swap")
    cpus = config["cpus"] or 0
    period, quota = get("cpu_period") or 0, get("cpu_quota") or 0
    if cpus:
        period, quota = 100_000, round(cpus * 100_000)
    throttle = get("blkio_throttle") or {}
    found: Record = {
        "Binds": [_describe_bind(item) for item in config["mounts"] if item["type"] != "tmpfs"],
        "CgroupManager": "cgroupfs",
        "CgroupMode": get("cgroupns") or ("private" if cgroup.get_mode() == "v2" else "host"),
        "ContainerIDFile": get("cidfile") or "",
        "LogConfig": {
            "Type": config["log_driver"],
            "Config": None,
            "Path": config["log_path"],
            "Tag": get("log_tag") or "",
            "Size": f"{get('log_size') or 0}B",
        },
        "NetworkMode": config["network"],
        "PortBindings": describe_bindings(get("ports") or []),
        "RestartPolicy": {
            "Name": restart.get("policy") or "no",
            "MaximumRetryCount": restart.get("retries") or 0,
        },
        "AutoRemove": config["remove"],
        "AutoRemoveImage": bool(get("remove_image")),
        "Annotations": config["annotations"],
        "VolumeDriver": "",
        "VolumesFrom": get("volumes_from") or None,
        "CapAdd": config["cap_add"],
        "CapDrop": config["cap_drop"],
        "Dns": get("dns") or [],
        "DnsOptions": get("dns_option") or [],
        "DnsSearch": get("dns_search") or [],
        "ExtraHosts": config["add_hosts"],
        "HostsFile": get("hosts_file") or "",
        "GroupAdd": get("group_add") or [],
        "IpcMode": get("ipc_mode") or "shareable",
        "Cgroup": "",
        "Cgroups": "default" if get("cgroups") in (None, "", "enabled") else get("cgroups"),
        "Links": None,
        "OomScoreAdj": get("oom_score_adj") or 0,
        "PidMode": get("pid_mode") or "private",
        "Privileged": config["privileged"],
        "PublishAllPorts": bool(get("publish_all")),
        "ReadonlyRootfs": config["read_only"],
        "SecurityOpt": _describe_security(config),
        "Tmpfs": {
            path: ",".join(["rw,rprivate,nosuid,nodev,tmpcopyup", *([given] if given else [])])
            for path, given in config["tmpfs"].items()
        },
        "UTSMode": get("uts_mode") or "private",
        "UsernsMode": get("userns") or "",
        "ShmSize": config["shm_size"] or SHM_SIZE,
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": get("cpu_shares") or 0,
        "Memory": memory,
        "NanoCpus": round(cpus * 10**9),
        "CgroupParent": get("cgroup_parent") or "",
        "BlkioWeight": get("blkio_weight") or 0,
        "BlkioWeightDevice": [
            {"Path": item["path"], "Weight": item["weight"]}
            for item in get("blkio_weight_devices") or ()
        ],
        "BlkioDeviceReadBps": _describe_rates(throttle.get("read_bps")),
        "BlkioDeviceWriteBps": _describe_rates(throttle.get("write_bps")),
        "BlkioDeviceReadIOps": _describe_rates(throttle.get("read_iops")),
        "BlkioDeviceWriteIOps": _describe_rates(throttle.get("write_iops")),
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuRealtimePeriod": get("cpu_rt_period") or 0,
        "CpuRealtimeRuntime": get("cpu_rt_runtime") or 0,
        "CpusetCpus": get("cpuset_cpus") or "",
        "CpusetMems": get("cpuset_mems") or "",
        "Devices": [
            {
                "PathOnHost": item["source"],
                "PathInContainer": item["destination"],
                "CgroupPermissions": item.get("permissions") or "",
            }
            for item in get("devices") or ()
        ],
        "DiskQuota": 0,
        "KernelMemory": 0,
        "MemoryReservation": get("memory_reservation") or 0,
        "MemorySwap": (2 * memory if swap is None else swap),
        "MemorySwappiness": -1 if get("memory_swappiness") is None else get("memory_swappiness"),
        "OomKillDisable": bool(get("oom_kill_disable")),
        "PidsLimit": PIDS_LIMIT if config["pids_limit"] is None else max(0, config["pids_limit"]),
        "Ulimits": [
            {
                "Name": item["type"],
                "Soft": sign_limit(item["soft"]),
                "Hard": sign_limit(item["hard"]),
            }
            for item in config["ulimits"]
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "CgroupConf": get("cgroup_conf") or None,
        "Init": config["init"],
        "Sysctls": get("sysctls") or {},
        "StorageOpt": config["storage"],
    }
    if get("uid_map") or get("gid_map"):
        found["IDMappings"] = {
            "UidMap": [":".join(str(number) for number in line) for line in get("uid_map") or ()],
            "GidMap": [":".join(str(number) for number in line) for line in get("gid_map") or ()],
        }
    return found


def _describe_bind(item: Record) -> str:
    options = [text for text in item["options"] if text not in ("ro", "rw", "z", "Z")]
    access = "ro" if "ro" in item["options"] else "rw"
    if not any(text.lstrip("r") in ("private", "shared", "slave") for text in options):
        options.insert(0, "rprivate")
    if item["type"] == "volume":
        options += [text for text in ("nosuid", "nodev") if text not in options]
    if item["type"] in ("bind", "volume") and not {"bind", "rbind"} & set(options):
        options.append("rbind")
    return f"{item['source']}:{item['destination']}:{','.join([access, *options])}"


def _describe_rates(items: list[Record] | None) -> list[Record]:
    return [{"Path": item["path"], "Rate": item["rate"]} for item in items or ()]


def _describe_security(config: Mapping[str, Any]) -> list[str]:
    options = ["no-new-privileges"] if config["no_new_privileges"] else []
    options += [f"{key}={config[key]}" for key in ("seccomp", "apparmor") if config[key]]
    options += [f"label={text}" for text in config["label_opts"]]
    if config.get("proc_opts"):
        options.append(f"proc-opts={','.join(config['proc_opts'])}")
    for key in ("mask", "unmask"):
        if config[key]:
            options.append(f"{key}={':'.join(config[key])}")
    return options


def sign_limit(limit: int) -> int:
    """A limit as Podman shows it: unlimited is -1."""
    return -1 if limit >= 2**63 else limit


def describe_bindings(ports: Iterable[Record], exposed: Iterable[str] = ()) -> Record:
    """Port mappings as inspect has them: ``80/tcp`` -> ``[{"HostIp", "HostPort"}]``.

    A port that is only exposed has None.
    """
    found: Record = {}
    for port in ports:
        for number in range(int(port.get("range") or 1)):
            key = f"{port['container_port'] + number}/{port.get('protocol') or 'tcp'}"
            host = {
                "HostIp": port.get("host_ip") or "0.0.0.0",
                "HostPort": str(port["host_port"] + number) if port.get("host_port") else "",
            }
            found.setdefault(key, []).append(host)
    for item in exposed:
        found.setdefault(item if "/" in item else f"{item}/tcp", None)
    return found
