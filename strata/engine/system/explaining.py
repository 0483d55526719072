"""What holds space and what would give it back: ``system df --explain``.

Sizes of clones and snapshots do not add up to what a pool holds, so each object is told in parts:
``Unique`` bytes are its own alone, ``Shared`` ones belong to what it was cloned from too,
``Held`` ones only its snapshots hold, ``Trash`` ones end with its trash entry. What would free so
many bytes is asked of the pool by dry runs where it can tell (OpenZFS), else by what the parts
say. A driver that cannot tell (btrfs without quota groups) leaves them None.
"""

from __future__ import annotations

from strata.engine.core import Engine, Record
from strata.engine.history import restoring, targets
from strata.engine.images import verbs as images
from strata.storage.driver import DatasetNotFound
from strata.store import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PARTS = ("usedbydataset", "usedbysnapshots", "referenced", "compressratio", "used")


def explain(e: Engine) -> list[Record]:
    """Rows of all containers, volumes, layers of images and trash entries, the largest first.

    ``Unique``, ``Shared``, ``Held``, ``Trash`` in bytes, ``Ratio`` of compression; None where the
    driver cannot tell.
    """
    rows = []
    for kind in targets.KINDS:
        for record in e.records.list_records(kind):
            rows.append(_row(e, kind, record["name"], targets.list_lineage(record)))
    for image in e.records.list_records("image"):
        layers = [e.records.find("layer", layer_id) for layer_id in image["layers"]]
        datasets = [layer["dataset"] for layer in layers if layer and layer["dataset"]]
        rows.append(_row(e, "image", ", ".join(image["names"]) or image["id"][:12], datasets))
    for entry in e.trash.list_entries():
        row = _row(e, entry["object"], restoring.show_name(entry), entry["datasets"])
        known = [part for part in (row["Unique"], row["Held"]) if part is not None]
        row.update(Trash=sum(known) if known else None, Unique=0, Held=0)
        rows.append(row)
    return sorted(rows, key=_total, reverse=True)


def _total(row: Record) -> int:
    return sum(row[part] or 0 for part in ("Unique", "Held", "Trash"))


def _row(e: Engine, kind: str, name: str, datasets: Iterable[str]) -> Record:
    row: Record = {"Kind": kind, "Name": name, "Unique": None, "Shared": None, "Held": None,
                   "Trash": 0, "Ratio": None}  # fmt: skip
    for dataset in datasets:
        try:
            parts = e.driver.get_properties(dataset, _PARTS)
        except DatasetNotFound:
            continue
        own, held = _number(parts, "usedbydataset"), _number(parts, "usedbysnapshots")
        if own is None:
            own = _number(parts, "used")
        referenced = _number(parts, "referenced")
        for key, value in (
            ("Unique", own), ("Held", held),
            ("Shared", None if own is None or referenced is None else max(0, referenced - own)),
        ):  # fmt: skip
            if value is not None:
                row[key] = (row[key] or 0) + value
        if row["Ratio"] is None:
            text = parts.get("compressratio", "").rstrip("x")
            row["Ratio"] = float(text) if text.replace(".", "", 1).isdecimal() else None
    return row


def _number(parts: dict[str, str], key: str) -> int | None:
    text = parts.get(key, "")
    return int(text) if text.isdecimal() else None


def list_ways(e: Engine, wanted: int) -> list[Record]:
    """Commands that together free at least ``wanted`` bytes, in the order of what they cost.

    First the trash, oldest first, then images nobody uses, then snapshots, the largest first. A
    row says ``Command``, ``What`` and ``Frees`` (bytes). Fewer when there is no more to say.
    """
    chosen: list[Record] = []
    for row in (*_trash_ways(e), *_image_ways(e), *_snapshot_ways(e)):
        if sum(int(done["Frees"]) for done in chosen) >= wanted:
            break
        if row["Frees"]:
            chosen.append(row)
    return chosen


def _trash_ways(e: Engine) -> list[Record]:
    entries = sorted(e.trash.list_entries(), key=trash.when)
    return [
        {"Command": f"strata trash empty {entry['id'][:12]}",
         "What": f"removed {entry['object']} {restoring.show_name(entry)}",
         "Frees": _frees(e, entry["datasets"])}
        for entry in entries
    ]  # fmt: skip


def _image_ways(e: Engine) -> list[Record]:
    rows = []
    for image in images.choose_prunable(e, all=True):
        layers = [e.records.find("layer", layer_id) for layer_id in image["layers"]]
        others = {
            layer_id for other in e.records.list_records("image") if other["id"] != image["id"]
            for layer_id in other["layers"]
        }  # fmt: skip
        own = [r["dataset"] for r in layers if r and r["dataset"] and r["id"] not in others]
        name = image["names"][0] if image["names"] else image["id"][:12]
        rows.append({"Command": f"strata rmi --force --now {name}", "What": f"image {name}, unused",
                     "Frees": _frees(e, own)})  # fmt: skip
    return rows


def _snapshot_ways(e: Engine) -> list[Record]:
    rows = []
    for kind in targets.KINDS:
        for record in e.records.list_records(kind):
            for snapshot in targets.list_snapshots(e, record):
                if snapshot.clones:
                    continue
                spec = f"{record['name']}@{snapshot.name}"
                rows.append({"Command": f"strata snapshot rm --now {spec}",
                             "What": f"snapshot {spec}",
                             "Frees": _frees(e, [snapshot.full_name])})  # fmt: skip
    return sorted(rows, key=lambda row: int(row["Frees"]), reverse=True)


def _frees(e: Engine, names: Iterable[str]) -> int:
    """Bytes that destroying would free: by a dry run, else by what is used; 0 when unknown."""
    total = 0
    for name in names:
        try:
            freed = e.driver.estimate_destroy(name)
            total += (e.driver.get_usage(name).used or 0) if freed is None else freed
        except DatasetNotFound:
            continue
    return total
