"""Limits of a container that it has only when asked for: cgroups, OOM, devices. Pure.

Source: OCI runtime spec ``config-linux.md``; runtimes translate the values of cgroup v1 to v2.
Whether the host can hold them was checked before (`strata.runtime.limits`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts

_CPU = {
    "cpu_shares": "shares", "cpu_quota": "quota", "cpu_period": "period",
    "cpu_rt_period": "realtimePeriod", "cpu_rt_runtime": "realtimeRuntime", "cpuset_cpus": "cpus",
    "cpuset_mems": "mems",
}  # fmt: skip
_THROTTLES = {
    "read_bps": "throttleReadBpsDevice", "write_bps": "throttleWriteBpsDevice",
    "read_iops": "throttleReadIOPSDevice", "write_iops": "throttleWriteIOPSDevice",
}  # fmt: skip


def add(spec: dict[str, Any], record: Mapping[str, Any], host: HostFacts) -> None:
    """Put what the container asks for into a spec made from everyday limits."""
    config = record["config"]
    linux = spec["linux"]
    resources = linux["resources"]
    memory = _make_memory(config, resources.get("memory") or {})
    if memory:
        resources["memory"] = memory
    cpu = {name: config[key] for key, name in _CPU.items() if config.get(key)}
    if cpu:
        resources["cpu"] = {**resources.get("cpu", {}), **cpu}
    block = _make_block(config, host.numbers)
    if block:
        resources["blockIO"] = block
    if config.get("cgroup_conf"):
        resources["unified"] = dict(config["cgroup_conf"])
    if config.get("oom_score_adj") is not None:
        spec["process"]["oomScoreAdj"] = config["oom_score_adj"]
    if config.get("sysctls"):
        linux["sysctl"] = dict(config["sysctls"])
    _add_devices(linux, config, host.given_devices)
    if config.get("cgroups") == "disabled":
        # Nothing can be limited where there is no cgroup.
        del linux["cgroupsPath"]
        linux["resources"] = {"devices": resources["devices"]}


def _make_memory(config: Mapping[str, Any], memory: dict[str, Any]) -> dict[str, Any]:
    if config.get("memory_swap") and "limit" in memory:
        memory["swap"] = config["memory_swap"]
    if config.get("memory_reservation"):
        memory["reservation"] = config["memory_reservation"]
    if config.get("memory_swappiness") is not None:
        memory["swappiness"] = config["memory_swappiness"]
    if config.get("oom_kill_disable"):
        memory["disableOOMKiller"] = True
    return memory


def _make_block(
    config: Mapping[str, Any], numbers: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if config.get("blkio_weight"):
        block["weight"] = config["blkio_weight"]
    weights = config.get("blkio_weight_devices")
    if weights:
        block["weightDevice"] = [
            {**_number(numbers, item["path"]), "weight": item["weight"]} for item in weights
        ]
    for key, items in (config.get("blkio_throttle") or {}).items():
        block[_THROTTLES[key]] = [
            {**_number(numbers, item["path"]), "rate": item["rate"]} for item in items
        ]
    return block


def _number(numbers: Mapping[str, tuple[int, int]], path: str) -> dict[str, int]:
    major, minor = numbers[path]
    return {"major": major, "minor": minor}


def _add_devices(
    linux: dict[str, Any], config: Mapping[str, Any], given: Sequence[Mapping[str, Any]]
) -> None:
    """Nodes with their permission, then the rules; a later one wins over an earlier."""
    rules = linux["resources"]["devices"]
    if given:
        nodes = {node["path"]: node for node in linux.get("devices") or ()}
        for device in given:
            node = {key: value for key, value in device.items() if key != "access"}
            nodes[node["path"]] = node
            rules.append({
                "allow": True, "type": node["type"], "major": node["major"],
                "minor": node["minor"], "access": device["access"],
            })  # fmt: skip
        linux["devices"] = list(nodes.values())
    for text in config.get("device_rules") or ():
        kind, pair, access = text.split()
        major, _, minor = pair.partition(":")
        rule: dict[str, Any] = {"allow": True, "type": kind}
        for name, number in (("major", major), ("minor", minor)):
            if number != "*":
                rule[name] = int(number)
        rules.append({**rule, "access": access})
