"""A store of ZFS: of OpenZFS where the tests have a pool of it, else of zfs-fuse, in a process and
mount namespace of its own, as its daemon needs."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from helpers.store import POOL, Store, get_busybox_tar, open_store
from strata.linux import mount
from strata.linux.syscall import call

CLONE_NEWNS = 0x20000
FOLDERS = ("/run/zfs", "/run/lock/zfs", "/var/lib/zfs")
"""Where a zfs-fuse daemon keeps its socket, lock and cache."""


def apart(act: Callable[[Store], None], *, size: int = 0) -> None:
    """Run with a store of ZFS of its own; with ``size`` (bytes) in a pool of its own too."""
    if POOL:
        with open_store(make=not size) as store:
            act(store.make("zfs", size=size) if size else store)
            if size:
                store.ok("system", "reset", "--force", "--now")
        return
    get_busybox_tar()  # here, where the end of the process removes it
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call("unshare", CLONE_NEWNS, what="unshare")
            mount.set_propagation("/", mount.MS_SLAVE)
            for folder in FOLDERS:
                os.makedirs(folder, exist_ok=True)
                mount.mount("none", folder, "tmpfs")
            with open_store(make=False) as store:
                act(store.make("zfs", size=size or 600 << 20))
            code = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    assert status == 0, said
