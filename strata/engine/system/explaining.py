"""What holds space and what would give it back: ``system df --explain``.

Sizes of clones and snapshots do not add up to what a pool holds, so each object is told in parts:
``Unique`` bytes are its own alone, ``Shared`` ones belong to what it was cloned from too,
``Held`` ones only its snapshots hold, ``Trash`` ones end with its trash entry. What would free so
many bytes is asked of the pool by dry runs where it can tell (OpenZFS). Where the pool does not
count (btrfs), the extents of all datasets and snapshots are read once, and both follow from who
refers to what (`strata.storage.shares`); that is exact for file data, takes about a second for a
million extents, and changes nothing. zfs-fuse counts and has no dry run: there the parts must do.
"""

from __future__ import annotations

from strata.engine.core import Engine, Record
from strata.engine.history import restoring, targets
from strata.engine.images import verbs as images
from strata.storage.driver import DatasetNotFound
from strata.store import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.storage.shares import Shares

#: how many rows are looked through for those that matter
_FEW = 200
_PARTS = ("usedbydataset", "usedbysnapshots", "referenced", "compressratio", "used")


def explain(e: Engine) -> list[Record]:
    """Rows of all containers, volumes, layers of images and trash entries, the largest first.

    ``Unique``, ``Shared``, ``Held``, ``Trash`` in bytes, ``Ratio`` of compression; None for what
    has no dataset.
    """
    rows = []
    shares = e.driver.survey()
    for kind in targets.KINDS:
        for record in e.records.list_records(kind):
            rows.append(_row(e, shares, kind, record["name"], targets.list_lineage(record)))
    for image in e.records.list_records("image"):
        layers = [e.records.find("layer", layer_id) for layer_id in image["layers"]]
        datasets = [layer["dataset"] for layer in layers if layer and layer["dataset"]]
        name = ", ".join(image["names"]) or image["id"][:12]
        rows.append(_row(e, shares, "image", name, datasets))
    for entry in e.trash.list_entries():
        name = restoring.show_name(entry)
        row = _row(e, shares, entry["object"], name, entry["datasets"])
        known = [part for part in (row["Unique"], row["Held"]) if part is not None]
        row.update(Trash=sum(known) if known else None, Unique=0, Held=0)
        rows.append(row)
    return sorted(rows, key=_total, reverse=True)


def _total(row: Record) -> int:
    return sum(row[part] or 0 for part in ("Unique", "Held", "Trash"))


def _row(
    e: Engine, shares: Shares | None, kind: str, name: str, datasets: Sequence[str]
) -> Record:  # fmt: skip
    row: Record = {"Kind": kind, "Name": name, "Unique": None, "Shared": None, "Held": None,
                   "Trash": 0, "Ratio": None}  # fmt: skip
    if shares is not None and any(shares.knows(dataset) for dataset in datasets):
        row.update(_share(shares, datasets))
        return row
    for dataset in datasets:
        try:
            parts = e.driver.get_properties(dataset, _PARTS)
            if "used" not in parts:  # outside the pool, and nobody counts there
                usage = e.driver.measure(dataset)
                parts = {
                    "used": str(usage.used),
                    "referenced": str(usage.referenced),
                    "compressratio": str(usage.compressratio),
                }
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


def _share(shares: Shares, datasets: Sequence[str]) -> Record:
    """The parts of an object from who refers to what: its own and its snapshots' bytes."""
    heads = [name for name in datasets if shares.knows(name)]
    if not heads:
        return {}
    snapshots = [name for head in heads for name in shares.list_snapshots(head)]
    free = shares.get_free([*heads, *snapshots])
    held = shares.get_free(snapshots)
    packed = sum(shares.packed[head] for head in heads)
    logical = sum(shares.logical[head] for head in heads)
    return {
        "Unique": free - held, "Held": held,
        "Shared": max(0, shares.get_held(heads) - (free - held)),
        "Ratio": round(logical / packed, 2) if packed else 1.0,
    }  # fmt: skip


def _number(parts: dict[str, str], key: str) -> int | None:
    text = parts.get(key, "")
    return int(text) if text.isdecimal() else None


def list_ways(e: Engine, wanted: int) -> list[Record]:
    """Commands that together free at least ``wanted`` bytes, in the order of what they cost.

    First the trash, oldest first, then images nobody uses, then snapshots, the largest first. A
    row says ``Command``, ``What`` and ``Frees`` (bytes). Fewer when there is no more to say.
    """
    shares = e.driver.survey()
    chosen: list[Record] = []
    for find in (_trash_ways, _image_ways, _snapshot_ways):
        if _sum(chosen) < wanted:
            _choose(e, shares, chosen, find(e, shares), wanted)
    for row in chosen:
        del row["Datasets"]
    return chosen


def _sum(rows: Sequence[Record]) -> int:
    return sum(int(row["Frees"]) for row in rows)


def _choose(
    e: Engine, shares: Shares | None, chosen: list[Record], rows: Sequence[Record], wanted: int
) -> None:  # fmt: skip
    """Add rows to what is chosen until that is enough.

    Where it is known who holds what, a row frees what it does together with those before; rows
    that free nothing alone, as they share all they hold with each other, are added together.
    """
    rest = []
    for row in rows:
        if _sum(chosen) >= wanted:
            return
        row["Frees"] = _frees_more(e, shares, chosen, [row])
        if row["Frees"]:
            chosen.append(row)
        else:
            rest.append(row)
    together = _frees_more(e, shares, chosen, rest) if shares is not None else 0
    if not together or _sum(chosen) >= wanted:
        return
    for row in list(rest) if len(rest) <= _FEW else ():
        fewer = [other for other in rest if other is not row]
        if _frees_more(e, shares, chosen, fewer) == together:
            rest = fewer
    for row in rest:
        row["Frees"] = _frees_more(e, shares, chosen, [row])
        chosen.append(row)


def _frees_more(
    e: Engine, shares: Shares | None, chosen: Sequence[Record], rows: Sequence[Record]
) -> int:  # fmt: skip
    """Bytes that rows free beyond those chosen already."""
    if shares is None:
        return _sum(rows)
    names = [name for row in (*chosen, *rows) for name in row["Datasets"]]
    return _frees(e, shares, names) - _sum(chosen)


def _trash_ways(e: Engine, shares: Shares | None) -> list[Record]:
    entries = sorted(e.trash.list_entries(), key=trash.when)
    return [
        {"Command": f"strata trash empty {entry['id'][:12]}",
         "What": f"removed {entry['object']} {restoring.show_name(entry)}",
         "Datasets": entry["datasets"], "Frees": _frees(e, shares, entry["datasets"])}
        for entry in entries
    ]  # fmt: skip


def _image_ways(e: Engine, shares: Shares | None) -> list[Record]:
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
                     "Datasets": own, "Frees": _frees(e, shares, own)})  # fmt: skip
    return rows


def _snapshot_ways(e: Engine, shares: Shares | None) -> list[Record]:
    rows = []
    for kind in targets.KINDS:
        for record in e.records.list_records(kind):
            for snapshot in targets.list_snapshots(e, record):
                if snapshot.clones:
                    continue
                spec = f"{record['name']}@{snapshot.name}"
                rows.append({"Command": f"strata snapshot rm --now {spec}",
                             "What": f"snapshot {spec}",
                             "Datasets": [snapshot.full_name],
                             "Frees": _frees(e, shares, [snapshot.full_name])})  # fmt: skip
    return sorted(rows, key=lambda row: int(row["Frees"]), reverse=True)


def _frees(e: Engine, shares: Shares | None, names: Sequence[str]) -> int:
    """Bytes that destroying would free: by who refers to them, by a dry run, else by what is used;
    0 when unknown. Snapshots of what is named go along."""
    if shares is not None:
        along = [inner for name in names if "@" not in name
                 for inner in shares.list_snapshots(name)]  # fmt: skip
        return shares.get_free([*names, *along])
    total = 0
    for name in names:
        try:
            freed = e.driver.estimate_destroy(name)
            total += (e.driver.get_usage(name).used or 0) if freed is None else freed
        except DatasetNotFound:
            continue
    return total
