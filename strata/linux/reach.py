"""Letting another user reach one directory below private ones, in one mount namespace only."""

from __future__ import annotations

import os
import stat

from strata.linux.mount import attach_tree, clone_tree, mount

_MODE = 0o711


def open_way(path: str) -> None:
    """Let every user of this mount namespace pass to ``path``, without seeing what is beside it.

    The first directory above that others may not pass is covered by a memory file system in which
    all that was there is bound again, but for what lies beside ``path`` itself. Only for a child
    with a mount namespace of its own. `OSError`.
    """
    os.chmod(path, _MODE)
    parts = path.strip("/").split("/")
    for size in range(1, len(parts)):
        top = "/" + "/".join(parts[:size])
        if not os.stat(top).st_mode & stat.S_IXOTH:
            original = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mount("tmpfs", top, "tmpfs", 0, f"mode={_MODE:04o}")
            _fill(original, top, parts[size:])
            os.close(original)
            return


def _fill(original: int, target: str, way: list[str]) -> None:
    """Bind what is in a covered directory into its cover; ``way`` leads on from here."""
    folder = f"/proc/self/fd/{original}"
    for name in [way[0]] if len(way) == 1 else os.listdir(folder):
        source, place = f"{folder}/{name}", f"{target}/{name}"
        facts = os.lstat(source)
        if stat.S_ISLNK(facts.st_mode):
            os.symlink(os.readlink(source), place)
            continue
        if not stat.S_ISDIR(facts.st_mode):
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        else:
            os.mkdir(place)
            os.chmod(place, _MODE)
            if name == way[0] and len(way) > 1:
                below = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                _fill(below, place, way[1:])
                os.close(below)
                continue
        tree = clone_tree(source, recursive=True)
        attach_tree(tree, place)
        os.close(tree)
