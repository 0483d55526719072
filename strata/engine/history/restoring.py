"""Bringing back what was removed: ``undo`` of a whole operation, ``trash restore`` of one object.

An object comes back with everything its trash entry holds: record, datasets, branches, snapshots;
an image with those of its names that nobody took. When its own name is taken it comes back as
``NAME-restored``, or as the caller says. Networks are brought back by
`strata.engine.networks.restoring`.

The steps of one object: name, datasets out of the trash, the new record into the entry, and then
the point of no return. A killed restore is taken back before that and finished after it; an entry
that holds a record under ``restoring`` is not emptied. Several objects of an operation come back
one after the other; what a killed ``undo`` did not come to is still in the trash.
"""

from __future__ import annotations

from strata import trace
from strata.engine import adoption, events, names
from strata.engine.core import Engine, Record
from strata.engine.history import branches, snapshot_removal, targets
from strata.errors import AlreadyExists, NotFound, StrataError, UsageError
from strata.storage import layout
from strata.storage.driver import DatasetExists
from strata.store import lifecycle, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.storage.driver import Dataset
    from strata.store.journal import Operation

#: what comes back first is what others need
_ORDER = ("image", "name", "network", "volume", "container", "branch", "snapshot")


def get_operation(entry: Record) -> str:
    """The operation an entry belongs to; entries of older versions are one each."""
    return str(entry.get("operation") or entry["id"][:12])


def list_operations(e: Engine) -> list[Record]:
    """Operations that can be undone, the newest first, with what each would bring back."""
    found: dict[str, Record] = {}
    for entry in e.trash.list_entries():
        if not entry["due"]:
            continue
        row = found.setdefault(get_operation(entry), {
            "Operation": get_operation(entry), "Command": " ".join(entry.get("words") or ()),
            "Verb": entry["verb"], "Uid": entry.get("uid"), "Removed": entry["deleted"],
            "Objects": [], "Entries": [],
        })  # fmt: skip
        row["Entries"].append(entry)
    rows = sorted(found.values(), key=lambda row: max(map(trash.when, row["Entries"])),
                  reverse=True)  # fmt: skip
    for row in rows:
        entries = row.pop("Entries")
        row["Removed"] = max(entry["deleted"] for entry in entries)
        entries.sort(key=lambda entry: (_ORDER.index(entry["object"]), trash.when(entry)))
        row["Objects"] = [{"Kind": entry["object"], "Name": show_name(entry), "Id": entry["id"]}
                          for entry in entries]  # fmt: skip
    return rows


def show_name(entry: Record) -> str:
    """What a removed object is called; an image by its names, a nameless one by its id."""
    return str(entry["name"] or ", ".join(entry["record"].get("names") or ()) or entry["id"][:12])


def choose_operation(e: Engine, text: str | None) -> Record:
    """The operation a user means by id or its beginning, the newest when none is named."""
    rows = list_operations(e)
    if text is not None:
        found = [row for row in rows if row["Operation"].startswith(text)]
        if len(found) > 1 or not text:
            raise NotFound(f"more than one operation begins with {text!r}",
                           hint="give more digits: `strata trash ls`")  # fmt: skip
        rows = found
    if not rows:
        raise NotFound(
            f"no operation {text!r} can be undone" if text else "there is nothing to undo",
            hint="`strata trash ls` lists what can come back",
        )
    return rows[0]


def undo(e: Engine, operation: Record) -> Record:
    """Bring back what an operation removed; ``Restored`` rows, and ``Failed`` with the reasons.

    One object that cannot come back keeps no other from it.
    """
    e.recover()
    restored, failed = [], []
    for row in operation["Objects"]:
        try:
            done = restore(e, row["Id"])
        except StrataError as error:
            failed.append({**row, "Error": error.message, "Hint": error.hint})
            continue
        restored.append(done)
    return {**operation, "Restored": restored, "Failed": failed}


def restore(
    e: Engine, entry_id: str, *, name: str | None = None, renumber: bool = False
) -> Record:  # fmt: skip
    """Bring back one object from the trash, under ``name`` when given.

    Returns ``Kind``, ``Name``, ``Was`` and what is worth saying in ``Notes``. An entry whose
    datasets were destroyed by hand is forgotten, with `NotFound`. ``renumber``: a network gets
    other subnets and another bridge where its own are taken.
    """
    entry = e.trash.find(entry_id)
    if entry is None:
        raise NotFound(f"{entry_id[:12]} is not in the trash any more", hint="`strata trash ls`")
    kind = entry["object"]
    if kind == "network":
        from strata.engine.networks import restoring as networks

        return networks.bring_back(e, entry_id, name, renumber=renumber)
    if renumber:
        raise UsageError(f"--renumber is for networks, and {show_name(entry)} is a {kind}",
                         hint="leave it out")  # fmt: skip
    if kind == "snapshot":
        return snapshot_removal.bring_back(e, entry, name)
    if kind == "branch":
        return branches.bring_back(e, entry, name)
    if kind in ("image", "name"):
        from strata.engine.images import restoring as images

        return images.bring_back(e, entry, name)
    return _restore_object(e, entry, name)


def _restore_object(e: Engine, entry: Record, name: str | None) -> Record:
    kind, object_id = entry["object"], entry["id"]
    if name is not None:
        names.check_name(name, kind)
    with e.lock_object(entry["record"]):
        found = e.trash.find(object_id)
        if found is None:
            raise NotFound(f"{entry['name']} is not in the trash any more")
        entry = found
        places = find_places(e, entry)
        record, notes = _make_record(e, entry, places)
        notes += put_back(e, entry, record, name, places)
    events.emit(e, kind, "restore", id=object_id, name=record["name"])
    if kind == "container":
        notes += _adapt_mounts(e, record)
        notes += _adapt_networks(e, record)
    return {"Kind": kind, "Name": record["name"], "Was": entry["name"], "Notes": notes}


def put_back(
    e: Engine, entry: Record, record: Record, name: str | None, places: dict[str, Dataset]
) -> list[str]:  # fmt: skip
    """Let an object be there again as ``record``, under ``name`` when given; notes on its name.

    ``places`` are its datasets, by GUID. The caller has the lock.
    """
    kind, object_id = entry["object"], entry["id"]
    with e.journal.begin("restore", ["unrestore", kind, object_id]) as operation:
        record["name"] = _claim_name(e, operation, record, name)
        trace.point("restore:named")
        if places:
            move_out(e, entry, record, places)
        entry["restoring"] = record
        e.trash.save(entry)
        trace.point("restore:ready")
        operation.replace(["settle-restore", object_id])
        finish(e, object_id)
    return note_name(entry["name"], record["name"], asked=name is not None)


def note_name(old: str, new: str, *, asked: bool) -> list[str]:
    """What is said when something comes back under another name than its own."""
    if new == old:
        return []
    return [f"it was called {old}" if asked else f"{old} is taken: it is called {new} now"]


def find_places(e: Engine, entry: Record) -> dict[str, Dataset]:
    """Where the datasets of an entry lie now, by GUID."""
    places: dict[str, Dataset] = {}
    names = [*entry["datasets"]]
    if entry["object"] == "volume" and layout.is_outside(entry["record"]["dataset"]):
        adoption.check_restorable(e, entry["record"])
        names += targets.list_lineage(entry["record"])
    elif entry["object"] == "branch":
        e.driver.outside.check_place(entry["record"]["dataset"])
    for name in dict.fromkeys(names):
        found = e.driver.find(name)
        if found is not None:
            places[found.guid] = found
    return places


def _make_record(
    e: Engine, entry: Record, places: dict[str, Dataset]
) -> tuple[Record, list[str]]:  # fmt: skip
    """The record to bring back, of the datasets that are there, and notes on what is not."""
    record: Record = {**entry["record"]}
    kind, notes = entry["object"], []
    if record["guid"] not in places:
        # It may have been renamed by hand: its GUID tells.
        for dataset in (*e.driver.list_datasets("trash"), *e.driver.list_datasets(
                record["dataset"].rpartition("/")[0])):  # fmt: skip
            places.setdefault(dataset.guid, dataset)
    if record["guid"] not in places:
        e.trash.delete(entry["id"])
        raise NotFound(
            f"{kind} {entry['name']} cannot come back: its dataset was destroyed outside Strata"
        )
    kept = [branch for branch in record["branches"] if branch["guid"] in places]
    if len(kept) < len(record["branches"]):
        gone = len(record["branches"]) - len(kept)
        notes.append(f"{gone} of its branches {'was' if gone == 1 else 'were'} destroyed outside")
    record["branches"] = [dict(branch) for branch in kept]
    if kind == "container" and record["state"]["status"] in lifecycle.LIVE:
        record["state"] = {**record["state"], "status": lifecycle.EXITED, "pid": 0, "pid_start": 0}
    return record, notes


def _claim_name(e: Engine, operation: Operation, record: Record, name: str | None) -> str:
    """Take the name an object comes back under: ``name``, or the first free one of its own."""
    kind, object_id = record["kind"], record["id"]
    for wanted in [name] if name is not None else targets.list_free_names(record["name"]):
        operation.plan(["unclaim", kind, wanted, object_id])
        try:
            names.take_name(e, kind, wanted, object_id)
        except AlreadyExists:
            if name is not None:
                raise
            continue
        return wanted
    raise AssertionError


def move_out(
    e: Engine, entry: Record, record: Record, places: dict[str, Dataset]
) -> None:  # fmt: skip
    """Rename datasets out of the trash; ``record`` and its branches get the names they have now."""
    for known in (record, *record.get("branches", ())):
        place = places[known["guid"]].name
        if not place.startswith("trash/"):
            known["dataset"] = place
            continue
        wanted = known["dataset"]
        if wanted.startswith("trash/") or e.driver.find(wanted) is not None:
            wanted = layout.successor(wanted)
        entry["datasets"] = [*dict.fromkeys([*entry["datasets"], wanted])]
        e.trash.save(entry)
        trace.point("restore:announced")
        try:
            e.driver.rename(place, wanted)
        except DatasetExists:
            wanted = layout.successor(wanted)
            entry["datasets"] = [*entry["datasets"], wanted]
            e.trash.save(entry)
            e.driver.rename(place, wanted)
        trace.point("restore:renamed")
        known["dataset"] = wanted


def finish(e: Engine, entry_id: str) -> None:
    """Write the record of an object whose restoring was decided, and forget the entry."""
    entry = e.trash.find(entry_id)
    if entry is None or "restoring" not in entry:
        return
    record = entry["restoring"]
    if record["kind"] == "volume" and layout.is_outside(record["dataset"]):
        if record.get("adopted"):
            adoption.mark(e, record)
        adoption.save_copy(e, record)
    if record["kind"] == "network":
        from strata.engine.networks import verbs

        verbs.save(e, record)
    else:
        targets.save(e, record)
    trace.point("restore:recorded")
    e.trash.delete(entry_id)


def take_back(e: Engine, kind: str, entry_id: str) -> None:
    """Put an object back into the trash whose restoring was not decided. Idempotent."""
    entry = e.trash.find(entry_id)
    if entry is None or e.records.find(kind, entry_id) is not None:
        return
    entry.pop("restoring", None)
    entry["datasets"] = [name for name in entry["datasets"]
                         if layout.is_outside(name) or e.driver.find(name) is not None]  # fmt: skip
    e.trash.save(entry)
    e.move_to_trash(entry)


def _adapt_mounts(e: Engine, record: Record) -> list[str]:
    """Let a container that came back follow its volumes' new names; notes on volumes it misses."""
    notes, changed = [], False
    for item in record["config"]["mounts"]:
        if not item.get("volume"):
            continue
        volume = e.records.find("volume", item["volume"])
        if volume is None:
            notes.append(f"its volume {item['source']} is not there")
        elif volume["name"] != item["source"]:
            item["source"] = volume["name"]
            changed = True
    if changed:
        with e.lock_object(record):
            targets.save(e, record)
    return notes


def _adapt_networks(e: Engine, record: Record) -> list[str]:
    """The same for its networks."""
    if not record["config"].get("networks"):
        return []
    from strata.engine.networks import restoring as networks

    with e.hold_if_there(record) as fresh:
        return networks.follow(e, fresh) if fresh is not None else []


def describe(e: Engine, entry_id: str) -> Record:
    """Kind and name of what `restore` would bring back."""
    entry = e.trash.find(entry_id)
    if entry is None:
        raise NotFound(f"{entry_id[:12]} is not in the trash any more", hint="`strata trash ls`")
    return {"Kind": entry["object"], "Name": show_name(entry), "Id": entry["id"]}


def choose_entries(e: Engine, which: Sequence[str]) -> list[str]:
    """Ids of the entries a user means by name, id or its beginning, the newest of a name."""
    entries = [entry for entry in e.trash.list_entries() if entry["due"]]
    entries.sort(key=trash.when, reverse=True)
    chosen = []
    for text in which:
        found = [entry for entry in entries if text in (entry["name"], show_name(entry))
                 or text in (entry["record"].get("names") or ())]  # fmt: skip
        found = found or [entry for entry in entries if text and entry["id"].startswith(text)]
        if not found:
            raise NotFound(f"nothing called {text!r} is in the trash", hint="`strata trash ls`")
        chosen.append(str(found[0]["id"]))
    return chosen
