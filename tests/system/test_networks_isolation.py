"""Who reaches whom: between networks, to and from the host and another host, by published ports.

Servers answer with the address that asks, so that masquerading shows too. Containers only sleep;
the sockets are this process's, opened in their namespaces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from helpers.hosts import Attached, Host, Server, ask_tcp, ask_udp, open_hosts
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

PORT = 7000
NETWORKS = {
    "red": ["--ipv6"],
    "blue": ["--ipv6"],
    "inner": ["--internal"],
    "open": ["-o", "isolate=false"],
    "strict": ["-o", "isolate=strict"],
}
CONTAINERS = {
    "red1": "red", "red2": "red", "blue1": "blue", "inner1": "inner", "inner2": "inner",
    "open1": "open", "strict1": "strict",
}  # fmt: skip


class World:
    """Two hosts; a store on the first with networks and containers."""

    def __init__(self, store: Store, a: Host, b: Host) -> None:
        self.store = store
        self.a = a
        self.b = b
        self.netns = {"a": a.netns, "b": b.netns}
        self.addresses = {"a": [a.address, a.address6], "b": [b.address, b.address6]}

    def run(self, name: str, *options: str) -> None:
        """A container that sleeps."""
        self.store.ok("run", "--detach", "--name", name, "--stop-signal", "KILL", *options,
                      BUSYBOX, "sleep", "10000")  # fmt: skip
        self.look(name)

    def look(self, name: str) -> None:
        """Read where a container is."""
        found = Attached(self.store, name)
        self.netns[name] = found.netns
        self.addresses[name] = [text for texts in found.addresses.values() for text in texts]

    def ask(self, source: str, target: str, *, six: bool = False, udp: bool = False) -> str:
        """What the server of ``target`` answers ``source``; empty when it is not reached."""
        address = self.addresses[target][six]
        if udp:
            answer = ask_udp(self.netns[source], address, PORT, timeout=0.4)
        else:
            answer = ask_tcp(self.netns[source], address, PORT, timeout=0.4)
        return (answer or b"").decode()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        a, b = stack.enter_context(open_hosts("a", "b"))
        store = stack.enter_context(open_store(netns=a.netns))
        store.add_busybox()
        made = World(store, a, b)
        for name, options in NETWORKS.items():
            store.ok("network", "create", *options, name)
        for name, network in CONTAINERS.items():
            made.run(name, "--network", network)
        # The other host knows the way, as an attacker on the same wire may.
        b.ok("ip", "route", "add", "10.88.0.0/13", "via", a.address)
        for name in [*CONTAINERS, "a", "b"]:
            stack.enter_context(Server(made.netns[name], PORT))
        yield made


NOT_REACHED = ""


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize(
    ("source", "target"),
    [("red1", "red2"), ("red2", "red1"), ("inner1", "inner2"), ("open1", "red1"),
     ("red1", "open1")],
)  # fmt: skip
def test_who_shares_a_network_or_opens_it_talks(
    world: World, source: str, target: str, udp: bool
) -> None:  # fmt: skip
    assert world.ask(source, target, udp=udp) == world.addresses[source][0]


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize(
    ("source", "target"),
    [("red1", "blue1"), ("blue1", "red1"), ("red1", "inner1"), ("inner1", "red1"),
     ("open1", "inner1"), ("inner1", "open1"), ("strict1", "open1"), ("open1", "strict1"),
     ("red1", "strict1"), ("strict1", "red1")],
)  # fmt: skip
def test_networks_are_apart(world: World, source: str, target: str, udp: bool) -> None:
    assert world.ask(source, target, udp=udp) == NOT_REACHED


@pytest.mark.parametrize(("source", "target"), [("red1", "blue1"), ("blue1", "red1")])
def test_networks_are_apart_in_ipv6_too(world: World, source: str, target: str) -> None:
    assert world.ask("red1", "red2", six=True) == world.addresses["red1"][1]
    assert world.ask(source, target, six=True) == NOT_REACHED


@pytest.mark.parametrize("target", ["red1", "blue1", "inner1", "open1", "strict1"])
def test_the_host_reaches_every_container(world: World, target: str) -> None:
    assert world.ask("a", target) != NOT_REACHED


@pytest.mark.parametrize("target", ["red1", "inner1", "open1", "strict1"])
def test_another_host_reaches_no_container_that_publishes_nothing(
    world: World, target: str
) -> None:  # fmt: skip
    assert world.ask("b", target) == NOT_REACHED
    assert world.ask("b", target, udp=True) == NOT_REACHED


@pytest.mark.parametrize("source", ["red1", "open1", "strict1"])
def test_what_leaves_has_the_address_of_the_host(world: World, source: str) -> None:
    assert world.ask(source, "b") == world.a.address
    assert world.ask(source, "b", udp=True) == world.a.address


def test_what_leaves_by_ipv6_has_the_address_of_the_host(world: World) -> None:
    assert world.ask("red1", "b", six=True) == world.a.address6


def test_nothing_leaves_an_internal_network(world: World) -> None:
    assert world.ask("inner1", "b") == NOT_REACHED
    assert world.ask("inner1", "b", udp=True) == NOT_REACHED


def test_a_container_does_not_reach_the_loopback_of_the_host(world: World) -> None:
    with Server(world.a.netns, 7009, address="127.0.0.1"):
        red = world.netns["red1"]
        gateway = world.addresses["red1"][0].rpartition(".")[0] + ".1"
        # Even when it sends there what is meant for 127.0.0.1.
        assert ask_tcp(red, gateway, 7009, timeout=0.4) is None


def test_a_container_of_two_networks_reaches_both(world: World) -> None:
    world.run("both", "--network", "red", "--network", "blue")
    try:
        assert world.ask("both", "red1") != NOT_REACHED
        assert world.ask("both", "blue1") != NOT_REACHED
        # It does not become a bridge between them.
        assert world.ask("red1", "blue1") == NOT_REACHED
    finally:
        world.store.ok("rm", "--force", "--time", "0", "both")


# -- published ports -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(world: World) -> Iterator[World]:
    """A container on red that publishes its port as 8080, tcp and udp, and 8081 on localhost."""
    world.run("web", "--network", "red", "--publish", f"8080:{PORT}", "--publish",
              f"8080:{PORT}/udp", "--publish", f"127.0.0.1:8081:{PORT}")  # fmt: skip
    try:
        with Server(world.netns["web"], PORT):
            yield world
    finally:
        world.store.ok("rm", "--force", "--time", "0", "web")


def test_a_published_port_answers_on_the_host(published: World) -> None:
    for address in ("127.0.0.1", published.a.address):
        assert ask_tcp(published.a.netns, address, 8080) is not None
        assert ask_udp(published.a.netns, address, 8080) is not None
    assert ask_tcp(published.a.netns, published.a.address6, 8080) is not None


def test_a_published_port_answers_another_host_and_shows_who_asks(published: World) -> None:
    b = published.b
    assert ask_tcp(b.netns, published.a.address, 8080) == b.address.encode()
    assert ask_udp(b.netns, published.a.address, 8080) == b.address.encode()
    assert ask_tcp(b.netns, published.a.address6, 8080) == b.address6.encode()


@pytest.mark.parametrize("source", ["web", "red1", "blue1", "open1"])
def test_a_published_port_answers_containers_that_ask_the_host(
    published: World, source: str
) -> None:  # fmt: skip
    """Also itself and its neighbours, whose packets turn round on the bridge."""
    assert ask_tcp(published.netns[source], published.a.address, 8080) is not None
    assert ask_udp(published.netns[source], published.a.address, 8080) is not None


@pytest.mark.parametrize("source", ["inner1", "strict1"])
def test_a_published_port_opens_no_way_into_or_out_of_what_is_closed(
    published: World, source: str
) -> None:  # fmt: skip
    assert ask_tcp(published.netns[source], published.a.address, 8080, timeout=0.4) is None


def test_a_port_published_on_localhost_answers_there_alone(published: World) -> None:
    assert ask_tcp(published.a.netns, "127.0.0.1", 8081) is not None
    assert ask_tcp(published.b.netns, published.a.address, 8081, timeout=0.4) is None
    assert ask_tcp(published.netns["red1"], published.a.address, 8081, timeout=0.4) is None


def test_only_the_published_port_is_open_to_another_host(published: World) -> None:
    assert ask_tcp(published.b.netns, published.addresses["web"][0], PORT, timeout=0.4) is None


def test_a_port_is_free_again_when_its_container_is_gone(published: World) -> None:
    published.run("short", "--network", "blue", "--publish", f"8090:{PORT}")
    with Server(published.netns["short"], PORT):
        assert ask_tcp(published.b.netns, published.a.address, 8090) is not None
    published.store.ok("rm", "--force", "--time", "0", "short")
    assert ask_tcp(published.b.netns, published.a.address, 8090, timeout=0.4) is None
    with Server(published.a.netns, 8090):
        assert ask_tcp(published.b.netns, published.a.address, 8090) == published.b.address.encode()
