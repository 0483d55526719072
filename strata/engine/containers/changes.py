"""``diff`` and ``export``: what a container or image changed, and all its files as a tar."""

from __future__ import annotations

import os

from strata import trace
from strata.engine import events, names
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.history.targets import COMMIT_PREFIX
from strata.engine.images import layers
from strata.errors import NotFound, UsageError
from strata.store import lifecycle
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: what the runtime makes in every container: no change of the container's own
_MADE = frozenset((
    "/dev", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts",
    "/etc/mtab", "/etc/resolv.conf", "/proc", "/run", "/run/.containerenv", "/run/secrets",
    "/run/strata-init", "/sys",
))  # fmt: skip


def list_changes(e: Engine, name: str, other: str = "", *, kind: str = "") -> list[tuple[str, str]]:
    """What differs between a container or image and its parent layer, or ``other``: ``C``, ``A``
    or ``D`` and the path, sorted by path. ``kind`` limits what the names may be."""
    from strata.archive.diff import list_changes as compare

    dataset, parent = _resolve(e, name, kind)
    if other:
        parent = _resolve(e, other, kind)[0]
    if dataset is None:
        return []
    tree = e.driver.open(dataset)
    below = e.driver.open(parent) if parent else None
    found = [(what, os.fsdecode(path)) for what, path in compare(tree, below)]
    return sorted((item for item in found if item[1] not in _MADE), key=lambda item: item[1])


def _resolve(e: Engine, name: str, kind: str) -> tuple[str | None, str | None]:
    """The dataset a name stands for and that of its parent layer."""
    if kind != "image":
        try:
            record = names.get_container(e, name)
            base = layers.find_base(e, record["layer"] or None)
            return record["dataset"], base["dataset"] if base else None
        except NotFound:
            if kind == "container":
                raise
    found = names.find_image(e, name)
    if kind != "image" and not (found and found[1]) and e.records.find_name("volume", name):
        raise UsageError(f"{name} is a volume, and is compared with one of its snapshots",
                         hint=f"strata diff {name}@SNAPSHOT; see `strata log {name}`")  # fmt: skip
    if found is None:
        raise NotFound(f"{name} not found: layer not known", hint="`strata ps -a`, `strata images`")
    image = found[0]
    top = layers.find_base(e, image["layers"][-1] if image["layers"] else None)
    if top is None:
        return None, None
    below = layers.find_base(e, top["parent"])
    return top["dataset"], below["dataset"] if below else None


def export(e: Engine, name: str, write: Callable[[bytes], object]) -> None:
    """Write a container's files as a tar. Of a running one, as they are at one moment."""
    from strata.archive.diff import export_tree

    record = names.get_container(e, name)
    if lifecycle.derive(record) not in lifecycle.LIVE:
        export_tree(f"{e.driver.open(record['dataset'])}/{ROOTFS}", write)
    else:
        _export_live(e, record, write, export_tree)
    events.emit_container(e, "export", record)


def _export_live(
    e: Engine, record: Record, write: Callable[[bytes], object],
    export_tree: Callable[[str, Callable[[bytes], object]], None],
) -> None:  # fmt: skip
    frozen = f"{record['dataset']}@{COMMIT_PREFIX}{new_id(16)}"
    with e.begin("export", ["unsnapshot", frozen]):
        e.driver.snapshot([frozen])
        trace.point("export:frozen")
        try:
            export_tree(f"{e.driver.open(frozen)}/{ROOTFS}", write)
        finally:
            e.driver.close(frozen)
            e.driver.destroy(frozen)
