"""Reading what conmon wrote: the k8s-file format.

One record is ``TIME STREAM TAG TEXT``; TAG is ``F`` for a line with its end and ``P`` for a part
of a line without. conmon rotates by renaming an empty file over the path, so a follower reads the
file it has to the end before it opens the new one. Older parts (``PATH.1``, ``PATH.2`` …) are read
first when something else left them.
"""

from __future__ import annotations

import os
import select
import time

from strata.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Watcher
from strata.linux.lines import LineReader
from strata.times import parse_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 16
_FULL = b"F"


class Entry:
    """One record. ``text`` ends with a newline unless it is ``partial``."""

    __slots__ = ("partial", "stamp", "stream", "text")

    def __init__(self, stamp: str, stream: str, text: bytes, partial: bool) -> None:
        #: as conmon wrote it: RFC 3339 with nanoseconds and offset
        self.stamp = stamp
        #: ``stdout`` or ``stderr``
        self.stream = stream
        self.text = text
        self.partial = partial

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch; 0 when the stamp cannot be read."""
        return parse_ns(self.stamp)


def parse_line(line: bytes) -> Entry | None:
    """One record without its newline; None when it is not one."""
    fields = line.split(b" ", 3)
    if len(fields) < 3 or fields[1] not in (b"stdout", b"stderr"):
        return None
    # A tag may have further parts after a colon; the first letter is what counts.
    partial = fields[2][:1] != _FULL
    text = fields[3] if len(fields) > 3 else b""
    return Entry(
        fields[0].decode(errors="replace"), fields[1].decode(),
        text if partial else text + b"\n", partial,
    )  # fmt: skip


def list_parts(path: str) -> list[str]:
    """The files of one log that exist, oldest first."""
    parts = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        parts.append(f"{path}.{number}")
        number += 1
    parts.reverse()
    if os.path.exists(path):
        parts.append(path)
    return parts


def _read_entries(reader: LineReader) -> Iterator[Entry]:
    return filter(None, map(parse_line, reader.read()))


def find_tail(fd: int, lines: int) -> tuple[int, int]:
    """Where the last ``lines`` lines of a file begin, and how many there are (fewer when the file
    has fewer). Reads blocks from the end. Parts of a line count with their end as one."""
    size = position = os.fstat(fd).st_size
    if lines <= 0:
        return size, 0
    rest = b""
    begin = size  # of the oldest record taken so far
    found = 0
    open_line = False  # the newest record seen may be a part without its end
    while position > 0:
        take = min(_BLOCK, position)
        position -= take
        data = os.pread(fd, take, position) + rest
        records = data.split(b"\n")
        # Without the file's beginning the first piece is incomplete.
        rest = records.pop(0) if position > 0 else b""
        offset = position + len(data)
        for record in reversed(records):
            offset -= len(record)
            if record:
                tag = record.split(b" ", 3)[2:3]
                ends = bool(tag) and tag[0][:1] == _FULL
                if ends or not open_line:
                    if found == lines:
                        return begin, found
                    found += 1
                    open_line = True
                begin = offset
            offset -= 1
        if rest == b"" and position > 0:
            continue
    return begin, found


def read_logs(
    path: str, *, tail: int | None = None, since: int = 0, until: int = 0, follow: bool = False,
    end: int | None = None,
) -> Iterator[Entry]:  # fmt: skip
    """The records of a log in order.

    ``tail``: only so many last lines (None: all). ``since`` and ``until``: ns since the epoch, 0
    for no bound. ``follow``: go on until the descriptor ``end`` becomes readable (a pidfd of the
    container's conmon; None: for ever) or ``until`` has passed. A log that does not exist is
    empty.
    """
    watcher = Watcher() if follow else None
    reader: LineReader | None = None
    try:
        if watcher is not None:
            # Before the first read, so that nothing is written unseen in between.
            watcher.add(os.path.dirname(path) or ".", IN_CREATE | IN_MOVED_TO)
        for reader in _open_parts(path, tail):
            if watcher is not None:
                _watch_file(watcher, path)
            for entry in _read_entries(reader):
                if until and entry.time_ns > until:
                    return
                if not since or entry.time_ns >= since:
                    yield entry
            if watcher is None or not reader.is_current(path):
                reader.close()
                reader = None
        if watcher is None:
            return
        over = False
        while True:
            if reader is None or not reader.is_current(path):
                if reader is not None:
                    # Rotated: what was written to the old file until then comes first.
                    yield from _between(reader, since, until)
                    reader.close()
                    reader = None
                try:
                    reader = LineReader(path)
                    _watch_file(watcher, path)
                except FileNotFoundError:
                    pass
            if reader is not None:
                for entry in _read_entries(reader):
                    if until and entry.time_ns > until:
                        return
                    if not since or entry.time_ns >= since:
                        yield entry
                if not reader.is_current(path) and os.path.exists(path):
                    continue
            if over or (until and time.time_ns() > until):
                return
            over = _wait(watcher, end, until)
    finally:
        if reader is not None:
            reader.close()
        if watcher is not None:
            watcher.close()


def _between(reader: LineReader, since: int, until: int) -> Iterator[Entry]:
    for entry in _read_entries(reader):
        stamp = entry.time_ns if since or until else 0
        if stamp >= since and not (until and stamp > until):
            yield entry


def _open_parts(path: str, tail: int | None) -> Iterator[LineReader]:
    """Readers of the log's files, placed where reading begins."""
    parts = list_parts(path)
    if tail is None:
        for part in parts:
            yield LineReader(part)
        return
    chosen: list[tuple[str, int]] = []
    left = tail
    for part in reversed(parts):
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            offset, found = find_tail(fd, left)
        finally:
            os.close(fd)
        chosen.append((part, offset))
        left -= found
        if left <= 0:
            break
    for part, offset in reversed(chosen):
        reader = LineReader(part)
        reader.seek(offset)
        yield reader


def _watch_file(watcher: Watcher, path: str) -> None:
    try:
        watcher.add(path, IN_MODIFY)
    except FileNotFoundError:
        return


def _wait(watcher: Watcher, end: int | None, until: int) -> bool:
    """Wait for a change; True when the container has ended (what it wrote is then complete)."""
    poll = select.poll()
    poll.register(watcher.fileno(), select.POLLIN)
    if end is not None:
        poll.register(end, select.POLLIN)
    limit = None if not until else max(0, (until - time.time_ns()) // 10**6 + 1)
    ready = {fd for fd, _ in poll.poll(limit)}
    watcher.read()
    return end is not None and end in ready
