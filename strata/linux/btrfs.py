"""btrfs by ioctl: subvolumes, snapshots, what the file system knows about them, quota groups.

The numbers and layouts are those of <linux/btrfs.h> and <linux/btrfs_tree.h>. Every function takes
descriptors and raises `OSError`. A subvolume is named by a descriptor of its root directory, or by
its id (``tree_id``) within the file system. Searching trees needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import _struct as struct
import fcntl
import os

ROOT_INODE = 256
"""Inode number of every subvolume's root directory."""
PLACEHOLDER_INODE = 2
"""Inode number of the empty directory that a snapshot has where its source has a subvolume."""

READONLY = 1 << 1

_SNAP_CREATE_V2 = 0x50009417
_SUBVOL_CREATE_V2 = 0x50009418
_SNAP_DESTROY = 0x5000940F
_SUBVOL_GETFLAGS = 0x80089419
_SUBVOL_SETFLAGS = 0x4008941A
_GET_SUBVOL_INFO = 0x81F8943C
_GET_SUBVOL_ROOTREF = 0xD000943D
_INO_LOOKUP = 0xD0009412
_INO_LOOKUP_USER = 0xD000943E
_TREE_SEARCH = 0xD0009411
_TREE_SEARCH_V2 = 0xC0709411
_SYNC = 0x9408
_FS_INFO = 0x8400941F
_QUOTA_CTL = 0xC0109428
_QUOTA_RESCAN = 0x4040942C
_QUOTA_RESCAN_WAIT = 0x942E
_QGROUP_LIMIT = 0x8030942B

_VOL_ARGS_V2 = struct.Struct("=qQQ32x4040s")  # fd, transid, flags, size/unused, name
_VOL_ARGS = struct.Struct("=q4088s")
_SEARCH_KEY = struct.Struct("=7Q4I32x")
_SEARCH_HEADER = struct.Struct("=QQQII")
_BACKREF = struct.Struct("<QQH")
_QGROUP_INFO = struct.Struct("<5Q")
_QGROUP_STATUS = struct.Struct("<3Q")
_QGROUP_LIMITS = struct.Struct("<5Q")
_EXTENT = struct.Struct("<QQBBHB")  # generation, unpacked bytes, …, kind
_EXTENT_PLACE = struct.Struct("<QQ")

_ROOT_TREE = 1
_TOP_LEVEL = 5
_QUOTA_TREE = 8
_UUID_TREE = 9
_ROOT_BACKREF_KEY = 144
_ORPHAN_KEY = 48
_ORPHANS = (1 << 64) - 5
_EXTENT_DATA_KEY = 108
_QGROUP_STATUS_KEY = 240
_QGROUP_INFO_KEY = 242
_QGROUP_LIMIT_KEY = 244
_UUID_KEY_SUBVOL = 251
_ANY = (1 << 64) - 1

_QUOTA_ENABLE = 1
_QUOTA_DISABLE = 2
_LIMIT_REFERENCED = 1
_STATUS_INCONSISTENT = 4
_SEARCH_BUFFER = 1 << 20


class SubvolumeInfo:
    """What GET_SUBVOL_INFO tells: ids as 32 hex digits ("" for none), times in seconds."""

    __slots__ = ("created_in", "creation", "parent_uuid", "readonly", "tree_id", "uuid")

    def __init__(
        self, tree_id: int, uuid: str, parent_uuid: str, created_in: int, creation: int,
        readonly: bool,
    ) -> None:  # fmt: skip
        self.tree_id = tree_id
        self.uuid = uuid
        self.parent_uuid = parent_uuid
        self.created_in = created_in
        self.creation = creation
        self.readonly = readonly


def open_directory(path: str, dir_fd: int | None = None) -> int:
    """A descriptor of a directory, never through a symbolic link at its end."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def is_subvolume(fd: int) -> bool:
    """Whether a descriptor (of something on btrfs) is a subvolume's root."""
    return os.fstat(fd).st_ino == ROOT_INODE


def create_subvolume(dir_fd: int, name: str) -> None:
    """An empty subvolume ``name`` in a directory."""
    fcntl.ioctl(dir_fd, _SUBVOL_CREATE_V2, bytearray(_VOL_ARGS_V2.pack(0, 0, 0, os.fsencode(name))))


def create_snapshot(source: int, dir_fd: int, name: str, *, readonly: bool) -> None:
    """Snapshot the subvolume ``source`` as ``name``. Waits for a transaction to be written.

    Subvolumes inside the source become empty directories in the snapshot.
    """
    flags = READONLY if readonly else 0
    arguments = bytearray(_VOL_ARGS_V2.pack(source, 0, flags, os.fsencode(name)))
    fcntl.ioctl(dir_fd, _SNAP_CREATE_V2, arguments)


def destroy_subvolume(dir_fd: int, name: str) -> None:
    """Remove a subvolume; ENOTEMPTY when others are inside. Freeing its space happens later."""
    fcntl.ioctl(dir_fd, _SNAP_DESTROY, bytearray(_VOL_ARGS.pack(0, os.fsencode(name))))


def is_readonly(fd: int) -> bool:
    """Whether a subvolume has the read-only flag."""
    (flags,) = struct.unpack("=Q", fcntl.ioctl(fd, _SUBVOL_GETFLAGS, bytes(8)))
    return bool(flags & READONLY)


def set_readonly(fd: int, readonly: bool) -> None:
    """Set or clear the read-only flag of a subvolume."""
    (flags,) = struct.unpack("=Q", fcntl.ioctl(fd, _SUBVOL_GETFLAGS, bytes(8)))
    wanted = flags | READONLY if readonly else flags & ~READONLY
    if wanted != flags:
        fcntl.ioctl(fd, _SUBVOL_SETFLAGS, struct.pack("=Q", wanted))


def _uuid(raw: bytes) -> str:
    return raw.hex() if any(raw) else ""


def get_info(fd: int) -> SubvolumeInfo:
    """What the file system knows about the subvolume that ``fd`` lies in."""
    raw = fcntl.ioctl(fd, _GET_SUBVOL_INFO, bytes(504))
    (tree_id,) = struct.unpack_from("=Q", raw, 0)
    (flags,) = struct.unpack_from("=Q", raw, 0x120)
    (created_in,) = struct.unpack_from("=Q", raw, 0x160)
    (creation,) = struct.unpack_from("=Q", raw, 0x188)
    return SubvolumeInfo(
        tree_id, _uuid(raw[0x128:0x138]), _uuid(raw[0x138:0x148]), created_in, creation,
        bool(flags & 1),
    )  # fmt: skip


def list_children(fd: int) -> list[str]:
    """Paths, relative to the subvolume's root, of the subvolumes directly inside it."""
    found: list[str] = []
    low = 0
    while True:
        buffer = bytearray(4096)
        struct.pack_into("=Q", buffer, 0, low)
        more = False
        try:
            fcntl.ioctl(fd, _GET_SUBVOL_ROOTREF, buffer)
        except OSError as error:
            if error.errno != 75:  # EOVERFLOW: 255 filled, ask again from min_treeid
                raise
            more = True
        (low,) = struct.unpack_from("=Q", buffer, 0)
        for number in range(buffer[0xFF8]):
            tree_id, directory = struct.unpack_from("=QQ", buffer, 8 + 16 * number)
            try:
                found.append(_child_path(fd, tree_id, directory))
            except FileNotFoundError:
                continue
        if not more:
            return found


def _child_path(fd: int, tree_id: int, directory: int) -> str:
    buffer = bytearray(4096)
    struct.pack_into("=QQ", buffer, 0, directory, tree_id)
    fcntl.ioctl(fd, _INO_LOOKUP_USER, buffer)
    name = bytes(buffer[0x10:0x110]).split(b"\0", 1)[0]
    path = bytes(buffer[0x110:]).split(b"\0", 1)[0]
    return os.fsdecode(path + name)


def _search(fd: int, tree: int, objectid: int, kind: int, offset: int | None) -> tuple[int, bytes]:
    """The first item with this key: its offset and bytes; FileNotFoundError without one."""
    low, high = (0, _ANY) if offset is None else (offset, offset)
    key = _SEARCH_KEY.pack(tree, objectid, objectid, low, high, 0, _ANY, kind, kind, 1, 0)
    buffer = bytearray(4096)
    buffer[: len(key)] = key
    fcntl.ioctl(fd, _TREE_SEARCH, buffer)
    (count,) = struct.unpack_from("=I", buffer, 64)
    if count == 0:
        raise FileNotFoundError(2, "no such item")
    _, _, found, _, length = _SEARCH_HEADER.unpack_from(buffer, 104)
    return found, bytes(buffer[136 : 136 + length])


def find_path(fd: int, uuid: str) -> str | None:
    """Where the subvolume with this uuid is, relative to the file system's top; None if nowhere.

    Only subvolumes that lie in the top-level one itself, not inside others, are found.
    """
    found = find_entry(fd, uuid)
    return found[1] if found is not None and found[0] == _TOP_LEVEL else None


def find_entry(fd: int, uuid: str) -> tuple[int, str] | None:
    """The tree of the subvolume that the one with this uuid lies in, and where in it; None if
    there is no such subvolume on the file system."""
    raw = bytes.fromhex(uuid)
    first, second = struct.unpack("<QQ", raw)
    try:
        _, data = _search(fd, _UUID_TREE, first, _UUID_KEY_SUBVOL, second)
        (tree_id,) = struct.unpack_from("<Q", data)
        parent, data = _search(fd, _ROOT_TREE, tree_id, _ROOT_BACKREF_KEY, None)
    except FileNotFoundError:
        return None
    directory, _, length = _BACKREF.unpack_from(data)
    name = data[_BACKREF.size : _BACKREF.size + length]
    buffer = bytearray(4096)
    struct.pack_into("=QQ", buffer, 0, parent, directory)
    fcntl.ioctl(fd, _INO_LOOKUP, buffer)
    return parent, os.fsdecode(bytes(buffer[16:]).split(b"\0", 1)[0] + name)


def get_file_system(fd: int) -> str:
    """The uuid of the file system, the same for all its subvolumes; OSError when it is no btrfs."""
    buffer = bytearray(1024)
    fcntl.ioctl(fd, _FS_INFO, buffer)
    return bytes(buffer[16:32]).hex()


def sync(fd: int) -> None:
    """Write the running transaction; what was done before survives a power cut afterwards."""
    fcntl.ioctl(fd, _SYNC, 0)


def enable_quota(fd: int) -> None:
    """Switch quota groups on and wait until present use is counted. Idempotent."""
    try:
        fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE, 0)))
    except FileExistsError:
        pass
    fcntl.ioctl(fd, _QUOTA_RESCAN_WAIT, 0)


def set_limit(fd: int, tree_id: int, limit: int | None) -> None:
    """Limit the bytes a subvolume may refer to; None takes the limit away."""
    value = _ANY if limit is None else limit  # (u64)-1 clears, see btrfs_limit_qgroup()
    fcntl.ioctl(fd, _QGROUP_LIMIT,
                struct.pack("=QQQQQQ", tree_id, _LIMIT_REFERENCED, value, 0, 0, 0))  # fmt: skip


def disable_quota(fd: int) -> None:
    """Switch quota groups off; all limits and counts end. Idempotent."""
    fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_DISABLE, 0)))


def rescan_quota(fd: int) -> None:
    """Count all anew and wait for the end."""
    try:
        fcntl.ioctl(fd, _QUOTA_RESCAN, bytes(64))
    except OSError as error:
        if error.errno != 115:  # EINPROGRESS: somebody else began it
            raise
    fcntl.ioctl(fd, _QUOTA_RESCAN_WAIT, 0)


def has_quota(fd: int) -> bool:
    """Whether quota groups are on."""
    try:
        _search(fd, _QUOTA_TREE, 0, _QGROUP_STATUS_KEY, 0)
    except FileNotFoundError:
        return False
    return True


def is_quota_consistent(fd: int) -> bool:
    """Whether the counts can be relied on; the kernel gives them up after some removals."""
    try:
        _, data = _search(fd, _QUOTA_TREE, 0, _QGROUP_STATUS_KEY, 0)
    except FileNotFoundError:
        return True
    return not _QGROUP_STATUS.unpack_from(data)[2] & _STATUS_INCONSISTENT


def find_limit(fd: int, tree_id: int) -> int | None:
    """The bytes a subvolume may refer to; None without a limit."""
    try:
        _, data = _search(fd, _QUOTA_TREE, 0, _QGROUP_LIMIT_KEY, tree_id)
    except FileNotFoundError:
        return None
    return _parse_limit(data)


def has_limits(fd: int) -> bool:
    """Whether a limit is set on any subvolume that there is."""
    low = 0
    while True:
        key = _SEARCH_KEY.pack(
            _QUOTA_TREE, 0, 0, low, _ANY, 0, _ANY, _QGROUP_LIMIT_KEY, _QGROUP_LIMIT_KEY, 1 << 20, 0
        )
        buffer = bytearray(4096)
        buffer[: len(key)] = key
        try:
            fcntl.ioctl(fd, _TREE_SEARCH, buffer)
        except FileNotFoundError:
            return False  # quota groups are off
        (count,) = struct.unpack_from("=I", buffer, 64)
        if not count:
            return False
        place = 104
        for _ in range(count):
            _, _, tree_id, _, length = _SEARCH_HEADER.unpack_from(buffer, place)
            place += _SEARCH_HEADER.size + length
            if _parse_limit(buffer[place - length : place]) is not None and _exists(fd, tree_id):
                return True
        low = tree_id + 1


def is_cleaning(fd: int) -> bool:
    """Whether deleted subvolumes still have their space: the kernel frees it behind our back."""
    try:
        _search(fd, _ROOT_TREE, _ORPHANS, _ORPHAN_KEY, None)
    except FileNotFoundError:
        return False
    return True


def _exists(fd: int, tree_id: int) -> bool:
    try:
        _search(fd, _ROOT_TREE, tree_id, _ROOT_BACKREF_KEY, None)
    except FileNotFoundError:
        return False
    return True


def _parse_limit(data: bytes | bytearray) -> int | None:
    flags, referenced, *_ = _QGROUP_LIMITS.unpack_from(data)
    return referenced if flags & _LIMIT_REFERENCED and referenced not in (0, _ANY) else None


class Extents:
    """What the files of one subvolume refer to. ``sizes`` has the bytes each extent takes in the
    pool, by its address (by a hash for what is so small that it lies beside its inode);
    ``logical`` is how many bytes they are unpacked."""

    __slots__ = ("logical", "sizes")

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.logical = 0


def read_extents(fd: int, tree_id: int, since: int = 0) -> Extents:
    """The extents of a subvolume's files written after generation ``since``, from its tree.

    What waits in memory to be written is not there yet: see `sync`. About a second for a million
    items. Whole extents count, also where only a part of one is still referred to, for the rest
    of it is not free either. Directories, names and attributes are not counted.
    """
    found = Extents()
    sizes = found.sizes
    buffer = bytearray(112 + _SEARCH_BUFFER)
    header, extent = _SEARCH_HEADER.unpack_from, _EXTENT.unpack_from
    objectid = kind = offset = 0
    while True:
        _SEARCH_KEY.pack_into(buffer, 0, tree_id, objectid, _ANY, offset, _ANY, since, _ANY, kind,
                              255, 0xFFFFFFFF, 0)  # fmt: skip
        struct.pack_into("=Q", buffer, 104, _SEARCH_BUFFER)
        fcntl.ioctl(fd, _TREE_SEARCH_V2, buffer)
        (count,) = struct.unpack_from("=I", buffer, 64)
        if not count:
            return found
        place = 112
        for _ in range(count):
            _, objectid, offset, kind, length = header(buffer, place)
            place += 32
            if kind == _EXTENT_DATA_KEY:
                generation, unpacked, _, _, _, how = extent(buffer, place)
                if generation > since or not since:
                    if not how:
                        content = bytes(buffer[place : place + length])
                        address, size = ~abs(hash((objectid, content))), length - _EXTENT.size
                    else:
                        address, size = _EXTENT_PLACE.unpack_from(buffer, place + _EXTENT.size)
                    if address and address not in sizes:
                        sizes[address] = size
                        found.logical += unpacked
            place += length
        # The next key: offset first, then kind, then objectid, as a number would count.
        offset += 1
        if offset > _ANY:
            offset, kind = 0, kind + 1


def find_quota(fd: int, tree_id: int) -> tuple[int, int, int, int] | None:
    """Bytes (referenced, exclusive), each as counted and as compressed; None without quota."""
    try:
        _, data = _search(fd, _QUOTA_TREE, 0, _QGROUP_INFO_KEY, tree_id)
    except FileNotFoundError:
        return None
    _, referenced, referenced_packed, exclusive, exclusive_packed = _QGROUP_INFO.unpack_from(data)
    return referenced, exclusive, referenced_packed, exclusive_packed
