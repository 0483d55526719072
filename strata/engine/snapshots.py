"""Snapshots of volumes and containers, the way back, and clones.

A rollback loses nothing: the snapshot is cloned to a fresh dataset, the record's pointer switches
to it in one atomic write, and the old head stays as a branch with all its snapshots, older and
newer. So the only moment of change is the write of a record; before it a crash means nothing
happened, after it the rollback is done. Running containers that use the target are stopped
first and started again afterwards, also after a crash in between (the journal knows them).
"""

from __future__ import annotations

import time

from strata import trace
from strata.engine import names, volumes
from strata.engine.containers import create
from strata.engine.core import Engine, Record
from strata.engine.holders import find_holders
from strata.engine.identity import identity
from strata.engine.images import layers
from strata.errors import AlreadyExists, InUse, NotFound, StateImproper, StrataError, UsageError
from strata.storage import layout
from strata.storage.driver import HasDependants
from strata.store import lifecycle
from strata.store.records import new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.linux.locks import Lock
    from strata.storage.driver import Snapshot
    from strata.store.journal import Operation

#: a container's state as its image made it; every container has it, no snapshot is kept for it
START = "start"
#: begins the names of snapshots that `commit` takes of containers with snapshots of their own
COMMIT_PREFIX = "commit-"
#: how often a rollback stops containers that were started meanwhile, before it gives up
_ROUNDS = 5


def split(spec: str) -> tuple[str, str]:
    """``TARGET@NAME`` as its two parts; the name is checked."""
    target, at, name = spec.rpartition("@")
    if not at or not target or not name:
        raise UsageError(
            f"invalid snapshot {spec!r}",
            hint="write TARGET@NAME, for example pgdata@before-upgrade",
        )
    layout.check_component(name, "snapshot name")
    return target, name


def get_target(e: Engine, text: str) -> Record:
    """The volume or container a user means; ``volume:x`` and ``container:x`` when both exist."""
    kind, colon, name = text.partition(":")
    if colon and kind == "volume":
        return names.get_volume(e, name)
    if colon and kind == "container":
        return names.get_container(e, name)
    kinds = ("volume", "container")
    ids = [(kind, e.records.find_name(kind, text)) for kind in kinds]
    found = [e.records.get(kind, object_id) for kind, object_id in ids if object_id]
    if not found:
        # Only when it is nobody's name may it be the beginning of an id.
        for resolve in (names.get_volume, names.get_container):
            try:
                found.append(resolve(e, text))
            except NotFound:
                continue
    if len(found) > 1:
        raise UsageError(
            f"{text!r} is both a volume and a container",
            hint=f"write volume:{text} or container:{text}",
        )
    if not found:
        raise NotFound(
            f"no volume or container with name or ID {text!r}",
            hint="`strata volume ls` and `strata ps -a` list them",
        )
    return found[0]


def _lineage(record: Record) -> list[str]:
    """The head's dataset and those of the branches, head first."""
    return [record["dataset"], *(branch["dataset"] for branch in reversed(record["branches"]))]


def _list(e: Engine, record: Record) -> list[Snapshot]:
    return [s for dataset in _lineage(record) for s in e.driver.list_snapshots(dataset)]


def _find(e: Engine, record: Record, name: str) -> Snapshot | None:
    for snapshot in _list(e, record):
        if snapshot.name == name:
            return snapshot
    return None


def _get(e: Engine, record: Record, name: str) -> Snapshot:
    found = _find(e, record, name)
    if found is None:
        raise NotFound(
            f"{record['kind']} {record['name']} has no snapshot {name!r}",
            hint=f"`strata snapshot ls {record['name']}` lists them",
        )
    return found


def _reload(e: Engine, record: Record) -> Record:
    return e.records.get(record["kind"], record["id"])


def _lock(e: Engine, record: Record) -> Lock:
    if record["kind"] == "volume":
        return e.lock_volume(record["id"], name=record["name"])
    return e.lock_container(record["id"], name=record["name"])


def _emit(e: Engine, status: str, record: Record, name: str, **attributes: str) -> None:
    from strata.engine import events

    events.emit(
        e, events.SNAPSHOT, status, id=record["id"], name=f"{record['name']}@{name}",
        attributes={"kind": record["kind"], **attributes},
    )  # fmt: skip


def _save(e: Engine, record: Record) -> None:
    if record["kind"] == "container":
        create.save(e, record)
    else:
        e.records.save(record)


def take(e: Engine, spec: str) -> str:
    """Freeze a volume or container as ``TARGET@NAME``; names are unique within a lineage."""
    target, name = split(spec)
    record = get_target(e, target)
    with _lock(e, record):
        record = _reload(e, record)
        if name == START and record["kind"] == "container":
            raise UsageError(f"the snapshot name {START!r} is the container's state as created",
                             hint="choose another name")  # fmt: skip
        if _find(e, record, name) is not None:
            raise AlreadyExists(
                f"{record['name']} has a snapshot {name!r} already",
                hint=f"`strata snapshot rm {record['name']}@{name}` removes it",
            )
        e.driver.snapshot([f"{record['dataset']}@{name}"])
        trace.point("snapshot:taken")
        record.setdefault("snapshots", []).append(name)
        _save(e, record)
    _emit(e, "create", record, name)
    return f"{record['name']}@{name}"


def list_snapshots(e: Engine, target: str | None = None) -> list[Record]:
    """Snapshots of one target, or of all volumes and containers; foreign ones are marked."""
    if target is not None:
        records = [get_target(e, target)]
    else:
        records = [*e.records.list_records("volume"), *e.records.list_records("container")]
        records.sort(key=lambda record: (record["kind"] != "volume", record["name"]))
    rows = []
    for record in records:
        own = set(record.get("snapshots", ()))
        for snapshot in _list(e, record):
            if snapshot.name not in own and snapshot.name.startswith(COMMIT_PREFIX):
                continue  # what a committed layer is a clone of
            usage = e.driver.get_usage(snapshot.full_name) if target is not None else None
            head = snapshot.dataset == record["dataset"]
            rows.append(
                {
                    "Target": record["name"],
                    "Kind": record["kind"],
                    "Name": snapshot.name,
                    "Created": float(snapshot.creation),
                    "Used": usage.used if usage else None,
                    "Referenced": usage.referenced if usage else None,
                    "Foreign": snapshot.name not in own,
                    "Branch": "" if head else snapshot.dataset.rpartition("/")[2],
                    "Dataset": snapshot.dataset,
                }
            )
    return rows


def remove(e: Engine, specs: Sequence[str]) -> list[str]:
    """Destroy snapshots; one that a branch or clone needs is refused with what needs it."""
    e.allow_reserve()
    gone = []
    for spec in specs:
        target, name = split(spec)
        record = get_target(e, target)
        with _lock(e, record):
            record = _reload(e, record)
            snapshot = _get(e, record, name)
            try:
                e.driver.destroy(snapshot.full_name)
            except HasDependants as error:
                raise InUse(
                    f"snapshot {spec} is the origin of {', '.join(error.dependants) or 'a clone'}",
                    hint="remove what was cloned or rolled back from it first",
                ) from None
            trace.point("snapshot:destroyed")
            if name in record.get("snapshots", ()):
                record["snapshots"].remove(name)
            _save(e, record)
        _emit(e, "remove", record, name)
        gone.append(f"{record['name']}@{name}")
    return gone


# -- rollback --------------------------------------------------------------------------------------


def _live_users(e: Engine, record: Record) -> list[Record]:
    """Running containers that must be stopped before the target may change under them."""
    if record["kind"] == "container":
        candidates = [record]
    else:
        candidates = volumes.users_of(e, record["id"])
    return [c for c in candidates if lifecycle.derive(c) in lifecycle.LIVE]


def rollback(e: Engine, spec: str, *, stop: bool = True) -> Record:
    """Put a target back to a snapshot; what it was stays as a branch.

    Running containers that use it are stopped and started again, or with ``stop`` false the
    rollback is refused with their list. A process outside Strata that holds it always refuses.
    """
    e.recover()  # what a killed rollback stopped runs again, and is a user again
    target, name = split(spec)
    record = get_target(e, target)
    source = _rollback_source(e, record, name)
    users = _live_users(e, record)
    if users and not stop:
        raise _in_use(record, users)
    held = find_holders(e, [record["dataset"]], [int(u["state"]["pid"]) for u in users])
    if held:
        raise InUse(
            f"{record['name']} is mounted outside Strata: {'; '.join(map(str, held))}",
            hint="unmount it there or end that process first",
        )
    stopped: list[str] = []
    with e.begin("rollback") as operation:
        for left in range(_ROUNDS, -1, -1):
            users.sort(key=lambda user: str(user["created"]))
            if users:
                _stop(e, operation, users)
                stopped += [user["id"] for user in users if user["id"] not in stopped]
            # Who starts a container has the same lock until its record says that it runs.
            with _lock(e, record):
                record = _reload(e, record)
                users = _live_users(e, record)
                if not users:
                    branch = _switch(e, operation, record, source, name)
                    break
                if not (stop and left):
                    raise _in_use(record, users)
        from strata.engine.containers import life

        try:
            restarted = life.restart_after_rollback(e, stopped)
        except StrataError as error:
            operation.replace()  # it was tried: it must not start by itself some other day
            raise StateImproper(
                f"{record['name']} is rolled back, but not all that used it started again: "
                f"{error.message}", hint=error.hint,
            ) from error  # fmt: skip
    _emit(e, "rollback", record, name)
    return {
        "Target": record["name"],
        "Snapshot": name,
        "Generation": record["generation"],
        "Branch": branch,
        "Restarted": restarted,
    }


def _in_use(record: Record, users: Sequence[Record]) -> InUse:
    listed = ", ".join(f"{user['name']} ({user['id'][:12]})" for user in users)
    return InUse(
        f"{record['name']} is in use by running container(s): {listed}",
        hint="stop them first, or leave out --no-stop to have them stopped and restarted",
    )


def _stop(e: Engine, operation: Operation, users: Sequence[Record]) -> None:
    """Stop containers for a rollback, the youngest first; the journal starts them again."""
    from strata.engine.containers import life

    operation.plan(["restart", *(user["id"] for user in users)])
    for user in reversed(users):
        life.stop_container(e, user, held=True)
        trace.point("rollback:stopped")


def _rollback_source(e: Engine, record: Record, name: str) -> str:
    """The snapshot to clone from: one of the lineage, or the layer for a container's start."""
    if name == START and record["kind"] == "container":
        base = layers.find_base(e, record["layer"])
        if base is None:
            raise NotFound(f"container {record['name']} has no image layer to start from")
        return layers.base_snapshot(base)
    return _get(e, record, name).full_name


def _switch(
    e: Engine, operation: Operation, record: Record, source: str, name: str
) -> str:  # fmt: skip
    """Clone the source beside the head and point the record to it; returns the branch's name.

    The caller has the lock of the target, which nobody uses.
    """
    old = {key: record[key] for key in ("dataset", "guid", "generation")}
    new = layout.successor(record["dataset"])
    record["generation"] = _next_generation(record)
    operation.plan(["unswitch", record["kind"], record["id"], new])
    made = e.driver.clone(source, new, identity(record), record.get("native") or {})
    trace.point("rollback:cloned")
    branch = {**old, "created": format_time(time.time()), "snapshot": name}
    record["branches"] = [*record["branches"], branch]
    record["dataset"], record["guid"] = new, made.guid
    keep = [step for step in operation.undo if step[0] == "restart"]
    _save(e, record)
    trace.point("rollback:switched")
    operation.replace(*keep)
    if record["kind"] == "volume":
        volumes.mount_locked(e, record)
        trace.point("rollback:remounted")
    e.driver.close(old["dataset"])
    return str(old["dataset"].rpartition("/")[2])


def _next_generation(record: Record) -> int:
    return 1 + max([int(record["generation"]), *(int(b["generation"]) for b in record["branches"])])


# -- clones ----------------------------------------------------------------------------------------


def clone(e: Engine, spec: str, new_name: str) -> str:
    """Make a new volume or container that starts as ``TARGET@NAME``, or as the target is now."""
    target, at, name = spec.rpartition("@")
    if not at:
        target, name = spec, f"clone-{new_id(8)}"
        record = get_target(e, target)
        take(e, f"{record['kind']}:{record['name']}@{name}")
    record = get_target(e, target)
    names.check_name(new_name, record["kind"])
    source = _rollback_source(e, record, name)
    with volumes.Held(e) as held, e.begin("clone") as operation:
        if record["kind"] == "volume":
            volumes.make(
                e, operation, held, new_name, native=record.get("native"), labels=record["labels"],
                profile=record["profile"], options=record["options"], origin=source,
            )  # fmt: skip
        else:
            _clone_container(e, operation, record, source, new_name)
    _emit(e, "clone", record, name, to=new_name)
    return new_name


def _clone_container(
    e: Engine, operation: Operation, record: Record, source: str, name: str
) -> None:
    """A new container with the same settings on a clone of a snapshot; it is not started."""
    container_id = new_id()
    dataset = layout.container(name, container_id)
    copy: Record = {
        **record, "id": container_id, "name": name, "created": format_time(time.time()),
        "dataset": dataset, "lineage": container_id, "generation": 1, "branches": [],
        "snapshots": [], "config": {**record["config"]},
        "state": lifecycle.make_state(),
    }  # fmt: skip
    if copy["config"]["log_path"]:
        copy["config"]["log_path"] = f"{e.logs}/{container_id}.log"
    operation.plan(
        ["unclaim", "container", name, container_id],
        ["abandon", "container", container_id, dataset],
    )
    volumes.take_name(e, "container", name, container_id)
    made = e.driver.clone(source, dataset, identity(copy), record.get("native") or {})
    copy["guid"] = made.guid
    trace.point("clone:dataset-made")
    create.save(e, copy)
