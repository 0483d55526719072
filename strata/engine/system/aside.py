"""The way back from ``system reset``: the store is set aside, with a deadline.

``<root>/removed/<id>.json`` says where, when, and what the store's configuration was. It is written
before anything moves and removed after everything moved back. When its time has come, the next
collection at this root destroys it; where no store is made there again, nobody does, and
``system reset --now`` is the way. Its time counts on a clock like the trash's own, beside it: that
of a store which is made here later begins with whatever the wall clock says then.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine.core import Record
from strata.errors import AlreadyExists, NotFound, RecordError, StrataError
from strata.linux.tree import remove_file
from strata.storage import aside, description, setup
from strata.storage.description import StoreConfig
from strata.store import files, trash
from strata.store.records import new_id

KEPT = 7 * 24 * 3600.0


def _folder(root: str) -> str:
    return f"{root}/removed"


def list_entries(root: str) -> list[Record]:
    """Stores that were set aside at a root and are still there, the newest first."""
    found = [entry for entry in _read_entries(root)
             if aside.is_there(get_config(root, entry), entry["place"])]  # fmt: skip
    return sorted(found, key=lambda entry: float(entry["removed"]), reverse=True)


def _read_entries(root: str) -> list[Record]:
    try:
        names = os.listdir(_folder(root))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        try:
            if files.is_record(name):
                found.append(files.read_json(f"{_folder(root)}/{name}"))
        except (FileNotFoundError, RecordError):
            continue
    return found


def get_config(root: str, entry: Record) -> StoreConfig:
    """The configuration of a store that was set aside."""
    fields = {key: value for key, value in entry["config"].items() if key != "format"}
    return StoreConfig(root, **fields)


def put(config: StoreConfig) -> Record:
    """Set a store aside; it is gone from its root when this returns. Its entry."""
    entry = next((e for e in list_entries(config.root) if e["config"]["id"] == config.id), None)
    if entry is None:
        suffix = new_id(8)
        _forget_broken_off(config)
        os.makedirs(_folder(config.root), 0o700, exist_ok=True)
        entry = {
            "schema": 1, "id": suffix, "config": config.to_dict(), "removed": time.time(),
            "due": _tell_time(config.root) + KEPT, "place": aside.choose_place(config, suffix),
        }  # fmt: skip
        files.write_json(f"{_folder(config.root)}/{suffix}.json", entry)
    trace.point("reset:announced")
    aside.move(config, entry["place"])
    trace.point("reset:moved")
    with setup.lock_root(config.root):
        remove_file(f"{config.root}/{description.CONFIG}")
    setup.unshare_root(config.root)
    return entry


def bring_back(root: str) -> Record:
    """Put the store that was set aside last back; its entry. `NotFound`, `AlreadyExists`."""
    entries = list_entries(root)
    if not entries:
        raise NotFound(f"no store was removed at {root}", hint="make one with `strata system init`")
    entry = entries[0]
    config = get_config(root, entry)
    path = f"{root}/{description.CONFIG}"
    if os.path.exists(path) and description.load(root).id != config.id:
        raise AlreadyExists(f"there is another store at {root} now",
                            hint="`strata system reset` sets that one aside")  # fmt: skip
    aside.move_back(config, entry["place"])
    trace.point("undo:moved")
    description.save(config)
    trace.point("undo:announced")
    _forget(root, entry)
    return entry


def destroy(root: str, *, due: bool = False) -> list[str]:
    """Destroy stores that were set aside at a root, or those that are due; their places."""
    gone = []
    now = _tell_time(root) if due else 0.0
    for entry in list_entries(root):
        if due and entry["due"] > now:
            continue
        from strata.engine import pools

        try:
            pools.destroy_all(get_config(root, entry))
            aside.destroy(get_config(root, entry), entry["place"])
        except StrataError:
            continue  # in use: the next collection tries again
        _forget(root, entry)
        gone.append(str(entry["place"]))
    return gone


def _forget_broken_off(config: StoreConfig) -> None:
    """Remove what a reset left that was killed before it moved this store."""
    for entry in _read_entries(config.root):
        if entry["config"]["id"] == config.id:
            _forget(config.root, entry)
    if os.path.isdir(_folder(config.root)):
        for path in files.list_leftovers(_folder(config.root)):
            remove_file(path)


def _tell_time(root: str) -> float:
    clock = trash.Trash(_folder(root))
    clock.tick()
    return clock.now()


def _forget(root: str, entry: Record) -> None:
    folder = _folder(root)
    remove_file(f"{folder}/{entry['id']}.json")
    if not any(files.is_record(name) for name in os.listdir(folder)):
        remove_file(f"{folder}/clock")
    try:
        os.rmdir(_folder(root))
    except OSError:
        return
