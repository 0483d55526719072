"""A line in the image's passwd and group for a user that is only a number.

Programs that look up their own user (ssh, git, whoami) fail without one. As with Podman the lines
are added to the container's own files, so that they can be changed there.
"""

from __future__ import annotations

import os
import stat

from strata.linux.resolve import open_in_root
from strata.linux.write import write_all
from strata.runtime.users import read_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.oci.spec import User


def ensure_listed(root: int, config: Mapping[str, Any], user: User) -> None:
    """Add the user, and its group, to the files of the image open at ``root``. Idempotent; a file
    that the image lacks is not made."""
    home = config.get("workdir") or "/"
    line = str(config.get("passwd_entry") or "$USERNAME:*:$UID:$GID:container user:$HOME:/bin/sh")
    _append(root, "etc/passwd", str(user.uid), make_line(line, user, home))
    line = str(config.get("group_entry") or "$GID:x:$GID:")
    _append(root, "etc/group", str(user.gid), make_line(line, user, home))


def add_host_users(root: int, config: Mapping[str, Any], mounted: Sequence[str]) -> None:
    """Add users of the host to the passwd of the image open at ``root``. Idempotent; one whose name
    or number the image has stays as it is. A home directory that is not mounted is the working
    directory, as with Podman."""
    for item in config["host_users"]:
        text = read_in_root(root, "etc/passwd")
        if any(entry.split(":")[:1] == [item["name"]] for entry in text.splitlines()):
            continue
        home = item["home"]
        if not any(f"{home}/".startswith(f"{path.rstrip('/')}/") for path in mounted):
            home = config.get("workdir") or "/"
        line = str(config.get("passwd_entry") or "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh")
        for word, value in (
            ("$USERNAME", item["name"]), ("$UID", str(item["uid"])), ("$GID", str(item["gid"])),
            ("$NAME", item["gecos"]), ("$HOME", home),
        ):  # fmt: skip
            line = line.replace(word, value)
        _append(root, "etc/passwd", str(item["uid"]), line)


def make_line(text: str, user: User, home: str) -> str:
    """An entry with the user's numbers in it. Pure."""
    for word, value in (
        ("$USERNAME", str(user.uid)), ("$UID", str(user.uid)), ("$GID", str(user.gid)),
        ("$NAME", "container user"), ("$HOME", home),
    ):  # fmt: skip
        text = text.replace(word, value)
    return text


def _append(root: int, path: str, number: str, line: str) -> None:
    """Add a line unless one has the number as its third field."""
    text = read_in_root(root, path)
    if any(entry.split(":")[2:3] == [number] for entry in text.splitlines()):
        return
    try:
        fd = open_in_root(root, path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            start = "" if not text or text.endswith("\n") else "\n"
            write_all(fd, f"{start}{line}\n".encode(errors="surrogateescape"))
    finally:
        os.close(fd)
