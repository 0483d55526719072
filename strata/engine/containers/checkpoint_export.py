"""An exported checkpoint: one archive that holds what a container needs to go on elsewhere.

The layout is Podman's: beside what lies in the checkpoint's folder (see `checkpoints`)
``rootfs-diff.tar`` has the files that differ from the image, ``deleted.files`` (a JSON list) those
that are gone, and ``volumes/NAME.tar`` the files of volumes. It holds all memory of the processes,
so only its owner may read it.
"""

from __future__ import annotations

import os

from strata import jsontext, trace
from strata.archive import tar
from strata.engine.containers import checkpoints
from strata.engine.core import Engine, Record
from strata.engine.history.targets import COMMIT_PREFIX
from strata.engine.images import layers
from strata.engine.spool import Spool
from strata.errors import NoSpace, UsageError
from strata.linux.write import write_all
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ROOTFS_DIFF, DELETED, VOLUMES = "rootfs-diff.tar", "deleted.files", "volumes"
_PIECE = 1 << 20
_GZIP_LEVEL, _GZIP_WINDOW, _ZSTD_LEVEL = 3, 31, 3


class Archive:
    """The file that a checkpoint is exported to; a context manager.

    It is opened before anything happens to the container, and has its name only when it is whole.
    """

    __slots__ = ("_compressor", "_fd", "_partial", "_path", "rootfs", "volumes")

    def __init__(self, path: str, compression: str, *, rootfs: bool, volumes: bool) -> None:
        #: whether files of the container, and of its volumes, go in
        self.rootfs = rootfs
        self.volumes = volumes
        self._path = path
        self._compressor = _make_compressor(compression)
        # A pipe or a device is written as it is.
        special = os.path.exists(path) and not os.path.isfile(path)
        folder, name = os.path.split(path)
        self._partial = "" if special else os.path.join(folder, f".{name}.{new_id(8)}.partial")
        flags = os.O_WRONLY | os.O_CLOEXEC | (0 if special else os.O_CREAT | os.O_EXCL)
        try:
            self._fd = os.open(self._partial or path, flags, 0o600)
        except OSError as error:
            raise UsageError(f"cannot write the archive {path}: {error.strerror}") from None

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._partial:
                os.unlink(self._partial)

    def write(self, data: bytes) -> None:
        """Append a piece of the tar."""
        self._append(data if self._compressor is None else self._compressor.compress(data))

    def add(self, name: str, path: str) -> None:
        """Append a regular file under a name; `finish` follows all."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            self.write(tar.emit(tar.Header(name.encode(), tar.REGULAR, 0o600, 0, 0, size, 0)))
            while data := os.read(fd, _PIECE):
                self.write(data)
            self.write(tar.padding(size))
        finally:
            os.close(fd)

    def add_link(self, name: str, target: str) -> None:
        """Append a symbolic link."""
        header = tar.Header(name.encode(), tar.SYMLINK, 0o777, 0, 0, 0, 0, target.encode())
        self.write(tar.emit(header))

    def finish(self) -> None:
        """End the archive and give it its name."""
        self.write(tar.END)
        if self._compressor is not None:
            self._append(self._compressor.flush())
        if self._partial:
            os.fsync(self._fd)
            os.rename(self._partial, self._path)
        os.close(self._fd)
        self._fd = -1

    def _append(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise NoSpace(
                f"cannot write the archive {self._path}: {error.strerror}",
                hint="the checkpoint is there: `strata container restore` lets the container go on",
            ) from None


def _make_compressor(kind: str) -> Any:
    """Something with ``compress`` and ``flush``; None for no compression."""
    if kind == "gzip":
        from isal import isal_zlib

        return isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    return None


def export(
    e: Engine, record: Record, archive: Archive, go_on: Callable[[], None]
) -> None:  # fmt: skip
    """Write a container's checkpoint, and the files that go with it. The caller has its lock.

    Files are taken as they are at one moment; then ``go_on`` is called, and a container that
    stood still for it may run.
    """
    folder = checkpoints.find_folder(e, record)
    with e.journal.begin("checkpoint-export") as operation, Spool(e, operation) as spool:
        moments: dict[str, str] = {}
        if archive.rootfs:
            moments[""] = f"{record['dataset']}@{COMMIT_PREFIX}{new_id(16)}"
        for item in record["config"]["mounts"] if archive.volumes else ():
            volume = e.records.find("volume", item["volume"]) if item.get("volume") else None
            if volume is not None:
                moments[item["source"]] = f"{volume['dataset']}@{COMMIT_PREFIX}{new_id(16)}"
        operation.plan(*(["unsnapshot", moment] for moment in moments.values()))
        e.driver.snapshot(list(moments.values()))
        trace.point("checkpoint-export:frozen")
        try:
            go_on()
            for name in (checkpoints.CONFIG, checkpoints.SPEC, checkpoints.NETWORKS):
                archive.add(name, f"{folder}/{name}")
            for part in (checkpoints.PREVIOUS, checkpoints.IMAGES):
                _add_images(archive, folder, part)
            for name, moment in moments.items():
                if name:
                    _add_volume(e, archive, name, moment, f"{spool}/volume.tar")
                else:
                    _add_rootfs(e, archive, record, moment, spool)
        finally:
            for moment in moments.values():
                e.driver.close(moment)
                e.driver.destroy(moment)
        archive.finish()


def _add_images(archive: Archive, folder: str, part: str) -> None:
    if not os.path.isdir(f"{folder}/{part}"):
        return
    for name in sorted(os.listdir(f"{folder}/{part}")):
        path = f"{folder}/{part}/{name}"
        if os.path.islink(path):
            archive.add_link(f"{part}/{name}", os.readlink(path))
        else:
            archive.add(f"{part}/{name}", path)


def _add_rootfs(e: Engine, archive: Archive, record: Record, moment: str, spool: str) -> None:
    from strata.archive.diff import export_diff

    base = layers.find_base(e, record["layer"] or None)
    below = e.driver.open(base["dataset"]) if base else None
    path = f"{spool}/{ROOTFS_DIFF}"
    gone: list[bytes] = []
    _spool(path, lambda write: gone.extend(export_diff(e.driver.open(moment), below, write)))
    if base:
        e.driver.close(base["dataset"])
    archive.add(ROOTFS_DIFF, path)
    if gone:
        text = jsontext.dumps([os.fsdecode(name) for name in gone])
        _spool(f"{spool}/{DELETED}", lambda write: write(text.encode()))
        archive.add(DELETED, f"{spool}/{DELETED}")


def _add_volume(e: Engine, archive: Archive, name: str, moment: str, path: str) -> None:
    from strata.archive.diff import export_tree

    _spool(path, lambda write: export_tree(e.driver.open(moment), write))
    archive.add(f"{VOLUMES}/{name}.tar", path)
    os.unlink(path)


def _spool(path: str, produce: Callable[[Callable[[bytes], object]], object]) -> None:
    """Write a part of the archive to a file first: its size stands before it."""
    with open(path, "xb") as file:
        produce(file.write)
