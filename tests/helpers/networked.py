"""Fixtures of tests about networks: two hosts, and a store on the first (see ``helpers.hosts``).

A module that needs other hosts has a fixture ``hosts`` of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.hosts import Host, open_hosts
from helpers.store import Store, open_store

Place = tuple[Store, Host, Host]


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    """Two hosts that reach each other."""
    with open_hosts("a", "b") as made:
        yield made


@pytest.fixture(scope="module")
def hosted_store(hosts: list[Host]) -> Iterator[Store]:
    """A store with `BUSYBOX` whose commands run on the first host; leave it as you found it."""
    with open_store(netns=hosts[0].netns) as made:
        made.add_busybox()
        yield made


@pytest.fixture
def place(hosted_store: Store, hosts: list[Host]) -> Iterator[Place]:
    """The store and both hosts; afterwards it has no containers and networks."""
    try:
        yield hosted_store, hosts[0], hosts[1]
    finally:
        clear(hosted_store)


def clear(store: Store) -> None:
    """Take away all containers and networks that somebody made."""
    store.strata("rm", "--all", "--force", "--now", "--time", "0")
    store.strata("network", "prune", "--force", "--now")
