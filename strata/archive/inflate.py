"""Blobs as uncompressed streams: plain, gzip (many members), zstd (many frames), bzip2, xz.

What a blob is, is decided by its first bytes, never by its media type: registries and old
archives mislabel them. Output comes in pieces of bounded size whatever the input claims, so a
bomb meets its limit before it fills the memory. A truncated blob raises `ArchiveError`.
"""

from __future__ import annotations

import os
from typing import Any

from strata.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 1 << 18
_READ = 1 << 18
_ZSTD_WINDOW = 128 << 20  # what the zstd tool accepts without being asked


def detect(head: bytes) -> str:
    """The compression that the first (at least 6) bytes of a blob show, "" for none."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (
        len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    ):
        return "zstd"
    if head.startswith(b"BZh"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return ""


def inflate(fd: int) -> Iterator[bytes]:
    """The uncompressed content of an open, seekable file from its start, piece by piece."""
    kind = detect(os.pread(fd, 8, 0))
    if not kind:
        return _plain(fd)
    if kind == "zstd":
        _check_zstd(fd)
        return _zstd(fd)
    return _members(fd, kind)


def _plain(fd: int) -> Iterator[bytes]:
    position = 0
    while data := os.pread(fd, PIECE, position):
        position += len(data)
        yield data


def _opener(kind: str) -> tuple[Callable[[], Any], tuple[Any, ...]]:
    if kind == "gzip":
        from isal import igzip_lib

        return (
            lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
            (igzip_lib.IsalError, EOFError),
        )
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError, EOFError)
    import lzma

    return lambda: lzma.LZMADecompressor(memlimit=256 << 20), (lzma.LZMAError, EOFError)


def _members(fd: int, kind: str) -> Iterator[bytes]:
    opener, failures = _opener(kind)
    position = 0
    pending = b""
    try:
        while True:
            member = opener()
            while not member.eof:
                if member.needs_input:
                    if not pending:
                        pending = os.pread(fd, _READ, position)
                        position += len(pending)
                        if not pending:
                            raise ArchiveError(f"the {kind} stream is truncated")
                    data, pending = pending, b""
                    piece = member.decompress(data, PIECE)
                else:
                    piece = member.decompress(b"", PIECE)
                if piece:
                    yield piece
            pending = member.unused_data
            if not pending:
                pending = os.pread(fd, _READ, position)
                position += len(pending)
            # Zero bytes may pad the file (tapes, block devices); anything else is a new member.
            while pending and not pending.strip(b"\0"):
                pending = os.pread(fd, _READ, position)
                position += len(pending)
            if not pending:
                return
            if pending[0] == 0:
                raise ArchiveError(f"the {kind} stream is followed by garbage")
    except failures as error:
        raise ArchiveError(f"the {kind} stream is damaged: {error}") from None


def _zstd(fd: int) -> Iterator[bytes]:
    import zstandard

    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False, buffering=0) as file:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        reader = decompressor.stream_reader(file, read_size=_READ, read_across_frames=True)
        try:
            while data := reader.read(PIECE):
                yield data
        except zstandard.ZstdError as error:
            raise ArchiveError(f"the zstd stream is damaged: {error}") from None


def _check_zstd(fd: int) -> None:
    """Walk the frames and blocks of a zstd file by their sizes (RFC 8878, section 3.1).

    The library's streaming reader takes the end of the input for the end of the content, so a
    truncated file would pass.
    """
    end = os.fstat(fd).st_size
    position = 0
    truncated = ArchiveError("the zstd stream is truncated")
    while position < end:
        head = os.pread(fd, 18, position)
        if len(head) < 5:
            raise truncated
        magic = int.from_bytes(head[:4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            if len(head) < 8:
                raise truncated
            position += 8 + int.from_bytes(head[4:8], "little")
            continue
        if magic != 0xFD2FB528:
            raise ArchiveError("the zstd stream is followed by garbage")
        flags = head[4]
        single = flags >> 5 & 1
        position += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        position += ((1 if single else 0), 2, 4, 8)[flags >> 6]
        while True:
            block = os.pread(fd, 3, position)
            if len(block) < 3:
                raise truncated
            value = int.from_bytes(block, "little")
            position += 3 + (1 if value >> 1 & 3 == 1 else value >> 3)
            if value & 1:
                break
        position += 4 * (flags >> 2 & 1)
    if position > end:
        raise truncated
