"""What the tests of this lane share: asking zfs, and a process in another mount namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helpers.store import Store

from strata.linux import mount
from strata.linux.syscall import call

CLONE_NEWNS = 0x20000


def zfs(*arguments: str, program: str = "zfs") -> str:
    """Run zfs; its output. A failure carries the program's text."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def zfs_error(*arguments: str, status: int = 1) -> str:
    """Run zfs, which must fail with ``status``; its error text."""
    done = subprocess.run(["zfs", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status, f"returned {done.returncode}: {done.stderr[:200]}"
    return done.stderr.strip()


def list_datasets(store: Store, below: str) -> dict[str, str]:
    """Names directly below a part of the store -> origin."""
    text = zfs("list", "-Hp", "-d1", "-t", "filesystem", "-o", "name,origin",
               f"{store.dataset}/{below}")  # fmt: skip
    rows = [line.split("\t") for line in text.splitlines()]
    return {name: origin for name, origin in rows if name != f"{store.dataset}/{below}"}


@contextmanager
def elsewhere(enter: Callable[[], None], propagation: int = mount.MS_PRIVATE) -> Iterator[int]:
    """A process in a mount namespace of its own that ran ``enter`` and stays; gives its pid."""
    ready_read, ready_write = os.pipe()
    stay_read, stay_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(stay_write)
            call("unshare", CLONE_NEWNS, what="unshare")
            mount.set_propagation("/", propagation)
            enter()
            os.write(ready_write, b"ok")
            os.close(ready_write)
            os.read(stay_read, 1)
        except BaseException as error:
            os.write(ready_write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(ready_write)
    os.close(stay_read)
    try:
        with os.fdopen(ready_read, "rb") as answer:
            text = answer.read()
        assert text == b"ok", text.decode()
        yield pid
    finally:
        os.close(stay_write)
        os.waitpid(pid, 0)
