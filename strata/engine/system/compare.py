"""What is wrong with records, names and datasets of a `World`, and how to put each right.

Every function yields problems; none changes anything. A problem's ``fix`` reads again what it
changes, takes the lock of its object, and never destroys a container's or volume's data.
"""

from __future__ import annotations

import functools

from strata import trace
from strata.engine import pools
from strata.engine.core import Engine, Record
from strata.engine.history import targets
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.engine.networks import verbs as networks
from strata.engine.system import rebuild, restore
from strata.engine.system.world import Problem, World
from strata.errors import RecordError, StrataError
from strata.linux.tree import remove_path
from strata.storage import layout
from strata.storage.driver import Dataset
from strata.storage.outside import PlaceMissing
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECTS = ("container", "volume")


def show(record: Record) -> str:
    """An object for people: its kind with its name, or its id when it has none."""
    if record["kind"] == "image":
        name = record["names"][0] if record["names"] else record["id"][:12]
    else:
        name = record.get("name") or record["id"][:16]
    return f"{record['kind']} {name}"


# -- records that cannot be read -------------------------------------------------------------------


def find_damaged(e: Engine, w: World) -> Iterator[Problem]:
    """Records that are damaged, forged, or from a newer version."""
    for kind, object_id, error in w.damaged:
        newer = "newer" in error.message
        fix = None if newer else functools.partial(restore_record, e, kind, object_id)
        problem = "record-newer" if newer else "record-damaged"
        yield Problem(problem, f"{kind} {object_id[:16]}", error.message, fix)


def restore_record(e: Engine, kind: str, object_id: str) -> None:
    """Move a damaged record aside and make it anew from what its dataset says, if anything."""
    rebuild.set_aside(e, e.records.path(kind, object_id))
    trace.point("check:set-aside")
    if kind == "image":
        try:
            rebuild.save_image(e, *restore.make_image(e, object_id))
        except RecordError:
            return
        return
    if kind == "network":
        networks.restore(e)
        return
    found = restore.group(kind, restore.list_found(e, kind))
    lineage = found.get(object_id)
    if lineage is None:
        return
    if kind == "layer":
        record = restore.make_layer(e, lineage.head)
        if record is not None:
            layers.publish(e, record)
    else:
        rebuild.adopt(e, lineage)


# -- containers and volumes against their datasets -------------------------------------------------


def find_pools(e: Engine, w: World) -> Iterator[Problem]:
    """Configured pools that are not there."""
    for name, place in e.config.pools.items():
        try:
            pools.check(e, place)
        except PlaceMissing as error:
            yield Problem("place-missing", f"pool {name}", error.message)


def find_moved(e: Engine, w: World) -> Iterator[Problem]:
    """Heads and branches whose dataset is gone, renamed or replaced."""
    for kind in _OBJECTS:
        for record in w.records[kind].values():
            if w.is_busy(record["id"], record["name"], record["dataset"]):
                continue
            if record["dataset"] in w.away:
                yield Problem("place-missing", show(record), w.away[record["dataset"]].message)
                continue
            head = w.datasets[kind].get(record["dataset"]) or w.datasets["trash"].get(
                record["dataset"]
            )
            if _is_stranger(w, record, head):
                head = None
            yield from _compare_head(e, w, record, head)
            yield from _compare_branches(e, w, record)


def _is_stranger(w: World, record: Record, head: Dataset | None) -> bool:
    """Whether another record has the better claim to a dataset that two records name."""
    if head is None:
        return False
    others = [i for i in w.claimed.get(record["dataset"], ()) if i != record["id"]]
    return bool(others) and head.identity.get("id") in others


def _compare_head(e: Engine, w: World, record: Record, head: Dataset | None) -> Iterator[Problem]:
    where = show(record)
    if head is not None and head.guid == record["guid"]:
        return
    moved = w.by_guid.get(record["guid"])
    if moved is not None and moved.identity.get("id") in (None, record["id"]):
        yield Problem(
            "dataset-renamed", where, f"its dataset {record['dataset']} is called {moved.name} now",
            functools.partial(_point_to, e, record, moved),
        )  # fmt: skip
    elif head is not None:
        yield Problem(
            "dataset-replaced", where,
            f"another dataset was put in place of {record['dataset']} by hand",
            functools.partial(_point_to, e, record, head),
        )  # fmt: skip
    elif lifecycle.derive(record) in lifecycle.LIVE if "state" in record else False:
        yield Problem(
            "dataset-lost", where, f"its dataset {record['dataset']} is gone while it runs; stop it"
        )
    else:
        left = [
            d
            for d in w.datasets[record["kind"]].values()
            if restore.is_ours(d, record["kind"]) and d.identity["id"] == record["id"]
        ]
        if left:
            newest = max(left, key=restore.get_generation)
            yield Problem(
                "dataset-lost", where,
                f"its dataset {record['dataset']} is gone; the newest of it is {newest.name}",
                functools.partial(_point_to, e, record, newest),
            )  # fmt: skip
            return
        if record.get("adopted"):
            yield Problem("dataset-lost", where,
                          f"its dataset {record['dataset']} was renamed or destroyed; "
                          f"`strata volume rm {record['name']}` forgets it")  # fmt: skip
            return
        yield Problem(
            "dataset-lost", where,
            f"its dataset {record['dataset']} and what was in it are gone",
            functools.partial(_give_up, e, record),
        )  # fmt: skip


def _point_to(e: Engine, record: Record, dataset: Dataset) -> None:
    """Let a record's head be the dataset."""
    with e.hold_if_there(record) as fresh:
        if fresh is None or fresh["dataset"] != record["dataset"]:
            return
        if fresh.get("adopted") == fresh["guid"]:
            fresh["adopted"] = dataset.guid
        fresh["dataset"], fresh["guid"] = dataset.name, dataset.guid
        for branch in fresh["branches"]:
            if branch["dataset"] == dataset.name:
                fresh["generation"] = branch["generation"]
        fresh["branches"] = [b for b in fresh["branches"] if b["dataset"] != dataset.name]
        targets.save(e, fresh)


def _give_up(e: Engine, record: Record) -> None:
    """Free name and record of an object whose data is lost; the record stays in the trash."""
    with e.lock_object(record) as held:
        if record["kind"] == "container":
            from strata.engine.containers.life import release_runtime

            release_runtime(e, record)
            remove_path(e.paths.bundle(record["id"]))
        else:
            e.unmount_volume(record["name"])
        e.bury(record["kind"], record, [], verb="check", keep=True)
        e.settle_removal(record["id"])
        if record["kind"] == "volume":
            e.remove_mountpoint(record["name"])
        e.forget_lock(held)


def _compare_branches(e: Engine, w: World, record: Record) -> Iterator[Problem]:
    for branch in record["branches"]:
        there = w.find_dataset(branch["dataset"])
        if there is not None and there.guid == branch.get("guid"):
            continue
        moved = w.by_guid.get(branch.get("guid", "")) or there
        text = (
            f"its branch {branch['dataset']} is called {moved.name} now" if moved is not None
            else f"its branch {branch['dataset']} and what was in it are gone"
        )  # fmt: skip
        fix = functools.partial(_settle_branch, e, record, branch["dataset"], moved)
        yield Problem("branch-lost", f"{show(record)}, {branch['dataset']}", text, fix)


def _settle_branch(e: Engine, record: Record, name: str, moved: Dataset | None) -> None:
    with e.hold_if_there(record) as fresh:
        if fresh is None:
            return
        kept = []
        for branch in fresh["branches"]:
            if branch["dataset"] != name:
                kept.append(branch)
            elif moved is not None:
                kept.append({**branch, "dataset": moved.name, "guid": moved.guid})
        fresh["branches"] = kept
        targets.save(e, fresh)


def find_unclaimed(e: Engine, w: World) -> Iterator[Problem]:
    """Datasets of containers and volumes that no record and no trash entry names."""
    for kind in _OBJECTS:
        free = [
            d for d in w.datasets[kind].values()
            if d.name not in w.claimed and not w.is_busy(d.name, d.identity.get("id", ""))
        ]  # fmt: skip
        for dataset in free:
            if not restore.is_ours(dataset, kind):
                yield Problem("dataset-unknown", dataset.name,
                              f"it does not say what it is; no {kind} uses it")  # fmt: skip
        for object_id, lineage in restore.group(kind, free).items():
            record = w.records[kind].get(object_id)
            if record is not None:
                yield from _find_unlisted(e, w, record, lineage)
            elif not w.is_damaged(kind, object_id):
                yield Problem(
                    "record-lost", lineage.head.name, f"the {kind} has no record",
                    functools.partial(rebuild.adopt, e, lineage),
                )  # fmt: skip
    unknown = [d for d in w.datasets["trash"].values()
               if d.name not in w.claimed and not w.is_busy(d.name)]  # fmt: skip
    known: set[str] = set()
    for kind in _OBJECTS:
        for lineage in restore.group(kind, unknown).values():
            members = [lineage.head, *lineage.branches]
            known.update(d.name for d in members)
            yield Problem(
                "trash-lost", lineage.head.name, f"nothing says when the removed {kind} may go",
                functools.partial(rebuild.adopt_into_trash, e, lineage),
            )  # fmt: skip
    for dataset in unknown:
        if dataset.name not in known:
            yield Problem("dataset-unknown", dataset.name, "it does not say what it is")


def _find_unlisted(
    e: Engine, w: World, record: Record, lineage: restore.Lineage
) -> Iterator[Problem]:
    """Datasets of a known lineage that its record does not list."""
    for dataset in (lineage.head, *lineage.branches):
        if dataset.guid == record["guid"] or w.is_busy(record["id"]):
            continue  # the head under another name
        if any(branch.get("guid") == dataset.guid for branch in record["branches"]):
            continue
        yield Problem(
            "branch-unlisted", dataset.name, f"{show(record)} does not list it among its branches",
            functools.partial(_list_branch, e, record, dataset),
        )  # fmt: skip


def _list_branch(e: Engine, record: Record, dataset: Dataset) -> None:
    with e.hold_if_there(record) as fresh:
        if fresh is None or fresh["guid"] == dataset.guid:
            return
        lone = restore.Lineage(record["kind"], [dataset, dataset])
        fresh["branches"] = [*fresh["branches"], *restore.make_branches(lone)]
        targets.save(e, fresh)


# -- layers ----------------------------------------------------------------------------------------


def find_layers(e: Engine, w: World) -> Iterator[Problem]:
    """Layers whose dataset is gone, changed, or without a record."""
    for record in w.records["layer"].values():
        if not record["dataset"] or w.is_busy(record["id"], record["dataset"]):
            continue
        there = w.datasets["layer"].get(record["dataset"])
        if there is None or there.guid != record.get("guid"):
            moved = w.by_guid.get(record.get("guid", ""))
            if moved is not None:
                yield Problem(
                    "dataset-renamed", show(record),
                    f"its dataset {record['dataset']} is called {moved.name} now",
                    functools.partial(_point_layer, e, record, moved),
                )  # fmt: skip
                continue
        if there is None:
            yield from _find_lost_layer(e, w, record)
        elif there.guid != record.get("guid") or not layers.is_frozen(e, there.name):
            yield Problem(
                "layer-changed", show(record),
                f"its dataset {there.name} was replaced, or its snapshot removed, by hand",
                functools.partial(_verify_layer, e, record, there),
            )  # fmt: skip
    for dataset in w.datasets["layer"].values():
        if dataset.name not in w.claimed:
            yield from _find_loose_layer(e, w, dataset)


def _point_layer(e: Engine, record: Record, dataset: Dataset) -> None:
    e.records.save({**record, "dataset": dataset.name, "guid": dataset.guid})


def _users_of(w: World, layer_id: str) -> list[str]:
    """Images and containers that are made of a layer, for people."""
    found = [show(image) for image in w.records["image"].values() if layer_id in image["layers"]]
    return found or [show(c) for c in w.records["container"].values() if c.get("layer") == layer_id]


def _find_lost_layer(e: Engine, w: World, record: Record) -> Iterator[Problem]:
    again = layers.find_by_chain(e, record["chain_id"])
    if again is not None and again["id"] != record["id"]:
        yield Problem(
            "layer-lost", show(record), "it is gone and was unpacked anew as another",
            functools.partial(_replace_layer, e, record["id"], again["id"]),
        )  # fmt: skip
        return
    indexed = w.names["chain"].get(record["chain_id"].partition(":")[2]) == record["id"]
    if record["id"] not in w.needed:
        yield Problem("layer-lost", show(record), "it is gone; nothing needs it",
                      functools.partial(_forget_layer, e, record))  # fmt: skip
        return
    users = ", ".join(_users_of(w, record["id"])) or "something in the trash"
    fix = functools.partial(_unindex_layer, e, record) if indexed else None
    yield Problem(
        "layer-lost", show(record),
        f"its dataset {record['dataset']} is gone; {users} needs it: pull or load that again", fix,
    )  # fmt: skip


def _unindex_layer(e: Engine, record: Record) -> None:
    """Let the next pull unpack a lost layer anew instead of building on nothing."""
    e.records.drop_name("chain", record["chain_id"].partition(":")[2], record["id"])


def _forget_layer(e: Engine, record: Record) -> None:
    _unindex_layer(e, record)
    e.records.delete("layer", record["id"])


def _replace_layer(e: Engine, lost_id: str, layer_id: str) -> None:
    """Let everything that names a lost layer name its twin."""
    for record in list(e.records.list_records("layer")):
        if record["parent"] == lost_id:
            e.records.save({**record, "parent": layer_id})
    for image in list(e.records.list_records("image")):
        if lost_id in image["layers"]:
            image["layers"] = [layer_id if one == lost_id else one for one in image["layers"]]
            images.save(e, image)
    for container in list(e.records.list_records("container")):
        if container.get("layer") == lost_id:
            with e.hold(container) as fresh:
                targets.save(e, {**fresh, "layer": layer_id})
    e.records.delete("layer", lost_id)


def _verify_layer(e: Engine, record: Record, dataset: Dataset) -> None:
    """Accept a layer's dataset that still reproduces the layer's tar; else treat it as lost."""
    from strata.archive.layers import verify

    try:
        verify(e.driver.open(dataset.name), record["diff_id"])
    except (StrataError, OSError):
        _unindex_layer(e, record)
        return
    finally:
        e.driver.close(dataset.name)
    if not layers.is_frozen(e, dataset.name):
        e.driver.snapshot([layout.base_snapshot(dataset.name)])
    e.records.save({**record, "guid": dataset.guid})


def _find_loose_layer(e: Engine, w: World, dataset: Dataset) -> Iterator[Problem]:
    object_id = dataset.identity.get("id", "")
    if w.is_busy(dataset.name, object_id) or w.is_damaged("layer", object_id):
        return
    if not restore.is_ours(dataset, "layer"):
        yield Problem("dataset-unknown", dataset.name, "it does not say what it is")
        return
    known = w.records["layer"].get(object_id)
    if known is not None and known.get("guid") == dataset.guid:
        return  # the layer itself under another name
    yield Problem(
        "layer-loose", dataset.name, "the layer has no record; nothing is known to need it"
        if object_id not in w.needed else "the layer has no record",
        functools.partial(_settle_loose_layer, e, dataset, object_id in w.needed),
    )  # fmt: skip


def _settle_loose_layer(e: Engine, dataset: Dataset, needed: bool) -> None:
    record = restore.make_layer(e, dataset)
    if record is not None and (needed or layers.find_by_chain(e, record["chain_id"]) is None):
        layers.publish(e, record)
        return
    if not e.try_destroy(dataset.name) and record is not None:
        e.records.save(record)


# -- names -----------------------------------------------------------------------------------------


def find_names(e: Engine, w: World) -> Iterator[Problem]:
    """Names that stand for nothing or for something else, and records without their name."""
    for kind in (*_OBJECTS, "image", "chain"):
        target = "layer" if kind == "chain" else kind
        # What is about to get its record back needs its name.
        adoptable = {
            dataset.identity.get("id")
            for dataset in w.datasets.get(target, {}).values()
            if dataset.name not in w.claimed
        }
        for name, object_id in w.names[kind].items():
            if object_id in w.records[target] or w.is_damaged(target, object_id):
                continue
            if w.is_busy(name, object_id) or object_id in adoptable:
                continue
            yield Problem(
                "name-dangling", f"{kind} name {name}", "it stands for nothing",
                functools.partial(e.records.drop_name, kind, name, object_id),
            )  # fmt: skip
    for kind in _OBJECTS:
        yield from _find_object_names(e, w, kind)
    yield from _find_image_names(e, w)
    for record in w.records["layer"].values():
        digits = record["chain_id"].partition(":")[2]
        there = w.names["chain"].get(digits)
        lost = record["dataset"] and record["dataset"] not in w.datasets["layer"]
        if there is None and not lost and not w.is_busy(record["id"]):
            yield Problem(
                "name-missing", show(record), "the index does not know it",
                functools.partial(e.records.set_name, "chain", digits, record["id"]),
            )  # fmt: skip


def _find_object_names(e: Engine, w: World, kind: str) -> Iterator[Problem]:
    index = w.names[kind]
    for record in w.records[kind].values():
        if w.is_busy(record["id"], record["name"]):
            continue
        if index.get(record["name"]) != record["id"]:
            yield Problem(
                "name-missing", show(record), "its name stands for something else, or for nothing",
                functools.partial(_claim, e, record),
            )  # fmt: skip
    for name, object_id in index.items():
        named = w.records[kind].get(object_id)
        if named is not None and named["name"] != name and not w.is_busy(object_id, name):
            yield Problem(
                "name-stale", f"{kind} name {name}", f"its {kind} is called {named['name']}",
                functools.partial(e.records.drop_name, kind, name, object_id),
            )  # fmt: skip


def _claim(e: Engine, record: Record) -> None:
    with e.hold_if_there(record) as fresh:
        if fresh is not None and rebuild.claim_name(e, fresh):
            targets.save(e, fresh)


def _find_image_names(e: Engine, w: World) -> Iterator[Problem]:
    """The index decides which image has a name."""
    index = w.names["image"]
    for image in w.records["image"].values():
        if w.is_busy(image["id"]):
            continue
        for name in image["names"]:
            holder = index.get(name)
            if holder == image["id"]:
                continue
            if holder in w.records["image"]:
                yield Problem(
                    "name-stale", show(image), f"{name} is another image now",
                    functools.partial(_change_image_name, e, image["id"], name, False),
                )  # fmt: skip
            else:
                yield Problem(
                    "name-missing", show(image), f"the index does not know {name}",
                    functools.partial(e.records.set_name, "image", name, image["id"]),
                )  # fmt: skip
    for name, image_id in index.items():
        named = w.records["image"].get(image_id)
        if named is not None and name not in named["names"] and not w.is_busy(image_id):
            yield Problem(
                "name-stale", f"image name {name}", "its image does not know it",
                functools.partial(_change_image_name, e, image_id, name, True),
            )  # fmt: skip


def _change_image_name(e: Engine, image_id: str, name: str, present: bool) -> None:
    with e.lock_images():
        image = e.records.find("image", image_id)
        if image is not None:
            names = {*image["names"], name} if present else {*image["names"]} - {name}
            image["names"] = sorted(names)
            images.save(e, image)
