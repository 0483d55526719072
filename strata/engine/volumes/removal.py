"""Removing volumes, one by one and those that nobody uses."""

from __future__ import annotations

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.holders import list_users
from strata.engine.volumes.listing import count_uses, read_filters
from strata.errors import InUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from strata.engine.filters import Filters


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
    used = count_uses(e, without)
    passes = read_filters(e, filters, used)
    return [
        record for record in e.records.list_records("volume")
        if record["id"] not in used and (record["anonymous"] or all)
        and not record.get("adopted") and passes(record)
    ]  # fmt: skip
