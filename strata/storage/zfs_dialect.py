"""What the installed ``zfs`` understands, and what its words mean.

Two programs carry the name: OpenZFS (2.1 and later, a kernel module) and zfs-fuse (0.7, a daemon
with pool version 23). Which one is there is found out by asking it, never assumed: `probe`. The
rest of the driver reads `Dialect`, a row of answers, and `classify`, the one place that reads
stderr.
"""

from __future__ import annotations

from strata import command
from strata.errors import NoSpace, StorageError, StoreMissing, StrataError, UsageError
from strata.storage.driver import (
    DatasetBusy,
    DatasetExists,
    DatasetNotFound,
    Facts,
    HasDependants,
    StreamBroken,
    StreamMismatch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.command import Result

OPENZFS = "openzfs"
ZFS_FUSE = "zfs-fuse"

MINIMUM = (2, 1)
"""Oldest OpenZFS served: the first with ``zfs version``, zstd and working ``rename -u``."""
IDMAP_SINCE = (2, 2)
"""First OpenZFS with idmapped mounts."""
BLOCK_CLONE_SINCE = (2, 3)
"""First OpenZFS where block cloning is there and on unless the host turns it off."""
JSON_SINCE = (2, 3)
"""First OpenZFS whose commands answer in JSON."""


class Dialect:
    """Answers about one ``zfs`` program.

    ``create_options`` go into every create and clone; ``root_properties`` into the creation of the
    root dataset; ``tagged_list`` says whether ``list`` knows ``-p`` and ``clones``;
    ``rename`` is the verb with its options; ``kernel`` whether mount(2) mounts datasets; ``json``
    whether ``get`` answers in JSON, in which a value may hold anything.
    """

    __slots__ = ("create_options", "facts", "json", "kernel", "name", "rename", "root_properties",
                 "tagged_list")  # fmt: skip

    def __init__(
        self, name: str, *, kernel: bool, tagged_list: bool, rename: list[str],
        create_options: list[str], root_properties: dict[str, str], facts: Facts,
    ) -> None:  # fmt: skip
        self.name = name
        self.kernel = kernel
        self.tagged_list = tagged_list
        self.rename = rename
        self.create_options = create_options
        self.root_properties = root_properties
        self.facts = facts
        self.json = False


# Only at creation can these be set, and images need all of them: names are bytes, told apart by
# case, with access control lists, attributes, devices and set-uid programs.
_ROOT_PROPERTIES = {
    "normalization": "none", "utf8only": "off", "casesensitivity": "sensitive", "exec": "on",
    "setuid": "on", "devices": "on", "atime": "off", "readonly": "off", "canmount": "noauto",
}  # fmt: skip


def _make_openzfs() -> Dialect:
    return Dialect(
        OPENZFS,
        kernel=True,
        tagged_list=True,
        # -u leaves mounts alone, so a dataset that another namespace pins can be renamed.
        rename=["rename", "-u"],
        create_options=[],  # mountpoint=legacy is inherited: nothing mounts by itself
        root_properties={**_ROOT_PROPERTIES, "mountpoint": "legacy", "acltype": "posix",
                         "xattr": "sa"},
        facts=Facts(
            private_mount=True, rename_busy=True, atomic_set=True, properties_at_create=True,
            reports_busy=True, clones_pin=True, native_properties=True, quota=True, send=True,
            send_since=True, send_raw=True, send_resume=True, holds=True, bookmarks=True,
            block_clone=True, idmap=True, waits=True, counts=True, quota_snapshots=True,
            reservation=True, shows_snapshots=True,
        ),
    )  # fmt: skip


def _make_zfs_fuse() -> Dialect:
    return Dialect(
        ZFS_FUSE,
        kernel=False,
        tagged_list=False,
        rename=["rename"],
        create_options=["-o", "canmount=noauto"],  # not inherited
        root_properties={**_ROOT_PROPERTIES, "xattr": "on"},
        facts=Facts(
            private_mount=False, rename_busy=False, atomic_set=False, properties_at_create=True,
            reports_busy=True, clones_pin=True, native_properties=True, quota=True, send=False,
            send_since=False, send_raw=False, send_resume=False, holds=False, bookmarks=False,
            block_clone=False, idmap=False, waits=True, counts=True, quota_snapshots=True,
            reservation=True, shows_snapshots=False,
        ),
    )  # fmt: skip


_DIALECTS = {OPENZFS: _make_openzfs, ZFS_FUSE: _make_zfs_fuse}


def get_dialect(name: str, version: tuple[int, int] | None = None) -> Dialect:
    """The dialect with this name; `StorageError` for one from a later version.

    ``version`` is what to take OpenZFS for, by default what is loaded: a later one is used as an
    earlier one would be.
    """
    if name not in _DIALECTS:
        raise StorageError(f"unknown ZFS dialect {name!r}", hint="use the newer strata")
    dialect = _DIALECTS[name]()
    if dialect.kernel:
        version = version or find_kernel_version() or MINIMUM
        dialect.facts.idmap = version >= IDMAP_SINCE
        dialect.facts.block_clone = version >= BLOCK_CLONE_SINCE and is_cloning_blocks()
        dialect.json = version >= JSON_SINCE
    return dialect


def is_cloning_blocks() -> bool:
    """Whether this host lets ``copy_file_range`` share blocks (module parameter, zfs(4))."""
    try:
        with open("/sys/module/zfs/parameters/zfs_bclone_enabled") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def find_kernel_version() -> tuple[int, int] | None:
    """Version of the loaded module, None without one."""
    try:
        with open("/sys/module/zfs/version") as file:
            return parse_version(file.read())
    except OSError:
        return None


def has_kernel_zfs() -> bool:
    """Whether the running kernel has ZFS loaded."""
    try:
        with open("/proc/filesystems") as file:
            return any(line.split()[-1:] == ["zfs"] for line in file)
    except OSError:
        return False


def probe() -> str | None:
    """The dialect of the installed ``zfs``, None when there is none to use.

    OpenZFS answers ``zfs version`` with two lines, ``zfs-2.1.11-1`` and ``zfs-kmod-2.1.11-1``.
    zfs-fuse has no such verb and says so, or that its daemon is not running.
    """
    if command.find_program("zfs") is None:
        return None
    result = command.run(["zfs", "version"], check=False, timeout=30)
    if result.returncode == 0:
        version = parse_version(result.text)
        if version is not None and version < MINIMUM:
            wanted = ".".join(str(number) for number in MINIMUM)
            raise StorageError(f"OpenZFS {version[0]}.{version[1]} is too old",
                               hint=f"{wanted} or later is needed")  # fmt: skip
        return OPENZFS if has_kernel_zfs() else None
    said = result.stderr.decode(errors="replace")
    if "zfs-fuse" in said or "unrecognized command 'version'" in said:
        return ZFS_FUSE
    return None


def parse_version(text: str) -> tuple[int, int] | None:
    """Major and minor number in the answer to ``zfs version``, or None."""
    for line in text.splitlines():
        numbers = line.removeprefix("zfs-").removeprefix("kmod-").split(".")
        if len(numbers) >= 2 and numbers[0].isdecimal() and numbers[1][:1].isdecimal():
            minor = "".join(char for char in numbers[1] if char.isdecimal())
            return int(numbers[0]), int(minor)
    return None


class ParentMissing(DatasetNotFound):
    """The dataset that should hold a new one is absent."""


# Texts of libzfs_dataset.c, zfs_main.c and libzfs_util.c, in the order they must be tried: some
# answers contain two. OpenZFS 2.1 to 2.3 and zfs-fuse 0.7 were read.
_MEANINGS: tuple[tuple[type[StrataError], tuple[str, ...]], ...] = (
    (StreamBroken, (
        "incomplete stream", "invalid stream", "stream is broken", "invalid backup stream",
        "checksum mismatch", "failed to read from stream", "Partially received snapshot",
        "resume token is corrupt",
    )),
    (StreamMismatch, (
        "does not match incremental source", "has been modified", "is not an earlier snapshot",
        "incremental source", "does not match the original",
    )),
    (StoreMissing, (
        "zfs-fuse daemon is running", "The ZFS modules are not loaded",
        "/dev/zfs and /proc/self/mounts are required", "no such pool",
        "Permission denied the ZFS utilities must be run as root",
    )),
    (ParentMissing, ("parent does not exist",)),
    (HasDependants, (
        "has dependent clones", "has children", "has snapshots",
        "more recent snapshots", "clones of previous snapshots exist",
    )),
    # A recursive destroy adds "already exists" to these, for the datasets above.
    (DatasetBusy, ("it's being held", "dataset is busy")),
    (NoSpace, (
        "out of space", "No space left on device", "no space left", "quota exceeded",
        "Disk quota exceeded", "Disc quota exceeded", "space quota",
        "size is greater than available space",
    )),
    (DatasetExists, (
        "dataset already exists", "destination already exists", "already exists",
        "conflicting snapshot", "conflicts with", "pool already exists",
    )),
    (DatasetNotFound, (
        "dataset does not exist", "could not find any snapshots to destroy",
        "specified fs", "no datasets available",
    )),
    (DatasetBusy, (
        "pool is busy", "target is busy", "device is busy",
        "mountpoint or dataset is busy", "umount failed", "already mounted",
        "Device or resource busy", "pool or dataset is busy",
    )),
    (UsageError, (
        "invalid property", "must be one of", "bad numeric value", "name is too long",
        "invalid character", "invalid quota", "property does not apply", "must be power of 2",
        "must be a power of 2", "is readonly", "must be upgraded",
        "size is less than current used",
    )),
)  # fmt: skip

_HINTS: dict[type[StrataError], str] = {
    StoreMissing: "import the pool, or load the zfs module or start zfs-fuse",
    NoSpace: "see `strata system df`; prune, or enlarge it",
    HasDependants: "destroy what depends on it first",
}


def classify(result: Result) -> StrataError | None:
    """The error that a failed ``zfs`` or ``zpool`` means, or None for text nobody knows."""
    text = result.stderr.decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for kind, phrases in _MEANINGS:
        if any(phrase in text for phrase in phrases):
            said = lines[0] if lines else "zfs failed"
            if kind is HasDependants:
                named = [line.split()[0] for line in lines[1:] if "/" in line and "'" not in line]
                return HasDependants(said, named, hint=_HINTS[kind])
            return kind(said, hint=_HINTS.get(kind, ""))
    if "not a cloned filesystem" in text:
        return StorageError(lines[0])
    return None
