"""What a container needs in which systemd is the first process. Pure.

Source: Podman's ``--systemd``, and systemd's own CONTAINER_INTERFACE: memory file systems at the
places that must be empty at boot, a cgroup of its own that it may write to, and an id.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.oci.facts import HostFacts

#: SIGRTMIN+3, which systemd takes as "halt"
STOP_SIGNAL = 37
_PLACES = ("/run", "/run/lock", "/tmp", "/var/log/journal")
_INITS = frozenset(("/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"))
_OPTIONS = ("rprivate", "nosuid", "nodev", "tmpcopyup", "rw")


def is_init(argv: list[str]) -> bool:
    """Whether a command line starts systemd or an init."""
    if argv[:2] == ["/bin/sh", "-c"] and len(argv) > 2:
        argv = argv[2:]
    return bool(argv) and (argv[0] in _INITS or argv[0].rpartition("/")[2] == "systemd")


def add(spec: dict[str, Any], record: Mapping[str, Any], host: HostFacts) -> None:
    """Prepare a spec for systemd; what the user mounts stays."""
    mounts = {item["destination"]: item for item in spec["mounts"]}
    size = record["config"].get("shm_size_systemd")
    limit = [f"size={size}"] if size else []
    for place in _PLACES:
        if place not in mounts or mounts[place]["type"] == "tmpfs":
            mode = "mode=1777" if place == "/tmp" else "mode=0755"
            mounts.setdefault(place, {
                "destination": place, "type": "tmpfs", "source": "tmpfs",
                "options": [*_OPTIONS, mode, *limit],
            })  # fmt: skip
    cgroup = mounts.get("/sys/fs/cgroup")
    if cgroup is not None and cgroup["type"] == "cgroup":
        if host.cgroup == "v2":
            cgroup["options"] = [o for o in cgroup["options"] if o != "ro"] + ["rw"]
        else:
            place = "/sys/fs/cgroup/systemd"
            mounts[place] = {
                "destination": place, "type": "bind",
                "source": f"{place}{spec['linux'].get('cgroupsPath', '')}",
                "options": ["bind", "nodev", "noexec", "nosuid", "rprivate"],
            }  # fmt: skip
    spec["mounts"] = sorted(mounts.values(), key=lambda item: item["destination"].count("/"))
    if not any(item.startswith("container_uuid=") for item in spec["process"]["env"]):
        spec["process"]["env"].append(f"container_uuid={str(record['id'])[:32]}")
