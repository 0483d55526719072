"""The marker that says "this is the store": a small JSON file at a pool's top.

``{"format": 1, "id": "<32 hex digits>", "root": "/var/lib/strata"}``. On ZFS the same facts are
user properties of the root dataset. A store without its marker is not there, whatever else is. The
state directory it was made for tells a store whose making was cut short from somebody else's.
"""

from __future__ import annotations

import os

from strata import jsontext
from strata.errors import RecordError

FORMAT = 1
"""Number of the layout on the pool. Newer is refused, older is migrated by one command."""


def read_marker(path: str) -> str | None:
    """The store's id, or None when there is no marker; `RecordError` when it is from later."""
    return read_marker_fields(path)[0]


def read_marker_fields(path: str) -> tuple[str | None, str | None]:
    """The store's id and the state directory it was made for; None for what is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None, None
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    try:
        document = jsontext.loads(text)
        number, found = document["format"], document["id"]
    except (ValueError, KeyError, TypeError):
        return None, None
    check_format(number, path)
    root = document.get("root")
    return (
        found if isinstance(found, str) else None,
        root if isinstance(root, str) else None,
    )


def check_format(number: object, where: str) -> None:
    """Raise `RecordError` unless this version can read a store of this format."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise RecordError(f"{where}: damaged store format {number!r}")
    if number > FORMAT:
        raise RecordError(f"{where}: the store has format {number}, this version knows {FORMAT}",
                          hint="use the newer strata that wrote it")  # fmt: skip


def write_file(path: str, text: str) -> None:
    """Write a small file so that it is either whole or absent: temporary, fsync, rename."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    folder = os.open(path.rpartition("/")[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_marker(path: str, store_id: str, root: str) -> None:
    """Write the marker durably."""
    fields = {"format": FORMAT, "id": store_id, "root": root}
    write_file(path, jsontext.dumps(fields) + "\n")
