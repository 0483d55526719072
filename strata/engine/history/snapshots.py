"""Snapshots of volumes and containers: what they are called, taking them, listing.

`strata.engine.history.moments` takes those of one moment, `strata.engine.history.snapshot_removal`
removes.
"""

from __future__ import annotations

from strata.engine.core import Engine, Record
from strata.engine.history import facts, targets
from strata.errors import AlreadyExists, UsageError
from strata.storage.driver import DatasetExists, DatasetNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.store.journal import Operation


def check_free(e: Engine, record: Record, name: str) -> None:
    """Raise an error unless a lineage may have a new snapshot of this name."""
    if name.startswith(targets.REMOVED_PREFIX):
        raise UsageError(f"snapshot names that begin with {targets.REMOVED_PREFIX!r} are taken",
                         hint="choose another name")  # fmt: skip
    if name == targets.START and record["kind"] == "container":
        raise UsageError(f"the snapshot name {targets.START!r} is the container's state as created",
                         hint="choose another name")  # fmt: skip
    if targets.find_snapshot(e, record, name) is not None:
        raise _taken(record, name)


def freeze(e: Engine, operation: Operation, moment: Sequence[tuple[Record, str]]) -> None:
    """Snapshot the heads of targets, whose locks the caller has, under the names given."""
    try:
        try:
            e.driver.snapshot([f"{record['dataset']}@{name}" for record, name in moment])
        except DatasetNotFound:
            for record, _ in moment:
                facts.reconcile_locked(e, record)  # renamed by hand, or gone
            e.driver.snapshot([f"{record['dataset']}@{name}" for record, name in moment])
    except DatasetExists:
        operation.replace()  # it is not ours: somebody made one by hand since we looked
        raise _taken(*moment[0]) from None


def _taken(record: Record, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"{record['name']} has a snapshot {name!r} already",
        hint=f"`strata snapshot rm {record['name']}@{name}` removes it",
    )


def own(record: Record, name: str) -> None:
    """Note that a snapshot is Strata's, in the record alone."""
    if name not in record.setdefault("snapshots", []):
        record["snapshots"].append(name)


def settle(e: Engine, kind: str, object_id: str, name: str) -> None:
    """Own a snapshot that a killed command took and could not write down. Idempotent."""
    record = e.records.find(kind, object_id)
    if record is None:
        return
    with e.hold_if_there(record) as record:
        if record is not None and targets.find_snapshot(e, record, name) is not None:
            own(record, name)
            targets.save(e, record)


def list_snapshots(e: Engine, target: str | None = None) -> list[Record]:
    """Snapshots of one target, or of all volumes and containers; foreign ones are marked."""
    if target is not None:
        records = [targets.get_target(e, target)]
    else:
        records = [*e.records.list_records("volume"), *e.records.list_records("container")]
        records.sort(key=lambda record: (record["kind"] != "volume", record["name"]))
    rows = []
    for record in records:
        branches = {b["dataset"]: targets.branch_name(b) for b in record["branches"]}
        for snapshot in targets.list_snapshots(e, record):
            foreign = not targets.is_own(record, snapshot.name)
            if foreign and snapshot.name.startswith(targets.COMMIT_PREFIX):
                continue  # what a committed layer is a clone of
            usage = e.driver.get_usage(snapshot.full_name) if target is not None else None
            rows.append(
                {
                    "Target": record["name"],
                    "Kind": record["kind"],
                    "Name": snapshot.name,
                    "Created": float(snapshot.creation),
                    "Used": usage.used if usage else None,
                    "Referenced": usage.referenced if usage else None,
                    "Foreign": foreign,
                    "Branch": branches.get(snapshot.dataset, ""),
                    "Dataset": snapshot.dataset,
                }
            )
    return rows
