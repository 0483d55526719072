"""The head of a volume or container: taking it back to a snapshot, or over to a branch.

Neither loses anything. A rollback clones the snapshot to a fresh dataset and a switch takes one
that exists; then the record's pointer moves in one atomic write, and what was the head stays as a
branch with all its snapshots. So the only moment of change is the write of a record; before it a
crash means nothing happened, after it the work is done. Running containers that use the target are
stopped first and started again afterwards, also after a crash in between (the journal knows them).

Of a lineage the dataset with the highest generation is the head; so a branch that becomes the head
gets a new generation, in its identity, before the record says so.
"""

from __future__ import annotations

import time

from strata import trace
from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.history import facts, targets
from strata.engine.holders import find_holders, list_live_users
from strata.engine.identity import identity, is_owned
from strata.engine.volumes.mounting import mount_locked
from strata.errors import InUse, NotFound, StateImproper, StrataError, UsageError
from strata.storage import layout
from strata.storage.driver import DatasetNotFound
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strata.store.journal import Operation

    Move = Callable[[Operation, Record], None]

#: how often containers that were started meanwhile are stopped, before giving up
_ROUNDS = 5


def rollback(e: Engine, spec: str, *, stop: bool = True) -> Record:
    """Put a target back to a snapshot; what it was stays as a branch.

    Running containers that use it are stopped and started again, or with ``stop`` false the
    rollback is refused with their list. A process outside Strata that holds it always refuses.
    Returns ``Target``, ``Snapshot``, ``Generation``, ``Branch`` (what the old head is called),
    ``Dataset`` (the head's, where it lies outside the store), ``Lost`` (bytes written since the
    newest snapshot, which only the branch has now; None where the driver cannot tell) and
    ``Restarted`` (names).
    """
    e.recover()  # what a killed rollback stopped runs again, and is a user again
    target, name = targets.split(spec)
    record = facts.reconcile(e, targets.get_target(e, target))
    source = targets.get_source(e, record, name)

    def move(operation: Operation, record: Record) -> None:
        new = layout.successor(record["dataset"])
        generation = _next_generation(record)
        operation.plan(["unswitch", record["kind"], record["id"], new])
        made = e.driver.clone(
            source, new, {**identity(record), "generation": str(generation)},
            record.get("native") or {},
        )  # fmt: skip
        trace.point("rollback:cloned")
        _leave_head(record, name)
        record.update(dataset=new, guid=made.guid, generation=generation, branch=f"g{generation}")

    done = _move_head(e, "rollback", record, move, stop=stop)
    targets.emit(e, "rollback", record, name)
    return {**done, "Snapshot": name}


def switch(e: Engine, target: str, branch: str, *, stop: bool = True) -> Record:
    """Make a branch the head; what was the head stays as a branch, unless it was destroyed by
    hand (then ``Branch`` is empty). See `rollback`."""
    e.recover()
    record = facts.reconcile(e, targets.get_target(e, target), leaving=True)
    if branch == targets.branch_name(record):
        raise UsageError(f"{record['name']} is on {branch} already",
                         hint=f"`strata branch ls {record['name']}` lists them")  # fmt: skip
    wanted = get_branch(record, branch)["dataset"]

    def move(operation: Operation, record: Record) -> None:
        found = next((b for b in record["branches"] if b["dataset"] == wanted), None)
        if found is None:
            raise NotFound(f"{record['name']} has no branch {branch!r} any more")
        generation = _next_generation(record)
        operation.plan(["settle-generation", record["kind"], record["id"], wanted])
        # The branch may have been the head when other limits held.
        if record.get("native") and not is_owned(record, found):
            from strata.engine import limits

            limits.enforce(e, record, wanted)
        e.driver.set_properties(wanted, {"strata:generation": str(generation)})
        trace.point("switch:generation-set")
        record["branches"] = [b for b in record["branches"] if b is not found]
        if e.driver.find(record["dataset"]) is not None:
            _leave_head(record, "")
        record.update(dataset=wanted, guid=found["guid"], generation=generation,
                      branch=targets.branch_name(found))  # fmt: skip

    done = _move_head(e, "switch", record, move, stop=stop)
    targets.emit(e, "switch", record, branch)
    return done


def settle_generation(e: Engine, kind: str, object_id: str, dataset: str) -> None:
    """Give a dataset the generation that the record says it has. Idempotent."""
    record = e.records.find(kind, object_id)
    if record is None:
        return
    for known in (record, *record["branches"]):
        if known["dataset"] == dataset:
            try:
                generation = str(known["generation"])
                e.driver.set_properties(dataset, {"strata:generation": generation})
            except DatasetNotFound:
                return


def _leave_head(record: Record, snapshot: str) -> None:
    """Turn what is the head into a branch, in the record; the caller sets the new head."""
    branch = {key: record[key] for key in ("dataset", "guid", "generation")}
    branch.update(branch=targets.branch_name(record), created=format_time(time.time()),
                  snapshot=snapshot)  # fmt: skip
    record["branches"] = [*record["branches"], branch]


def _next_generation(record: Record) -> int:
    return 1 + max([int(record["generation"]), *(int(b["generation"]) for b in record["branches"])])


def get_branch(record: Record, name: str) -> Record:
    """The branch a user means by its name or dataset; `NotFound` lists them."""
    for branch in record["branches"]:
        short = branch["dataset"].rpartition("/")[2]
        if name in (targets.branch_name(branch), branch["dataset"], short):
            return dict(branch)
    known = ", ".join(targets.branch_name(branch) for branch in record["branches"]) or "none"
    raise NotFound(f"{targets.describe(record)} has no branch {name!r}", hint=f"it has: {known}")


# -- moving ----------------------------------------------------------------------------------------


def _move_head(e: Engine, verb: str, record: Record, move: Move, *, stop: bool) -> Record:
    """Stop the users, let ``move`` change the record under its lock, start the users again."""
    users = list_live_users(e, record)
    if users and not stop:
        raise _in_use(record, users)
    # An adopted dataset stays as its owner mounted it: that is nobody in the way.
    wanted = [] if is_owned(record, record) else [record["dataset"]]
    held = find_holders(e, wanted, [int(u["state"]["pid"]) for u in users])
    if held:
        raise InUse(
            f"{record['name']} is mounted outside Strata: {'; '.join(map(str, held))}",
            hint="unmount it there or end that process first",
        )
    stopped: list[str] = []
    with e.begin(verb) as operation:
        for left in range(_ROUNDS, -1, -1):
            users.sort(key=lambda user: str(user["created"]))
            if users:
                _stop(e, operation, users)
                stopped += [user["id"] for user in users if user["id"] not in stopped]
            # Who starts a container has the same lock until its record says that it runs.
            with e.hold(record) as fresh:
                record = fresh
                users = list_live_users(e, record)
                if not users:
                    lost = _measure_unsaved(e, record)
                    branch = _point(e, operation, record, move)
                    break
                if not (stop and left):
                    raise _in_use(record, users)
        restarted = _restart(e, operation, record, stopped) if stopped else []
    return {
        "Target": record["name"],
        "Dataset": names.show_dataset(e, record) if layout.is_outside(record["dataset"]) else "",
        "Generation": record["generation"],
        "Head": targets.branch_name(record),
        "Branch": branch,
        "Lost": lost,
        "Restarted": restarted,
    }


def _restart(
    e: Engine, operation: Operation, record: Record, stopped: Sequence[str]
) -> list[str]:  # fmt: skip
    """Start again what was stopped for the move; the names of those started. `StateImproper`."""
    from strata.engine.containers import life

    try:
        return life.restart_after_rollback(e, stopped)
    except StrataError as error:
        operation.replace()  # it was tried: it must not start by itself some other day
        raise StateImproper(
            f"{record['name']} is on {targets.branch_name(record)} now, but not all that used "
            f"it started again: {error.message}", hint=error.hint,
        ) from error  # fmt: skip


def _point(e: Engine, operation: Operation, record: Record, move: Move) -> str:
    """Move the pointer; returns the name the old head has as a branch, if it is one now.

    The caller has the lock of the target, which nobody uses.
    """
    old, branch = record["dataset"], targets.branch_name(record)
    is_ours = not is_owned(record, record)
    move(operation, record)
    if record["kind"] == "container":
        record["state"]["checkpointed"] = ""  # this head may have a checkpoint or not
    keep = [step for step in operation.undo if step[0] == "restart"]
    targets.save(e, record)
    trace.point(f"{operation.verb}:switched")
    operation.replace(*keep)
    if record["kind"] == "volume":
        mount_locked(e, record)
        trace.point(f"{operation.verb}:remounted")
    try:
        if is_ours and record.get("native"):
            from strata.engine import limits

            limits.free_reservation(e, record, old)
        e.driver.close(old)
    except DatasetNotFound:
        pass  # destroyed by hand
    return branch if any(known["dataset"] == old for known in record["branches"]) else ""


def _measure_unsaved(e: Engine, record: Record) -> int | None:
    """Bytes written to the head since its newest snapshot, None where nobody can tell."""
    try:
        snapshots = e.driver.list_snapshots(record["dataset"])
        if not snapshots:
            return None
        return e.driver.get_written(record["dataset"], snapshots[-1].name)
    except DatasetNotFound:
        return None


def _in_use(record: Record, users: Sequence[Record]) -> InUse:
    listed = ", ".join(f"{user['name']} ({user['id'][:12]})" for user in users)
    return InUse(
        f"{record['name']} is in use by running container(s): {listed}",
        hint="stop them first, or leave out --no-stop to have them stopped and restarted",
    )


def _stop(e: Engine, operation: Operation, users: Sequence[Record]) -> None:
    """Stop containers before the head moves, the youngest first; the journal starts them again."""
    from strata.engine.containers import life

    operation.plan(["restart", *(user["id"] for user in users)])
    for user in reversed(users):
        life.stop_container(e, user, held=True)
        trace.point(f"{operation.verb}:stopped")
