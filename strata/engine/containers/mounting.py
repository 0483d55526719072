"""``mount`` and ``unmount``: a container's root file system, seen from the host.

It appears at ``<root>/mounts/<id>``, nosuid and nodev, below directories only root may enter. Like
Podman's, the mounts of one container are counted: it goes with the last ``unmount``. The count
lies in the run directory, so it ends with the boot, as the mount does.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import events
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.volumes.mounting import HIDDEN_FLAGS
from strata.errors import StateImproper
from strata.linux import mount
from strata.store.files import write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.store.paths import Paths


def find_mountpoint(e: Engine, container_id: str) -> str:
    """Where a container's files appear."""
    return f"{e.paths.root}/mounts/{container_id}"


def _counter(e: Engine, container_id: str) -> str:
    return f"{e.paths.runroot}/mounted/{container_id}"


def read_count(e: Engine, container_id: str) -> int:
    """How often a container was mounted and not unmounted."""
    try:
        with open(_counter(e, container_id)) as file:
            return int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def _write_count(e: Engine, container_id: str, count: int) -> None:
    path = _counter(e, container_id)
    if count:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        write_bytes(path, str(count).encode(), durable=False)
    elif os.path.exists(path):
        os.unlink(path)


def mount_container(e: Engine, record: Record) -> str:
    """Show a container's files on the host; return where."""
    target = find_mountpoint(e, record["id"])
    with e.hold(record) as fresh:
        record = fresh
        count = read_count(e, record["id"])
        # Counted first: what is counted and not there is mounted again, never forgotten.
        _write_count(e, record["id"], count + 1)
        trace.point("mount:counted")
        source = f"{e.driver.open(record['dataset'])}/{ROOTFS}"
        if not mount.shows(target, source):
            _take_down(target)
            for folder in (os.path.dirname(target), target):
                os.makedirs(folder, 0o700, exist_ok=True)
            mount.bind(source, target, add=HIDDEN_FLAGS)
    events.emit_container(e, "mount", record)
    return target


def unmount_container(e: Engine, record: Record, *, force: bool = False) -> None:
    """Undo one `mount_container`, all with ``force``. `StateImproper` when there was none."""
    with e.lock_container(record["id"], name=record["name"]):
        count = read_count(e, record["id"])
        if not count and not force:
            raise StateImproper(
                f"container {record['name']} is not mounted", hint="`strata mount` lists them"
            )
        if force or count <= 1:
            _take_down(find_mountpoint(e, record["id"]))
            trace.point("unmount:done")
            count = 1
        _write_count(e, record["id"], count - 1)
    events.emit_container(e, "unmount", record)


def forget(e: Engine, container_id: str) -> None:
    """Take a container's mount away because the container goes. Idempotent, cheap without one."""
    if os.path.exists(_counter(e, container_id)):
        _take_down(find_mountpoint(e, container_id))
        _write_count(e, container_id, 0)


def forget_all(paths: Paths) -> None:
    """Take every container's mount away because the store goes. Idempotent."""
    folder = f"{paths.root}/mounts"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        _take_down(f"{folder}/{name}")


def list_mounted(e: Engine) -> list[tuple[Record, str]]:
    """Mounted containers and where their files are."""
    try:
        ids = os.listdir(f"{e.paths.runroot}/mounted")
    except FileNotFoundError:
        return []
    found = [e.records.find("container", container_id) for container_id in sorted(ids)]
    return [(record, find_mountpoint(e, record["id"])) for record in found if record is not None]


def _take_down(target: str) -> None:
    mount.take_down(target)
    try:
        os.rmdir(target)
    except OSError:
        return
