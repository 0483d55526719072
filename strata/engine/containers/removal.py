"""Removing containers.

Removal takes the record and the name at once, so the name is free when the command ends. The
dataset goes to the trash (or, for ``--rm`` containers, to immediate collection by a detached
process); what a foreign mount namespace holds is destroyed once it lets go.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.system import collect
from strata.errors import InUse, StrataError
from strata.linux.tree import remove_file, remove_path
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def remove(
    e: Engine, which: Sequence[str], *, force: bool = False, volumes: bool = False,
    time: int | None = None, all: bool = False, ignore: bool = False,
) -> list[str]:  # fmt: skip
    """``rm``: remove containers; return the ids. Running ones only with ``force``."""
    wanted = [r["id"] for r in e.records.list_records("container")] if all else list(which)
    gone = []
    for record in names.get_each(
        e, names.get_container, wanted, ignore=ignore or force, exit_code=1
    ):
        remove_record(e, record, force=force, volumes=volumes, verb="rm", time=time)
        gone.append(record["id"])
    if gone:
        collect.collect_detached(e)
    return gone


def remove_record(
    e: Engine, record: Record, *, force: bool, volumes: bool, verb: str, time: int | None = None,
    keep: bool = True,
) -> None:  # fmt: skip
    """Remove one container; with ``keep`` it can be brought back from the trash."""
    e.recover()  # before the lock, as it may start this container
    if force:
        from strata.engine.containers.life import overtake

        overtake(e, record, time=time)
    with e.hold_if_there(record) as fresh:
        if fresh is None:
            return
        record = fresh
        status = lifecycle.derive(record)
        if status in lifecycle.LIVE and (force or status == lifecycle.INITIALIZED):
            from strata.engine.containers.life import stop_locked

            stop_locked(e, record, time=time)
            status = lifecycle.EXITED
        lifecycle.check("remove", record, status)
        discard_locked(e, record, verb=verb, keep=keep)
        release(e, record)
    remove_anonymous(e, record, volumes or record["config"]["remove"])


def discard_locked(e: Engine, record: Record, *, verb: str, keep: bool) -> None:
    """Take record and name, hand the datasets to trash or collection.

    The caller has the lock, the container does not run, and `release` follows.
    """
    e.allow_reserve()
    if os.path.isdir(f"{e.paths.runroot}/mounted"):
        from strata.engine.containers import mounting

        mounting.forget(e, record["id"])
    datasets = [record["dataset"], *(branch["dataset"] for branch in record["branches"])]
    if not keep:
        # What somebody took a snapshot of is not thrown away without a way back.
        keep = any(e.driver.list_snapshots(dataset) for dataset in datasets)
    with e.journal.begin(verb, ["settle-removal", record["id"]]):
        entry = e.bury("container", record, datasets, verb=verb, keep=keep)
        trace.point(f"{verb}:trashed")
        e.settle_removal(record["id"])
        trace.point(f"{verb}:forgotten")
        e.move_to_trash(entry)
    events.emit_container(e, "remove", record)


def release(e: Engine, record: Record) -> None:
    """Give back what a removed container held outside its datasets. Idempotent."""
    from strata.engine.containers.life import release_runtime
    from strata.runtime.launch import wait_unheld

    release_runtime(e, record)
    entry = e.trash.find(record["id"])
    if entry is None or not entry["due"]:
        remove_logs(record)
    wait_unheld(e.paths.bundle(record["id"]))
    remove_path(e.paths.bundle(record["id"]))


def remove_logs(record: Record) -> None:
    """Remove a container's log files; they go with the container, or its trash entry."""
    path = record["config"].get("log_path")
    if not path:
        return
    for name in (path, f"{path}.1"):
        remove_file(name)


def remove_image(e: Engine, record: Record) -> None:
    """The image of a container made with ``--rmi`` goes with it, unless something needs it."""
    if not record["config"].get("remove_image"):
        return
    from strata.engine.images import verbs as images

    try:
        images.remove(e, [record["image_name"] or record["image"]], ignore=True)
    except StrataError:
        return


def remove_anonymous(e: Engine, record: Record, wanted: bool) -> None:
    """Anonymous volumes end with their container when asked (``rm -v``, ``run --rm``)."""
    if not wanted:
        return
    for item in record["config"]["mounts"]:
        if not item.get("volume") or not item.get("anonymous"):
            continue
        from strata.engine.volumes import removal as volumes

        volume = e.records.find("volume", item["volume"])
        if volume is None:
            continue
        try:
            volumes.discard(e, volume, verb="volume-rm", keep=not record["config"]["remove"])
        except InUse:
            continue


def prune(e: Engine, filters: Mapping[str, Sequence[str]] | None = None) -> Record:
    """Remove containers that do not run."""
    before = e.driver.get_pool_space().free
    gone = []
    for record in choose_prunable(e, filters):
        remove_record(e, record, force=False, volumes=False, verb="container-prune")
        gone.append(record["id"])
    return collect.report(e, gone, before)


def choose_prunable(
    e: Engine, filters: Mapping[str, Sequence[str]] | None = None
) -> list[Record]:  # fmt: skip
    """The containers that `prune` removes."""
    from strata.engine.containers.listing import make_row, make_row_filter

    passes = make_row_filter(e, filters)
    chosen = []
    for record in e.records.list_records("container"):
        status = lifecycle.derive(record)
        if status not in lifecycle.LIVE and passes({**make_row(record), "State": status}):
            chosen.append(record)
    return chosen
