"""Reading the past: files of a snapshot are looked at, copied and compared where they lie.

A *view* makes the files of ``TARGET@NAME`` reachable, read-only, for as long as somebody reads
them: of a volume its root, of a container its root file system without its volumes. Nothing is
cloned where the driver can show a snapshot; where it cannot, the journal answers for the clone.
"""

from __future__ import annotations

import os
import stat

from strata import trace
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.history import facts, targets
from strata.errors import NotFound, StrataError, UsageError
from strata.linux import mount
from strata.linux.resolve import open_in_root
from strata.storage.driver import DatasetNotFound
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.archive.diff import Change
    from strata.store.journal import Operation

#: where `show` mounts views, below the state directory
FOLDER = "past"


class View:
    """The files of a target at a moment: ``path`` on the host, valid inside the ``with`` block.

    ``name`` "" means now: then a snapshot is taken for it, and goes with the view. ``settled`` is
    a time (ns) before which nothing was written after the moment.
    """

    __slots__ = ("_e", "_operation", "_source", "name", "path", "record", "settled")

    def __init__(self, e: Engine, spec: str) -> None:
        target, at, name = spec.rpartition("@")
        self._e = e
        self.record = facts.reconcile(e, targets.get_target(e, target if at else spec))
        self.name = name if at else ""
        self.path = ""
        self.settled = 0
        self._operation: Operation | None = None
        self._source = f"{self.record['dataset']}@{targets.COMMIT_PREFIX}{new_id(16)}"
        if at:
            self._source = targets.get_source(e, self.record, name)

    def __enter__(self) -> View:
        e = self._e
        if not self.name:
            self._operation = e.begin("view", ["unsnapshot", self._source])
        elif not e.driver.facts.shows_snapshots:
            self._operation = e.begin("view", ["unview", self._source])
        try:
            if not self.name:
                e.driver.snapshot([self._source])
                trace.point("view:frozen")
            path = e.driver.open(self._source)
            trace.point("view:opened")
            self.settled = e.driver.get(self._source).creation * 1_000_000_000
        except BaseException:
            if self._operation is not None:
                self._operation.fail()
            raise
        self.path = f"{path}/{ROOTFS}" if self.record["kind"] == "container" else path
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._e.driver.close(self._source)
        except (StrataError, OSError):
            pass  # another command reads it too, and closes it
        if not self.name:
            try:
                self._e.driver.destroy(self._source)
            except DatasetNotFound:
                pass
        if self._operation is not None:
            self._operation.complete()


def split_path(text: str) -> tuple[str, str] | None:
    """``TARGET@NAME:PATH`` as spec and path; None when it is no such thing.

    NAME may hold colons, as sanoid's do: PATH begins after the last one before the first slash.
    """
    target, at, rest = text.partition("@")
    kind, colon, _ = target.partition(":")
    if not at or "/" in target or (colon and kind not in targets.KINDS):
        return None
    before, slash, after = rest.partition("/")
    name, colon, path = before.rpartition(":")
    spec, path = f"{target}@{name}", f"{path}{slash}{after}"
    if not colon or "@" not in spec or "/" in spec or spec.startswith("."):
        return None
    return spec, path or "/"


# -- listing ---------------------------------------------------------------------------------------


def list_files(e: Engine, text: str) -> list[Record]:
    """The files in a directory of ``TARGET[@NAME][:PATH]``, by name; a file is listed alone."""
    if "/" not in text and ":" in text and _is_snapshot(e, text):
        spec, path = text, "/"
    else:
        spec, path = split_path(text) or _split_now(text)
    with View(e, spec) as view:
        try:
            fd = open_in_root(view.path, path, os.O_PATH | os.O_NOFOLLOW)
            try:
                info = os.fstat(fd)
            finally:
                os.close(fd)
            if not stat.S_ISDIR(info.st_mode):
                parent, name = os.path.split(os.path.normpath(path))
                folder = open_in_root(view.path, parent, os.O_RDONLY | os.O_DIRECTORY)
                names = [name]
            else:
                folder = open_in_root(view.path, path, os.O_RDONLY | os.O_DIRECTORY)
                names = sorted(os.listdir(folder))
        except OSError as error:
            raise NotFound(f"{text}: {(error.strerror or '').lower()}") from None
        try:
            return [_describe(folder, name) for name in names]
        finally:
            os.close(folder)


def _is_snapshot(e: Engine, text: str) -> bool:
    """Whether the whole text is TARGET@NAME; a NAME may hold colons."""
    target, at, name = text.rpartition("@")
    if not at:
        return False
    try:
        return targets.find_snapshot(e, targets.get_target(e, target), name) is not None
    except StrataError:
        return False


def _split_now(text: str) -> tuple[str, str]:
    spec, colon, path = text.partition(":")
    if colon and spec in targets.KINDS:
        name, _, path = path.partition(":")
        spec = f"{spec}:{name}"
    return spec, path or "/"


def _describe(folder: int, name: str) -> Record:
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    link = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(info.st_mode) else ""
    return {
        "Mode": stat.filemode(info.st_mode), "Links": info.st_nlink, "Uid": info.st_uid,
        "Gid": info.st_gid, "Size": info.st_size, "Modified": info.st_mtime, "Name": name,
        "Target": link,
    }  # fmt: skip


# -- comparing -------------------------------------------------------------------------------------


def compare(e: Engine, old: str, new: str = "") -> list[Change]:
    """What changed from ``TARGET@OLD`` to another moment, or to now; sorted by path."""
    from strata.archive.diff import compare_trees

    if not new:
        new = old.rpartition("@")[0]
    with View(e, old) as before, View(e, new) as after:
        return compare_trees(after.path, before.path, min(before.settled, after.settled))


# -- mounting --------------------------------------------------------------------------------------


def show(e: Engine, spec: str) -> str:
    """Mount ``TARGET@NAME`` read-only and return where. Idempotent."""
    target, name = targets.split(spec)
    record = facts.reconcile(e, targets.get_target(e, target))
    source = targets.get_source(e, record, name)
    path = _place(e, record, name)
    if mount.find_mount(path) is not None:
        return path
    os.makedirs(path, 0o700, exist_ok=True)
    if e.driver.facts.shows_snapshots:
        _bind(e, record, source, path)
    else:
        with e.begin("mount", ["unview", source]):
            _bind(e, record, source, path)
    return path


def _bind(e: Engine, record: Record, source: str, path: str) -> None:
    opened = e.driver.open(source)
    trace.point("mount:opened")
    if record["kind"] == "container":
        opened = f"{opened}/{ROOTFS}"
    flags = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
    mount.bind(opened, path, add=flags)


def hide(e: Engine, spec: str) -> str:
    """Undo `show`; returns where it was. `NotFound` when it is not mounted."""
    target, name = targets.split(spec)
    record = targets.get_target(e, target)
    path = _place(e, record, name)
    if mount.find_mount(path) is None:
        raise NotFound(f"{spec} is not mounted", hint="`strata mount` lists what is")
    mount.unmount(path, lazy=True)
    try:
        e.driver.close(targets.get_source(e, record, name))
        os.rmdir(path)
    except (StrataError, OSError):
        pass  # somebody still has files of it open; it ends with them
    return path


def list_shown(e: Engine) -> list[Record]:
    """What `show` has mounted: ``Spec`` and ``Path``."""
    prefix = f"{e.paths.root}/{FOLDER}/"
    found = []
    for entry in mount.list_mounts():
        if entry.target.startswith(prefix):
            kind, _, spec = entry.target.removeprefix(prefix).partition("~")
            found.append({"Spec": spec, "Kind": kind, "Path": entry.target})
    return found


def _place(e: Engine, record: Record, name: str) -> str:
    if "/" in name:
        raise UsageError(f"invalid snapshot name {name!r}")
    return f"{e.paths.root}/{FOLDER}/{record['kind']}~{record['name']}@{name}"
