"""The child which unpacks a layer: reads a tar from standard input, confined to one directory.

Started by `strata.archive.apply` as a fresh interpreter, never imported into the engine's own
work. Standard output carries the split (see `strata.archive.split`), standard error one report.

Rules, in the order in which questions arise:

- Names. A leading ``/`` or ``./`` means the layer's root, as Docker, containerd and Podman read
  it; ``..`` anywhere, NUL and empty names are refused. The kernel holds the walls (`confine`);
  these checks only give a clearer answer.
- A symbolic link in the middle of a path is followed, inside the root. Docker and
  containers/storage do the same: layers on merged-/usr distributions need ``lib/x`` to land in
  ``usr/lib/x``. The last component is never followed: whatever is there is replaced.
- A directory over a directory keeps the content and takes the new owner, mode and times;
  everything else replaces what was there, directories with all they hold.
- ``.wh.NAME`` hides the lower layers' NAME and ``.wh..wh..opq`` all lower content of its
  directory, wherever in the layer they stand; what this layer itself brings stays (OCI
  image-spec, layer.md). Other ``.wh..wh.*`` are aufs' own and are passed over.
- Extended attributes: ``trusted.*`` and ``security.*`` other than file capabilities are dropped
  (labels belong to the host), ``trusted.strata.*`` is refused. A file system without attributes
  drops them, as Docker does.
- Directories that a path implies are made 0755, owned by root. Directories of lower layers that
  only gain or lose an entry keep their time, so the same layers always give the same tree.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import sys

from strata.archive import tar
from strata.archive.split import Spill, Writer
from strata.errors import ArchiveError
from strata.linux.write import write_all

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CACHED_DIRECTORIES = 256
_LAST_ID = 0xFFFFFFFE
_LAST_TIME = 1 << 62

_CODES_SPACE = (errno.ENOSPC, errno.EDQUOT)
_CODES_HOST = (errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class _Directory:
    """An open directory: its real path with a slash at the end ("" for the root).

    ``inherits`` when it is set-group-ID, so that new files do not get the group 0 by themselves.
    """

    __slots__ = ("fd", "inherits", "real")

    def __init__(self, fd: int, real: bytes, inherits: bool) -> None:
        self.fd = fd
        self.real = real
        self.inherits = inherits


def clean(name: bytes, depth: int) -> bytes:
    """A name as a path relative to the root, without ``.``, doubled and trailing slashes.

    The root itself is ``b""``. Raises `ArchiveError` for ``..``, NUL, an empty name, or more
    than ``depth`` components.
    """
    path = name[2:] if name.startswith(b"./") else name
    if path.endswith(b"/"):
        path = path[:-1]
    if b"//" in path or b"./" in path or path.startswith(b"/") or path.endswith(b"."):
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise ArchiveError(
                f"the archive names a path outside of its root: {_show(name)}",
                hint="the layer is malicious or damaged; nothing of it was kept",
            )
        path = b"/".join(parts)
    if b"\0" in path:
        raise ArchiveError(f"a path in the archive holds a NUL byte: {_show(name)}")
    if not name:
        raise ArchiveError("an entry of the archive has an empty name")
    if path.count(b"/") >= depth:
        raise ArchiveError(f"a path in the archive has more than {depth} components")
    return path


def _show(name: bytes) -> str:
    text = name[:200].decode(errors="backslashreplace")
    return ascii(text) + ("…" if len(name) > 200 else "")


class Unpacker:
    """Applies entries to the root directory of this process."""

    def __init__(
        self, reader: tar.Reader, split: Writer, spill_fd: int, limits: tar.Limits
    ) -> None:
        self._reader = reader
        self._split = split
        self._spill_fd = spill_fd
        self._spill = Spill(spill_fd)
        self._limits = limits
        self._directories: dict[bytes, _Directory] = {}
        # What this layer brought: real path -> number of the body that lies there, or -1.
        self._mine: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self.entries = 0

    def run(self) -> None:
        """Read the archive to its end and apply it."""
        reader = self._reader
        depth = self._limits.depth
        name = b""
        try:
            while (header := reader.next()) is not None:
                self.entries += 1
                name = header.name
                self._apply(header, clean(name, depth))
            self._set_times()
        except OSError as error:
            if error.errno in _CODES_SPACE or error.errno in _CODES_HOST:
                raise
            raise ArchiveError(f"cannot unpack {_show(name)}: {error.strerror}") from None
        except (OverflowError, ValueError):
            raise ArchiveError(f"cannot unpack {_show(name)}: a number is out of range") from None

    # -- one entry -----------------------------------------------------------------------------

    def _apply(self, header: tar.Header, path: bytes) -> None:
        if not 0 <= header.uid <= _LAST_ID or not 0 <= header.gid <= _LAST_ID:
            raise ArchiveError(f"{_show(header.name)} has an owner out of range")
        if not -_LAST_TIME < header.mtime < _LAST_TIME:
            header.mtime = 0
        parent, _, base = path.rpartition(b"/")
        if b".wh." in path and self._whiteout(header, path, parent, base):
            return
        kind = header.type
        if not path:
            if kind != tar.DIRECTORY:
                raise ArchiveError("the archive replaces its root by something else")
            self._set_directory(header, b"/", b"", False)
            if self._reader.left:
                self._spill_body(b".")
            return
        directory = self._directories.get(parent)
        if directory is None:
            directory = self._open_directory(parent, header.mtime)
        if kind in (tar.REGULAR, tar.CONTIGUOUS, tar.GNU_SPARSE):
            self._regular(header, directory, base)
        elif kind == tar.DIRECTORY:
            self._make_directory(header, directory, base)
        elif kind == tar.SYMLINK:
            self._symlink(header, directory, base)
        elif kind == tar.HARDLINK:
            self._hardlink(header, directory, base)
        elif kind in (tar.CHARACTER, tar.BLOCKDEV, tar.FIFO):
            self._node(header, directory, base)
        else:
            raise ArchiveError(f"{_show(header.name)} has the unknown type {chr(kind)!a}")
        if self._reader.left:
            self._spill_body(directory.real + base)

    def _regular(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        real = directory.real + base
        mode = header.mode & 0o7777
        try:
            fd = os.open(base, _CREATE, mode, dir_fd=directory.fd)
        except FileExistsError:
            directory = self._replace(header, directory, base)
            fd = os.open(base, _CREATE, mode, dir_fd=directory.fd)
        number = -1
        size = header.size
        if header.sparse is not None:
            if size:
                number = self._spill_body(real)
            self._expand(header, fd)
            number = -1
        elif size:
            reader = self._reader
            write = os.write
            while reader.left:
                chunk = reader.chunk()
                count = write(fd, chunk)
                while count < len(chunk):
                    chunk = chunk[count:]
                    count = write(fd, chunk)
            number = self._split.body(size, real)
        self._mine[real] = number
        uid, gid = header.uid, header.gid
        if uid or gid or directory.inherits:
            os.fchown(fd, uid, gid)
        if mode & 0o6000:
            os.fchmod(fd, mode)
        if header.xattrs is not None:
            self._set_xattrs(fd, header)
        mtime = header.mtime
        os.utime(fd, ns=(mtime, mtime))
        os.close(fd)

    def _make_directory(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        real = directory.real + base
        exists = False
        try:
            os.mkdir(base, header.mode & 0o7777, dir_fd=directory.fd)
        except FileExistsError:
            found = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                exists = True
            else:
                directory = self._replace(header, directory, base)
                os.mkdir(base, header.mode & 0o7777, dir_fd=directory.fd)
        self._mine[real] = -1
        fresh = not exists and not directory.inherits
        self._set_directory(header, b"/" + real, real, fresh)

    def _set_directory(self, header: tar.Header, path: bytes, real: bytes, fresh: bool) -> None:
        """Owner, mode and attributes of a directory; its time waits until the end."""
        if not fresh or header.uid or header.gid:
            os.chown(path, header.uid, header.gid, follow_symlinks=False)
        if not fresh or header.mode & 0o6000:
            os.chmod(path, header.mode & 0o7777)
        if header.mode & 0o2000:
            self._forget()
        if header.xattrs is not None:
            self._set_xattrs(path, header)
        self._times[real] = header.mtime

    def _symlink(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        if b"\0" in header.linkname:
            raise ArchiveError(f"the target of {_show(header.name)} holds a NUL byte")
        try:
            os.symlink(header.linkname, base, dir_fd=directory.fd)
        except FileExistsError:
            directory = self._replace(header, directory, base)
            os.symlink(header.linkname, base, dir_fd=directory.fd)
        self._set_node(header, directory, base)

    def _node(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        if header.type == tar.FIFO:
            mode, device = stat.S_IFIFO, 0
        else:
            mode = stat.S_IFCHR if header.type == tar.CHARACTER else stat.S_IFBLK
            if not 0 <= header.major < 1 << 12 or not 0 <= header.minor < 1 << 20:
                raise ArchiveError(f"{_show(header.name)} has a device number out of range")
            device = os.makedev(header.major, header.minor)
        mode |= header.mode & 0o7777
        try:
            os.mknod(base, mode, device, dir_fd=directory.fd)
        except FileExistsError:
            directory = self._replace(header, directory, base)
            os.mknod(base, mode, device, dir_fd=directory.fd)
        self._set_node(header, directory, base)

    def _set_node(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        real = directory.real + base
        self._mine[real] = -1
        if header.uid or header.gid or directory.inherits:
            os.chown(base, header.uid, header.gid, dir_fd=directory.fd, follow_symlinks=False)
        if header.xattrs is not None:
            self._set_xattrs(b"/" + real, header)
        times = (header.mtime, header.mtime)
        os.utime(base, ns=times, dir_fd=directory.fd, follow_symlinks=False)

    def _hardlink(self, header: tar.Header, directory: _Directory, base: bytes) -> None:
        if not header.linkname:
            raise ArchiveError(f"the hard link {_show(header.name)} has no target")
        target = b"/" + clean(header.linkname, self._limits.depth)
        real = directory.real + base
        try:
            try:
                os.link(target, base, dst_dir_fd=directory.fd, follow_symlinks=False)
            except FileExistsError:
                there = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
                wanted = os.stat(target, follow_symlinks=False)
                if (there.st_dev, there.st_ino) != (wanted.st_dev, wanted.st_ino):
                    directory = self._replace(header, directory, base)
                    os.link(target, base, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            raise ArchiveError(
                f"the hard link {_show(header.name)} points to {_show(header.linkname)}, "
                "which is not there"
            ) from None
        self._mine.setdefault(real, -1)
        # Docker gives the one file what the last of its headers says.
        found = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            return
        path = b"/" + real
        mode = header.mode & 0o7777
        if found.st_uid != header.uid or found.st_gid != header.gid:
            os.chown(path, header.uid, header.gid, follow_symlinks=False)
            os.chmod(path, mode)
        elif stat.S_IMODE(found.st_mode) != mode:
            os.chmod(path, mode)
        if header.xattrs is not None:
            self._set_xattrs(path, header)
        if found.st_mtime_ns != header.mtime:
            os.utime(path, ns=(header.mtime, header.mtime), follow_symlinks=False)

    # -- what entries need ---------------------------------------------------------------------

    def _open_directory(self, parent: bytes, mtime: int) -> _Directory:
        """Open the directory an entry lies in; make it when it is missing."""
        if len(self._directories) >= _CACHED_DIRECTORIES:
            self._forget()
        path = b"/" + parent
        try:
            os.chdir(path)
        except FileNotFoundError:
            self._make_parents(parent, mtime)
            os.chdir(path)
        real = os.getcwdb()[1:]
        fd = os.open(b".", _OPEN_DIRECTORY)
        found = os.fstat(fd)
        self._times.setdefault(real, found.st_mtime_ns)
        directory = _Directory(fd, real + b"/" if real else b"", bool(found.st_mode & stat.S_ISGID))
        self._directories[parent] = directory
        return directory

    def _make_parents(self, parent: bytes, mtime: int) -> None:
        """Make the directories of a path that are missing; lower ones keep their time."""
        os.chdir(b"/")
        part = b""
        for name in parent.split(b"/"):
            part = part + b"/" + name
            try:
                os.chdir(part)
            except FileNotFoundError:
                self._times.setdefault(os.getcwdb()[1:], os.stat(b".").st_mtime_ns)
                os.mkdir(name, 0o755)
                os.chdir(name)
                real = os.getcwdb()[1:]
                # In a set-group-ID directory it would belong to that one's group.
                os.chown(b".", 0, 0)
                os.chmod(b".", 0o755)
                self._mine[real] = -1
                self._times[real] = mtime

    def _forget(self) -> None:
        """Close the open directories: some name on a way to them may have changed."""
        for directory in self._directories.values():
            os.close(directory.fd)
        self._directories.clear()

    def _replace(self, header: tar.Header, directory: _Directory, base: bytes) -> _Directory:
        """Remove what is in the way of an entry; returns its directory, still open."""
        found = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        real = directory.real + base
        if stat.S_ISREG(found.st_mode):
            self._keep_body(real)
            os.unlink(base, dir_fd=directory.fd)
            return directory
        parent = clean(header.name, self._limits.depth).rpartition(b"/")[0]
        if stat.S_ISDIR(found.st_mode):
            self._remove_tree(real)
        else:
            self._mine.pop(real, None)
            os.unlink(base, dir_fd=directory.fd)
        self._forget()
        return self._open_directory(parent, header.mtime)

    def _keep_body(self, real: bytes) -> None:
        """Before a file goes: keep its content if it is the body of an entry of this layer."""
        number = self._mine.pop(real, -1)
        if number < 0:
            return
        fd = os.open(b"/" + real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            left = os.fstat(fd).st_size
            self._spill.begin(number, left)
            while left:
                data = os.read(fd, min(left, 1 << 20))
                if not data:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self._spill.write(data)
                left -= len(data)
        finally:
            os.close(fd)

    def _remove_tree(self, real: bytes) -> None:
        """Remove a directory and all it holds, keeping bodies of this layer."""
        self._prune(real, spare_mine=False)
        os.rmdir(b"/" + real)
        self._mine.pop(real, None)
        below = real + b"/"
        for path in [p for p in self._times if p == real or p.startswith(below)]:
            del self._times[path]

    def _prune(self, real: bytes, *, spare_mine: bool) -> bool:
        """Remove the content of a directory; with ``spare_mine`` only that of lower layers.

        True when the directory is empty afterwards.
        """
        empty = True
        with os.scandir(b"/" + real) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in found:
            path = real + b"/" + name if real else name
            mine = spare_mine and path in self._mine
            if is_directory:
                if not self._prune(path, spare_mine=spare_mine) or mine:
                    empty = False
                    continue
                os.rmdir(b"/" + path)
                self._mine.pop(path, None)
                self._times.pop(path, None)
            elif mine:
                empty = False
            else:
                self._keep_body(path)
                os.unlink(b"/" + path)
        return empty

    def _spill_body(self, real: bytes) -> int:
        """Put the present body into ``bodies``; returns its number."""
        size = self._reader.left
        number = self._split.body(size, real)
        self._spill.begin(number, size)
        while self._reader.left:
            self._spill.write(self._reader.chunk())
        return number

    def _expand(self, header: tar.Header, fd: int) -> None:
        """Write a sparse file from its body, which is the last one spilled."""
        segments = header.sparse or []
        end = self._spill.offset
        position = end - header.size
        size = header.size
        if header.sparse_in_body:
            window = 1 << 16
            while True:
                lead = os.pread(self._spill_fd, min(window, size), position)
                parsed = tar.parse_sparse_map(lead)
                if parsed is not None:
                    break
                if window >= size or window > 64 << 20:
                    raise ArchiveError("the archive is damaged: bad sparse map")
                window *= 4
            segments, taken = parsed
            position += taken
            size -= taken
        tar.check_sparse(segments, size, header.real_size)
        os.ftruncate(fd, header.real_size)
        for offset, length in segments:
            done = 0
            while done < length:
                piece = min(length - done, 1 << 20)
                data = os.pread(self._spill_fd, piece, position)
                if not data:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                written = os.pwrite(fd, data, offset + done)
                done += written
                position += written

    def _set_xattrs(self, target: int | bytes, header: tar.Header) -> None:
        for name, value in (header.xattrs or {}).items():
            if name.startswith(b"trusted.strata."):
                raise ArchiveError(
                    f"{_show(header.name)} carries the reserved attribute {_show(name)}",
                    hint="the layer tries to pass for an object of this store",
                )
            if not name.startswith(tar.XATTRS) or b"\0" in name:
                continue
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                    raise

    def _set_times(self) -> None:
        self._forget()
        os.chdir(b"/")
        for real, mtime in self._times.items():
            try:
                os.utime(b"/" + real, ns=(mtime, mtime), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue

    # -- whiteouts -----------------------------------------------------------------------------

    def _whiteout(self, header: tar.Header, path: bytes, parent: bytes, base: bytes) -> bool:
        """Handle an entry with a whiteout's name; False when it is an ordinary one after all."""
        if base == b".wh..wh..opq":
            where = self._find_directory(parent)
            if where is not None:
                self._prune(where, spare_mine=True)
                self._forget()
        elif any(part.startswith(b".wh..wh.") for part in path.split(b"/")):
            pass
        elif base.startswith(b".wh."):
            hidden = base[4:]
            if hidden in (b"", b".", b".."):
                raise ArchiveError(
                    f"the archive has a malformed whiteout: {_show(header.name)}",
                    hint="the layer is malicious or damaged; nothing of it was kept",
                )
            where = self._find_directory(parent)
            if where is not None:
                self._hide(where + b"/" + hidden if where else hidden)
        elif parent.startswith(b".wh.") or b"/.wh." in parent:
            raise ArchiveError(f"the archive has an entry inside a whiteout: {_show(header.name)}")
        else:
            return False
        if header.size:
            self._spill_body(path)
        return True

    def _find_directory(self, parent: bytes) -> bytes | None:
        """The real path of a directory, None when there is none. Its time will be kept."""
        try:
            os.chdir(b"/" + parent)
        except (FileNotFoundError, NotADirectoryError):
            return None
        real = os.getcwdb()[1:]
        self._times.setdefault(real, os.stat(b".").st_mtime_ns)
        return real

    def _hide(self, real: bytes) -> None:
        """Remove what lower layers have at a path."""
        try:
            found = os.stat(b"/" + real, follow_symlinks=False)
        except FileNotFoundError:
            return
        mine = real in self._mine
        if stat.S_ISDIR(found.st_mode):
            if self._prune(real, spare_mine=True) and not mine:
                os.rmdir(b"/" + real)
                self._times.pop(real, None)
            self._forget()
        elif not mine:
            os.unlink(b"/" + real)
            if stat.S_ISLNK(found.st_mode):
                self._forget()


def _read_input(view: memoryview) -> int:
    return os.readv(0, (view,))


def _report(kind: str, *fields: object) -> None:
    os.write(2, "\0".join((kind, *map(str, fields))).encode(errors="replace")[:4000])


def main(arguments: list[str]) -> int:
    """``ROOT SPILL_FD KEPT_FDS PARENT_PID LIMIT…`` as `strata.archive.apply` writes them."""
    from strata.archive.confine import confine

    root, spill, kept, parent, *numbers = arguments
    spill_fd = int(spill)
    size, entries, depth, path, special = map(int, numbers)
    limits = tar.Limits(size=size, entries=entries, depth=depth, path=path, special=special)
    gc.disable()
    sys.setrecursionlimit(5000)
    try:
        # From here on an import would look into the layer, and a layer may hold Python's library.
        sys.path.clear()
        sys.meta_path.clear()
        sys.path_hooks.clear()
        confine(root, [spill_fd, *map(int, filter(None, kept.split(",")))], file_size=size,
                parent=int(parent))  # fmt: skip
        split = Writer(lambda data: write_all(1, data))
        reader = tar.Reader(_read_input, limits, split.raw)
        unpacker = Unpacker(reader, split, spill_fd, limits)
        unpacker.run()
        split.end(reader.total, unpacker.entries)
        _report("done", unpacker.entries, reader.total)
    except ArchiveError as error:
        _report("archive", error.message, error.hint)
    except OSError as error:
        kind = "space" if error.errno in _CODES_SPACE else "host"
        where = f" ({error.filename})" if isinstance(error.filename, str) else ""
        _report(kind, f"{error.strerror}{where}")
    except MemoryError:
        _report("archive", "the archive needs too much memory to unpack")
    except RecursionError:
        _report("archive", "directories are nested too deeply")
    except Exception as error:
        _report("archive", f"the unpacking process failed: {type(error).__name__}: {error}")
    else:
        return 0
    return 1
