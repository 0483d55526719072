"""Pools beside the store's own: places for volumes, configured by name.

``store.json`` says where they are, because it must be known when the records are not: on ZFS a
dataset ``strata`` in the pool or dataset that the user named, on btrfs a directory ``strata`` below
a path. A pool holds volumes and what comes of them, each a dataset directly in its place; all else
of the store stays in the store's own pool, which has the name `OWN` here.
"""

from __future__ import annotations

from strata import trace
from strata.engine import names
from strata.engine.adoption import get_holder
from strata.engine.core import Engine, Record
from strata.errors import AlreadyExists, InUse, NotFound, StrataError
from strata.linux import locks
from strata.storage import description, layout
from strata.storage.description import StoreConfig
from strata.storage.driver import DatasetNotFound, HasDependants
from strata.storage.outside import PlaceMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.driver import Dataset, Driver

OWN = "store"


def _lock(e: Engine) -> locks.Lock:
    return locks.lock(f"{e.paths.locks}/4-pools", timeout=60, what="the list of pools")


def add(e: Engine, name: str, text: str) -> Record:
    """Configure a pool: make a place for volumes in what the user names; its row of `list_pools`.

    `AlreadyExists` when the name or the place is taken. What a killed one made is taken over.
    """
    names.check_name(name, "pool")
    with e.begin("pool-add") as operation, _lock(e):
        known = description.load(e.config.root).pools
        if name in known or name == OWN:
            raise AlreadyExists(f"there is a pool {name!r} already", hint="`strata pool ls`")
        place = e.driver.outside.make_place(text, get_holder(e))
        for other, taken in known.items():
            if taken == place:
                raise AlreadyExists(f"{show_place(e, place)} is the pool {other!r} already",
                                    hint="`strata pool ls`")  # fmt: skip
        operation.plan(["drop-pool", place])
        trace.point("pool-add:made")
        _save(e, {**known, name: place})
        trace.point("pool-add:saved")
        operation.replace()
    return next(row for row in list_pools(e) if row["Name"] == name)


def _save(e: Engine, known: dict[str, str]) -> None:
    config = description.load(e.config.root)
    config.pools = e.config.pools = known
    description.save(config)


def drop(e: Engine, place: str) -> None:
    """Remove a place that no configured pool has. Idempotent."""
    with _lock(e):
        if place in description.load(e.config.root).pools.values():
            return
        if e.driver.outside.find_place_holder(place) == get_holder(e):
            try:
                e.driver.outside.remove_place(place)
            except HasDependants:
                return  # something is in it: it is not ours to decide about


def get(e: Engine, name: str) -> str:
    """The place of a pool, "" for the store's own; `NotFound`. `PlaceMissing` when it is away."""
    if name == OWN:
        return ""
    place = e.config.pools.get(name)
    if place is None:
        known = ", ".join([OWN, *e.config.pools])
        raise NotFound(f"there is no pool {name!r}", hint=f"there are: {known}")
    check(e, place)
    return place


def check(e: Engine, place: str) -> None:
    """Raise `PlaceMissing` unless a place is there and ours."""
    e.driver.outside.check_place(f"{place}/_")
    if e.driver.outside.find_place_holder(place) != get_holder(e):
        raise PlaceMissing(f"{show_place(e, place)} is not there any more",
                           hint="it was renamed or destroyed outside Strata")  # fmt: skip


def find_name(e: Engine, dataset: str) -> str:
    """The name of the pool a dataset lies in, "" for one outside of all."""
    if not layout.is_outside(dataset):
        return OWN
    parent = dataset.rpartition("/")[0]
    return next((name for name, place in e.config.pools.items() if place == parent), "")


def show_place(e: Engine, place: str) -> str:
    """A place as its owner calls it."""
    return e.driver.outside.show(place)


def list_pools(e: Engine) -> list[Record]:
    """``Name``, ``Place``, ``Size`` and ``Free`` in bytes, ``Volumes``, ``Error`` when it is away.

    The store's own pool comes first.
    """
    counts: dict[str, int] = {}
    for record in e.records.list_records("volume"):
        name = find_name(e, record["dataset"])
        counts[name] = counts.get(name, 0) + 1
    rows = []
    for name, place in ((OWN, ""), *sorted(e.config.pools.items())):
        shown = show_place(e, place) if place else e.config.file or e.config.dataset
        row: Record = {"Name": name, "Place": shown, "Size": None, "Free": None,
                       "Volumes": counts.get(name, 0), "Error": ""}  # fmt: skip
        try:
            if place:
                check(e, place)
            space = e.driver.get_pool_space(place)
            row.update(Size=space.size, Free=space.free)
        except (PlaceMissing, DatasetNotFound) as error:
            row["Error"] = error.message
        rows.append(row)
    return rows


def list_datasets(e: Engine) -> list[Dataset]:
    """The datasets in all pools that are there."""
    found = []
    for place in e.config.pools.values():
        try:
            check(e, place)
            found += [d for d in e.driver.list_datasets(place) if d.identity.get("kind") != "view"]
        except (PlaceMissing, DatasetNotFound):
            continue
    return found


def remove(e: Engine, name: str, *, force: bool = False) -> None:
    """Forget a pool and remove its place, which no volume and nothing in the trash may use.

    `InUse` names them. ``force``: forget a pool that is not there, with what the trash has in it.
    """
    if name == OWN:
        raise InUse("the store lies in this pool", hint="`strata system reset` removes the store")
    with e.begin("pool-rm") as operation, _lock(e):
        known = description.load(e.config.root).pools
        place = known.get(name)
        if place is None:
            raise NotFound(f"there is no pool {name!r}", hint="`strata pool ls` lists them")
        away: PlaceMissing | None = None
        try:
            check(e, place)
        except PlaceMissing as error:
            away = error
        if away is not None and not force:
            raise InUse(f"the pool {name} is not there: {away.message}",
                        hint="bring it back, or forget it with --force")  # fmt: skip
        _check_unused(e, name, place, trash=away is None)
        if away is None:
            left = [d.name for d in e.driver.list_datasets(place)]
            if left:
                shown = ", ".join(e.driver.outside.show(dataset) for dataset in left[:5])
                raise InUse(f"the pool {name} holds what no volume has: {shown}",
                            hint="`strata system check` tells of it")  # fmt: skip
            operation.plan(["drop-pool", place])
        else:
            for entry in list(e.trash.list_entries()):
                if any(d.startswith(f"{place}/") for d in entry["datasets"]):
                    e.trash.delete(entry["id"])
        _save(e, {other: taken for other, taken in known.items() if other != name})
        trace.point("pool-rm:forgotten")
        if away is None:
            e.driver.outside.remove_place(place)
            trace.point("pool-rm:removed")


def _check_unused(e: Engine, name: str, place: str, *, trash: bool) -> None:
    inside = f"{place}/"
    users = [
        f"volume {record['name']}" for record in e.records.list_records("volume")
        if any(known["dataset"].startswith(inside) for known in (record, *record["branches"]))
    ]  # fmt: skip
    if users:
        raise InUse(f"the pool {name} is in use by {', '.join(sorted(users))}",
                    hint="remove or export those volumes first")  # fmt: skip
    removed = [
        f"{entry['object']} {entry['name']}" for entry in e.trash.list_entries()
        if any(dataset.startswith(inside) for dataset in entry["datasets"])
    ]  # fmt: skip
    if removed and trash:
        raise InUse(f"the trash has {', '.join(sorted(removed))} in the pool {name}",
                    hint="`strata trash empty` destroys what was removed")  # fmt: skip


def destroy_all(config: StoreConfig) -> list[str]:
    """Destroy the volumes of a store in its pools, for a reset; the places that could not be."""
    if not config.pools:
        return []
    driver = description.open_driver(config)
    left = []
    for place in config.pools.values():
        try:
            if driver.outside.find_place_holder(place) != f"{config.id} {config.root}":
                raise PlaceMissing(f"{place} is not there")
            waiting = [d.name for d in driver.list_datasets(place) if layout.is_made(d.name)]
            while waiting:
                again = [name for name in waiting if not _destroy(driver, name)]
                if len(again) == len(waiting):
                    break
                waiting = again
            driver.outside.remove_place(place)
        except StrataError:
            left.append(driver.outside.show(place))
    return left


def _destroy(driver: Driver, name: str) -> bool:
    try:
        driver.close(name)
        driver.destroy_recursive(name)
    except HasDependants:
        return False
    return True
