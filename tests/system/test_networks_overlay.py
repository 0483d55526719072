"""A WireGuard overlay of two hosts, from the command line."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest
from helpers.hosts import Attached, Host, Server, ask_tcp, ask_udp, open_hosts
from helpers.store import BUSYBOX, Store, open_store

from strata.network import wireguard

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

PORT = 7000
SLEEPER = ("--stop-signal", "KILL", BUSYBOX, "sleep", "10000")


class Node:
    """One host with a store of its own."""

    def __init__(self, host: Host, store: Store) -> None:
        self.host = host
        self.store = store

    def create(self, *options: str) -> None:
        """The network ``mesh``."""
        self.store.ok("network", "create", "-d", "wireguard", "-o", f"node={self.host.name}",
                      "-o", f"endpoint={self.host.address}", *options, "mesh")  # fmt: skip

    @property
    def token(self) -> str:
        return self.store.ok("network", "join-token", "mesh").line

    def run(self, name: str = "c", *options: str) -> None:
        self.store.ok("run", "--detach", "--name", name, "--network", "mesh", *options, *SLEEPER)

    def end(self, *names: str) -> None:
        self.store.ok("rm", "--force", "--time", "0", *(names or ("c",)))

    def netns(self, name: str = "c") -> str:
        return Attached(self.store, name).netns

    def address(self, name: str = "c", *, six: bool = False) -> str:
        return Attached(self.store, name).addresses["mesh"][six]

    def tunnels(self) -> list[str]:
        return [link for link in self.host.list_links() if link.startswith("swg")]

    def clean(self) -> None:
        self.store.strata("rm", "--all", "--force", "--time", "0")
        self.store.strata("network", "prune", "--force", "--now")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Node, Node]]:
    with contextlib.ExitStack() as stack:
        made = []
        for host in stack.enter_context(open_hosts("a", "b")):
            store = stack.enter_context(open_store(netns=host.netns))
            store.add_busybox()
            made.append(Node(host, store))
        yield made[0], made[1]


@pytest.fixture
def nodes(hosts: tuple[Node, Node]) -> Iterator[tuple[Node, Node]]:
    """Two hosts without containers and networks."""
    try:
        yield hosts
    finally:
        for node in hosts:
            node.clean()
            for link in node.tunnels():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"/run/wireguard/{link}.sock")


def join(a: Node, b: Node, *options: str) -> None:
    """An overlay of both, each knowing the other."""
    a.create(*options)
    b.create("--join", a.token)
    a.store.ok("network", "update", "--peer-add", b.token, "mesh")


def assert_reaches(a: Node, b: Node, *, six: bool = False) -> None:
    """From the container of one to the other's, seen there under its own address."""
    with Server(b.netns(), PORT):
        answer = ask_tcp(a.netns(), b.address(six=six), PORT, timeout=10)
        assert answer == a.address(six=six).encode()
        assert ask_udp(a.netns(), b.address(six=six), PORT) == answer


def test_containers_reach_each_other_over_hosts_without_masquerading(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    assert_reaches(a, b)
    assert_reaches(b, a)
    # Outside they have their host's address, as on any network.
    with Server(b.host.netns, PORT):
        assert ask_tcp(a.netns(), b.host.address, PORT) == a.host.address.encode()


def test_both_address_families(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b, "--ipv6")
    a.run()
    b.run()
    assert_reaches(a, b, six=True)
    assert_reaches(b, a)


def test_a_second_host_of_the_same_name_is_refused(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    a.create()
    refused = b.store.strata("network", "create", "-d", "wireguard", "-o", "node=a", "--join",
                             a.token)  # fmt: skip
    assert refused.rc == 125
    assert "this host and the peer are both called a" in refused.err
    assert b.store.strata("network", "exists", "mesh").rc == 1
    b.create("--join", a.token)
    a.store.ok("network", "update", "--peer-add", b.token, "mesh")
    old = a.token
    a.store.ok("network", "update", "--peer-drop", "b", "mesh")
    fresh = a.token
    a.store.ok("network", "update", "--peer-add", b.token, "mesh")
    b.store.ok("network", "rm", "--now", "mesh")
    refused = b.store.strata("network", "create", "-d", "wireguard", "-o", "node=b", "--join", old)
    assert refused.rc == 125
    assert "--peer-drop b on the other and take a new token" in refused.err
    b.create("--join", fresh)
    refused = a.store.strata("network", "update", "--peer-add", b.token, "mesh")
    assert refused.rc == 125
    assert "a peer called b is there already, with another key" in refused.err
    a.store.ok("network", "update", "--peer-drop", "b", "--peer-add", b.token, "mesh")


def test_a_name_with_a_dot_can_be_asked_of_the_other_host(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b)
    a.run("ca")
    b.run("db", "--network-alias", "db.b")
    gateway = f"{b.address('db').rpartition('.')[0]}.1"
    ask = ("exec", "ca", "busybox", "nslookup", "-type=a")
    assert b.address("db") in a.store.ok(*ask, "db", gateway).out
    assert b.address("db") not in a.store.strata(*ask, "db").out
    a.store.ok("network", "update", "--dns-add", gateway, "mesh")
    assert b.address("db") in a.store.ok(*ask, "db.b").out


def test_the_hosts_reach_containers_of_the_other(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    with Server(b.netns(), PORT):
        # From the gateway's address, the only one of the host that the tunnel lets in.
        gateway = f"{a.address().rpartition('.')[0]}.1".encode()
        assert ask_tcp(a.host.netns, b.address(), PORT, timeout=10) == gateway


def test_other_networks_are_apart_from_the_overlay(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    for name in ("other", "inner"):
        a.store.ok("network", "create", *(["--internal"] if name == "inner" else []), name)
        a.store.ok("run", "--detach", "--name", name, "--network", name, *SLEEPER)
    assert_reaches(a, b)
    with Server(b.netns(), PORT), Server(a.netns("other"), PORT):
        assert ask_tcp(a.netns("other"), b.address(), PORT, timeout=0.5) is None
        assert ask_tcp(a.netns("inner"), b.address(), PORT, timeout=0.5) is None
        other = Attached(a.store, "other").addresses["other"][0]
        # A peer that routes what it likes into the tunnel is not let through to other networks.
        b.host.ok("ip", "route", "add", f"{other}/32", "dev", b.tunnels()[0])
        key = a.store.ok("network", "inspect", "mesh").json[0]["overlay"]["public_key"]
        ranges = f"{a.address().rpartition('.')[0]}.0/24,{other}/32"
        b.host.ok("wg", "set", b.tunnels()[0], "peer", key, "allowed-ips", ranges)
        assert ask_tcp(b.netns(), other, PORT, timeout=0.5) is None
        assert ask_tcp(a.netns(), b.address(), PORT) == a.address().encode()


def test_a_container_of_two_networks_finds_the_overlay(nodes: tuple[Node, Node]) -> None:
    """Its default route may lead elsewhere."""
    a, b = nodes
    join(a, b)
    a.store.ok("network", "create", "other")
    a.store.ok("run", "--detach", "--name", "c", "--network", "other", "--network", "mesh",
               *SLEEPER)  # fmt: skip
    b.run()
    assert_reaches(a, b)


def test_links_are_no_larger_than_what_travels(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b, "-o", "mtu=1380")
    a.run()
    b.run()
    for node in nodes:
        mtu = node.store.ok("exec", "c", "cat", "/sys/class/net/eth0/mtu").line
        assert mtu == "1380"
        assert "mtu 1380" in node.host.ok("ip", "link", "show", node.tunnels()[0])
    with Server(b.netns(), PORT):
        assert ask_udp(a.netns(), b.address(), PORT, b"x" * 1300, timeout=5) is not None


def test_a_peer_that_is_dropped_is_shut_out_at_once(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    assert_reaches(b, a)
    a.store.ok("network", "update", "--peer-drop", "b", "mesh")
    with Server(a.netns(), PORT):
        assert ask_tcp(b.netns(), a.address(), PORT, timeout=0.7) is None
    a.store.ok("network", "update", "--peer-add", b.token, "mesh")
    # It begins, as the other believes in the old session for a while.
    assert_reaches(a, b)
    assert_reaches(b, a)


def test_the_device_lives_from_the_first_container_to_the_last(nodes: tuple[Node, Node]) -> None:
    a, _ = nodes
    a.create()
    assert a.tunnels() == []
    a.run("c")
    a.run("d")
    assert len(a.tunnels()) == 1
    a.end("c")
    assert len(a.tunnels()) == 1
    (link,) = a.tunnels()
    a.end("d")
    assert a.tunnels() == []
    assert wireguard.find_process(link) is None
    assert not os.path.exists(f"/run/wireguard/{link}.sock")


def test_removing_the_network_removes_device_and_key(nodes: tuple[Node, Node]) -> None:
    a, _ = nodes
    a.create()
    a.run()
    keys = f"{a.store.pool}/records/keys"
    (name,) = os.listdir(keys)
    assert os.stat(f"{keys}/{name}").st_mode & 0o777 == 0o600
    with open(f"{keys}/{name}") as file:
        private = file.read().strip()
    for words in (["network", "inspect", "mesh"], ["network", "join-token", "mesh"],
                  ["inspect", "c"], ["network", "ls", "--format", "json"]):  # fmt: skip
        assert private not in a.store.ok(*words).out
    traced = a.store.ok("--trace", "network", "reload")
    assert private not in traced.err + traced.out
    a.store.ok("network", "rm", "--force", "--now", "--time", "0", "mesh")
    assert os.listdir(keys) == []
    assert a.tunnels() == []
    assert a.store.ok("system", "check", "--format", "json").json["Problems"] == []


def kill_device(node: Node) -> None:
    """End the userspace process, or take away the kernel's device: the link is gone either way."""
    (link,) = node.tunnels()
    running = wireguard.find_process(link)
    if running is None:
        node.host.ok("ip", "link", "delete", link)
        return
    os.kill(running[0], signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(running[0], 0)


@pytest.mark.parametrize(
    "cure", [["system", "check", "--repair"], ["network", "reload"]], ids=["check", "reload"]
)
def test_a_device_that_died_is_found_and_comes_back(
    nodes: tuple[Node, Node], cure: list[str]
) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    assert_reaches(a, b)
    kill_device(a)
    problems = a.store.strata("system", "check", "--format", "json").json["Problems"]
    assert any("mesh" in str(problem) for problem in problems)
    a.store.ok(*cure)
    assert a.store.ok("system", "check", "--format", "json").json["Problems"] == []
    assert_reaches(a, b)


def test_a_device_that_died_comes_back_with_the_next_container(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    join(a, b)
    a.run()
    b.run()
    kill_device(a)
    a.run("d")
    assert_reaches(a, b)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "-d", "wireguard", "--join", "nonsense", "x"], "not a join token"),
        (["create", "--join", "nonsense", "x"], "cannot join"),
        (["create", "-d", "wireguard", "-o", "endpoint=a:b:c", "x"], "not an endpoint"),
        (["create", "-d", "wireguard", "-o", "port=0", "x"], "invalid value"),
        (["create", "-d", "wireguard", "-o", "range=0.0.0.0/0", "x"], "prefix"),
        (["create", "-d", "wireguard", "-o", "parent=eth0", "x"], "unsupported"),
        (["create", "-d", "wireguard", "-o", "node=a b", "x"], "not the name of a host"),
        (["create", "-d", "bridge", "-o", "endpoint=192.0.2.1", "x"], "unsupported"),
        (["join-token", "plain"], "driver wireguard"),
        (["update", "--peer-drop", "b", "plain"], "driver wireguard"),
        (["join-token", "nothing"], "network not found"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stays(
    nodes: tuple[Node, Node], words: list[str], said: str
) -> None:
    a, _ = nodes
    a.store.ok("network", "create", "plain")
    refused = a.store.strata("network", *words)
    assert refused.rc == 125, repr(refused)
    assert said in refused.err
    assert "hint:" in refused.err
    assert a.store.strata("network", "exists", "x").rc == 1


def test_one_part_for_two_hosts_is_refused(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    a.create("--subnet", "10.44.3.0/24")
    refused = b.store.strata("network", "create", "-d", "wireguard", "--join", a.token,
                             "--subnet", "10.44.3.0/24")  # fmt: skip
    assert refused.rc == 125
    assert "already used" in refused.err
    b.create("--join", a.token, "--subnet", "10.44.4.0/24")
    twice = a.store.strata("network", "update", "--peer-add", a.token, "mesh")
    assert "this very host" in twice.err
