"""Layers: from a blob to a dataset that never changes again.

A layer is a dataset named by a random id, holding ``rootfs/`` and ``.strata/``, with one
snapshot ``@layer`` that children and containers are clones of. ``chain_id -> id`` is an index
(names of kind ``chain``), so images share layers. A layer whose tar has no entries is a record
without a dataset of its own.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine.core import PRIVATE, ROOTFS, Engine, Record
from strata.engine.identity import identity
from strata.errors import RecordError
from strata.linux.tree import remove_path
from strata.storage import layout
from strata.storage.driver import DatasetNotFound
from strata.store.files import read_json, write_json
from strata.store.records import SCHEMA, check_shape, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strata.store.journal import Operation


def find_by_chain(e: Engine, chain_id: str) -> Record | None:
    """The layer with this chain id, if its record and its dataset are there."""
    layer_id = e.records.find_name("chain", chain_id.partition(":")[2])
    if layer_id is None:
        return None
    try:
        record = e.records.find("layer", layer_id)
    except RecordError:
        return None
    if record is None:
        return None
    if record["dataset"] and not is_frozen(e, record["dataset"]):
        return None
    return record


def lease_known(e: Engine, operation: Operation, chain_id: str) -> Record | None:
    """The layer with this chain id, leased to ``operation``, if it is there.

    Under its lock, so that a collection either sees the lease or has taken it away before.
    """
    if find_by_chain(e, chain_id) is None:
        return None
    with e.lock_chain(chain_id):
        found = find_by_chain(e, chain_id)
        if found is not None:
            operation.lease(found["id"])
        return found


def is_frozen(e: Engine, dataset: str) -> bool:
    """Whether the dataset is there and has the snapshot that makes it a layer."""
    try:
        snapshots = e.driver.list_snapshots(dataset)
    except DatasetNotFound:
        return False
    return any(snapshot.name == layout.BASE_SNAPSHOT for snapshot in snapshots)


def find_base(e: Engine, layer_id: str | None) -> Record | None:
    """The nearest layer at or below ``layer_id`` that has a dataset, None for scratch."""
    while layer_id:
        record = e.records.get("layer", layer_id)
        if record["dataset"]:
            return record
        layer_id = record["parent"]
    return None


def list_chain(e: Engine, layer_id: str | None) -> list[Record]:
    """The layer and all below it, bottom first."""
    chain: list[Record] = []
    while layer_id:
        record = e.records.get("layer", layer_id)
        chain.append(record)
        layer_id = record["parent"]
    chain.reverse()
    return chain


def base_snapshot(record: Record) -> str:
    """``dataset@layer`` of a layer that has a dataset."""
    return layout.base_snapshot(str(record["dataset"]))


def build(
    e: Engine, operation: Operation, *, chain_id: str, diff_id: str | None, parent: str | None,
    fill: Callable[[str], tuple[str, int, int]],
) -> Record:  # fmt: skip
    """Make a layer unless one with this chain id exists; leased to ``operation`` either way.

    ``fill`` gets the path of a tree that holds ``rootfs/`` with the parent's content and an empty
    ``.strata/``; it brings in the layer's content and returns (diff_id, size in bytes of the
    uncompressed tar, number of entries).
    """
    with e.lock_chain(chain_id):
        found = find_by_chain(e, chain_id)
        if found is not None:
            operation.lease(found["id"])
            return found
        layer_id = new_id(16)
        dataset = layout.layer(layer_id)
        operation.lease(layer_id)
        record = make_record(layer_id, dataset, parent)
        record["chain_id"], record["diff_id"] = chain_id, diff_id or ""
        base = find_base(e, parent)
        with e.journal.begin(
            "layer",
            ["destroy", dataset],
            ["forget", "layer", layer_id],
        ) as step:
            if base is not None:
                made = e.driver.clone(
                    base_snapshot(base), dataset, identity(record), unfinished=True
                )
            else:
                made = e.driver.create(dataset, identity(record), unfinished=True)
            trace.point("layer:dataset-made")
            tree = e.driver.open(dataset)
            clear_private(tree)
            os.makedirs(f"{tree}/{ROOTFS}", 0o755, exist_ok=True)
            record["diff_id"], record["size"], record["entries"] = fill(tree)
            trace.point("layer:filled")
            record["guid"] = made.guid
            if record["entries"] == 0:
                e.destroy_dataset(dataset)
                record["dataset"], record["guid"] = "", ""
            else:
                write_json(f"{tree}/{PRIVATE}/record.json", record)
                e.driver.close(dataset)
                e.driver.finish(dataset, identity(record), snapshot=layout.BASE_SNAPSHOT)
            trace.point("layer:frozen")
            # Once the index names it, others may build on it: nobody may take it back any more.
            step.replace()
            publish(e, record)
    return record


def make_record(layer_id: str, dataset: str, parent: str | None) -> Record:
    """A layer's record before it has content: digests, size and GUID are still to come."""
    return {
        "schema": SCHEMA, "kind": "layer", "id": layer_id, "chain_id": "", "diff_id": "",
        "parent": parent, "dataset": dataset, "guid": "", "created": time.time(), "size": 0,
        "entries": 0, "blobs": [],
    }  # fmt: skip


def publish(e: Engine, record: Record) -> None:
    """Save a layer's record and let the index name it."""
    e.records.save(record)
    trace.point("layer:recorded")
    e.records.set_name("chain", record["chain_id"].partition(":")[2], record["id"])


def settle(e: Engine, dataset: str) -> None:
    """Finish a layer whose dataset became final just before a crash, from its own copy."""
    if e.driver.find(dataset) is None:
        return
    path = f"{e.driver.open(dataset)}/{PRIVATE}/record.json"
    try:
        record = check_shape(read_json(path), "layer", path)
    except FileNotFoundError:
        return
    finally:
        e.driver.close(dataset)
    if not is_frozen(e, dataset):
        e.driver.finish(dataset, identity(record), snapshot=layout.BASE_SNAPSHOT)
    if find_by_chain(e, record["chain_id"]) is None:
        publish(e, record)


def list_image(e: Engine, image: Record) -> list[Record]:
    """The layer records of an image, bottom first."""
    return [e.records.get("layer", layer_id) for layer_id in image["layers"]]


def clear_private(tree: str) -> None:
    """Empty ``.strata`` of a fresh clone: what is in it belongs to the origin."""
    folder = f"{tree}/{PRIVATE}"
    remove_path(folder)
    os.makedirs(folder, 0o700, exist_ok=True)


def ingest(
    e: Engine, operation: Operation, blob: str, *, media_type: str, diff_id: str, chain_id: str,
    parent: str | None,
) -> Record:  # fmt: skip
    """Unpack a blob into a layer, verify that it can be reproduced byte for byte."""

    def fill(tree: str) -> tuple[str, int, int]:
        from strata.archive.apply import apply_layer
        from strata.archive.layers import verify

        applied = apply_layer(blob, media_type, tree, expected_diff_id=diff_id)
        verify(tree, diff_id)
        return applied.diff_id, applied.size, applied.entries

    return build(e, operation, chain_id=chain_id, diff_id=diff_id, parent=parent, fill=fill)


def read_tar(e: Engine, record: Record) -> Iterator[bytes]:
    """The layer's uncompressed tar, byte for byte as it was pulled or committed."""
    if not record["dataset"]:
        left = record["size"]
        while left > 0:
            yield bytes(min(left, 65536))
            left -= 65536
        return
    from strata.archive.layers import reassemble

    path = e.driver.open(record["dataset"])
    try:
        yield from reassemble(path)
    finally:
        e.driver.close(record["dataset"])
