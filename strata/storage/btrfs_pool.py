"""The btrfs pool file: making, attaching and removing it. Off the way of ordinary commands."""

from __future__ import annotations

import os

from strata import command, trace
from strata.errors import AlreadyExists, InUse, StorageError, StoreMissing
from strata.linux import loop, mount
from strata.linux.tree import remove_file
from strata.storage import layout, setup
from strata.storage.btrfs import MARKER, SNAPSHOTS, STAGING, Btrfs
from strata.storage.description import StoreConfig
from strata.storage.marker import read_marker_fields, write_marker

MINIMUM = 256 << 20
FILE = "pool.btrfs"

# Trim gives space back to the host's disk; zstd level 1 costs less than writing twice the bytes.
_OPTIONS = "compress=zstd:1,discard=async"
_FLAGS = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOATIME


def attach(driver: Btrfs) -> None:
    """Mount the pool of an existing store; `StoreMissing` when it is not there or not ours."""
    root, file = driver.root, driver.file
    if file is None or not os.path.isfile(file):
        raise StoreMissing(f"the pool file {file} of the store is not there",
                           hint="mount the disk it lies on, or restore it")  # fmt: skip
    with setup.lock_present(root):
        if driver.is_attached():
            return
        setup.share_root(root)
        if mount.find_mount(driver.pool) is not None:
            raise StoreMissing(f"what is mounted at {driver.pool} is not this store",
                               hint=f"unmount {driver.pool}")  # fmt: skip
        _mount(file, driver.pool)
        if not driver.is_attached():
            mount.unmount(driver.pool)
            raise StoreMissing(f"{file} does not hold the store of {root}",
                               hint="restore the pool file that belongs to it")  # fmt: skip
        driver.collect()


def _mount(file: str, pool: str) -> None:
    """Mount a pool file, through the loop device it has or a new one."""
    os.makedirs(pool, 0o700, exist_ok=True)
    device, fd = loop.find_device(file), -1
    if device is None:
        device, fd = loop.attach(file)
    try:
        mount.mount(device, pool, "btrfs", _FLAGS, _OPTIONS)
    except OSError as error:
        raise StorageError(
            f"cannot mount {file}: {error.strerror}", hint="see the kernel log; btrfs is needed"
        ) from error
    finally:
        if fd >= 0:
            os.close(fd)


def detach(driver: Btrfs) -> None:
    """Unmount the pool; its loop device frees itself. `InUse` when something holds it."""
    _unmount(driver.pool)
    setup.unshare_root(driver.root)


def _unmount(pool: str) -> None:
    while mount.find_mount(pool) is not None:
        try:
            mount.unmount(pool)
        except OSError as error:
            if error.errno == 16:
                raise InUse(f"{pool} is in use", hint="stop the containers first") from error
            raise


def create(root: str, file: str | None, size: int | None) -> StoreConfig:
    """Make the pool file and what belongs in it, mounted. The file gets its name last."""
    path, size = setup.check_file(file or f"{root}/{FILE}", size, MINIMUM)
    command.get_program("mkfs.btrfs")
    pool = f"{root}/pool"
    setup.share_root(root)
    _unmount(pool)  # a killed run may have left it; there is no store yet, so it is not in use
    try:
        if os.path.lexists(path):
            return _adopt(root, path, pool)
        return _make(root, path, pool, size)
    except BaseException:
        _unmount(pool)
        remove_file(f"{path}.new")
        setup.unshare_root(root)
        raise


def _adopt(root: str, path: str, pool: str) -> StoreConfig:
    """Take over a finished pool file whose store.json was never written, or was lost."""
    foreign = AlreadyExists(f"{path} exists and holds no store",
                            hint="give another place with --file, or remove it")  # fmt: skip
    if not os.path.isfile(path) or not _is_btrfs(path):
        raise foreign
    _mount(path, pool)
    store_id, owner = read_marker_fields(f"{pool}/{MARKER}")
    if store_id is None:
        raise foreign
    if owner != root:
        raise AlreadyExists(f"{path} holds the store of {owner}",
                            hint="give another place with --file")  # fmt: skip
    _furnish(Btrfs(root, store_id, path))
    return StoreConfig(root, store_id, "btrfs", file=path, size=os.path.getsize(path))


def _is_btrfs(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(0x10040)
        return file.read(8) == b"_BHRfS_M"


def _make(root: str, path: str, pool: str, size: int) -> StoreConfig:
    staging = f"{path}.new"
    remove_file(staging)
    fd = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
    command.run(["mkfs.btrfs", "-q", "-L", "strata", "-d", "single", "-m", "dup", staging])
    trace.point("init:formatted")
    _mount(staging, pool)
    trace.point("init:mounted")
    store_id = os.urandom(16).hex()
    driver = Btrfs(root, store_id, path)
    _furnish(driver)
    write_marker(f"{pool}/{MARKER}", store_id, root)
    driver.sync()
    trace.point("init:marked")
    os.rename(staging, path)
    return StoreConfig(root, store_id, "btrfs", file=path, size=size)


def _furnish(driver: Btrfs) -> None:
    """Make the directories and subvolumes every store has. Idempotent."""
    os.chmod(driver.pool, 0o700)
    for name in (STAGING, SNAPSHOTS, *layout.PARENTS):
        os.makedirs(f"{driver.pool}/{name}", 0o700, exist_ok=True)
    for name in layout.FILE_SYSTEMS:
        if driver.find(name) is None:
            driver.create(name, layout.store_identity(name))


def destroy(config: StoreConfig) -> None:
    """Unmount and remove the pool file of this store and of no other."""
    driver = Btrfs(config.root, config.id, config.file)
    if config.file is None or not os.path.lexists(config.file):
        _unmount(driver.pool)
        return
    if not driver.is_attached():
        if mount.find_mount(driver.pool) is None:
            setup.share_root(config.root)
            _mount(config.file, driver.pool)
        if not driver.is_attached():
            _unmount(driver.pool)
            raise StoreMissing(f"{config.file} does not hold the store of {config.root}",
                               hint="nothing was removed")  # fmt: skip
    _unmount(driver.pool)
    os.unlink(config.file)
