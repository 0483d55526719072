"""What ``volume ls``, ``inspect`` and ``profiles`` tell."""

from __future__ import annotations

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.names import show_dataset
from strata.engine.volumes.mounting import ensure_mounted
from strata.storage import layout
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from strata.engine.filters import Filters


def describe(e: Engine, record: Record) -> Record:
    """A volume in Podman's shape, plus its dataset and branches."""
    mountpoint = ensure_mounted(e, record)
    record = e.records.get("volume", record["id"])  # it may have met what was done by hand
    usage = e.driver.get_usage(record["dataset"])
    return {
        "Name": record["name"],
        "Driver": "local",
        "Mountpoint": mountpoint,
        "CreatedAt": record["created"],
        "Labels": record["labels"],
        "Scope": "local",
        "Options": record["options"],
        "MountCount": count_uses(e).get(record["id"], 0),
        "NeedsCopyUp": bool(record.get("fresh")),
        "Anonymous": record["anonymous"],
        "Profile": record["profile"],
        "Dataset": show_dataset(e, record),
        "Adopted": bool(record.get("adopted")),
        "Pool": _show_pool(e, record),
        "Generation": record["generation"],
        "Branches": record["branches"],
        "Used": usage.used,
        "Referenced": usage.referenced,
        "CompressRatio": usage.compressratio,
        "Limits": _describe_limits(e, record),
    }


def _describe_limits(e: Engine, record: Record) -> list[Record]:
    if not record.get("native"):
        return []
    from strata.engine import limits

    return limits.describe(e, record)


def _show_pool(e: Engine, record: Record) -> str:
    """The name of the pool a volume lies in, "" where it is none of the configured ones."""
    if not layout.is_outside(record["dataset"]):
        return "store"
    from strata.engine import pools

    return pools.find_name(e, record["dataset"])


def inspect(e: Engine, which: Sequence[str]) -> list[Record]:
    """What ``strata volume inspect`` prints."""
    return [describe(e, names.get_volume(e, text)) for text in which]


def list_volumes(e: Engine, filters: Filters | None = None) -> list[Record]:
    """Volumes by name, from records alone."""
    used = count_uses(e)
    found = list(filter(read_filters(e, filters, used), e.records.list_records("volume")))
    found.sort(key=lambda record: str(record["name"]))
    return [
        {
            "Name": record["name"],
            "Driver": "local",
            "Mountpoint": e.paths.volume_mountpoint(record["name"]),
            "CreatedAt": record["created"],
            "Labels": record["labels"],
            "Scope": "local",
            "Options": record["options"],
            "Anonymous": record["anonymous"],
            "Profile": record["profile"],
            "Dataset": show_dataset(e, record),
            "Adopted": bool(record.get("adopted")),
            "Pool": _show_pool(e, record),
            "MountCount": used.get(record["id"], 0),
            "NeedsCopyUp": bool(record.get("fresh")),
        }
        for record in found
    ]


def read_filters(
    e: Engine, filters: Filters | None, used: Mapping[str, int]
) -> Callable[[Record], bool]:
    """The filters of podman-volume-ls(1); ``used`` counts the containers of each volume."""
    from strata.engine.filters import has_label, is_before, is_true, make_filter, matches

    chosen = filters or {}
    named = [*chosen.get("since", ()), *chosen.get("after", ())]
    created = {value: parse_time(names.get_volume(e, value)["created"]) for value in named}
    return make_filter("volume", filters, {
        "name": lambda record, value: matches(value, record["name"]),
        "label": lambda record, value: has_label(record["labels"], value),
        "label!": lambda record, value: not has_label(record["labels"], value),
        "dangling": lambda record, value: (record["id"] not in used) == is_true(value),
        "driver": lambda record, value: value == "local",
        "scope": lambda record, value: value == "local",
        "opt": lambda record, value: has_label(record["options"], value),
        "since": lambda record, value: parse_time(record["created"]) > created[value],
        "after": lambda record, value: parse_time(record["created"]) > created[value],
        "until": lambda record, value: is_before(parse_time(record["created"]), value),
        "anonymous": lambda record, value: record["anonymous"] == is_true(value, "anonymous"),
    })  # fmt: skip


def count_uses(e: Engine, without: Collection[str] = ()) -> dict[str, int]:
    """How many containers have each volume, by id; those in ``without`` do not count."""
    used: dict[str, int] = {}
    for container in e.records.list_records("container"):
        if container["id"] in without:
            continue
        for item in container["config"].get("mounts", ()):
            if item.get("volume"):
                used[item["volume"]] = used.get(item["volume"], 0) + 1
    return used


def profiles() -> list[Record]:
    """The workload profiles, for ``volume profiles``."""
    from strata.storage import properties

    return [
        {"Name": profile.name, "Options": profile.properties, "Description": profile.reason}
        for profile in properties.PROFILES.values()
    ]
