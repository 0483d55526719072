"""Mounts with ``O``: a container may write to a directory of the host, and the host sees nothing.

What it writes lies in its own dataset, beside its root file system, so its snapshots hold it and it
goes with the container; every start begins with the directory as it is then. With ``upperdir=`` and
``workdir=`` it lies where the user says, and stays. Source: podman-run(1), ``--volume``.
"""

from __future__ import annotations

import os

from strata.engine.core import PRIVATE, Engine, Record
from strata.errors import UsageError
from strata.linux.overlay import OverlayStep
from strata.storage.properties import ZFS_FUSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = f"{PRIVATE}/overlay"


def is_overlay(item: Record) -> bool:
    """Whether a mount is an overlay."""
    return "O" in item["options"]


def find_layer(item: Record) -> tuple[str, str] | None:
    """The user's own directories for the changes and for the kernel, None without any."""
    given = dict(option.partition("=")[::2] for option in item["options"])
    return (given["upperdir"], given["workdir"]) if "upperdir" in given else None


def strip(options: Iterable[str]) -> list[str]:
    """The options that are not about the overlay."""
    return [text for text in options
            if text != "O" and not text.startswith(("upperdir=", "workdir="))]  # fmt: skip


def check(e: Engine, config: Record) -> None:
    """Refuse what this store cannot hold. `UsageError`."""
    for item in config["mounts"]:
        if not is_overlay(item):
            continue
        if find_layer(item) is None and e.driver.flavour == ZFS_FUSE:
            raise UsageError(
                f"an overlay over {item['source']} is not possible here: a file system of zfs-fuse "
                "cannot hold its changes",
                hint="name directories of another one: :O,upperdir=/path,workdir=/path",
            )
        if "userns" in config and item["type"] != "bind":
            raise UsageError(
                f"an overlay over the {item['type']} {item['source']} cannot translate its owners "
                "for a user namespace",
                hint="leave out O or --userns",
            )


def make_step(e: Engine, record: Record, item: Record, source: str, number: int) -> OverlayStep:
    """What mounts an overlay over ``source`` into the bundle. `UsageError`."""
    target = f"{e.paths.bundle(record['id'])}/mounts/{number}"
    if not os.path.isdir(source):
        raise UsageError(
            f"mounting overlay failed {source!r}: not a directory",
            hint="only directories can be overlaid",
        )
    layer = find_layer(item)
    if layer is not None:
        for path in layer:
            if not os.path.isdir(path):
                raise UsageError(
                    f"mounting overlay failed {source!r}: {path}: no such directory",
                    hint="upperdir and workdir must exist, on one file system",
                )
        return OverlayStep(source, *layer, target)
    store = e.driver.prepare_mount(record["dataset"])
    store.target = f"{target}.store"
    place = f"{_FOLDER}/{number}"
    return OverlayStep(source, f"{place}/upper", f"{place}/work", target, store=store)
