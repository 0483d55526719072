"""What only zfs-fuse needs: its daemon, its mounts, a look into snapshots.

The daemon serves one machine (its socket has a fixed path) and mounts in the namespace it was
started in. It offers no ``.zfs/snapshot``, so the files of a snapshot are shown by a clone below
``trash/``, a *view*, that lives from `open_dataset` to `close_dataset`.
"""

from __future__ import annotations

import os
import socket
import time

from strata import command
from strata.errors import NotFound, StorageError, StoreMissing
from strata.linux import cgroup, mount, process
from strata.linux.locks import Lock, lock
from strata.storage import layout
from strata.storage.driver import DatasetBusy, DatasetExists, DatasetNotFound
from strata.storage.zfs import is_mounted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.zfs import Zfs

SOCKET = "/var/run/zfs/zfs_socket"
_VIEW = "trash/view."
_START_SECONDS = 15.0
_YIELD_SECONDS = 3.0
_STOP_SECONDS = 15.0
_PAUSE = 0.02


def _lock_mounts(root: str) -> Lock:
    return lock(f"{root}/.mount.lock", what="a zfs-fuse mount")


def get_mountpoint(root: str) -> str:
    """Where the daemon mounts the store's root dataset; its children lie below."""
    return f"{root}/fuse"


# -- datasets ----------------------------------------------------------------------------------


def open_dataset(driver: Zfs, name: str, target: str) -> None:
    """Let the daemon mount a dataset (or a view of a snapshot) and bind it at ``target``."""
    with _lock_mounts(driver.root):
        if is_mounted(target):
            return
        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
        source = name
        if "@" in name:
            source = _view_of(driver, name)
            attributes |= mount.MOUNT_ATTR_RDONLY
            try:
                driver.clone(name, source, {"kind": "view", "name": name})
            except DatasetExists:
                pass
        path = _get_path(driver, source)
        if not is_mounted(path):
            try:
                driver.change_settled(source, "mount", driver.full_name(source))
                driver.changes -= 1  # nothing is written
            except DatasetBusy as error:
                if "already mounted" not in error.message:
                    raise
        if not is_mounted(path):
            raise StorageError(
                f"zfs-fuse mounted {name} where this command cannot see it",
                hint="run strata in the mount namespace the daemon was started in",
            )
        mount.bind(path, target, add=attributes)


def close_dataset(driver: Zfs, name: str) -> None:
    """Undo `open_dataset` after the bind is gone."""
    view = "@" in name
    if view and driver.find(name) is None:
        return
    source = _view_of(driver, name) if view else name
    with _lock_mounts(driver.root):
        path = _get_path(driver, source)
        # A mount of the owner's is left alone.
        while path.startswith(f"{get_mountpoint(driver.root)}/") and is_mounted(path):
            try:
                mount.unmount(path)
            except OSError as error:
                if error.errno == 16:
                    raise DatasetBusy(f"{name}: files of it are open") from error
                raise
        if not layout.is_outside(source) or layout.is_made(source):
            try:
                os.rmdir(path)
            except OSError:
                pass
        if view and driver.find(source) is not None:
            driver.change_settled(source, "destroy", driver.full_name(source))


def _view_of(driver: Zfs, snapshot: str) -> str:
    guid = driver.get(snapshot).guid
    if layout.is_outside(snapshot):
        parent = snapshot.partition("@")[0].rpartition("/")[0]
        return f"{parent}/view-{guid}{layout.MADE}{int(guid) & 0xFFFFFFFF:08x}"
    return f"{_VIEW}{guid}"


def _get_path(driver: Zfs, name: str) -> str:
    """Where the daemon mounts a dataset: below the root dataset's mount, or where it says."""
    if not layout.is_outside(name):
        return f"{get_mountpoint(driver.root)}/{name}"
    if layout.is_made(name):
        return f"{get_mountpoint(driver.root)}/{layout.flatten(name)}"
    try:
        return driver.get_properties(name, ["mountpoint"]).get("mountpoint", "")
    except DatasetNotFound:
        return ""


def close_views(driver: Zfs, dataset: str) -> bool:
    """Close the views of a dataset's snapshots; whether there was one."""
    found = False
    for snapshot in driver.list_snapshots(dataset):
        if any(clone.startswith(_VIEW) or "/view-" in clone for clone in snapshot.clones):
            driver.close(snapshot.full_name)
            found = True
    return found


def collect(driver: Zfs, parent: str = "trash") -> list[str]:
    """Destroy views below a dataset that nobody has mounted."""
    removed: list[str] = []
    for entry in driver.list_datasets(parent):
        if entry.identity.get("kind") != "view" or not layout.is_made(entry.name):
            continue
        path = _get_path(driver, entry.name)
        if is_mounted(path) or not _is_at(driver, entry.name, path):
            continue
        try:
            driver.change_settled(entry.name, "destroy", driver.full_name(entry.name))
        except DatasetBusy:
            continue
        removed.append(entry.name)
    return removed


def _is_at(driver: Zfs, name: str, path: str) -> bool:
    """Whether a dataset is mounted at a path when it is: another store's view is not at ours."""
    return driver.get_properties(name, ["mountpoint"]).get("mountpoint") == path


# -- the daemon --------------------------------------------------------------------------------


def is_running() -> bool:
    """Whether a daemon answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(SOCKET)
    except OSError:
        return False
    finally:
        connection.close()
    return True


def ensure_daemon(root: str) -> bool:
    """Start the daemon unless one runs; whether it was started. It outlives the command."""
    if is_running():
        return False
    if not os.path.exists("/dev/fuse"):
        raise StoreMissing("zfs-fuse needs /dev/fuse", hint="load the fuse module")
    if command.find_program("zfs-fuse") is None:
        raise NotFound("the program 'zfs-fuse' is not installed", hint="apt-get install zfs-fuse")
    os.makedirs(os.path.dirname(SOCKET), 0o700, exist_ok=True)
    pid = command.spawn(
        ["env", "-C", "/", "zfs-fuse", "-n", "--no-kstat-mount", "--enable-xattr"],
        new_session=True, keep_locks=False,
    )  # fmt: skip
    cgroup.move_to_own(pid)
    start = process.find_start_time(pid) or 0
    with open(f"{root}/zfs-fuse.pid", "w") as file:
        file.write(f"{pid} {start}\n")
    deadline = time.monotonic() + _START_SECONDS
    while not is_running():
        if not process.is_alive(pid, start):
            # Another command may have been first: then ours ends at once and that one comes up.
            deadline = min(deadline, time.monotonic() + _YIELD_SECONDS)
            pid = 0
        if time.monotonic() >= deadline:
            raise StoreMissing("zfs-fuse does not start", hint="run `zfs-fuse -n` to see why")
        time.sleep(_PAUSE)
    return pid != 0


def stop_daemon(root: str) -> None:
    """End the daemon this store started, unless it has pools. Idempotent."""
    path = f"{root}/zfs-fuse.pid"
    try:
        with open(path) as file:
            pid, start = (int(field) for field in file.read().split())
    except (OSError, ValueError):
        return
    if process.is_alive(pid, start):
        if command.run(["zpool", "list", "-H", "-o", "name"], check=False).text.strip():
            return
        fd = process.open_pidfd(pid)
        try:
            process.signal_pidfd(fd, 15)
        finally:
            os.close(fd)
        process.wait_gone(pid, start, _STOP_SECONDS)
        try:
            os.waitpid(pid, os.WNOHANG)  # when it was started by this very process
        except ChildProcessError:
            pass
    os.unlink(path)


def clear_dead_mounts(root: str) -> None:
    """Take away mounts whose daemon died: every access to them fails."""
    for entry in reversed(mount.list_mounts()):
        if entry.fstype == "fuse.zfs" and entry.target.startswith(f"{root}/"):
            try:
                os.stat(entry.target)
            except OSError:
                mount.unmount(entry.target, lazy=True)
