"""Where things are on the host.

``root`` (default ``/var/lib/strata``) is the state directory: the store's description, the home
mounts, the mountpoints of volumes. ``runroot`` (default ``/run/strata``) is volatile: locks,
bundles, sockets, exit files. Both have mode 0700. What outlives the host's root disk lies on the
store's own datasets (`records`, `images`, `logs`).
"""

from __future__ import annotations

import os

DEFAULT_ROOT = "/var/lib/strata"
DEFAULT_RUNROOT = "/run/strata"

SHORT_ID = 12


class Paths:
    """The directories of one store. Nothing is made here; see `ensure_runroot`."""

    __slots__ = ("bundles", "frozen", "locks", "net", "root", "runroot", "volumes")

    def __init__(self, root: str, runroot: str) -> None:
        self.root = os.path.abspath(root)
        self.runroot = os.path.abspath(runroot)
        self.locks = f"{self.runroot}/locks"
        self.bundles = f"{self.runroot}/c"
        self.frozen = f"{self.runroot}/frozen"
        self.net = f"{self.runroot}/net"
        self.volumes = f"{self.root}/volumes"

    def bundle(self, container_id: str) -> str:
        """The volatile directory of a container: bundle, sockets, exit file."""
        return f"{self.bundles}/{container_id[:SHORT_ID]}"

    def netns(self, container_id: str) -> str:
        """Where a container's network namespace is pinned."""
        return f"{self.runroot}/netns/{container_id[:SHORT_ID]}"

    def volume_mountpoint(self, name: str) -> str:
        """The host path of a volume's data, stable over rollbacks."""
        return f"{self.volumes}/{name}/_data"

    def ensure_runroot(self) -> None:
        """Make the volatile directories, mode 0700. Idempotent."""
        if os.path.isdir(self.locks):
            return
        os.makedirs(self.runroot, 0o700, exist_ok=True)
        os.chmod(self.runroot, 0o700)
        for folder in (self.bundles, self.locks):
            os.makedirs(folder, 0o700, exist_ok=True)
