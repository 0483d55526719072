"""The trash through the command line: what was removed is listed, and goes only when told."""

from __future__ import annotations

import os
import re

import pytest
from helpers.store import Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


def _rows(store: Store) -> list[dict[str, object]]:
    found = store.ok("trash", "ls", "--format", "json").json
    assert isinstance(found, list)
    return found


def test_a_removed_volume_is_listed_with_the_snapshots_that_end_with_it(store: Store) -> None:
    store.ok("volume", "create", "data")
    store.ok("snapshot", "data@monday")
    store.ok("volume", "rm", "data")
    row = next(row for row in _rows(store) if row["Name"] == "data")
    assert row["Kind"] == "volume"
    assert row["Snapshots"] == ["monday"]
    assert float(str(row["Due"])) > float(str(row["Removed"])) + 6 * 86400


def test_only_what_is_named_is_destroyed(store: Store) -> None:
    for name in ("one", "two"):
        store.ok("volume", "create", name)
        store.ok("volume", "rm", name)
    done = store.ok("trash", "empty", "--force", "one")
    assert "volume one" in done.err
    assert [row["Name"] for row in _rows(store)] == ["two"]
    assert len(os.listdir(f"{store.root}/pool/trash")) == 1


def test_what_was_freed_is_told(store: Store) -> None:
    """btrfs gives space back some time after; what is said is what came back."""
    store.ok("volume", "create", "data")
    path = store.ok("volume", "inspect", "data", "--format", "{{.Mountpoint}}").line
    with open(f"{path}/f", "wb") as file:
        file.write(os.urandom(40 << 20))
        os.fsync(file.fileno())
    store.ok("volume", "rm", "data")
    told = store.ok("trash", "empty", "--all", "--force").err.splitlines()[-1]
    freed = re.fullmatch(r"freed ([\d.]+) MB", told)
    assert freed, told
    assert float(freed.group(1)) > 30


def test_without_a_terminal_it_asks_for_force_and_destroys_nothing(store: Store) -> None:
    store.ok("volume", "create", "data")
    store.ok("volume", "rm", "data")
    refused = store.strata("trash", "empty", "data")
    assert refused.rc == 125
    assert "--force" in refused.err
    assert [row["Name"] for row in _rows(store)] == ["data"]


def test_an_unknown_name_is_refused_before_anything_goes(store: Store) -> None:
    store.ok("volume", "create", "data")
    store.ok("volume", "rm", "data")
    refused = store.strata("trash", "empty", "--force", "data", "nosuch")
    assert refused.rc == 125
    assert "nothing called 'nosuch' is in the trash" in refused.err
    assert [row["Name"] for row in _rows(store)] == ["data"]
