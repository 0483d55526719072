"""The verbs on the store where datasets are ZFS ones and the trash is no place of its own."""

from __future__ import annotations

import os

import pytest
from helpers.apart import apart
from helpers.store import BUSYBOX, Store

pytestmark = [pytest.mark.root, pytest.mark.zfsfuse]


def find(store: Store, *options: str) -> list[tuple[str, bool]]:
    found = store.strata("system", "check", "--format", "json", *options).json["Problems"]
    return sorted((problem["Id"], problem["Repaired"]) for problem in found)


def test_the_check_finds_and_repairs_on_zfs() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        store.ok("create", "--name", "web", "--volume", "data:/data", "--stop-signal", "KILL",
                 BUSYBOX, "sleep", "1000")  # fmt: skip
        for words in (
            ["start", "web"], ["snapshot", "data@a"], ["rollback", "data@a"], ["stop", "web"],
            ["create", "--name", "removed", BUSYBOX, "true"], ["rm", "removed"],
        ):  # fmt: skip
            store.ok(*words)
            assert find(store) == [], words
        e = store.engine()
        web = e.records.get("container", e.records.resolve("container", "web"))
        volume = e.records.get("volume", e.records.resolve("volume", "data"))
        e.records.delete("container", web["id"])
        e.unmount_volume("data")
        e.driver.close(volume["dataset"])
        e.driver.rename(volume["dataset"], "volumes/_/moved.1")
        assert find(store, "--repair") == [("dataset-renamed", True), ("record-lost", True)]
        assert find(store) == []
        store.ok("start", "web")
        rows = {row["Type"]: row for row in store.ok("system", "df", "--format", "json").json}
        assert rows["Containers"]["RawSize"] > 0
        assert rows["Trash"]["Total"] == 1
        store.ok("system", "reset", "--force", "--now")
        assert not os.path.exists(store.root)

    apart(act)


def test_records_come_back_from_zfs_datasets() -> None:
    def act(store: Store) -> None:
        store.add_busybox()
        store.ok("create", "--name", "web", "--volume", "data:/data", "--env", "A=1", BUSYBOX,
                 "sh", "-c", "echo $A")  # fmt: skip
        store.ok("snapshot", "data@a")
        store.ok("rollback", "data@a")
        e = store.engine()
        e.driver.close("records")
        e.driver.destroy_recursive("records")
        outcome = store.strata("ps")
        assert outcome.rc == 125
        assert "strata system rebuild" in outcome.err
        store.ok("system", "rebuild")
        assert find(store) == []
        assert store.ok("start", "--attach", "web").line == "1"
        store.ok("rollback", "data@a")
        assert find(store) == []

    apart(act)
