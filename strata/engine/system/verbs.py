"""The store as a whole: making it and removing it.

A store appears and disappears with ``store.json``, which is written last and removed last. So a
killed ``init`` is completed by the next one, and a killed ``reset`` by the next ``reset``.

The other verbs on the store have modules of their own: `info`, `space` (df), `check` and `rebuild`.
There is one format of stores so far; a newer one is refused wherever it is met (see
`strata.storage.marker`).
"""

from __future__ import annotations

import os
import shutil
import time

from strata import trace
from strata.engine import adoption, names, pools, settings
from strata.engine.core import Engine, Record, get_roots, open_engine
from strata.engine.system import aside
from strata.errors import InUse, StoreMissing, StrataError, UsageError
from strata.linux import mount
from strata.linux.tree import remove_file
from strata.storage import description, setup
from strata.storage.description import StoreConfig
from strata.storage.driver import Driver
from strata.store import lifecycle, reserve
from strata.store.paths import Paths
from strata.store.records import Records
from strata.store.trash import Trash

_STOP_SECONDS = 10
_RELEASE_SECONDS = 10


def init(
    root: str | None = None, runroot: str | None = None, *, driver: str | None = None,
    pool: str | None = None, file: str | None = None, size: int | None = None,
) -> Record:  # fmt: skip
    """Make the store and return where it is.

    ``size`` is in bytes. `AlreadyExists` when there is one. What a killed run left is taken over.
    """
    root, runroot = get_roots(root, runroot)
    config = setup.initialize(
        os.path.abspath(root), driver=driver, pool=pool, file=file, size=size, furnish=_furnish
    )
    Paths(root, runroot).ensure_runroot()
    return {
        "Driver": config.driver, "Root": config.root,
        "Pool": config.dataset or config.pool or "", "File": config.file or "",
        "Size": config.size,
    }  # fmt: skip


def _furnish(driver: Driver) -> None:
    """What every store holds before it is announced: the directories of its records."""
    records = Records(driver.open("records"))
    records.ensure_layout()
    Trash(f"{records.folder}/trash").tick()
    reserve.ensure(records.folder, driver.get_pool_space().free)
    trace.point("init:furnished")


# -- the other verbs on the store ------------------------------------------------------------------


def df(e: Engine, verbose: bool = False) -> Record:
    """See `strata.engine.system.space.df`."""
    from strata.engine.system.space import df as show

    return show(e, verbose)


def check(e: Engine, repair: bool = False) -> Record:
    """See `strata.engine.check.check`."""
    from strata.engine.system.check import check as compare

    return compare(e, repair)


def rebuild(root: str | None = None, runroot: str | None = None) -> Record:
    """See `strata.engine.rebuild.rebuild`."""
    from strata.engine.system.rebuild import rebuild as recreate

    return recreate(root, runroot)


# -- removing --------------------------------------------------------------------------------------


def list_losses(root: str | None = None, runroot: str | None = None) -> list[str]:
    """What a reset would remove, one line each, for the question before it.

    Says so in one line when the store cannot be opened; `StoreMissing` when there is none.
    """
    description.load(Paths(*get_roots(root, runroot)).root)
    try:
        e = open_engine(root, runroot)
    except StrataError as error:
        return [f"a store whose content cannot be listed: {error.message}"]
    lines = []
    for kind in ("container", "volume", "image"):
        records = list(e.records.list_records(kind))
        if not records:
            continue
        shown = sorted(
            str(record.get("name") or (record.get("names") or [record["id"][:12]])[0])
            for record in records
        )
        more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
        lines.append(f"{len(shown)} {kind}{'s'[: len(shown) > 1]}: {', '.join(shown[:8])}{more}")
    trashed = len(e.trash.list_ids())
    if trashed:
        lines.append(f"{trashed} removed object{'s'[: trashed > 1]} that could still be restored")
    adopted = [names.show_dataset(e, known) for record in e.records.list_records("volume")
               if record.get("adopted") for known in (record, *record["branches"])]  # fmt: skip
    if adopted:
        lines.append(f"the records of adopted datasets, which stay: {', '.join(sorted(adopted))}")
    for name, place in sorted(e.config.pools.items()):
        lines.append(f"the pool {name}: {pools.show_place(e, place)}")
    lines.append(f"the store itself: {e.config.file or e.config.dataset}")
    return lines


def reset(
    root: str | None = None, runroot: str | None = None, *, force: bool = False, now: bool = False,
) -> Record:  # fmt: skip
    """Stop all containers and set this store aside, or destroy it ``now``, and nothing else.

    Returns ``Losses`` (see `list_losses`), and where the store is kept until when: ``Place`` (""
    for nowhere) and ``Due``, in seconds since the epoch; `aside.bring_back` is the way back.
    Without ``force`` nothing happens but `UsageError` with the losses: asking is the caller's
    business. ``Left``: places in other pools that were not in reach, and stay. `InUse` when a
    container cannot be stopped or somebody else holds the pool; then what was not yet removed
    stays.
    """
    root, runroot = get_roots(root, runroot)
    try:
        config = description.load(os.path.abspath(root))
    except StoreMissing:
        gone = aside.destroy(os.path.abspath(root)) if now and force else []
        if not gone:
            raise
        return {"Losses": gone, "Place": "", "Due": 0.0, "Left": []}
    paths = Paths(root, runroot)
    losses = list_losses(root, runroot)
    if not force:
        raise UsageError(f"reset would remove {'; '.join(losses)}", hint="add --force to do it")
    runtimes = {"crun", "runc"}
    left: list[str] = []
    try:
        e = open_engine(root, runroot)
    except StrataError:
        _release_paths(paths)
        kept = _destroy(config, now or not _has_pool(config))
    else:
        with e.lock_store():
            for record in e.records.list_records("container"):
                runtimes.add(os.path.basename(record["config"]["runtime"] or "crun"))
            _stop_all(e)
            trace.point("reset:stopped")
            from strata.engine.networks import host as networks

            networks.remove_all(e)
            trace.point("reset:networks-removed")
            for name in os.listdir(paths.volumes) if os.path.isdir(paths.volumes) else ():
                e.unmount_volume(name)
                e.remove_mountpoint(name)
            _release_paths(paths)
            trace.point("reset:unmounted")
            if now:
                adoption.give_back_all(e)
                left = pools.destroy_all(config)
            kept = _destroy(config, now)
    trace.point("reset:destroyed")
    for name in ("c", "frozen", "locks", "mounted", "net", "netns", "seccomp", "watch",
                 *sorted(runtimes)):  # fmt: skip
        shutil.rmtree(f"{paths.runroot}/{name}", ignore_errors=True)
    for path in (f"{paths.root}/.attach.lock", f"{paths.root}/.mount.lock",
                 f"{paths.runroot}/ps.summary", f"{paths.runroot}/{settings.CACHE}"):  # fmt: skip
        remove_file(path)
    for folder in (*(f"{paths.root}/{name}" for name in ("mnt", "fuse", "mounts", "pool", "past")),
                   paths.volumes):  # fmt: skip
        _remove_empty(folder)
    for folder in (paths.runroot, paths.root):
        try:
            os.rmdir(folder)
        except OSError:
            continue
    return {"Losses": losses, "Place": kept["place"] if kept else "",
            "Due": time.time() + aside.KEPT if kept else 0.0, "Left": left}  # fmt: skip


def _has_pool(config: StoreConfig) -> bool:
    """Whether there is anything of a store that cannot be opened which could be kept."""
    places = [entry["config"]["id"] for entry in aside.list_entries(config.root)]
    return config.id in places or config.file is None or os.path.exists(config.file)


def _remove_empty(path: str) -> None:
    """Remove directories that hold nothing but directories; a file in them stays."""
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            continue


def _stop_all(e: Engine) -> None:
    for record in e.records.list_records("container"):
        if lifecycle.derive(record) not in lifecycle.LIVE:
            continue
        from strata.engine.containers import life

        with e.hold_if_there(record) as fresh:
            record = fresh or record
            try:
                life.stop_locked(e, record, time=_STOP_SECONDS)
            except StrataError as error:
                raise InUse(
                    f"container {record['name']} cannot be stopped: {error.message}",
                    hint="nothing was removed; end its processes and try again",
                ) from error
            life.release_runtime(e, record)


def _release_paths(paths: Paths) -> None:
    """Unmount what lies below the run directory, and volumes and containers from the host."""
    from strata.engine.containers import mounting

    mounting.forget_all(paths)
    below = (f"{paths.runroot}/", f"{paths.volumes}/", f"{paths.root}/past/")
    for entry in reversed(mount.list_mounts()):
        if entry.target.startswith(below):
            try:
                mount.unmount(entry.target, lazy=True)
            except OSError:
                continue


def _destroy(config: StoreConfig, now: bool) -> Record | None:
    """Destroy the pool or set it aside, giving the exit commands of stopped containers the time to
    end; where it is kept."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        try:
            if not now:
                return aside.put(config)
            setup.reset(config)
            return None
        except InUse:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
