"""Volumes: a dataset each, with a mountpoint on the host that stays the same over rollbacks.

The data lies at the dataset's root. Its head is mounted at ``<root>/volumes/<name>/_data``,
nosuid and nodev, below directories of mode 0700, before first use and whenever somebody asks for
the mountpoint. Containers bind from there.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.holders import list_users
from strata.engine.identity import identity
from strata.errors import AlreadyExists, InUse
from strata.linux import locks, mount
from strata.storage import layout
from strata.storage.driver import DatasetNotFound
from strata.store.records import SCHEMA, new_id
from strata.times import format_time, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from strata.engine.filters import Filters
    from strata.store.journal import Operation

HIDDEN_FLAGS = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV


class Held:
    """Locks of the volumes a command uses; take them in the order of the volumes' names.

    Who makes a container, or starts one, has them until its record says so: until then a rollback
    or a removal would not see that the volume is in use.
    """

    __slots__ = ("_e", "_locks")

    def __init__(self, e: Engine) -> None:
        self._e = e
        self._locks: dict[str, locks.Lock] = {}

    def take(self, volume_id: str, name: str) -> None:
        """Take one more, alone. Idempotent."""
        if volume_id not in self._locks:
            self._locks[volume_id] = self._e.lock_volume(volume_id, name=name)

    def find(self, volume_id: str, name: str) -> Record | None:
        """The record of a volume that cannot change any more; None when there is none."""
        self.take(volume_id, name)
        record = self._e.records.find("volume", volume_id)
        if record is None:
            self.forget(volume_id)
        return record

    def forget(self, volume_id: str) -> None:
        """Give up the lock of a volume that does not exist."""
        self._e.forget_lock(self._locks.pop(volume_id))

    def share(self) -> None:
        """From now on others may use the volumes too, but not change where they lie."""
        for held in self._locks.values():
            held.share()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._locks.values():
            held.release()


def create(
    e: Engine, name: str | None = None, *, options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None, profile: str = "", ignore: bool = False,
    pool: str = "",
) -> Record:  # fmt: skip
    """Make a volume, in the store or in another ``pool``; return what ``inspect`` shows, with
    ``Notes`` on options left out."""
    anonymous = not name
    name = name or new_id()
    names.check_name(name, "volume")
    existing = e.records.find_name("volume", name)
    if existing is not None and ignore and e.records.find("volume", existing) is not None:
        return inspect(e, [name])[0]
    from strata.storage import properties

    native, notes = properties.plan(options or {}, e.driver.flavour, profile)
    native = properties.resolve_size(properties.drop_unlimited(native), 0)
    place = ""
    if pool:
        from strata.engine import pools

        place = pools.get(e, pool)
    with Held(e) as held, e.begin("volume-create") as operation:
        record = make(
            e, operation, held, name, native=native, labels=labels, profile=profile,
            anonymous=anonymous, options=options, place=place,
        )  # fmt: skip
    return {**describe(e, record), "Notes": notes}


def make(
    e: Engine, operation: Operation, held: Held, name: str, *,
    native: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None,
    profile: str = "", anonymous: bool = False, options: Mapping[str, str] | None = None,
    origin: str | None = None, cloned: Record | None = None, place: str = "",
) -> Record:  # fmt: skip
    """Make a volume's dataset and record under a running operation.

    With ``origin`` (``dataset@snapshot``) it starts as a clone of that, and ``cloned`` says whose
    snapshot it was. It lies in the store, or outside in ``place`` or beside its origin. Who finds
    the name taken can wait for us by the volume's lock.
    """
    volume_id = new_id()
    dataset = layout.volume(name)
    if origin is not None and layout.is_outside(origin):
        place = origin.partition("@")[0].rpartition("/")[0]
    if place:
        dataset = layout.beside(place, layout.readable(name))
    record: Record = {
        "schema": SCHEMA, "kind": "volume", "id": volume_id, "name": name, "project": "_",
        "created": format_time(time.time()), "dataset": dataset, "guid": "",
        "lineage": volume_id, "generation": 1, "branches": [], "labels": dict(labels or {}),
        "options": dict(options or {}), "native": dict(native or {}), "profile": profile,
        "anonymous": anonymous, "fresh": origin is None, "cloned": cloned, "adopted": "",
    }  # fmt: skip
    held.take(volume_id, name)
    operation.plan(
        ["unclaim", "volume", name, volume_id],
        ["abandon", "volume", volume_id, dataset],
    )
    try:
        take_name(e, "volume", name, volume_id)
    except AlreadyExists:
        held.forget(volume_id)
        raise
    if origin is None:
        made = e.driver.create(dataset, identity(record), native)
    else:
        made = e.driver.clone(origin, dataset, identity(record), native)
    trace.point("volume:dataset-made")
    record["guid"] = made.guid
    if place:
        from strata.engine import adoption

        adoption.save_copy(e, record)
    e.records.save(record)
    trace.point("volume:recorded")
    events.emit(e, events.VOLUME, "create", id=volume_id, name=name, attributes=record["labels"])
    return record


def take_name(e: Engine, kind: str, name: str, object_id: str) -> None:
    """Take a name; one left over by a killed command gives way.

    The caller's operation plans to give it back first: that tells others that it is not left over.
    """
    try:
        e.records.take_name(kind, name, object_id)
        return
    except AlreadyExists:
        if not _is_left_over(e, kind, name):
            raise
    trace.point("name:stale")
    # Of two that find it left over, the second must not take it from the first.
    with locks.lock(f"{e.paths.locks}/4-names", what=f"the {kind} name {name!r}"):
        if _is_left_over(e, kind, name):
            e.records.drop_name(kind, name)
        e.records.take_name(kind, name, object_id)


def _is_left_over(e: Engine, kind: str, name: str) -> bool:
    """Whether a name stands for nothing that there is or that a living operation makes."""
    holder = e.records.find_name(kind, name)
    if holder is None or e.records.find(kind, holder) is not None:
        return False
    claims = ([step, kind, name, holder] for step in ("drop-name", "unclaim"))
    planned = [s for entry, alive in e.journal.list_entries() if alive for s in entry["undo"]]
    # Its record may have come while we read.
    return not any(claim in planned for claim in claims) and (e.records.find(kind, holder) is None)


def ensure_mounted(e: Engine, record: Record) -> str:
    """Mount a volume's head at its mountpoint if it is not; return the path."""
    target = e.paths.volume_mountpoint(record["name"])
    try:
        if mount.shows(target, e.driver.open(record["dataset"])):
            return target
    except DatasetNotFound:
        pass  # somebody renamed it by hand: see below
    with e.hold(record) as fresh:  # the head may be another by now
        return mount_locked(e, fresh)


def mount_locked(e: Engine, record: Record) -> str:
    """Like `ensure_mounted`, for a caller that has the volume's lock."""
    target = e.paths.volume_mountpoint(record["name"])
    try:
        source = e.driver.open(record["dataset"])
    except DatasetNotFound:
        from strata.engine.history import facts

        source = e.driver.open(facts.reconcile_locked(e, record)["dataset"])
    if mount.shows(target, source):
        return target
    for folder in (e.paths.volumes, os.path.dirname(target), target):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
    trace.point("volume:stale")
    e.unmount_volume(record["name"])
    mount.bind(source, target, add=HIDDEN_FLAGS)
    return target


def unmount(e: Engine, record: Record) -> None:
    """Take a volume that lies outside the store from its mountpoint, so that its pool can be
    exported or unmounted; others stay mounted. `InUse` while a container that uses it runs."""
    if not layout.is_outside(record["dataset"]):
        return
    from strata.engine.holders import list_live_users

    with e.hold(record) as fresh:
        users = ", ".join(user["name"] for user in list_live_users(e, fresh))
        if users:
            raise InUse(f"volume {fresh['name']} is in use by running container(s): {users}",
                        hint="stop them first")  # fmt: skip
        e.unmount_volume(fresh["name"])
        e.driver.close(fresh["dataset"])


def describe(e: Engine, record: Record) -> Record:
    """A volume in Podman's shape, plus its dataset and branches."""
    mountpoint = ensure_mounted(e, record)
    record = e.records.get("volume", record["id"])  # it may have met what was done by hand
    usage = e.driver.get_usage(record["dataset"])
    return {
        "Name": record["name"],
        "Driver": "local",
        "Mountpoint": mountpoint,
        "CreatedAt": record["created"],
        "Labels": record["labels"],
        "Scope": "local",
        "Options": record["options"],
        "MountCount": _count_uses(e).get(record["id"], 0),
        "NeedsCopyUp": bool(record.get("fresh")),
        "Anonymous": record["anonymous"],
        "Profile": record["profile"],
        "Dataset": show_dataset(e, record),
        "Adopted": bool(record.get("adopted")),
        "Pool": show_pool(e, record),
        "Generation": record["generation"],
        "Branches": record["branches"],
        "Used": usage.used,
        "Referenced": usage.referenced,
        "CompressRatio": usage.compressratio,
        "Limits": _describe_limits(e, record),
    }


def show_dataset(e: Engine, known: Record) -> str:
    """The dataset of a record or branch: below the root dataset, or as its owner calls it."""
    dataset = str(known["dataset"])
    return e.driver.outside.show(dataset) if layout.is_outside(dataset) else dataset


def _describe_limits(e: Engine, record: Record) -> list[Record]:
    if not record.get("native"):
        return []
    from strata.engine import limits

    return limits.describe(e, record)


def show_pool(e: Engine, record: Record) -> str:
    """The name of the pool a volume lies in, "" where it is none of the configured ones."""
    if not layout.is_outside(record["dataset"]):
        return "store"
    from strata.engine import pools

    return pools.find_name(e, record["dataset"])


def inspect(e: Engine, which: Sequence[str]) -> list[Record]:
    """What ``strata volume inspect`` prints."""
    return [describe(e, names.get_volume(e, text)) for text in which]


def refuse_used(record: Record, users: Sequence[Record]) -> None:
    """`InUse`, with the containers that have a volume, when there are some."""
    if users:
        listed = ", ".join(f"{user['name']} ({user['id'][:12]})" for user in users)
        raise InUse(
            f"volume {record['name']} is being used by the following container(s): {listed}: "
            "volume is being used",
            hint="remove those containers first, or use --force to remove them too",
            exit_code=2,
        )


def list_volumes(e: Engine, filters: Filters | None = None) -> list[Record]:
    """Volumes by name, from records alone."""
    used = _count_uses(e)
    found = list(filter(_make_filter(e, filters, used), e.records.list_records("volume")))
    found.sort(key=lambda record: str(record["name"]))
    return [
        {
            "Name": record["name"],
            "Driver": "local",
            "Mountpoint": e.paths.volume_mountpoint(record["name"]),
            "CreatedAt": record["created"],
            "Labels": record["labels"],
            "Scope": "local",
            "Options": record["options"],
            "Anonymous": record["anonymous"],
            "Profile": record["profile"],
            "Dataset": show_dataset(e, record),
            "Adopted": bool(record.get("adopted")),
            "Pool": show_pool(e, record),
            "MountCount": used.get(record["id"], 0),
            "NeedsCopyUp": bool(record.get("fresh")),
        }
        for record in found
    ]


def _make_filter(
    e: Engine, filters: Filters | None, used: Mapping[str, int]
) -> Callable[[Record], bool]:
    """The filters of podman-volume-ls(1); ``used`` counts the containers of each volume."""
    from strata.engine.filters import has_label, is_before, is_true, make_filter, matches

    chosen = filters or {}
    named = [*chosen.get("since", ()), *chosen.get("after", ())]
    created = {value: parse_time(names.get_volume(e, value)["created"]) for value in named}
    return make_filter("volume", filters, {
        "name": lambda record, value: matches(value, record["name"]),
        "label": lambda record, value: has_label(record["labels"], value),
        "label!": lambda record, value: not has_label(record["labels"], value),
        "dangling": lambda record, value: (record["id"] not in used) == is_true(value),
        "driver": lambda record, value: value == "local",
        "scope": lambda record, value: value == "local",
        "opt": lambda record, value: has_label(record["options"], value),
        "since": lambda record, value: parse_time(record["created"]) > created[value],
        "after": lambda record, value: parse_time(record["created"]) > created[value],
        "until": lambda record, value: is_before(parse_time(record["created"]), value),
        "anonymous": lambda record, value: record["anonymous"] == is_true(value, "anonymous"),
    })  # fmt: skip


def _count_uses(e: Engine, without: Collection[str] = ()) -> dict[str, int]:
    """How many containers have each volume, by id; those in ``without`` do not count."""
    used: dict[str, int] = {}
    for container in e.records.list_records("container"):
        if container["id"] in without:
            continue
        for item in container["config"].get("mounts", ()):
            if item.get("volume"):
                used[item["volume"]] = used.get(item["volume"], 0) + 1
    return used


def remove(
    e: Engine, which: Sequence[str], *, force: bool = False, all: bool = False,
    time: int | None = None, report: Callable[[str], None] = lambda text: None,
) -> list[str]:  # fmt: skip
    """Move volumes to the trash; return their names. In use: refused with the list, or with
    ``force`` the containers go first. ``report`` is told which datasets were only forgotten."""
    wanted = [r["name"] for r in e.records.list_records("volume")] if all else list(which)
    gone = []
    for record in names.get_each(e, names.get_volume, wanted, ignore=force, exit_code=1):
        for user in list_users(e, record["id"]) if force else ():
            from strata.engine.containers.removal import remove_record

            remove_record(e, user, force=True, volumes=False, verb="volume-rm", time=time)
        kept = discard(e, record, verb="volume-rm", keep=True)
        if kept:
            stays = "stays as it is" if len(kept) == 1 else "stay as they are"
            report(f"{record['name']} is forgotten: {', '.join(kept)} {stays}")
        gone.append(record["name"])
    if gone:
        from strata.engine.system import collect

        collect.collect_detached(e)
    return gone


def discard(e: Engine, record: Record, *, verb: str, keep: bool) -> list[str]:
    """Move one unused volume to the trash (or, without ``keep``, to immediate collection).

    An adopted one is only forgotten: returns its datasets, which stay. `InUse` when a container has
    it among its mounts.
    """
    kept: list[str] = []
    e.allow_reserve()
    e.recover()  # here, as it may start containers, whose locks come before ours
    trace.point(f"{verb}:unused")
    with e.hold_if_there(record) as fresh:
        if fresh is None:
            return kept
        record = fresh
        refuse_used(record, list_users(e, record["id"]))
        if record.get("adopted"):
            from strata.engine import adoption

            kept = adoption.forget(e, record, verb=verb)
        else:
            _bury(e, record, verb=verb, keep=keep)
    events.emit(e, events.VOLUME, "remove", id=record["id"], name=record["name"],
                attributes=record["labels"])  # fmt: skip
    return kept


def _bury(e: Engine, record: Record, *, verb: str, keep: bool) -> None:
    with e.journal.begin(verb, ["settle-removal", record["id"]]):
        datasets = [record["dataset"], *(branch["dataset"] for branch in record["branches"])]
        entry = e.bury("volume", record, datasets, verb=verb, keep=keep)
        trace.point(f"{verb}:trashed")
        e.unmount_volume(record["name"])
        e.settle_removal(record["id"])
        e.remove_mountpoint(record["name"])
        e.move_to_trash(entry)


def prune(
    e: Engine, filters: Filters | None = None, all: bool = False
) -> Record:  # fmt: skip
    """Remove unused anonymous volumes (``all``: named ones too), as Podman 6 does."""
    before = e.driver.get_pool_space().free
    gone = []
    for record in choose_prunable(e, filters, all):
        try:
            discard(e, record, verb="volume-prune", keep=True)
        except InUse:
            continue
        gone.append(record["name"])
    from strata.engine.system import collect

    return collect.report(e, gone, before)


def choose_prunable(
    e: Engine, filters: Filters | None, all: bool, without: Collection[str] = ()
) -> list[Record]:  # fmt: skip
    """The volumes that `prune` removes, unless they come into use meanwhile. Never adopted ones:
    forgetting frees nothing.

    ``without``: ids of containers that are taken for gone already.
    """
    used = _count_uses(e, without)
    passes = _make_filter(e, filters, used)
    return [
        record for record in e.records.list_records("volume")
        if record["id"] not in used and (record["anonymous"] or all)
        and not record.get("adopted") and passes(record)
    ]  # fmt: skip


def profiles() -> list[Record]:
    """The workload profiles, for ``volume profiles``."""
    from strata.storage import properties

    return [
        {"Name": profile.name, "Options": profile.properties, "Description": profile.reason}
        for profile in properties.PROFILES.values()
    ]
