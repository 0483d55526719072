"""Making, finding, losing and removing the store itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from strata import command
from strata.errors import AlreadyExists, NotFound, RecordError, StoreMissing, UsageError
from strata.linux import loop, mount
from strata.storage import description, setup
from strata.storage.description import StoreConfig
from strata.storage.driver import Driver

if TYPE_CHECKING:
    from conftest import Maker

IDENTITY = {"id": "4f1c", "kind": "container", "name": "web"}
SIZE = 256 << 20


def put(driver: Driver, name: str, text: str) -> None:
    driver.create(name, IDENTITY)
    with open(f"{driver.open(name)}/data", "w") as file:
        file.write(text)


def get(driver: Driver, name: str) -> str:
    with open(f"{driver.open(name)}/data") as file:
        return file.read()


def mounts_below(root: str) -> list[str]:
    return [entry.target for entry in mount.list_mounts() if entry.target.startswith(root)]


# -- the shared store --------------------------------------------------------------------------


def test_the_configuration_is_found_again(store: StoreConfig) -> None:
    with open(f"{store.root}/store.json") as file:
        document = json.load(file)
    assert document == store.to_dict() == description.load(store.root).to_dict()
    assert document["format"] == 1


def test_a_second_init_is_refused_with_a_hint(store: StoreConfig) -> None:
    with pytest.raises(AlreadyExists) as caught:
        setup.initialize(store.root)
    assert "system info" in caught.value.hint


def test_the_engines_own_datasets_are_there(driver: Driver) -> None:
    for name in ("records", "images", "logs"):
        assert driver.get(name).identity["kind"] == "store"
        assert os.path.isdir(driver.open(name))
    for parent in ("layers", "containers", "volumes/_", "build", "trash"):
        driver.list_datasets(parent)


def test_an_attached_store_is_seen_without_programs(driver: Driver) -> None:
    ran: list[Any] = []
    command.observer = ran.append
    try:
        start = time.perf_counter()
        for _ in range(100):
            driver.attach()
        cost = (time.perf_counter() - start) / 100
    finally:
        command.observer = None
    assert ran == []
    if driver.name == "btrfs":
        assert cost < 0.0002


def test_the_root_is_a_shared_mount(store: StoreConfig) -> None:
    entry = mount.find_mount(store.root)
    assert entry is not None
    assert "shared:" in entry.propagation


def test_another_store_is_not_believed(store: StoreConfig) -> None:
    other = description.load(store.root)
    other.id = "0" * 32
    before = mounts_below(store.root)
    with pytest.raises(StoreMissing):
        description.open_driver(other).attach()
    with pytest.raises(StoreMissing):
        setup.reset(other)
    description.open_driver(store).attach()
    assert set(before) <= set(mounts_below(store.root))


# -- without a store ---------------------------------------------------------------------------


def test_no_store_is_said_with_a_hint(folder: str) -> None:
    with pytest.raises(StoreMissing) as caught:
        description.load(f"{folder}/nowhere")
    assert "strata system init" in caught.value.hint
    assert not os.path.exists(f"{folder}/nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "1"}',
                                  '{"format": 1, "id": "x", "driver": "ext4"}',
                                  '{"format": 1, "id": 5, "driver": "btrfs"}'])  # fmt: skip
def test_a_damaged_configuration_is_refused(tmp_path: Any, text: str) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(RecordError):
        description.load(str(tmp_path))


def test_a_newer_format_is_refused(tmp_path: Any) -> None:
    (tmp_path / "store.json").write_text('{"format": 2, "id": "x", "driver": "btrfs"}')
    with pytest.raises(RecordError) as caught:
        description.load(str(tmp_path))
    assert "newer" in caught.value.hint


def test_nonsense_is_refused_before_anything_is_made(folder: str) -> None:
    root = f"{folder}/nonsense"
    for options in (
        {"driver": "ext4"},
        {"driver": "btrfs", "pool": "tank"},
        {"driver": "btrfs", "size": 1 << 20},
        {"driver": "btrfs", "file": "/nowhere/at/all"},
    ):
        with pytest.raises((UsageError, Exception)) as caught:
            setup.initialize(root, **options)  # type: ignore[arg-type]
        assert getattr(caught.value, "hint", "")
        assert set(os.listdir(root) if os.path.exists(root) else []) <= {".attach.lock"}
        assert mounts_below(root) == []


# -- life of a store of its own ----------------------------------------------------------------


@pytest.fixture
def own(make_store: Maker, store: StoreConfig) -> Iterator[StoreConfig]:
    config = make_store(store.driver, f"own-{store.driver}-{time.monotonic_ns()}", SIZE,
                        own_pool=True)  # fmt: skip
    yield config
    setup.reset(config)


def test_a_store_comes_back_after_a_reboot(own: StoreConfig) -> None:
    driver = description.open_driver(own)
    put(driver, "containers/a", "kept")
    guid = driver.get("containers/a").guid
    driver.detach()
    driver.detach()
    assert mounts_below(own.root) == []
    assert own.file is not None
    assert loop.find_device(own.file) is None
    again = description.open_driver(description.load(own.root))
    again.attach()
    assert again.get("containers/a").guid == guid
    assert get(again, "containers/a") == "kept"


def _race(work: Callable[[int], None], contestants: int = 6) -> list[int]:
    """Let processes start the same work together; their exit codes."""
    start_r, start_w = os.pipe()
    pids: list[int] = []
    for number in range(contestants):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(start_w)
                os.read(start_r, 1)
                work(number)
                code = 0
            except AlreadyExists:
                code = 17
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(start_r)
    os.close(start_w)
    return sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def test_a_race_of_attaches_attaches_once(own: StoreConfig) -> None:
    put(description.open_driver(own), "containers/a", "kept")
    description.open_driver(own).detach()

    def work(_: int) -> None:
        driver = description.open_driver(description.load(own.root))
        driver.attach()
        assert get(driver, "containers/a") == "kept"

    assert _race(work) == [0] * 6
    assert own.file is not None
    if own.driver == "btrfs":
        assert mounts_below(own.root).count(f"{own.root}/pool") == 1
        assert loop.find_device(own.file) is not None
    opened = [target for target in mounts_below(own.root) if target.endswith("/containers~a")]
    assert len(opened) == (0 if own.driver == "btrfs" else 1)


def test_one_of_several_wins_a_name(driver: Driver) -> None:
    name = f"containers/race-{time.monotonic_ns()}"
    base = f"{name}-base"
    driver.create(base, IDENTITY)
    driver.snapshot([f"{base}@s"])

    def work(number: int) -> None:
        if number % 2:
            driver.create(name, {**IDENTITY, "id": str(number)})
        else:
            driver.clone(f"{base}@s", name, {**IDENTITY, "id": str(number)})

    assert _race(work) == [0] + [17] * 5
    assert set(driver.get(name).identity) == set(IDENTITY)
    assert driver.collect() == []


def test_one_of_several_makes_the_store(store: StoreConfig, folder: str) -> None:
    root = f"{folder}/race-{store.driver}"

    def work(_: int) -> None:
        setup.initialize(root, driver=store.driver, size=SIZE)

    assert _race(work, 3) == [0, 17, 17]
    setup.reset(description.load(root))


def test_a_vanished_pool_file_is_said_and_nothing_is_made(own: StoreConfig) -> None:
    driver = description.open_driver(own)
    driver.detach()
    assert own.file is not None
    os.rename(own.file, f"{own.file}.away")
    with pytest.raises(StoreMissing) as caught:
        driver.attach()
    assert own.file in caught.value.message
    assert not os.path.exists(own.file)
    os.rename(f"{own.file}.away", own.file)
    driver.attach()


def test_reset_removes_the_store_and_nothing_else(own: StoreConfig) -> None:
    with open(f"{own.root}/mine", "w") as file:
        file.write("kept")
    setup.reset(own)
    assert "mine" in os.listdir(own.root)
    assert not os.path.exists(str(own.file))
    assert mounts_below(own.root) == []
    with pytest.raises(StoreMissing):
        description.load(own.root)
    setup.reset(own)


def test_a_lost_configuration_is_completed_by_init(own: StoreConfig) -> None:
    driver = description.open_driver(own)
    put(driver, "containers/a", "kept")
    os.unlink(f"{own.root}/store.json")
    again = setup.initialize(own.root, driver=own.driver, file=own.file)
    assert again.id == own.id
    assert get(description.open_driver(again), "containers/a") == "kept"


def test_a_foreign_file_is_never_overwritten(store: StoreConfig, folder: str) -> None:
    path = f"{folder}/precious-{store.driver}"
    with open(path, "wb") as file:
        file.write(b"precious" * 1000)
    root = f"{folder}/foreign-{store.driver}"
    with pytest.raises(AlreadyExists):
        setup.initialize(root, driver=store.driver, file=path, size=SIZE)
    with open(path, "rb") as file:
        assert file.read() == b"precious" * 1000
    assert mounts_below(root) == []


def test_a_store_is_not_taken_over_by_another_root(own: StoreConfig, folder: str) -> None:
    put(description.open_driver(own), "containers/a", "kept")
    root = f"{folder}/thief-{own.driver}"
    where = {"pool": own.pool} if own.pool else {"file": own.file}
    with pytest.raises(AlreadyExists):
        setup.initialize(root, driver=own.driver, **where)
    assert mounts_below(root) == []
    driver = description.open_driver(own)
    driver.attach()
    assert get(driver, "containers/a") == "kept"


def test_an_unknown_pool_is_said(store: StoreConfig, folder: str) -> None:
    if store.driver == "btrfs":
        return
    root = f"{folder}/unknown-pool"
    with pytest.raises(NotFound) as caught:
        setup.initialize(root, driver="zfs", pool="nosuchpool/data")
    assert "zpool list" in caught.value.hint
    assert mounts_below(root) == []


def test_the_mount_of_a_removed_store_goes_also_while_a_file_is_open(folder: str) -> None:
    """Unless others are mounted below, which would go with it."""
    root = f"{folder}/open"
    os.makedirs(f"{root}/below")
    setup.share_root(root)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        mount.mount("none", f"{root}/below", "tmpfs")
        setup.unshare_root(root)
        assert mounts_below(root) == [root, f"{root}/below"]
        mount.unmount(f"{root}/below")
        setup.unshare_root(root)
        assert mounts_below(root) == []
    finally:
        os.close(fd)


# -- init, killed at every step ----------------------------------------------------------------

_EVENTS = frozenset({"os.mkdir", "os.rename", "os.remove", "os.truncate", "fcntl.ioctl",
                     "os.setxattr", "os.posix_spawn", "os.chmod", "open"})  # fmt: skip
_PROGRAMS = frozenset({"os.posix_spawn", "os.rename"})


def _initialize_and_die(root: str, driver: str, step: int) -> bool:
    """Run init in a child that is killed before its ``step``-th effect; whether it was."""
    wanted = _EVENTS if driver == "btrfs" else _PROGRAMS
    pid = os.fork()
    if pid == 0:
        left = step

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in wanted or (event == "open" and not (int(arguments[2] or 0) & 3)):
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            setup.initialize(root, driver=driver, size=SIZE)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def test_init_killed_at_any_step_is_completed_by_the_next(store: StoreConfig, folder: str) -> None:
    stride = 3 if store.driver == "btrfs" else 7
    if store.dialect == "openzfs":
        stride = 30
    step = 1
    while True:
        root = f"{folder}/killed-{store.driver}-{step}"
        killed = _initialize_and_die(root, store.driver, step)
        try:
            config = setup.initialize(root, driver=store.driver, size=SIZE)
        except AlreadyExists:
            config = description.load(root)
        driver = description.open_driver(config)
        driver.attach()
        put(driver, "containers/a", "works")
        assert get(driver, "containers/a") == "works"
        assert sorted(name for name in os.listdir(root) if name.endswith(".new")) == []
        setup.reset(config)
        assert mounts_below(root) == []
        if not killed:
            assert step > 10
            return
        step += stride
