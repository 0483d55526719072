"""``image mount`` and ``unmount``: an image's files, read-only, on the host.

They appear at ``<root>/mounts/image~<id>``, nosuid and nodev. While they do, the image is in use.
"""

from __future__ import annotations

import os

from strata.engine import names
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.images import layers
from strata.errors import NotFound
from strata.linux import mount

_FLAGS = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV


def _place(e: Engine, image_id: str) -> str:
    return f"{e.paths.root}/mounts/image~{image_id}"


def is_mounted(e: Engine, image_id: str) -> bool:
    """Whether an image's files are shown on the host. Cheap."""
    return os.path.ismount(_place(e, image_id))


def mount_image(e: Engine, name: str) -> str:
    """Show an image's files on the host; return where. Idempotent."""
    image, _ = names.get_image(e, name)
    with e.lock_images():
        image = e.records.get("image", image["id"])
        path = _place(e, image["id"])
        base = layers.find_base(e, image["layers"][-1] if image["layers"] else None)
        if base is None:
            raise NotFound(f"image {name} has no files to mount")
        if not os.path.ismount(path):
            os.makedirs(path, 0o700, exist_ok=True)
            mount.bind(f"{e.driver.open(base['dataset'])}/{ROOTFS}", path, add=_FLAGS)
    return path


def unmount_image(e: Engine, name: str) -> str:
    """Undo `mount_image`; return the image's id. `NotFound` when it is not mounted."""
    image, _ = names.get_image(e, name)
    with e.lock_images():
        path = _place(e, image["id"])
        if not os.path.ismount(path):
            raise NotFound(f"image {name} is not mounted", hint="`strata image mount` lists them")
        mount.unmount(path, lazy=True)
        os.rmdir(path)
    return str(image["id"])


def list_mounted(e: Engine) -> list[Record]:
    """Mounted images and where their files are: ``Repositories`` and ``mountpoint``."""
    return [
        {"id": image["id"], "Repositories": image["names"], "mountpoint": _place(e, image["id"])}
        for image in e.records.list_records("image")
        if is_mounted(e, image["id"])
    ]
