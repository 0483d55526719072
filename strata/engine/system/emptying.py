"""What is in the trash, and destroying it before its time."""

from __future__ import annotations

import time

from strata import trace
from strata.engine.core import Engine, Record
from strata.engine.history import restoring, targets
from strata.engine.system import collect
from strata.errors import NotFound
from strata.storage.driver import DatasetNotFound
from strata.store import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def list_trash(e: Engine) -> list[Record]:
    """Removed objects that could be brought back, the newest first.

    ``Removed`` and ``Due`` are seconds since the epoch; ``Size`` in bytes, None where the driver
    cannot tell; ``Snapshots`` are those that end with the entry, whoever took them; ``Operation``,
    ``Command`` and ``Uid`` say what removed it.
    """
    now = e.trash.now()
    rows = []
    for entry in e.trash.list_entries():
        if not entry["due"]:
            continue
        rows.append(
            {
                "Id": entry["id"],
                "Kind": entry["object"],
                "Name": restoring.show_name(entry),
                "Removed": entry["deleted"],
                "Due": time.time() + entry["due"] - now,
                "Age": now - trash.when(entry),
                "Size": collect.measure_entry(e, entry),
                "Snapshots": _snapshots(e, entry),
                "Operation": restoring.get_operation(entry),
                "Command": " ".join(entry.get("words") or ()),
                "Uid": entry.get("uid"),
            }
        )
    rows.sort(key=lambda row: float(row["Age"]))
    return rows


def _snapshots(e: Engine, entry: Record) -> list[str]:
    found = []
    for dataset in entry["datasets"]:
        try:
            found += [
                snapshot.name for snapshot in e.driver.list_snapshots(dataset)
                if not snapshot.name.startswith(targets.REMOVED_PREFIX)
            ]  # fmt: skip
        except DatasetNotFound:
            continue
    return found


def show(e: Engine, which: Sequence[str]) -> list[Record]:
    """Rows of `list_trash` with what the trash holds of each: ``Datasets`` and the ``Record``."""
    rows = choose(e, which)
    for row in rows:
        entry = e.trash.find(row["Id"]) or {}
        row["Datasets"] = entry.get("datasets", [])
        row["Record"] = entry.get("record", {})
    return rows


def choose(
    e: Engine, which: Sequence[str], *, all: bool = False, older_than: float | None = None
) -> list[Record]:  # fmt: skip
    """The rows of `list_trash` a user means by name, id or its beginning, or operation; or by age
    in seconds. `NotFound` for a text that means none."""
    rows = list_trash(e)
    if all:
        return rows
    if older_than is not None:
        return [row for row in rows if row["Age"] > older_than]
    chosen = []
    for text in which:
        found = [row for row in rows if text in (row["Name"], row["Operation"])
                 or row["Id"].startswith(text)]  # fmt: skip
        if not found or not text:
            raise NotFound(f"nothing called {text!r} is in the trash", hint="`strata trash ls`")
        chosen += [row for row in found if row not in chosen]
    return chosen


def limit(e: Engine, rows: Sequence[Record], free: int) -> list[Record]:
    """Of ``rows`` the first ones that together make ``free`` bytes free, by what they measure.

    Where sizes are not known all of them; `empty` stops by itself.
    """
    wanted = free - e.driver.get_pool_space().free
    chosen = []
    for row in rows:
        if wanted <= 0:
            break
        chosen.append(row)
        wanted -= row["Size"] or 0
    return chosen


def empty(e: Engine, rows: Sequence[Record], *, until: int | None = None) -> Record:
    """Destroy entries for good; what a clone still needs goes when the clone does.

    ``until``: one after the other, and no more once that many bytes are free.
    """
    before = e.driver.get_pool_space().free
    gone = []
    for row in rows:
        entry = e.trash.find(row["Id"])
        if entry is not None and "restoring" not in entry:
            e.trash.save({**entry, "due": 0})
            trace.point("trash:due")
        gone.append(row["Name"] if until is not None else row["Id"])
        if until is not None and entry is not None:
            collect.collect(e)
            if collect.wait_room(e, lambda: e.driver.get_pool_space().free >= (until or 0)):
                break
    return collect.report(e, gone, before)
