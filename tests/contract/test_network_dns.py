"""Names served by the real aardvark-dns on a test host whose bridges have the gateways.

Containers are played by further addresses of the bridge, which questions come from.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hosts import Host, inside, open_hosts
from helpers.names import NameServer, resolve
from helpers.store import wait_until

from strata.network import dns

pytestmark = pytest.mark.root

FRONT = {
    "id": "f0" * 32, "name": "front", "internal": False, "dns_servers": [],
    "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"},
                {"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}],
}  # fmt: skip
BACK = {"id": "ba" * 32, "name": "back", "internal": False, "dns_servers": [],
        "subnets": [{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1"}]}  # fmt: skip
WEB, DB = "aa" * 32, "bb" * 32


class Served:
    """A run directory whose names are served on a host."""

    def __init__(self, host: Host, runroot: str) -> None:
        self.host = host
        self.runroot = runroot

    def publish(self, container: str, *zones: dns.Zone, servers: tuple[str, ...] = ()) -> None:
        inside(self.host.netns, lambda: dns.publish(self.runroot, container, zones, servers))
        assert inside(self.host.netns, lambda: dns.wait_answering(zones)) == ""

    def withdraw(self, container: str, *networks: str) -> None:
        inside(self.host.netns, lambda: dns.withdraw(self.runroot, container, networks or None))

    def ask(
        self, name: str, *, of: str = "10.89.0.1", source: str = "10.89.0.2", kind: str = "A"
    ) -> list[str]:
        """The answer; aardvark-dns before 1.9 gives none for some milliseconds of a change."""
        answers: list[list[str]] = []

        def ask() -> bool:
            answer = resolve(self.host.netns, of, name, kind, source=source, timeout=0.5)
            if answer is not None:
                answers.append(answer)
            return bool(answers)

        wait_until(ask, f"an answer of {of}")
        return answers[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with open_hosts("a") as (host,):
        host.ok("ip", "-batch", "-", input="\n".join([
            "link add strata0 type bridge", "link set strata0 up",
            "link add strata1 type bridge", "link set strata1 up",
            *(f"address add 10.89.0.{number}/24 dev strata0" for number in (1, 2, 3)),
            "address add fd00:1::1/64 dev strata0 nodad",
            "address add fd00:1::2/64 dev strata0 nodad",
            *(f"address add 10.89.1.{number}/24 dev strata1" for number in (1, 3)),
        ]))  # fmt: skip
        made = Served(host, str(tmp_path))
        (tmp_path / "net").mkdir()
        try:
            yield made
        finally:
            dns.stop(made.runroot)


def test_a_published_container_is_found_by_every_name(served: Served) -> None:
    served.publish(WEB, (FRONT, ["10.89.0.2/24", "fd00:1::2/64"], ["web", "www"]))
    for name in ("web", "www", "WEB", "web.dns.podman"):
        assert served.ask(name) == ["10.89.0.2"], name
    assert served.ask("web", kind="AAAA") == ["fd00:1::2"]
    assert served.ask("web", of="fd00:1::1", source="fd00:1::2", kind="AAAA") == ["fd00:1::2"]
    assert "web" in served.ask("2.0.89.10.in-addr.arpa", kind="PTR")
    assert served.ask("host.containers.internal") == ["10.89.0.1"]
    assert served.ask("web", source="10.89.0.1") == ["10.89.0.2"], "asked by the host itself"


def test_containers_with_one_alias_share_it(served: Served) -> None:
    served.publish(WEB, (FRONT, ["10.89.0.2"], ["web", "both"]))
    served.publish(DB, (FRONT, ["10.89.0.3"], ["db", "both"]))
    assert served.ask("both") == ["10.89.0.2", "10.89.0.3"]
    served.withdraw(DB)
    wait_until(lambda: served.ask("both") == ["10.89.0.2"], "the withdrawn container forgotten")


def test_networks_do_not_hear_of_each_other(served: Served) -> None:
    served.publish(WEB, (FRONT, ["10.89.0.2"], ["web"]))
    served.publish(DB, (FRONT, ["10.89.0.3"], ["db"]), (BACK, ["10.89.1.3"], ["db", "store"]))
    assert served.ask("store") == [], "an alias of the other network"
    for name in ("store", "store.dns.podman", "STORE.dns.podman"):
        assert served.ask(name, source="10.89.0.3") == ["10.89.1.3"], "it is on both"
    served.withdraw(DB, BACK["id"])
    wait_until(lambda: served.ask("store", source="10.89.0.3") == [], "one network left")
    assert served.ask("db") == ["10.89.0.3"]


def test_publishing_again_replaces(served: Served) -> None:
    served.publish(WEB, (FRONT, ["10.89.0.2"], ["old"]))
    served.publish(WEB, (FRONT, ["10.89.0.3"], ["new"]))
    assert served.ask("new") == ["10.89.0.3"]
    assert served.ask("old") == []


def test_the_server_ends_with_the_last_container_and_is_there_for_the_next(served: Served) -> None:
    seen = set()
    for number in range(5):
        served.publish(WEB, (FRONT, ["10.89.0.2"], [f"web{number}"]))
        assert served.ask(f"web{number}") == ["10.89.0.2"]
        seen.add(dns.find_server(served.runroot))
        served.withdraw(WEB)
        served.withdraw(WEB)
        assert dns.find_server(served.runroot) == 0
        assert os.listdir(f"{served.runroot}/net/dns") == []
    assert len(seen) == 5


def test_a_server_that_was_killed_comes_back_with_all_names(served: Served) -> None:
    served.publish(WEB, (FRONT, ["10.89.0.2"], ["web"]))
    os.kill(dns.find_server(served.runroot), 9)
    wait_until(lambda: dns.find_server(served.runroot) == 0, "the server gone")
    served.publish(DB, (FRONT, ["10.89.0.3"], ["db"]))
    assert served.ask("web") == ["10.89.0.2"]
    os.kill(dns.find_server(served.runroot), 9)
    wait_until(lambda: dns.find_server(served.runroot) == 0, "the server gone")
    served.publish(WEB, (FRONT, ["10.89.0.2"], ["web"]))
    assert served.ask("db") == ["10.89.0.3"]


def test_many_at_once_are_all_found(served: Served) -> None:
    def publish(number: int) -> None:
        zone = (FRONT, [f"10.89.0.{number}"], [f"c{number}"])
        served.publish(f"{number:064x}", zone)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(100, 120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(100, 120):
        assert served.ask(f"c{number}") == [f"10.89.0.{number}"]
    assert len(dns.list_zones(served.runroot)["f0" * 6]) == 20


def test_what_no_container_is_called_is_asked_beyond(served: Served) -> None:
    served.host.ok("ip", "address", "add", "198.51.100.1/32", "dev", "lo")
    served.host.ok("ip", "address", "add", "198.51.100.2/32", "dev", "lo")
    with (
        NameServer(served.host.netns, "198.51.100.1", "203.0.113.1"),
        NameServer(served.host.netns, "198.51.100.2", "203.0.113.2"),
    ):
        front = {**FRONT, "dns_servers": ["198.51.100.1"]}
        served.publish(WEB, (front, ["10.89.0.2"], ["web"]))
        served.publish(DB, (front, ["10.89.0.3"], ["db"]), servers=("198.51.100.2",))
        assert served.ask("example.org") == ["203.0.113.1"], "the network's server"
        assert served.ask("example.org", source="10.89.0.3") == ["203.0.113.2"], "its own"
        inside(served.host.netns, lambda: dns.refresh(
            served.runroot, {**FRONT, "dns_servers": ["198.51.100.2"]}))  # fmt: skip
        wait_until(lambda: served.ask("example.org") == ["203.0.113.2"], "the network's new one")


def test_a_server_that_has_only_just_begun_hears_of_the_next(served: Served) -> None:
    """Before it is ready, the signal to read again would end it."""
    zones = [(FRONT, [f"10.89.0.{number}"], [f"c{number}"]) for number in range(10, 14)]
    for _ in range(10):
        for number, zone in enumerate(zones):
            inside(served.host.netns, lambda number=number, zone=zone: dns.publish(  # type: ignore[misc]
                served.runroot, f"{number:064x}", [zone]))  # fmt: skip
        assert inside(served.host.netns, lambda: dns.wait_answering(zones)) == ""
        dns.stop(served.runroot)


def test_silence_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_ANSWER_LIMIT", 0.05)
    warning = inside(served.host.netns, lambda: dns.wait_answering([(FRONT, ["10.89.0.2"], ["w"])]))
    assert "front do not resolve" in warning
    assert "10.89.0.1 port 53" in warning
