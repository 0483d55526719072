"""A store with two thousand snapshots of one volume and a thousand clones of them.

What a command costs is measured in processor time of its processes, beside the same command in the
same store before, as a clock on the wall also counts what else the machine does.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, Store, open_store

from strata.engine.core import Engine
from strata.engine.history import snapshots, targets
from strata.engine.identity import identity
from strata.engine.names import get_volume
from strata.storage import layout
from strata.store.records import new_id

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SNAPSHOTS, CLONES = 2000, 1000
VERBS = {
    "ps": ("ps", "--all"),
    "volumes": ("volume", "ls"),
    "log": ("log", "data"),
    "other": ("log", "other"),
    "inspect": ("volume", "inspect", "other"),
}


def measure(store: Store) -> dict[str, float]:
    """Seconds of processor time of some verbs, each the least of three."""
    found = {}
    for name, words in VERBS.items():
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            store.ok(*words)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        found[name] = min(times)
    return found


def fill(e: Engine) -> None:
    """Make them as the commands do, but without waiting for the disk after each."""
    record = get_volume(e, "data")
    names = [f"s{number}" for number in range(SNAPSHOTS)]
    e.driver.snapshot([f"{record['dataset']}@{name}" for name in names])
    for name in names:
        snapshots.own(record, name)
    targets.save(e, record)
    for number, name in enumerate(names[:CLONES]):
        clone = {
            **record, "id": new_id(), "name": f"v{number}", "snapshots": [],
            "dataset": layout.volume(f"v{number}"),
            "cloned": {"target": record["id"], "name": "data", "snapshot": name},
        }  # fmt: skip
        clone["lineage"] = clone["id"]
        made = e.driver.clone(f"{record['dataset']}@{name}", clone["dataset"], identity(clone))
        clone["guid"] = made.guid
        e.records.take_name("volume", clone["name"], clone["id"])
        e.records.save(clone, durable=False)


@pytest.fixture
def full() -> Iterator[tuple[Store, dict[str, float]]]:
    with open_store(size=1 << 30) as store:
        store.add_busybox()
        for name in ("data", "other"):
            store.ok("create", "--name", f"with-{name}", "-v", f"{name}:/d", BUSYBOX, "true")
        few = measure(store)
        fill(store.engine())
        yield store, few


def test_verbs_that_are_about_something_else_cost_what_they_did(
    full: tuple[Store, dict[str, float]],
) -> None:
    store, few = full
    many = measure(store)
    for name in ("ps", "other", "inspect"):
        assert many[name] < 2 * few[name] + 0.02, f"{name}: {few[name]} s, then {many[name]} s"
    # These tell of each; the interpreter alone costs more than a thousand rows.
    for name in ("volumes", "log"):
        assert many[name] < 8 * few[name], f"{name}: {few[name]} s, then {many[name]} s"
    rows = store.ok("log", "--format", "json", "data").json
    assert len(rows) == SNAPSHOTS + 1
    assert rows[-1]["Clones"] == ["volume v0"]
    assert store.ok("volume", "ls", "-q").out.count("\n") == CLONES + 2
    assert store.ok("run", "--rm", "-v", "v999:/d", BUSYBOX, "ls", "/d").rc == 0
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []
