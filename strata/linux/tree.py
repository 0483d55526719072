"""Copying a tree between two places neither of which is trusted, and removing one.

Everything goes through descriptors of directories: each step opens one name, never through a
symbolic link, and descends by descriptor. So whoever changes names meanwhile, on either side,
cannot lead the copy elsewhere. Kept: types, modes, owners, times, symbolic links, devices,
extended attributes the caller may set. Hard links become separate files.
"""

from __future__ import annotations

import errno
import os
import stat

from strata.linux.write import write_all

_COPY_CHUNK = 1 << 30
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeCopy:
    """One copy. ``owner`` overrides uid and gid of everything copied (None keeps them).

    ``overwrite`` lets a directory replace a non-directory and the other way round. ``harmless``
    makes of what a container prepared nothing that gives rights on the host: no device nodes, no
    set-user-id and set-group-id bits, no file capabilities. ``empty`` holds ids of file
    systems (``st_dev``) of which only the directory is made that they are mounted on.
    """

    __slots__ = ("count", "empty", "harmless", "overwrite", "owner", "skipped")

    def __init__(
        self, *, owner: tuple[int, int] | None = None, overwrite: bool = False,
        harmless: bool = False, empty: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self.owner = owner
        self.overwrite = overwrite
        self.harmless = harmless
        self.empty = empty
        self.count = 0
        #: names of device nodes and sockets that were left out
        self.skipped: list[str] = []

    def copy(self, source: int, name: str, target: int, new: str) -> None:
        """Copy ``name`` in the directory ``source`` to ``new`` in the directory ``target``."""
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISSOCK(status.st_mode) or (self.harmless and _is_device(status.st_mode)):
            self.skipped.append(name)
            return
        self.count += 1
        if stat.S_ISDIR(status.st_mode):
            self._directory(source, name, status, target, new)
            return
        self._make_room(target, new)
        if stat.S_ISREG(status.st_mode):
            self._file(source, name, status, target, new)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
        else:
            os.mknod(new, status.st_mode, status.st_rdev, dir_fd=target)
        self._finish_name(status, target, new)

    def copy_contents(self, source: int, target: int) -> None:
        """Copy everything in the directory ``source`` into the directory ``target``."""
        for name in os.listdir(source):
            self.copy(source, name, target, name)

    def _directory(
        self, source: int, name: str, status: os.stat_result, target: int, new: str
    ) -> None:
        self._make_room(target, new, directory=True)
        try:
            os.mkdir(new, 0o700, dir_fd=target)
        except FileExistsError:
            pass
        inner_source = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            inner_target = os.open(new, _DIRECTORY, dir_fd=target)
            try:
                if status.st_dev not in self.empty:
                    self.copy_contents(inner_source, inner_target)
                _copy_attributes(inner_source, inner_target, harmless=self.harmless)
                self._finish_fd(status, inner_target)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)

    def _file(self, source: int, name: str, status: os.stat_result, target: int, new: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=source)
        try:
            create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(new, create, 0o600, dir_fd=target)
            try:
                copy_bytes(fd, out)
                _copy_attributes(fd, out, harmless=self.harmless)
                self._finish_fd(status, out)
            finally:
                os.close(out)
        finally:
            os.close(fd)

    def _make_room(self, target: int, new: str, *, directory: bool = False) -> None:
        """Remove what is in the way; a directory is never removed for a file unasked."""
        try:
            there = os.stat(new, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            return
        is_directory = stat.S_ISDIR(there.st_mode)
        if is_directory and directory:
            return
        if is_directory and not self.overwrite:
            raise IsADirectoryError(errno.EISDIR, "a directory is in the way", new)
        if directory and not self.overwrite:
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", new)
        if is_directory:
            remove_tree(target, new)
        else:
            os.unlink(new, dir_fd=target)

    def _mode(self, status: os.stat_result) -> int:
        mode = stat.S_IMODE(status.st_mode)
        if self.harmless and not stat.S_ISDIR(status.st_mode):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        return mode

    def _finish_fd(self, status: os.stat_result, fd: int) -> None:
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, self._mode(status))
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _finish_name(self, status: os.stat_result, target: int, new: str) -> None:
        if stat.S_ISREG(status.st_mode):
            return
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        os.chown(new, uid, gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            # chmod(2) follows links, and somebody may have put one here by now.
            fd = os.open(new, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", self._mode(status))
            finally:
                os.close(fd)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def copy_bytes(source: int, target: int) -> None:
    """Copy one file's bytes, inside the kernel where both sides allow it."""
    try:
        while os.copy_file_range(source, target, _COPY_CHUNK):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        while chunk := os.read(source, 1 << 20):
            write_all(target, chunk)


def _copy_attributes(source: int, target: int, *, harmless: bool) -> None:
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith(("trusted.", "security." if harmless else "security.selinux")):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError:
            continue


def remove_tree(directory: int, name: str) -> None:
    """Remove a directory and all below it, by descriptor."""
    fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_directory in found:
            if is_directory:
                remove_tree(fd, inner)
            else:
                os.unlink(inner, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)


def remove_file(path: str) -> None:
    """Remove a file, but no directory. Idempotent."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def remove_path(path: str) -> None:
    """Remove a directory and all below it; its parent is one of ours. Idempotent."""
    folder, name = os.path.split(path)
    try:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(fd, name)
    except FileNotFoundError:
        return
    finally:
        os.close(fd)
