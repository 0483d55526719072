"""Pools for the contract suite: one store per driver and session.

The tests run in a mount namespace of their own, so that nobody else's namespace can pin what they
mount, and everything is unmounted when the process ends, however it ends. STRATA_TEST_DRIVERS
selects drivers (``btrfs``, ``zfs-fuse``, ``zfs``, and ``zfs-2.1``, which takes a later OpenZFS for
that one); STRATA_TEST_POOL names a pool or dataset for OpenZFS, which the tests may fill and need
not empty, and without which it gets a pool in a file.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from strata import command
from strata.linux import mount
from strata.linux.syscall import call
from strata.storage import description, setup, zfs_dialect
from strata.storage.description import StoreConfig
from strata.storage.driver import Driver

CLONE_NEWNS = 0x20000
MARKS = {"btrfs": pytest.mark.btrfs, "zfs-fuse": pytest.mark.zfsfuse, "zfs": pytest.mark.openzfs,
         "zfs-2.1": pytest.mark.openzfs}  # fmt: skip


def _selected() -> list[Any]:
    kernel = zfs_dialect.has_kernel_zfs()
    default = "btrfs,zfs,zfs-2.1" if kernel else "btrfs,zfs-fuse"
    names = os.environ.get("STRATA_TEST_DRIVERS", default).split(",")
    return [pytest.param(name, marks=[MARKS[name], pytest.mark.root]) for name in names]


DRIVERS = _selected()
if not any(param.values[0] == "btrfs" for param in DRIVERS):
    collect_ignore = ["test_btrfs.py"]


def _remove(folder: str) -> None:
    """End what a store left running there and remove its directory."""
    try:
        with open(f"{folder}/zfs-fuse.pid") as file:
            os.kill(int(file.read().split()[0]), signal.SIGKILL)
    except (OSError, ValueError):
        pass
    for entry in reversed(mount.list_mounts()):
        if entry.target.startswith(folder):
            mount.unmount(entry.target, lazy=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def own_namespace() -> None:
    """Give this process its own mount namespace, and in it the places where a zfs-fuse daemon
    keeps its socket, lock and cache: so it runs beside any other."""
    call("unshare", CLONE_NEWNS, what="unshare")
    mount.set_propagation("/", mount.MS_SLAVE)
    for folder in ("/run/zfs", "/run/lock/zfs", "/var/lib/zfs"):
        if os.path.isdir(folder) or shutil.which("zfs-fuse"):
            os.makedirs(folder, exist_ok=True)
            mount.mount("none", folder, "tmpfs")


@pytest.fixture(scope="session")
def folder(own_namespace: None) -> Iterator[str]:
    """A directory for stores; a guardian clears it even when this process is killed."""
    path = f"/var/tmp/strata-contract-{os.getpid()}"
    os.makedirs(path, 0o700)
    read, write = os.pipe()
    guardian = os.fork()
    if guardian == 0:
        try:
            os.setsid()
            os.close(write)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.read(read, 1)
            for name in os.listdir(path):
                _remove(f"{path}/{name}")
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(read)
    yield path
    os.close(write)
    os.waitpid(guardian, 0)


Maker = Callable[..., StoreConfig]


@pytest.fixture(scope="session")
def make_store(folder: str) -> Iterator[Maker]:
    """A function that makes a store of a kind; all are destroyed at the end."""
    made: list[StoreConfig] = []
    given = os.environ.get("STRATA_TEST_POOL")

    def make(kind: str, name: str, size: int = 1 << 30, *, own_pool: bool = False) -> Any:
        root = f"{folder}/{name}"
        kind = kind.partition("-2")[0]
        if kind == "btrfs":
            config = setup.initialize(root, driver="btrfs", size=size)
        elif kind == "zfs" and given and not own_pool:
            parent = f"{given}/contract-{os.getpid()}-{name}"
            command.run(["zfs", "create", "-o", "mountpoint=none", parent])
            config = setup.initialize(root, driver="zfs", pool=parent)
        else:
            config = setup.initialize(root, driver="zfs", file=f"{root}/pool.zfs", size=size)
        made.append(config)
        return config

    yield make
    for config in reversed(made):
        try:
            # Each dataset is a transaction group, half a minute in the virtual machine.
            if not given or not (config.dataset or "").startswith(f"{given}/"):
                setup.reset(config)
        finally:
            _remove(config.root)


@pytest.fixture(scope="session", params=DRIVERS)
def store(request: pytest.FixtureRequest, make_store: Maker) -> StoreConfig:
    """A store of each driver, shared by all tests; they use fresh names."""
    return make_store(request.param, request.param)


@pytest.fixture
def driver(store: StoreConfig, request: pytest.FixtureRequest) -> Driver:
    """The attached driver of the shared store."""
    kind = request.node.callspec.params["store"]
    driver = description.open_driver(store, (2, 1) if kind == "zfs-2.1" else None)
    driver.attach()
    return driver


_numbers = iter(range(1, 1_000_000))


@pytest.fixture
def name() -> str:
    """A dataset name nobody has used."""
    return f"containers/t{next(_numbers)}"


class Namespace:
    """Another mount namespace, kept open by a process of its own: it pins what it copied."""

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        ready_r, ready_w = os.pipe()
        end_r, self._end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._end)
                call("unshare", CLONE_NEWNS, what="unshare")
                mount.set_propagation("/", mount.MS_PRIVATE)
                if prepare is not None:
                    prepare()
                os.write(ready_w, b"+")
                os.read(end_r, 1)
            except BaseException as error:
                os.write(ready_w, repr(error).encode())
            finally:
                os._exit(0)
        os.close(ready_w)
        os.close(end_r)
        answer = os.read(ready_r, 4096)
        os.close(ready_r)
        if answer != b"+":
            self.end()
            raise AssertionError(f"the namespace failed: {answer.decode()}")

    def end(self) -> None:
        """Let the namespace go."""
        os.close(self._end)
        os.waitpid(self.pid, 0)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@pytest.fixture
def namespace() -> type[Namespace]:
    """The class of foreign mount namespaces."""
    return Namespace
