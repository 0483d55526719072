"""``images`` and ``image inspect``: what an image is, from its record and its documents.

Filters are those of podman-images(1). Podman's ``intermediate`` images, hidden without ``--all``,
are those without a name whose layers another image stands on.
"""

from __future__ import annotations

import json

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.filters import (
    has_label,
    is_before,
    is_id,
    is_true,
    make_filter,
)
from strata.engine.images.verbs import read_config
from strata.oci import reference as references
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strata.engine.filters import Filters


def list_images(
    e: Engine, filters: Filters | None = None, *, all: bool = True
) -> list[Record]:  # fmt: skip
    """Images for ``strata images``, newest first. ``Created`` is in seconds since the epoch.

    ``all``: also intermediate ones, unless a filter asks about them.
    """
    used: dict[str, int] = {}
    for container in e.records.list_records("container"):
        used[container.get("image", "")] = used.get(container.get("image", ""), 0) + 1
    images = list(e.records.list_records("image"))
    chosen = dict(filters or {})
    if not all and "intermediate" not in chosen:
        chosen["intermediate"] = ["false"]
    passes = make_image_filter(e, chosen, images, used)
    found = [_make_row(image, used.get(image["id"], 0)) for image in filter(passes, images)]
    found.sort(key=lambda row: str(row["CreatedAt"]), reverse=True)
    return found


def _make_row(image: Record, containers: int) -> Record:
    return {
        "Id": image["id"],
        "ParentId": "",
        "RepoTags": image["names"],
        "RepoDigests": image["digests"],
        "Created": parse_time(image["created"]),
        "CreatedAt": image["created"],
        "Size": image["size"],
        "SharedSize": 0,
        "VirtualSize": image["size"],
        "Labels": image["config"].get("Labels") or {},
        "Containers": containers,
        "ReadOnly": False,
        "Dangling": not image["names"],
        "Arch": image["architecture"],
        "Digest": image["manifest_digest"],
        "History": image["names"],
        "IsManifestList": False,
        "Names": image["names"],
        "Os": image["os"],
        "Layers": image["layers"],
    }


def make_image_filter(
    e: Engine, filters: Filters, images: Sequence[Record], used: dict[str, int]
) -> Callable[[Record], bool]:
    """Whether an image's record passes; ``used`` counts the containers of each."""
    named = [*filters.get("before", ()), *filters.get("since", ()), *filters.get("after", ())]
    created = {value: parse_time(names.get_image(e, value)[0]["created"]) for value in named}
    below = _list_below(images) if "intermediate" in filters else set()
    return make_filter("image", filters, {
        "id": lambda image, value: is_id(value.removeprefix("sha256:"), image["id"]),
        "reference": is_called,
        "reference!": lambda image, value: not is_called(image, value),
        "name": is_called,
        "digest": _has_digest,
        "label": lambda image, value: has_label(image["config"].get("Labels"), value),
        "label!": lambda image, value: not has_label(image["config"].get("Labels"), value),
        "dangling": lambda image, value: is_true(value) != bool(image["names"]),
        "before": lambda image, value: parse_time(image["created"]) < created[value],
        "since": lambda image, value: parse_time(image["created"]) > created[value],
        "after": lambda image, value: parse_time(image["created"]) > created[value],
        "until": lambda image, value: is_before(parse_time(image["created"]), value),
        "containers": lambda image, value: _has_containers(image["id"], value, used),
        "intermediate": lambda image, value: (
            is_true(value, "intermediate") == (not image["names"] and _top(image) in below)
        ),
        "readonly": lambda image, value: not is_true(value, "readonly"),
        "manifest": lambda image, value: not is_true(value, "manifest"),
    })  # fmt: skip


def _list_below(images: Sequence[Record]) -> set[str]:
    """The layers that are not an image's last one."""
    return {layer for image in images for layer in image["layers"][:-1]}


def _top(image: Record) -> str:
    return str(image["layers"][-1]) if image["layers"] else ""


def _has_containers(image_id: str, value: str, used: dict[str, int]) -> bool:
    if value == "external":
        return False
    return is_true(value, "containers") == bool(used.get(image_id))


def _has_digest(image: Record, value: str) -> bool:
    wanted = value if value.startswith("sha256:") else f"sha256:{value}"
    digests = [image["manifest_digest"], *(text.partition("@")[2] for text in image["digests"])]
    return any(digest.startswith(wanted) for digest in digests if digest)


def is_called(image: Record, text: str) -> bool:
    """Whether one of an image's names is meant by a name or a pattern."""
    patterns = [text] if set(text) & set("*?[") else references.local_candidates(text)
    return any(_like(name, pattern) for name in image["names"] for pattern in patterns)


def _like(name: str, pattern: str) -> bool:
    """Whether a full name matches: whole, without its registry, its path, or its tag."""
    from fnmatch import fnmatchcase

    reference = references.parse(name)
    untagged = name.rpartition(":")[0]
    tails = {name, reference.familiar, untagged}
    for text in (name, untagged):
        path = text.split("/")
        tails |= {"/".join(path[start:]) for start in range(1, len(path))}
    return any(fnmatchcase(tail, pattern) for tail in tails)


def inspect_images(e: Engine, which: Sequence[str]) -> list[Record]:
    """What ``strata image inspect`` prints, in Podman's shape plus where the layers lie."""
    return [_inspect(e, names.get_image(e, text)[0]) for text in which]


def _inspect(e: Engine, image: Record) -> Record:
    document = json.loads(read_config(e, image["id"]))
    records = [e.records.get("layer", layer_id) for layer_id in image["layers"]]
    history = document.get("history") or []
    config = image["config"]
    found: Record = {
        "Id": image["id"],
        "Digest": image["manifest_digest"],
        "RepoTags": image["names"],
        "RepoDigests": image["digests"],
        "Parent": "",
        "Comment": history[-1].get("comment", "") if history else "",
        "Created": image["created"],
        "Config": config,
        "Version": document.get("docker_version") or "",
        "Author": image["author"],
        "Architecture": image["architecture"],
        "Os": image["os"],
        "Size": image["size"],
        "VirtualSize": image["size"],
        "GraphDriver": {
            "Name": e.driver.name,
            "Data": {"Datasets": [record["dataset"] for record in records if record["dataset"]]},
        },
        "RootFS": {"Type": "layers", "Layers": [record["diff_id"] for record in records]},
        "Labels": config.get("Labels"),
        "Annotations": _read_annotations(e, image["id"]),
        "ManifestType": image["media_type"],
        "User": config.get("User", ""),
        "History": history,
        "NamesHistory": image["names"],
    }
    if config.get("Healthcheck"):
        found["HealthCheck"] = config["Healthcheck"]
    if image.get("variant"):
        found["Variant"] = image["variant"]
    return found


def _read_annotations(e: Engine, image_id: str) -> dict[str, str]:
    from strata.engine.images.verbs import read_manifest

    raw = read_manifest(e, image_id)
    if raw is None:
        return {}
    found = json.loads(raw).get("annotations")
    return found if isinstance(found, dict) else {}
