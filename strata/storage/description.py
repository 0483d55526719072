"""Where the store is: ``<root>/store.json`` says which driver keeps it and where.

It is written last when a store is made and removed last when one is removed, so a store is either
all there or was never made::

    {"format": 1, "id": "…", "driver": "btrfs", "dialect": null, "pool": null, "dataset": null,
     "file": "/var/lib/strata/pool.btrfs", "size": 42949672960,
     "pools": {"fast": "/mnt/fast/strata"}}

`load`, `open_driver` and an attached `Driver.attach` are on the way of every command, so this
module imports nothing of either driver by itself.
"""

from __future__ import annotations

import os

from strata import jsontext
from strata.errors import RecordError, StoreMissing
from strata.storage.marker import FORMAT, check_format

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    from strata.storage.marker import write_file

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
