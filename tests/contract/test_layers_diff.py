"""The difference of a tree and its clone: as a layer, and back."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tarfile
import time
from collections.abc import Callable

import pytest
from helpers.layers import Workshop, archive, digest_of, entry, folder, hardlink, symlink, workshop

from strata.archive import tar
from strata.archive.apply import apply_stream
from strata.archive.layers import reassemble, verify, write_diff
from strata.errors import ArchiveError
from strata.linux import mount
from strata.storage.driver import Driver

pytestmark = pytest.mark.root
__all__ = ["workshop"]

IDENTITY = {"id": "1a", "kind": "layer", "name": "", "lineage": "aa", "generation": "1",
            "schema": "1"}  # fmt: skip

BASE = archive(
    folder("./"), folder("etc"), entry("etc/passwd", b"root"), entry("etc/hosts", b"localhost"),
    folder("bin"), entry("bin/tool", b"#!", mode=0o4755), hardlink("bin/alias", "bin/tool",
    mode=0o4755), folder("tmp", mode=0o1777), folder("deep"), folder("deep/er"),
    entry("deep/er/file", b"x" * 5000), symlink("link", "etc/passwd"),
    entry("null", kind=tar.CHARACTER, major=1, minor=3), folder("many"),
    *[entry(f"many/{i}", b"%d" % i) for i in range(5)],
)  # fmt: skip


class Clones:
    """A layer's dataset, and clones of it, on a real driver."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name
        self._count = 0
        driver.create(f"layers/{name}", IDENTITY)
        self.lower = driver.open(f"layers/{name}")
        os.mkdir(f"{self.lower}/rootfs")
        apply_stream([BASE], self.lower)
        driver.snapshot([f"layers/{name}@layer"])
        self.upper = self.clone()

    def clone(self) -> str:
        self._count += 1
        name = f"containers/{self._name}.{self._count}"
        self._driver.clone(f"layers/{self._name}@layer", name, IDENTITY)
        return self._driver.open(name)


@pytest.fixture
def clones(driver: Driver, name: str) -> Clones:
    return Clones(driver, name.rpartition("/")[2])


def list_tar(tree: str) -> list[str]:
    """Names in the order of the archive; links as ``name -> target``, directories with a slash."""
    import io

    found = []
    with tarfile.open(fileobj=io.BytesIO(b"".join(reassemble(tree)))) as file:
        for member in file:
            link = f" -> {member.linkname}" if member.linkname else ""
            found.append(f"{member.name}{'/' if member.isdir() else ''}{link}")
    return found


def describe(root: str) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a layer can carry; times of directories excepted."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, str] = {}
    for place, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = f"{place}/{name}"
            info = os.lstat(path)
            content: object = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            relative = path[len(root) :]
            first = names.setdefault(info.st_ino, relative)
            when = None if stat.S_ISDIR(info.st_mode) else info.st_mtime
            xattrs = None if stat.S_ISLNK(info.st_mode) else sorted(
                (key, os.getxattr(path, key)) for key in os.listxattr(path)
                if key.startswith("user.")
            )  # fmt: skip
            found[relative] = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, first, content,
                               when and int(when), xattrs)  # fmt: skip
    return found


def wait_past(moment: int) -> None:
    """Until the clock shows more than ``moment`` nanoseconds."""
    while time.time_ns() <= moment:
        time.sleep(0.01)


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def test_an_untouched_clone_is_an_empty_layer(clones: Clones) -> None:
    lower, upper = clones.lower, clones.upper
    diff = write_diff(upper, lower)
    assert (diff.empty, diff.entries, diff.size) == (True, 0, 1024)
    assert diff.diff_id == digest_of(bytes(1024))
    verify(upper, diff.diff_id)


CHANGES: dict[str, tuple[Callable[[str], None], list[str]]] = {
    "new file": (lambda r: write(f"{r}/etc/new", b"1"), ["etc/", "etc/new"]),
    "content": (lambda r: write(f"{r}/etc/hosts", b"LOCALHOST"), ["etc/", "etc/hosts"]),
    "content with its old times": (
        lambda r: (write(f"{r}/etc/hosts", b"lOCALHOST"),
                   os.utime(f"{r}/etc/hosts", (1_600_000_000, 1_600_000_000)))[0],
        ["etc/", "etc/hosts"],
    ),
    "touched and put back": (
        lambda r: os.utime(f"{r}/etc/hosts", (1_600_000_000, 1_600_000_000)), [],
    ),
    "mode": (lambda r: os.chmod(f"{r}/deep/er/file", 0o600), ["deep/", "deep/er/",
                                                              "deep/er/file"]),
    "owner of a link": (lambda r: os.lchown(f"{r}/link", 5, 5), ["link -> etc/passwd"]),
    "attribute": (lambda r: os.setxattr(f"{r}/etc/hosts", "user.a", b"b"), ["etc/", "etc/hosts"]),
    "attribute of a directory": (lambda r: os.setxattr(f"{r}/etc", "user.a", b"b"), ["etc/"]),
    "mode of the root": (lambda r: os.chmod(r, 0o711), ["./"]),
    "deleted": (lambda r: os.unlink(f"{r}/etc/passwd"), ["etc/", "etc/.wh.passwd"]),
    "directory deleted": (lambda r: shutil.rmtree(f"{r}/deep"), [".wh.deep"]),
    "only its time": (lambda r: os.utime(f"{r}/etc"), []),
    "made and removed": (
        lambda r: (write(f"{r}/tmp/x", b""), os.unlink(f"{r}/tmp/x"))[0], [],
    ),
    "directory emptied": (
        lambda r: (shutil.rmtree(f"{r}/many"), os.mkdir(f"{r}/many"))[1],
        ["many/", "many/.wh..wh..opq"],
    ),
    "directory made anew": (
        lambda r: (shutil.rmtree(f"{r}/many"), os.mkdir(f"{r}/many"),
                   write(f"{r}/many/other", b"1"))[0],
        ["many/", "many/.wh..wh..opq", "many/other"],
    ),
    "file to directory": (
        lambda r: (os.unlink(f"{r}/etc/hosts"), os.mkdir(f"{r}/etc/hosts"),
                   write(f"{r}/etc/hosts/a", b"1"))[0],
        ["etc/", "etc/hosts/", "etc/hosts/a"],
    ),
    "directory to file": (
        lambda r: (shutil.rmtree(f"{r}/deep"), write(f"{r}/deep", b"flat"))[0], ["deep"],
    ),
    "one name more": (
        lambda r: os.link(f"{r}/bin/tool", f"{r}/bin/third"),
        ["bin/", "bin/alias", "bin/third -> bin/alias", "bin/tool -> bin/alias"],
    ),
    "one name less": (
        lambda r: os.unlink(f"{r}/bin/alias"), ["bin/", "bin/.wh.alias", "bin/tool"],
    ),
    "devices": (
        lambda r: (os.mknod(f"{r}/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5)),
                   os.mkfifo(f"{r}/pipe"))[0],
        ["pipe", "zero"],
    ),
    "long names": (
        lambda r: write(f"{r}/{'n' * 255}", b"1"), ["n" * 255],
    ),
}  # fmt: skip


def test_attributes_count_long_after_the_parent_was_made(clones: Clones) -> None:
    lower, upper = clones.lower, clones.upper
    for name in ("etc", "etc/hosts"):
        os.setxattr(f"{upper}/rootfs/{name}", "user.a", b"b")
    # The parent's last moment is over: its content was stored before, its record is newer.
    wait_past(os.stat(f"{upper}/rootfs/etc/hosts").st_ctime_ns + 100_000_000)
    os.utime(f"{lower}/.strata/tar-split.zst")
    write_diff(upper, lower)
    assert list_tar(upper) == ["etc/", "etc/hosts"]


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_becomes_a_layer_that_makes_the_same_tree(clones: Clones, case: str) -> None:
    lower, upper = clones.lower, clones.upper
    change, expected = CHANGES[case]
    change(f"{upper}/rootfs")
    before = describe(f"{upper}/rootfs")
    diff = write_diff(upper, lower)
    assert list_tar(upper) == expected
    assert (diff.entries, diff.empty) == (len(expected), not expected)
    verify(upper, diff.diff_id)
    assert describe(f"{upper}/rootfs") == before
    again = clones.clone()
    applied = apply_stream(reassemble(upper), again, expected_diff_id=diff.diff_id)
    assert (applied.size, applied.entries) == (diff.size, diff.entries)
    assert describe(f"{again}/rootfs") == before
    # The same difference has the same digest, whoever computes it.
    assert write_diff(upper, lower).diff_id == diff.diff_id


def test_a_write_in_the_parents_last_moment_is_seen(clones: Clones) -> None:
    """All of a file's status can be equal when both happened in one tick of the clock."""
    lower, upper = clones.lower, clones.upper
    name = "rootfs/etc/hosts"
    # Both sides are written until all of it happened within one tick.
    for attempt in range(200):
        write(f"{lower}/{name}", b"AAAA")
        write(f"{upper}/{name}", b"BBBB")
        for tree in (lower, upper):
            os.utime(f"{tree}/{name}", (attempt, attempt))
        one, two = os.stat(f"{lower}/{name}"), os.stat(f"{upper}/{name}")
        if one.st_ctime_ns == two.st_ctime_ns:
            break
    os.rename(f"{lower}/.strata/tar-split.zst", f"{lower}/.strata/moved")
    os.rename(f"{lower}/.strata/moved", f"{lower}/.strata/tar-split.zst")
    assert (one.st_ino, one.st_ctime_ns) == (two.st_ino, two.st_ctime_ns)
    write_diff(upper, lower)
    assert list_tar(upper) == ["etc/", "etc/hosts"]


def test_trees_that_are_no_clones_are_compared_by_content(workshop: Workshop) -> None:
    workshop.apply(archive(folder("d"), entry("d/a", b"1"), entry("d/b", b"2"), symlink("l", "d")))
    upper = workshop.copy()
    shutil.copystat(f"{workshop.root}/l", f"{upper}/rootfs/l", follow_symlinks=False)
    assert write_diff(upper, workshop.tree).empty
    write(f"{upper}/rootfs/d/a", b"3")
    shutil.copystat(f"{workshop.root}/d/a", f"{upper}/rootfs/d/a")
    write_diff(upper, workshop.tree)
    assert list_tar(upper) == ["d/", "d/a"]


def test_the_whole_tree_is_a_layer_without_parent(workshop: Workshop) -> None:
    workshop.apply(BASE)
    before = describe(workshop.root)
    diff = write_diff(workshop.tree, None)
    verify(workshop.tree, diff.diff_id)
    copy = f"{workshop.path}/tree/copy"
    os.makedirs(f"{copy}/rootfs")
    apply_stream(reassemble(workshop.tree), copy, expected_diff_id=diff.diff_id)
    assert describe(f"{copy}/rootfs") == before
    assert write_diff(copy, None).diff_id == diff.diff_id


def test_what_a_layer_cannot_hold(workshop: Workshop) -> None:
    workshop.apply(archive(entry("a"), entry("b")))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{workshop.root}/socket")
    write_diff(workshop.tree, None)
    assert "socket" not in list_tar(workshop.tree)
    write(f"{workshop.root}/.wh.a", b"")
    with pytest.raises(ArchiveError, match="reserved"):
        write_diff(workshop.tree, None)
    assert os.listdir(f"{workshop.tree}/.strata") == []


def test_the_walk_does_not_follow_a_container_out(workshop: Workshop) -> None:
    """What a container leaves behind: links to the outside, in places of directories and files."""
    workshop.apply(archive(folder("d"), entry("d/f", b"1"), entry("g", b"2")))
    upper = workshop.copy()
    shutil.rmtree(f"{upper}/rootfs/d")
    os.symlink(workshop.outside, f"{upper}/rootfs/d")
    os.unlink(f"{upper}/rootfs/g")
    os.symlink(f"{workshop.outside}/secret", f"{upper}/rootfs/g")
    write_diff(upper, workshop.tree)
    assert list_tar(upper) == [f"d -> {workshop.outside}", f"g -> {workshop.outside}/secret"]
    assert b"untouched" not in b"".join(reassemble(upper))


def test_mounts_are_undone(workshop: Workshop) -> None:
    """Applying leaves no mount behind in this namespace."""
    before = {entry.target for entry in mount.list_mounts()}
    workshop.apply(BASE)
    assert {entry.target for entry in mount.list_mounts()} == before
