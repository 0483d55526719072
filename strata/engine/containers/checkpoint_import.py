"""A container made from an exported checkpoint (`checkpoint_export`), going on from there.

It is made like any other: from its image, which is pulled when it is not here, with the settings
it had. Then its files and volumes are brought to what they were, its checkpoint is put in place
and restored. When one of these fails, container and volumes go again.
"""

from __future__ import annotations

import os

from strata import trace
from strata.archive.split import BODIES_NAME, SPLIT_NAME
from strata.engine.containers import checkpoint_export as exported
from strata.engine.containers import checkpoints, create, resuming
from strata.engine.core import PRIVATE, ROOTFS, Engine, Record
from strata.engine.spool import Spool, unpack
from strata.engine.volumes import making
from strata.engine.volumes.mounting import mount_locked
from strata.errors import AlreadyExists, ArchiveError, NotFound, RecordError
from strata.linux.resolve import open_in_root
from strata.linux.tree import TreeCopy, copy_bytes, remove_tree
from strata.store import files, lifecycle
from strata.store.records import SCHEMA, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.store.journal import Operation

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def restore(
    e: Engine, fd: int, wishes: resuming.Wishes, *, name: str = "", ports: Sequence[Record] = (),
    rootfs: bool = True, contents: bool = True,
) -> Record:  # fmt: skip
    """Make a container from the archive ``fd`` reads, and let it go on; see `resuming.restore`.

    With ``name`` it is another container than the one exported, with addresses of its own.
    ``ports`` take the place of those it published; without ``rootfs`` its files are the image's,
    without ``contents`` its volumes are those that are here. Returns its ``record`` beside what
    was counted. `ArchiveError`, `NotFound` without its image, `AlreadyExists`.
    """
    with e.begin("restore-import") as operation, Spool(e, operation) as folder:
        tree = unpack(folder, fd)
        trace.point("restore-import:unpacked")
        old = _read_record(tree)
        config = _adapt(old, ports)
        image, image_name = e.records.find("image", old["image"]), old["image_name"]
        if image is None:
            image, image_name = create.find_or_pull(e, {"image": old["image_name"]})
        if image["id"] != old["image"]:
            raise NotFound(
                f"the archive builds on the image {old['image'][:12]} ({old['image_name']}), and "
                f"that name stands for {image['id'][:12]} here",
                hint="save that image on the other host, load it here",
            )
        if contents:
            _make_volumes(e, operation, tree, config)
        known = set(e.records.list_ids("volume"))
        options = {"name": name or old["name"], "image": old["image_name"],
                   "storage": config["storage"], "id": new_id()}  # fmt: skip
        operation.plan(["unimport", options["id"]])
        record = create.create_planned(e, options, image, image_name, config)
        operation.plan(*_forsake(e, record, known), ["unimport", record["id"]])  # in this order
        trace.point("restore-import:created")
        with e.lock_container(record["id"], name=record["name"]):
            if rootfs:
                _apply_rootfs(e, record, tree)
            _place(e, record, tree, networks=not name)
            record["state"]["checkpointed"] = ""
            e.records.save(record)
        trace.point("restore-import:placed")
        counted = resuming.restore(e, record, wishes)
        operation.replace()
    return {"record": record, **counted}


def _read_record(tree: str) -> Record:
    """The record of the container that was exported. `ArchiveError`."""
    try:
        document = files.read_json(f"{tree}/{checkpoints.CONFIG}")
        record = (document.get("strata") or {}).get("record")
        complete = checkpoints.is_complete(tree)
    except (OSError, RecordError) as error:
        raise ArchiveError(
            "this is no exported checkpoint",
            hint="`strata container checkpoint --export` writes one",
        ) from error
    if not isinstance(record, dict):
        raise ArchiveError(
            "this checkpoint was exported by another engine, whose containers differ from ours",
            hint="`strata container checkpoint --export` writes one that can be imported",
        )
    if record.get("schema") != SCHEMA:
        raise ArchiveError("this checkpoint was exported by another version",
                           hint="import it with the version that wrote it")  # fmt: skip
    config = record.get("config")
    known = isinstance(config, dict) and all(
        key in config and (default is None or isinstance(config[key], type(default)))
        for key, default in create.DEFAULTS.items()
    )
    texts = all(isinstance(record.get(key), str) for key in ("id", "name", "image", "image_name"))
    if not known or not texts or not complete:
        raise ArchiveError("this exported checkpoint is damaged: it is not complete")
    return record


def _adapt(old: Record, ports: Sequence[Record]) -> Record:
    """The settings of the new container: what only meant something there is left out."""
    config: Record = {**old["config"], "log_path": ""}
    # Its processes know it by this name.
    config["hostname"] = config["hostname"] or str(old["id"])[:12]
    for key in ("pidfile", "conmon_pidfile"):
        config.pop(key, None)
    config["networks"] = [{**item, "id": ""} for item in config["networks"]]
    config["mounts"] = [dict(item) for item in config["mounts"]]
    if ports:
        config["ports"] = list(ports)
    return config


def _make_volumes(e: Engine, operation: Operation, tree: str, config: Record) -> None:
    """Make the volumes that the archive holds, with their files. `AlreadyExists`."""
    for item in config["mounts"]:
        name = item.get("source", "")
        path = f"{tree}/{exported.VOLUMES}/{name}.tar"
        if item["type"] != "volume" or "/" in name or not os.path.exists(path):
            continue
        if e.records.find_name("volume", name):
            if not item.get("anonymous"):
                raise AlreadyExists(
                    f"volume with name {name} already exists",
                    hint="--ignore-volumes leaves it as it is, and uses it",
                )
            name = item["source"] = new_id()
        with making.Held(e) as held:
            volume = making.make(e, operation, held, name, anonymous=bool(item.get("anonymous")))
            target = mount_locked(e, volume)
            fd = os.open(path, _FILE)
            try:
                os.mkdir(f"{tree}/{name}.unpacked", 0o700)
                _copy_tree(unpack(f"{tree}/{name}.unpacked", fd), target)
            finally:
                os.close(fd)
            volume["fresh"] = False
            e.records.save(volume)
        trace.point("restore-import:volume-made")


def _forsake(e: Engine, record: Record, known: set[str]) -> list[list[str]]:
    """Steps that take back the volumes which came with a container."""
    new = {item["volume"] for item in record["config"]["mounts"] if item.get("volume")} - known
    return [["abandon", "volume", volume, e.records.get("volume", volume)["dataset"]]
            for volume in sorted(new)]  # fmt: skip


def _copy_tree(source: str, target: str) -> None:
    below, there = (os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    for path in (source, target))  # fmt: skip
    try:
        TreeCopy(overwrite=True).copy_contents(below, there)
    finally:
        os.close(below)
        os.close(there)


def _apply_rootfs(e: Engine, record: Record, tree: str) -> None:
    """Bring a new container's files to what they were when it was exported."""
    from strata.archive.apply import apply_layer

    place = e.driver.open(record["dataset"])
    if os.path.exists(f"{tree}/{exported.ROOTFS_DIFF}"):
        apply_layer(f"{tree}/{exported.ROOTFS_DIFF}", "", place)
        for name in (SPLIT_NAME, BODIES_NAME):  # nobody wants this tar again
            try:
                os.unlink(f"{place}/{PRIVATE}/{name}")
            except FileNotFoundError:
                continue
    try:
        gone = files.read_bytes(f"{tree}/{exported.DELETED}")
    except FileNotFoundError:
        return
    from strata import jsontext

    for path in jsontext.loads(gone):
        _remove(f"{place}/{ROOTFS}", str(path))


def _remove(rootfs: str, path: str) -> None:
    """Remove a file or directory of a root file system, whatever its links point to."""
    folder, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        return
    try:
        above = open_in_root(rootfs, folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        remove_tree(above, name)
    finally:
        os.close(above)


def _place(e: Engine, record: Record, tree: str, *, networks: bool) -> None:
    """Put the checkpoint beside the container's files; only plain files of it count."""
    folder = checkpoints.find_folder(e, record)
    names = [checkpoints.CONFIG, checkpoints.SPEC, *([checkpoints.NETWORKS] if networks else ())]
    for part in (checkpoints.PREVIOUS, checkpoints.IMAGES):
        if os.path.isdir(f"{tree}/{part}"):
            os.makedirs(f"{folder}/{part}", 0o700)
            names += [f"{part}/{name}" for name in os.listdir(f"{tree}/{part}")]
    for name in names:
        if name == f"{checkpoints.IMAGES}/parent":
            os.symlink(f"../{checkpoints.PREVIOUS}", f"{folder}/{name}")
        else:
            _copy_file(f"{tree}/{name}", f"{folder}/{name}")


def _copy_file(source: str, target: str) -> None:
    try:
        fd = os.open(source, _FILE)
    except OSError as error:
        raise ArchiveError(f"this exported checkpoint is damaged: {error.strerror}") from None
    try:
        there = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_bytes(fd, there)
        finally:
            os.close(there)
    except OSError as error:
        raise ArchiveError(f"this exported checkpoint cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def unimport(e: Engine, container_id: str) -> None:
    """Remove a container whose import did not come to its end. Idempotent; a journal step."""
    from strata.engine.containers import removal

    record = e.records.find("container", container_id)
    if record is None:
        return
    with e.hold_if_there(record, timeout=5) as record:
        if record is None or lifecycle.derive(record) in lifecycle.LIVE:
            return
        e.bury("container", record, [record["dataset"]], verb="restore-import", keep=False)
        e.settle_removal(container_id)
        removal.release(e, record)
