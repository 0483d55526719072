"""Idmapped mounts: the owners of a file system as a user namespace sees them.

A file of user 0 on the disk belongs, through such a mount, to whom the namespace maps its user 0:
the container's root. Nothing on the disk changes. mount_setattr(2), since Linux 5.12.
"""

from __future__ import annotations

import os
import signal

from strata.linux.mount import MountStep, attach_tree, clone_tree, set_idmap
from strata.linux.reach import open_way
from strata.linux.syscall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: first id inside, first id outside, how many
    IdMap = Sequence[Sequence[int]]

CLONE_NEWUSER = 0x10000000


class IdmappedStep(MountStep):
    """Another step's mount with its owners mapped."""

    __slots__ = ("gid_map", "inner", "uid_map", "way")

    def __init__(self, inner: MountStep, uid_map: IdMap, gid_map: IdMap, *, way: str = "") -> None:
        super().__init__(inner.source, inner.target)
        #: a directory to which the namespace's users must be able to pass, see `open_way`
        self.way = way
        self.inner = inner
        self.uid_map = uid_map
        self.gid_map = gid_map

    def describe(self) -> str:
        """One line for people, traces and golden tests."""
        return f"{self.inner.describe()} with users {format_map(self.uid_map, ' ', ', ')}"

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        if self.way:
            open_way(self.way)
        self.inner.execute()
        namespace = open_user_namespace(self.uid_map, self.gid_map)
        try:
            # Only a mount that is nowhere yet can be mapped: a copy, put over the original.
            tree = clone_tree(self.target)
            try:
                set_idmap(tree, namespace)
                attach_tree(tree, self.target)
            finally:
                os.close(tree)
        finally:
            os.close(namespace)


def open_user_namespace(uid_map: IdMap, gid_map: IdMap) -> int:
    """A descriptor of a new user namespace with these maps. `OSError`."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call("unshare", CLONE_NEWUSER, what="unshare")
            os.write(tell, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(tell)
        if os.read(ready, 1) != b"1":
            raise OSError(1, "a user namespace cannot be made here")
        for name, ids in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(format_map(ids, " ", "\n"))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def format_map(ids: IdMap, between: str, after: str) -> str:
    """The text of a map, as /proc/PID/uid_map takes it with a space and a line end."""
    return after.join(between.join(map(str, entry)) for entry in ids)


def map_id(ids: IdMap, number: int) -> int | None:
    """The id on the host of an id in the namespace, None when it has none."""
    for inside, outside, count in ids:
        if inside <= number < inside + count:
            return outside + number - inside
    return None
