"""Pools that are not the store's, as a user has them: a btrfs, or a pool of zfs-fuse, in a file."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator

from helpers.store import Store, wait_until
from strata.linux import loop, mount


def run(*words: str) -> str:
    """Run a program; its standard output."""
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def destroy_pool(name: str) -> None:
    """Destroy a pool of zfs-fuse, whose daemon sees late that nothing of it is mounted."""
    words = ("zpool", "destroy", name)
    wait_until(
        lambda: subprocess.run(words, capture_output=True, check=False).returncode == 0,
        f"{name} is not busy",
    )


class Disk:
    """A btrfs in a file, mounted at ``top``."""

    def __init__(self, store: Store, name: str = "disk") -> None:
        self.file = f"{store.base}/{name}.btrfs"
        self.top = f"{store.base}/{name}"

    def make(self) -> None:
        with open(self.file, "wb") as file:
            file.truncate(256 << 20)
        run("mkfs.btrfs", "-q", self.file)
        os.mkdir(self.top)
        self.mount()

    def mount(self) -> None:
        device, fd = loop.attach(self.file)
        mount.mount(device, self.top, "btrfs")
        os.close(fd)

    def unmount(self) -> None:
        """Unmount it, once what collects after a command no longer looks at it."""
        wait_until(self._try_unmount, f"nobody uses {self.top}")

    def _try_unmount(self) -> bool:
        try:
            mount.unmount(self.top)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def add(self, name: str, text: str = "one") -> str:
        """Make a subvolume with a file ``f``; its path."""
        path = f"{self.top}/{name}"
        run("btrfs", "subvolume", "create", path)
        with open(f"{path}/f", "w") as file:
            file.write(text)
        return path


@contextlib.contextmanager
def open_disk(store: Store, name: str = "disk") -> Iterator[Disk]:
    """A disk that is unmounted when the block ends."""
    disk = Disk(store, name)
    disk.make()
    try:
        yield disk
    finally:
        if mount.find_mount(disk.top) is not None:
            mount.unmount(disk.top, lazy=True)


def read(path: str) -> str:
    """A small file's text."""
    with open(path) as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Write a small file."""
    with open(path, "w") as file:
        file.write(text)
