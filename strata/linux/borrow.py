"""A mount of another process's namespace, made visible in ours."""

from __future__ import annotations

import os

from strata.linux.mount import MountStep, attach_tree, clone_tree
from strata.linux.namespace import CLONE_NEWNS
from strata.linux.syscall import call


class BorrowStep(MountStep):
    """Show at ``target`` what process ``pid`` has mounted at ``source``.

    Only for a child with a mount namespace of its own (`strata.linux.namespace.fork_keeper`): it
    enters the other namespace, copies the mount there as a detached one (open_tree(2) copies only
    mounts of the caller's namespace), and comes back with it.
    """

    __slots__ = ("pid",)

    def __init__(self, pid: int, source: str, target: str) -> None:
        super().__init__(source, target)
        self.pid = pid

    def describe(self) -> str:
        """One line for people, traces and golden tests."""
        return f"borrow {self.source} of {self.pid} on {self.target}"

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        theirs = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        os.makedirs(self.target, 0o700, exist_ok=True)
        _enter(theirs)
        try:
            tree = clone_tree(self.source)
        finally:
            _enter(own)
        attach_tree(tree, self.target)
        for fd in (own, theirs, tree):
            os.close(fd)


def _enter(fd: int) -> None:
    call("setns", fd, CLONE_NEWNS, what="setns")
