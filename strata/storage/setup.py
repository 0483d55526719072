"""Where the store is: its configuration, making it, finding it again, removing it.

``<root>/store.json`` says which driver keeps the store and where. It is written last when a store
is made and removed last when one is removed, so a store is either all there or was never made::

    {"format": 1, "id": "…", "driver": "btrfs", "dialect": null, "pool": null, "dataset": null,
     "file": "/var/lib/strata/pool.btrfs", "size": 42949672960,
     "pools": {"fast": "/mnt/fast/strata"}}

`load`, `open_driver` and an attached `Driver.attach` are on the way of every command, so this
module imports nothing of either driver by itself.
"""

from __future__ import annotations

import os

from strata import jsontext, trace
from strata.errors import AlreadyExists, NotFound, RecordError, StoreMissing, UsageError
from strata.storage.marker import FORMAT, check_format, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.linux.locks import Lock
    from strata.storage.driver import Driver

CONFIG = "store.json"
INIT_HINT = "make one with `strata system init`"
REMOVED_HINT = "`strata undo` brings back the one that was removed; `strata system init` makes anew"


class StoreConfig:
    """Which driver keeps the store under ``root``, and where. ``size`` is in bytes; ``pools`` are
    places for volumes outside, by name."""

    __slots__ = ("dataset", "dialect", "driver", "file", "id", "pool", "pools", "root", "size")

    def __init__(
        self, root: str, id: str, driver: str, *, dialect: str | None = None,
        pool: str | None = None, dataset: str | None = None, file: str | None = None,
        size: int | None = None, pools: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self.id = id
        self.driver = driver
        self.dialect = dialect
        self.pool = pool
        self.dataset = dataset
        self.file = file
        self.size = size
        self.pools = pools or {}

    def to_dict(self) -> dict[str, object]:
        """The document in ``store.json``."""
        fields: dict[str, object] = {
            "format": FORMAT, "id": self.id, "driver": self.driver, "dialect": self.dialect,
            "pool": self.pool, "dataset": self.dataset, "file": self.file, "size": self.size,
        }  # fmt: skip
        if self.pools:
            fields["pools"] = self.pools
        return fields


def load(root: str) -> StoreConfig:
    """Read the configuration; `StoreMissing` without one, `RecordError` when it is damaged or
    from a later version."""
    path = f"{root}/{CONFIG}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        hint = REMOVED_HINT if os.path.isdir(f"{root}/removed") else INIT_HINT
        raise StoreMissing(f"there is no store at {root}", hint=hint) from None
    try:
        text = os.read(fd, 65536)
    finally:
        os.close(fd)
    try:
        document = jsontext.loads(text)
        number = document["format"]
    except (ValueError, KeyError, TypeError):
        raise RecordError(f"{path} is damaged", hint="restore it from a backup") from None
    check_format(number, path)
    return _parse(root, path, document)


def _parse(root: str, path: str, document: dict[str, object]) -> StoreConfig:
    def text(key: str) -> str | None:
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            raise RecordError(f"{path} is damaged: {key} is {value!r}")
        return value

    store_id, driver, size = text("id"), text("driver"), document.get("size")
    if not store_id or driver not in {"btrfs", "zfs"}:
        raise RecordError(f"{path} is damaged: no id, or the driver {driver!r}")
    return StoreConfig(
        root, store_id, driver, dialect=text("dialect"), pool=text("pool"),
        dataset=text("dataset"), file=text("file"), size=size if isinstance(size, int) else None,
        pools=_parse_pools(path, document.get("pools") or {}),
    )  # fmt: skip


def _parse_pools(path: str, found: object) -> dict[str, str]:
    pools: dict[str, str] = {}
    for name, place in found.items() if isinstance(found, dict) else ():
        if not isinstance(place, str) or not place.startswith("/"):
            raise RecordError(f"{path} is damaged: the pool {name!r} is at {place!r}")
        pools[name] = place
    return pools


def save(config: StoreConfig) -> None:
    """Write the configuration durably."""
    write_file(f"{config.root}/{CONFIG}", jsontext.dumps(config.to_dict()) + "\n")


def open_driver(config: StoreConfig, version: tuple[int, int] | None = None) -> Driver:
    """The driver of a store, not yet attached. ``version`` is what to take OpenZFS for (see
    `zfs_dialect.get_dialect`)."""
    if config.driver == "btrfs":
        from strata.storage.btrfs import Btrfs

        return Btrfs(config.root, config.id, config.file)
    from strata.storage.zfs import Zfs

    if not config.dataset or not config.dialect:
        raise RecordError(f"{config.root}/{CONFIG} is damaged: no dataset or dialect")
    return Zfs(config.root, config.id, config.dataset, config.dialect, file=config.file,
               version=version)  # fmt: skip


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
        if error.errno != 16:  # EBUSY: something below is still in use
            raise


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
