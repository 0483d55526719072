"""All there is in a store, read at one moment, for verbs that compare everything.

Reading is not atomic: other commands go on meanwhile. `World.busy` holds every dataset, id and
name that an unfinished operation's journal mentions, so that what is only half done because
somebody is at it is not taken for damage.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.engine.system import collect, restore
from strata.errors import RecordError
from strata.storage import layout
from strata.storage.driver import Dataset
from strata.storage.outside import PlaceMissing
from strata.store import files
from strata.store.records import KINDS, NAME_KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Problem:
    """Something that is not as it should be. ``fix`` repairs it without loss, or is None."""

    __slots__ = ("fix", "id", "object", "text")

    def __init__(
        self, id: str, object: str, text: str, fix: Callable[[], object] | None = None
    ) -> None:
        self.id = id
        self.object = object
        self.text = text
        self.fix = fix

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same problem when it is met again."""
        return self.id, self.object


class World:
    """Records, names, datasets, trash and running operations of a store."""

    __slots__ = (
        "away", "busy", "by_guid", "claimed", "damaged", "datasets", "names", "needed", "records",
        "trash", "trash_damaged",
    )  # fmt: skip

    def __init__(self, e: Engine) -> None:
        self.busy: set[str] = set()
        for entry, _ in e.journal.list_entries():
            self.busy.update(word for step in entry.get("undo", ()) for word in step[1:])
            self.busy.update(entry.get("keep", ()))
        #: kind -> id -> record
        self.records: dict[str, dict[str, Record]] = {}
        #: (kind, id, what is wrong)
        self.damaged: list[tuple[str, str, RecordError]] = []
        for kind in KINDS:
            self.records[kind] = {}
            for object_id in e.records.list_ids(kind):
                self._read_record(e, kind, object_id)
        self.names = {kind: e.records.list_names(kind) for kind in NAME_KINDS}
        #: kind (and "trash") -> name -> dataset
        self.datasets: dict[str, dict[str, Dataset]] = {
            kind: {dataset.name: dataset for dataset in restore.list_found(e, kind)}
            for kind in restore.PARENTS
        }
        self.datasets["trash"] = {d.name: d for d in e.driver.list_datasets("trash")}
        self.by_guid = {d.guid: d for found in self.datasets.values() for d in found.values()}
        #: entries of the trash, and files there that are none
        self.trash: list[Record] = []
        self.trash_damaged: list[str] = []
        self._read_trash(e)
        #: dataset -> ids of the records and entries that name it
        self.claimed: dict[str, list[str]] = {}
        for found in self.records.values():
            for record in found.values():
                for dataset in list_datasets_of(record):
                    self.claimed.setdefault(dataset, []).append(record["id"])
        for entry in self.trash:
            for dataset in entry["datasets"]:
                self.claimed.setdefault(dataset, []).append(entry["id"])
        #: datasets outside whose pool is not there -> the sentence that says so
        self.away: dict[str, PlaceMissing] = {}
        for name in self.claimed:
            if layout.is_outside(name) and name not in self.datasets["volume"]:
                self._read_outside(e, name)
        self.needed = collect.find_needed_layers(e)

    def _read_record(self, e: Engine, kind: str, object_id: str) -> None:
        try:
            record = e.records.find(kind, object_id)
        except RecordError as error:
            self.damaged.append((kind, object_id, error))
            return
        if record is None:
            return
        if record["id"] == object_id and _is_sound(record):
            self.records[kind][object_id] = record
        else:
            text = f"the record {e.records.path(kind, object_id)} is not that of a {kind}"
            self.damaged.append((kind, object_id, RecordError(text)))

    def _read_outside(self, e: Engine, name: str) -> None:
        found = e.driver.find(name)
        if found is not None:
            self.datasets["volume"][name] = self.by_guid[found.guid] = found
            return
        try:
            e.driver.outside.check_place(name)
        except PlaceMissing as error:
            self.away[name] = error

    def _read_trash(self, e: Engine) -> None:
        known = set()
        for entry in e.trash.list_entries():
            self.trash.append(entry)
            known.add(f"{entry['id']}.json")
        self.trash_damaged = [
            name for name in sorted(os.listdir(e.trash.folder))
            if files.is_record(name) and name not in known
        ]  # fmt: skip

    def is_busy(self, *words: str) -> bool:
        """Whether an unfinished operation is about one of these datasets, ids or names."""
        return any(word in self.busy for word in words)

    def find_dataset(self, name: str) -> Dataset | None:
        """A dataset by name, wherever it lies."""
        for found in self.datasets.values():
            if name in found:
                return found[name]
        return None

    def is_damaged(self, kind: str, object_id: str) -> bool:
        """Whether the record of that id is there but cannot be read."""
        return any(entry[:2] == (kind, object_id) for entry in self.damaged)

    def count(self) -> int:
        """How many objects were looked at."""
        return (
            sum(len(found) for found in self.records.values())
            + sum(len(found) for found in self.names.values())
            + sum(len(found) for found in self.datasets.values())
            + len(self.damaged) + len(self.trash) + len(self.trash_damaged)
        )  # fmt: skip


def list_datasets_of(record: Record) -> list[str]:
    """The datasets a record names: its own and those of its branches."""
    found = [record.get("dataset") or ""]
    found += [branch["dataset"] for branch in record.get("branches") or ()]
    return [dataset for dataset in found if dataset]


def _is_sound(record: Record) -> bool:
    """Whether a record that passed the shape check has what comparing relies on."""
    if record["kind"] == "image":
        return isinstance(record.get("names"), list) and all(
            isinstance(layer, str) for layer in record["layers"]
        )
    if record["kind"] == "network":
        from strata.network.model import is_sound

        return is_sound(record)
    if record["kind"] == "layer":
        return isinstance(record.get("dataset"), str)
    branches = record.get("branches")
    return isinstance(branches, list) and all(
        isinstance(branch, dict) and isinstance(branch.get("dataset"), str) for branch in branches
    )
