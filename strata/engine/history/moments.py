"""Snapshots of several volumes and containers, of one moment.

Where the pool can take several snapshots in one transaction (``atomic_set``), it does. Elsewhere,
as soon as there is more than one dataset, the containers that use them are held still meanwhile,
and that is said. What runs in the containers is asked for a consistent state before
(`strata.engine.history.quiescing`).
"""

from __future__ import annotations

from strata import trace
from strata.engine.core import Engine, Record
from strata.engine.history import snapshots, targets
from strata.engine.holders import list_live_users
from strata.errors import UsageError
from strata.storage import layout
from strata.storage.driver import DatasetNotFound
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strata.engine.history.quiescing import Quiesced
    from strata.linux.locks import Lock


def take(
    e: Engine, specs: Sequence[str], *, with_volumes: bool = False, quiesce: str = "",
    report: Callable[[str], None] = lambda text: None,
) -> list[str]:  # fmt: skip
    """Snapshot each ``TARGET@NAME``, all of one moment; return what was taken.

    ``with_volumes``: the named volumes of containers too, under the same name. ``quiesce``: a mode
    for all containers instead of their own. ``report`` is told how each is quiesced, before.
    """
    wanted = [targets.split(spec) for spec in specs]
    chosen = {(record["kind"], record["id"]): (record, name) for record, name in (
        (targets.get_target(e, target), name) for target, name in wanted
    )}  # fmt: skip
    if len(chosen) < len(wanted):
        raise UsageError("a target is named twice", hint="each takes one snapshot of the moment")
    if with_volumes:
        for record, name in list(chosen.values()):
            for volume in list_volumes(e, record):
                chosen.setdefault(("volume", volume["id"]), (volume, name))
    with e.begin("snapshot") as operation, _Held() as held:
        users = _lock_all(e, held, [record for record, _ in chosen.values()])
        moment: list[tuple[Record, str]] = []
        for record, name in chosen.values():
            record = e.records.get(record["kind"], record["id"])
            snapshots.check_free(e, record, name)
            moment.append((record, name))
        operation.plan(
            *(["settle-snapshot", record["kind"], record["id"], name] for record, name in moment)
        )
        names = [f"{record['dataset']}@{name}" for record, name in moment]
        with hold_still(e, users, names, quiesce=quiesce, report=report) as quiesced:
            snapshots.freeze(e, operation, moment)
            try:
                quiesced.check()
            except BaseException:
                _destroy(e, names)
                raise
        trace.point("snapshot:taken")
        for record, name in moment:
            snapshots.own(record, name)
            targets.save(e, record)
    for record, name in moment:
        targets.emit(e, "create", record, name)
    return [f"{record['name']}@{name}" for record, name in moment]


class _Held:
    """Locks that are given back together. An `ExitStack` would cost each snapshot two imports."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: list[Lock] = []

    def take(self, lock: Lock) -> None:
        self._locks.append(lock)

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        while self._locks:
            self._locks.pop().release()


class _Nobody:
    """In place of `Quiesced` where nothing runs that would have to be consistent."""

    __slots__ = ()

    def check(self) -> None:
        """Nothing can have changed."""

    def __enter__(self) -> _Nobody:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def hold_still(
    e: Engine, users: Sequence[Record], datasets: Sequence[str], *, quiesce: str = "",
    report: Callable[[str], None] = lambda text: None,
) -> Quiesced | _Nobody:  # fmt: skip
    """Keep running containers consistent in a ``with`` block, in which the snapshots of
    ``datasets`` are taken.

    The caller has the containers' locks.
    """
    running = [record for record in users if lifecycle.derive(record) == lifecycle.RUNNING]
    if not running and not quiesce:
        return _Nobody()
    from strata.engine.history import quiescing

    if quiesce:
        quiescing.check_mode(quiesce)
    modes = []
    for record in running:
        mode, reason = (quiesce, "") if quiesce else quiescing.choose(record)
        modes.append((record, mode))
        if mode != "none" and reason:
            report(f"{record['name']}: {mode} ({reason})")
    several = len(datasets) > 1 and len(set(_list_pools(e, datasets))) > 1
    alone = len(datasets) < 2 or (e.driver.facts.atomic_set and not several)
    still = bool(running) and not alone and quiesce != "none"
    if still:
        names = ", ".join(record["name"] for record in running)
        why = "this pool takes one snapshot after another"
        if several:
            why = "the snapshots are of different pools, one after another"
        report(f"{names} held still: {why}")
    return quiescing.Quiesced(e, modes, still=still, report=report)


def _list_pools(e: Engine, datasets: Sequence[str]) -> list[str]:
    """The pools of datasets, where some of them lie outside the store."""
    if not any(map(layout.is_outside, datasets)):
        return []
    found = []
    for name in datasets:
        try:
            found.append(e.driver.outside.get_pool(name))
        except DatasetNotFound:
            found.append(name)  # moved by hand, perhaps to another pool
    return found


def list_volumes(e: Engine, record: Record) -> list[Record]:
    """The named volumes a container mounts."""
    found = []
    for item in record["config"].get("mounts", ()) if record["kind"] == "container" else ():
        volume = e.records.find("volume", item.get("volume") or "0")
        if volume is not None:
            found.append(volume)
    return found


def _lock_all(e: Engine, held: _Held, records: Sequence[Record]) -> list[Record]:
    """Lock the targets and the running containers that use them, in the order of locks; return
    those containers."""
    containers = {record["id"]: record for record in records if record["kind"] == "container"}
    for record in records:
        for user in list_live_users(e, record):
            containers.setdefault(user["id"], user)
    volumes = {record["id"]: record for record in records if record["kind"] == "volume"}
    for group in (containers, volumes):
        for object_id in sorted(group):
            held.take(e.lock_object(group[object_id]))
    return [e.records.get("container", object_id) for object_id in sorted(containers)]


def _destroy(e: Engine, names: Sequence[str]) -> None:
    for name in names:
        try:
            e.driver.destroy(name)
        except DatasetNotFound:
            continue
