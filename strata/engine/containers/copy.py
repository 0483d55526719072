"""``cp``: files between a container and the host.

A container's paths are resolved as its own processes see them: in a running container through
its root in /proc, so volumes and memory file systems are there; in a stopped one through its
dataset and the volumes it would mount. Never by path strings, which a container could redirect:
see `strata.linux.resolve` and `strata.linux.tree`.
"""

from __future__ import annotations

import os
import stat

from strata.engine import limits, names
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.volumes.mounting import ensure_mounted
from strata.errors import NotFound, UsageError
from strata.linux.resolve import open_in_root
from strata.linux.tree import TreeCopy
from strata.store import lifecycle


class _Place:
    """One side of a copy: a root descriptor and a path below it."""

    __slots__ = ("container", "path", "root", "text")

    def __init__(self, root: int, path: str, container: Record | None, text: str) -> None:
        self.root = root
        self.path = path
        self.container = container
        self.text = text

    def open(self, path: str, flags: int) -> int:
        return open_in_root(self.root, path, flags)

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.root)


def split_argument(e: Engine, text: str) -> tuple[Record | None, str]:
    """``CONTAINER:PATH`` or a host path. A path with a colon needs a leading ``./`` or ``/``."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name or name.startswith(".") or not name:
        return None, text
    return names.get_container(e, name), path or "/"


def _open_place(e: Engine, container: Record | None, path: str, text: str) -> _Place:
    if container is None:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        absolute = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        return _Place(root, absolute, None, text)
    # With a user namespace of its own we are nobody in its mounts, and could make nothing.
    if lifecycle.derive(container) in lifecycle.LIVE and "uid_map" not in container["config"]:
        pid = container["state"]["pid"]
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
        return _Place(root, _from_workdir(container, path), container, text)
    return _open_stopped(e, container, _from_workdir(container, path), text)


def _from_workdir(container: Record, path: str) -> str:
    return path if path.startswith("/") else f"{container['config']['workdir']}/{path}"


def _open_stopped(e: Engine, container: Record, path: str, text: str) -> _Place:
    """The dataset, or the volume whose destination holds the path."""
    trailing = "/." if path.endswith("/.") else ("/" if path.endswith("/") else "")
    normal = os.path.normpath(path)
    best = _find_mount(container, normal)
    if best is None:
        base = f"{e.driver.open(container['dataset'])}/{ROOTFS}"
    elif best["type"] == "volume":
        base = ensure_mounted(e, e.records.get("volume", best["volume"]))
    else:
        base = best["source"]
    if best is not None and best["type"] == "image":
        raise UsageError(f"{best['destination']} is a mount of an image; copy from the image")
    if best is not None:
        rest = normal[len(os.path.normpath(best["destination"])) :]
        path = f"/{rest.lstrip('/')}{trailing}"
        if best.get("subpath"):
            return _Place(open_in_root(base, best["subpath"], os.O_PATH | os.O_DIRECTORY), path,
                          container, text)  # fmt: skip
    return _Place(os.open(base, os.O_PATH | os.O_DIRECTORY), path, container, text)


def _find_mount(container: Record, path: str) -> Record | None:
    """The mount of a container that holds a normal path; None when its own files do."""
    best: Record | None = None
    for item in container["config"]["mounts"]:
        if item["type"] in ("tmpfs", "ramfs", "devpts"):
            continue
        destination = os.path.normpath(item["destination"])
        inside = path == destination or path.startswith(f"{destination.rstrip('/')}/")
        if inside and (best is None or len(destination) > len(best["destination"])):
            best = item
    return best


def _find_written(e: Engine, container: Record | None, path: str) -> Record | None:
    """The container or volume that takes what is copied to a path; None when neither does."""
    if container is None:
        return None
    item = _find_mount(container, os.path.normpath(_from_workdir(container, path)))
    if item is None:
        return container
    return e.records.find("volume", item["volume"]) if item.get("volume") else None


def copy(
    e: Engine, source: str, destination: str, *, archive: bool = True, overwrite: bool = False,
    follow: bool = False, existing: bool = False,
) -> int:  # fmt: skip
    """Copy a file or tree; return how many names were copied.

    A source ending in ``/.`` means what is in the directory. Into a container, files belong to
    root there; out of it, to the caller; with ``archive`` false owners stay as they are. With
    ``existing`` the destination must be a directory that is there.
    """
    from strata.engine.history import reading

    if reading.split_path(destination) is not None:
        raise UsageError(f"{destination}: a snapshot never changes", hint="copy into the target")
    past = reading.split_path(source)
    from_container, from_path = split_argument(e, source) if past is None else (None, past[1])
    to_container, to_path = split_argument(e, destination)
    if past is None and from_container is None and to_container is None:
        raise UsageError("one of the two must be in a container", hint="write it as CONTAINER:PATH")

    def copy_from(origin: _Place) -> int:
        with origin, _open_place(e, to_container, to_path, destination) as target:
            owner = (0, 0) if to_container is not None else (os.geteuid(), os.getegid())
            work = TreeCopy(
                owner=owner if archive else None, overwrite=overwrite,
                harmless=to_container is None, empty=_find_kernel_views(origin),
            )  # fmt: skip
            if existing:
                _check_directory(target)
            with limits.Explained(e, _find_written(e, to_container, to_path)):
                count = _run(work, origin, target, follow)
            _warn_skipped(work)
            return count

    if past is not None:
        with reading.View(e, past[0]) as view:
            root = os.open(view.path, os.O_PATH | os.O_DIRECTORY)
            return copy_from(_Place(root, from_path, None, source))
    return copy_from(_open_place(e, from_container, from_path, source))


def _warn_skipped(work: TreeCopy) -> None:
    for name in work.skipped:
        os.write(2, f"WARN: {name} is a device or socket and was not copied\n".encode(
            errors="surrogateescape"))  # fmt: skip


def _check_directory(place: _Place) -> None:
    fd = _open_directory(place, place.path)
    if fd is None:
        raise UsageError(f"{place.text}: destination must be a directory when copying from stdin")
    os.close(fd)


def _find_kernel_views(place: _Place) -> frozenset[int]:
    """File systems in a running container that hold no files of its own."""
    if place.container is None:
        return frozenset()
    found = set()
    for path in ("/proc", "/sys", "/dev"):
        try:
            fd = place.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            continue
        found.add(os.fstat(fd).st_dev)
        os.close(fd)
    found.discard(os.fstat(place.root).st_dev)
    return frozenset(found)


def _run(work: TreeCopy, origin: _Place, target: _Place, follow: bool) -> int:
    contents = origin.path.endswith("/.") or os.path.normpath(origin.path) == "/"
    source_path = os.path.normpath(origin.path)
    wants_directory = contents or origin.path.endswith("/")
    follow = follow or wants_directory
    flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = origin.open(source_path, flags)
    except OSError as error:
        raise NotFound(f"{origin.text}: {_reason(error)}", hint="check the path") from None
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
    if wants_directory and not is_directory:
        raise UsageError(f"{origin.text} is not a directory")
    there = _open_directory(target, target.path)
    if there is None:
        parent, name = os.path.split(os.path.normpath(target.path))
        if target.path.endswith("/") and not is_directory:
            raise NotFound(f"{target.text}: the directory does not exist", hint="make it first")
        there = _open_directory(target, parent)
        if there is None:
            raise NotFound(f"{target.text}: the parent directory does not exist")
        if contents:
            os.mkdir(name, 0o755, dir_fd=there)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=there)
            os.close(there)
            there = inner
    else:
        name = os.path.basename(source_path)
    try:
        if contents:
            folder = origin.open(source_path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                work.copy_contents(folder, there)
            finally:
                os.close(folder)
        else:
            real = source_path if not follow else _follow(origin, source_path)
            parent, last = os.path.split(real)
            folder = origin.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                work.copy(folder, last, there, name)
            finally:
                os.close(folder)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(
            f"{target.text}: {error.strerror}: {error.filename}",
            hint="--overwrite replaces it",
        ) from None
    finally:
        os.close(there)
    return work.count


def _follow(place: _Place, path: str) -> str:
    """The path a final symbolic link leads to, inside the place's root."""
    for _ in range(40):
        parent, last = os.path.split(path)
        folder = place.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            link = os.readlink(last, dir_fd=folder)
        except OSError:
            return path
        finally:
            os.close(folder)
        path = os.path.normpath(link if link.startswith("/") else f"{parent}/{link}")
    raise UsageError(f"{place.text}: too many levels of symbolic links")


def _open_directory(place: _Place, path: str) -> int | None:
    try:
        return place.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or directory"
    return error.strerror or str(error)
