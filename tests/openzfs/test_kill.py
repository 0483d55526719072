"""kill -9 at the steps of the verbs whose datasets are without identity for a while.

The journal must answer for them; afterwards nothing is left that does not say what it is.
"""

from __future__ import annotations

import os
import tarfile
import time
import uuid
from collections.abc import Iterator

import pytest
from helpers import kill
from helpers.store import BUSYBOX, Store
from zfs_tools import zfs

from strata.linux import mount

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module", autouse=True)
def source(store: Store) -> Iterator[None]:
    """A container that is never started."""
    store.ok("create", "--name", "source", "--network", "none", BUSYBOX, "true")
    yield
    store.ok("rm", "--force", "--all")


def nameless(store: Store) -> list[str]:
    """The layers and containers that do not say what they are."""
    text = zfs("get", "-Hp", "-r", "-d", "1", "-t", "filesystem", "-o", "name,source",
               "strata:id", f"{store.dataset}/layers", f"{store.dataset}/containers")  # fmt: skip
    rows = [line.split("\t") for line in text.splitlines()]
    return [name for name, source in rows if source != "local"
            and name.rpartition("/")[0] != store.dataset]  # fmt: skip


def change(store: Store) -> None:
    """Write something new where the next commit and the next import find it."""
    text = uuid.uuid4().hex
    with tarfile.open(f"{store.base}/other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(text))
    names = zfs("list", "-H", "-o", "name", "-d", "1", f"{store.dataset}/containers")
    [source] = (name for name in names.splitlines() if "/source." in name)
    target = f"{store.base}/changing"
    os.makedirs(target, exist_ok=True)
    mount.mount(source, target, "zfs")
    with open(f"{target}/rootfs/{text}", "w") as file:
        file.write(text)
    mount.unmount(target)


def kill_at_each(store: Store, points: list[str], *words: str) -> None:
    """Kill the command line at each of these points."""
    change(store)
    passed = kill.list_points(store, *words)
    assert set(points) <= set(passed), passed
    for point in points:
        change(store)
        kill.kill_at(store, passed.index(point), *words)
        deadline = time.monotonic() + 60
        # A second look finds nothing to repair; a container that was started is removed by its
        # end, one that was recorded and not started by anybody.
        while store.strata("system", "check", "--repair").rc or nameless(store):
            found = store.ok("ps", "-a", "--format", "{{.Names}}").out.split()
            for name in set(found) - {"source"}:
                store.strata("rm", "--force", name)
            assert time.monotonic() < deadline, (
                point, store.strata("system", "check").out, nameless(store)
            )  # fmt: skip


def test_a_killed_commit_leaves_no_nameless_layer(store: Store) -> None:
    kill_at_each(store, ["commit:cloned", "commit:promoted"],
                 "commit", "source", "localhost/made:1")  # fmt: skip


def test_a_killed_import_leaves_no_nameless_layer(store: Store) -> None:
    kill_at_each(store, ["layer:dataset-made", "layer:frozen"],
                 "import", f"{store.base}/other.tar", "localhost/other:1")  # fmt: skip


def test_a_killed_run_leaves_no_nameless_container(store: Store) -> None:
    kill_at_each(store, ["create:dataset-made", "start:started"],
                 "run", "--rm", "--network", "none", BUSYBOX, "true")  # fmt: skip
