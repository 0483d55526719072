"""Whom ``--user`` means, by the passwd and group files of the image.

The files belong to the image, so they are opened below a descriptor of the root file system with
openat2(2) RESOLVE_IN_ROOT (a symbolic link in the image cannot lead out), read up to a limit, and
lines that do not fit are passed over.
"""

from __future__ import annotations

import os

from strata.errors import RuntimeFailure
from strata.linux.resolve import open_in_root
from strata.oci.spec import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: bytes read of each file; more than any real user database of an image
_LIMIT = 4 << 20
_MAX_ID = 2**32 - 2


def read_in_root(root: int, path: str) -> str:
    """A regular file below ``root`` as text, at most 4 MB of it; empty when it is not there."""
    try:
        # O_NONBLOCK so that a FIFO put in its place cannot stop us.
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if os.fstat(fd).st_mode & 0o170000 != 0o100000:
            return ""
        chunks = []
        left = _LIMIT
        while left > 0:
            chunk = os.read(fd, min(left, 1 << 16))
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks).decode(errors="replace")
    finally:
        os.close(fd)


def _entries(text: str, least: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0] and not line.startswith("#"):
            yield fields


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value <= _MAX_ID else None


def resolve(root: int, wanted: str, extra_groups: tuple[str, ...] = ()) -> User:
    """The user for ``NAME|UID[:GROUP|GID]`` (empty: root) in the image open at ``root``.

    A number need not be in the files. Without a group, the user's groups of /etc/group are
    supplementary. Raises `RuntimeFailure` in Podman's words.
    """
    return resolve_text(
        wanted, read_in_root(root, "etc/passwd"), read_in_root(root, "etc/group"), extra_groups
    )


def resolve_text(wanted: str, passwd: str, group: str, extra_groups: tuple[str, ...] = ()) -> User:
    """`resolve` on the text of the files. Pure."""
    name, separator, group_name = wanted.partition(":")
    name = name or "0"
    number = _number(name)
    user: User | None = None
    login = ""
    for fields in _entries(passwd, 6):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None:
            continue
        if fields[0] == name or (number is not None and uid == number):
            login = fields[0]
            user = User(uid, gid, (), fields[5] or "/", login)
            break
    if user is None:
        if number is None:
            raise RuntimeFailure(
                f"unable to find user {name}: no matching entries in passwd file",
                hint="use a number, or a user that the image's /etc/passwd has",
                exit_code=126,
            )
        user = User(number, 0, (), "/root" if number == 0 else "/")
    groups: list[int] = []
    if separator and group_name:
        user.gid = _find_group(group_name, group)
    elif login:
        for fields in _entries(group, 4):
            gid = _number(fields[2])
            if gid is not None and login in fields[3].split(","):
                groups.append(gid)
    groups += [_find_group(extra, group) for extra in extra_groups]
    user.groups = sorted(set(groups))
    return user


def _find_group(wanted: str, text: str) -> int:
    number = _number(wanted)
    for fields in _entries(text, 3):
        gid = _number(fields[2])
        if gid is not None and (fields[0] == wanted or gid == number):
            return gid
    if number is None:
        raise RuntimeFailure(
            f"unable to find group {wanted}: no matching entries in group file",
            hint="use a number, or a group that the image's /etc/group has",
            exit_code=126,
        )
    return number
