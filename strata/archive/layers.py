"""Layers as trees on disk and as tar streams: rebuild one, verify one.

The files of a layer and its split (see `strata.archive.split`) give back the uncompressed tar,
byte for byte. Files are opened below ``rootfs`` without following any symbolic link.
"""

from __future__ import annotations

import os
import stat

from strata.archive.diff import Diff, write_diff
from strata.archive.split import BODIES_NAME, SPLIT_NAME, read_bodies, read_records
from strata.errors import ArchiveError, DigestMismatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Diff", "hash_uncompressed", "reassemble", "verify", "write_diff"]

_PIECE = 1 << 18
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED_DIRECTORIES = 128


class _Files:
    """Opens files below a root, component by component, following nothing."""

    __slots__ = ("_directories", "_root")

    def __init__(self, root: str) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._directories: dict[bytes, int] = {}

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        for fd in self._directories.values():
            os.close(fd)
        self._directories.clear()

    def _open_directory(self, path: bytes) -> int:
        fd = self._directories.get(path)
        if fd is not None:
            return fd
        if len(self._directories) >= _CACHED_DIRECTORIES:
            self._forget()
        parent, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(22, "bad path")
        above = self._open_directory(parent) if parent else self._root
        fd = os.open(name, _DIRECTORY, dir_fd=above)
        self._directories[path] = fd
        return fd

    def open(self, path: bytes) -> int:
        parent, _, name = path.rpartition(b"/")
        above = self._open_directory(parent) if parent else self._root
        return os.open(name, _FILE, dir_fd=above)


def reassemble(tree: str) -> Iterator[bytes]:
    """The uncompressed tar of the layer in ``tree``, in pieces of up to about 256 KiB.

    Raises `ArchiveError` when files are missing, have another size, or the split is damaged;
    a changed byte shows only in the digest.
    """
    metadata = f"{tree}/.strata"
    split_fd = os.open(f"{metadata}/{SPLIT_NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    bodies_fd = -1
    files = None
    try:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            bodies_fd = os.open(f"{metadata}/{BODIES_NAME}", flags)
            bodies = read_bodies(bodies_fd)
        except FileNotFoundError:
            bodies = {}
        files = _Files(f"{tree}/rootfs")
        parts: list[bytes] = []
        pending = 0
        for record in read_records(split_fd):
            if record.raw:
                parts.append(record.raw)
                pending += len(record.raw)
            size = record.size
            if record.number >= 0:
                place = bodies.get(record.number) if bodies else None
                if place is not None:
                    offset, length = place
                    if length != size:
                        raise _changed(record.path)
                    source = _read_range(bodies_fd, offset, size, record.path)
                else:
                    source = _read_file(files, record.path, size)
                for data in source:
                    parts.append(data)
                    pending += len(data)
                    if pending >= _PIECE:
                        yield b"".join(parts)
                        parts.clear()
                        pending = 0
            elif pending >= _PIECE:
                yield b"".join(parts)
                parts.clear()
                pending = 0
        if parts:
            yield b"".join(parts)
    finally:
        os.close(split_fd)
        if bodies_fd >= 0:
            os.close(bodies_fd)
        if files is not None:
            files.close()


def _read_file(files: _Files, path: bytes, size: int) -> Iterator[bytes]:
    try:
        fd = files.open(path)
    except OSError:
        raise _changed(path) from None
    try:
        # One byte more than expected shows a file that grew, without asking for its size.
        if size < _PIECE:
            data = os.read(fd, size + 1)
            if len(data) != size:
                raise _changed(path)
            yield data
            return
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.fstat(fd).st_size != size:
            raise _changed(path)
        left = size
        while left:
            data = os.read(fd, min(left, _PIECE))
            if not data:
                raise _changed(path)
            left -= len(data)
            yield data
    except OSError as error:
        raise ArchiveError(f"cannot read a file of the layer: {error.strerror}") from None
    finally:
        os.close(fd)


def _read_range(fd: int, offset: int, size: int, path: bytes) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        data = os.pread(fd, min(end - offset, _PIECE), offset)
        if not data:
            raise _changed(path)
        offset += len(data)
        yield data


def _changed(path: bytes) -> ArchiveError:
    name = ascii(path[-200:].decode(errors="backslashreplace"))
    return ArchiveError(
        f"the layer was changed or damaged: {name} is not what was stored",
        hint="`strata system check` names affected images; pull them again",
    )


def verify(tree: str, diff_id: str) -> None:
    """Read the layer in ``tree`` back and compare with ``diff_id``; `DigestMismatch` if not equal.

    Really reads every file; hashing runs beside reading.
    """
    import hashlib

    from strata.archive.apply import Lane

    digest = hashlib.sha256()
    lane = Lane(digest.update)
    try:
        for piece in reassemble(tree):
            lane.put(piece)
    finally:
        lane.end()
    if lane.failure is not None:
        raise lane.failure
    actual = f"sha256:{digest.hexdigest()}"
    if actual != diff_id:
        raise DigestMismatch(
            f"layer diffID mismatch: expected {diff_id}, got {actual}",
            hint="the layer was changed or damaged on disk; pull its image again",
        )


def hash_uncompressed(path: str) -> str:
    """The diff_id of a plain or compressed tar, without looking at what is in it."""
    import hashlib

    from strata.archive.apply import Lane, Limits, guard
    from strata.archive.inflate import inflate

    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    lane = Lane(digest.update)
    try:
        for piece in guard(inflate(fd), os.fstat(fd).st_size, Limits()):
            lane.put(piece)
    finally:
        lane.end()
        os.close(fd)
    if lane.failure is not None:
        raise lane.failure
    return f"sha256:{digest.hexdigest()}"
