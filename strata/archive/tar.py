"""The tar format as layers use it: a lean reader, and headers for what we write.

Reads POSIX ustar, pax (local headers; global ones are passed over, as Docker does), GNU long
names, GNU sparse files (old format and pax 0.0, 0.1, 1.0), base-256 numbers, V7. The standard
``tarfile`` takes twice the time of GNU tar for a layer; this reader keeps up with it because it
parses out of one large buffer and makes one small object per entry.

`Reader` gives entries in order. A body is taken in pieces by `Reader.chunk` or passed over by
`Reader.skip`. ``keep`` is called with every byte which is not a body (headers, padding, what
follows the end of the archive), so that somebody who has the bodies can rebuild the stream.
Which entries have a body is decided as in Go's archive/tar, which Docker and containerd read
with: links, devices, fifos and directories have none, whatever their size field says.

Everything malformed raises `ArchiveError`. Sources: POSIX.1-2017 pax "ustar Interchange Format",
the GNU tar manual "Basic Tar Format" and "Storing Sparse Files", OCI image-spec layer.md.
"""

from __future__ import annotations

import binascii
import os
import struct
import zlib

from strata.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 512
ZEROS = bytes(BLOCK)

REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCKDEV, DIRECTORY, FIFO = b"0123456"
CONTIGUOUS = ord("7")
GNU_SPARSE = ord("S")
# Extended attributes that layers carry: others are the host's (labels) or the store's.
XATTRS = (b"user.", b"security.capability", b"system.posix_acl_")
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"xgLK"
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCKDEV, DIRECTORY, FIFO))

# name mode uid gid size mtime checksum type linkname magic+version uname+gname major minor prefix
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_SUM_FIELD = sum(b" " * 8)
_ADLER_BASE = 65521
_OCTAL = frozenset(b"01234567")

# Real archives use few distinct owners, modes and device numbers: remember what they mean.
_numbers: dict[bytes, int] = {bytes(8): 0, b"0000000\0": 0}


class Limits:
    """What one archive may ask for. Sizes are in bytes.

    ``size`` counts what files hold once unpacked, and the uncompressed stream itself; ``ratio`` is
    the largest allowed factor between blob and stream beyond ``ratio_floor``; ``special`` bounds a
    pax header or a GNU long name; ``depth`` counts path components.
    """

    __slots__ = ("depth", "entries", "path", "ratio", "ratio_floor", "size", "special")

    def __init__(
        self, *, size: int = 64 << 30, entries: int = 10_000_000, depth: int = 256,
        path: int = 4095, special: int = 1 << 20, ratio: int = 2000, ratio_floor: int = 4 << 30,
    ) -> None:  # fmt: skip
        self.size = size
        self.entries = entries
        self.depth = depth
        self.path = path
        self.special = special
        self.ratio = ratio
        self.ratio_floor = ratio_floor


class Header:
    """One entry. ``mtime`` is in nanoseconds, ``size`` the bytes of its body in the archive,
    ``real_size`` those of the file (they differ for sparse files).

    ``sparse`` is None, or the list of (offset, length) of the data; for pax 1.0 it is empty and
    ``sparse_in_body`` says that the map leads the body: see `parse_sparse_map`.
    """

    __slots__ = (
        "gid", "linkname", "major", "minor", "mode", "mtime", "name", "real_size", "size",
        "sparse", "sparse_in_body", "type", "uid", "xattrs",
    )  # fmt: skip

    def __init__(
        self, name: bytes, type_: int, mode: int, uid: int, gid: int, size: int, mtime: int,
        linkname: bytes = b"", major: int = 0, minor: int = 0,
        xattrs: dict[bytes, bytes] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.type = type_
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime = mtime
        self.linkname = linkname
        self.major = major
        self.minor = minor
        self.xattrs = xattrs
        self.real_size = size
        self.sparse: list[tuple[int, int]] | None = None
        self.sparse_in_body = False

    def __repr__(self) -> str:
        return f"<{chr(self.type)} {self.name!r} {self.mode:o} {self.uid}:{self.gid} {self.size}>"


def _number(field: bytes, what: str) -> int:
    """An octal number ended by NUL or space, or a base-256 one (GNU, star)."""
    known = _numbers.get(field)
    if known is not None:
        return known
    if field[0] & 0x80:
        # Two's complement; bit 6 of the first byte is the sign, bit 7 the mark.
        value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (len(field) * 8 - 1)
        return value
    text = field.strip(b" \0")
    text = text.partition(b"\0")[0]
    if not _OCTAL.issuperset(text):
        raise ArchiveError(f"the archive is damaged: {what} field is not a number")
    value = int(text, 8) if text else 0
    if len(field) == 8 and len(_numbers) < 4096:
        _numbers[field] = value
    return value


def parse_decimal(text: bytes, what: str) -> int:
    """A non-negative decimal number of at most 20 digits, as pax records hold."""
    if not text.isdigit() or len(text) > 20:
        raise ArchiveError(f"the archive is damaged: {what} is not a number")
    return int(text)


def parse_time(text: bytes) -> int:
    """A pax time (``-12.25``) in nanoseconds; digits past the ninth are dropped."""
    whole, dot, part = text.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[1:] if negative else whole
    if not digits.isdigit() or len(digits) > 18 or (dot and part and not part.isdigit()):
        raise ArchiveError("the archive is damaged: a pax time is not a number")
    value = int(digits) * 1_000_000_000 + int(part[:9].ljust(9, b"0") or b"0")
    return -value if negative else value


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a pax header, in order; duplicates are kept (sparse 0.0 needs them)."""
    records = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 8)
        if space < 0 or not data[position:space].isdigit():
            raise ArchiveError("the archive is damaged: bad length in a pax header")
        stop = position + int(data[position:space])
        equal = data.find(b"=", space, stop)
        if stop > end or equal <= space + 1 or data[stop - 1] != 10:
            raise ArchiveError("the archive is damaged: bad record in a pax header")
        records.append((data[space + 1 : equal], data[equal + 1 : stop - 1]))
        position = stop
    return records


def parse_sparse_map(body: bytes) -> tuple[list[tuple[int, int]], int] | None:
    """The map which leads the body of a pax 1.0 sparse file: the segments and the bytes taken.

    None when ``body`` does not hold all of it yet.
    """
    count, position = -1, 0
    numbers: list[int] = []
    while count < 0 or len(numbers) < 2 * count:
        newline = body.find(b"\n", position, position + 22)
        if newline < 0:
            if len(body) - position >= 22:
                raise ArchiveError("the archive is damaged: bad sparse map")
            return None
        value = parse_decimal(body[position:newline], "a number in a sparse map")
        position = newline + 1
        if count < 0:
            count = value
            if count > 1_000_000:
                raise ArchiveError("a sparse file has more than a million pieces")
        else:
            numbers.append(value)
    taken = (position + BLOCK - 1) // BLOCK * BLOCK
    if len(body) < taken:
        return None
    return list(zip(numbers[::2], numbers[1::2], strict=True)), taken


def check_sparse(segments: list[tuple[int, int]], data_size: int, real_size: int) -> None:
    """Refuse maps which overlap, run backwards, or do not fit the data or the file."""
    position = total = 0
    for offset, length in segments:
        if offset < position or length < 0 or offset + length > real_size:
            raise ArchiveError("the archive is damaged: bad sparse map")
        position = offset + length
        total += length
    if total != data_size:
        raise ArchiveError("the archive is damaged: a sparse map does not fit its data")


class Reader:
    """Reads a tar stream from ``readinto`` (fills a buffer, returns the count, 0 at the end).

    ``seek`` may be given to pass over that many bytes of the source without reading them; then
    the caller checks that the bodies it passed over are there. ``total`` counts the bytes taken
    from the stream so far.
    """

    def __init__(
        self,
        readinto: Callable[[memoryview], int],
        limits: Limits,
        keep: Callable[[bytes], object] | None = None,
        *,
        seek: Callable[[int], object] | None = None,
        capacity: int = 1 << 20,
    ) -> None:
        self._readinto = readinto
        self._seek = seek
        self._limits = limits
        self._keep = keep
        self._buffer = bytearray(max(capacity, 4 * BLOCK))
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._read = 0  # bytes which entered the buffer
        self._entries = 0
        self._padding = 0  # after the present body
        self._volume = 0
        self.left = 0  # bytes of the present body not taken yet

    @property
    def total(self) -> int:
        return self._read - (self._end - self._start)

    def _fill(self) -> bool:
        """Read more into the buffer; False at the end of the stream."""
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        got = self._readinto(self._view[self._end :])
        self._end += got
        self._read += got
        if self._read > self._limits.size:
            raise ArchiveError(
                f"the archive holds more than {self._limits.size} bytes",
                hint="it may be a decompression bomb; the limit can be raised",
            )
        return got > 0

    def _take(self, count: int) -> bytes:
        """Exactly ``count`` bytes (at most the capacity)."""
        start = self._start
        if self._end - start < count:
            while self._end - self._start < count:
                if not self._fill():
                    raise ArchiveError("the archive is truncated")
            start = self._start
        self._start = start + count
        return bytes(self._view[start : start + count])

    def chunk(self) -> memoryview:
        """The next piece of the present body, empty when it ended; valid until the next call."""
        start, left = self._start, self.left
        if not left:
            return self._view[:0]
        have = self._end - start
        if not have:
            self._start = self._end = 0
            if not self._fill():
                raise ArchiveError("the archive is truncated")
            start, have = 0, self._end
        count = left if left < have else have
        self._start = start + count
        self.left = left - count
        return self._view[start : start + count]

    def skip(self) -> None:
        """Pass over what is left of the present body."""
        if self._seek is not None and self.left > self._end - self._start:
            beyond = self.left - (self._end - self._start)
            self._seek(beyond)
            self._read += beyond
            self._start = self._end = 0
            self.left = 0
        while self.left:
            self.chunk()

    def body(self, limit: int) -> bytes:
        """The rest of the present body; `ArchiveError` when it is larger than ``limit``."""
        if self.left > limit:
            raise ArchiveError(f"an entry of the archive is larger than {limit} bytes")
        parts = []
        while self.left:
            parts.append(bytes(self.chunk()))
        return b"".join(parts)

    def _special(self, size: int) -> bytes:
        """The body of a header about the next header, padding taken too."""
        if not 0 <= size <= self._limits.special:
            raise ArchiveError("a pax header or long name in the archive is too large")
        parts, left = [], (size + BLOCK - 1) // BLOCK * BLOCK
        while left:
            part = self._take(min(left, 65536))
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        if self._keep is not None:
            self._keep(data)
        return data[:size]

    def next(self) -> Header | None:
        """The next entry, None at the end of the archive.

        The stream may end without the two zero blocks, and anything may follow them: that is how
        Docker reads. A first zero block must be followed by a second one or the end.
        """
        if self.left:
            self.skip()
        keep = self._keep
        if self._padding:
            pad = self._take(self._padding)
            self._padding = 0
            if keep is not None:
                keep(pad)
        records: list[tuple[bytes, bytes]] | None = None
        long_name = long_link = None
        while True:
            start = self._start
            if self._end - start >= BLOCK:
                self._start = start + BLOCK
                block = bytes(self._view[start : start + BLOCK])
            else:
                while self._end - self._start < BLOCK and self._fill():
                    pass
                if self._end == self._start:
                    if records is not None or long_name is not None or long_link is not None:
                        raise ArchiveError("the archive is truncated")
                    return None
                block = self._take(BLOCK)
            if keep is not None:
                keep(block)
            (name, mode, uid, gid, size, mtime, stored, kind, linkname, magic, major, minor,
             prefix) = _FIELDS.unpack(block)  # fmt: skip
            if not block[0] and block == ZEROS:
                if records is not None or long_name is not None or long_link is not None:
                    raise ArchiveError("the archive is damaged: a header has no entry")
                self._finish()
                return None
            # Adler-32's low half is 1 + the sum of all bytes modulo 65521, computed in C.
            expected = _number(stored, "checksum")
            low = (zlib.adler32(block) & 0xFFFF) - 1 - sum(stored) + _SUM_FIELD
            if (low - expected) % _ADLER_BASE:
                self._check_signed(block, expected)
            self._entries += 1
            if self._entries > self._limits.entries:
                raise ArchiveError(f"the archive has more than {self._limits.entries} entries")
            type_ = kind[0]
            length = _number(size, "size")
            if type_ == _PAX:
                records = parse_pax(self._special(length))
            elif type_ == _PAX_GLOBAL:
                self._special(length)
            elif type_ == _GNU_NAME:
                long_name = self._special(length).partition(b"\0")[0]
            elif type_ == _GNU_LINK:
                long_link = self._special(length).partition(b"\0")[0]
            else:
                break
        name = name.partition(b"\0")[0]
        # In GNU's own magic ("ustar  ") the place of the prefix holds other things.
        if prefix[0] and magic[:6] == b"ustar\0":
            if block[508:512] == b"tar\0":
                prefix = prefix[:131]
            name = prefix.partition(b"\0")[0] + b"/" + name
        header = Header(
            name, type_, _number(mode, "mode"), _number(uid, "uid"), _number(gid, "gid"),
            length, _number(mtime, "mtime") * 1_000_000_000,
        )  # fmt: skip
        if linkname[0]:
            header.linkname = linkname.partition(b"\0")[0]
        if type_ in (CHARACTER, BLOCKDEV):
            header.major = _number(major, "device")
            header.minor = _number(minor, "device")
        elif type_ == GNU_SPARSE:
            self._read_gnu_sparse(header, block)
        if records is not None:
            _apply_pax(header, records)
        if long_name is not None:
            header.name = long_name
        if long_link is not None:
            header.linkname = long_link
        self._begin_body(header)
        if not header.type:
            # Before POSIX directories were told by their slash; such a one may have a body.
            header.type = DIRECTORY if header.name.endswith(b"/") else REGULAR
        return header

    def _begin_body(self, header: Header) -> None:
        limits = self._limits
        if header.type in _HEADER_ONLY:
            header.size = header.real_size = 0
        size = header.size
        if size < 0 or header.real_size < 0:
            raise ArchiveError("the archive is damaged: negative size")
        self._volume += header.real_size if header.real_size > size else size
        if self._volume > limits.size:
            raise ArchiveError(
                f"the archive holds more than {limits.size} bytes",
                hint="it may be a decompression bomb; the limit can be raised",
            )
        if len(header.name) > limits.path or len(header.linkname) > limits.path:
            raise ArchiveError("a path in the archive is too long")
        self.left = size
        self._padding = -size % BLOCK

    def _check_signed(self, block: bytes, expected: int) -> None:
        """Some old writers summed signed bytes; anything else is damage."""
        signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:])
        if signed + _SUM_FIELD != expected:
            raise ArchiveError("the archive is damaged: bad header checksum")

    def _read_gnu_sparse(self, header: Header, block: bytes) -> None:
        header.real_size = _number(block[483:495], "real size")
        segments: list[tuple[int, int]] = []
        table, extended = block[386:482], block[482]
        while True:
            for position in range(0, len(table) - 23, 24):
                if not table[position]:
                    break
                offset = _number(table[position : position + 12], "sparse offset")
                length = _number(table[position + 12 : position + 24], "sparse length")
                segments.append((offset, length))
            if not extended:
                break
            if len(segments) > 1_000_000:
                raise ArchiveError("a sparse file has more than a million pieces")
            more = self._take(BLOCK)
            if self._keep is not None:
                self._keep(more)
            table, extended = more[:504], more[504]
        header.sparse = segments

    def _finish(self) -> None:
        """After a zero block: the second one, then keep whatever follows."""
        keep = self._keep
        first = True
        while True:
            if self._end == self._start:
                self._start = self._end = 0
                if not self._fill():
                    return
            if first:
                while self._end - self._start < BLOCK and self._fill():
                    pass
                second = self._view[self._start : self._start + BLOCK]
                if bytes(second).strip(b"\0"):
                    raise ArchiveError("the archive is damaged: a lone zero block")
                first = False
            if keep is not None:
                keep(bytes(self._view[self._start : self._end]))
            self._start = self._end


def _apply_pax(header: Header, records: list[tuple[bytes, bytes]]) -> None:
    """Let the records of a local pax header replace fields of the header."""
    values: dict[bytes, bytes] = {}
    offsets: list[tuple[int, int]] = []
    pending = -1
    for key, value in records:
        if key == b"GNU.sparse.offset":
            pending = parse_decimal(value, key.decode())
        elif key == b"GNU.sparse.numbytes" and pending >= 0:
            offsets.append((pending, parse_decimal(value, key.decode())))
            pending = -1
        else:
            values[key] = value
    xattrs: dict[bytes, bytes] = {}
    for key, value in values.items():
        if key.startswith(b"SCHILY.xattr."):
            xattrs[key[13:]] = value
            continue
        if key.startswith(b"LIBARCHIVE.xattr."):
            decoded = _libarchive_xattr(key[17:], value)
            xattrs.setdefault(*decoded)
            continue
        if not value:
            continue
        if key in (b"path", b"linkpath"):
            if b"\0" in value:
                raise ArchiveError("a path in the archive holds a NUL byte")
            if key == b"path":
                header.name = value
            else:
                header.linkname = value
        elif key == b"size":
            header.size = parse_decimal(value, "size")
            if header.type != GNU_SPARSE:
                header.real_size = header.size
        elif key == b"mtime":
            header.mtime = parse_time(value)
        elif key == b"uid":
            header.uid = parse_decimal(value, "uid")
        elif key == b"gid":
            header.gid = parse_decimal(value, "gid")
        elif key == b"RHT.security.selinux":
            xattrs[b"security.selinux"] = value
    if xattrs:
        header.xattrs = xattrs
    if any(key.startswith(b"GNU.sparse.") for key in values) or offsets:
        _apply_pax_sparse(header, values, offsets)


def _apply_pax_sparse(
    header: Header, values: dict[bytes, bytes], offsets: list[tuple[int, int]]
) -> None:
    if header.type not in (0, REGULAR, CONTIGUOUS):
        return
    if values.get(b"GNU.sparse.major") == b"1" and values.get(b"GNU.sparse.minor") == b"0":
        header.sparse = []
        header.sparse_in_body = True
    elif b"GNU.sparse.map" in values:
        numbers = [parse_decimal(n, "a sparse map") for n in values[b"GNU.sparse.map"].split(b",")]
        if len(numbers) % 2:
            raise ArchiveError("the archive is damaged: bad sparse map")
        header.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
    elif b"GNU.sparse.numblocks" in values or offsets:
        header.sparse = offsets
    else:
        return
    for key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if key in values:
            header.real_size = parse_decimal(values[key], key.decode())
            break
    name = values.get(b"GNU.sparse.name")
    if name:
        if b"\0" in name:
            raise ArchiveError("a path in the archive holds a NUL byte")
        header.name = name


def _libarchive_xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """libarchive writes names URL-encoded, values in base64 without padding."""
    try:
        first, *rest = name.split(b"%")
        parts = [first]
        for part in rest:
            parts.append(bytes((int(part[:2], 16),)) + part[2:])
        return b"".join(parts), binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except ValueError:
        raise ArchiveError("the archive is damaged: bad extended attribute") from None


# -- writing -----------------------------------------------------------------------------------


def _pax_record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = size + len(str(size))
    if len(str(length)) != len(str(size)):
        length = size + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _field(value: int, width: int) -> bytes | None:
    """An octal field, None when the number does not fit."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return None


def _block(header: Header, name: bytes, linkname: bytes, type_: int, size: int) -> bytes:
    seconds = header.mtime // 1_000_000_000
    block = bytearray(
        name.ljust(100, b"\0")
        + (_field(header.mode & 0o7777, 8) or b"")
        + (_field(header.uid, 8) or b"0000000\0")
        + (_field(header.gid, 8) or b"0000000\0")
        + (_field(size, 12) or b"00000000000\0")
        + (_field(seconds, 12) or b"00000000000\0")
        + b" " * 8
        + bytes((type_,))
        + linkname.ljust(100, b"\0")
        + b"ustar\x0000".ljust(72, b"\0")
        + (_field(header.major, 8) or b"0000000\0")
        + (_field(header.minor, 8) or b"0000000\0")
        + bytes(167)
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def emit(header: Header) -> bytes:
    """The blocks which announce an entry: ustar, led by a pax header where ustar cannot say it.

    Deterministic: no user names, records sorted. Times finer than a second are kept only in pax
    and so only when ``mtime`` has a fraction. The body and `padding` follow.
    """
    records: dict[bytes, bytes] = {}
    name, linkname = header.name, header.linkname
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
        name = name[:100]
    if len(linkname) > 100 or not linkname.isascii():
        records[b"linkpath"] = linkname
        linkname = linkname[:100]
    seconds, fraction = divmod(header.mtime, 1_000_000_000)
    if fraction or _field(seconds, 12) is None:
        text = b"%d.%09d" % (seconds, fraction) if fraction else b"%d" % seconds
        if header.mtime < 0 and fraction:
            whole, part = divmod(-header.mtime, 1_000_000_000)
            text = b"-%d.%09d" % (whole, part)
        records[b"mtime"] = text
    for key, number, width in (
        (b"uid", header.uid, 8), (b"gid", header.gid, 8), (b"size", header.size, 12),
    ):  # fmt: skip
        if _field(number, width) is None:
            records[key] = b"%d" % number
    for key, value in (header.xattrs or {}).items():
        records[b"SCHILY.xattr." + key] = value
    block = _block(header, name, linkname, header.type, header.size)
    if not records:
        return block
    body = b"".join(_pax_record(key, records[key]) for key in sorted(records))
    lead = Header(b"", _PAX, 0o644, 0, 0, len(body), 0)
    title = b"PaxHeaders.0/" + os.path.basename(header.name.rstrip(b"/"))[:80]
    return _block(lead, title, b"", _PAX, len(body)) + body + bytes(-len(body) % BLOCK) + block


def padding(size: int) -> bytes:
    """The zero bytes which follow a body of ``size`` bytes."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)
