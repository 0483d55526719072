"""Decompression and the split, apart from any file system."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.archive.inflate import PIECE, detect, inflate
from strata.archive.split import SplitFile, Writer, read_records
from strata.errors import ArchiveError, RecordError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}

CONTENT = random.Random(1).randbytes(200_000) + bytes(3_000_000) + b"end"


def inflate_bytes(tmp_path: Path, blob: bytes) -> bytes:
    (tmp_path / "blob").write_bytes(blob)
    fd = os.open(tmp_path / "blob", os.O_RDONLY)
    try:
        pieces = list(inflate(fd))
    finally:
        os.close(fd)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", PACKERS)
def test_blobs_are_told_by_their_content(tmp_path: Path, kind: str) -> None:
    blob = PACKERS[kind](CONTENT)
    assert detect(blob[:8]) == kind
    assert inflate_bytes(tmp_path, blob) == CONTENT
    if kind:
        assert inflate_bytes(tmp_path, blob + PACKERS[kind](b"more")) == CONTENT + b"more"
        assert inflate_bytes(tmp_path, PACKERS[kind](b"")) == b""


def test_a_checksum_that_does_not_fit_is_damage(tmp_path: Path) -> None:
    for kind in ("gzip", "zstd"):
        # Incompressible content is stored as it is: only the checksum can tell.
        blob = bytearray(PACKERS[kind](CONTENT[:5000]))
        blob[2500] ^= 1
        with pytest.raises(ArchiveError, match="damaged"):
            inflate_bytes(tmp_path, bytes(blob))


def test_members_may_end_anywhere(tmp_path: Path) -> None:
    """Also at, before and after the places where reading the file stops and goes on."""
    chance = random.Random(9)
    for kind in ("gzip", "zstd"):
        parts = [chance.randbytes(chance.choice([0, 1, 500, (1 << 18) - 23, 1 << 18, 300_000]))
                 for _ in range(30)]  # fmt: skip
        blob = b"".join(map(PACKERS[kind], parts))
        assert inflate_bytes(tmp_path, blob) == b"".join(parts)


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind])
def test_a_blob_cut_anywhere_is_truncated(tmp_path: Path, kind: str) -> None:
    blob = PACKERS[kind](CONTENT[:20_000])
    for length in (12, 20, len(blob) // 2, len(blob) - 5, len(blob) - 1):
        with pytest.raises(ArchiveError, match=r"truncated|damaged"):
            inflate_bytes(tmp_path, blob[:length])


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind])
def test_damaged_blobs_give_one_kind_of_error(tmp_path: Path, kind: str) -> None:
    blob = PACKERS[kind](CONTENT[:5000])
    chance = random.Random(5)
    for _ in range(200):
        data = bytearray(blob)
        for _ in range(3):
            data[chance.randrange(6, len(data))] = chance.randrange(256)
        try:
            inflate_bytes(tmp_path, bytes(data))
        except ArchiveError:
            pass


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(min_size=1, max_size=40),
                          st.integers(0, 2**40)), max_size=30))  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_records_come_back(records: list[tuple[bytes, bytes, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as tree:
        total = 0
        with SplitFile(tree) as file:
            writer = Writer(file.write)
            for raw, path, size in records:
                writer.raw(raw)
                total += len(raw) + size
                if size:
                    writer.body(size, path)
            writer.end(total, len(records))
            file.finish()
        fd = os.open(f"{tree}/.strata/tar-split.zst", os.O_RDONLY)
        try:
            found = list(read_records(fd))
        finally:
            os.close(fd)
        assert os.listdir(f"{tree}/.strata") == ["tar-split.zst"]
    assert b"".join(r.raw for r in found) == b"".join(raw for raw, _, _ in records)
    bodies = [(r.number, r.path, r.size) for r in found if r.number >= 0]
    expected = [(path, size) for _, path, size in records if size]
    assert bodies == [(number, *body) for number, body in enumerate(expected)]


def read_split(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "split").write_bytes(content)
    fd = os.open(tmp_path / "split", os.O_RDONLY)
    try:
        list(read_records(fd))
    finally:
        os.close(fd)


def test_other_versions_and_damage_are_refused(tmp_path: Path) -> None:
    pack = zstandard.ZstdCompressor().compress
    with pytest.raises(RecordError, match="newer version"):
        read_split(tmp_path, pack(b"strata-tar-split 2\n"))
    start = b"strata-tar-split 1\n"
    for content in (b"", b"not zstd", pack(b"something else entirely"), pack(start),
                    pack(start + b"\xfe" * 64)):  # fmt: skip
        with pytest.raises(ArchiveError):
            read_split(tmp_path, content)


def test_what_breaks_off_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / ".strata").mkdir()
    (tmp_path / ".strata" / "tar-split.zst").write_bytes(b"of the parent")
    (tmp_path / ".strata" / "bodies").write_bytes(b"of the parent")

    def break_off() -> None:
        with SplitFile(str(tmp_path)) as file:
            file.write(b"something")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list((tmp_path / ".strata").iterdir()) == []
