"""Small files written so that a reader sees the old or the new content, never a part.

A record is written to a temporary name in the same directory, flushed, and renamed over the old
one. What was interrupted before the rename leaves a temporary name that `list_leftovers` finds.
Records are read with a size limit and refused when they are not what they claim to be.
"""

from __future__ import annotations

import os

from strata import jsontext, trace
from strata.errors import NoSpace, RecordError
from strata.linux.write import write_all
from strata.store import reserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]

MAX_RECORD = 16 << 20
_FULL = (28, 122)  # ENOSPC, EDQUOT
#: begins the names of what is still being written
TEMPORARY = ".new-"


def write_bytes(path: str, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace the file atomically. ``durable`` waits until the bytes are on disk (fsync).

    `NoSpace` on a full pool, unless the caller may use the reserve (`strata.store.reserve`).
    """
    try:
        _write_bytes(path, data, durable, mode)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        if not reserve.give_up():
            raise _no_space() from None
        try:
            _write_bytes(path, data, durable, mode)
        except OSError as again:
            if again.errno not in _FULL:
                raise
            raise _no_space() from None


def _no_space() -> NoSpace:
    return NoSpace(
        "the pool is full; nothing was changed",
        hint="free space with `strata trash empty --all` and `strata rm --force --now`, or enlarge "
        "the pool",
    )


def _write_bytes(path: str, data: bytes, durable: bool, mode: int) -> None:
    folder, name = os.path.split(path)
    # Unlike in another thread of this process; the pid tells whether its writer still lives.
    temporary = f"{folder}/{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}-{name[:160]}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, mode)
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        trace.point("record:written")
        os.rename(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def write_json(path: str, record: Record, *, durable: bool = True) -> None:
    """Write a record; see `write_bytes`."""
    text = jsontext.dumps(record)
    write_bytes(path, text.encode("ascii"), durable=durable)


def read_bytes(path: str, limit: int = MAX_RECORD) -> bytes:
    """Read a whole regular file, never through a final symbolic link. FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise RecordError(f"{path} has {size} bytes, more than any record may have")
        chunks = []
        # One more than it has: a read that comes back short has met the end.
        while chunk := os.read(fd, size + 1):
            chunks.append(chunk)
            if sum(map(len, chunks)) > limit:
                raise RecordError(f"{path} has more bytes than any record may have")
            if len(chunk) <= size:
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    finally:
        os.close(fd)


def read_json(path: str) -> Record:
    """Read a JSON object. FileNotFoundError when absent, `RecordError` when it is not one."""
    data = read_bytes(path)
    try:
        record = jsontext.loads(data)
    except (ValueError, RecursionError):
        raise RecordError(
            f"the record {path} is damaged",
            hint="`strata system check --repair` restores it from the dataset's own copy",
        ) from None
    if not isinstance(record, dict):
        raise RecordError(f"the record {path} is not a JSON object")
    return record


def is_record(name: str) -> bool:
    """Whether a file name is that of a record, not of one that is still being written."""
    return name.endswith(".json") and not name.startswith(TEMPORARY)


def list_leftovers(folder: str) -> list[str]:
    """Paths of temporary names whose writers are gone."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(TEMPORARY):
                continue
            pid = entry.name[len(TEMPORARY) :].partition("-")[0]
            if not (pid.isdigit() and os.path.exists(f"/proc/{pid}")):
                found.append(entry.path)
    return found
