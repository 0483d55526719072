"""Who uses a dataset: containers by their records, and by the facts the mounts of processes.

A process in a mount namespace of its own (a debugger, a container of another engine with a bind
mount of ours) is known only to the kernel. Each namespace is read once. Our own mounts below the
state and run directories do not count, nor do the copies of them that every conmon's namespace
inherits.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.linux import mount
from strata.storage import layout
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def list_users(e: Engine, volume_id: str) -> list[Record]:
    """Containers that have a volume among their mounts."""
    return [
        container
        for container in e.records.list_records("container")
        if any(m.get("volume") == volume_id for m in container["config"].get("mounts", ()))
    ]


def list_live_users(e: Engine, record: Record) -> list[Record]:
    """Running containers that must be stopped before the target may change under them."""
    candidates = [record] if record["kind"] == "container" else list_users(e, record["id"])
    return [c for c in candidates if lifecycle.derive(c) in lifecycle.LIVE]


class Holder:
    """A process that has a dataset mounted, and where."""

    __slots__ = ("command", "pid", "target")

    def __init__(self, pid: int, command: str, target: str) -> None:
        self.pid = pid
        self.command = command
        self.target = target

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) at {self.target}"


def find_holders(e: Engine, datasets: Collection[str], known_pids: Collection[int]) -> list[Holder]:
    """Processes outside ``known_pids``' namespaces that have one of the datasets mounted."""
    wanted = {name for name in datasets if not layout.is_outside(name)}
    outside = [name for name in datasets if layout.is_outside(name)]
    if not wanted and not outside:
        return []
    here = mount.list_mounts() if outside else []
    seen = {_namespace(pid) for pid in known_pids}
    seen.add(None)
    ours = (f"{e.paths.root}/", f"{e.paths.runroot}/")
    pool = mount.find_mount(f"{e.paths.root}/pool")
    source = e.config.dataset or (pool.source if pool else "")
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        namespace = _namespace(int(name))
        if namespace in seen:
            continue
        seen.add(namespace)
        listed = mount.list_mounts(name, naming="" if outside else source)
        mounts = [m for m in listed if not m.target.startswith(ours)]
        shown = e.driver.outside.find_shown(outside, here, mounts) if outside else []
        for entry in mounts:
            if entry in shown or _dataset_of(e, entry, source) in wanted:
                found.append(Holder(int(name), _command(name), entry.target))
    return found


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _dataset_of(e: Engine, entry: mount.MountInfo, pool: str) -> str:
    """The dataset a mount shows, relative to the root dataset; "" when it is none of ours."""
    if e.config.dataset:
        prefix = f"{e.config.dataset}/"
        return entry.source.removeprefix(prefix) if entry.source.startswith(prefix) else ""
    if entry.fstype != "btrfs" or entry.source != pool:
        return ""
    parts = entry.root.strip("/").split("/")
    depth = 3 if parts[0] == "volumes" else 2
    return "/".join(parts[:depth])
