"""What uses space: ``system df``.

Sizes come from the driver, one dataset at a time, never by walking files. Where the pool does not
count (btrfs), the driver reads the extents of each dataset, after what waits in memory was written;
an image is then counted by the size of its unpacked layers, which records know.
"""

from __future__ import annotations

from strata.engine import limits
from strata.engine.core import Engine, Record
from strata.storage.driver import DatasetNotFound, Usage
from strata.store import lifecycle
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNKNOWN = Usage(None, None, None, None)


def df(e: Engine, verbose: bool = False) -> Record:
    """What ``system df`` shows: a summary row per kind, with ``verbose`` also every object.

    All sizes are bytes. ``Reclaimable`` is what removing the inactive objects would free: images
    without containers (as ``image prune --all``), containers that do not run, volumes no container
    uses, everything in the trash.
    """
    if not e.driver.facts.counts:
        e.driver.sync()
    layers = {record["id"]: record for record in e.records.list_records("layer")}
    sizes = {layer_id: _layer_size(e, record) for layer_id, record in layers.items()}
    images = list(e.records.list_records("image"))
    containers = list(e.records.list_records("container"))
    used = {container["image"] for container in containers}
    image_rows = [_image_row(image, images, sizes, used) for image in images]
    container_rows = [_container_row(e, container) for container in containers]
    volume_rows = _volume_rows(e, containers)
    wanted = {layer for image in images if image["id"] in used for layer in image["layers"]}
    known = {layer for image in images for layer in image["layers"]}
    summary = [
        {
            "Type": "Images", "Total": len(images), "Active": len(used & {i["id"] for i in images}),
            "Size": _sum(sizes.get(layer) for layer in known),
            "Reclaimable": _sum(sizes.get(layer) for layer in known - wanted) or 0,
        },
        _summarize("Containers", container_rows, [row["Status"] in lifecycle.LIVE
                                                  for row in container_rows]),
        _summarize("Volumes", volume_rows, [row["Links"] > 0 for row in volume_rows]),
        _trash_row(e),
        _pool_row(e),
        *_other_pools(e),
    ]  # fmt: skip
    if not verbose:
        return {"Summary": summary}
    return {
        "Summary": summary,
        "Images": image_rows,
        "Containers": container_rows,
        "Volumes": volume_rows,
        "Trash": [_trash_entry(e, entry) for entry in e.trash.list_entries()],
    }


def _get_usage(e: Engine, datasets: Iterable[str]) -> Usage:
    """Space of several datasets together; None in a field where one of them cannot tell."""
    found = []
    for dataset in datasets:
        try:
            found.append(e.driver.measure(dataset))
        except DatasetNotFound:
            continue
    if not found:
        return _UNKNOWN
    used = [usage.used for usage in found]
    total = None if None in used else sum(size or 0 for size in used)
    return Usage(total, found[0].referenced, found[0].logical, found[0].compressratio)


def _sum(sizes: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _layer_size(e: Engine, record: Record) -> int:
    """Bytes a layer takes, or those of its unpacked tar where the driver cannot tell."""
    if not record.get("dataset"):
        return 0
    if not e.driver.facts.counts:
        return int(record.get("size") or 0)
    used = _get_usage(e, [record["dataset"]]).used
    return int(record.get("size") or 0) if used is None else used


def _image_row(
    image: Record, images: Sequence[Record], sizes: dict[str, int], used: set[str]
) -> Record:  # fmt: skip
    others = {layer for other in images if other is not image for layer in other["layers"]}
    total = sum(sizes.get(layer, 0) for layer in image["layers"])
    shared = sum(sizes.get(layer, 0) for layer in image["layers"] if layer in others)
    repository, _, tag = (image["names"] or ["<none>:<none>"])[0].rpartition(":")
    return {
        "Repository": repository, "Tag": tag, "ImageID": image["id"][:12],
        "Created": parse_time(image["created"]), "Size": total, "SharedSize": shared,
        "UniqueSize": total - shared, "Containers": int(image["id"] in used),
    }  # fmt: skip


def _datasets(record: Record) -> list[str]:
    return [record["dataset"], *(branch["dataset"] for branch in record["branches"])]


def _container_row(e: Engine, record: Record) -> Record:
    usage = _get_usage(e, _datasets(record))
    return {
        "ContainerID": record["id"][:12], "Image": record["image_name"],
        "Command": " ".join([*record["config"]["entrypoint"], *record["config"]["command"]]),
        "LocalVolumes": sum(m["type"] == "volume" for m in record["config"]["mounts"]),
        "Size": usage.used, "Referenced": usage.referenced,
        "CompressRatio": usage.compressratio, "Limits": limits.describe(e, record),
        "Created": parse_time(record["created"]),
        "Status": lifecycle.derive(record), "Names": record["name"],
    }  # fmt: skip


def _volume_rows(e: Engine, containers: Sequence[Record]) -> list[Record]:
    links: dict[str, int] = {}
    for container in containers:
        for item in container["config"]["mounts"]:
            if item.get("volume"):
                links[item["volume"]] = links.get(item["volume"], 0) + 1
    rows = []
    for record in sorted(e.records.list_records("volume"), key=lambda r: str(r["name"])):
        usage = _get_usage(e, _datasets(record))
        rows.append({
            "VolumeName": record["name"], "Adopted": bool(record.get("adopted")),
            "Links": links.get(record["id"], 0),
            "Size": usage.used, "Referenced": usage.referenced,
            "CompressRatio": usage.compressratio, "Limits": limits.describe(e, record),
        })  # fmt: skip
    return rows


def _summarize(kind: str, rows: Sequence[Record], active: Sequence[bool]) -> Record:
    # Forgetting an adopted volume frees nothing.
    idle = [row["Size"] for row, busy in zip(rows, active, strict=True)
            if not busy and not row.get("Adopted")]  # fmt: skip
    return {
        "Type": kind, "Total": len(rows), "Active": sum(active),
        "Size": _sum(row["Size"] for row in rows), "Reclaimable": _sum(idle),
    }  # fmt: skip


def _trash_row(e: Engine) -> Record:
    entries = list(e.trash.list_entries())
    held = _sum(_get_usage(e, entry["datasets"]).used for entry in entries)
    return {"Type": "Trash", "Total": len(entries), "Active": 0, "Size": held, "Reclaimable": held}


def _trash_entry(e: Engine, entry: Record) -> Record:
    usage = _get_usage(e, entry["datasets"])
    return {
        "Kind": entry["object"], "Name": entry["name"] or entry["id"][:12], "Size": usage.used,
        "Deleted": entry["deleted"], "Due": entry["due"],
    }  # fmt: skip


def _other_pools(e: Engine) -> list[Record]:
    if not e.config.pools:
        return []
    from strata.engine import pools

    return [
        {"Type": f"Pool {row['Name']}", "Total": 1, "Active": int(not row["Error"]),
         "Size": None if row["Size"] is None else row["Size"] - row["Free"], "Reclaimable": None}
        for row in pools.list_pools(e)[1:]
    ]  # fmt: skip


def _pool_row(e: Engine) -> Record:
    space = e.driver.get_pool_space()
    return {
        "Type": "Pool", "Total": 1, "Active": 1, "Size": space.size - space.free,
        "Reclaimable": None,
    }  # fmt: skip
