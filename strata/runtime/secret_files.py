"""Files that only a container sees: a memory file system made and filled in its mount namespace.

They are on no disk, not even that of the run directory, and end with the container.
"""

from __future__ import annotations

import os

from strata.linux.mount import MS_NODEV, MS_NOSUID, MountStep, mount
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MS_NOEXEC = 8


class SecretFile:
    """One file: its name in the folder, content, mode and owner on the host."""

    __slots__ = ("data", "gid", "mode", "name", "uid")

    def __init__(self, name: str, data: bytes, mode: int, uid: int, gid: int) -> None:
        self.name = name
        self.data = data
        self.mode = mode
        self.uid = uid
        self.gid = gid


class SecretsStep(MountStep):
    """Make a memory file system at ``target`` and write the files."""

    __slots__ = ("files",)

    def __init__(self, target: str, files: Sequence[SecretFile]) -> None:
        super().__init__("tmpfs", target, fstype="tmpfs")
        self.files = list(files)

    def describe(self) -> str:
        """One line for people, traces and golden tests; never a value."""
        return f"secrets {', '.join(file.name for file in self.files)} on {self.target}"

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        os.makedirs(self.target, 0o700, exist_ok=True)
        mount("tmpfs", self.target, "tmpfs", MS_NOSUID | MS_NODEV | _MS_NOEXEC, "mode=0755")
        for file in self.files:
            path = f"{self.target}/{file.name}"
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, file.data)
                os.fchown(fd, file.uid, file.gid)
                os.fchmod(fd, file.mode)
            finally:
                os.close(fd)
