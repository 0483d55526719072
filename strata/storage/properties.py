"""Native properties users may set, profiles of workloads, and what each driver can honour.

Users write options (``-o recordsize=16K``, ``--storage-opt size=10G``, ``--profile postgres``);
drivers get native properties. Between them stands an allow-list: nothing here can move, share,
hide, unlock or relabel a dataset. The table is also the documentation.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BTRFS = "btrfs"
OPENZFS = "openzfs"
ZFS_FUSE = "zfs-fuse"

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_DIGITS = frozenset("0123456789.")
_NONE = "none"

COMPRESSION = ("on", "off", "lz4", "lzjb", "zle", "gzip", "zstd", "zstd-fast")


def parse_size(text: str, what: str = "size") -> int:
    """Bytes from ``512``, ``10G``, ``1.5T``, ``64KiB``; `UsageError` with a hint."""
    upper = text.strip().upper()
    number = upper.rstrip("BIKMGTP")
    unit = upper[len(number) :].removesuffix("B").removesuffix("I")
    try:
        # float() and int() alone would take "nan", "1e3", "1_000" and the digits of any script.
        if unit not in _UNITS or not _DIGITS.issuperset(number):
            raise ValueError
        value = float(number) if "." in number else int(number)
        return int(value * _UNITS[unit])
    except (ValueError, OverflowError):
        raise UsageError(
            f"invalid {what} {text!r}", hint="write a number with K, M, G or T, such as 10G"
        ) from None


def _size(text: str, name: str) -> str:
    if text.lower() in {"none", "0"}:
        return _NONE
    value = parse_size(text, name)
    if value < 1 << 20:
        raise UsageError(f"{name}={text} is less than 1 MiB", hint="sizes are in bytes; add M or G")
    return str(value)


def _recordsize(text: str, name: str) -> str:
    value = parse_size(text, name)
    if value < 512 or value > 16 << 20 or value & (value - 1):
        raise UsageError(f"invalid {name} {text!r}",
                         hint="a power of two from 512 to 16M, such as 16K or 1M")  # fmt: skip
    return str(value)


def _compression(text: str, name: str) -> str:
    base, _, level = text.lower().rpartition("-")
    if text.lower() in COMPRESSION:
        return text.lower()
    if base == "gzip" and level.isdecimal() and 1 <= int(level) <= 9:
        return text.lower()
    if base == "zstd" and level.isdecimal() and 1 <= int(level) <= 19:
        return text.lower()
    if base == "zstd-fast" and level.isdecimal() and 1 <= int(level) <= 1000:
        return text.lower()
    raise UsageError(
        f"invalid {name} {text!r}",
        hint="one of on, off, lz4, zle, lzjb, gzip, gzip-1…9, zstd, zstd-1…19, zstd-fast-N",
    )


class Property:
    """One property a user may set: its allowed values, or a function that checks them."""

    __slots__ = ("check", "meaning", "values")

    def __init__(self, meaning: str, values: tuple[str, ...] = (), check: object = None) -> None:
        self.meaning = meaning
        self.values = values
        self.check = check

    def parse(self, name: str, text: str) -> str:
        """The value as the driver wants it; `UsageError` with the choices."""
        if callable(self.check):
            value = self.check(text, name)
            assert isinstance(value, str)
            return value
        if text.lower() not in self.values:
            raise UsageError(f"invalid {name} {text!r}", hint=f"one of {', '.join(self.values)}")
        return text.lower()


_CACHE = ("all", "none", "metadata")
_SWITCH = ("on", "off")

PROPERTIES = {
    "recordsize": Property("largest block of a file; match the database's page", (), _recordsize),
    "compression": Property("how blocks are compressed", (), _compression),
    "size": Property(
        "room for its own data: above the image of a container, all of a volume; snapshots apart",
        (), _size),
    "refquota": Property(
        "limit on everything it shows, of a container the image too; snapshots apart", (), _size),
    "quota": Property(
        "limit on its own data and its snapshots together; an image is not counted", (), _size),
    "refreservation": Property("space kept free for the dataset, snapshots apart", (), _size),
    "reservation": Property("space kept free for the dataset and its snapshots", (), _size),
    "atime": Property("record access times", _SWITCH),
    "relatime": Property("record access times, at most daily", _SWITCH),
    "sync": Property("when a write counts as safe", ("standard", "always", "disabled")),
    "logbias": Property("fast answers or less fragmentation", ("latency", "throughput")),
    "primarycache": Property("what the memory cache keeps", _CACHE),
    "secondarycache": Property("what the cache device keeps", _CACHE),
    "copies": Property("copies of each block", ("1", "2", "3")),
    "checksum": Property("which checksum; off is not offered", (
        "on", "fletcher2", "fletcher4", "sha256", "sha512", "skein", "edonr", "blake3")),
    "dedup": Property("deduplicate; costs memory for ever, seldom pays", (
        "on", "off", "verify", "sha256", "sha512", "skein", "blake3")),
}  # fmt: skip

LIMITS = ("refquota", "quota", "refreservation", "reservation")
"""Properties that limit or reserve space, as drivers know them; `resolve_size` makes one of
``size``."""

_FORBIDDEN = {
    "mountpoint": "the engine decides where datasets appear",
    "canmount": "the engine decides what is mounted",
    "keylocation": "keys belong to the pool's owner",
    "encryption": "encrypt the dataset the store lives in",
    "exec": "mount the volume with the noexec option instead",
    "setuid": "mount the volume with the nosuid option instead",
    "devices": "mount the volume with the nodev option instead",
    "readonly": "mount the volume with the ro option instead",
    "xattr": "the store sets it once for all datasets",
    "acltype": "the store sets it once for all datasets",
    **dict.fromkeys(("type", "device", "o"),
                    "a volume is a dataset: mount others with -v /path:… or --mount type=tmpfs,…"),
}  # fmt: skip


def parse_options(options: Mapping[str, str]) -> dict[str, str]:
    """Native properties from a user's options; `UsageError` for a name or value not allowed."""
    native: dict[str, str] = {}
    for name, text in options.items():
        known = PROPERTIES.get(name)
        if known is None:
            reason = _FORBIDDEN.get(name, "")
            if name.startswith("share"):
                reason = "publish files from a container instead"
            if ":" in name:
                reason = "use --label for your own facts"
            hint = reason or f"allowed are {', '.join(PROPERTIES)}"
            raise UsageError(f"the option {name!r} cannot be set", hint=hint)
        native[name] = known.parse(name, text)
    if "size" in native and "refquota" in native:
        raise UsageError(
            "size and refquota are two words for one limit: give one of them",
            hint="size does not count the image of a container, refquota does",
        )
    return native


def is_near(limit: int, held: int) -> bool:
    """Whether what a full dataset holds is its limit and the little that went in on top: a pool
    counts late. It may have as much for its limit."""
    return held <= limit + (1 << 20) + limit // 64


def resolve_size(native: Mapping[str, str], base: int) -> dict[str, str]:
    """``size`` as the ``refquota`` it comes to; ``base`` is what the dataset begins with and does
    not count, in bytes."""
    resolved = {name: value for name, value in native.items() if name != "size"}
    size = native.get("size")
    if size is not None:
        resolved["refquota"] = size if size == _NONE else str(base + int(size))
    return resolved


def drop_unlimited(native: Mapping[str, str]) -> dict[str, str]:
    """Properties for something new, where "no limit" needs no saying."""
    limits = ("size", *LIMITS)
    return {name: value for name, value in native.items()
            if not (name in limits and value == _NONE)}  # fmt: skip


class Profile:
    """Settings for one kind of work and the reason for them."""

    __slots__ = ("name", "properties", "reason")

    def __init__(self, name: str, properties: dict[str, str], reason: str) -> None:
        self.name = name
        self.properties = properties
        self.reason = reason


def _profiles(*rows: tuple[str, dict[str, str], str]) -> dict[str, Profile]:
    return {name: Profile(name, properties, reason) for name, properties, reason in rows}


PROFILES = _profiles(
    ("default", {}, "the store's settings: 128K records, zstd where the pool knows it"),
    ("postgres", {"recordsize": "16384", "compression": "lz4"},
     "8 KiB pages: two to a record compress better than one, and a miss reads little extra"),
    ("mysql", {"recordsize": "16384", "compression": "lz4"},
     "InnoDB pages are 16 KiB: one page, one record, no read-modify-write"),
    ("mongodb", {"recordsize": "65536", "compression": "lz4"},
     "WiredTiger writes 32 KiB leaves it has compressed itself, in larger runs"),
    ("redis", {"recordsize": "131072", "compression": "lz4"},
     "append-only file and dumps are written front to back; lz4 costs the fork least"),
    ("minio", {"recordsize": "1048576", "compression": "lz4"},
     "large objects in one piece: fewer blocks to keep track of"),
    ("blobs", {"recordsize": "1048576", "compression": "lz4"},
     "large files that are compressed already: lz4 gives up early"),
    ("logs", {"recordsize": "131072", "compression": "zstd", "logbias": "throughput"},
     "text shrinks by ten; nobody waits for a log line to be safe"),
    ("vm", {"recordsize": "65536", "compression": "lz4"},
     "qcow2 clusters are 64 KiB; smaller records would cost a raw image its compression"),
    ("small", {"recordsize": "16384", "compression": "zstd"},
     "many small files changed in place, such as mail or sqlite"),
)  # fmt: skip
"""Workload profiles. Each value is a default a user's option overrides; measure before tuning."""


def get_profile(name: str) -> Profile:
    """The profile of this name; `UsageError` lists them."""
    if name not in PROFILES:
        raise UsageError(f"no such profile {name!r}", hint=f"one of {', '.join(PROFILES)}")
    return PROFILES[name]


_BTRFS_REASONS = {
    "recordsize": "btrfs has no record size: extents are as long as the writes",
    "quota": "btrfs counts a subvolume without its snapshots, as size and refquota do",
    "refreservation": "btrfs cannot reserve space for one subvolume",
    "reservation": "btrfs cannot reserve space for one subvolume",
    "atime": "access times are a matter of mounting there; the store mounts without them",
    "relatime": "access times are a matter of mounting there; the store mounts without them",
    "sync": "btrfs has no such switch",
    "logbias": "btrfs has no intent log to steer",
    "primarycache": "the page cache cannot be steered per subvolume",
    "secondarycache": "there are no cache devices",
    "copies": "copies are a property of the whole btrfs pool",
    "checksum": "the checksum is chosen for the whole btrfs pool",
    "dedup": "btrfs does not deduplicate while writing",
}

_BTRFS_COMPRESSION = {"on": "zstd", "off": "none", "zstd": "zstd", "gzip": "zlib",
                      "lz4": "lzo", "lzjb": "lzo", "zle": "none"}  # fmt: skip

_NEWER_CHECKSUMS = frozenset({"sha512", "skein", "edonr", "blake3"})
_FUSE_COMPRESSION = ("on", "off", "lzjb", "zle", "gzip")


def fit(
    native: Mapping[str, str], flavour: str, *, optional: frozenset[str] | set[str] = frozenset()
) -> tuple[dict[str, str], list[str]]:
    """What of ``native`` a driver can honour, and notes on what became of the rest.

    ``flavour`` is a driver's ``flavour``. A property that the user asked for and the driver
    cannot give is refused with the reason; one in ``optional`` (it came from a profile) is
    dropped with a note.
    """
    if flavour == BTRFS:
        return _fit_btrfs(native, optional)
    if flavour == ZFS_FUSE:
        return _fit_fuse(native, optional)
    return dict(native), []


def _refuse(name: str, value: str, reason: str, optional: frozenset[str] | set[str]) -> str:
    if name not in optional:
        raise UsageError(f"{name}={value} cannot be honoured: {reason}",
                         hint="leave it out, or use a store on OpenZFS")  # fmt: skip
    return f"{name}={value} left out: {reason}"


def _fit_btrfs(
    native: Mapping[str, str], optional: frozenset[str] | set[str]
) -> tuple[dict[str, str], list[str]]:
    kept: dict[str, str] = {}
    notes: list[str] = []
    for name, value in native.items():
        if name == "atime" and value == "off":
            continue
        reason = _BTRFS_REASONS.get(name)
        if name in LIMITS and name != "refquota" and value == _NONE:
            continue
        if reason is not None:
            notes.append(_refuse(name, value, reason, optional))
        elif name == "compression":
            method = _BTRFS_COMPRESSION.get(value) or _BTRFS_COMPRESSION[value.split("-")[0]]
            if method not in {value, "none"} and value != "on":
                notes.append(f"compression={value} is {method} on btrfs")
            kept[name] = method
        else:
            kept[name] = value
    return kept, notes


def _fit_fuse(
    native: Mapping[str, str], optional: frozenset[str] | set[str]
) -> tuple[dict[str, str], list[str]]:
    kept: dict[str, str] = {}
    notes: list[str] = []
    for name, value in native.items():
        if name == "compression" and value.split("-")[0] not in _FUSE_COMPRESSION:
            notes.append(f"compression={value} is on (lzjb) on zfs-fuse, which knows no newer one")
            kept[name] = "on"
        elif name == "recordsize" and int(value) > 131072:
            notes.append(_refuse(name, value, "zfs-fuse records end at 128K", optional))
        elif name in {"relatime", "sync"} or value in _NEWER_CHECKSUMS:
            notes.append(_refuse(name, value, "zfs-fuse does not know it", optional))
        else:
            kept[name] = value
    return kept, notes


def plan(
    options: Mapping[str, str], flavour: str, profile: str = ""
) -> tuple[dict[str, str], list[str]]:
    """Native properties for a new dataset from a profile and a user's options over it.

    Returns the properties and notes for the user. `UsageError` when one is not allowed, has a
    bad value, or cannot be honoured by this driver.
    """
    asked = parse_options(options)
    defaults = get_profile(profile).properties if profile else {}
    optional = {name for name in defaults if name not in asked}
    return fit({**defaults, **asked}, flavour, optional=optional)
