"""Clones: a new volume or container that starts as another one is, or was."""

from __future__ import annotations

import time

from strata import trace
from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.history import facts, targets
from strata.engine.identity import identity
from strata.engine.volumes import making
from strata.storage import layout
from strata.store.records import new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.store.journal import Operation


def clone(e: Engine, spec: str, new_name: str) -> str:
    """Make a new volume or container that starts as ``TARGET@NAME``, or as the target is now.

    Without a NAME a snapshot is taken for it, ``clone-…``, which goes again when this fails.
    """
    target, at, name = spec.rpartition("@")
    record = facts.reconcile(e, targets.get_target(e, target if at else spec))
    names.check_name(new_name, record["kind"])
    with making.Held(e) as held, e.begin("clone") as operation:
        if at:
            source = targets.get_source(e, record, name)
        else:
            name, source = freeze(e, operation, record)
        origin = {"target": record["id"], "name": record["name"], "snapshot": name}
        if record["kind"] == "volume":
            making.make(
                e, operation, held, new_name, native=record.get("native"), labels=record["labels"],
                profile=record["profile"], options=record["options"], origin=source,
                cloned=origin,
            )  # fmt: skip
        else:
            copy_container(e, operation, record, source, new_name, cloned=origin)
    targets.emit(e, "clone", record, name, to=new_name)
    return new_name


def freeze(e: Engine, operation: Operation, record: Record) -> tuple[str, str]:
    """Take a snapshot of what a target is now, for a clone; its name, and its full name.

    It goes when ``operation`` fails, and with the clone (see `strata.engine.system.collect`).
    """
    name = f"{targets.CLONE_PREFIX}{new_id(8)}"
    with e.hold(record) as fresh:
        record = fresh
        source = f"{record['dataset']}@{name}"
        operation.plan(["unsnapshot", source])
        e.driver.snapshot([source])
        trace.point("clone:frozen")
    return name, source


def copy_container(
    e: Engine, operation: Operation, record: Record, source: str, name: str, *,
    config: Record | None = None, cloned: Record | None = None,
) -> Record:  # fmt: skip
    """A new container on a clone of a snapshot, under a running operation; it is not started.

    It has the settings of ``record``, or ``config``. Returns its record.
    """
    from strata.engine.containers import create
    from strata.store import lifecycle

    container_id = new_id()
    dataset = layout.container(name, container_id)
    copy: Record = {
        **record, "id": container_id, "name": name, "created": format_time(time.time()),
        "dataset": dataset, "lineage": container_id, "generation": 1, "branches": [],
        "snapshots": [], "config": {**(config or record["config"])},
        "state": {**lifecycle.make_state(), "checkpointed": ""}, "cloned": cloned,
    }  # fmt: skip
    copy.pop("branch", None)
    if copy["config"]["log_path"]:
        copy["config"]["log_path"] = f"{e.logs}/{container_id}.log"
    operation.plan(
        ["unclaim", "container", name, container_id],
        ["abandon", "container", container_id, dataset],
    )
    names.take_name(e, "container", name, container_id)
    made = e.driver.clone(source, dataset, identity(copy), record.get("native") or {})
    copy["guid"] = made.guid
    trace.point("clone:dataset-made")
    create.save(e, copy)
    return copy


def drop_origin(e: Engine, origin: Record) -> None:
    """Destroy the snapshot a clone was made of, if it was taken for clones alone.

    `HasDependants` when another clone stands on it.
    """
    if not origin["snapshot"].startswith((targets.CLONE_PREFIX, targets.FORK_PREFIX)):
        return
    for kind in targets.KINDS:
        record = e.records.find(kind, origin["target"])
        found = targets.find_snapshot(e, record, origin["snapshot"]) if record else None
        if found is not None:
            e.driver.destroy(found.full_name)
