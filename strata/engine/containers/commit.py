"""Commit: a container's file system becomes a layer, and an image on top of its old one.

The bytes do not move. The container's dataset is frozen, a clone of that moment becomes the
layer's dataset, and where the container has no snapshots of its own the clone is promoted, so
that the layer stands on its own feet and the container is a clone of it like any other. With
snapshots of its own the layer stays a dependant of the container's dataset, which lives on
unnamed after ``rm`` until nothing needs it. Only the difference to the parent layer is read: its
tar goes through a hash for the diff_id and is never written down.
"""

from __future__ import annotations

import json
import os
import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import PRIVATE, Engine, Record
from strata.engine.history.targets import COMMIT_PREFIX
from strata.engine.identity import identity
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.engine.images.pull import apply_changes
from strata.oci import digest as digests
from strata.oci import reference as references
from strata.storage import layout
from strata.store.files import write_json
from strata.store.records import new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.store.journal import Operation


def commit(
    e: Engine, name: str, reference: str | None = None, *, author: str = "", message: str = "",
    changes: Sequence[str] = (),
) -> str:  # fmt: skip
    """Make an image of a container, running or not; return its id.

    A snapshot is one moment of the whole file system, so a running container need not pause.
    """
    record = names.get_container(e, name)
    image_names = [references.local_candidates(reference)[0]] if reference else []
    base_image = e.records.find("image", record["image"])
    document = json.loads(images.read_config(e, base_image["id"])) if base_image else {}
    config = apply_changes(plan_run_config(document.get("config") or {}, record["config"]), changes)
    e.recover()  # before the lock, as it may start this container
    with e.hold(record) as record:
        keep = [record["layer"]] if record["layer"] else []
        with e.journal.begin("commit", keep=keep) as operation:
            if base_image:
                base = layers.list_image(e, base_image)
            else:
                # The image is gone or was never recorded: what the container stands on is known.
                base = layers.list_chain(e, record["layer"] or None)
                document = {"rootfs": {"diff_ids": [below["diff_id"] for below in base]},
                            "history": [{"created_by": "unknown"} for _ in base]}  # fmt: skip
            layer = make_layer(e, operation, record)
            raw = plan_document(
                document, config, layer["diff_id"] if layer else None,
                author=author, message=message, created=format_time(time.time()),
            )  # fmt: skip
            image = images.register(
                e, config=raw, manifest=None, media_type="",
                layer_records=[*base, *([layer] if layer else [])], image_names=image_names,
            )  # fmt: skip
            trace.point("commit:registered")
        events.emit_container(e, "commit", record)
    return str(image["id"])


def make_layer(e: Engine, operation: Operation, container: Record) -> Record | None:
    """The layer of what a container changed, None when it changed nothing."""
    from strata.archive.layers import write_diff

    source = container["dataset"]
    layer_id = new_id(16)
    dataset = layout.layer(layer_id)
    # A promotion would give the layer the moment as it was, with the memory of a checkpoint in it.
    promotable = not (_has_checkpoint(e, container) or e.driver.list_snapshots(source))
    frozen = f"{source}@{layout.BASE_SNAPSHOT if promotable else f'{COMMIT_PREFIX}{layer_id}'}"
    record = layers.make_record(layer_id, dataset, container["layer"] or None)
    operation.lease(layer_id)
    operation.plan(["unsnapshot", frozen], ["destroy", dataset])
    e.driver.snapshot([frozen])
    trace.point("commit:frozen")
    record["guid"] = e.driver.clone(frozen, dataset, identity(record), unfinished=True).guid
    trace.point("commit:cloned")
    tree = e.driver.open(dataset)
    layers.clear_private(tree)
    base = layers.find_base(e, container["layer"] or None)
    parent_tree = e.driver.open(base["dataset"]) if base else None
    diff = write_diff(tree, parent_tree)
    if base:
        e.driver.close(base["dataset"])
    parent = e.records.get("layer", container["layer"]) if container["layer"] else None
    below = [parent["chain_id"]] if parent else []
    record["diff_id"], record["size"], record["entries"] = diff.diff_id, diff.size, diff.entries
    record["chain_id"] = digests.chain_id([*below, diff.diff_id])
    trace.point("commit:hashed")
    with e.lock_chain(record["chain_id"]):
        known = None if diff.empty else layers.find_by_chain(e, record["chain_id"])
        if diff.empty or known is not None:
            e.destroy_dataset(dataset)
            e.driver.destroy(frozen)
            operation.replace()
            if known is not None:
                operation.lease(known["id"])
            return known
        write_json(f"{tree}/{PRIVATE}/record.json", record)
        e.driver.close(dataset)
        # From here on the layer may not be taken back: after the promotion the container needs it.
        operation.replace(["settle-layer", dataset])
        e.driver.finish(
            dataset, identity(record), promote=promotable,
            snapshot="" if promotable else layout.BASE_SNAPSHOT,
        )  # fmt: skip
        trace.point("commit:promoted")
        layers.publish(e, record)
    return record


def _has_checkpoint(e: Engine, container: Record) -> bool:
    if "checkpointed" not in container["state"]:
        return False
    from strata.engine.containers import checkpoints

    return os.path.exists(checkpoints.find_folder(e, container))


def plan_run_config(defaults: Record, config: Record) -> Record:
    """An image's run-time configuration from its old one and a container's. Pure."""
    result = {**defaults}
    result["Env"] = list(config["env"])
    result["Cmd"] = list(config["command"]) or None
    result["Entrypoint"] = list(config["entrypoint"]) or None
    result["WorkingDir"] = config["workdir"]
    result["User"] = config["user"]
    result["Labels"] = dict(config["labels"])
    volumes: Record = {
        item["destination"]: {} for item in config["mounts"] if item["type"] == "volume"
        and item["anonymous"]
    }  # fmt: skip
    if volumes:
        result["Volumes"] = {**(result.get("Volumes") or {}), **volumes}
    return {key: value for key, value in result.items() if value not in (None, "", {}, [])}


def plan_document(
    document: Record, config: Record, diff_id: str | None, *, author: str, message: str,
    created: str,
) -> bytes:  # fmt: skip
    """The new image configuration document: the old one plus one step. Pure."""
    from strata.oci.config import build_config
    from strata.oci.manifest import host_platform

    platform = host_platform()
    step: Record = {"created": created, "created_by": "strata commit"}
    if author:
        step["author"] = author
    if message:
        step["comment"] = message
    if diff_id is None:
        step["empty_layer"] = True
    old = document.get("rootfs", {}).get("diff_ids") or []
    return build_config(
        architecture=document.get("architecture") or platform.architecture,
        variant=document.get("variant") or platform.variant,
        diff_ids=[*old, *([diff_id] if diff_id else [])],
        history=[*(document.get("history") or []), step],
        created=created, config=config, author=author or document.get("author") or "",
    )  # fmt: skip
