"""``system rebuild``: write the records anew from the datasets and the images' documents.

For a store whose ``records`` dataset was damaged or destroyed. Records that are there and sound
are kept; only what is missing is made. Of several datasets of one lineage the one with the
highest generation is the head, the others are its branches.

What survives: images with their names, digests and layers; networks; containers with their
settings, names, mounts, branches and checkpoints; volumes with their data, names and branches;
snapshots, which lie in the datasets. What does not: exit codes, start and end times and the reason
a container ended; labels, options and profiles of volumes, and that a volume was anonymous (it
becomes a named one); containers made with ``--rm`` keep only their file system; which snapshots
were made by Strata (all count as foreign; removed ones come back as ``found-…``); secrets and the
keys of overlays, which lie beside the records. Removed images and networks are in the trash again,
with a new deadline, and so are containers, volumes and branches where the trash is a place of its
own; where it is not, those come back to life.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import adoption, limits
from strata.engine.core import Engine, Record, get_roots
from strata.engine.history import branches, targets
from strata.engine.images import verbs as images
from strata.engine.networks import verbs as networks
from strata.engine.system import restore
from strata.errors import AlreadyExists, RecordError
from strata.linux import locks
from strata.storage import description, layout
from strata.storage.driver import DatasetNotFound, Driver
from strata.storage.outside import PlaceMissing
from strata.store.paths import Paths
from strata.store.records import Records

_KINDS = ("layer", "image", "volume", "container", "network")


def rebuild(root: str | None = None, runroot: str | None = None) -> Record:
    """Recreate what is missing of the records; say how many of each kind and what was skipped."""
    root, runroot = get_roots(root, runroot)
    paths = Paths(root, runroot)
    config = description.load(paths.root)
    driver = description.open_driver(config)
    try:
        driver.attach()
    except DatasetNotFound:
        # The pool is here and it is ours; what attaching mounts is what was destroyed.
        _ensure_file_systems(driver)
        driver.attach()
    paths.ensure_runroot()
    with locks.lock(f"{paths.locks}/0-store", timeout=120, what="the store"):
        _ensure_file_systems(driver)
        Records(driver.open("records")).ensure_layout()
        e = Engine(paths, config, driver)
        e.recover()
        skipped: list[str] = []
        counts = {"Images": 0, "Containers": 0, "Volumes": 0, "Layers": 0}
        for kind in _KINDS:
            skipped += move_damaged(e, kind)
        counts["Layers"] = _rebuild_layers(e, skipped)
        counts["Images"] = _rebuild_images(e, skipped)
        trace.point("rebuild:images")
        networks.restore(e)
        counts["Volumes"] = _rebuild_away(e)
        for kind, title in (("volume", "Volumes"), ("container", "Containers")):
            counts[title] += _rebuild_objects(e, kind, skipped)
            trace.point(f"rebuild:{kind}")
        _rebuild_trash(e)  # of what is alive, the trash can only hold branches
        from strata.engine.history import snapshot_removal

        snapshot_removal.show_lost(e)
    return {**counts, "Skipped": skipped}


def _ensure_file_systems(driver: Driver) -> None:
    for name in layout.FILE_SYSTEMS:
        if driver.find(name) is None:
            driver.create(name, layout.store_identity(name))


def move_damaged(e: Engine, kind: str) -> list[str]:
    """Move records that cannot be read aside, into ``records/damaged``; say which."""
    moved = []
    for object_id in e.records.list_ids(kind):
        try:
            e.records.find(kind, object_id)
        except RecordError as error:
            if "newer" in error.message:
                raise
            where = set_aside(e, e.records.path(kind, object_id))
            moved.append(f"{error.message}; it was moved to {where}")
    return moved


def set_aside(e: Engine, path: str) -> str:
    """Move a file that cannot be believed to ``records/damaged``; return where it is now."""
    folder = f"{e.records.folder}/damaged"
    os.makedirs(folder, 0o700, exist_ok=True)
    kind = os.path.basename(os.path.dirname(path))
    target = f"{folder}/{kind}-{os.path.basename(path)}"
    number = 0
    while os.path.lexists(target):
        number += 1
        target = f"{folder}/{kind}-{os.path.basename(path)}.{number}"
    os.rename(path, target)
    return target


def _rebuild_layers(e: Engine, skipped: list[str]) -> int:
    count = 0
    for dataset in restore.list_found(e, "layer"):
        object_id = dataset.identity.get("id", "")
        if restore.is_ours(dataset, "layer") and e.records.find("layer", object_id) is not None:
            continue
        record = restore.make_layer(e, dataset)
        if record is None:
            skipped.append(f"{dataset.name}: it was never finished, or its record is not its own")
            continue
        e.records.save(record)
        count += 1
    for record in e.records.list_records("layer"):
        chain = record["chain_id"].partition(":")[2]
        holder = e.records.find_name("chain", chain)
        if chain and (holder is None or e.records.find("layer", holder) is None):
            e.records.set_name("chain", chain, record["id"])
    return count


def _rebuild_images(e: Engine, skipped: list[str]) -> int:
    count = 0
    for name in sorted(os.listdir(e.images_folder)):
        folder = f"{e.images_folder}/{name}"
        if len(name) != 64 or e.records.find("image", name) is not None:
            continue
        if not os.path.isfile(f"{folder}/record.json"):
            bury_image(e, name, skipped)
            continue
        try:
            record, made = restore.make_image(e, name)
        except RecordError as error:
            skipped.append(error.message)
            continue
        save_image(e, record, made)
        count += 1
    return count


def bury_image(e: Engine, image_id: str, skipped: list[str]) -> bool:
    """Give an image that was removed an entry in the trash again, with a new deadline; whether
    its documents are all here."""
    if not os.path.isfile(images.removed_path(e, image_id)):
        return False
    if e.trash.find(image_id) is None:
        try:
            record, made = restore.make_image(e, image_id, removed=True)
        except RecordError as error:
            skipped.append(error.message)
            return False
        for layer in made:
            e.records.save(layer)
        e.bury("image", record, [], verb="system rebuild", keep=True)
    return True


def save_image(e: Engine, record: Record, made: list[Record]) -> None:
    """Save a restored image with its empty layers; names that others have stay theirs."""
    for layer in made:
        e.records.save(layer)
        e.records.set_name("chain", layer["chain_id"].partition(":")[2], layer["id"])
    kept = []
    for name in record["names"]:
        holder = e.records.find_name("image", name)
        other = e.records.find("image", holder) if holder else None
        if other is not None and other["id"] != record["id"]:
            if other.get("added", 0) >= record["added"]:
                continue
            other["names"] = [text for text in other["names"] if text != name]
            images.save(e, other)
        kept.append(name)
    record["names"] = kept
    images.save(e, record)
    for name in kept:
        e.records.set_name("image", name, record["id"])


def _rebuild_trash(e: Engine) -> None:
    known = {dataset for entry in e.trash.list_entries() for dataset in entry["datasets"]}
    unknown = [d for d in e.driver.list_datasets("trash") if d.name not in known]
    for kind in ("volume", "container"):
        for lineage in restore.group(kind, unknown).values():
            adopt_into_trash(e, lineage)
    networks.bury_lost(e)


def adopt_into_trash(e: Engine, lineage: restore.Lineage) -> None:
    """Give removed datasets that no entry names an entry again, with a new deadline: as branches
    where their container or volume is alive."""
    owner = e.records.find(lineage.kind, lineage.id)
    if owner is not None:
        for branch in restore.make_branches(lineage, with_head=True):
            place, branch["dataset"] = branch["dataset"], _find_home(lineage, branch["dataset"])
            e.bury("branch", branches.make_removed(owner, branch), [place], verb="system rebuild",
                   keep=True)  # fmt: skip
        return
    record = restore.make_trash_record(e, lineage)
    datasets = [lineage.head.name, *(branch.name for branch in lineage.branches)]
    for known in (record, *record["branches"]):
        known["dataset"] = _find_home(lineage, known["dataset"])
    old = e.trash.find(record["id"])
    if old is not None:
        old["datasets"] = sorted({*old["datasets"], *datasets})
        e.trash.save(old)
        return
    e.bury(lineage.kind, record, datasets, verb="system rebuild", keep=True)


def _find_home(lineage: restore.Lineage, dataset: str) -> str:
    """Where a dataset that lies in the trash would go back to (see `layout.trash`)."""
    if not dataset.startswith("trash/"):
        return dataset
    return f"{restore.PARENTS[lineage.kind]}/{dataset.rpartition('/')[2].rpartition('.')[0]}"


def _rebuild_objects(e: Engine, kind: str, skipped: list[str]) -> int:
    trashed = {dataset for entry in e.trash.list_entries() for dataset in entry["datasets"]}
    found = [d for d in restore.list_found(e, kind) if d.name not in trashed]
    skipped += [
        f"{dataset.name}: it does not say what it is"
        for dataset in found
        if not restore.is_ours(dataset, kind)
    ]
    lineages = restore.group(kind, found)
    records = {r["id"]: r for r in e.records.list_records(kind)}
    missing = [lineage for object_id, lineage in lineages.items() if object_id not in records]
    # The newest first, so that it keeps a name that several claim. A rollback makes a new head, so
    # an object is as old as its oldest dataset.
    missing.sort(
        key=lambda lineage: min(d.createtxg for d in (lineage.head, *lineage.branches)),
        reverse=True,
    )
    for record in records.values():
        note = claim_name(e, record)
        if note:
            skipped.append(note)
            targets.save(e, record)
    for lineage in missing:
        note = adopt(e, lineage)
        if note:
            skipped.append(note)
    return len(missing)


def _rebuild_away(e: Engine) -> int:
    """Take the records of volumes whose pool is not there now from their copies; how many."""
    count = 0
    for record in adoption.list_copies(e):
        if e.records.find("volume", record["id"]) or e.trash.find(record["id"]):
            continue
        try:
            e.driver.outside.check_place(record["dataset"])
        except PlaceMissing:
            claim_name(e, record)
            e.records.save(record)
            count += 1
    return count


def adopt(e: Engine, lineage: restore.Lineage) -> str:
    """Write the record and name of a container or volume from its datasets.

    Returns a note when it could not keep its name, else "".
    """
    if lineage.kind == "container":
        record = restore.make_container(e, lineage)
    else:
        record = restore.make_volume(e, lineage)
        record["native"] = {} if record.get("adopted") else limits.read(e, record["dataset"])
    note = claim_name(e, record)
    targets.save(e, record)
    return note


def claim_name(e: Engine, record: Record) -> str:
    """Take the record's name in the index, or a suffixed one when another object has it.

    The record is changed in place, not saved. Returns a note when the name was changed.
    """
    kind, name = record["kind"], str(record["name"])
    wanted = name
    for digits in (0, 4, 12, 64):
        wanted = f"{name}-{record['id'][:digits]}" if digits else name
        try:
            e.records.take_name(kind, wanted, record["id"])
        except AlreadyExists:
            holder = e.records.find_name(kind, wanted)
            if holder == record["id"]:
                break
            if holder is None or not _claims(e, kind, holder, wanted):
                e.records.set_name(kind, wanted, record["id"])
                break
            continue
        break
    record["name"] = wanted
    if wanted == name:
        return ""
    return f"{kind} {name} is called {wanted} now: another {kind} has that name"


def _claims(e: Engine, kind: str, object_id: str, name: str) -> bool:
    """Whether the object a name points to exists and calls itself so."""
    try:
        record = e.records.find(kind, object_id)
    except RecordError:
        return True
    return record is not None and record["name"] == name
