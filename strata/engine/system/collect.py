"""Collection: destroy what nothing needs, and only that.

Verbs never destroy datasets that something may still need; they write trash entries. Collection
reads who needs what (records, trash, leases, clones), destroys the rest, skips what is leased or
locked, and never stops at one failure. It runs detached after removing verbs, and inside
``prune`` and ``system check --repair``.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine.core import Engine, Record
from strata.errors import Busy, StrataError
from strata.linux import locks
from strata.linux.detached import run_detached
from strata.storage.driver import DatasetNotFound
from strata.store import reserve, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DOWNLOAD_DAYS = 1
#: a pool with less than this part of it free counts as full
_ROOM_PART = 50
_ROOM_WAIT = 2.0
#: what does not give way on a full pool
_LASTING = ("volume", "branch", "network")


class Collected:
    """What one collection did."""

    __slots__ = ("datasets", "failed", "layers")

    def __init__(self) -> None:
        self.datasets: list[str] = []
        self.layers: list[str] = []
        #: (dataset, reason)
        self.failed: list[tuple[str, str]] = []


def find_needed_layers(e: Engine, *, images_alone: bool = False) -> set[str]:
    """Layer ids that images, containers, the trash or living operations need, with parents.

    ``images_alone``: leave out what only containers and the trash need, and reading all of them.
    """
    needed = e.journal.list_kept()
    for image in e.records.list_records("image"):
        needed.update(image["layers"])
    for container in () if images_alone else e.records.list_records("container"):
        needed.add(container.get("layer") or "")
    for entry in () if images_alone else e.trash.list_entries():
        record = entry["record"]
        needed.update(record.get("layers") or ())
        needed.add(record.get("layer") or "")
    parents = {layer["id"]: layer["parent"] for layer in e.records.list_records("layer")}
    for layer_id in list(needed):
        parent = parents.get(layer_id)
        while parent and parent not in needed:
            needed.add(parent)
            parent = parents.get(parent)
    needed.discard("")
    return needed


def collect(e: Engine) -> Collected:
    """Destroy due trash and layers nothing needs. Errors are collected, never raised."""
    done = Collected()
    e.allow_reserve()
    e.trash.tick()
    now = e.trash.now()
    _empty_due(e, now, done)
    _destroy_aside(e)
    _make_room(e, done)
    with locks.lock(f"{e.paths.locks}/0-collect", timeout=60, what="collection"):
        _collect_layers(e, done)
        _remove_stale_locks(e)
    e.driver.settle_counting()
    reserve.ensure(e.records.folder, e.driver.get_pool_space().free)
    return done


def _empty_due(e: Engine, now: float, done: Collected) -> None:
    """Destroy what is due, again while that lets something else go: clones pin what they are of."""
    while due := e.trash.list_due(now):
        gone = len(done.datasets)
        done.failed.clear()
        for entry in due:
            empty_entry(e, entry, done)
        if len(done.datasets) == gone:
            return


def _destroy_aside(e: Engine) -> None:
    """Destroy stores that were removed at our root, when their time has come."""
    if os.path.isdir(f"{e.paths.root}/removed"):
        from strata.engine.system import aside

        aside.destroy(e.paths.root, due=True)


def _remove_stale_locks(e: Engine) -> None:
    """Remove lock files of what is gone: who waited for one while it went makes it anew."""
    held = {f"op.{entry['id']}" for entry, _ in e.journal.list_entries()}
    known = {
        object_id for kind in ("container", "volume") for object_id in e.records.list_ids(kind)
    }
    chains = {digits[-64:] for digits in e.records.list_names("chain")}
    for name in os.listdir(e.paths.locks):
        what, _, rest = name.partition(".")
        stale = (
            (what == "op" and name not in held)
            or (what in ("2-container", "3-volume") and rest not in known)
            or (what == "1-layer" and rest not in chains)
        )
        if stale:
            free = locks.try_lock(f"{e.paths.locks}/{name}")
            if free is not None:
                e.forget_lock(free)


def _make_room(e: Engine, done: Collected) -> None:
    """On a pool that is all but full, the trash gives way, the oldest first.

    Never volumes and branches: what was in one exists nowhere else. ``strata trash empty`` is
    their way out. Nor networks, which hold no space.
    """
    if not _is_full(e):
        return
    entries = [e_ for e_ in e.trash.list_entries() if e_["object"] not in _LASTING]
    for entry in sorted(entries, key=trash.when):
        empty_entry(e, entry, done)
        if wait_room(e, lambda: not _is_full(e)):
            return


def wait_room(e: Engine, is_enough: Callable[[], bool]) -> bool:
    """Wait a moment for what was destroyed to give its space back; whether it is enough.

    Space comes back some time after a dataset is destroyed; btrfs begins to give it back at a
    commit, which on an idle pool may be half a minute away.
    """
    deadline = time.monotonic() + _ROOM_WAIT
    while not is_enough():
        if time.monotonic() > deadline:
            return False
        e.driver.sync()
        time.sleep(0.05)
    return True


def _is_full(e: Engine) -> bool:
    space = e.driver.get_pool_space()
    return space.free < max(space.size // _ROOM_PART, 2 * reserve.SIZE)


def empty_entry(e: Engine, entry: Record, done: Collected) -> None:
    """Destroy an entry's datasets; forget it when all are gone. Not one that is coming back."""
    kind = entry["object"]
    if "restoring" in entry:
        return
    if kind == "image":
        _forget_image(e, entry["id"], done)
        return
    if kind == "name":
        e.trash.delete(entry["id"])
        return
    if kind == "network":
        _empty_network(e, entry, done)
        return
    target, of_kind = entry["id"], kind
    if kind in ("snapshot", "branch"):
        target, of_kind = entry["record"]["target"], entry["record"]["target_kind"]
    held = e.try_lock(of_kind, target)
    if held is None:
        return
    with held:
        # Until we had the lock its datasets may have moved, or it may be an entry no more.
        found = e.trash.find(entry["id"])
        if found is None or "restoring" in found:
            return
        if found["record"].get("adopted"):
            from strata.engine import adoption

            adoption.settle(e, entry["id"])
        elif kind not in ("snapshot", "branch"):
            e.settle_removal(entry["id"])
        if not _destroy_content(e, found, done):
            return
        e.trash.delete(entry["id"])
        _drop_origin(e, found["record"])
        if kind == "container":
            from strata.engine.containers.removal import remove_logs

            remove_logs(found["record"])
        if e.records.find(of_kind, target) is None:
            e.forget_lock(held)


def _empty_network(e: Engine, entry: Record, done: Collected) -> None:
    from strata.engine.networks import removal

    try:
        removal.empty(e, entry["id"])
    except StrataError as error:
        done.failed.append((f"network {entry['name']}", error.message))


def _drop_origin(e: Engine, record: Record) -> None:
    """Destroy the snapshot that was taken only for a clone that is gone now."""
    origin = record.get("cloned")
    if not origin:
        return
    from strata.engine.history import clones

    try:
        clones.drop_origin(e, origin)
    except StrataError:
        return  # others stand on it, or it is in use: it stays, and is seen in the log


def _destroy_content(e: Engine, entry: Record, done: Collected) -> bool:
    """Destroy what an entry holds; whether all of it is gone."""
    if entry["object"] == "snapshot":
        from strata.engine.history import snapshot_removal

        try:
            return snapshot_removal.destroy_removed(e, entry)
        except StrataError as error:
            done.failed.append((entry["name"], error.message))
            return False
    complete = True
    if entry["record"].get("adopted"):
        from strata.engine import adoption

        try:
            return adoption.destroy_removed(e, entry["id"])
        except StrataError as error:
            done.failed.append((entry["name"], error.message))
            return False
    for dataset in entry["datasets"]:
        try:
            gone = e.try_destroy(dataset)
        except StrataError as error:
            done.failed.append((dataset, error.message))
            gone = False
        if gone:
            done.datasets.append(dataset)
        complete = complete and gone
        trace.point("collect:destroyed")
    return complete


def _forget_image(e: Engine, image_id: str, done: Collected) -> None:
    from strata.engine.images.verbs import forget_documents, settle_removal

    try:
        held = e.lock_images()
    except Busy as error:
        done.failed.append((f"image {image_id[:12]}", error.message))
        return
    with held:
        if e.trash.find(image_id) is None:
            return  # it was pulled again
        settle_removal(e, image_id)
        trace.point("collect:image-settled")
        forget_documents(e, image_id)
        e.trash.delete(image_id)


def _collect_layers(e: Engine, done: Collected) -> None:
    def find_waste(needed: set[str]) -> dict[str, Record]:
        return {r["id"]: r for r in e.records.list_records("layer") if r["id"] not in needed}

    # Containers are many, also in the trash, and nearly always stand on layers that images need.
    if not find_waste(find_needed_layers(e, images_alone=True)):
        return
    waste = find_waste(find_needed_layers(e))
    while waste:
        parents = {record["parent"] for record in waste.values()}
        leaves = [record for record in waste.values() if record["id"] not in parents]
        for record in leaves:
            del waste[record["id"]]
            if not _destroy_layer(e, record, done):
                below = record["parent"]
                while below in waste:
                    below = waste.pop(below)["parent"]
        if not leaves:
            return


def _destroy_layer(e: Engine, record: Record, done: Collected) -> bool:
    """Destroy one unneeded layer; whether it is gone."""
    held = locks.try_lock(f"{e.paths.locks}/1-layer.{record['chain_id'][-64:]}")
    if held is None:
        return False
    with held:
        # Once more: others may have come to need it. From here on who finds it by its chain waits.
        if record["id"] in find_needed_layers(e):
            return False
        trace.point("collect:layer-unneeded")
        if record["dataset"]:
            try:
                if not e.try_destroy(record["dataset"]):
                    return False
            except StrataError as error:
                done.failed.append((record["dataset"], error.message))
                return False
        trace.point("collect:layer-destroyed")
        e.records.drop_name("chain", record["chain_id"].partition(":")[2], record["id"])
        e.records.delete("layer", record["id"])
        done.layers.append(record["id"])
    return True


def report(e: Engine, removed: list[str], free_before: int) -> Record:
    """Collect, and say what a prune did: freed bytes and bytes the trash still holds, apart."""
    done = collect(e)
    freeing = False
    if done.datasets or done.layers:
        freeing = not wait_room(e, lambda: not e.driver.is_freeing())
        e.driver.sync()  # what is free counts as such from the next transaction on
    entries, held = count_trash(e)
    return {
        "Deleted": removed,
        "Freed": max(0, e.driver.get_pool_space().free - free_before),
        "Trash": held,
        "TrashEntries": entries,
        "Freeing": freeing,
        "Failed": [f"{dataset}: {reason}" for dataset, reason in done.failed],
    }


def count_trash(e: Engine) -> tuple[int, int]:
    """Entries in the trash, and the bytes their datasets hold where the driver can tell."""
    sizes = [measure_entry(e, entry) for entry in e.trash.list_entries()]
    return len(sizes), sum(size or 0 for size in sizes)


def measure_entry(e: Engine, entry: Record) -> int | None:
    """The bytes an entry's datasets hold, None where the driver cannot tell of any."""
    if entry["object"] == "snapshot":
        from strata.engine.history import snapshot_removal

        return snapshot_removal.measure_removed(e, entry)
    sizes: list[int] = []
    for dataset in entry["datasets"]:
        try:
            used = e.driver.get_usage(dataset).used
        except DatasetNotFound:
            continue
        if used is not None:
            sizes.append(used)
    return sum(sizes) if sizes else None


def remove_old_downloads(e: Engine) -> None:
    """Remove partial blobs nobody resumed for a day, and the empty folders of killed pulls."""
    limit = time.time() - DOWNLOAD_DAYS * 86400
    for name in os.listdir(e.images_folder):
        if not name.startswith("downloads"):
            continue
        folder = f"{e.images_folder}/{name}"
        for path in (*(f"{folder}/{blob}" for blob in os.listdir(folder)), folder):
            try:
                if os.stat(path).st_mtime < limit:
                    os.rmdir(path) if path == folder else os.unlink(path)
            except OSError:
                continue  # gone, or a folder with younger blobs


def collect_detached(e: Engine, first: Callable[[], None] | None = None) -> None:
    """Do ``first``, then collect, in a process of its own that outlives the caller.

    What was removed ``--now`` is gone when this returns.
    """

    def act() -> None:
        if first is not None:
            first()
        collect(e)

    if e.destroys:
        act()
    else:
        run_detached(act)
