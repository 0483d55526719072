"""Image records: registering, naming, listing, removing.

An image record holds the run-time defaults of the image's configuration, so starting a container
parses nothing else; the raw manifest and configuration, whose bytes are hashed, lie beside it on
the ``images`` dataset as ``<id>/manifest.json`` and ``<id>/config.json``, with a copy of the
record that ``strata system rebuild`` reads.
"""

from __future__ import annotations

import json
import os
import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.filters import has_label, is_before, make_filter
from strata.engine.images import layers, mounting
from strata.engine.system import collect
from strata.errors import InUse, NotFound, UsageError
from strata.linux.tree import remove_file, remove_path
from strata.oci import reference as references
from strata.store.files import read_bytes, write_bytes, write_json
from strata.store.records import SCHEMA
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from strata.engine.filters import Filters


def folder_of(e: Engine, image_id: str) -> str:
    """Where an image's raw documents lie."""
    return f"{e.images_folder}/{image_id}"


def read_config(e: Engine, image_id: str) -> bytes:
    """The raw configuration."""
    return read_bytes(f"{folder_of(e, image_id)}/config.json")


def read_manifest(e: Engine, image_id: str) -> bytes | None:
    """The raw manifest the image came with, None when it came without."""
    try:
        return read_bytes(f"{folder_of(e, image_id)}/manifest.json")
    except FileNotFoundError:
        return None


def register(
    e: Engine, *, config: bytes, manifest: bytes | None, media_type: str,
    layer_records: Sequence[Record], image_names: Iterable[str], digests: Iterable[str] = (),
) -> Record:  # fmt: skip
    """Record an image whose layers are in the store, and point the names to it."""
    from strata.oci.config import parse_config
    from strata.oci.digest import of

    parsed = parse_config(config)
    image_id = parsed.id.removeprefix("sha256:")
    with e.lock_images():
        old = e.records.find("image", image_id)
        record: Record = {
            "schema": SCHEMA, "kind": "image", "id": image_id,
            "names": sorted({*(old["names"] if old else ()), *image_names}),
            "digests": sorted({*(old["digests"] if old else ()), *digests}),
            "layers": [layer["id"] for layer in layer_records],
            "created": parsed.created, "added": time.time(),
            "size": sum(layer["size"] for layer in layer_records),
            "media_type": media_type, "manifest_digest": of(manifest) if manifest else "",
            "architecture": parsed.architecture, "os": parsed.os, "variant": parsed.variant,
            "author": parsed.author, "config": parsed.config,
        }  # fmt: skip
        folder = folder_of(e, image_id)
        os.makedirs(folder, 0o700, exist_ok=True)
        write_bytes(f"{folder}/config.json", config)
        if manifest is not None:
            write_bytes(f"{folder}/manifest.json", manifest)
        write_json(copy_path(e, image_id), record)
        remove_file(removed_path(e, image_id))
        trace.point("image:documents-written")
        e.records.save(record)
        e.trash.delete(image_id)
        for name in image_names:
            _move_name(e, name, image_id)
    return record


def _move_name(e: Engine, name: str, image_id: str) -> None:
    """Point a name to an image and take it out of the record that had it."""
    before = e.records.find_name("image", name)
    e.records.set_name("image", name, image_id)
    trace.point("image:name-set")
    if before and before != image_id:
        previous = e.records.find("image", before)
        if previous is not None and name in previous["names"]:
            previous["names"].remove(name)
            save(e, previous)


def copy_path(e: Engine, image_id: str) -> str:
    """Where the copy of an image's record lies, which `system rebuild` restores it from."""
    return f"{folder_of(e, image_id)}/record.json"


def removed_path(e: Engine, image_id: str) -> str:
    """Where that copy lies while the image is in the trash."""
    return f"{folder_of(e, image_id)}/removed.json"


def save(e: Engine, record: Record) -> None:
    """Write an image record and its copy."""
    e.records.save(record)
    if os.path.isdir(folder_of(e, record["id"])):
        write_json(copy_path(e, record["id"]), record, durable=False)
        remove_file(removed_path(e, record["id"]))


def tag(e: Engine, source: str, targets: Sequence[str]) -> None:
    """Give an image further names."""
    wanted = [_full_name(target) for target in targets]
    image, _ = names.get_image(e, source)
    with e.lock_images():
        image = e.records.get("image", image["id"])
        image["names"] = sorted({*image["names"], *wanted})
        save(e, image)
        for name in wanted:
            _move_name(e, name, image["id"])
    for name in wanted:
        events.emit(e, events.IMAGE, "tag", id=image["id"], name=name)


def _full_name(text: str) -> str:
    """The full name for a new local name: short names belong to ``localhost``."""
    reference = references.parse(text)
    if reference.digest:
        raise UsageError(
            f"{text}: a tag cannot carry a digest", hint="name it REPOSITORY:TAG instead"
        )
    return references.local_candidates(text)[0]


def untag(e: Engine, image_name: str, which: Sequence[str]) -> list[str]:
    """Take names away from an image, all of them when none is given; return what was taken."""
    image, _ = names.get_image(e, image_name)
    with e.lock_images():
        image = e.records.get("image", image["id"])
        gone = []
        for text in which or list(image["names"]):
            for name in references.local_candidates(text):
                if name in image["names"]:
                    image["names"].remove(name)
                    e.records.drop_name("image", name, image["id"])
                    gone.append(name)
                    break
            else:
                raise NotFound(f"{text}: tag not known", hint=f"`strata inspect {image_name}`")
        save(e, image)
    for name in gone:
        events.emit(e, events.IMAGE, "untag", id=image["id"], name=name)
    return gone


def exists(e: Engine, name: str) -> bool:
    """Whether the image is in the store."""
    try:
        return names.find_image(e, name) is not None
    except UsageError:
        return False


def refuse_used(users: Sequence[Record]) -> None:
    """`InUse`, with the containers that were made from an image, when there are some."""
    if users:
        listed = ", ".join(f"{user['id'][:12]} ({user['name']})" for user in users)
        raise InUse(
            f"image used by {listed}: image is in use by a container",
            hint="remove those containers first, or use --force to remove them too",
            exit_code=2,
        )


def users_of(e: Engine, image_id: str) -> list[Record]:
    """Containers made from an image, or that mount it."""
    return [c for c in e.records.list_records("container") if image_id in _images_of(c)]


def _images_of(container: Record) -> set[str]:
    """The ids of the images that a container needs."""
    mounted = {str(m["image"]) for m in container["config"].get("mounts", ()) if m.get("image")}
    return {str(container.get("image")), *mounted}


def remove(
    e: Engine, which: Sequence[str], *, force: bool = False, tagged: bool = False,
    ignore: bool = False,
) -> list[dict[str, str]]:  # fmt: skip
    """Remove names, and images that lose their last one. Returns what was done, in order.

    ``tagged``: an image given by its id may have several names; ``force``: it may also be used
    by containers, which go with it.
    """
    e.allow_reserve()
    done: list[dict[str, str]] = []
    for image, name in names.get_each(
        e, names.get_image, which, ignore=ignore or force, exit_code=1
    ):  # fmt: skip
        done += _remove_one(e, image, name, force=force, tagged=tagged)
    if any("Deleted" in step for step in done):
        collect.collect_detached(e)
    return done


def _remove_one(
    e: Engine, image: Record, name: str, *, force: bool, tagged: bool
) -> list[dict[str, str]]:  # fmt: skip
    image_id = image["id"]
    if name and len(image["names"]) > 1:
        gone_names = untag(e, image_id, [name])
        from strata.engine.images.restoring import bury_name

        bury_name(e, image, gone_names)
        return [{"Untagged": gone} for gone in gone_names]
    if not name and len(image["names"]) > 1 and not (force or tagged):
        raise InUse(
            f"unable to delete image {image_id[:12]!r} by ID with more than one tag "
            f"({', '.join(image['names'])})",
            hint="remove it by name, or use --force",
        )
    for user in users_of(e, image_id) if force else ():
        from strata.engine.containers.removal import remove_record

        remove_record(e, user, force=True, volumes=False, verb="rmi")
    done = _discard(e, image_id, name)
    if done is not None:
        return done
    # It was given another name meanwhile.
    return [{"Untagged": gone} for gone in untag(e, image_id, [name])]


def _discard(
    e: Engine, image_id: str, name: str, *, named: bool = True
) -> list[dict[str, str]] | None:
    """Move an image to the trash: what was done, or None when it has other names than ``name``.

    Without ``named`` only if it has no name at all. `InUse` when a container was made from it.
    """
    e.recover()  # before the lock, as it may start containers
    trace.point("rmi:unused")
    with e.lock_images():
        image = e.records.get("image", image_id)
        refuse_used(users_of(e, image_id))
        if mounting.is_mounted(e, image_id):
            raise InUse(
                f"image {name or image_id[:12]} is mounted on the host",
                hint=f"`strata image unmount {name or image_id[:12]}` first", exit_code=2,
            )  # fmt: skip
        others = set(image["names"]) - {name}
        if others and (not named or (name and "@" not in name)):
            return None
        done = [{"Untagged": gone} for gone in image["names"]]
        with e.journal.begin("rmi", ["settle-image-removal", image_id]):
            e.bury("image", image, [], verb="rmi", keep=True)
            trace.point("rmi:trashed")
            settle_removal(e, image_id)
    events.emit(e, events.IMAGE, "remove", id=image_id, name=name or image_id)
    return [*done, {"Deleted": image_id}]


def settle_removal(e: Engine, image_id: str) -> None:
    """Finish an image removal whose trash entry was written; nothing when it was not."""
    entry = e.trash.find(image_id)
    if entry is None or entry["object"] != "image":
        return
    for name in entry["record"]["names"]:
        e.records.drop_name("image", name, image_id)
    e.records.delete("image", image_id)
    # Kept for undo with the entry; `rebuild` must not resurrect a removed image.
    try:
        os.rename(copy_path(e, image_id), removed_path(e, image_id))
    except FileNotFoundError:
        return


def forget_documents(e: Engine, image_id: str) -> None:
    """Remove an image's raw documents; called when its trash entry is emptied."""
    remove_path(folder_of(e, image_id))


def prune(
    e: Engine, *, all: bool = False, filters: Filters | None = None
) -> Record:  # fmt: skip
    """Remove images without a name (``all``: also unused ones); say what it freed."""
    before = e.driver.get_pool_space().free
    removed: list[str] = []
    for image in choose_prunable(e, all=all, filters=filters):
        try:
            done = _discard(e, image["id"], "", named=all)
        except (InUse, NotFound):
            continue  # used, or removed, meanwhile
        if done is not None:
            removed.append(image["id"])
    collect.remove_old_downloads(e)
    return collect.report(e, removed, before)


def choose_prunable(
    e: Engine, *, all: bool, filters: Filters | None = None, without: Collection[str] = ()
) -> list[Record]:  # fmt: skip
    """The images that `prune` removes, unless they come into use or get a name meanwhile.

    ``without``: ids of containers that are taken for gone already.
    """
    passes = make_filter("prune", filters, {
        "until": lambda image, value: is_before(image["added"], value),
        "label": lambda image, value: has_label(image["config"].get("Labels"), value),
        "label!": lambda image, value: not has_label(image["config"].get("Labels"), value),
    })  # fmt: skip
    used = {image for c in e.records.list_records("container") if c["id"] not in without
            for image in _images_of(c)}  # fmt: skip
    return [
        image for image in e.records.list_records("image")
        if image["id"] not in used and (all or not image["names"]) and passes(image)
    ]  # fmt: skip


def history(e: Engine, name: str) -> list[Record]:
    """The steps that made an image, newest first, with the size of each."""
    image, _ = names.get_image(e, name)
    document = json.loads(read_config(e, image["id"]))
    sizes = iter([e.records.get("layer", layer_id)["size"] for layer_id in image["layers"]])
    steps: list[Record] = []
    for entry in document.get("history") or [{} for _ in image["layers"]]:
        empty = bool(entry.get("empty_layer"))
        steps.append(
            {
                "Id": "<missing>",
                "Created": parse_time(entry.get("created", "")),
                "CreatedBy": entry.get("created_by", ""),
                "Size": 0 if empty else next(sizes, 0),
                "Comment": entry.get("comment", ""),
                "Tags": [],
            }
        )
    if steps:
        steps[-1]["Id"] = image["id"]
        steps[-1]["Tags"] = image["names"]
    steps.reverse()
    return steps


def tree(e: Engine, name: str) -> Record:
    """An image's layers from the bottom, with the names of images whose top each layer is."""
    image, _ = names.get_image(e, name)
    tops: dict[str, list[str]] = {}
    for other in e.records.list_records("image"):
        if other["layers"]:
            tops.setdefault(other["layers"][-1], []).extend(other["names"])
    return {
        "Id": image["id"],
        "Names": image["names"],
        "Size": image["size"],
        "Layers": [
            {
                "Id": record["id"],
                "DiffID": record["diff_id"],
                "Size": record["size"],
                "Dataset": record["dataset"],
                "Names": tops.get(record["id"], []),
            }
            for record in layers.list_chain(e, image["layers"][-1] if image["layers"] else None)
        ],
    }
