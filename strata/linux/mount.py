"""Mounts: the classic calls and the descriptor-based ones.

Every function acts on the mount namespace of the calling process and raises `OSError`. Nothing
here decides anything; who mounts what where is planned elsewhere and executed as `MountStep`s.
"""

from __future__ import annotations

import _struct as struct
import os

from strata.linux.syscall import MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE, call, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
_MOUNT_ATTR_IDMAP = 0x00100000
#: struct mount_attr: attributes to set and to clear, propagation, descriptor of a user namespace
_MOUNT_ATTR = "=4Q"


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        flags,
        os.fsencode(data) or None,
        what=target,
    )


def unmount(target: str, *, lazy: bool = False) -> None:
    """umount2(2), never following a symbolic link."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    call("umount2", os.fsencode(target), flags, what=target)


def take_down(target: str) -> None:
    """Unmount all that is mounted at ``target``, lazily once it is busy. Idempotent."""
    lazy = False
    while True:
        try:
            unmount(target, lazy=lazy)
        except OSError as error:
            import errno

            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY or lazy:
                raise
            lazy = True


def shows(target: str, source: str) -> bool:
    """Whether the directory ``source`` is what one finds at ``target``."""
    try:
        there, wanted = os.stat(target), os.stat(source)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)


def set_propagation(target: str, kind: int, *, recursive: bool = True) -> None:
    """Make a mount MS_SHARED, MS_SLAVE or MS_PRIVATE."""
    mount("none", target, "", kind | (MS_REC if recursive else 0))


def clone_tree(path: str, *, recursive: bool = False) -> int:
    """open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at ``path``; a descriptor."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return syscall(OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, what=path)


def set_attributes(
    fd: int, *, add: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """mount_setattr(2) on a mount descriptor: MOUNT_ATTR_* bits to add and to clear."""
    attr = struct.pack(_MOUNT_ATTR, add, clear, propagation, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall(MOUNT_SETATTR, fd, b"", flags, attr, len(attr), what="mount_setattr")


def set_idmap(fd: int, namespace: int) -> None:
    """mount_setattr(2): let a detached mount show its owners as a user namespace maps them."""
    attr = struct.pack(_MOUNT_ATTR, _MOUNT_ATTR_IDMAP, 0, 0, namespace)
    syscall(MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, attr, len(attr), what="idmapped mount")


def attach_tree(fd: int, target: str) -> None:
    """move_mount(2): attach a detached mount at ``target``."""
    syscall(MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH,
            what=target)  # fmt: skip


def bind(
    source: str, target: str, *, add: int = 0, clear: int = 0, recursive: bool = False
) -> None:
    """Bind ``source`` at ``target`` with the given attributes, never visible half configured."""
    fd = clone_tree(source, recursive=recursive)
    try:
        if add or clear:
            set_attributes(fd, add=add, clear=clear, recursive=recursive)
        attach_tree(fd, target)
    finally:
        os.close(fd)


class MountInfo:
    """One line of /proc/PID/mountinfo: proc_pid_mountinfo(5)."""

    __slots__ = ("fstype", "mount_id", "options", "propagation", "root", "source", "target")

    def __init__(
        self, mount_id: int, root: str, target: str, options: str, propagation: str,
        fstype: str, source: str,
    ) -> None:  # fmt: skip
        self.mount_id = mount_id
        self.root = root
        self.target = target
        self.options = options
        self.propagation = propagation
        self.fstype = fstype
        self.source = source


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def parse_mountinfo(text: str) -> Iterator[MountInfo]:
    """Parse the text of a mountinfo file; lines that do not fit the format are passed over."""
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not separator or len(before) < 6 or len(after) < 2:
            continue
        yield MountInfo(
            int(before[0]), _unescape(before[3]), _unescape(before[4]), before[5],
            " ".join(before[6:]), after[0], _unescape(after[1]),
        )  # fmt: skip


def list_mounts(pid: int | str = "self", *, naming: str = "") -> list[MountInfo]:
    """The mounts a process sees; empty when the process is gone.

    Also empty when none of their lines has the text ``naming``: a look that costs little.
    """
    try:
        with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as file:
            text = file.read()
        return list(parse_mountinfo(text)) if naming in text else []
    except OSError as error:
        import errno

        # A zombie has no namespace: EINVAL.
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EINVAL):
            return []
        raise


def find_mount(target: str) -> MountInfo | None:
    """The topmost mount exactly at ``target`` in our namespace, or None."""
    found = None
    for entry in list_mounts():
        if entry.target == target:
            found = entry
    return found


class MountStep:
    """One mount to make, as a value: printed, compared and tested before it touches the kernel.

    With ``fstype`` it is a mount of ``source``; without, a bind. ``add`` and ``clear`` are
    MOUNT_ATTR_* bits; they apply to both forms. ``subdirectory``, relative to the root of the
    mount, is what appears at ``target`` (the rest of the file system stays hidden).
    """

    __slots__ = ("add", "clear", "data", "fstype", "recursive", "source", "subdirectory", "target")

    def __init__(
        self, source: str, target: str, *, fstype: str = "", data: str = "", add: int = 0,
        clear: int = 0, subdirectory: str = "", recursive: bool = False,
    ) -> None:  # fmt: skip
        self.source = source
        self.target = target
        self.fstype = fstype
        self.data = data
        self.add = add
        self.clear = clear
        self.subdirectory = subdirectory
        self.recursive = recursive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MountStep) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(self.describe())

    def describe(self) -> str:
        """One line for people, traces and golden tests."""
        kind = self.fstype or ("rbind" if self.recursive else "bind")
        inside = f"/{self.subdirectory}" if self.subdirectory else ""
        return (f"{kind} {self.source}{inside} on {self.target} +{self.add:#x} -{self.clear:#x}"
                f"{' ' + self.data if self.data else ''}")  # fmt: skip

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        if not self.fstype:
            source = f"{self.source}/{self.subdirectory}" if self.subdirectory else self.source
            bind(source, self.target, add=self.add, clear=self.clear, recursive=self.recursive)
            return
        mount(self.source, self.target, self.fstype, self.add & 0xF, self.data)
        if self.subdirectory:
            bind(f"{self.target}/{self.subdirectory}", self.target, add=self.add, clear=self.clear)
