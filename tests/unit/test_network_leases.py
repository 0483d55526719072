"""Leases of addresses and ports: links that only one can make."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from strata.network import leases
from strata.network.addresses import V4, parse_address, parse_subnet

FIRST, LAST = parse_address("10.89.0.2")[1], parse_address("10.89.0.6")[1]
NEVER = frozenset([parse_address("10.89.0.4")[1]])


def allocate(folder: Path, holder: str) -> str:
    return leases.allocate(str(folder), FIRST, LAST, NEVER, holder, V4)


def test_addresses_go_round_and_the_gateway_is_left_out(tmp_path: Path) -> None:
    """One just freed is given out last."""
    assert [allocate(tmp_path, f"c{n}") for n in range(2)] == ["10.89.0.2", "10.89.0.3"]
    leases.release(f"{tmp_path}/10.89.0.2", "c0")
    assert [allocate(tmp_path, "c2"), allocate(tmp_path, "c3")] == ["10.89.0.5", "10.89.0.6"]
    assert allocate(tmp_path, "c4") == "10.89.0.2"
    with pytest.raises(leases.Exhausted):
        allocate(tmp_path, "c5")


def test_of_many_at_once_none_gets_another_s(tmp_path: Path) -> None:
    found: list[str] = []
    low, high = parse_address("10.89.0.2")[1], parse_address("10.89.0.200")[1]

    def work(number: int) -> None:
        for part in range(10):
            found.append(
                leases.allocate(str(tmp_path), low, high, frozenset(), f"{number}-{part}", V4)
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 160


def test_a_lease_is_given_up_by_its_holder_alone(tmp_path: Path) -> None:
    path = f"{tmp_path}/x/10.89.0.9"
    leases.take(path, "mine")
    leases.take(path, "mine")
    with pytest.raises(leases.Taken) as caught:
        leases.take(path, "other")
    assert caught.value.holder == "mine"
    leases.release(path, "other")
    assert leases.find_holder(path) == "mine"
    leases.release(path, "mine")
    leases.release(path, "mine")
    assert leases.find_holder(path) is None


@pytest.mark.parametrize(("one", "other", "collide"), [
    ("", "", True), ("", "127.0.0.1", True), ("127.0.0.1", "", True), ("0.0.0.0", "10.0.0.1", True),
    ("127.0.0.1", "10.0.0.1", False), ("::", "127.0.0.1", False), ("::", "fd00::1", True),
    ("0.0.0.0", "::", False), ("", "::", True),
])  # fmt: skip
def test_a_port_on_all_addresses_excludes_those_on_one(
    tmp_path: Path, one: str, other: str, collide: bool
) -> None:
    leases.take_port(str(tmp_path), "tcp", one, 80, "first")
    leases.take_port(str(tmp_path), "udp", one, 80, "second")
    leases.take_port(str(tmp_path), "tcp", one, 81, "second")
    if collide:
        with pytest.raises(leases.Taken):
            leases.take_port(str(tmp_path), "tcp", other, 80, "second")
        taken = [entry for entry in leases.list_ports(str(tmp_path)) if entry[2] == 80]
        assert sorted(entry[3] for entry in taken) == ["first", "second"]
    else:
        leases.take_port(str(tmp_path), "tcp", other, 80, "second")


def test_a_range_is_cut_to_what_hosts_may_have() -> None:
    subnet = parse_subnet("10.89.0.0/24")
    assert leases.find_range(subnet, None) == subnet.usable()
    cut = leases.find_range(subnet, {"start": "10.89.0.0", "end": "10.89.0.9"})
    assert cut == (subnet.base + 1, subnet.base + 9)


def test_no_folder_means_no_leases(tmp_path: Path) -> None:
    assert list(leases.list_leases(f"{tmp_path}/none")) == []
    assert list(leases.list_ports(f"{tmp_path}/none")) == []
    assert os.listdir(tmp_path) == []
