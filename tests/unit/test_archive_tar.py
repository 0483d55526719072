"""The tar reader and writer, against themselves and against the standard library's."""

from __future__ import annotations

import io
import random
import tarfile

import pytest
from helpers.layers import archive, entry, folder, hardlink, patch, symlink
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.archive import tar
from strata.archive.unpack import clean
from strata.errors import ArchiveError


def read_all(
    data: bytes, limits: tar.Limits | None = None, *, step: int = 1 << 20
) -> tuple[list[tuple[tar.Header, bytes]], bytes]:
    """Entries with bodies, and the stream put together again from what was kept and read."""
    source = io.BytesIO(data)
    rebuilt: list[bytes] = []

    def readinto(view: memoryview) -> int:
        piece = source.read(min(step, len(view)))
        view[: len(piece)] = piece
        return len(piece)

    reader = tar.Reader(readinto, limits or tar.Limits(), rebuilt.append, capacity=4096)
    found = []
    while (header := reader.next()) is not None:
        body = reader.body(1 << 30)
        rebuilt.append(body)
        found.append((header, body))
    assert reader.total == len(data)
    return found, b"".join(rebuilt)


name_bytes = st.binary(min_size=1, max_size=250).filter(
    lambda name: b"\0" not in name and not name.endswith(b"/")
)
headers = st.builds(
    tar.Header,
    name_bytes,
    st.just(tar.REGULAR),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.just(0),
    st.integers(-(10**18), 2 * 10**18),
    xattrs=st.none() | st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda key: not set(key) & set(b"=\0\n")),
        st.binary(max_size=300), min_size=1, max_size=3,
    ),
)  # fmt: skip


@given(headers, st.binary(max_size=1500))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(header: tar.Header, body: bytes) -> None:
    header.size = len(body)
    data = tar.emit(header) + body + tar.padding(len(body)) + tar.END
    found, rebuilt = read_all(data, step=700)
    assert rebuilt == data
    [(read, content)] = found
    assert content == body
    for field in ("name", "mode", "uid", "gid", "mtime", "size", "xattrs"):
        assert getattr(read, field) == getattr(header, field), field


@given(headers, st.binary(max_size=600))
@settings(max_examples=60, deadline=None)
def test_the_standard_library_reads_what_is_written(header: tar.Header, body: bytes) -> None:
    header.size = len(body)
    data = tar.emit(header) + body + tar.padding(len(body)) + tar.END
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as file:
        [member] = file.getmembers()
        assert member.size == len(body)
        assert (member.mode, member.uid, member.gid) == (header.mode, header.uid, header.gid)
        assert abs(member.mtime - header.mtime / 1e9) < 1e-3


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_the_standard_library_are_read(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for name, size in (("a", 0), ("d" * 90 + "/" + "n" * 60, 5000), ("b", 512)):
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime, info.mode = size, 1234, 1_600_000_000, 0o4755
            file.addfile(info, io.BytesIO(b"x" * size))
        if form != tarfile.USTAR_FORMAT:
            info = tarfile.TarInfo("long")
            info.type, info.linkname, info.uid = tarfile.SYMTYPE, "t" * 300, 2**31
            file.addfile(info)
    found, rebuilt = read_all(out.getvalue(), step=1000)
    assert rebuilt == out.getvalue()
    sizes = [(header.name, header.size) for header, _ in found[:3]]
    assert sizes == [(b"a", 0), (b"d" * 90 + b"/" + b"n" * 60, 5000), (b"b", 512)]
    assert all(header.mode == 0o4755 and header.uid == 1234 for header, _ in found[:3])
    if form != tarfile.USTAR_FORMAT:
        assert found[3][0].linkname == b"t" * 300
        assert found[3][0].uid == 2**31


def test_a_star_header_has_a_short_prefix() -> None:
    block = patch(entry("name"), 345, b"p" * 131)
    block = patch(block, 508, b"tar\0")
    [(header, _)], _ = read_all(block + tar.END)
    assert header.name == b"p" * 131 + b"/name"


def test_gnu_headers_have_no_prefix() -> None:
    block = patch(patch(entry("name"), 345, b"12345670123"), 257, b"ustar  \0")
    [(header, _)], _ = read_all(block + tar.END)
    assert header.name == b"name"


def test_old_directories_end_in_a_slash() -> None:
    """Read as Go does: such a directory may have a body, and only the old type is meant."""
    data = archive(patch(entry("dir/", b"body"), 156, b"\0"), entry("file/", b"x"))
    [(one, body), (two, _)], rebuilt = read_all(data)
    assert (one.type, body, two.type) == (tar.DIRECTORY, b"body", tar.REGULAR)
    assert rebuilt == data


def test_links_have_no_body_whatever_their_size_says() -> None:
    data = archive(patch(hardlink("a", "b"), 124, b"00000001000\0"), entry("c", b"body"))
    found, _ = read_all(data)
    assert [(header.name, body) for header, body in found] == [(b"a", b""), (b"c", b"body")]


def test_attributes_in_the_form_of_libarchive_are_read() -> None:
    record = b"user.a%3Db=aGVsbG8"
    body = tar._pax_record(b"LIBARCHIVE.xattr.user.a%3Db", b"aGVsbG8")
    assert record.split(b"=")[1] in body
    lead = patch(entry("x", body), 156, b"x")
    [(header, _)], _ = read_all(lead + entry("file") + tar.END)
    assert header.xattrs == {b"user.a=b": b"hello"}


def test_an_archive_may_end_without_its_mark() -> None:
    assert len(read_all(entry("a", b"1") + entry("b"))[0]) == 2
    assert len(read_all(entry("a") + bytes(512))[0]) == 1
    assert read_all(b"")[0] == []


def test_what_follows_the_end_is_kept_and_not_read() -> None:
    data = archive(entry("a")) + bytes(700) + b"more" + entry("b")
    found, rebuilt = read_all(data)
    assert len(found) == 1
    assert rebuilt == data


@pytest.mark.parametrize(
    ("segments", "size", "real"),
    [
        ([(0, 10), (5, 10)], 20, 100),
        ([(10, 10), (0, 10)], 20, 100),
        ([(0, 10)], 20, 100),
        ([(95, 10)], 10, 100),
    ],
)
def test_impossible_sparse_maps_are_refused(
    segments: list[tuple[int, int]], size: int, real: int
) -> None:
    with pytest.raises(ArchiveError):
        tar.check_sparse(segments, size, real)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (entry("a", b"x" * 600)[:700], "truncated"),
        (entry("a")[:300], "truncated"),
        (entry("a" * 200)[:1024], "truncated"),
        (b"x" + entry("a")[1:], "checksum"),
        (entry("a") + bytes(512) + entry("b"), "lone zero block"),
        (patch(entry("a"), 124, b"0000000000x\0"), "not a number"),
        (patch(entry("a"), 124, b"\xff" * 12), "negative"),
        (patch(entry("x", b"12 path=abc\n"), 156, b"x") + entry("b"), "")
    ],
)  # fmt: skip
def test_damage_is_named(data: bytes, words: str) -> None:
    if not words:
        [(header, _)], _ = read_all(data)
        assert header.name == b"abc"
        return
    with pytest.raises(ArchiveError, match=words):
        read_all(data)


@pytest.mark.parametrize(
    "records",
    [
        b"999 path=a\n", b"5 a=b", b"x path=a\n", b"7 =abc\n", b"12 path=a\0b\n", b"10 size=-1\n",
        b"11 mtime=x\n", b"4 a\n", b"14 uid=1_000_\n",
    ],
)  # fmt: skip
def test_malformed_pax_headers_are_refused(records: bytes) -> None:
    with pytest.raises(ArchiveError):
        read_all(archive(patch(entry("x", records), 156, b"x"), entry("b")))


def test_limits_hold() -> None:
    def refuse(data: bytes, limits: tar.Limits) -> None:
        with pytest.raises(ArchiveError):
            read_all(data, limits)

    refuse(archive(*[entry(f"f{i}") for i in range(11)]), tar.Limits(entries=10))
    refuse(archive(entry("a", b"x" * 5000)), tar.Limits(size=4999))
    refuse(archive(entry("x" * 200)), tar.Limits(special=100))
    refuse(archive(entry("x" * 200)), tar.Limits(path=199))
    # A size that is only claimed counts before a byte of it was read.
    refuse(patch(entry("a"), 124, b"77777777777\0"), tar.Limits(size=1 << 30))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"), (b"./a", b"a"), (b"/a", b"a"), (b"a/", b"a"), (b"a//b", b"a/b"),
        (b"./", b""), (b".", b""), (b"/", b""), (b"a/./b", b"a/b"), (b"a..b/c..", b"a..b/c.."),
        (b"...", b"..."), (b"a/.", b"a"), (b".//a", b"a"),
    ],
)  # fmt: skip
def test_names_are_normalised(name: bytes, path: bytes) -> None:
    assert clean(name, 10) == path


@pytest.mark.parametrize(
    "name",
    [b"", b"..", b"../a", b"a/..", b"a/../b", b"/..", b"./..", b"a\0b", b"a/" * 12, b"../",
     b"a/../../b", b"..//a"],
)  # fmt: skip
def test_names_that_lead_astray_are_refused(name: bytes) -> None:
    with pytest.raises(ArchiveError):
        clean(name, 10)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_normalised_name_never_leads_out(name: bytes) -> None:
    try:
        path = clean(name, 10)
    except ArchiveError:
        return
    parts = path.split(b"/")
    assert b".." not in parts
    assert not path.startswith(b"/")
    assert b"\0" not in path
    assert path == b"" or (b"" not in parts and b"." not in parts)


def test_damaged_archives_give_one_kind_of_error() -> None:
    """Bytes of a valid archive are changed at random; nothing but ArchiveError may come of it."""
    whole = archive(
        folder("d"), entry("d/file", b"content" * 300, xattrs={b"user.x": b"1"}),
        symlink("s" * 120, "t" * 130), hardlink("h", "d/file"), entry("n" * 300, b"1"),
        entry("last", mtime=1_600_000_000_123_456_789),
    )  # fmt: skip
    chance = random.Random(7)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            position = chance.randrange(len(data))
            data[position] = chance.choice([0, 255, 32, 47, 48, 55, 120, chance.randrange(256)])
            block = position // 512 * 512
            # Mostly with a right checksum, or the mutation would get no further than that.
            if chance.random() < 0.8:
                data[block : block + 512] = patch(bytes(data[block : block + 512]), 0, b"")
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            read_all(bytes(data), tar.Limits(size=1 << 24))
        except ArchiveError:
            pass
