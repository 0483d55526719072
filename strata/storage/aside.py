"""A store that is removed but not destroyed: its pool file or root dataset under another name.

The *place* is a path beside the pool file, or a dataset beside the root dataset. Moving is one
rename, so a kill leaves the store in one of both places.
"""

from __future__ import annotations

import os

from strata.errors import StorageError
from strata.storage import description
from strata.storage.driver import DatasetNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.description import StoreConfig
    from strata.storage.zfs import Zfs


def choose_place(config: StoreConfig, suffix: str) -> str:
    """Where a store would be set aside."""
    return f"{config.file or config.dataset}.removed-{suffix}"


def is_there(config: StoreConfig, place: str) -> bool:
    """Whether a store lies in its place aside, or moved back and nobody could say so any more."""
    announced = os.path.exists(f"{config.root}/{description.CONFIG}")
    if config.file is not None:
        return os.path.exists(place) or (not announced and os.path.exists(config.file))
    from strata.storage.zfs_pool import has_dataset

    return has_dataset(place) or (not announced and has_dataset(str(config.dataset)))


def move(config: StoreConfig, place: str) -> None:
    """Detach the store and move it to its place. `InUse` when somebody holds it. Idempotent."""
    if config.file is not None and not os.path.lexists(config.file) and os.path.exists(place):
        return
    driver = description.open_driver(config)
    if config.file is None:
        driver.attach()
        zfs = _as_zfs(driver)
        zfs.check_marker()
        driver.detach()
        zfs.change("rename", zfs.dataset, place)
        return
    driver.attach()  # that it is this store's and no other's
    driver.detach()
    os.rename(config.file, place)


def move_back(config: StoreConfig, place: str) -> None:
    """Move the store back to where it was. Idempotent."""
    if config.file is None:
        zfs = _as_zfs(description.open_driver(config))
        try:
            zfs.change("rename", place, zfs.dataset)
        except DatasetNotFound:
            if zfs.find("") is None:
                raise
        return
    if os.path.lexists(config.file) and not os.path.lexists(place):
        return
    if os.path.lexists(config.file):
        raise StorageError(f"{config.file} exists: another store took its place",
                           hint="move that away first")  # fmt: skip
    os.rename(place, config.file)


def destroy(config: StoreConfig, place: str) -> None:
    """Destroy a store in its place aside. Idempotent."""
    if config.file is None:
        try:
            _as_zfs(description.open_driver(config)).change("destroy", "-r", place)
        except DatasetNotFound:
            return
        return
    try:
        os.unlink(place)
    except FileNotFoundError:
        return


def _as_zfs(driver: object) -> Zfs:
    from strata.storage.zfs import Zfs

    assert isinstance(driver, Zfs)
    return driver
