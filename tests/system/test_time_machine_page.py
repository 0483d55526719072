"""The sessions in docs/time-machine.md are what a terminal shows: each is run again here.

Where one is out of date, STRATA_WRITE_SESSIONS=1 writes it anew (see ``helpers.sessions``).
"""

from __future__ import annotations

import os
import subprocess

import pytest
from helpers.apart import apart
from helpers.hosts import open_hosts
from helpers.outside import destroy_pool, run
from helpers.sessions import check_session, read_sessions
from helpers.store import POOL, Store, open_store

pytestmark = [pytest.mark.root]

PAGE = "docs/time-machine.md"


def test_the_page_has_both_sessions() -> None:
    first, second = read_sessions(PAGE)
    assert "$ strata undo" in first
    assert "# strata volume create --dataset tank/photos photos" in second


@pytest.mark.btrfs
def test_the_session() -> None:
    if POOL:
        return  # it says that it is on btrfs, where snapshots are taken one after another
    with open_hosts("a") as (host,), open_store(netns=host.netns) as store:
        store.add_busybox("bb")
        store.ok("run", "-d", "--name", "web", "--stop-timeout", "0", "-v", "data:/d", "bb",
                 "sleep", "1000")  # fmt: skip
        store.ok("exec", "web", "sh", "-c", "echo v1 >/d/state")
        check_session(store, PAGE, 0)


@pytest.mark.zfsfuse
def test_the_session_with_an_adopted_dataset() -> None:
    def act(store: Store) -> None:
        there = subprocess.run(["zpool", "list", "tank"], capture_output=True, check=False)
        own = there.returncode != 0
        if own:
            with open(f"{store.base}/tank", "wb") as file:
                file.truncate(200 << 20)
            run("zpool", "create", "-o", "cachefile=none", "-m", "/tank", "tank",
                f"{store.base}/tank")  # fmt: skip
        run("zfs", "create", "-o", "mountpoint=/tank/photos", "tank/photos")
        try:
            os.makedirs("/tank/photos/2019")
            with open("/tank/photos/2019/sea.jpg", "w") as file:
                file.write("blue\n")
            check_session(store, PAGE, 1)
            assert not os.path.exists("/tank/photos/2019"), "the owner's dataset stays as it is"
        finally:
            store.strata("system", "reset", "--force", "--now")
            if own:
                destroy_pool("tank")
                os.rmdir("/tank")
            else:
                run("zfs", "destroy", "-R", "tank/photos")

    apart(act)
