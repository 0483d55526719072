"""Making a store, describing it, removing it."""

from __future__ import annotations

import os

import pytest
from helpers.store import Store, list_processes, list_store_mounts, open_store

from strata.engine.system import verbs as system
from strata.errors import AlreadyExists

pytestmark = pytest.mark.btrfs


def test_a_second_init_says_that_there_is_a_store(store: Store) -> None:
    with pytest.raises(AlreadyExists) as caught:
        system.init(store.root, store.runroot)
    assert "strata system info" in caught.value.hint


def test_a_new_store_is_usable_at_once(store: Store) -> None:
    e = store.engine()
    assert list(e.records.list_records("container")) == []
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    assert os.stat(store.runroot).st_mode & 0o777 == 0o700


def test_the_helper_leaves_nothing() -> None:
    with open_store() as made:
        assert list_store_mounts(made.base)
    assert not os.path.exists(made.base)
    assert not list_store_mounts(made.base)
    assert not list_processes(made)
