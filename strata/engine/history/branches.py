"""Branches: heads that a rollback or switch left. Listing, renaming, removing them."""

from __future__ import annotations

from strata import trace
from strata.engine import adoption, names
from strata.engine.core import Engine, Record
from strata.engine.history import facts, targets
from strata.engine.history.heads import get_branch
from strata.engine.identity import is_owned
from strata.engine.system import collect
from strata.errors import AlreadyExists, InUse, NotFound
from strata.storage import layout
from strata.storage.driver import HasDependants
from strata.store.records import new_id
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.store.journal import Operation


def list_branches(e: Engine, target: str) -> list[Record]:
    """The head and the branches of a target, the head first, then the youngest."""
    record = facts.reconcile(e, targets.get_target(e, target))
    rows = []
    for known in (record, *reversed(record["branches"])):
        head = known is record
        rows.append({
            "Name": targets.branch_name(known), "Head": head, "Target": record["name"],
            "Kind": record["kind"], "Generation": known["generation"],
            "Left": None if head else parse_time(known["created"]),
            "Dataset": names.show_dataset(e, known), "Adopted": is_owned(record, known),
            "Snapshots": [s.name for s in e.driver.list_snapshots(known["dataset"])
                          if not s.name.startswith(targets.REMOVED_PREFIX)],
            "Used": e.driver.get_usage(known["dataset"]).used,
        })  # fmt: skip
    return rows


def rename(e: Engine, target: str, old: str, new: str) -> None:
    """Give the head or a branch another name."""
    layout.check_component(new, "branch name")
    record = targets.get_target(e, target)
    with e.hold(record) as record:
        known = [record, *record["branches"]]
        if new in map(targets.branch_name, known):
            raise AlreadyExists(f"{targets.describe(record)} has a branch {new!r} already",
                                hint="choose another name")  # fmt: skip
        wanted = record["dataset"]
        if old != targets.branch_name(record):
            wanted = get_branch(record, old)["dataset"]
        for branch in known:
            if branch["dataset"] == wanted:
                branch["branch"] = new
        targets.save(e, record)


def plan_removal(e: Engine, target: str, names: Sequence[str]) -> list[Record]:
    """What `remove` would take; `NotFound` or `InUse` as it would."""
    record = facts.reconcile(e, targets.get_target(e, target))
    rows = []
    for name in names:
        branch = _get_idle(e, record, name)
        rows.append({
            "Kind": "branch", "Name": f"{record['name']} {targets.branch_name(branch)}",
            "Id": branch["guid"], "Size": e.driver.get_usage(branch["dataset"]).used,
            "Snapshots": [s.name for s in e.driver.list_snapshots(branch["dataset"])],
        })  # fmt: skip
    return rows


def _get_idle(e: Engine, record: Record, name: str) -> Record:
    if name == targets.branch_name(record):
        raise InUse(
            f"{name} is the head of {targets.describe(record)}",
            hint=f"switch to another branch first: `strata branch ls {record['name']}`",
        )
    branch = get_branch(record, name)
    if is_owned(record, branch):
        raise adoption.refuse_branch(e, branch, name)
    return branch


def remove(e: Engine, target: str, names: Sequence[str], *, now: bool = False) -> list[str]:
    """Move branches to the trash with the snapshots they hold, or destroy them ``now``."""
    e.allow_reserve()
    record = facts.reconcile(e, targets.get_target(e, target))
    gone = []
    for name in names:
        with e.begin("branch-rm") as operation, e.hold(record) as record:
            branch = _get_idle(e, record, name)
            if now:
                _destroy(e, record, branch)
            else:
                _bury(e, operation, record, branch)
            gone.append(targets.branch_name(branch))
    if gone and not now:
        collect.collect_detached(e)
    return gone


def _destroy(e: Engine, record: Record, branch: Record) -> None:
    try:
        e.destroy_dataset(branch["dataset"])
    except HasDependants as error:
        raise InUse(
            f"{', '.join(error.dependants) or 'a clone'} was made from a snapshot of "
            f"{targets.branch_name(branch)}", hint="leave out --now: the trash waits for it",
        ) from None  # fmt: skip
    trace.point("branch-rm:destroyed")
    _forget(e, record, branch["guid"])


def _forget(e: Engine, record: Record, guid: str) -> None:
    record["branches"] = [b for b in record["branches"] if b["guid"] != guid]
    targets.save(e, record)


def _bury(e: Engine, operation: Operation, record: Record, branch: Record) -> None:
    removed = make_removed(record, branch)
    operation.plan(["settle-branch-removal", removed["id"]])
    entry = e.bury("branch", removed, [branch["dataset"]], verb="branch-rm", keep=True)
    trace.point("branch-rm:trashed")
    _forget(e, record, branch["guid"])
    trace.point("branch-rm:forgotten")
    e.move_to_trash(entry)


def make_removed(record: Record, branch: Record) -> Record:
    """What the trash entry of a branch holds as its record."""
    return {
        "id": new_id(), "name": f"{record['name']} {targets.branch_name(branch)}",
        "target": record["id"], "target_kind": record["kind"], "branch": branch,
        "guid": branch["guid"], "dataset": branch["dataset"],
    }  # fmt: skip


def settle_removal(e: Engine, entry_id: str) -> None:
    """Finish the removal of a branch whose trash entry was written. Idempotent."""
    entry = e.trash.find(entry_id)
    if entry is None:
        return
    removed = entry["record"]
    record = e.records.find(removed["target_kind"], removed["target"])
    if record is not None:
        with e.hold(record) as record:
            if any(b["guid"] == removed["guid"] for b in record["branches"]):
                _forget(e, record, removed["guid"])
    entry["datasets"] = [name for name in entry["datasets"]
                         if layout.is_outside(name) or e.driver.find(name) is not None]  # fmt: skip
    e.trash.save(entry)
    e.move_to_trash(entry)


def bring_back(e: Engine, entry: Record, name: str | None) -> Record:
    """Make a removed branch one again, as ``name`` when given; return what came back."""
    from strata.engine.history import restoring

    removed = entry["record"]
    record = targets.get_owner(e, entry)
    if name is not None:
        layout.check_component(name, "branch name")
    with e.begin("restore") as operation, e.hold(record) as record:
        places = restoring.find_places(e, entry)
        if removed["guid"] not in places:
            e.trash.delete(entry["id"])
            raise NotFound(f"branch {entry['name']} cannot come back: its dataset was destroyed "
                           "outside Strata")  # fmt: skip
        taken = {targets.branch_name(known) for known in (record, *record["branches"])}
        branch = dict(removed["branch"])
        old = targets.branch_name(branch)
        if name is not None and name in taken:
            raise AlreadyExists(f"{targets.describe(record)} has a branch {name!r} already",
                                hint="choose another --name")  # fmt: skip
        branch["branch"] = name or next(
            text for text in targets.list_free_names(old) if text not in taken
        )
        operation.plan(["settle-branch-removal", entry["id"]])
        restoring.move_out(e, entry, branch, places)
        record["branches"] = [*record["branches"], branch]
        targets.save(e, record)
        trace.point("restore:branch-recorded")
        e.trash.delete(entry["id"])
    notes = restoring.note_name(old, branch["branch"], asked=name is not None)
    return {"Kind": "branch", "Name": f"{record['name']} {branch['branch']}",
            "Was": entry["name"], "Notes": notes}  # fmt: skip
