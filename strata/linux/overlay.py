"""An overlay of a directory that is only read and one that takes the changes, as a mount."""

from __future__ import annotations

import os

from strata.linux import tree
from strata.linux.mount import MountStep, mount, unmount


class OverlayStep(MountStep):
    """Show at ``target`` what ``lower`` holds; what is written there stays in ``upper``.

    ``work`` is a directory for the kernel beside ``upper``. With ``store``, a mount of a file
    system, both are directories in it, made anew: an overlay begins empty. The kernel wants both
    on one file system that knows extended attributes (overlayfs, Documentation/filesystems).
    """

    __slots__ = ("lower", "store", "upper", "work")

    def __init__(
        self, lower: str, upper: str, work: str, target: str, *, store: MountStep | None = None
    ) -> None:
        super().__init__("overlay", target, fstype="overlay")
        self.lower = lower
        self.upper = upper
        self.work = work
        self.store = store

    def describe(self) -> str:
        """One line for people, traces and golden tests."""
        inside = f" in {self.store.describe()}" if self.store else ""
        return f"overlay {self.lower} {self.upper} {self.work} on {self.target}{inside}"

    def execute(self) -> None:
        """Make the mount in the calling process's namespace."""
        os.makedirs(self.target, 0o700, exist_ok=True)
        upper, work = self.upper, self.work
        if self.store is not None:
            os.makedirs(self.store.target, 0o700, exist_ok=True)
            self.store.execute()
            upper, work = (f"{self.store.target}/{path}" for path in (upper, work))
            for path in (upper, work):
                tree.remove_path(path)
                os.makedirs(path, 0o700)
            # The top directory of an overlay is that of its upper layer.
            facts = os.stat(self.lower)
            os.chown(upper, facts.st_uid, facts.st_gid)
            os.chmod(upper, facts.st_mode & 0o7777)
        given = {"lowerdir": self.lower, "upperdir": upper, "workdir": work}
        data = ",".join(f"{key}={_escape(key, path)}" for key, path in given.items())
        try:
            mount("overlay", self.target, "overlay", 0, data)
        except OSError as error:
            raise OSError(
                error.errno,
                f"mounting overlay failed '{self.lower}': {error.strerror}: not every file system "
                f"can be overlaid, nor hold the changes in {self.upper}",
            ) from error
        if self.store is not None:
            # The overlay has what it needs; nothing else should find this.
            unmount(self.store.target, lazy=True)


def _escape(key: str, path: str) -> str:
    """A path in the options of the overlay file system: a colon parts lower directories, a comma
    options."""
    path = path.replace("\\", "\\\\").replace(",", "\\,")
    return path.replace(":", "\\:") if key == "lowerdir" else path
