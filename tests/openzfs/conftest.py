"""The pool of the OpenZFS lane.

Inside the lane's machine STRATA_TEST_POOL names a pool; on any other host with the module a file
pool is made, so that no test ever touches a pool it did not get.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator

import pytest
from helpers.store import Store, open_store
from zfs_tools import zfs


@pytest.fixture(scope="session")
def pool() -> Iterator[str]:
    """The name of a pool that the tests may fill."""
    given = os.environ.get("STRATA_TEST_POOL")
    if given:
        yield given
        return
    folder = tempfile.mkdtemp(prefix="strata-openzfs-", dir="/var/tmp")
    name = f"strata-test-{uuid.uuid4().hex[:8]}"
    try:
        with open(f"{folder}/pool", "wb") as file:
            file.truncate(2 << 30)
        zfs("create", "-O", "mountpoint=none", name, f"{folder}/pool", program="zpool")
        try:
            yield name
        finally:
            zfs("destroy", "-f", name, program="zpool")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store(pool: str) -> Iterator[Store]:
    """A store with the image ``BUSYBOX`` for the whole run; leave it as you found it.

    The machine's own links and rules may be changed.
    """
    with open_store(pool=pool, networks=True) as made:
        made.add_busybox()
        yield made


@pytest.fixture
def base(pool: str) -> Iterator[str]:
    """A fresh dataset of this test alone, mountpoint=legacy for everything below."""
    name = f"{pool}/facts-{uuid.uuid4().hex[:8]}"
    zfs("create", "-o", "mountpoint=legacy", "-o", "canmount=noauto", name)
    yield name
    # The kernel frees what was unmounted a little later.
    deadline = time.monotonic() + 60
    while True:
        try:
            zfs("destroy", "-R", "-f", name)
            return
        except AssertionError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
