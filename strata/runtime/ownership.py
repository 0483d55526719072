"""Whose files are on the host: the mount option ``U``, and what a user namespace changes."""

from __future__ import annotations

import os

from strata.errors import RuntimeFailure, UsageError
from strata.linux.idmap import map_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: nobody means these; Podman refuses them too
_NEVER = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home",
    "/lib", "/lib64", "/media", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp",
    "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin", "/usr/share", "/var", "/var/cache",
    "/var/lib", "/var/log", "/var/tmp",
))  # fmt: skip


def check_source(path: str) -> None:
    """Raise `UsageError` for a directory of the host that must keep its owner."""
    if os.path.realpath(path) in _NEVER:
        raise UsageError(
            f"chowning {path} is not allowed: it belongs to the host",
            hint="leave out the mount option U",
        )


def give(path: str, uid: int, gid: int) -> None:
    """Make a user of the host the owner of a tree, never following a link. `RuntimeFailure`."""
    try:
        os.chown(path, uid, gid)
        if not os.path.isdir(path):
            return
        for _, folders, files, fd in os.fwalk(path):
            for name in (*folders, *files):
                facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if (facts.st_uid, facts.st_gid) != (uid, gid):
                    os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        raise RuntimeFailure(f"chown {error.filename or path}: {error.strerror}") from error


def map_owner(config: Mapping[str, Any], uid: int, gid: int) -> tuple[int, int]:
    """The ids on the host of ids in a container. `UsageError` for one that is not mapped."""
    if not config.get("uid_map"):
        return uid, gid
    found = map_id(config["uid_map"], uid), map_id(config["gid_map"], gid)
    if found[0] is None or found[1] is None:
        raise UsageError(
            f"user {uid}:{gid} has no id on the host: the container's user namespace does not map "
            "it", hint="map more ids, or use another user"
        )  # fmt: skip
    return found[0], found[1]


def give_files(config: Mapping[str, Any], bundle: str, names: Sequence[str]) -> None:
    """Let the generated files belong to the container's root."""
    if map_id(config["uid_map"], 0) is None or map_id(config["gid_map"], 0) is None:
        return
    owner = map_owner(config, 0, 0)
    for name in names:
        try:
            os.chown(f"{bundle}/{name}", *owner)
        except FileNotFoundError:
            continue
