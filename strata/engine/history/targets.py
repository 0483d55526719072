"""What users write as TARGET or TARGET@NAME, resolved; and the snapshots of a lineage.

A *target* is a volume or a container. Its *lineage* is its head's dataset and those of its
branches. Snapshots of all of them belong to the target, whoever took them: Strata, ``zfs
snapshot`` by hand, sanoid. Not shown are those that commits made and those that lie in the trash.
"""

from __future__ import annotations

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.errors import NotFound, UsageError
from strata.storage import layout
from strata.storage.driver import DatasetNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from strata.storage.driver import Snapshot

#: a container's state as its image made it; every container has it, no snapshot is kept for it
START = "start"
#: begins the names of snapshots that `commit` takes of containers with snapshots of their own
COMMIT_PREFIX = "commit-"
#: begins the names of snapshots taken to make a clone or a fork of what is now
CLONE_PREFIX = "clone-"
FORK_PREFIX = "fork-"
#: begins the names of removed snapshots, which lie in the trash
REMOVED_PREFIX = "strata-removed-"
KINDS = ("volume", "container")


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
    ids = [(kind, e.records.find_name(kind, text)) for kind in KINDS]
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


def list_lineage(record: Record) -> list[str]:
    """The head's dataset and those of the branches, head first, then the youngest."""
    return [record["dataset"], *(branch["dataset"] for branch in reversed(record["branches"]))]


def list_snapshots(e: Engine, record: Record) -> list[Snapshot]:
    """The snapshots of a lineage, dataset by dataset; what was destroyed by hand has none."""
    found = []
    for dataset in list_lineage(record):
        try:
            entries = e.driver.list_snapshots(dataset)
        except DatasetNotFound:
            continue
        found += [s for s in entries if not s.name.startswith(REMOVED_PREFIX)]
    return found


def find_snapshot(e: Engine, record: Record, name: str) -> Snapshot | None:
    """The snapshot of a lineage with this name."""
    if name.startswith(REMOVED_PREFIX):
        return None
    for dataset in list_lineage(record):
        try:
            found = e.driver.find_snapshot(dataset, name)
        except DatasetNotFound:
            continue  # destroyed by hand
        if found is not None:
            return found
    return None


def get_snapshot(e: Engine, record: Record, name: str) -> Snapshot:
    """Like `find_snapshot`; `NotFound`."""
    found = find_snapshot(e, record, name)
    if found is None:
        raise NotFound(
            f"{record['kind']} {record['name']} has no snapshot {name!r}",
            hint=f"`strata snapshot ls {record['name']}` lists them",
        )
    return found


def get_source(e: Engine, record: Record, name: str) -> str:
    """The snapshot to clone from: one of the lineage, or the layer for a container's start."""
    if name == START and record["kind"] == "container":
        from strata.engine.images import layers

        base = layers.find_base(e, record["layer"])
        if base is None:
            raise NotFound(f"container {record['name']} has no image layer to start from")
        return layers.base_snapshot(base)
    return get_snapshot(e, record, name).full_name


def is_own(record: Record, name: str) -> bool:
    """Whether Strata took a snapshot of this name of a target."""
    return name in record.get("snapshots", ()) or name.startswith((CLONE_PREFIX, FORK_PREFIX))


def get_owner(e: Engine, entry: Record) -> Record:
    """The target that a removed snapshot or branch was of. `NotFound`."""
    removed = entry["record"]
    record = e.records.find(removed["target_kind"], removed["target"])
    if record is None:
        raise NotFound(
            f"{entry['object']} {entry['name']}: its {removed['target_kind']} is not there",
            hint="bring that back first: `strata trash ls`",
        )
    return record


def save(e: Engine, record: Record) -> None:
    """Write a target's record, with the copy a container has."""
    if record["kind"] == "container":
        from strata.engine.containers import create

        create.save(e, record)
    else:
        e.records.save(record)


def describe(record: Record) -> str:
    """``volume data``, for messages."""
    return f"{record['kind']} {record['name']}"


def branch_name(branch: Record) -> str:
    """What a branch, or a record for its head, is called; ``g1`` is the first generation."""
    return str(branch.get("branch") or f"g{branch['generation']}")


def list_free_names(old: str) -> Iterator[str]:
    """Names for what comes back: its own, then ``OLD-restored``, ``OLD-restored-2`` …"""
    yield old
    yield f"{old}-restored"
    number = 2
    while True:
        yield f"{old}-restored-{number}"
        number += 1


def emit(e: Engine, status: str, record: Record, name: str, **attributes: str) -> None:
    """Append an event about a snapshot or branch of a target."""
    from strata.engine import events

    events.emit(
        e, events.SNAPSHOT, status, id=record["id"], name=f"{record['name']}@{name}",
        attributes={"kind": record["kind"], **attributes},
    )  # fmt: skip
