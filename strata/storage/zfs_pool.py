"""The store on ZFS: making its datasets in a pool, finding the pool again, removing them."""

from __future__ import annotations

import contextlib
import os

from strata import command, trace
from strata.errors import AlreadyExists, InUse, NotFound, StorageError, StoreMissing
from strata.linux import mount
from strata.storage import description, layout, setup, zfs_dialect
from strata.storage.description import StoreConfig
from strata.storage.driver import DatasetBusy, DatasetExists, DatasetNotFound
from strata.storage.marker import FORMAT, write_marker
from strata.storage.zfs import (
    FORMAT_PROPERTY,
    MARKER,
    STORE_PROPERTY,
    Zfs,
    parse_values,
)
from strata.storage.zfs_dialect import classify

FILE = "pool.zfs"
MINIMUM = 128 << 20
ROOT_NAME = "strata"
ROOT_PROPERTY = "strata:root"
"""State directory that the root dataset belongs to: tells a killed `create` from another store."""

_MARKS = {"com.sun:auto-snapshot": "false", "syncoid:sync": "false"}


def list_kernel_pools() -> list[str]:
    """Pools of the kernel's ZFS; none without the module or its programs."""
    if not zfs_dialect.has_kernel_zfs() or command.find_program("zpool") is None:
        return []
    result = command.run(["zpool", "list", "-H", "-o", "name"], check=False)
    return result.text.split()


def _run(*argv: str) -> command.Result:
    return command.run(argv, classify=classify)


def _is_imported(pool: str) -> bool:
    return command.run(["zpool", "list", "-H", "-o", "name", pool], check=False).returncode == 0


# -- making ------------------------------------------------------------------------------------


def create(root: str, pool: str | None, file: str | None, size: int | None) -> StoreConfig:
    """Make the root dataset and what belongs in it, and mount the engine's own datasets."""
    dialect = zfs_dialect.probe()
    if dialect is None:
        raise NotFound("this host has no ZFS", hint="install it, or use --driver btrfs")
    with contextlib.ExitStack() as undo:
        setup.share_root(root)
        undo.callback(setup.unshare_root, root)
        if dialect == zfs_dialect.ZFS_FUSE:
            from strata.storage import zfs_fuse

            if zfs_fuse.ensure_daemon(root):
                undo.callback(zfs_fuse.stop_daemon, root)
        path: str | None = None
        if pool is None and file is None:
            pools = list_kernel_pools()
            pool = pools[0] if len(pools) == 1 else None
        if pool is None:
            path, size = setup.check_file(file or f"{root}/{FILE}", size, MINIMUM)
            pool = _ensure_pool(path, size, undo)
        else:
            size = None
            _check_parent(pool)
        dataset = layout.check_root(f"{pool}/{ROOT_NAME}")
        store_id = _ensure_root(root, dataset, dialect, undo)
        driver = Zfs(root, store_id, dataset, dialect, file=path)
        undo.callback(close_all, driver)
        _furnish(driver)
        undo.pop_all()
    return StoreConfig(
        root, store_id, "zfs", dialect=dialect, pool=pool.partition("/")[0], dataset=dataset,
        file=path, size=size,
    )  # fmt: skip


def _ensure_pool(path: str, size: int, undo: contextlib.ExitStack) -> str:
    """A pool of our own in a file; its name is derived from the path, so that a second run knows
    the pool a killed one made."""
    import zlib

    pool = f"strata-{zlib.crc32(path.encode()):08x}"
    if os.path.lexists(path):
        if _is_imported(pool) or _import(pool, path):
            return pool
        if os.stat(path).st_blocks:
            raise AlreadyExists(f"{path} exists and holds no store",
                                hint="give another place with --file, or remove it")  # fmt: skip
        os.unlink(path)  # made by a killed run, nothing written yet
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    undo.callback(os.unlink, path)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
    _run("zpool", "create", "-o", "cachefile=none", "-o", "ashift=12", "-O", "canmount=off",
         "-O", "mountpoint=none", pool, path)  # fmt: skip
    undo.callback(_run, "zpool", "destroy", pool)
    trace.point("init:pool-made")
    return pool


def _import(pool: str, path: str) -> bool:
    """Import the pool in a file; by its number where a store that was set aside, whose pool has
    the same name, lies beside it."""
    argv = ["zpool", "import", "-d", os.path.dirname(path), "-o", "cachefile=none"]
    if command.run([*argv, pool], check=False).returncode == 0:
        return True
    listed = command.run(["zpool", "import", "-d", os.path.dirname(path)], check=False).text
    number = find_pool_number(listed, path)
    return number is not None and command.run([*argv, number], check=False).returncode == 0


def find_pool_number(listed: str, path: str) -> str | None:
    """The number of the pool in a file, in what ``zpool import`` lists; None without one."""
    number = None
    for line in listed.splitlines():
        words = line.split()
        if words[:1] == ["id:"]:
            number = words[-1]
        elif words[:1] == [path]:
            return number
    return None


def _check_parent(parent: str) -> None:
    """Refuse a parent whose settings would make a store impossible."""
    layout.check_root(parent)
    try:
        result = _run("zfs", "get", "-Hp", "-o", "name,property,value,source", "all", parent)
    except DatasetNotFound:
        raise NotFound(f"no such pool or dataset {parent!r}",
                       hint="`zpool list` shows the imported pools") from None  # fmt: skip
    values = parse_values(result.text)[parent]

    def value(key: str) -> str:
        return values.get(key, ("", ""))[0]

    if value("type") != "filesystem":
        raise StorageError(f"{parent} is a {value('type')}, not a file system")
    if value("keystatus") == "unavailable":
        raise StorageError(f"the key of {parent} is not loaded", hint=f"zfs load-key {parent}")
    if value("zoned") == "on":
        raise StorageError(f"{parent} is given to a zone", hint="use another parent")


def _compression(pool: str) -> str:
    """The best compression the pool's features allow."""
    wanted = "feature@zstd_compress,feature@lz4_compress"
    result = command.run(["zpool", "get", "-H", "-o", "property,value", wanted, pool], check=False)
    known = dict(line.split("\t")[:2] for line in result.text.splitlines() if "\t" in line)
    for name in ("zstd", "lz4"):
        if known.get(f"feature@{name}_compress") in {"enabled", "active"}:
            return name
    return "on"


def _ensure_root(root: str, dataset: str, dialect: str, undo: contextlib.ExitStack) -> str:
    """The root dataset with its marker, in one command; returns the store's id."""
    properties = dict(zfs_dialect.get_dialect(dialect).root_properties)
    properties["compression"] = _compression(dataset.partition("/")[0])
    if dialect == zfs_dialect.ZFS_FUSE:
        from strata.storage import zfs_fuse

        properties["mountpoint"] = zfs_fuse.get_mountpoint(root)
    store_id = os.urandom(16).hex()
    properties.update({STORE_PROPERTY: store_id, FORMAT_PROPERTY: str(FORMAT), ROOT_PROPERTY: root})
    options = [part for key, value in properties.items() for part in ("-o", f"{key}={value}")]
    try:
        _run("zfs", "create", *options, dataset)
    except DatasetExists:
        return _adopt(root, dataset)
    undo.callback(_run, "zfs", "destroy", "-r", dataset)
    trace.point("init:marked")
    _check_effect(dataset)
    return store_id


def _adopt(root: str, dataset: str) -> str:
    """The id of a store made here whose store.json was never written, or was lost."""
    wanted = f"{STORE_PROPERTY},{ROOT_PROPERTY}"
    result = _run("zfs", "get", "-Hp", "-o", "name,property,value,source", wanted, dataset)
    values = parse_values(result.text)[dataset]
    if values.get(ROOT_PROPERTY) != (root, "local") or values[STORE_PROPERTY][1] != "local":
        raise AlreadyExists(
            f"the dataset {dataset} exists and is not the store of {root}",
            hint="name another parent with --pool, such as POOL/DATASET",
        )
    return values[STORE_PROPERTY][0]


def _check_effect(dataset: str) -> None:
    """Whether what can be set only now has been set: a pool may overrule it."""
    wanted = {"normalization": "none", "utf8only": "off", "casesensitivity": "sensitive"}
    result = _run("zfs", "get", "-Hp", "-o", "name,property,value,source", ",".join(wanted),
                  dataset)  # fmt: skip
    for key, (value, _) in parse_values(result.text)[dataset].items():
        if value != wanted[key]:
            raise StorageError(f"{dataset} has {key}={value}; images need {wanted[key]}",
                               hint="use another pool or parent")  # fmt: skip


def _furnish(driver: Zfs) -> None:
    """Make the datasets every store has, mount the engine's own. Idempotent."""
    for name in layout.PARENTS:
        if driver.find(name) is None:
            marks = _MARKS if name in layout.UNSHIPPED else {}
            driver.create(name, {}, marks)
    for name in layout.FILE_SYSTEMS:
        if driver.find(name) is None:
            driver.create(name, layout.store_identity(name))
    trace.point("init:datasets-made")
    _mount_own(driver)


def _mount_own(driver: Zfs) -> None:
    os.makedirs(f"{driver.root}/mnt", 0o700, exist_ok=True)
    for name in layout.FILE_SYSTEMS:
        path = driver.open(name)
        os.chmod(path, 0o700)
    if not driver.is_attached():
        write_marker(f"{driver.open('records')}/{MARKER}", driver.store_id, driver.root)


# -- finding again -----------------------------------------------------------------------------


def attach(driver: Zfs) -> None:
    """Make an existing store reachable; `StoreMissing` when it is not there or not ours."""
    with setup.lock_present(driver.root):
        if driver.is_attached():
            return
        _reach(driver)
        setup.share_root(driver.root)
        _mount_own(driver)
        driver.collect()


def _reach(driver: Zfs) -> None:
    """Module or daemon, then the pool, then the marker."""
    pool = driver.dataset.partition("/")[0]
    if driver.dialect.kernel:
        if not zfs_dialect.has_kernel_zfs():
            raise StoreMissing("the kernel has no ZFS now", hint="modprobe zfs")
    else:
        from strata.storage import zfs_fuse

        setup.share_root(driver.root)
        zfs_fuse.clear_dead_mounts(driver.root)
        zfs_fuse.ensure_daemon(driver.root)
    if not _is_imported(pool):
        if driver.file is None:
            raise StoreMissing(f"the pool {pool} of the store is not imported",
                               hint=f"zpool import {pool}")  # fmt: skip
        if not os.path.exists(driver.file):
            raise StoreMissing(f"the pool file {driver.file} of the store is not there",
                               hint="mount the disk it lies on, or restore it")  # fmt: skip
        if not _import(pool, driver.file):
            raise StoreMissing(f"the pool {pool} in {driver.file} cannot be imported",
                               hint=f"zpool import -d {os.path.dirname(driver.file)}")  # fmt: skip
    driver.check_marker()


def has_dataset(full: str) -> bool:
    """Whether there is a dataset of this full name, as far as ZFS can be asked now."""
    result = command.run(["zfs", "list", "-H", "-o", "name", full], check=False)
    return result.returncode == 0


def close_all(driver: Zfs) -> None:
    """Unmount everything of the store below its state directory; `InUse` when held."""
    folders = (f"{driver.root}/mnt/", f"{driver.root}/fuse/")
    for entry in reversed(mount.list_mounts()):
        if not entry.target.startswith(folders):
            continue
        try:
            mount.unmount(entry.target)
        except OSError as error:
            if error.errno == 16:
                raise InUse(f"{entry.target} is in use",
                            hint="stop the containers first") from error  # fmt: skip
            if error.errno != 22:  # EINVAL: gone with another mount
                raise
        with contextlib.suppress(OSError):
            os.rmdir(entry.target)


def detach(driver: Zfs) -> None:
    """Unmount everything; export a pool that lies in a file of ours, stop a daemon of ours."""
    close_all(driver)
    pool = driver.dataset.partition("/")[0]
    if driver.file is not None and _can_ask(driver) and _is_imported(pool):
        _settled(driver, "zpool", "export", pool)
    if not driver.dialect.kernel:
        from strata.storage import zfs_fuse

        zfs_fuse.stop_daemon(driver.root)
    setup.unshare_root(driver.root)


def _can_ask(driver: Zfs) -> bool:
    if driver.dialect.kernel:
        return zfs_dialect.has_kernel_zfs()
    from strata.storage import zfs_fuse

    return zfs_fuse.is_running()


def _settled(driver: Zfs, *argv: str) -> None:
    """Run something that zfs-fuse calls busy until it has seen our unmounts."""
    import time

    deadline = time.monotonic() + 10.0
    while True:
        try:
            _run(*argv)
            return
        except DatasetBusy:
            if driver.dialect.kernel or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


# -- removing ----------------------------------------------------------------------------------


def destroy(config: StoreConfig) -> None:
    """Destroy this store's pool file, or its root dataset, and nothing else."""
    driver = description.open_driver(config)
    assert isinstance(driver, Zfs)
    if config.file is not None and not os.path.lexists(config.file):
        if config.dialect == zfs_dialect.ZFS_FUSE:
            from strata.storage import zfs_fuse

            zfs_fuse.stop_daemon(config.root)
        return
    _reach(driver)
    close_all(driver)
    pool = driver.dataset.partition("/")[0]
    if config.file is not None:
        _settled(driver, "zpool", "destroy", pool)
        os.unlink(config.file)
    else:
        with contextlib.suppress(DatasetNotFound):
            _settled(driver, "zfs", "destroy", "-r", driver.dataset)
    if config.dialect == zfs_dialect.ZFS_FUSE:
        from strata.storage import zfs_fuse

        zfs_fuse.stop_daemon(config.root)
