"""Records made anew from what datasets say of themselves.

Used by ``system check --repair`` for single objects and by ``system rebuild`` for all. A dataset
names itself by its identity properties, which only root can write; what else was known lies in
the copy of the record in ``.strata/record.json`` (layers, containers) or beside the raw documents
(images). A copy is a proposal: it must have the shape of a record and be about the very object
the identity names, or nothing of it is believed, least of all its privileges. A container without
a believable copy becomes a plain unprivileged one around its file system.
"""

from __future__ import annotations

import hashlib
import time

from strata.engine import adoption
from strata.engine.containers import checkpoints
from strata.engine.containers.create import DEFAULTS, LOG_FILES, OPTIONAL
from strata.engine.core import PRIVATE, Engine, Record
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.errors import RecordError, StrataError
from strata.linux import process
from strata.runtime import launch as runtime
from strata.storage.driver import Dataset
from strata.store import lifecycle
from strata.store.files import read_json
from strata.store.records import SCHEMA, check_shape, is_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PARENTS = {"container": "containers", "layer": "layers", "volume": "volumes/_"}
_EMPTY_TAR_LIMIT = 64 << 10
_LOST = "its record was lost; how it ended is not known"


class Lineage:
    """The datasets of one object: the ``head`` has the highest generation, others are branches."""

    __slots__ = ("branches", "head", "id", "kind")

    def __init__(self, kind: str, datasets: Iterable[Dataset]) -> None:
        ordered = sorted(datasets, key=lambda d: (get_generation(d), d.createtxg))
        self.kind = kind
        self.head = ordered[-1]
        self.branches = ordered[:-1]
        self.id = self.head.identity["id"]


def get_generation(dataset: Dataset) -> int:
    """The generation a dataset says it has, 1 when it says nothing sensible."""
    text = dataset.identity.get("generation", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 1


def is_ours(dataset: Dataset, kind: str) -> bool:
    """Whether a dataset names itself as an object of a kind, in a way this version knows."""
    identity = dataset.identity
    return (
        identity.get("kind") == kind
        and is_id(identity.get("id", ""))
        and identity.get("schema") == str(SCHEMA)
    )


def group(kind: str, datasets: Iterable[Dataset]) -> dict[str, Lineage]:
    """The lineages among datasets by the id of their object; those of no identity are left out."""
    found: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        if is_ours(dataset, kind):
            found.setdefault(dataset.identity["id"], []).append(dataset)
    return {object_id: Lineage(kind, members) for object_id, members in found.items()}


def read_copy(e: Engine, dataset: Dataset, kind: str) -> Record | None:
    """The believable copy of a record in a dataset, else None."""
    try:
        path = f"{e.driver.open(dataset.name)}/{PRIVATE}/record.json"
        record = check_shape(read_json(path), kind, path)
    except (OSError, StrataError):
        return None
    finally:
        if kind == "layer":
            e.driver.close(dataset.name)
    return record if is_ours(dataset, kind) and record["id"] == dataset.identity["id"] else None


def make_branches(
    lineage: Lineage, known: Iterable[Record] = (), *, with_head: bool = False
) -> list[Record]:  # fmt: skip
    """A record's ``branches`` from the datasets; what ``known`` branches say is kept."""
    by_guid = {branch.get("guid"): branch for branch in known if isinstance(branch, dict)}
    found = []
    for dataset in (*lineage.branches, *([lineage.head] if with_head else ())):
        old = by_guid.get(dataset.guid, {})
        found.append({
            "dataset": dataset.name, "guid": dataset.guid, "generation": get_generation(dataset),
            "created": old.get("created") or format_time(dataset.creation),
            "snapshot": old.get("snapshot") or "",
        })  # fmt: skip
    return found


# -- containers ------------------------------------------------------------------------------------


def make_container(e: Engine, lineage: Lineage) -> Record:
    """A container's record from its datasets."""
    head = lineage.head
    copy = read_copy(e, head, "container")
    record = copy if copy is not None and _is_whole(copy) else _make_plain(e, lineage)
    record["dataset"], record["guid"] = head.name, head.guid
    record["generation"] = get_generation(head)
    record["lineage"] = head.identity.get("lineage") or lineage.id
    record["branches"] = make_branches(lineage, record.get("branches") or ())
    state = record["state"]
    running = _find_running(e, record)
    if running is not None:
        record["state"] = {**lifecycle.make_state(), **running}
    elif not lifecycle.is_alive(state):
        started = state["status"] != lifecycle.CREATED or bool(state.get("started"))
        record["state"] = {
            **lifecycle.make_state(), "status": lifecycle.EXITED if started else lifecycle.CREATED,
            "error": _LOST if started else "",
        }  # fmt: skip
    made = checkpoints.find_time(e, record)
    if made is not None:
        live = record["state"]["status"] in lifecycle.LIVE
        record["state"]["checkpointed"] = "" if live else format_time(made)
    if record["config"]["log_driver"] in LOG_FILES:
        record["config"]["log_path"] = f"{e.logs}/{lineage.id}.log"
    return record


def _find_running(e: Engine, record: Record) -> Record | None:
    """The state of a container that runs although its record was lost, by its runtime's files."""
    try:
        chosen = runtime.get_runtime(record["config"]["runtime"], e.paths.runroot)
    except StrataError:
        return None
    folder = f"{chosen.root}/{record['id']}"
    for name, pid_key, start_key in (
        ("status", "pid", "process-start-time"),  # crun
        ("state.json", "init_process_pid", "init_process_start"),  # runc
    ):
        try:
            known = read_json(f"{folder}/{name}")
            pid, start = int(known[pid_key]), int(known[start_key])
        except (OSError, StrataError, KeyError, TypeError, ValueError):
            continue
        if process.is_alive(pid, start):
            monitor = runtime.find_conmon(e.paths.bundle(record["id"])) or (0, 0)
            return {
                "status": lifecycle.RUNNING, "pid": pid, "pid_start": start,
                "conmon_pid": monitor[0], "conmon_start": monitor[1],
                "boot_id": process.get_boot_id(), "started": format_time(time.time()),
            }  # fmt: skip
    return None


def _is_whole(record: Record) -> bool:
    """Whether a copy has all that the engine reads without asking, in the types it expects."""
    config, state = record["config"], record["state"]
    for key, default in DEFAULTS.items():
        if default is None:
            continue
        value = config.get(key)
        if type(value) is not type(default) and not (key == "apparmor" and value is None):
            return False
    if any(default is not None and type(config.get(key, default)) is not type(default)
           for key, default in OPTIONAL.items()):  # fmt: skip
        return False
    if any(not isinstance(item, dict) or "type" not in item or "destination" not in item
           for item in config["mounts"]):  # fmt: skip
        return False
    empty = lifecycle.make_state()
    if any(type(state.get(key)) is not type(value) for key, value in empty.items()):
        return False
    texts = ("image", "image_name", "layer", "created")
    return all(isinstance(record.get(key), str) for key in texts)


def _make_plain(e: Engine, lineage: Lineage) -> Record:
    """An unprivileged container around a file system of which nothing else is known."""
    head = lineage.head
    layer = ""
    if head.origin and head.origin.startswith("layers/"):
        name = head.origin.partition("@")[0]
        layer = next((r["id"] for r in e.records.list_records("layer") if r["dataset"] == name), "")
    image = next(
        (r for r in e.records.list_records("image") if layer and layer in r["layers"][-1:]), None
    )
    config = {**DEFAULTS, "command": ["/bin/sh"], "log_path": f"{e.logs}/{lineage.id}.log"}
    return {
        "schema": SCHEMA, "kind": "container", "id": lineage.id, "name": _name_of(head),
        "created": format_time(head.creation), "image": image["id"] if image else "",
        "image_name": image["names"][0] if image and image["names"] else "", "layer": layer,
        "branches": [], "config": config, "native": {},
        "state": {**lifecycle.make_state(), "status": lifecycle.EXITED},
    }  # fmt: skip


def _name_of(dataset: Dataset) -> str:
    """The name a dataset says its object has, or the readable part of its own."""
    readable = dataset.name.rpartition("/")[2].rpartition(".")[0]
    return dataset.identity.get("name") or readable or dataset.identity["id"][:12]


# -- volumes ---------------------------------------------------------------------------------------


def make_volume(e: Engine, lineage: Lineage) -> Record:
    """A volume's record from its datasets. It is a named one with neither labels nor options."""
    head = lineage.head
    copy = adoption.find_copy(e, lineage.id) or {}
    return {
        "schema": SCHEMA, "kind": "volume", "id": lineage.id, "name": _name_of(head),
        "project": "_", "created": format_time(head.creation), "dataset": head.name,
        "guid": head.guid, "lineage": head.identity.get("lineage") or lineage.id,
        "generation": get_generation(head), "branches": make_branches(lineage),
        "labels": copy.get("labels") or {}, "options": copy.get("options") or {}, "native": {},
        "profile": "", "anonymous": False, "fresh": False, "adopted": copy.get("adopted") or "",
    }  # fmt: skip


# -- layers ----------------------------------------------------------------------------------------


def make_layer(e: Engine, dataset: Dataset) -> Record | None:
    """A layer's record from its dataset; None when it was never finished or cannot be believed."""
    if not layers.is_frozen(e, dataset.name):
        return None
    record = read_copy(e, dataset, "layer")
    if record is None:
        return None
    record["dataset"], record["guid"] = dataset.name, dataset.guid
    parent = record.get("parent")
    if parent is not None and not (isinstance(parent, str) and is_id(parent)):
        return None
    whole = all(isinstance(record.get(key), int) for key in ("size", "entries"))
    return record if whole else None


def make_empty_layer(layer_id: str, parent: str | None, chain_id: str, diff_id: str) -> Record:
    """The record of a layer whose tar has no entries; it never had a dataset.

    Raises `RecordError` when the digest is not that of an empty tar.
    """
    for size in range(512, _EMPTY_TAR_LIMIT + 1, 512):
        if diff_id == f"sha256:{hashlib.sha256(bytes(size)).hexdigest()}":
            record = layers.make_record(layer_id, "", parent)
            record.update(chain_id=chain_id, diff_id=diff_id, created=0.0, size=size)
            return record
    raise RecordError(f"layer {layer_id} ({chain_id}) is gone", hint="pull the image again")


# -- images ----------------------------------------------------------------------------------------


def make_image(
    e: Engine, image_id: str, *, removed: bool = False
) -> tuple[Record, list[Record]]:  # fmt: skip
    """An image's record from its documents, and the records of empty layers to make with it.

    The raw configuration must hash to the image's id; all that can be derived from it is derived
    from it, so the copy only adds names, digests and where the layers are. `RecordError` says why
    an image cannot be restored.
    """
    from strata.oci import digest as digests
    from strata.oci import reference as references
    from strata.oci.config import parse_config

    where = f"image {image_id[:12]}"
    try:
        raw = images.read_config(e, image_id)
        manifest = images.read_manifest(e, image_id)
        path = (images.removed_path if removed else images.copy_path)(e, image_id)
        copy = check_shape(read_json(path), "image", path)
    except OSError as error:
        raise RecordError(f"{where}: its documents are incomplete: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != image_id or copy["id"] != image_id:
        raise RecordError(f"{where}: its documents are not those of this image")
    parsed = parse_config(raw)
    records: list[Record] = []
    made: list[Record] = []
    proposed = [layer for layer in copy["layers"] if isinstance(layer, str) and is_id(layer)]
    chain_ids = digests.chain_ids(parsed.diff_ids)
    for index, (chain_id, diff_id) in enumerate(zip(chain_ids, parsed.diff_ids, strict=True)):
        layer_id = proposed[index] if index < len(proposed) else ""
        record = _find_layer(e, layer_id, chain_id)
        if record is None:
            parent = records[-1]["id"] if records else None
            record = make_empty_layer(layer_id or "?", parent, chain_id, diff_id)
            made.append(record)
        records.append(record)

    def is_reference(text: object) -> bool:
        try:
            return isinstance(text, str) and references.parse(text).name == text
        except StrataError:
            return False

    record = {
        "schema": SCHEMA, "kind": "image", "id": image_id,
        "names": sorted({name for name in copy.get("names") or () if is_reference(name)}),
        "digests": sorted({text for text in copy.get("digests") or () if is_reference(text)}),
        "layers": [layer["id"] for layer in records], "created": parsed.created,
        "added": copy["added"] if isinstance(copy.get("added"), (int, float)) else 0.0,
        "size": sum(layer["size"] for layer in records),
        "media_type": str(copy.get("media_type") or ""),
        "manifest_digest": digests.of(manifest) if manifest else "",
        "architecture": parsed.architecture, "os": parsed.os, "variant": parsed.variant,
        "author": parsed.author, "config": parsed.config,
    }  # fmt: skip
    return record, made


def _find_layer(e: Engine, layer_id: str, chain_id: str) -> Record | None:
    """The layer with a chain id: the one proposed, or whichever the index names."""
    if layer_id:
        try:
            record = e.records.find("layer", layer_id)
        except RecordError:
            record = None
        if record is not None and record["chain_id"] == chain_id:
            return record
    return layers.find_by_chain(e, chain_id)


# -- the trash -------------------------------------------------------------------------------------


def make_trash_record(e: Engine, lineage: Lineage) -> Record:
    """The record of a removed container or volume whose trash entry was lost."""
    return make_container(e, lineage) if lineage.kind == "container" else make_volume(e, lineage)


def list_found(e: Engine, kind: str) -> list[Dataset]:
    """The datasets below the parent of a kind, and those of volumes that lie outside."""
    found = e.driver.list_datasets(PARENTS[kind])
    if kind == "volume":
        from strata.engine import pools

        known = {d.name: d for d in (*pools.list_datasets(e), *adoption.list_datasets(e))}
        found += known.values()
    return found
