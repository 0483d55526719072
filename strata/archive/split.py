"""What is kept beside a layer's files so that its tar can be rebuilt byte for byte.

``.strata/tar-split.zst`` is one zstd frame (``zstd -dc`` reads it). Inside, version 1::

    "strata-tar-split 1\\n"
    record*                   u32 raw size, u32 path size, u64 body size (little endian),
                              the raw bytes, then the path
    end                       u32 0xFFFFFFFF, u32 0, u64 size of the tar, u64 number of entries

A record means: the raw bytes (headers, padding), then the body. A body size of 0 means raw bytes
only, so bodies are numbered by the records which have one, from 0. ``path`` is relative to
``rootfs``, with every symbolic link on the way already resolved: reading follows none.

``.strata/bodies`` exists only if some body is not the content of the file at its path: the path
came again later in the layer, the entry is a whiteout or belongs to one, or the body is in a
sparse format. Version 1::

    "strata-bodies 1\\n"
    (u64 number of the body, u64 size, the bytes)*

A body found there is taken from there. Other versions are refused with `RecordError`.
"""

from __future__ import annotations

import os
import struct

from strata.errors import ArchiveError, RecordError
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGIC = b"strata-tar-split 1\n"
BODIES_MAGIC = b"strata-bodies 1\n"
SPLIT_NAME = "tar-split.zst"
BODIES_NAME = "bodies"

_RECORD = struct.Struct("<IIQ")
_END = struct.Struct("<IIQQ")
_BODY = struct.Struct("<QQ")
_END_MARK = 0xFFFFFFFF
_FLUSH = 1 << 17
_LEVEL = 3
_RAW_LIMIT = 8 << 20


class Writer:
    """Writes the stream of records, uncompressed, to ``sink``."""

    __slots__ = ("_out", "_out_size", "_raw", "_raw_size", "_sink", "bodies")

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._out: list[bytes] = [MAGIC]
        self._out_size = 0
        self.bodies = 0

    def raw(self, data: bytes) -> None:
        """Bytes of the tar which are not a body."""
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size > _FLUSH:
            self._record(0, b"")

    def body(self, size: int, path: bytes) -> int:
        """A body of ``size`` > 0 bytes found at ``path``; returns its number."""
        number = self.bodies
        self.bodies = number + 1
        self._record(size, path)
        return number

    def _record(self, size: int, path: bytes) -> None:
        self._out.append(_RECORD.pack(self._raw_size, len(path), size))
        self._out += self._raw
        self._out.append(path)
        self._out_size += self._raw_size + len(path) + _RECORD.size
        self._raw.clear()
        self._raw_size = 0
        if self._out_size > _FLUSH:
            self._flush()

    def _flush(self) -> None:
        self._sink(b"".join(self._out))
        self._out.clear()
        self._out_size = 0

    def end(self, size: int, entries: int) -> None:
        """The tar had ``size`` bytes and ``entries`` entries."""
        if self._raw:
            self._record(0, b"")
        self._out.append(_END.pack(_END_MARK, 0, size, entries))
        self._flush()


class Spill:
    """Writes ``bodies``: ``begin`` announces the number and size, ``write`` gives the bytes."""

    __slots__ = ("_fd", "_started", "offset")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._started = False
        #: where the next byte goes
        self.offset = 0

    def begin(self, number: int, size: int) -> None:
        if not self._started:
            self._started = True
            self.write(BODIES_MAGIC)
        self.write(_BODY.pack(number, size))

    def write(self, data: bytes | memoryview) -> None:
        write_all(self._fd, data)
        self.offset += len(data)


class SplitFile:
    """The two files in ``.strata`` while they are made: `write` takes the output of a `Writer`.

    Starting removes what a parent's clone brought along. Leaving the ``with`` block before
    `finish` leaves neither file.
    """

    __slots__ = ("_bodies", "_compressor", "_fd", "_finished", "_path", "bodies_fd")

    def __init__(self, tree: str) -> None:
        import zstandard

        metadata = f"{tree}/.strata"
        os.makedirs(metadata, 0o700, exist_ok=True)
        self._path = f"{metadata}/{SPLIT_NAME}"
        self._bodies = f"{metadata}/{BODIES_NAME}"
        self._finished = False
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self._remove()
        flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(f"{self._path}.partial", flags | os.O_WRONLY, 0o600)
        try:
            #: for a `Spill`; read-write
            self.bodies_fd = os.open(self._bodies, flags | os.O_RDWR, 0o600)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> SplitFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        os.close(self.bodies_fd)
        if not self._finished:
            self._remove()

    def _remove(self) -> None:
        for path in (self._path, f"{self._path}.partial", self._bodies):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def write(self, data: bytes) -> None:
        write_all(self._fd, self._compressor.compress(data))

    def finish(self) -> None:
        """Everything was written: let the files appear."""
        write_all(self._fd, self._compressor.flush())
        if not os.fstat(self.bodies_fd).st_size:
            os.unlink(self._bodies)
        os.rename(f"{self._path}.partial", self._path)
        self._finished = True


class Record:
    """One record of a split: ``number`` is -1 when there is no body."""

    __slots__ = ("number", "path", "raw", "size")

    def __init__(self, raw: bytes, path: bytes, size: int, number: int) -> None:
        self.raw = raw
        self.path = path
        self.size = size
        self.number = number


def read_records(fd: int) -> Iterator[Record]:
    """The records of an open ``tar-split.zst``.

    Raises `ArchiveError` for a damaged file, `RecordError` for another version.
    """
    import zstandard

    with open(fd, "rb", closefd=False, buffering=0) as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_size=1 << 17)
        buffer = b""
        position = 0

        def take(count: int) -> bytes:
            nonlocal buffer, position
            if len(buffer) - position < count:
                parts, have = [buffer[position:]], len(buffer) - position
                while have < count:
                    try:
                        more = stream.read(max(1 << 18, count - have))
                    except zstandard.ZstdError as error:
                        raise _damaged(str(error)) from None
                    if not more:
                        raise _damaged("it ends early")
                    parts.append(more)
                    have += len(more)
                buffer, position = b"".join(parts), 0
            start = position
            position = start + count
            return buffer[start:position]

        magic = take(len(MAGIC))
        if magic != MAGIC:
            if magic.startswith(b"strata-tar-split "):
                raise RecordError(
                    "the layer was stored by a newer version",
                    hint="update strata on this host",
                )
            raise _damaged("unknown format")
        number = total = 0
        while True:
            raw_size, path_size, size = _RECORD.unpack(take(_RECORD.size))
            if raw_size == _END_MARK:
                take(8)
                if size != total:
                    raise _damaged("its size does not add up")
                return
            if raw_size > _RAW_LIMIT or path_size > 65536:
                raise _damaged("a record is too large")
            raw = take(raw_size)
            path = take(path_size)
            total += raw_size + size
            if size:
                yield Record(raw, path, size, number)
                number += 1
            else:
                yield Record(raw, path, 0, -1)


def read_bodies(fd: int) -> dict[int, tuple[int, int]]:
    """The index of an open ``bodies``: number of the body to its offset and size."""
    end = os.fstat(fd).st_size
    if os.pread(fd, len(BODIES_MAGIC), 0) != BODIES_MAGIC:
        raise _damaged("unknown format of bodies")
    index = {}
    position = len(BODIES_MAGIC)
    while position < end:
        head = os.pread(fd, _BODY.size, position)
        if len(head) < _BODY.size:
            raise _damaged("its bodies end early")
        number, size = _BODY.unpack(head)
        position += _BODY.size
        if size > end - position:
            raise _damaged("its bodies end early")
        index[number] = (position, size)
        position += size
    return index


def _damaged(why: str) -> ArchiveError:
    return ArchiveError(
        f"the layer's tar metadata is damaged: {why}",
        hint="`strata system check` names affected images; pull them again",
    )
