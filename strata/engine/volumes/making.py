"""Making volumes: names, datasets, records, and the locks of who uses them meanwhile."""

from __future__ import annotations

import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.identity import identity
from strata.errors import AlreadyExists
from strata.linux import locks
from strata.storage import layout
from strata.store.records import SCHEMA, new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from strata.store.journal import Operation


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
    from strata.engine.volumes import listing

    if existing is not None and ignore and e.records.find("volume", existing) is not None:
        return listing.inspect(e, [name])[0]
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
    return {**listing.describe(e, record), "Notes": notes}


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
        names.take_name(e, "volume", name, volume_id)
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
