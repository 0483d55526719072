"""Making the store, removing it, and what guards it meanwhile."""

from __future__ import annotations

import os

from strata import trace
from strata.errors import AlreadyExists, NotFound, StoreMissing, UsageError
from strata.storage.description import CONFIG, INIT_HINT, StoreConfig, open_driver, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.linux.locks import Lock
    from strata.storage.driver import Driver


def lock_root(root: str) -> Lock:
    """The lock that making, attaching and removing a store hold."""
    from strata.linux.locks import lock

    return lock(f"{root}/.attach.lock", what=f"the store at {root}")


def lock_present(root: str) -> Lock:
    """`lock_root` for attaching: `StoreMissing`, and no trace left, when a reset was faster."""
    try:
        held = lock_root(root)
    except FileNotFoundError:
        raise StoreMissing(f"there is no store at {root}", hint=INIT_HINT) from None
    if not os.path.exists(f"{root}/{CONFIG}"):
        os.unlink(held.path)
        held.release()
        raise StoreMissing(f"there is no store at {root}", hint=INIT_HINT)
    return held


def share_root(root: str) -> None:
    """Make ``root`` a shared mount of its own, so that mounts and unmounts below it reach the
    namespaces of running containers. Idempotent."""
    from strata.linux import mount

    present = mount.find_mount(root)
    if present is None:
        mount.bind(root, root)
        # Private first: as a peer of the mount it was bound from, everything mounted below would
        # appear twice, once hidden under this one.
        mount.set_propagation(root, mount.MS_PRIVATE, recursive=False)
    if present is None or "shared:" not in present.propagation:
        mount.set_propagation(root, mount.MS_SHARED, recursive=False)


def unshare_root(root: str) -> None:
    """Undo `share_root`, unless it is a mount of someone else's or still holds mounts."""
    from strata.linux import mount

    if mount.find_mount(root) is None:
        return
    if os.stat(root).st_dev != os.stat(os.path.dirname(root)).st_dev:
        return
    try:
        mount.unmount(root)
    except OSError as error:
        if error.errno != 16:  # EBUSY
            raise
        if not any(m.target.startswith(f"{root}/") for m in mount.list_mounts()):
            # Somebody still looks at a file, such as a supervisor that is about to end.
            mount.unmount(root, lazy=True)


def initialize(
    root: str, *, driver: str | None = None, pool: str | None = None, file: str | None = None,
    size: int | None = None, furnish: Callable[[Driver], None] | None = None,
) -> StoreConfig:  # fmt: skip
    """Make the store, leave it attached, return its configuration.

    ``furnish`` puts in what every store holds before the store is announced; idempotent.

    Without a ``driver``: ZFS where the kernel has it and a pool is there, else btrfs in a pool
    file. ``pool`` is a ZFS pool or dataset to make ``strata`` in; ``file`` and ``size`` (bytes)
    make a pool in a file. Raises `AlreadyExists` when there is a store. What a killed run left is
    completed or cleaned by the next; a failing one takes back its steps.
    """
    if driver not in {None, "btrfs", "zfs"}:
        raise UsageError(f"no such driver {driver!r}", hint="zfs or btrfs")
    if pool is not None and (driver == "btrfs" or file is not None):
        raise UsageError(
            "a pool is given together with a file or the btrfs driver",
            hint="--pool NAME is for ZFS; --file PATH makes a pool of its own",
        )
    root = os.path.abspath(root)
    os.makedirs(root, 0o700, exist_ok=True)
    os.chmod(root, 0o700)
    with lock_root(root):
        if os.path.exists(f"{root}/{CONFIG}"):
            raise AlreadyExists(
                f"there is a store at {root} already",
                hint="`strata system info` shows it; `strata system reset` removes it",
            )
        if driver is None:
            driver, pool = _choose(pool, file)
        if driver == "btrfs":
            from strata.storage import btrfs_pool

            config = btrfs_pool.create(root, file, size)
        else:
            from strata.storage import zfs_pool

            config = zfs_pool.create(root, pool, file, size)
        if furnish is not None:
            furnish(open_driver(config))
        trace.point("init:made")
        save(config)
    return config


def _choose(pool: str | None, file: str | None) -> tuple[str, str | None]:
    """Driver and pool when the user named no driver."""
    if pool is not None:
        return "zfs", pool
    if file is not None:
        return "btrfs", None
    from strata.storage import zfs_pool

    pools = zfs_pool.list_kernel_pools()
    if len(pools) > 1:
        raise UsageError(f"there are several pools: {', '.join(pools)}",
                         hint=f"say which one with --pool, such as --pool {pools[0]}")  # fmt: skip
    return ("zfs", pools[0]) if pools else ("btrfs", None)


def reset(config: StoreConfig) -> None:
    """Destroy exactly this store: its pool file, or its root dataset. Idempotent.

    Raises `StoreMissing` and destroys nothing when what is found there has another marker.
    """
    with lock_root(config.root):
        if config.driver == "btrfs":
            from strata.storage import btrfs_pool

            btrfs_pool.destroy(config)
        else:
            from strata.storage import zfs_pool

            zfs_pool.destroy(config)
        try:
            os.unlink(f"{config.root}/{CONFIG}")
        except FileNotFoundError:
            pass
        for name in ("pool", "mnt", "fuse"):  # mount points; what is not empty is not ours
            try:
                os.rmdir(f"{config.root}/{name}")
            except OSError:
                pass
    unshare_root(config.root)


def default_size(folder: str) -> int:
    """Bytes for a new pool file: half of what is free, from 1 GiB to 256 GiB. It is sparse, but
    a pool that outgrows its host's disk stops writing, so it must fit."""
    from strata.errors import NoSpace

    state = os.statvfs(folder)
    half = state.f_bavail * state.f_frsize // 2
    if half < 1 << 30:
        raise NoSpace(f"{folder} has less than 2 GiB free",
                      hint="give another place with --file, or a size with --size")  # fmt: skip
    return min(half, 256 << 30) & ~((1 << 20) - 1)


def check_file(file: str, size: int | None, minimum: int) -> tuple[str, int]:
    """Absolute path and size of a pool file to make; `NotFound` without its directory."""
    path = os.path.abspath(file)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise NotFound(f"the directory {folder} does not exist", hint="make it first")
    if size is None:
        size = default_size(folder)
    if size < minimum:
        raise UsageError(f"{size} bytes are too few for a pool",
                         hint=f"give at least {minimum >> 20}M")  # fmt: skip
    return path, size
