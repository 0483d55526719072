"""What is in the trash, and destroying it before its time."""

from __future__ import annotations

from strata import trace
from strata.engine.core import Engine, Record
from strata.engine.system import collect
from strata.errors import NotFound
from strata.storage.driver import DatasetNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def list_trash(e: Engine) -> list[Record]:
    """Removed objects that could be brought back, the newest first.

    ``Removed`` and ``Due`` are seconds since the epoch; ``Size`` in bytes, None where the driver
    cannot tell; ``Snapshots`` are those that end with the entry, whoever took them.
    """
    rows = []
    for entry in e.trash.list_entries():
        if not entry["due"]:
            continue
        rows.append(
            {
                "Id": entry["id"],
                "Kind": entry["object"],
                "Name": entry["name"] or ", ".join(entry["record"].get("names", ())),
                "Removed": entry["deleted"],
                "Due": entry["due"],
                "Size": collect.measure_entry(e, entry),
                "Snapshots": _snapshots(e, entry),
            }
        )
    rows.sort(key=lambda row: float(row["Removed"]), reverse=True)
    return rows


def _snapshots(e: Engine, entry: Record) -> list[str]:
    found = []
    for dataset in entry["datasets"]:
        try:
            found += [snapshot.name for snapshot in e.driver.list_snapshots(dataset)]
        except DatasetNotFound:
            continue
    return found


def choose(e: Engine, which: Sequence[str], *, all: bool = False) -> list[Record]:
    """The rows of `list_trash` a user means by name, id or prefix; `NotFound`."""
    rows = list_trash(e)
    if all:
        return rows
    chosen = []
    for text in which:
        found = [row for row in rows if row["Name"] == text or row["Id"].startswith(text)]
        if not found:
            raise NotFound(f"nothing called {text!r} is in the trash", hint="`strata trash ls`")
        chosen += [row for row in found if row not in chosen]
    return chosen


def empty(e: Engine, rows: Sequence[Record]) -> Record:
    """Destroy entries for good; what a clone still needs goes when the clone does."""
    before = e.driver.get_pool_space().free
    for row in rows:
        entry = e.trash.find(row["Id"])
        if entry is not None:
            e.trash.save({**entry, "due": 0})
            trace.point("trash:due")
    return collect.report(e, [row["Id"] for row in rows], before)
