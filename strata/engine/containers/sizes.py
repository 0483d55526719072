"""How much a container's own files take: ``ps --size``, ``inspect --size``.

Where the driver counts datasets (ZFS, btrfs with quota groups) it is asked. Elsewhere the files
that differ from the image's are added up, as Podman does it, at the cost of walking both trees.
"""

from __future__ import annotations

import os
import stat

from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.images import layers


def measure(e: Engine, record: Record) -> tuple[int, int]:
    """Bytes of a container's own files, and of all it sees as its root file system."""
    usage = e.driver.get_usage(record["dataset"])
    own = usage.used if usage.used is not None else _add_up(e, record)
    if usage.referenced is not None:
        return own, usage.referenced
    image = e.records.find("image", record["image"])
    return own, own + (int(image["size"]) if image else 0)


def _add_up(e: Engine, record: Record) -> int:
    """The sizes of the regular files a container added or changed."""
    from strata.archive.diff import list_changes

    base = layers.find_base(e, record["layer"] or None)
    tree = e.driver.open(record["dataset"])
    total = 0
    try:
        changes = list_changes(tree, e.driver.open(base["dataset"]) if base else None)
    except FileNotFoundError:
        return total  # a file of a running container went while it was looked at
    root = os.fsencode(f"{tree}/{ROOTFS}")
    for what, path in changes:
        if what == "D":
            continue
        try:
            info = os.lstat(root + path)
        except OSError:
            continue
        total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total
