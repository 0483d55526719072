"""Files inside an image archive, whatever it is: a tar, a compressed tar, a directory.

A bundle answers `find` with a `Member`: a range of an open file. A tar is indexed once and its
bodies are read in place; a compressed one, or one that comes through a pipe, is spooled to an
unnamed file first. Members that are links are followed inside the bundle only: old ``docker
save`` writes layers as ``../ID/layer.tar``. Nothing here is ever unpacked to a named file.
"""

from __future__ import annotations

import os
import stat

from strata.archive import tar
from strata.archive.inflate import detect, inflate
from strata.errors import ArchiveError, NoSpace, NotFound
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 20
_ENTRIES = 200_000
_LINKS = 8
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

UNKNOWN = "payload does not match any of the supported image formats"
UNKNOWN_HINT = "docker-archive and oci-archive files and OCI layout directories can be loaded"


class Member:
    """A range of an open file: ``size`` bytes at ``offset``. Reading is safe in threads."""

    __slots__ = ("fd", "name", "offset", "size")

    def __init__(self, name: str, fd: int, offset: int, size: int) -> None:
        self.name = name
        self.fd = fd
        self.offset = offset
        self.size = size

    def read(self, limit: int) -> bytes:
        """All of it; `ArchiveError` when it is larger than ``limit`` bytes."""
        if self.size > limit:
            raise ArchiveError(
                f"{self.name!a} in the archive is larger than {limit} bytes",
                hint="such an image cannot be used; ask its maker",
            )
        return b"".join(self.pieces())

    def head(self) -> bytes:
        """The first bytes, enough to detect a compression."""
        return os.pread(self.fd, min(self.size, 8), self.offset)

    def pieces(self) -> Iterator[bytes]:
        """The content piece by piece."""
        position, end = self.offset, self.offset + self.size
        while position < end:
            data = os.pread(self.fd, min(_PIECE, end - position), position)
            if not data:
                raise ArchiveError(f"the archive is truncated in {self.name!a}")
            position += len(data)
            yield data


class Bundle:
    """Members by name; ``close`` ends the use of all of them."""

    def find(self, name: str) -> Member | None:
        """The regular file ``name``, links followed inside; None when absent."""
        raise NotImplementedError

    def get(self, name: str) -> Member:
        """Like `find`; `ArchiveError` when absent."""
        member = self.find(name)
        if member is None:
            raise ArchiveError(
                f"the archive names {name[:200]!a} but does not hold it",
                hint="the archive is incomplete; save it again",
            )
        return member

    def close(self) -> None:
        """Close what is open. Idempotent."""
        raise NotImplementedError


def _normalise(name: str) -> str:
    """A name relative to the bundle; `ArchiveError` when it leads out of it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise ArchiveError(
                    f"{name[:200]!a} leads out of the archive",
                    hint="the archive is malicious or damaged; nothing of it was kept",
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class TarBundle(Bundle):
    """The members of an uncompressed tar in a seekable file, which it owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> None:
        end = os.fstat(self._fd).st_size
        position = 0

        def readinto(view: memoryview) -> int:
            nonlocal position
            count = os.preadv(self._fd, (view,), position)
            position += count
            return count

        def seek(count: int) -> None:
            nonlocal position
            position += count

        reader = tar.Reader(
            readinto, tar.Limits(entries=_ENTRIES, size=1 << 44), seek=seek, capacity=1 << 15
        )
        while (header := reader.next()) is not None:
            name = _normalise(os.fsdecode(header.name))
            if header.type in (tar.SYMLINK, tar.HARDLINK):
                target = os.fsdecode(header.linkname)
                folder = name.rpartition("/")[0]
                if header.type == tar.SYMLINK and folder and not target.startswith("/"):
                    target = f"{folder}/{target}"
                self._add(name)
                # Leading out is told when such a member is asked for, not before: it may be unused.
                self._links[name] = target
            elif header.type in (tar.REGULAR, tar.CONTIGUOUS) and header.sparse is None:
                if reader.total + header.size > end:
                    raise ArchiveError("the archive is truncated")
                self._add(name)
                self._members[name] = Member(name, self._fd, reader.total, header.size)
            reader.skip()

    def _add(self, name: str) -> None:
        if name in self._members or name in self._links:
            raise ArchiveError(
                f"the archive holds {name[:200]!a} twice",
                hint="refused because readers disagree about which one counts",
            )

    def find(self, name: str) -> Member | None:
        name = _normalise(name)
        for _ in range(_LINKS):
            target = self._links.get(name)
            if target is None:
                return self._members.get(name)
            if target.startswith("/"):
                raise ArchiveError(
                    f"{name[:200]!a} in the archive is a link to {target[:200]!a}",
                    hint="links out of an archive are not followed",
                )
            name = _normalise(target)
        raise ArchiveError(f"{name[:200]!a} in the archive is a link to itself")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DirectoryBundle(Bundle):
    """The files of a directory; symbolic links in it are not followed."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, Member] = {}

    def find(self, name: str) -> Member | None:
        name = _normalise(name)
        known = self._open.get(name)
        if known is not None or not name:
            return known
        above = os.dup(self._root)
        try:
            *folders, base = name.split("/")
            for folder in folders:
                below = os.open(folder, _DIRECTORY, dir_fd=above)
                os.close(above)
                above = below
            fd = os.open(base, _FILE, dir_fd=above)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArchiveError(f"cannot open {name[:200]!a}: {error.strerror}") from None
        finally:
            os.close(above)
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            return None
        member = Member(name, fd, 0, info.st_size)
        self._open[name] = member
        return member

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
            for member in self._open.values():
                os.close(member.fd)
            self._open.clear()


def open_bundle(source: str | int, spool: str) -> Bundle:
    """Open a path, or a descriptor (which stays open), as a bundle.

    What cannot be read in place is copied to an unnamed file in the directory ``spool``.
    Raises `NotFound`, `ArchiveError`, `NoSpace`.
    """
    if isinstance(source, str):
        try:
            if os.path.isdir(source):
                return DirectoryBundle(source)
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"open {source}: {(error.strerror or '').lower()}") from None
    else:
        fd = os.dup(source)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            fd = _swap(fd, _spool(_read(fd), spool))
        if detect(os.pread(fd, 8, 0)):
            fd = _swap(fd, _spool(inflate(fd), spool))
    except BaseException:
        os.close(fd)
        raise
    try:
        return TarBundle(fd)
    except ArchiveError as error:
        if "checksum" in error.message or "not a number" in error.message:
            raise ArchiveError(UNKNOWN, hint=UNKNOWN_HINT) from None
        raise


def _swap(old: int, new: int) -> int:
    os.close(old)
    return new


def _read(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _PIECE):
        yield data


def unnamed_file(folder: str) -> int:
    """A new file without a name in ``folder``: it vanishes with its descriptor."""
    return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _spool(pieces: Iterator[bytes], folder: str) -> int:
    import errno

    limit = tar.Limits().size
    total = 0
    fd = unnamed_file(folder)
    try:
        for piece in pieces:
            total += len(piece)
            if total > limit:
                raise ArchiveError(
                    f"the archive unpacks to more than {limit} bytes",
                    hint="it may be a decompression bomb",
                )
            write_all(fd, piece)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left in {folder} to read the archive") from None
        raise ArchiveError(f"cannot read the archive: {error.strerror}") from None
    except BaseException:
        os.close(fd)
        raise
    return fd
