"""``system check``: compare everything, and repair without questions what can be without loss.

Records, names and datasets are compared in `strata.engine.system.compare`; here are operations,
trash, images, running containers and what killed commands leave lying about. A problem counts only
when it is still there at a second look, because other commands go on meanwhile; what a running
operation is at is left alone. Repairs never destroy the data of containers and volumes: what
cannot be believed is moved aside, what is unknown is adopted or left. What is lost is named, and
stays a problem until the user pulls it again or removes what needed it.
"""

from __future__ import annotations

import functools
import os
import time

from strata import trace
from strata.engine import adoption
from strata.engine.containers import life
from strata.engine.core import PRIVATE, Engine, Record
from strata.engine.history import targets
from strata.engine.identity import is_owned
from strata.engine.images import verbs as images
from strata.engine.networks import removal as networks
from strata.engine.networks.compare import find_networks
from strata.engine.system import collect, compare, overlays, rebuild, restore
from strata.engine.system.world import Problem, World
from strata.engine.volumes.mounting import ensure_mounted
from strata.errors import RecordError, StrataError
from strata.linux import mount
from strata.linux.tree import remove_file, remove_path
from strata.runtime import launch as runtime
from strata.storage import layout
from strata.store import files, lifecycle
from strata.store.paths import SHORT_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 6
_SECOND_LOOK = 0.2
"""Seconds between the looks: a command that is about to finish gets the time to."""
_RUNTIMES = ("crun", "runc")


def check(e: Engine, repair: bool = False) -> Record:
    """Compare everything; with ``repair`` put right what can be.

    ``Problems`` lists what was found, ``Repaired`` tells what is right again; ``Checked`` counts
    the objects looked at. Raises `Busy` when another repair or rebuild is at work.
    """
    with e.lock_store():
        found: dict[tuple[str, str], Problem] = {}
        if repair:
            for problem in _find_operations(e):
                found[problem.key] = problem
            e.recover()
        world, problems = _look_twice(e)
        for _ in range(_ROUNDS if repair else 0):
            fixes = [p for p in problems if p.fix is not None]
            for problem in fixes:
                found[problem.key] = problem
                _fix(problem)
            if not fixes:
                break
            world, problems = _look_twice(e)
        if repair:
            found.update({problem.key: problem for problem in _tidy(e, world)})
        left = {problem.key for problem in problems}
        found.update({problem.key: problem for problem in problems})
    return {
        "Problems": [
            {"Id": p.id, "Object": p.object, "Text": p.text, "Repaired": p.key not in left}
            for p in found.values()
        ],
        "Checked": world.count(),
    }


def _look_twice(e: Engine) -> tuple[World, list[Problem]]:
    world, problems = _look(e)
    if not problems:
        return world, problems
    time.sleep(_SECOND_LOOK)
    first = {problem.key for problem in problems}
    world, problems = _look(e)
    return world, [problem for problem in problems if problem.key in first]


def _look(e: Engine) -> tuple[World, list[Problem]]:
    world = World(e)
    found = [*_find_operations(e)]
    for find in (
        compare.find_damaged, compare.find_pools, _find_trash, compare.find_moved,
        compare.find_unclaimed, compare.find_layers, _find_images, compare.find_names,
        _find_volumes_gone, _find_states, _find_copies, _find_limits, _find_runtime,
        _find_mountpoints, find_networks, overlays.find, _find_leftovers,
    ):  # fmt: skip
        found += find(e, world)
    return world, found


def _fix(problem: Problem) -> None:
    """Try one repair; one that fails leaves the problem, with the reason."""
    assert problem.fix is not None
    try:
        problem.fix()
    except (StrataError, OSError) as error:
        problem.text = f"{problem.text} (the repair failed: {error})"
    trace.point(f"check:{problem.id}")


# -- operations ------------------------------------------------------------------------------------


def _find_operations(e: Engine) -> Iterator[Problem]:
    """What killed commands left half done."""
    for entry, alive in e.journal.list_entries():
        if not alive:
            steps = len(entry.get("undo", ()))
            yield Problem(
                "operation-dead", f"operation {entry.get('verb')} {entry.get('id')}",
                f"it was broken off; {steps} step{'s'[: steps != 1]} to take back or to finish",
                e.recover,
            )  # fmt: skip


# -- the trash -------------------------------------------------------------------------------------


def _find_trash(e: Engine, w: World) -> Iterator[Problem]:
    for name in w.trash_damaged:
        path = f"{e.trash.folder}/{name}"
        yield Problem("trash-damaged", f"trash entry {name[:16]}", "it cannot be read",
                      functools.partial(rebuild.set_aside, e, path))  # fmt: skip
    for entry in w.trash:
        kind, where = entry["object"], f"removed {entry['object']} {entry['name']}".rstrip()
        if entry["id"] in w.records.get(kind, ()):
            yield Problem("removal-unfinished", where, "it was removed and still has its record",
                          functools.partial(_settle, e, entry))  # fmt: skip
        gone = [name for name in entry["datasets"]
                if w.find_dataset(name) is None and name not in w.away]  # fmt: skip
        if gone and entry["due"]:
            yield Problem("trash-stale", where, f"its dataset {', '.join(gone)} is gone",
                          functools.partial(_drop_from_trash, e, entry["id"]))  # fmt: skip


def _settle(e: Engine, entry: Record) -> None:
    if entry["object"] == "image":
        images.settle_removal(e, entry["id"])
    elif entry["object"] == "network":
        networks.settle(e, entry["id"])
    elif entry["record"].get("adopted"):
        adoption.settle(e, entry["id"])
    else:
        e.settle_removal(entry["id"])


def _drop_from_trash(e: Engine, object_id: str) -> None:
    """Let an entry name only datasets that are there; forget one that is about none."""
    entry = e.trash.find(object_id)
    if entry is None:
        return
    for name in entry["datasets"]:
        e.driver.outside.check_place(name)
    entry["datasets"] = [name for name in entry["datasets"] if e.driver.find(name) is not None]
    if entry["datasets"]:
        e.trash.save(entry)
    else:
        e.trash.delete(object_id)


# -- images ----------------------------------------------------------------------------------------


def _find_images(e: Engine, w: World) -> Iterator[Problem]:
    for image in w.records["image"].values():
        known = {*w.records["layer"], *(layer for kind, layer, _ in w.damaged if kind == "layer")}
        missing = [layer for layer in image["layers"] if layer not in known]
        where = compare.show(image)
        if missing:
            yield Problem(
                "image-incomplete", where,
                f"{len(missing)} of its layers are unknown: pull or load it again",
                functools.partial(_restore_image, e, image["id"]),
            )  # fmt: skip
        folder = images.folder_of(e, image["id"])
        if not os.path.exists(f"{folder}/config.json"):
            yield Problem("image-incomplete", where,
                          "its configuration is gone: pull or load it again")  # fmt: skip
        elif not os.path.exists(f"{folder}/record.json"):
            yield Problem("copy-missing", where, "the copy of its record is gone",
                          functools.partial(images.save, e, image))  # fmt: skip
    removed = {entry["id"] for entry in w.trash}
    for name in os.listdir(e.images_folder):
        if len(name) != 64 or name in w.records["image"] or name in removed:
            continue
        if not w.is_damaged("image", name) and not w.is_busy(name):
            yield Problem("image-leftover", f"image {name[:12]}", "its documents have no record",
                          functools.partial(_settle_documents, e, name))  # fmt: skip


def _restore_image(e: Engine, image_id: str) -> None:
    with e.lock_images():
        try:
            record, made = restore.make_image(e, image_id)
        except RecordError:
            return
        rebuild.save_image(e, record, made)


def _settle_documents(e: Engine, image_id: str) -> None:
    """Complete an image whose layers are all here; else remove what is left of it."""
    with e.lock_images():
        if e.records.find("image", image_id) is not None:
            return
        try:
            record, made = restore.make_image(e, image_id)
        except RecordError:
            if not rebuild.bury_image(e, image_id, []):
                images.forget_documents(e, image_id)
            return
        rebuild.save_image(e, record, made)


# -- containers ------------------------------------------------------------------------------------


def _find_volumes_gone(e: Engine, w: World) -> Iterator[Problem]:
    for record in w.records["container"].values():
        for item in record["config"].get("mounts", ()):
            volume = item.get("volume")
            if not volume or volume in w.records["volume"] or w.is_damaged("volume", volume):
                continue
            if not w.is_busy(record["id"], volume):
                yield Problem(
                    "volume-gone", f"{compare.show(record)}, {item['destination']}",
                    f"the volume {item['source']} it needs there was removed or lost",
                )  # fmt: skip


def _find_states(e: Engine, w: World) -> Iterator[Problem]:
    """Containers whose record says they run and whose processes are gone."""
    from strata.linux.process import is_alive

    for record in w.records["container"].values():
        state = record["state"]
        if state.get("status") not in lifecycle.LIVE:
            continue
        if lifecycle.is_alive(state):
            if runtime.is_waiting(life.get_runtime(e, record), record["id"]):
                yield Problem(
                    "start-unfinished", compare.show(record), "its process was never let run",
                    functools.partial(life.ensure_started, e, record),
                )  # fmt: skip
            continue
        if is_alive(state.get("conmon_pid") or 0, state.get("conmon_start") or 0):
            continue  # it is just about to be settled
        if not e.is_container_locked(record["id"]):
            yield Problem(
                "state-stale", compare.show(record), "it was running and nobody saw it end",
                functools.partial(
                    life.cleanup, e, record["id"], remove=bool(record["config"]["remove"])
                ),
            )  # fmt: skip


def _find_copies(e: Engine, w: World) -> Iterator[Problem]:
    """Containers whose dataset does not carry the copy of the record that `rebuild` needs."""
    for record in w.records["container"].values():
        dataset = w.datasets["container"].get(record["dataset"])
        if dataset is None or record["config"].get("remove") or w.is_busy(record["id"]):
            continue
        if not restore.is_ours(dataset, "container"):
            continue  # one put there by hand, which identity will never vouch for
        live = lifecycle.derive(record) in lifecycle.LIVE
        copy = restore.read_copy(e, dataset, "container")
        if copy is None:
            yield Problem(
                "copy-missing", compare.show(record),
                "the copy of its record in its dataset is gone or another's",
                functools.partial(_write_copy, e, record["id"]),
            )  # fmt: skip
        if not live:
            e.driver.close(dataset.name)


def _find_limits(e: Engine, w: World) -> Iterator[Problem]:
    """Limits and reservations that somebody took away or changed by hand."""
    from strata.engine import limits

    for kind in ("container", "volume"):
        for record in w.records[kind].values():
            wanted = limits.get_wanted(record)
            if (
                not wanted
                or is_owned(record, record)
                or w.find_dataset(record["dataset"]) is None
                or w.is_busy(record["id"])
            ):
                continue
            there = limits.read(e, record["dataset"])
            for name, value in wanted.items():
                if limits.is_same(int(value), int(there.get(name, 0))):
                    continue
                base = record.get("size_base") or 0 if name == "refquota" else 0
                now = "not set any more"
                if name in there:
                    now = f"{limits.show_bytes(int(there[name]) - base)} now"
                yield Problem(
                    "limit-lost", compare.show(record),
                    f"its {limits.get_word(record, name)} of "
                    f"{limits.show_bytes(int(value) - base)} is {now}",
                    functools.partial(_restore_limits, e, record),
                )  # fmt: skip


def _restore_limits(e: Engine, record: Record) -> None:
    from strata.engine import limits

    with e.lock_object(record):
        limits.settle(e, record["kind"], record["id"])


def _write_copy(e: Engine, container_id: str) -> None:
    record = e.records.get("container", container_id)
    with e.hold(record) as fresh:
        # What lies there may be anything; only a directory of ours may hold the copy.
        folder = f"{e.driver.open(fresh['dataset'])}/{PRIVATE}"
        if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
            os.unlink(folder)
        if os.path.isdir(f"{folder}/record.json"):
            remove_path(f"{folder}/record.json")
        targets.save(e, fresh)


def _find_runtime(e: Engine, w: World) -> Iterator[Problem]:
    """What runtimes and bundles remember of containers that do not run."""
    # What has no readable record now may run; it gets its record back first.
    unsure = {container_id for kind, container_id, _ in w.damaged if kind == "container"}
    unsure |= {d.identity.get("id", "") for d in w.datasets["container"].values()
               if d.name not in w.claimed}  # fmt: skip
    for name in _RUNTIMES:
        folder = f"{e.paths.runroot}/{name}"
        for container_id in os.listdir(folder) if os.path.isdir(folder) else ():
            record = w.records["container"].get(container_id)
            if record is not None and record["state"].get("status") in lifecycle.LIVE:
                continue
            if len(container_id) != 64 or container_id in unsure or w.is_busy(container_id):
                continue
            if e.is_container_locked(container_id):
                continue
            where = compare.show(record) if record else f"container {container_id[:12]}"
            yield Problem(
                "runtime-stale", where, f"{name} still knows it although it does not run",
                functools.partial(_release, e, name, container_id),
            )  # fmt: skip
    known = {container_id[:SHORT_ID] for container_id in w.records["container"]}
    known |= {container_id[:SHORT_ID] for container_id in unsure}
    known |= {word[:SHORT_ID] for word in w.busy}
    for short in os.listdir(e.paths.bundles):
        if short not in known:
            yield Problem("bundle-stale", f"{e.paths.bundles}/{short}", "its container is gone",
                          functools.partial(_remove_bundle, e, short))  # fmt: skip


def _release(e: Engine, name: str, container_id: str) -> None:
    with e.lock_container(container_id):
        record = e.records.find("container", container_id)
        if record is not None and record["state"]["status"] in lifecycle.LIVE:
            return
        runtime.delete(runtime.get_runtime(name, e.paths.runroot), container_id, force=True)


def _remove_bundle(e: Engine, short: str) -> None:
    path = f"{e.paths.bundles}/{short}"
    for entry in reversed(mount.list_mounts()):
        if entry.target.startswith(f"{path}/"):
            mount.unmount(entry.target, lazy=True)
    remove_path(path)


# -- mountpoints and leftovers ---------------------------------------------------------------------


def _find_mountpoints(e: Engine, w: World) -> Iterator[Problem]:
    """Mountpoints of volumes that are gone, or that show something else."""
    by_name = {record["name"]: record for record in w.records["volume"].values()}
    # A volume whose record is lost or damaged gets it back and keeps its mountpoint.
    lost = {
        d.identity.get("name") for d in w.datasets["volume"].values()
        if d.name not in w.claimed or w.is_damaged("volume", d.identity.get("id", ""))
    }  # fmt: skip
    for name in os.listdir(e.paths.volumes) if os.path.isdir(e.paths.volumes) else ():
        record = by_name.get(name)
        target = e.paths.volume_mountpoint(name)
        if record is None:
            if not w.is_busy(name) and name not in lost:
                yield Problem("mountpoint-stale", target, "there is no such volume",
                              functools.partial(_remove_mountpoint, e, name))  # fmt: skip
        elif mount.find_mount(target) is not None and not _shows(e, record, target):
            yield Problem(
                "mountpoint-stale", target, "another dataset than the volume's is mounted there",
                functools.partial(ensure_mounted, e, record),
            )  # fmt: skip


def _shows(e: Engine, record: Record, target: str) -> bool:
    """Whether what is mounted is the volume's head; yes when the head is gone, said elsewhere."""
    try:
        there, wanted = os.stat(target), os.stat(e.driver.open(record["dataset"]))
    except (OSError, StrataError):
        return True
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)


def _remove_mountpoint(e: Engine, name: str) -> None:
    e.unmount_volume(name)
    e.remove_mountpoint(name)


def _find_leftovers(e: Engine, w: World) -> Iterator[Problem]:
    """Temporary files whose writers are gone."""
    folders = [e.paths.runroot, *(path for path, _, _ in os.walk(e.records.folder))]
    folders += [f"{e.images_folder}/{image_id}" for image_id in w.records["image"]]
    folders += [f"{e.images_folder}/networks", f"{e.images_folder}/volumes", e.paths.bundles]
    folders += [f"{e.paths.bundles}/{short}" for short in os.listdir(e.paths.bundles)]
    found: list[str] = []
    for folder in folders:
        if os.path.isdir(folder):
            found += files.list_leftovers(folder)
    for path in found:
        yield Problem(
            "leftover", path, "a killed command left it", functools.partial(remove_file, path)
        )


def _leftover(path: str) -> Problem:
    fix = functools.partial(remove_file, path)
    return Problem("leftover", path, "a killed command left it", fix)


def _tidy(e: Engine, w: World) -> list[Problem]:
    """Collect what nothing needs and finish what is only unfinished, which is no problem."""
    found = [_leftover(path) for path in e.driver.collect()]
    there = [name for name in w.claimed if layout.is_outside(name) and name not in w.away]
    for parent in sorted({name.rpartition("/")[0] for name in there}):
        found += [_leftover(path) for path in e.driver.outside.collect(f"{parent}/_")]
    for entry in e.trash.list_entries():
        if any(not dataset.startswith(("trash/", "/")) for dataset in entry["datasets"]):
            e.move_to_trash(entry)
    collect.collect(e)
    collect.remove_old_downloads(e)
    remove_file(f"{e.paths.root}/store.json.new")
    return found
