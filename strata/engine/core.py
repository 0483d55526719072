"""The opened store: driver, records, journal, locks, in one value that every verb takes first.

`open_engine` reads the store's description, makes sure that the very store it describes is
attached, and returns an `Engine`. It is on the path of every command, so it does nothing twice
and imports nothing it does not need.
"""

from __future__ import annotations

import os

from strata import trace
from strata.errors import StoreMissing, StrataError
from strata.linux import locks
from strata.storage import description, layout
from strata.storage.description import StoreConfig
from strata.storage.driver import DatasetNotFound, HasDependants
from strata.store import reserve
from strata.store.files import write_json
from strata.store.journal import Journal, Operation
from strata.store.paths import DEFAULT_ROOT, DEFAULT_RUNROOT, Paths
from strata.store.records import Records, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from strata.storage.driver import Driver
    from strata.store.trash import Trash

    Record = dict[str, Any]
    T = TypeVar("T")
else:
    Record = dict

PRIVATE = ".strata"
ROOTFS = "rootfs"


class Engine:
    """One opened store. Cheap; holds no descriptors of its own."""

    __slots__ = (
        "_origin",
        "_trash",
        "buried",
        "config",
        "destroys",
        "driver",
        "images_folder",
        "journal",
        "logs",
        "paths",
        "records",
        "words",
    )

    def __init__(self, paths: Paths, config: StoreConfig, driver: Driver) -> None:
        self.paths = paths
        self.config = config
        self.driver = driver
        self.records = Records(driver.open("records"))
        self.images_folder = driver.open("images")
        self.logs = driver.open("logs")
        self._trash: Trash | None = None
        self.journal = Journal(f"{self.records.folder}/journal", paths.locks, self._undo)
        #: the words of the command this engine was opened for, as the trash shows them
        self.words: list[str] = []
        self._origin: Record | None = None
        #: how many objects this command removed
        self.buried = 0
        #: whether this command destroys what it removes at once (``--now``)
        self.destroys = False

    @property
    def trash(self) -> Trash:
        """What was removed and can be brought back."""
        if self._trash is None:
            from strata.store.trash import Trash

            self._trash = Trash(f"{self.records.folder}/trash")
        return self._trash

    # -- locks, always taken in this order: store, image, networks, container, volume, links -----

    def lock_store(self, *, shared: bool = False, timeout: float = 120) -> locks.Lock:
        """The lock of verbs that act on everything (rebuild, reset, check --repair)."""
        return locks.lock(f"{self.paths.locks}/0-store", shared=shared, timeout=timeout,
                          what="the store")  # fmt: skip

    def lock_images(self, timeout: float = 60) -> locks.Lock:
        """Image names and image records."""
        return locks.lock(f"{self.paths.locks}/1-images", timeout=timeout, what="the image list")

    def lock_chain(self, chain_id: str) -> locks.Lock:
        """One layer being unpacked; a second pull of it waits for the first."""
        return locks.lock(f"{self.paths.locks}/1-layer.{chain_id[-64:]}", timeout=3600,
                          what=f"layer {chain_id}")  # fmt: skip

    def lock_container(self, object_id: str, *, name: str = "", timeout: float = 60) -> locks.Lock:
        """One container's life."""
        return locks.lock(self._lock_path("container", object_id), timeout=timeout,
                          what=f"container {name or object_id[:12]}")  # fmt: skip

    def is_container_locked(self, object_id: str) -> bool:
        """Whether some command is at a container right now."""
        if not os.path.exists(self._lock_path("container", object_id)):
            return False
        held = self.try_lock("container", object_id)
        if held is None:
            return True
        held.release()
        return False

    def lock_networks(self, *, shared: bool = False, timeout: float = 60) -> locks.Lock:
        """Which networks there are; shared by who makes a container that uses one."""
        return locks.lock(f"{self.paths.locks}/1-networks", shared=shared, timeout=timeout,
                          what="the list of networks")  # fmt: skip

    def lock_links(self, *, shared: bool = False, timeout: float = 60) -> locks.Lock:
        """Bridges and rules of the host, after all other locks; shared by who adds to them."""
        return locks.lock(f"{self.paths.locks}/4-links", shared=shared, timeout=timeout,
                          what="the host's side of the networks")  # fmt: skip

    def lock_volume(self, object_id: str, *, name: str = "", timeout: float = 60) -> locks.Lock:
        """One volume's head, branches and mountpoint."""
        return locks.lock(self._lock_path("volume", object_id), timeout=timeout,
                          what=f"volume {name or object_id[:12]}")  # fmt: skip

    def try_lock(self, kind: str, object_id: str) -> locks.Lock | None:
        """The lock of a container or volume if nobody has it now."""
        return locks.try_lock(self._lock_path(kind, object_id))

    def _lock_path(self, kind: str, object_id: str) -> str:
        order = "3-volume" if kind == "volume" else "2-container"
        return f"{self.paths.locks}/{order}.{object_id}"

    def lock_object(self, record: Record, *, timeout: float = 60) -> locks.Lock:
        """The lock of a container or volume, whichever the record is of."""
        take = self.lock_volume if record["kind"] == "volume" else self.lock_container
        return take(record["id"], name=record["name"], timeout=timeout)

    def hold(self, record: Record, *, timeout: float = 60) -> _Hold:
        """A container or volume under its lock: ``with`` gives its record as it is now.

        `NotFound` when it is gone. The lock's file goes with the object, whoever removes it.
        """
        return _Hold(self, record, timeout)

    def hold_if_there(self, record: Record, *, timeout: float = 60) -> _HoldIfThere:
        """Like `hold`, but ``with`` gives None when it is gone."""
        return _HoldIfThere(self, record, timeout)

    def forget_lock(self, held: locks.Lock) -> None:
        """Remove the file of a lock whose object is gone, then release it."""
        try:
            os.unlink(held.path)
        except FileNotFoundError:
            pass
        held.release()

    @property
    def spool(self) -> str:
        """Where an operation keeps what it reads once; below it a folder per operation."""
        return f"{self.images_folder}/spool"

    # -- operations ------------------------------------------------------------------------------

    def allow_reserve(self) -> None:
        """For verbs that give space back, so that they work on a full pool."""
        reserve.allow(self.records.folder)

    def begin(self, verb: str, *undo: list[str], keep: list[str] | None = None) -> Operation:
        """Settle what killed commands left, then start a journalled operation."""
        self.recover()
        return self.journal.begin(verb, *undo, keep=keep)

    def recover(self) -> int:
        """Undo operations of killed commands; cheap when there are none."""
        if not os.listdir(self.journal.folder):
            return 0
        return self.journal.recover()

    def _undo(self, step: list[str]) -> None:
        from strata.engine import undo

        undo.perform(self, step)

    def settle_removal(self, object_id: str) -> None:
        """Finish a removal whose trash entry was written; nothing when it was not."""
        entry = self.trash.find(object_id)
        if entry is None:
            return
        kind, record = entry["object"], entry["record"]
        if kind in ("container", "volume"):
            self.records.drop_name(kind, record["name"], object_id)
        if record.get("config", {}).get("secrets"):
            from strata.engine import secrets

            secrets.forget_for(self, object_id)
        self.records.delete(kind, object_id)
        if kind == "volume" and layout.is_outside(record["dataset"]):
            from strata.engine import adoption

            adoption.drop_copy(self, object_id)

    @property
    def origin(self) -> Record:
        """What trash entries say of the command that made them: one operation per engine.

        ``uid`` is the user behind sudo, where there is one.
        """
        if self._origin is None:
            uid = os.environ.get("SUDO_UID", "")
            self._origin = {
                "operation": new_id(12), "words": self.words,
                "uid": int(uid) if uid.isdecimal() and len(uid) < 10 else os.getuid(),
            }  # fmt: skip
        return self._origin

    def bury(
        self, kind: str, record: Record, datasets: list[str], *, verb: str, keep: bool
    ) -> Record:  # fmt: skip
        """Write the trash entry of an object; from here on it counts as removed.

        Without ``keep``, and where the command destroys, it is due at once. Returns the entry.
        """
        from strata.store.trash import make_entry

        keep = keep and not self.destroys
        entry = make_entry(
            kind, record, datasets, verb=verb, keep=keep,
            now=self.trash.now() if keep else 0.0, origin=self.origin,
        )  # fmt: skip
        self.trash.save(entry)
        self.buried += 1
        return entry

    # -- datasets --------------------------------------------------------------------------------

    def destroy_dataset(self, name: str) -> None:
        """Destroy a dataset with its snapshots and our mounts of it. Idempotent.

        `PlaceMissing` when its pool is not there now, so that it is not taken for gone."""
        if layout.is_outside(name):
            self.driver.outside.check_place(name)
        self.driver.close(name)
        try:
            self.driver.destroy_recursive(name)
        except DatasetNotFound:
            pass

    def try_destroy(self, name: str) -> bool:
        """Destroy a dataset if nothing needs it; False when a clone does."""
        try:
            self.destroy_dataset(name)
        except HasDependants:
            return False
        return True

    def unmount_volume(self, name: str) -> None:
        """Unmount a volume's host mountpoint. Idempotent."""
        from strata.linux import mount

        mount.take_down(self.paths.volume_mountpoint(name))

    def remove_mountpoint(self, name: str) -> None:
        """Remove a volume's empty mountpoint directories. Idempotent."""
        target = self.paths.volume_mountpoint(name)
        for folder in (target, os.path.dirname(target)):
            try:
                os.rmdir(folder)
            except OSError:
                return

    def move_to_trash(self, entry: Record) -> None:
        """Rename an entry's datasets into the trash where a dataset in use can be renamed.

        Elsewhere the trash is logical: the entry alone says that the datasets are removed. The
        entry is written between the renames, and names both while one is under way, so that a
        crash leaves none unknown. It is a tidying: the object is removed already, so what fails
        stays where it is, and the next collection tries again.
        """
        if not self.driver.facts.rename_busy or not entry["due"]:
            return
        try:
            self._rename_into_trash(entry)
        except (StrataError, OSError):
            return

    def _rename_into_trash(self, entry: Record) -> None:
        for index, dataset in enumerate(entry["datasets"]):
            if dataset.startswith("trash/") or layout.is_outside(dataset):
                continue  # where it is, or in a pool of its own: the entry says that it is removed
            new = layout.trash(dataset)
            self.trash.save({**entry, "datasets": [*entry["datasets"], new]})
            trace.point("trash:announced")
            try:
                self.driver.close(dataset)
                self.driver.rename(dataset, new)
            except DatasetNotFound:
                new = dataset
            entry["datasets"][index] = new
            trace.point("trash:renamed")
        self.trash.save(entry)

    def write_copy(self, dataset: str, record: Record) -> None:
        """Write the record's copy beside the dataset's ``rootfs`` (what ``rebuild`` reads)."""
        folder = f"{self.driver.open(dataset)}/{PRIVATE}"
        os.makedirs(folder, 0o700, exist_ok=True)
        write_json(f"{folder}/record.json", record, durable=False)


class _Locked:
    """What `Engine.hold` and `Engine.hold_if_there` have in common."""

    __slots__ = ("_e", "_lock", "_of", "_timeout")

    def __init__(self, e: Engine, of: Record, timeout: float) -> None:
        self._e = e
        self._of = of
        self._timeout = timeout

    def _take(self, read: Callable[[str, str], T]) -> T:
        self._lock = self._e.lock_object(self._of, timeout=self._timeout)
        try:
            return read(self._of["kind"], self._of["id"])
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if os.path.exists(self._e.records.path(self._of["kind"], self._of["id"])):
            self._lock.release()
        else:
            self._e.forget_lock(self._lock)


class _Hold(_Locked):
    __slots__ = ()

    def __enter__(self) -> Record:
        return self._take(self._e.records.get)


class _HoldIfThere(_Locked):
    __slots__ = ()

    def __enter__(self) -> Record | None:
        return self._take(self._e.records.find)


def get_roots(root: str | None, runroot: str | None) -> tuple[str, str]:
    """The state and run directories: given, from the environment, or the defaults."""
    return (
        root or os.environ.get("STRATA_ROOT") or DEFAULT_ROOT,
        runroot or os.environ.get("STRATA_RUNROOT") or DEFAULT_RUNROOT,
    )


def open_engine(root: str | None = None, runroot: str | None = None) -> Engine:
    """Open the store; `StoreMissing` when there is none or its pool is not reachable."""
    root, runroot = get_roots(root, runroot)
    paths = Paths(root, runroot)
    config = description.load(paths.root)
    driver = description.open_driver(config)
    try:
        driver.attach()
        paths.ensure_runroot()
        e = Engine(paths, config, driver)
    except DatasetNotFound as error:
        raise StoreMissing(
            f"a part of the store is gone: {error.message}",
            hint="`strata system rebuild` makes it anew from the datasets",
        ) from error
    if os.path.isdir(paths.frozen):
        from strata.engine.history.freezing import thaw_left

        thaw_left(e)
    return e
