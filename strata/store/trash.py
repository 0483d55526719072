"""The trash: objects removed by their users, kept until a deadline.

An entry is a record of its own under ``records/trash``. It holds the removed object's record and
the datasets that belong to it, so the removal can be undone. The name of a removed object is free
at once. ``due`` is when collection may destroy it: zero means as soon as nothing needs it (``--rm``
containers, build leftovers, layers), otherwise a time on the wall clock. Secrets are never kept.
"""

from __future__ import annotations

import os
import time

from strata.errors import RecordError
from strata.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from strata.store.files import Record

HOUR = 3600.0
#: how long a removed object can be brought back, by kind, in seconds
RETENTION = {"container": 24 * HOUR, "image": 24 * HOUR, "volume": 7 * 24 * HOUR}


def make_entry(
    kind: str, record: Record, datasets: list[str], *, verb: str, keep: bool
) -> Record:  # fmt: skip
    """A new entry for ``record`` and its ``datasets``; pure but for the clock."""
    now = time.time()
    return {
        "schema": 1,
        "kind": "trash",
        "id": record["id"],
        "object": kind,
        "name": record.get("name", ""),
        "datasets": datasets,
        "record": record,
        "verb": verb,
        "deleted": now,
        "due": now + RETENTION[kind] if keep else 0,
    }


class Trash:
    """The entries below ``records/trash``."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, object_id: str) -> str:
        """The file of an entry."""
        return f"{self.folder}/{object_id}.json"

    def save(self, entry: Record) -> None:
        """Write an entry. From here on the object counts as removed."""
        files.write_json(self.path(entry["id"]), entry, durable=bool(entry["due"]))

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

    def list_entries(self) -> Iterator[Record]:
        """All readable entries."""
        for name in os.listdir(self.folder):
            if not files.is_record(name):
                continue
            try:
                entry = files.read_json(f"{self.folder}/{name}")
            except (FileNotFoundError, RecordError):
                continue
            if isinstance(entry.get("datasets"), list) and isinstance(entry.get("record"), dict):
                yield entry
