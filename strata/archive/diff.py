"""The difference of two trees as a tar, hashed while it passes and never on disk.

`write_diff` compares a tree with the one it was cloned from. Clones keep inode numbers and times
on ZFS and on btrfs, so a name whose inode, change time, modification time, size, mode, owner,
link count and device number are all equal is unchanged; its content is not read. The kernel sets
the change time at every write, link and attribute change, and a container cannot choose it
without setting the clock. Three things are done to be sure:

- A write in the clock tick in which the parent was finished could leave all these equal. So
  files of the parent's last moments (`_RACE`, before its split was stored) are compared by
  content.
- zfs-fuse leaves the change time alone when an extended attribute changes. On any FUSE file
  system attributes are always compared. (OpenZFS with xattr=sa, as stores are made, and btrfs
  set it.)
- A name with another inode or change time, but the same type, mode, owner, size and modification
  time, is compared by attributes and content before it counts as changed. That makes `write_diff`
  right, only slower, for trees which are no clones of each other.

Order and content are deterministic: names sorted by bytes, a directory before what it holds,
whiteouts first; no user names; times in whole seconds, as Docker writes. Every directory on the
way to a change is included, because other engines would otherwise make it with default mode. A
directory whose time alone changed is no difference. Sockets do not exist in tar; they are left
out. Sources: OCI image-spec layer.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat

from strata.archive import tar
from strata.archive.split import SPLIT_NAME, SplitFile, Writer
from strata.errors import ArchiveError, NoSpace, StorageError
from strata.linux.syscall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RACE = 50_000_000  # nanoseconds; clock ticks are at most 10 ms
_FUSE_SUPER_MAGIC = 0x65735546
_PIECE = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SECOND = 1_000_000_000
_OPAQUE = b".wh..wh..opq"


class Diff:
    """What a layer's tar is: ``diff_id``, ``size`` in bytes, ``entries``; ``empty`` when the tree
    does not differ from its parent (then the split describes an empty archive)."""

    __slots__ = ("diff_id", "empty", "entries", "size")

    def __init__(self, diff_id: str, size: int, entries: int) -> None:
        self.diff_id = diff_id
        self.size = size
        self.entries = entries
        self.empty = entries == 0


class _Sink:
    """Where the tar goes: every byte to ``output``, and to the split what it needs."""

    __slots__ = ("_output", "_split", "entries", "size")

    def __init__(self, output: Callable[[bytes], object], split: Writer) -> None:
        self._output = output
        self._split = split
        self.size = 0
        self.entries = 0

    def head(self, header: tar.Header, path: bytes) -> None:
        self.entries += 1
        self.raw(tar.emit(header))
        if header.size:
            self._split.body(header.size, path)

    def raw(self, data: bytes) -> None:
        if data:
            self._split.raw(data)
            self.body(data)

    def body(self, data: bytes) -> None:
        self.size += len(data)
        self._output(data)


class _Level:
    """A directory being walked: emitted only once something in it is; ``fresh`` when the other
    tree has none there."""

    __slots__ = ("emitted", "fd", "fresh", "info", "path")

    def __init__(
        self, path: bytes, fd: int, info: os.stat_result, emitted: bool, fresh: bool = False
    ) -> None:
        self.path = path
        self.fresh = fresh
        self.fd = fd
        self.info = info
        self.emitted = emitted


class _Walker:
    """Compares a tree with another one, or with nothing, and feeds a sink."""

    #: whether the tar is to be a layer, in which some names mark deletions
    _is_layer = True

    def __init__(self, sink: _Sink, racy: int, limits: tar.Limits) -> None:
        self._sink = sink
        self._racy = racy
        # Whether attributes can change without the change time.
        self._silent = False
        self._limits = limits
        self._levels: list[_Level] = []
        # Files with several names: the name under which the content was written.
        self._links: dict[tuple[int, int], bytes] = {}
        self._volume = 0

    def walk(self, fd: int, lower: int | None) -> None:
        info = os.fstat(fd)
        self._silent = lower is not None and _is_fuse(fd)
        root = _Level(b"", fd, info, emitted=False)
        self._levels.append(root)
        changed = lower is None or _metadata(info) != _metadata(os.fstat(lower))
        if changed or (lower is not None and _xattrs(fd) != _xattrs(lower)):
            self._emit_levels()
        else:
            # The root exists in every layer; it needs no entry on the way to a change.
            root.emitted = True
        self._directory(fd, lower, b"")

    def _directory(self, fd: int, lower: int | None, prefix: bytes) -> None:
        if len(self._levels) > self._limits.depth:
            raise ArchiveError(
                f"directories are nested more than {self._limits.depth} deep: {_show(prefix[:100])}"
            )
        names = sorted(map(os.fsencode, os.listdir(fd)))
        lower_names = set(map(os.fsencode, os.listdir(lower))) if lower is not None else set()
        found: list[tuple[bytes, os.stat_result]] = []
        for name in names:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISSOCK(info.st_mode):
                continue
            if self._is_layer and name.startswith(b".wh."):
                raise ArchiveError(
                    f"{_show(prefix + name)} cannot be stored in a layer: its name is reserved",
                    hint="remove or rename the file; names starting with .wh. mark deletions",
                )
            found.append((name, info))
        gone = lower_names.difference(name for name, _ in found)
        if self._is_layer and len(gone) > 1 and len(gone) == len(lower_names):
            self._whiteout(prefix + _OPAQUE)
            # Nothing of it shines through any more.
            lower_names = set()
        else:
            for name in sorted(gone):
                self._whiteout(prefix + b".wh." + name)
        for name, info in found:
            path = prefix + name
            below = lower if name in lower_names else None
            if stat.S_ISDIR(info.st_mode):
                self._enter(fd, below, name, path, info)
            elif below is None or not self._is_same(fd, below, name, info):
                self._emit_levels()
                self._emit_leaf(fd, name, path, info)

    def _enter(
        self, above: int, below: int | None, name: bytes, path: bytes, info: os.stat_result
    ) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=above)
        lower = None
        try:
            if below is not None:
                there = os.stat(name, dir_fd=below, follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    lower = os.open(name, _DIRECTORY, dir_fd=below)
            self._levels.append(_Level(path, fd, info, emitted=False, fresh=lower is None))
            if (
                lower is None
                or _metadata(info) != _metadata(there)
                or (
                    (self._silent or info.st_ctime_ns != there.st_ctime_ns)
                    and _xattrs(fd) != _xattrs(lower)
                )
            ):
                self._emit_levels()
            self._directory(fd, lower, path + b"/")
            self._levels.pop()
        finally:
            os.close(fd)
            if lower is not None:
                os.close(lower)

    def _is_same(self, fd: int, below: int, name: bytes, info: os.stat_result) -> bool:
        there = os.stat(name, dir_fd=below, follow_symlinks=False)
        identical = (
            info.st_ino == there.st_ino
            and info.st_ctime_ns == there.st_ctime_ns
            and info.st_nlink == there.st_nlink
        )
        if (
            _metadata(info) != _metadata(there)
            or info.st_mtime_ns != there.st_mtime_ns
            or info.st_rdev != there.st_rdev
        ):
            return False
        if stat.S_ISLNK(info.st_mode):
            return identical or os.readlink(name, dir_fd=fd) == os.readlink(name, dir_fd=below)
        if not stat.S_ISREG(info.st_mode):
            return True
        if info.st_size != there.st_size:
            return False
        if identical and info.st_ctime_ns < self._racy:
            return not self._silent or _same_content(fd, below, name, 0)
        # Which names share a file is part of the content, so a changed group is written anew.
        if not identical and (info.st_nlink > 1 or there.st_nlink > 1):
            return False
        return _same_content(fd, below, name, info.st_size)

    # -- output --------------------------------------------------------------------------------

    def _emit_levels(self) -> None:
        for level in self._levels:
            if not level.emitted:
                level.emitted = True
                name = level.path + b"/" if level.path else b"./"
                header = _header(name, tar.DIRECTORY, level.info)
                header.xattrs = _xattrs(level.fd)
                self._sink.head(header, level.path)

    def _whiteout(self, path: bytes) -> None:
        self._emit_levels()
        self._sink.head(tar.Header(path, tar.REGULAR, 0o600, 0, 0, 0, 0), path)

    def _emit_leaf(self, fd: int, name: bytes, path: bytes, info: os.stat_result) -> None:
        mode = info.st_mode
        if info.st_nlink > 1:
            first = self._links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                header = _header(path, tar.HARDLINK, info)
                header.linkname = first
                self._sink.head(header, path)
                return
        if stat.S_ISREG(mode):
            self._emit_file(fd, name, path, info)
            return
        if stat.S_ISLNK(mode):
            header = _header(path, tar.SYMLINK, info)
            header.mode = 0o777
            header.linkname = os.fsencode(os.readlink(name, dir_fd=fd))
        elif stat.S_ISFIFO(mode):
            header = _header(path, tar.FIFO, info)
        else:
            header = _header(path, tar.CHARACTER if stat.S_ISCHR(mode) else tar.BLOCKDEV, info)
            header.major, header.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        self._sink.head(header, path)

    def _emit_file(self, above: int, name: bytes, path: bytes, info: os.stat_result) -> None:
        size = info.st_size
        self._volume += size
        if self._volume > self._limits.size:
            raise ArchiveError(
                f"the files hold more than {self._limits.size} bytes: {_show(path)}",
                hint="sparse files count with their full size in an archive",
            )
        fd = os.open(name, _FILE, dir_fd=above)
        try:
            header = _header(path, tar.REGULAR, info)
            header.size = header.real_size = size
            header.xattrs = _xattrs(fd)
            self._sink.head(header, path)
            left = size
            while left:
                data = os.read(fd, min(left, _PIECE))
                if not data:
                    raise ArchiveError(f"{_show(path)} was changed while it was read")
                self._sink.body(data)
                left -= len(data)
            self._sink.raw(tar.padding(size))
        finally:
            os.close(fd)


def _header(path: bytes, type_: int, info: os.stat_result) -> tar.Header:
    seconds = info.st_mtime_ns // _SECOND * _SECOND
    mode = stat.S_IMODE(info.st_mode)
    return tar.Header(path, type_, mode, info.st_uid, info.st_gid, 0, seconds)


def _metadata(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_mode, info.st_uid, info.st_gid


def _xattrs(fd: int) -> dict[bytes, bytes] | None:
    """The attributes of an open file that belong into a layer; None for none."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        raise
    if not names:
        return None
    kept = {}
    for text in names:
        name = os.fsencode(text)
        # A record's key ends at the equals sign, so such a name cannot be written down.
        if name.startswith(tar.XATTRS) and b"=" not in name:
            kept[name] = os.getxattr(fd, text)
    return kept or None


def _is_fuse(fd: int) -> bool:
    buffer = ctypes.create_string_buffer(256)  # struct statfs, whose first word is the type
    call("fstatfs", fd, ctypes.addressof(buffer), what="fstatfs")
    return ctypes.c_long.from_buffer(buffer).value == _FUSE_SUPER_MAGIC


def _same_content(fd: int, below: int, name: bytes, size: int) -> bool:
    """Whether two files have the same attributes and the same first ``size`` bytes."""
    one = os.open(name, _FILE, dir_fd=fd)
    try:
        two = os.open(name, _FILE, dir_fd=below)
        try:
            if _xattrs(one) != _xattrs(two):
                return False
            left = size
            while left > 0:
                data = os.read(one, min(left, _PIECE))
                other = os.read(two, min(left, _PIECE))
                if data != other or not data:
                    return False
                left -= len(data)
            return True
        finally:
            os.close(two)
    finally:
        os.close(one)


def _show(path: bytes) -> str:
    return ascii(path[-200:].decode(errors="backslashreplace"))


def _newest(tree: str) -> int:
    """A time (ns) such that what was written into the parent before `_RACE` earlier is settled."""
    try:
        # Stored last, after every file of the layer.
        return os.stat(f"{tree}/.strata/{SPLIT_NAME}", follow_symlinks=False).st_ctime_ns
    except FileNotFoundError:
        newest = 0
        for folder, _, names, fd in os.fwalk(f"{tree}/rootfs", follow_symlinks=False):
            del folder
            for name in names:
                changed = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ctime_ns
                newest = max(newest, changed)
        return newest


@contextlib.contextmanager
def _open_directory(path: str) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _open_trees(tree: str, parent_tree: str | None) -> Iterator[tuple[int, int | None, int]]:
    """Descriptors of two datasets' ``rootfs``, and since when (ns) the second may be racy."""
    with _open_directory(f"{tree}/rootfs") as fd:
        if parent_tree is None:
            yield fd, None, 0
            return
        with _open_directory(f"{parent_tree}/rootfs") as lower:
            yield fd, lower, _newest(parent_tree) - _RACE


def write_diff(tree: str, parent_tree: str | None, *, limits: tar.Limits | None = None) -> Diff:
    """The layer that turns ``parent_tree`` (nothing, when None) into ``tree``.

    Both are datasets with ``rootfs``; ``tree`` must not change meanwhile (a snapshot's clone).
    Stores the split in ``tree``/.strata, so that `reassemble` gives the tar. Raises
    `ArchiveError` for what a layer cannot hold, `NoSpace`, `StorageError`.
    """
    import hashlib

    from strata.archive.apply import Lane

    digest = hashlib.sha256()
    limits = limits or tar.Limits()
    try:
        with _open_trees(tree, parent_tree) as (fd, lower, racy), SplitFile(tree) as file:
            writer = Writer(file.write)
            lane = Lane(digest.update)
            try:
                sink = _Sink(lane.put, writer)
                _Walker(sink, racy, limits).walk(fd, lower)
                sink.raw(tar.END)
            finally:
                lane.end()
            if lane.failure is not None:
                raise lane.failure
            writer.end(sink.size, sink.entries)
            file.finish()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("no space left to store the layer", hint="free space in the pool") from (
                None
            )
        raise StorageError(f"cannot read the files of the layer: {error.strerror}") from None
    return Diff(f"sha256:{digest.hexdigest()}", sink.size, sink.entries)


class _Lister(_Walker):
    """Notes what differs instead of writing it: kind (``C``, ``A``, ``D``) and path."""

    _is_layer = False

    def __init__(self, racy: int) -> None:
        super().__init__(_Sink(lambda data: None, Writer(lambda data: None)), racy, tar.Limits())
        self.found: list[tuple[str, bytes]] = []
        self._replaced: set[bytes] = set()

    def _is_same(self, fd: int, below: int, name: bytes, info: os.stat_result) -> bool:
        same = super()._is_same(fd, below, name, info)
        if not same:
            self._replaced.add(self._levels[-1].path + b"/" + name)
        return same

    def _emit_levels(self) -> None:
        for level in self._levels:
            if not level.emitted:
                level.emitted = True
                if level.path:
                    self.found.append(("A" if level.fresh else "C", b"/" + level.path))

    def _whiteout(self, path: bytes) -> None:
        self._emit_levels()
        folder, _, name = path.rpartition(b"/")
        self.found.append(("D", (b"/" + folder).rstrip(b"/") + b"/" + name.removeprefix(b".wh.")))

    def _emit_leaf(self, fd: int, name: bytes, path: bytes, info: os.stat_result) -> None:
        replaced = self._levels[-1].path + b"/" + name in self._replaced
        self.found.append(("C" if replaced else "A", b"/" + path))


class _Exporter(_Walker):
    """Everything in a tree, whatever it is called; the top itself is no entry."""

    _is_layer = False

    def walk(self, fd: int, lower: int | None) -> None:
        self._levels.append(_Level(b"", fd, os.fstat(fd), emitted=True))
        self._directory(fd, lower, b"")


class _Differ(_Walker):
    """What changed as a plain tar, and what is gone as a list of paths from the root."""

    _is_layer = False

    def __init__(self, sink: _Sink, racy: int) -> None:
        super().__init__(sink, racy, tar.Limits())
        self.gone: list[bytes] = []

    def _whiteout(self, path: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        self.gone.append((b"/" + folder).rstrip(b"/") + b"/" + name.removeprefix(b".wh."))

    def _emit_leaf(self, fd: int, name: bytes, path: bytes, info: os.stat_result) -> None:
        if name.startswith(b".wh."):
            # Whoever unpacks it would take it for a deletion.
            raise ArchiveError(
                f"{_show(path)} cannot be exported: its name is reserved",
                hint="remove or rename the file, or leave files out of the archive",
            )
        super()._emit_leaf(fd, name, path, info)


def export_diff(
    tree: str, parent_tree: str | None, output: Callable[[bytes], object]
) -> list[bytes]:
    """Write what differs between the ``rootfs`` of two datasets as a tar without whiteouts, and
    return the paths that are gone. ``tree`` must not change meanwhile (`ArchiveError`)."""
    lower = None
    fd = os.open(f"{tree}/rootfs", _DIRECTORY)
    try:
        racy = 0
        if parent_tree is not None:
            lower = os.open(f"{parent_tree}/rootfs", _DIRECTORY)
            racy = _newest(parent_tree) - _RACE
        sink = _Sink(output, Writer(lambda data: None))
        differ = _Differ(sink, racy)
        differ.walk(fd, lower)
        sink.raw(tar.END)
        return differ.gone
    finally:
        os.close(fd)
        if lower is not None:
            os.close(lower)


def list_changes(tree: str, parent_tree: str | None) -> list[tuple[str, bytes]]:
    """What differs between the ``rootfs`` of two datasets, or what one holds (None): kind and
    path, ``C`` changed, ``A`` added, ``D`` deleted, parents of a change included. In the order
    of the walk. Nothing but files that could differ unseen is read."""
    with _open_trees(tree, parent_tree) as (fd, lower, racy):
        walker = _Lister(racy)
        walker.walk(fd, lower)
        return walker.found


def export_tree(rootfs: str, output: Callable[[bytes], object]) -> None:
    """Write a directory as a tar: every file with its owner, mode, times and attributes.

    It must not change meanwhile (`ArchiveError`): give a snapshot of a running container.
    """
    with _open_directory(rootfs) as fd:
        sink = _Sink(output, Writer(lambda data: None))
        _Exporter(sink, 0, tar.Limits()).walk(fd, None)
        sink.raw(tar.END)


class Change:
    """One difference: ``kind`` (``A`` added, ``C`` changed, ``D`` deleted), ``path`` from the
    root, sizes in bytes before and after (of a deleted directory: of all it held)."""

    __slots__ = ("after", "before", "kind", "path")

    def __init__(self, kind: str, path: bytes, before: int, after: int) -> None:
        self.kind = kind
        self.path = path
        self.before = before
        self.after = after


def compare_trees(root: str, older: str, settled: int) -> list[Change]:
    """What differs between two directories that are moments of one tree, sorted by path.

    A directory that only holds changes is none itself. ``settled``: see `write_diff`; a time (ns)
    before which nothing was written into the older one later.
    """
    with _open_directory(root) as fd, _open_directory(older) as lower:
        walker = _Lister(settled - _RACE)
        walker.walk(fd, lower)
        found = []
        for kind, path in walker.found:
            before = None if kind == "A" else _stat(lower, path)
            after = None if kind == "D" else _stat(fd, path)
            if before is not None and after is not None and _is_way(before, after):
                continue
            size_before = 0 if before is None else _measure(lower, path, before)
            size_after = 0 if after is None or stat.S_ISDIR(after.st_mode) else after.st_size
            found.append(Change(kind, path, size_before, size_after))
        return sorted(found, key=lambda change: change.path)


def _stat(root: int, path: bytes) -> os.stat_result:
    return os.stat(path.lstrip(b"/") or b".", dir_fd=root, follow_symlinks=False)


def _is_way(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a directory is named only because something in it changed."""
    both = stat.S_ISDIR(before.st_mode) and stat.S_ISDIR(after.st_mode)
    return both and _metadata(before) == _metadata(after)


def _measure(root: int, path: bytes, info: os.stat_result) -> int:
    """Bytes of a file, or of all files in a directory."""
    if not stat.S_ISDIR(info.st_mode):
        return info.st_size
    total = 0
    for _, _, names, fd in os.fwalk(path.lstrip(b"/") or b".", dir_fd=root):
        for name in names:
            total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
    return total
