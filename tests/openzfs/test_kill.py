"""kill -9 at the steps of the verbs whose datasets are without identity for a while.

The journal must answer for them; afterwards nothing is left that does not say what it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from helpers import kill
from helpers.store import Store as Killable
from vm_store import IMAGE, Store, make_store
from zfs_tools import zfs

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module")
def strata(pool: str) -> Iterator[Store]:
    with make_store(pool) as store:
        store("import", str(store.folder / "busybox.tar"), IMAGE)
        store("create", "--name", "source", "--network", "none", IMAGE, "true")
        yield store


def nameless(strata: Store) -> list[str]:
    """The layers and containers that do not say what they are."""
    text = zfs("get", "-Hp", "-r", "-d", "1", "-t", "filesystem", "-o", "name,source",
               "strata:id", f"{strata.dataset}/layers", f"{strata.dataset}/containers")  # fmt: skip
    rows = [line.split("\t") for line in text.splitlines()]
    return [name for name, source in rows if source != "local"
            and name.rpartition("/")[0] != strata.dataset]  # fmt: skip


def kill_at_each(strata: Store, points: list[str], *words: str) -> None:
    """Kill the command line at each of these points."""
    store = Killable(str(strata.folder))
    strata.change()
    passed = kill.list_points(store, *words)
    assert set(points) <= set(passed), passed
    for point in points:
        strata.change()
        kill.kill_at(store, passed.index(point), *words)
        deadline = time.monotonic() + 60
        # A second look finds nothing to repair; a container that was started is removed by its
        # end, one that was recorded and not started by anybody.
        while strata.call("system", "check", "--repair").returncode or nameless(strata):
            for name in set(strata("ps", "-a", "--format", "{{.Names}}").split()) - {"source"}:
                strata.call("rm", "--force", name)
            assert time.monotonic() < deadline, (
                point, strata.call("system", "check").stdout, nameless(strata)
            )  # fmt: skip


def test_a_killed_commit_leaves_no_nameless_layer(strata: Store) -> None:
    kill_at_each(strata, ["commit:cloned", "commit:hashed", "commit:decided", "commit:promoted"],
                 "commit", "source", "localhost/made:1")  # fmt: skip


def test_a_killed_import_leaves_no_nameless_layer(strata: Store) -> None:
    kill_at_each(strata, ["layer:dataset-made", "layer:filled", "layer:frozen", "layer:recorded"],
                 "import", str(strata.folder / "other.tar"), "localhost/other:1")  # fmt: skip


def test_a_killed_run_leaves_no_nameless_container(strata: Store) -> None:
    kill_at_each(strata, ["create:dataset-made", "create:recorded", "start:recorded",
                          "start:started"],
                 "run", "--rm", "--network", "none", IMAGE, "true")  # fmt: skip
