"""Namespaces of a container other than its own: the host's, another container's, or pinned. Pure.

A mode is ``private``, ``host``, ``container:ID`` or ``ns:PATH``; that of IPC also ``shareable``
(private, but others may join) and ``none`` (private and without /dev/shm). What a container or a
path stands for was looked up before: `strata.oci.facts.HostFacts.joined`.

The time namespace is never in a spec: the runtime is started in it. (crun 1.8 makes or joins one in
the first process of the pid namespace, which then ends, and the container with it.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.oci.facts import HostFacts

#: config key -> the namespace's name in the spec
KINDS = {
    "pid_mode": "pid", "ipc_mode": "ipc", "uts_mode": "uts", "time_mode": "time",
    "cgroupns": "cgroup", "userns": "user",
}  # fmt: skip
#: where a joined container's /dev/shm is put in the bundle
SHM = "shm"


def change(spec: dict[str, Any], config: Mapping[str, Any], host: HostFacts, bundle: str) -> None:
    """Give a spec, made with namespaces of its own, those that the container asks for."""
    linux = spec["linux"]
    kinds = {item["type"]: item for item in linux["namespaces"]}
    for key, kind in KINDS.items():
        mode = config.get(key)
        if not mode or kind == "time":
            continue
        if mode == "host":
            kinds.pop(kind, None)
        elif kind in host.joined:
            kinds[kind] = {"type": kind, "path": host.joined[kind]}
        else:
            kinds[kind] = {"type": kind}
    linux["namespaces"] = list(kinds.values())
    if "user" in kinds:
        _map_users(spec, config, joined="user" in host.joined)
    if config.get("uts_mode", "private") != "private":
        # It is that of the namespace, and not ours to change.
        del spec["hostname"]
    ipc = str(config.get("ipc_mode") or "")
    mounts = {item["destination"]: item for item in spec["mounts"]}
    if ipc == "host":
        # What a mount of mqueue shows is that of the namespace anyway.
        _bind(mounts, "/dev/shm")
    elif ipc == "none":
        if mounts.get("/dev/shm", {}).get("source") == "shm":
            del mounts["/dev/shm"]
    elif ipc.startswith("container:"):
        _bind(mounts, f"{bundle}/{SHM}")
    spec["mounts"] = list(mounts.values())


#: the group of terminals, which devpts is mounted with
_TTY = 5


def _map_users(spec: dict[str, Any], config: Mapping[str, Any], *, joined: bool) -> None:
    if not joined:
        for name in ("uid", "gid"):
            spec["linux"][f"{name}Mappings"] = [
                {"containerID": inside, "hostID": outside, "size": count}
                for inside, outside, count in config[f"{name}_map"]
            ]
    groups = config["gid_map"]
    if not any(inside <= _TTY < inside + count for inside, _, count in groups):
        for item in spec["mounts"]:
            if item["type"] == "devpts":
                item["options"] = [o for o in item["options"] if o != f"gid={_TTY}"]


def _bind(mounts: dict[str, dict[str, Any]], source: str) -> None:
    """Put a bind in place of the default /dev/shm, but not of what the user mounts there."""
    if mounts.get("/dev/shm", {}).get("source") == "shm":
        mounts["/dev/shm"] = {
            "destination": "/dev/shm", "type": "bind", "source": source,
            "options": ["bind", "rprivate", "nosuid", "noexec", "nodev"],
        }  # fmt: skip
