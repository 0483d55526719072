"""Reading what conmon wrote to the systemd journal (the log driver ``journald``).

conmon sends one entry per line, or per part of a line, with the container's id in
``CONTAINER_ID_FULL`` and the stream as priority. ``journalctl`` reads them, in the export format of
systemd.journal-export-formats(7), which keeps any byte. Entries are believed only from conmon's own
user: any process of the host may write such a field.

The journal takes messages in later than conmon sends them, so it is asked to catch up before the
end of a log is believed.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from strata import command
from strata.errors import CommandFailed, NotFound
from strata.runtime.logs import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: where journald listens (systemd's src/libsystemd/sd-journal/journal-send.c)
SOCKET = "/run/systemd/journal/socket"
_BLOCK = 1 << 16
_ERRORS = b"3"
_FIELDS = "--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE"
_SYNC_LIMIT = 10.0


def is_running() -> bool:
    """Whether a journal listens here; without, what conmon sends is lost without an error."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(SOCKET)
    except OSError:
        return False
    finally:
        sock.close()
    return True


class ExportParser:
    """Entries of the export format from blocks of any size. Pure."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, bytes]]:
        """The entries that are complete now."""
        self._rest += data
        found = []
        start = 0
        while (parsed := _parse(self._rest, start)) is not None:
            fields, start = parsed
            if fields:
                found.append(fields)
        self._rest = self._rest[start:]
        return found


def _parse(data: bytes, start: int) -> tuple[dict[str, bytes], int] | None:
    """The fields of the entry at ``start`` and where the next begins; None: it is incomplete."""
    fields: dict[str, bytes] = {}
    while True:
        end = data.find(b"\n", start)
        if end < 0:
            return None
        line = data[start:end]
        start = end + 1
        if not line:
            return fields, start
        name, equals, value = line.partition(b"=")
        if not equals:
            # A value with line ends or control characters: its size, itself, a line end.
            size = int.from_bytes(data[start : start + 8], "little")
            if len(data) < start + 8 + size + 1:
                return None
            value = data[start + 8 : start + 8 + size]
            start += 8 + size + 1
        fields[name.decode(errors="replace")] = value


def make_entry(fields: dict[str, bytes]) -> Entry:
    """An entry of the journal as one of a log. conmon 2.1 leaves the line's end in the message."""
    partial = fields.get("CONTAINER_PARTIAL_MESSAGE") == b"true"
    text = fields.get("MESSAGE", b"")
    return Entry(
        _format_stamp(int(fields.get("__REALTIME_TIMESTAMP") or b"0")),
        "stderr" if fields.get("PRIORITY") == _ERRORS else "stdout",
        text if partial else text.removesuffix(b"\n") + b"\n", partial,
    )  # fmt: skip


def _format_stamp(microseconds: int) -> str:
    """A time as conmon writes it into files: local, with its offset."""
    seconds, rest = divmod(microseconds, 10**6)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:06d}000{zone[:3]}:{zone[3:]}"


def read_journal(
    container_id: str, *, tail: int | None = None, since: int = 0, until: int = 0,
    follow: bool = False, end: int | None = None,
) -> Iterator[Entry]:  # fmt: skip
    """The entries of a container in order; arguments as for `strata.runtime.logs.read_logs`."""
    # A journal counts microseconds, and a moment that was typed comes as a float of seconds.
    since, until = ((moment + 500) // 1000 * 1000 for moment in (since, until))
    _catch_up()
    cursor = ""
    if tail is None:
        found = _read(container_id, _since(since))
    else:
        kept, cursor = _read_tail(container_id, tail)
        found = iter(kept)
    for fields in found:
        cursor = _cursor(fields)
        entry = make_entry(fields)
        if until and entry.time_ns > until:
            return
        if entry.time_ns >= since:
            yield entry
    if not follow:
        return
    for fields in _follow(container_id, cursor, since, until, end):
        entry = make_entry(fields)
        if until and entry.time_ns > until:
            return
        if entry.time_ns >= since:
            yield entry


def _since(since: int) -> list[str]:
    # Whole seconds before; the nanoseconds are compared by the caller.
    return [f"--since=@{since // 10**9}"] if since else []


def _cursor(fields: dict[str, bytes]) -> str:
    return fields["__CURSOR"].decode()


def _read_tail(container_id: str, lines: int) -> tuple[list[dict[str, bytes]], str]:
    """The entries of the last lines, oldest first, and the cursor of the newest of all.

    Parts of a line count with their end as one.
    """
    kept: list[dict[str, bytes]] = []
    cursor = ""
    found = 0
    for fields in _read(container_id, ["--reverse"]):
        cursor = cursor or _cursor(fields)
        if not kept or "CONTAINER_PARTIAL_MESSAGE" not in fields:
            found += 1
        if found > lines:
            break
        kept.append(fields)
    kept.reverse()
    return kept, cursor


def _follow(
    container_id: str, cursor: str, since: int, until: int, end: int | None
) -> Iterator[dict[str, bytes]]:
    """Entries after ``cursor`` until the container's conmon has ended, and then the rest."""

    def after() -> list[str]:
        return [f"--after-cursor={cursor}"] if cursor else _since(since)

    with _Journalctl(container_id, ["--follow", "--no-tail", *after()]) as program:
        poll = select.poll()
        poll.register(program.fd, select.POLLIN)
        if end is not None:
            poll.register(end, select.POLLIN)
        while True:
            limit = None if not until else max(0, (until - time.time_ns()) // 10**6 + 1)
            ready = {fd for fd, _ in poll.poll(limit)}
            if program.fd in ready:
                found = program.read()
                if found is None:
                    return
                for fields in found:
                    cursor = _cursor(fields)
                    yield fields
            elif end in ready or not ready:
                break
    _catch_up()
    yield from _read(container_id, after())


def _read(container_id: str, words: Sequence[str]) -> Iterator[dict[str, bytes]]:
    with _Journalctl(container_id, words) as program:
        while (found := program.read()) is not None:
            yield from found


class _Journalctl:
    """A running ``journalctl`` that prints one container's entries; ended with the block."""

    def __init__(self, container_id: str, words: Sequence[str]) -> None:
        self._parser = ExportParser()
        self._errors = os.memfd_create("journalctl")
        self.fd, write = os.pipe()
        argv = ["journalctl", "--quiet", "--no-pager", "--output=export", _FIELDS, *words,
                f"CONTAINER_ID_FULL={container_id}", f"_UID={os.geteuid()}"]  # fmt: skip
        try:
            self._pid = command.spawn(argv, stdout=write, stderr=self._errors, keep_locks=False)
        except BaseException:
            os.close(self.fd)
            os.close(self._errors)
            raise
        finally:
            os.close(write)

    def read(self) -> list[dict[str, bytes]] | None:
        """Wait for output; the entries that are complete with it, None at its end.
        `CommandFailed` when it ended because it could not read the journal."""
        data = os.read(self.fd, _BLOCK)
        if data:
            return self._parser.feed(data)
        pid, self._pid = self._pid, 0
        code = command.wait(pid)
        if code != 0:
            said = os.pread(self._errors, _BLOCK, 0).decode(errors="replace")
            raise CommandFailed(["journalctl"], code, said)
        return None

    def __enter__(self) -> _Journalctl:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._errors)
        if self._pid:
            os.kill(self._pid, 9)
            command.wait(self._pid)


def _catch_up() -> None:
    """Wait until the journal has taken in all that was sent to it. Nothing happens without one."""
    try:
        command.run(["journalctl", "--sync"], timeout=_SYNC_LIMIT)
    except NotFound:
        raise
    except CommandFailed:
        return
