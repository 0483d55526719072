"""Volumes on the host: each has a mountpoint that stays the same over rollbacks.

The data lies at the dataset's root. Its head is mounted at ``<root>/volumes/<name>/_data``,
nosuid and nodev, below directories of mode 0700, before first use and whenever somebody asks for
the mountpoint. Containers bind from there.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine.core import Engine, Record
from strata.errors import InUse
from strata.linux import mount
from strata.storage import layout
from strata.storage.driver import DatasetNotFound

HIDDEN_FLAGS = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV


def ensure_mounted(e: Engine, record: Record) -> str:
    """Mount a volume's head at its mountpoint if it is not; return the path."""
    target = e.paths.volume_mountpoint(record["name"])
    try:
        if mount.shows(target, e.driver.open(record["dataset"])):
            return target
    except DatasetNotFound:
        pass  # somebody renamed it by hand: see below
    with e.hold(record) as fresh:  # the head may be another by now
        return mount_locked(e, fresh)


def mount_locked(e: Engine, record: Record) -> str:
    """Like `ensure_mounted`, for a caller that has the volume's lock."""
    target = e.paths.volume_mountpoint(record["name"])
    try:
        source = e.driver.open(record["dataset"])
    except DatasetNotFound:
        from strata.engine.history import facts

        source = e.driver.open(facts.reconcile_locked(e, record)["dataset"])
    if mount.shows(target, source):
        return target
    for folder in (e.paths.volumes, os.path.dirname(target), target):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
    trace.point("volume:stale")
    e.unmount_volume(record["name"])
    mount.bind(source, target, add=HIDDEN_FLAGS)
    return target


def unmount(e: Engine, record: Record) -> None:
    """Take a volume that lies outside the store from its mountpoint, so that its pool can be
    exported or unmounted; others stay mounted. `InUse` while a container that uses it runs."""
    if not layout.is_outside(record["dataset"]):
        return
    from strata.engine.holders import list_live_users

    with e.hold(record) as fresh:
        users = ", ".join(user["name"] for user in list_live_users(e, fresh))
        if users:
            raise InUse(f"volume {fresh['name']} is in use by running container(s): {users}",
                        hint="stop them first")  # fmt: skip
        e.unmount_volume(fresh["name"])
        e.driver.close(fresh["dataset"])
