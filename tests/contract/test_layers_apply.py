"""Layers applied for real: what lands in the tree, and the tar that comes back out of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
import threading

import pytest
import zstandard
from helpers.layers import (
    MTIME,
    Workshop,
    archive,
    digest_of,
    entry,
    folder,
    hardlink,
    patch,
    symlink,
    workshop,
)

from strata.archive import tar
from strata.archive.layers import hash_uncompressed, reassemble, verify
from strata.errors import ArchiveError, DigestMismatch, NoSpace

pytestmark = pytest.mark.root
__all__ = ["workshop"]


def round_trip(shop: Workshop, data: bytes) -> None:
    """Apply, and get the very same bytes back from the files."""
    applied = shop.apply(data, expected_diff_id=digest_of(data))
    assert applied.size == len(data)
    verify(shop.tree, applied.diff_id)
    assert b"".join(reassemble(shop.tree)) == data
    shop.assert_outside_is_untouched()


def test_every_kind_of_entry_lands_with_all_it_has(workshop: Workshop) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    data = archive(
        folder("./", mode=0o751),
        folder("dir", mode=0o2750, uid=5, gid=6, mtime=MTIME + 5),
        entry("dir/file", b"content", mode=0o6755, uid=7, gid=8, mtime=MTIME + 123_456_789),
        entry("caps", b"x", xattrs={b"security.capability": capability, b"user.note": b"hello"}),
        symlink("link", "/etc/../anywhere"),
        hardlink("dir/again", "dir/file", mode=0o6755, uid=7, gid=8, mtime=MTIME + 123_456_789),
        entry("null", kind=tar.CHARACTER, major=1, minor=3, mode=0o666),
        entry("loop", kind=tar.BLOCKDEV, major=7, minor=300, mode=0o660, gid=6),
        entry("pipe", kind=tar.FIFO, mode=0o600, uid=9),
        entry("implied/by/name", b"", mode=0o4711, uid=2**31),
        entry("empty"),
    )
    round_trip(workshop, data)
    assert workshop.names() == ["caps", "dir", "empty", "implied", "link", "loop", "null", "pipe"]
    assert stat.S_IMODE(workshop.stat("").st_mode) == 0o751
    found = workshop.stat("dir")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o2750, 5, 6)
    assert found.st_mtime_ns == MTIME + 5
    found = workshop.stat("dir/file")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o6755, 7, 8)
    assert found.st_mtime_ns == MTIME + 123_456_789
    assert found.st_nlink == 2
    assert workshop.stat("dir/again").st_ino == found.st_ino
    assert os.getxattr(f"{workshop.root}/caps", "security.capability") == capability
    assert os.getxattr(f"{workshop.root}/caps", "user.note") == b"hello"
    assert os.readlink(f"{workshop.root}/link") == "/etc/../anywhere"
    assert workshop.stat("link").st_mtime_ns == MTIME
    assert workshop.stat("null").st_rdev == os.makedev(1, 3)
    assert workshop.stat("loop").st_rdev == os.makedev(7, 300)
    assert workshop.kind("loop") == stat.S_IFBLK
    assert workshop.kind("pipe") == stat.S_IFIFO
    assert workshop.stat("implied/by/name").st_uid == 2**31
    assert stat.S_IMODE(workshop.stat("implied").st_mode) == 0o755
    assert workshop.stat("implied/by").st_mtime_ns == MTIME


def test_files_in_a_set_group_id_directory_keep_their_own_group(workshop: Workshop) -> None:
    workshop.apply(archive(
        folder("d", mode=0o2775, gid=50), entry("d/f"), folder("d/s"), symlink("d/l", "f"),
    ))  # fmt: skip
    assert [workshop.stat(f"d/{name}").st_gid for name in "fsl"] == [0, 0, 0]
    assert stat.S_IMODE(workshop.stat("d/s").st_mode) == 0o755


def test_the_callers_umask_does_not_matter(workshop: Workshop) -> None:
    workshop.apply(archive(entry("f", mode=0o666), folder("d", mode=0o777)))
    assert stat.S_IMODE(workshop.stat("f").st_mode) == 0o666
    assert stat.S_IMODE(workshop.stat("d").st_mode) == 0o777


def test_a_whiteout_hides_what_is_below(workshop: Workshop) -> None:
    workshop.apply(archive(folder("d"), entry("d/a"), entry("d/b", b"2"), folder("gone"),
                           folder("gone/a"), entry("gone/a/f"), symlink("l", "d")))  # fmt: skip
    data = archive(folder("d"), entry("d/.wh.a"), entry(".wh.gone"), entry(".wh.l"),
                   entry(".wh.never-was"), entry("no/such/.wh.place"))  # fmt: skip
    round_trip(workshop, data)
    assert workshop.names() == ["d"]
    assert workshop.names("d") == ["b"]


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_keeps_what_its_own_layer_brings(
    workshop: Workshop, first: bool
) -> None:
    workshop.apply(archive(folder("d"), entry("d/old"), folder("d/sub"), entry("d/sub/old"),
                           folder("d/sub/oldest"), entry("d/sub/oldest/x")))  # fmt: skip
    mark = entry("d/.wh..wh..opq")
    own = entry("d/new", b"n") + entry("d/sub/new", b"m") + entry("d/deep/er/new", b"o")
    data = archive(folder("d"), mark + own if first else own + mark)
    round_trip(workshop, data)
    assert workshop.names("d") == ["deep", "new", "sub"]
    assert workshop.names("d/sub") == ["new"]
    assert workshop.read("d/deep/er/new") == b"o"


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_never_hides_its_own_layer(workshop: Workshop, first: bool) -> None:
    workshop.apply(archive(entry("file", b"old"), folder("d"), entry("d/old")))
    marks = entry(".wh.file") + entry(".wh.d")
    own = entry("file", b"new") + folder("d") + entry("d/new")
    round_trip(workshop, archive(marks + own if first else own + marks))
    assert workshop.read("file") == b"new"
    assert workshop.names("d") == ["new"]


def test_bookkeeping_of_aufs_is_passed_over(workshop: Workshop) -> None:
    round_trip(workshop, archive(folder(".wh..wh.plnk"), entry(".wh..wh.plnk/12.34", b"body"),
                                 entry(".wh..wh.aufs"), entry("f")))  # fmt: skip
    assert workshop.names() == ["f"]


def test_things_replace_things(workshop: Workshop) -> None:
    """File, directory, symbolic link and device over each of the others, and over themselves."""
    kinds = {
        "file": lambda name: entry(name, b"body of file"),
        "folder": lambda name: folder(name) + entry(f"{name}/inside", b"inner"),
        "symlink": lambda name: symlink(name, "nowhere"),
        "device": lambda name: entry(name, kind=tar.CHARACTER, major=1, minor=5),
    }
    pairs = [(a, b) for a in kinds for b in kinds]
    workshop.apply(archive(*[kinds[a](f"{a}-{b}") for a, b in pairs]))
    round_trip(workshop, archive(*[kinds[b](f"{a}-{b}") for a, b in pairs]))
    for a, b in pairs:
        expected = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "symlink": stat.S_IFLNK,
                    "device": stat.S_IFCHR}[b]  # fmt: skip
        assert workshop.kind(f"{a}-{b}") == expected, (a, b)
    # All of it once more within one layer: every body that went has to come back.
    round_trip(workshop, archive(*[kinds[a](f"{a}-{b}") + kinds[b](f"{a}-{b}") for a, b in pairs]))


def test_duplicates_and_hard_link_tricks_come_back_byte_for_byte(workshop: Workshop) -> None:
    round_trip(workshop, archive(
        entry("a", b"first"), entry("a", b"second"), entry("./a", b"third"),
        hardlink("b", "a"), entry("a", b"fourth"), entry("b", b"fifth"),
        hardlink("c", "b"), hardlink("c", "b"), hardlink("b", "c"),
        folder("d"), entry("d/x", b"inside d"), symlink("s", "d"), entry("s/y", b"through s"),
        entry("s", b"now a file"), entry("s", b""), folder("d"),
        entry("d", b"no longer a directory"),
        entry(".wh.zz", b"body of a whiteout"),
    ))  # fmt: skip
    assert workshop.read("a") == b"fourth"
    assert workshop.read("c") == b"fifth"
    assert workshop.read("d") == b"no longer a directory"


def test_names_through_a_symbolic_link_stay_inside(workshop: Workshop) -> None:
    """As Docker does: lib/x lands in usr/lib/x where lib is a link."""
    workshop.apply(archive(folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"),
                           symlink("abs", "/usr"), symlink("up", "../../../../usr")))  # fmt: skip
    round_trip(workshop, archive(entry("lib/one", b"1"), entry("abs/lib/two", b"2"),
                                 entry("up/three", b"3"), entry("lib/one", b"again")))  # fmt: skip
    assert workshop.kind("lib") == stat.S_IFLNK
    assert workshop.names("usr/lib") == ["one", "two"]
    assert workshop.read("usr/three") == b"3"
    assert workshop.read("usr/lib/one") == b"again"


def test_a_lower_directory_keeps_its_time_when_only_its_entries_change(workshop: Workshop) -> None:
    workshop.apply(archive(folder("d"), entry("d/a")))
    workshop.apply(archive(entry("d/b", mtime=MTIME + 10**9), entry("d/.wh.a")))
    assert workshop.names("d") == ["b"]
    assert workshop.stat("d").st_mtime_ns == MTIME


def test_implied_directories_belong_to_root_and_leave_times_alone(workshop: Workshop) -> None:
    workshop.apply(archive(folder("d", mode=0o2775, gid=50)))
    workshop.apply(archive(entry("d/e/f/x", mtime=MTIME + 10**9)))
    assert workshop.stat("d").st_mtime_ns == MTIME
    for name in ("d/e", "d/e/f"):
        found = workshop.stat(name)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o755, 0)
        assert found.st_mtime_ns == MTIME + 10**9


def test_an_old_directory_with_a_body_comes_back(workshop: Workshop) -> None:
    round_trip(workshop, archive(patch(entry("d/", b"body"), 156, b"\0"), entry("d/f", b"1")))
    assert workshop.read("d/f") == b"1"


def test_attributes_of_the_host_are_dropped(workshop: Workshop) -> None:
    round_trip(workshop, archive(entry("f", b"x", xattrs={
        b"trusted.overlay.opaque": b"y", b"security.selinux": b"label", b"user.mine": b"1",
    })))  # fmt: skip
    assert os.listxattr(f"{workshop.root}/f") == ["user.mine"]


def test_a_file_called_like_the_private_directory_is_just_a_file(workshop: Workshop) -> None:
    round_trip(workshop, archive(entry(".strata/record.json", b"{}")))
    assert workshop.read(".strata/record.json") == b"{}"
    assert not os.path.exists(f"{workshop.tree}/.strata/record.json")


COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in members": lambda data: b"".join(
        gzip.compress(data[at : at + 700]) for at in range(0, len(data), 700)
    ),
    "gzip with padding": lambda data: gzip.compress(data) + bytes(512),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd in frames": lambda data: b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + b"".join(
        zstandard.ZstdCompressor(write_checksum=True).compress(data[at : at + 700])
        for at in range(0, len(data), 700)
    ) + b"\x50\x2a\x4d\x18\x05\x00\x00\x00chunk",
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_every_compression_gives_the_same_layer(workshop: Workshop, name: str) -> None:
    data = archive(entry("f", os.urandom(50_000)), folder("d"), entry("z", bytes(3_000_000)))
    blob = COMPRESSIONS[name](data)
    applied = workshop.apply(blob, expected_diff_id=digest_of(data))
    assert (applied.size, applied.entries) == (len(data), 3)
    verify(workshop.tree, digest_of(data))
    assert hash_uncompressed(f"{workshop.path}/blob") == digest_of(data)


GNU_TAR = [
    ["--format=v7"], ["--format=oldgnu"], ["--format=gnu"], ["--format=ustar"],
    ["--format=posix"], ["--format=posix", "--xattrs"], ["--format=gnu", "--sparse"],
    ["--format=posix", "--sparse", "--sparse-version=0.0"],
    ["--format=posix", "--sparse", "--sparse-version=0.1"],
    ["--format=posix", "--sparse", "--sparse-version=1.0"],
    ["--format=gnu", "--blocking-factor=1"], ["--format=gnu", "-i", "--label=volume"],
]  # fmt: skip


@pytest.mark.parametrize("options", GNU_TAR, ids=" ".join)
def test_archives_of_gnu_tar_come_back_byte_for_byte(
    workshop: Workshop, options: list[str]
) -> None:
    source = f"{workshop.path}/outside"
    with open(f"{source}/sparse", "wb") as file:
        for position in range(100):
            file.seek(position * 100_000)
            file.write(b"data %d" % position)
        file.truncate(20_000_000)
    os.makedirs(f"{source}/dir/sub")
    with open(f"{source}/dir/file", "wb") as file:
        file.write(os.urandom(3000))
    os.link(f"{source}/dir/file", f"{source}/dir/sub/link")
    os.symlink("dir/file", f"{source}/symlink")
    os.setxattr(f"{source}/dir/file", "user.note", b"value")
    if "v7" not in options[0] and "ustar" not in options[0]:
        with open(f"{source}/{'n' * 200}", "wb") as file:
            file.write(b"long name")
    data = subprocess.run(
        ["tar", "-C", source, "-cf", "-", *options, "."], check=True, capture_output=True
    ).stdout
    if "--label=volume" in options:
        # A volume label is of GNU tar's own type; Docker refuses it as well.
        with pytest.raises(ArchiveError, match="unknown type"):
            workshop.apply(data)
        return
    workshop.apply(data, expected_diff_id=digest_of(data))
    assert b"".join(reassemble(workshop.tree)) == data
    for name in ("sparse", "dir/file", "dir/sub/link"):
        with open(f"{source}/{name}", "rb") as file:
            assert workshop.read(name) == file.read()
    found = workshop.stat("sparse")
    if "--sparse" in options:
        assert found.st_blocks * 512 < found.st_size / 4


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_pythons_tarfile_come_back_byte_for_byte(workshop: Workshop, form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=form, pax_headers={"comment": "global"}
    ) as file:
        for number in range(50):
            info = tarfile.TarInfo(f"dir/{number:03}")
            info.size, info.mtime = number * 97, 1_600_000_000 + number
            file.addfile(info, io.BytesIO(os.urandom(info.size)))
        if form == tarfile.PAX_FORMAT:
            info = tarfile.TarInfo("unicode-ä" + "x" * 150)
            info.mtime = 1.25
            file.addfile(info)
    round_trip(workshop, out.getvalue())


def test_an_archive_in_the_manner_of_libarchive_comes_back(workshop: Workshop) -> None:
    value = base64.b64encode(b"hello").rstrip(b"=")
    body = tar._pax_record(b"LIBARCHIVE.xattr.user.note", value)
    lead = patch(entry("PaxHeader/f", body), 156, b"x")
    round_trip(workshop, lead + entry("f", b"1") + bytes(1024 * 9))
    assert os.getxattr(f"{workshop.root}/f", "user.note") == b"hello"


def test_odd_endings_come_back_byte_for_byte(workshop: Workshop) -> None:
    for data in (b"", bytes(1024), entry("a", b"1"), entry("a") + bytes(512), archive(),
                 archive(entry("a")) + b"trailing" * 5000,
                 entry("b", b"x" * 5)[:-507] + b"dirt" * 126 + b"end"):  # fmt: skip
        round_trip(workshop, data)


def test_damage_on_disk_is_found(workshop: Workshop) -> None:
    data = archive(entry("a", b"same size"), entry("b", b"other"))
    round_trip(workshop, data)
    with open(f"{workshop.root}/a", "r+b") as file:
        file.write(b"SAME")
    with pytest.raises(DigestMismatch):
        verify(workshop.tree, digest_of(data))
    os.unlink(f"{workshop.root}/a")
    os.symlink("b", f"{workshop.root}/a")
    with pytest.raises(ArchiveError, match="changed or damaged"):
        verify(workshop.tree, digest_of(data))


def test_a_full_file_system_is_named_as_such(workshop: Workshop) -> None:
    from strata.linux import mount

    mount.mount("tmpfs", workshop.tree, "tmpfs", data="size=1m")
    try:
        os.makedirs(workshop.root)
        with pytest.raises(NoSpace):
            workshop.apply(archive(entry("big", os.urandom(3_000_000))))
        assert not os.path.exists(f"{workshop.tree}/.strata/tar-split.zst")
    finally:
        mount.unmount(workshop.tree)
    workshop.assert_outside_is_untouched()


def test_layers_are_applied_side_by_side_in_threads(workshop: Workshop) -> None:
    data = archive(*[entry(f"f{i}", os.urandom(2000)) for i in range(200)])
    results: list[str] = []

    def work(number: int) -> None:
        tree = f"{workshop.path}/tree/{number}"
        os.makedirs(f"{tree}/rootfs")
        blob = f"{workshop.path}/tree/{number}.blob"
        with open(blob, "wb") as file:
            file.write(data)
        from strata.archive.apply import apply_layer

        results.append(apply_layer(blob, "", tree).diff_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [f"sha256:{hashlib.sha256(data).hexdigest()}"] * 3
