"""A directory or file inside a tree that somebody else controls, as a mount."""

from __future__ import annotations

import os
import stat

from strata.linux.mount import MountStep, attach_tree, clone_tree
from strata.linux.resolve import open_in_root


class SubpathStep(MountStep):
    """Show at ``target`` what lies at ``path`` inside ``source``.

    Symbolic links are followed inside ``source`` only, and what was found is what is mounted: a
    container that changes the tree meanwhile cannot lead the mount outside.
    """

    __slots__ = ("path",)

    def __init__(self, source: str, path: str, target: str) -> None:
        super().__init__(source, target)
        self.path = path

    def describe(self) -> str:
        """One line for people, traces and golden tests."""
        return f"bind {self.path} in {self.source} on {self.target}"

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        found = open_in_root(self.source, self.path, os.O_PATH)
        try:
            os.makedirs(os.path.dirname(self.target), 0o700, exist_ok=True)
            if stat.S_ISDIR(os.fstat(found).st_mode):
                os.makedirs(self.target, 0o700, exist_ok=True)
            else:
                os.close(os.open(self.target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            tree = clone_tree(f"/proc/self/fd/{found}", recursive=True)
        finally:
            os.close(found)
        attach_tree(tree, self.target)
        os.close(tree)
