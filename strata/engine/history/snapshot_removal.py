"""Snapshots that are removed, and what brings them back.

A removed snapshot is renamed out of sight and lies in the trash like any other removed object, so
it can be removed while clones and branches stand on it, and brought back.
"""

from __future__ import annotations

from strata import trace
from strata.engine.core import Engine, Record
from strata.engine.history import snapshots as living
from strata.engine.history import targets
from strata.errors import AlreadyExists, InUse, NotFound
from strata.storage.driver import DatasetNotFound, HasDependants
from strata.storage.outside import PlaceMissing
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.storage.driver import Snapshot
    from strata.store.journal import Operation


def plan_removal(e: Engine, specs: Sequence[str]) -> list[Record]:
    """What `remove` would take; `NotFound` for the first that is not there."""
    rows: list[Record] = []
    for spec in specs:
        target, name = targets.split(spec)
        record = targets.get_target(e, target)
        snapshot = targets.get_snapshot(e, record, name)
        rows.append({
            "Kind": "snapshot", "Name": f"{record['name']}@{name}", "Id": snapshot.guid,
            "Size": e.driver.get_usage(snapshot.full_name).used, "Snapshots": [],
        })  # fmt: skip
    return rows


def remove(e: Engine, specs: Sequence[str], *, now: bool = False) -> list[str]:
    """Move snapshots to the trash, or destroy them ``now``; return their names.

    Destroying at once is refused with what needs a snapshot (a branch or clone); the trash takes
    it all the same, and it ends when they do.
    """
    e.allow_reserve()
    gone = []
    for spec in specs:
        target, name = targets.split(spec)
        record = targets.get_target(e, target)
        with e.begin("snapshot-rm") as operation, e.hold(record) as record:
            snapshot = targets.get_snapshot(e, record, name)
            if now:
                _destroy(e, spec, snapshot)
                disown(e, record, name)
            else:
                _hide(e, operation, record, snapshot)
        targets.emit(e, "remove", record, name)
        gone.append(f"{record['name']}@{name}")
    if gone and not now:
        from strata.engine.system import collect

        collect.collect_detached(e)
    return gone


def _destroy(e: Engine, spec: str, snapshot: Snapshot) -> None:
    try:
        e.driver.destroy(snapshot.full_name)
    except HasDependants as error:
        raise InUse(
            f"snapshot {spec} is the origin of {', '.join(error.dependants) or 'a clone'}",
            hint="leave out --now: the trash takes it and waits for them",
        ) from None
    trace.point("snapshot:destroyed")


def disown(e: Engine, record: Record, name: str) -> None:
    """Note that Strata has a snapshot of this name no more."""
    if name in record.get("snapshots", ()):
        record["snapshots"].remove(name)
        targets.save(e, record)


def _hide(e: Engine, operation: Operation, record: Record, snapshot: Snapshot) -> None:
    """Rename a snapshot out of sight, then write its trash entry: that is the removal."""
    removed: Record = {
        "id": new_id(), "name": f"{record['name']}@{snapshot.name}", "snapshot": snapshot.name,
        "target": record["id"], "target_kind": record["kind"], "guid": snapshot.guid,
        "own": snapshot.name in record.get("snapshots", ()),
    }  # fmt: skip
    operation.plan(
        ["unhide", record["kind"], record["id"], snapshot.guid, snapshot.name, removed["id"]]
    )
    hidden = f"{snapshot.dataset}@{targets.REMOVED_PREFIX}{new_id(8)}"
    e.driver.rename(snapshot.full_name, hidden)
    trace.point("snapshot-rm:hidden")
    e.bury("snapshot", removed, [], verb="snapshot-rm", keep=True)
    trace.point("snapshot-rm:trashed")
    disown(e, record, snapshot.name)


def unhide(
    e: Engine, kind: str, object_id: str, guid: str, name: str, entry_id: str
) -> None:  # fmt: skip
    """Take back a removal that was broken off before its trash entry was written. Idempotent."""
    if e.trash.find(entry_id) is not None:
        return
    found = find_removed(e, kind, object_id, guid)
    if found is not None and found.name != name:
        e.driver.rename(found.full_name, f"{found.dataset}@{name}")


def find_removed(e: Engine, kind: str, object_id: str, guid: str) -> Snapshot | None:
    """A snapshot by its GUID, wherever its target's lineage lies now, also in the trash.

    `PlaceMissing` when that is a pool that is not there: then nobody knows."""
    record = e.records.find(kind, object_id)
    entry = e.trash.find(object_id) if record is None else None
    datasets = targets.list_lineage(record) if record else entry["datasets"] if entry else []
    if entry is not None and entry["record"].get("adopted"):
        datasets = targets.list_lineage(entry["record"])  # only forgotten
    for dataset in datasets:
        try:
            snapshots = e.driver.list_snapshots(dataset)
        except DatasetNotFound:
            e.driver.outside.check_place(dataset)
            continue
        for snapshot in snapshots:
            if snapshot.guid == guid:
                return snapshot
    return None


def bring_back(e: Engine, entry: Record, name: str | None) -> Record:
    """Give a removed snapshot its name again, or ``name``; return what came back.

    `NotFound` when its dataset ended meanwhile, `AlreadyExists` when ``name`` is taken; without a
    ``name`` the first free of ``NAME-restored``, ``NAME-restored-2`` … is taken.
    """
    removed = entry["record"]
    record = targets.get_owner(e, entry)
    with e.begin("restore") as operation, e.hold(record) as record:
        found = find_removed(e, record["kind"], record["id"], removed["guid"])
        if found is None:
            e.trash.delete(entry["id"])
            raise NotFound(f"snapshot {entry['name']} cannot come back: it was destroyed outside "
                           "Strata")  # fmt: skip
        wanted = _choose_name(e, record, removed["snapshot"], name)
        if removed["own"]:
            operation.plan(["settle-snapshot", record["kind"], record["id"], wanted])
        e.driver.rename(found.full_name, f"{found.dataset}@{wanted}")
        trace.point("restore:snapshot-shown")
        e.trash.delete(entry["id"])
        if removed["own"]:
            living.own(record, wanted)
            targets.save(e, record)
    targets.emit(e, "restore", record, wanted)
    from strata.engine.history.restoring import note_name

    return {"Kind": "snapshot", "Name": f"{record['name']}@{wanted}", "Was": entry["name"],
            "Notes": note_name(removed["snapshot"], wanted, asked=name is not None)}  # fmt: skip


def _choose_name(e: Engine, record: Record, old: str, name: str | None) -> str:
    taken = {snapshot.name for snapshot in targets.list_snapshots(e, record)}
    if name is not None:
        wanted = name.rpartition("@")[2]
        targets.split(f"x@{wanted}")
        if wanted in taken:
            raise AlreadyExists(f"{record['name']} has a snapshot {wanted!r} already",
                                hint="choose another --name")  # fmt: skip
        return wanted
    return next(text for text in targets.list_free_names(old) if text not in taken)


def destroy_removed(e: Engine, entry: Record) -> bool:
    """Destroy a snapshot that lies in the trash; False while a clone needs it."""
    removed = entry["record"]
    found = find_removed(e, removed["target_kind"], removed["target"], removed["guid"])
    if found is None:
        return True
    if not found.name.startswith(targets.REMOVED_PREFIX):
        return True  # somebody renamed it by hand: it is theirs again
    try:
        e.driver.destroy(found.full_name)
    except HasDependants:
        return False
    except DatasetNotFound:
        pass
    return True


def show_lost(e: Engine) -> int:
    """Give removed snapshots that no trash entry knows any more a name that is seen; how many."""
    known = {entry["record"].get("guid") for entry in e.trash.list_entries()
             if entry["object"] == "snapshot"}  # fmt: skip
    count = 0
    for kind in targets.KINDS:
        for record in e.records.list_records(kind):
            for dataset in targets.list_lineage(record):
                try:
                    hidden = [s for s in e.driver.list_snapshots(dataset)
                              if s.name.startswith(targets.REMOVED_PREFIX)]  # fmt: skip
                except DatasetNotFound:
                    continue
                for snapshot in hidden:
                    if snapshot.guid not in known:
                        digits = snapshot.name.removeprefix(targets.REMOVED_PREFIX)
                        e.driver.rename(snapshot.full_name, f"{dataset}@found-{digits}")
                        count += 1
    return count


def measure_removed(e: Engine, entry: Record) -> int | None:
    """The bytes that only a removed snapshot holds, None where the driver cannot tell."""
    removed = entry["record"]
    try:
        found = find_removed(e, removed["target_kind"], removed["target"], removed["guid"])
    except PlaceMissing:
        return None
    return e.driver.get_usage(found.full_name).used if found is not None else None
