"""Giving a mounted tree to the container's user: the mount option ``U``."""

from __future__ import annotations

import os

from strata.errors import RuntimeFailure, UsageError

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
