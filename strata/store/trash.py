"""The trash: objects removed by their users, kept until a deadline.

An entry is a record of its own under ``records/trash``. It holds the removed object's record and
the datasets that belong to it, so the removal can be undone, and its origin: the operation (one
command line is one, however many objects it removes), its words and who gave it. The name of a
removed object is free at once. Secrets are never kept.

``object`` is what was removed: a container, image, volume or network; a ``snapshot`` or ``branch``
of one; or a ``name`` of an image that has others.

``due`` is when collection may destroy it: zero means as soon as nothing needs it (``--rm``
containers, build leftovers, layers), otherwise a time on the trash's own clock (`Trash.now`). That
clock starts as the wall clock and goes on by the time the machine was up, plus at most a day for
the time it was not. So a wall clock that jumps a year ahead makes nothing due, and neither does a
machine that was switched off for a year.
"""

from __future__ import annotations

import os
import time

from strata.errors import NoSpace, RecordError
from strata.linux.process import get_boot_id
from strata.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from strata.store.files import Record

DAY = 24 * 3600.0
#: how long a removed object can be brought back, by kind, in seconds
RETENTION = {
    "container": DAY, "image": DAY, "name": DAY, "snapshot": DAY, "volume": 7 * DAY,
    "branch": 7 * DAY, "network": 7 * DAY,
}  # fmt: skip
#: how much the clock may go on unseen before it is written down again, in seconds
_TICK = 60.0


def make_entry(
    kind: str, record: Record, datasets: list[str], *, verb: str, keep: bool, now: float,
    origin: Record,
) -> Record:  # fmt: skip
    """A new entry for ``record`` and its ``datasets``; pure but for the wall clock.

    ``now`` is the trash's own time, ``origin`` what `Engine.origin` says.
    """
    return {
        "schema": 1,
        "kind": "trash",
        "id": record["id"],
        "object": kind,
        "name": record.get("name", ""),
        "datasets": datasets,
        "record": record,
        "verb": verb,
        "deleted": time.time(),
        "removed": now,
        "due": now + RETENTION[kind] if keep else 0,
        **origin,
    }


def is_sound(entry: Record) -> bool:
    """Whether what was read as an entry has all that is relied on; pure."""
    record, datasets = entry.get("record"), entry.get("datasets")
    return (
        isinstance(entry.get("id"), str)
        and entry.get("object") in RETENTION
        and isinstance(record, dict)
        and record.get("id") == entry["id"]
        and isinstance(datasets, list)
        and all(isinstance(dataset, str) for dataset in datasets)
        and all(isinstance(entry.get(key), (int, float)) for key in ("due", "deleted"))
        and isinstance(entry.get("removed", 0), (int, float))
    )


def when(entry: Record) -> float:
    """When an entry was made, on the trash's own clock, to tell older from newer: the wall clock
    may have gone back since. Entries of older versions know only that one."""
    return float(entry.get("removed") or entry["deleted"])


def advance(clock: Record | None, wall: float, boot: str, uptime: float) -> Record:
    """The trash's clock now, from what was written down of it last; pure."""
    if clock is None:
        time_now = wall
    elif clock["boot"] == boot:
        time_now = clock["time"] + max(0.0, uptime - clock["uptime"])
    else:
        time_now = clock["time"] + min(max(0.0, wall - clock["wall"]), DAY)
    return {"schema": 1, "time": time_now, "wall": wall, "boot": boot, "uptime": uptime}


class Trash:
    """The entries below ``records/trash``."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def now(self) -> float:
        """The time on the trash's clock, in seconds; see the module."""
        return float(self._read_clock()[1]["time"])

    def tick(self) -> None:
        """Write the clock down when it has gone on; a full pool does not matter."""
        old, new = self._read_clock()
        if old is None or old["boot"] != new["boot"] or new["uptime"] - old["uptime"] > _TICK:
            try:
                files.write_json(f"{self.folder}/clock", new, durable=False)
            except NoSpace:
                return

    def _read_clock(self) -> tuple[Record | None, Record]:
        old: Record | None
        try:
            old = files.read_json(f"{self.folder}/clock")
            new = advance(old, *_read_time())
        except (FileNotFoundError, RecordError, KeyError, TypeError):
            old, new = None, advance(None, *_read_time())
        return old, new

    def path(self, object_id: str) -> str:
        """The file of an entry."""
        return f"{self.folder}/{object_id}.json"

    def save(self, entry: Record) -> None:
        """Write an entry. From here on the object counts as removed."""
        path = self.path(entry["id"])
        files.write_json(path, entry, durable=bool(entry["due"]))
        try:
            os.utime(path, (entry["due"], entry["due"]))  # see `list_due`
        except OSError:
            return  # collected already, or the pool is full: then it has to be read

    def find(self, object_id: str) -> Record | None:
        """One entry, None when absent."""
        try:
            return files.read_json(self.path(object_id))
        except FileNotFoundError:
            return None

    def delete(self, object_id: str) -> None:
        """Forget an entry. Idempotent."""
        try:
            os.unlink(self.path(object_id))
        except FileNotFoundError:
            pass

    def list_ids(self) -> list[str]:
        """Ids of all entries, in no order."""
        return [name[:-5] for name in os.listdir(self.folder) if files.is_record(name)]

    def list_entries(self) -> Iterator[Record]:
        """All sound entries; `system check` names the others."""
        return self._read(self.list_ids())

    def list_due(self, now: float) -> list[Record]:
        """The sound entries that are due, without reading most of the others.

        The file of an entry has its deadline for its time. Where it has another, as after a copy,
        the entry is read.
        """
        ids = [object_id for object_id in self.list_ids()
               if not _is_later(self.path(object_id), now)]  # fmt: skip
        return [entry for entry in self._read(ids) if entry["due"] <= now]

    def _read(self, ids: list[str]) -> Iterator[Record]:
        for object_id in ids:
            try:
                entry = files.read_json(self.path(object_id))
            except (FileNotFoundError, RecordError):
                continue
            if is_sound(entry):
                yield entry


def _is_later(path: str, now: float) -> bool:
    """Whether the file of an entry says by its time that the entry is not due."""
    try:
        return os.stat(path).st_mtime > now
    except OSError:
        return False


def _read_time() -> tuple[float, str, float]:
    """Wall clock, boot and time since that boot, suspended or not."""
    return time.time(), get_boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME)
