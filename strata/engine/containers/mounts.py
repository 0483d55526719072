"""Mounts beyond whole volumes and host paths: images, parts of volumes, those of other containers.

Loaded when a container has one.
"""

from __future__ import annotations

import os

from strata.engine import names
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.images import layers
from strata.errors import NotFound, UsageError
from strata.linux.resolve import open_in_root
from strata.linux.subpath import SubpathStep
from strata.runtime import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.linux.mount import MountStep

_FROM_OPTIONS = frozenset(("ro", "rw", "z", "Z"))


def resolve_images(e: Engine, config: Record) -> list[str]:
    """Find the images that a planned ``config`` mounts; the layers to hold until it is recorded."""
    held = []
    for item in config["mounts"]:
        if item["type"] != "image":
            continue
        found = names.find_image(e, item["source"])
        if found is None:
            raise NotFound(
                f"{item['source']}: image not known", hint="pull it before it is mounted"
            )
        image = found[0]
        item["image"] = image["id"]
        item["layer"] = image["layers"][-1] if image["layers"] else ""
        held += image["layers"][-1:]
    return held


def make_step(e: Engine, record: Record, item: Record, source: str, number: int) -> MountStep:
    """What mounts an image, a part of a volume or an image, or what has its owners translated,
    into the bundle. `UsageError`."""
    if item["type"] == "image":
        base = layers.find_base(e, item["layer"])
        if base is None:
            raise UsageError(f"the image {item['source']} has no content to mount")
        source = f"{e.driver.open(base['dataset'])}/{ROOTFS}"
    if "O" in item["options"]:
        from strata.engine.containers import overlays

        return overlays.make_step(e, record, item, source, number)
    path = item.get("subpath") or "."
    try:
        os.close(open_in_root(source, path, os.O_PATH))
    except OSError as error:
        raise UsageError(
            f"subpath {path!r} of {item['type']} {item['source']}: "
            f"{(error.strerror or str(error)).lower()}"
        ) from None
    step = SubpathStep(source, path, f"{e.paths.bundle(record['id'])}/mounts/{number}")
    if "uid_map" not in record["config"]:
        return step
    from strata.engine.containers import userspace

    return userspace.map_step(record["config"], step)


def find_owned(item: Record, source: str) -> str:
    """The tree that a mount with ``U`` gives to the container's user."""
    if item["type"] == "bind":
        ownership.check_source(source)
    if not item.get("subpath"):
        return source
    fd = open_in_root(source, item["subpath"], os.O_PATH)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def add_others(e: Engine, config: Record, options: Mapping[str, Any]) -> None:
    """``--volumes-from``: the mounts of other containers, below what was given itself."""
    own = {os.path.normpath(item["destination"]) for item in options.get("mounts") or ()}
    own |= {os.path.normpath(path) for path in config["tmpfs"]}
    found: dict[str, Record] = {}
    for text in options.get("volumes_from") or ():
        name, chosen = split_source(text)
        for item in names.get_container(e, name)["config"]["mounts"]:
            path = os.path.normpath(item["destination"])
            if path in own:
                continue
            kept = [o for o in item["options"] if o not in ("ro", "rw")] if chosen else None
            copied = dict(item)
            copied["options"] = list(item["options"]) if kept is None else [*kept, *chosen]
            found[path] = copied
    config["mounts"] = [
        *(m for m in config["mounts"] if os.path.normpath(m["destination"]) not in found),
        *found.values(),
    ]


def split_source(text: str) -> tuple[str, list[str]]:
    """``NAME[:ro|rw,z]`` of ``--volumes-from``: the name, and ``ro`` or ``rw`` when given."""
    name, colon, words = text.partition(":")
    options = words.split(",") if colon else []
    if not name or not _FROM_OPTIONS.issuperset(options) or {"ro", "rw"} <= set(options):
        raise UsageError(
            f'invalid option "{words}" specified - volumes from another container can only use '
            "z,ro,rw options",
            hint="give CONTAINER[:ro]",
        )
    return name, [option for option in options if option in ("ro", "rw")]
