"""``volume export`` and ``import``: a volume's files as a tar archive."""

from __future__ import annotations

import os

from strata import trace
from strata.engine import limits, names
from strata.engine.core import Engine
from strata.engine.history.targets import COMMIT_PREFIX
from strata.engine.spool import Spool, unpack
from strata.engine.volumes.mounting import mount_locked
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def export(e: Engine, name: str, write: Callable[[bytes], object]) -> None:
    """Write a volume's files as a tar, as they are at one moment."""
    from strata.archive.diff import export_tree

    record = names.get_volume(e, name)
    with e.begin("volume-export") as operation:
        with e.hold(record) as record:
            moment = f"{record['dataset']}@{COMMIT_PREFIX}{new_id(16)}"
            operation.plan(["unsnapshot", moment])
            e.driver.snapshot([moment])
        trace.point("volume-export:frozen")
        try:
            export_tree(e.driver.open(moment), write)
        finally:
            e.driver.close(moment)
            e.driver.destroy(moment)


def import_(e: Engine, name: str, fd: int) -> None:
    """Unpack a tar archive, also a compressed one, over a volume's files. `ArchiveError`.

    A broken archive changes nothing. Files belong to whom the archive says.
    """
    from strata.linux.tree import TreeCopy

    record = names.get_volume(e, name)
    with e.begin("volume-import") as operation, Spool(e, operation) as folder:
        tree = os.open(unpack(folder, fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        trace.point("volume-import:unpacked")
        try:
            with e.hold(record) as record:
                place = mount_locked(e, record)
                target = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    with limits.Explained(e, record):
                        TreeCopy(overwrite=True).copy_contents(tree, target)
                finally:
                    os.close(target)
        finally:
            os.close(tree)
