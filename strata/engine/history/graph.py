"""The history of a container or volume as a graph: what ``strata log`` shows.

Nodes are the tips of the lineage's datasets (the head and the branches) and their snapshots. A
snapshot's parent is the one before it on its dataset; the first snapshot of a dataset that was
cloned from a snapshot of the lineage has that one as its parent. All is read from the datasets at
that moment, one dataset at a time; what other objects were cloned from is in their records.
"""

from __future__ import annotations

from strata.engine.core import Engine, Record
from strata.engine.history import facts, targets
from strata.engine.holders import list_users
from strata.store import lifecycle
from strata.times import parse_time


def read(e: Engine, target: str, *, sizes: bool = False) -> Record:
    """``Target``, ``Kind``, ``Users`` and ``Rows``, the newest first.

    A row has ``Kind`` (head, branch, snapshot), ``Name``, ``Branch`` (on which it lies),
    ``Parent`` (name of a snapshot, "" for none), ``Created`` (seconds since the epoch, None for a
    tip), ``Foreign``, ``Clones`` (``volume x``), ``Users`` (of a head) and with ``sizes`` also
    ``Used`` and ``Referenced`` in bytes.
    """
    record = facts.reconcile(e, targets.get_target(e, target))
    clones = _find_clones(e, record)
    users = _list_users(e, record)
    lineage = [record, *reversed(record["branches"])]
    by_full_name: dict[str, str] = {}
    found = []
    for known in lineage:
        dataset = e.driver.get(known["dataset"])
        snapshots = [s for s in e.driver.list_snapshots(known["dataset"])
                     if not s.name.startswith(targets.REMOVED_PREFIX)]  # fmt: skip
        by_full_name.update({s.full_name: s.name for s in snapshots})
        found.append((known, dataset, snapshots))
    rows = []
    for known, dataset, snapshots in found:
        branch = targets.branch_name(known)
        origin = by_full_name.get(dataset.origin or "", "")
        if dataset.origin and not origin and known is record and record.get("cloned"):
            origin = ""
        lane: list[Record] = []
        parent = origin
        for snapshot in snapshots:
            foreign = not targets.is_own(record, snapshot.name)
            if foreign and snapshot.name.startswith(targets.COMMIT_PREFIX):
                continue
            row: Record = {
                "Kind": "snapshot", "Name": snapshot.name, "Branch": branch, "Parent": parent,
                "Created": float(snapshot.creation), "Foreign": foreign,
                "Clones": clones.get(snapshot.name, []), "Users": [],
                "Order": (snapshot.createtxg, len(lane)),
            }  # fmt: skip
            if sizes:
                usage = e.driver.get_usage(snapshot.full_name)
                row["Used"], row["Referenced"] = usage.used, usage.referenced
            lane.append(row)
            parent = snapshot.name
        head = known is record
        left = None if head else parse_time(known.get("created", "")) or None
        tip: Record = {
            "Kind": "head" if head else "branch", "Name": branch, "Branch": branch,
            "Parent": parent, "Created": left, "Foreign": False, "Clones": [],
            "Users": users if head else [],
            "Order": (lane[-1]["Order"] if lane else (dataset.createtxg, 0)),
        }  # fmt: skip
        rows += [tip, *reversed(lane)]
    return {
        "Target": record["name"], "Kind": record["kind"], "Head": targets.branch_name(record),
        "Users": users, "Cloned": record.get("cloned"), "Rows": _sort(rows),
    }  # fmt: skip


def _sort(rows: list[Record]) -> list[Record]:
    """The head first, then by age; a tip stands before its newest snapshot."""
    ordered = sorted(
        rows, key=lambda row: (row["Kind"] == "head", row["Order"], row["Kind"] != "snapshot"),
        reverse=True,
    )  # fmt: skip
    for row in ordered:
        del row["Order"]
    return ordered


def _find_clones(e: Engine, record: Record) -> dict[str, list[str]]:
    """Snapshot name -> volumes and containers that were cloned from it."""
    found: dict[str, list[str]] = {}
    for kind in targets.KINDS:
        for other in e.records.list_records(kind):
            origin = other.get("cloned")
            if origin and origin.get("target") == record["id"]:
                found.setdefault(origin["snapshot"], []).append(targets.describe(other))
    return {name: sorted(clones) for name, clones in found.items()}


def _list_users(e: Engine, record: Record) -> list[str]:
    """Containers that have a volume; of a container itself its status."""
    if record["kind"] == "container":
        return []
    return sorted(
        f"{user['name']} ({lifecycle.derive(user)})" for user in list_users(e, record["id"])
    )
