"""Adopted volumes: a dataset that was there before, used as a volume, and still its owner's.

``adopted`` in a volume's record is the GUID of that dataset, "" for other volumes. It is marked
with the volume's identity and a holder, and snapshots are taken of it; it is never renamed, moved,
destroyed or mounted elsewhere than its owner had it. A rollback clones beside it, and it stays as a
branch. Removing the volume only forgets the record: all datasets stay, without their marks.

Of every volume that lies outside the store a copy of the record is kept beside the documents of
images, for `system rebuild`: such datasets are in no list of ours.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.holders import list_users
from strata.engine.identity import identity, is_owned
from strata.engine.volumes import listing, making
from strata.errors import AlreadyExists, InUse, RecordError, StoreMissing, StrataError
from strata.linux import locks
from strata.storage import description, layout
from strata.storage.driver import Dataset, DatasetNotFound
from strata.store import files
from strata.store.records import SCHEMA, check_shape, new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def get_holder(e: Engine) -> str:
    """What an adopted dataset says of this store."""
    return f"{e.config.id} {e.config.root}"


# -- adopting --------------------------------------------------------------------------------------


def adopt(
    e: Engine, dataset: str, name: str | None = None, *, labels: Mapping[str, str] | None = None
) -> Record:  # fmt: skip
    """Make a volume of a dataset that exists; return what ``inspect`` shows.

    ``dataset`` as its owner calls it. `AlreadyExists` names the volume or store that has it.
    """
    anonymous = not name
    name = name or new_id()
    names.check_name(name, "volume")
    outside = e.driver.outside
    wanted = outside.locate(dataset)
    volume_id = new_id()
    with making.Held(e) as held, e.begin("volume-adopt") as operation:
        held.take(volume_id, name)
        # Of two that want the same dataset the second must see the first one's record.
        with locks.lock(f"{e.paths.locks}/4-adopt", timeout=60, what="the adopted datasets"):
            found = outside.check_adoptable(wanted)
            check_free(e, found)
            e.driver.open(found.name)  # whoever cannot see its files cannot use it
            operation.plan(
                ["unclaim", "volume", name, volume_id], ["unadopt", volume_id, found.name]
            )
            try:
                names.take_name(e, "volume", name, volume_id)
            except AlreadyExists:
                held.forget(volume_id)
                raise
            record: Record = {
                "schema": SCHEMA, "kind": "volume", "id": volume_id, "name": name, "project": "_",
                "created": format_time(time.time()), "dataset": found.name, "guid": found.guid,
                "lineage": volume_id, "generation": 1, "branches": [], "labels": dict(labels or {}),
                "options": {}, "native": {}, "profile": "", "anonymous": anonymous,
                "fresh": False, "cloned": None, "adopted": found.guid,
            }  # fmt: skip
            mark(e, record)
            trace.point("adopt:marked")
            save_copy(e, record)
            trace.point("adopt:copied")
            e.records.save(record)
            trace.point("adopt:recorded")
    events.emit(e, events.VOLUME, "create", id=volume_id, name=name, attributes=record["labels"])
    return listing.describe(e, record)


def check_free(e: Engine, found: Dataset) -> None:
    """Raise `AlreadyExists` when a volume of this store, or another store, has a dataset."""
    shown = e.driver.outside.show(found.name)
    for record in e.records.list_records("volume"):
        for known in (record, *record["branches"]):
            if known["guid"] == found.guid or known["dataset"] == found.name:
                raise AlreadyExists(f"the dataset {shown} is the volume {record['name']} already",
                                    hint=f"`strata volume rm {record['name']}` forgets it"
                                    if record.get("adopted") else "")  # fmt: skip
            # A subvolume is part of the one it lies in, snapshots included.
            paths = (f"{known['dataset']}/", f"{found.name}/")
            nested = paths[0].startswith(paths[1]) or paths[1].startswith(paths[0])
            if e.driver.name == "btrfs" and nested:
                raise AlreadyExists(
                    f"the dataset {shown} and the volume {record['name']} "
                    f"({known['dataset']}) lie inside each other",
                    hint=f"`strata volume rm {record['name']}` forgets it",
                )
    store_id, _, root = e.driver.outside.find_holder(found.name).partition(" ")
    if store_id and store_id != e.config.id and _has_store(root, store_id):
        raise AlreadyExists(
            f"the dataset {shown} is the volume {found.identity.get('name', '?')} of the store at "
            f"{root}",
            hint=f"`strata --root {root} volume rm` forgets it there",
        )


def _has_store(root: str, store_id: str) -> bool:
    """Whether a store is at its root, or set aside there. One that is neither holds nothing."""
    from strata.engine.system import aside

    if any(entry["config"]["id"] == store_id for entry in aside.list_entries(root)):
        return True
    try:
        return description.load(root).id == store_id
    except StoreMissing:
        return False


def mark(e: Engine, record: Record) -> None:
    """Let the datasets of an adopted volume say what they are. Idempotent."""
    for known in (record, *record["branches"]):
        own = {**identity(record), "generation": str(known["generation"])}
        if is_owned(record, known):
            e.driver.outside.adopt(known["dataset"], own, get_holder(e))
        else:
            own = {f"strata:{key}": value for key, value in own.items()}
            e.driver.set_properties(known["dataset"], own)


def undo(e: Engine, volume_id: str, dataset: str) -> None:
    """Take back an adoption that was broken off, unless the volume is in use. Idempotent."""
    record = e.records.find("volume", volume_id)
    if record is not None:
        if list_users(e, volume_id):
            return
        e.unmount_volume(record["name"])
        e.remove_mountpoint(record["name"])
        e.records.drop_name("volume", record["name"], volume_id)
        e.records.delete("volume", volume_id)
    drop_copy(e, volume_id)
    _give_back(e, volume_id, dataset)


def _give_back(e: Engine, volume_id: str, dataset: str) -> None:
    try:
        e.driver.close(dataset)
    except StrataError:
        pass  # files of it are open: our mount ends with them
    try:
        found = e.driver.find(dataset)
        if found is not None and found.identity.get("id") in (volume_id, None):
            e.driver.outside.give_back(dataset)
    except DatasetNotFound:
        return


def give_back_all(e: Engine) -> None:
    """Take the marks of a store that is about to be destroyed from all datasets it adopted."""
    for record in e.records.list_records("volume"):
        for known in (record, *record["branches"]) if record.get("adopted") else ():
            _give_back(e, record["id"], known["dataset"])


# -- forgetting ------------------------------------------------------------------------------------


def forget(e: Engine, record: Record, *, verb: str) -> list[str]:
    """Forget an adopted volume whose lock the caller has and nobody uses; the datasets that stay.

    `undo` brings the record back.
    """
    with e.journal.begin(verb, ["settle-forgetting", record["id"]]):
        e.bury("volume", record, [], verb=verb, keep=True)
        trace.point(f"{verb}:trashed")
        e.unmount_volume(record["name"])
        settle(e, record["id"])
        e.remove_mountpoint(record["name"])
    return [e.driver.outside.show(known["dataset"]) for known in (record, *record["branches"])]


def settle(e: Engine, volume_id: str) -> None:
    """Finish forgetting a volume that has a trash entry. Idempotent."""
    entry = e.trash.find(volume_id)
    if entry is None or "restoring" in entry:
        return
    record = entry["record"]
    e.settle_removal(volume_id)
    trace.point("forget:settled")
    for known in (record, *record["branches"]):
        _give_back(e, volume_id, known["dataset"])
        trace.point("forget:given-back")


def destroy_removed(e: Engine, volume_id: str) -> bool:
    """Destroy the removed snapshots of a forgotten volume, before its trash entry ends; whether
    all are gone."""
    from strata.engine.history import snapshot_removal

    done = True
    for entry in e.trash.list_entries():
        if entry["object"] == "snapshot" and entry["record"]["target"] == volume_id:
            if snapshot_removal.destroy_removed(e, entry):
                e.trash.delete(entry["id"])
            else:
                done = False
    return done


def check_restorable(e: Engine, record: Record) -> None:
    """Raise unless a forgotten volume can come back now."""
    for known in (record, *record["branches"]):
        e.driver.outside.check_place(known["dataset"])
    found = e.driver.find(record["dataset"])
    if found is not None:
        check_free(e, found)


# -- copies of records -----------------------------------------------------------------------------


def _copy_path(e: Engine, volume_id: str) -> str:
    return f"{e.images_folder}/volumes/{volume_id}.json"


def save_copy(e: Engine, record: Record) -> None:
    """Keep a copy of the record of a volume that lies outside the store."""
    path = _copy_path(e, record["id"])
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.write_json(path, record)


def drop_copy(e: Engine, volume_id: str) -> None:
    """Forget the copy of a volume's record. Idempotent."""
    path = _copy_path(e, volume_id)
    for remove, what in ((os.unlink, path), (os.rmdir, os.path.dirname(path))):
        try:
            remove(what)
        except OSError:
            continue  # there was none, or there are others


def list_copies(e: Engine) -> Iterator[Record]:
    """The copies there are; what is damaged is passed over."""
    folder = os.path.dirname(_copy_path(e, "0"))
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if not files.is_record(name):
            continue
        path = f"{folder}/{name}"
        try:
            record = check_shape(files.read_json(path), "volume", path)
        except (FileNotFoundError, RecordError):
            continue
        if record["id"] == name.removesuffix(".json") and layout.is_outside(record["dataset"]):
            yield record


def find_copy(e: Engine, volume_id: str) -> Record | None:
    """The copy of one volume's record."""
    return next((record for record in list_copies(e) if record["id"] == volume_id), None)


def list_datasets(e: Engine) -> list[Dataset]:
    """The datasets of volumes that lie outside, as their identity tells; those of pools that are
    not there are missing."""
    wanted: dict[str, set[str]] = {}
    for copy in list_copies(e):
        wanted.setdefault(copy["dataset"].rpartition("/")[0], set()).add(copy["id"])
    found: dict[str, Dataset] = {}
    for parent, ids in wanted.items():
        try:
            beside = e.driver.list_datasets(parent)
        except DatasetNotFound:
            continue
        found.update({d.name: d for d in beside if d.identity.get("id") in ids})
    return list(found.values())


def refuse_branch(e: Engine, record: Record, branch: str) -> InUse:
    """The error for removing the adopted dataset as if it were a branch of ours."""
    return InUse(
        f"{branch} is the adopted dataset {e.driver.outside.show(record['dataset'])} itself",
        hint="it stays; `strata volume rm` forgets the volume and keeps all its datasets",
    )
