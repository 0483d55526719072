"""The forms of --network, on a test host that another one can reach."""

from __future__ import annotations

import os

import pytest
from helpers.hosts import Host, Server, ask_tcp, ask_udp
from helpers.names import NameServer
from helpers.networked import Place
from helpers.store import BUSYBOX, Store, wait_until

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

QUICK = ("--stop-timeout", "0")
SLEEP = (BUSYBOX, "sleep", "100000")
ADDRESSES = "busybox ip -o address show scope global | while read n i f a r; do echo $i $a; done"
NETNS = "readlink /proc/self/ns/net"


@pytest.fixture
def store(place: Place) -> Store:
    return place[0]


def sh(store: Store, *options: str, script: str) -> str:
    return str(store.ok("run", "--rm", *options, BUSYBOX, "sh", "-c", script).line)


def refuse(store: Store, *options: str) -> str:
    """The message a run ends with that must not be."""
    outcome = store.strata("run", "--rm", *options, BUSYBOX, "true")
    assert outcome.rc == 125, repr(outcome)
    assert "internal error" not in outcome.err
    return outcome.err


def netns_of(store: Store, name: str) -> str:
    return f"/proc/{store.ok('inspect', '--format', '{{.State.Pid}}', name).line}/ns/net"


def list_pasta(store: Store) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"pasta") and any(os.fsencode(store.base) in w for w in words):
            found.append(int(pid))
    return found


def test_host_and_none(store: Store, hosts: list[Host]) -> None:
    assert "192.0.2.1/24" in sh(store, "--network", "host", script=ADDRESSES)
    assert sh(store, "--network", "none", script=ADDRESSES) == ""
    outcome = store.ok("run", "--rm", "--network", "host", "-p", "80:80", BUSYBOX, "true")
    assert "port mappings have been discarded" in outcome.err


def test_without_a_network_it_is_the_default_bridge(store: Store) -> None:
    assert sh(store, script=ADDRESSES).startswith("eth0 10.88.")
    for name in ("bridge", "podman", "strata", "private"):
        assert sh(store, "--network", name, script=ADDRESSES).startswith("eth0 10.88.")


def test_several_networks_with_options_of_each(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.90.1.0/24", "one")
    store.ok("network", "create", "--subnet", "10.90.2.0/24", "--subnet", "fd00:2::/64", "two")
    out = sh(store, "--network", "one:ip=10.90.1.9,interface_name=lan0",
             "--network", "two:ip=10.90.2.9,ip6=fd00:2::9,mac=92:d0:c6:0a:29:33",
             script=f"{ADDRESSES}; busybox ip link show eth0")  # fmt: skip
    assert "lan0 10.90.1.9/24" in out
    assert "eth0 10.90.2.9/24" in out
    assert "eth0 fd00:2::9/64" in out
    assert "92:d0:c6:0a:29:33" in out
    out = sh(store, "--network", "two", "--ip", "10.90.2.8", "--mac-address", "92-d0-c6-0a-29-34",
             script=f"{ADDRESSES}; busybox ip link show eth0")  # fmt: skip
    assert "10.90.2.8/24" in out
    assert "92:d0:c6:0a:29:34" in out


def test_what_a_network_cannot_give_is_refused(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.90.1.0/24", "one")
    store.ok("run", "-d", "--name", "holder", *QUICK, "--network", "one:ip=10.90.1.9", *SLEEP)
    for options, message in (
        (("--network", "one:ip=10.90.1.9"), "already allocated to container holder"),
        (("--network", "one:ip=10.90.9.9"), "not in any subnet on network one"),
        (("--network", "one:ip=10.90.1.1"), "gateway"),
        (("--network", "nowhere"), 'unable to find network with name or ID "nowhere"'),
        (("--network", "one", "--network", "none"), "selected mode none is not bridge"),
        (("--network", "slirp4netns"), "replaced by pasta"),
        (("--network", "one", "--network", "strata", "--ip", "10.90.1.8"), "single network"),
    ):
        assert message in refuse(store, *options), options
    assert store.ok("ps", "-aq").out.split() == store.ok("ps", "-q").out.split()


# -- namespaces of others --------------------------------------------------------------------------


def test_a_container_can_join_anothers_network(store: Store) -> None:
    store.ok("run", "-d", "--name", "web", *QUICK, "-p", "8080:80", BUSYBOX, "busybox", "nc",
             "-ll", "-p", "80", "-e", "echo", "web")  # fmt: skip
    theirs = store.ok("exec", "web", "sh", "-c", NETNS).line
    assert sh(store, "--network", "container:web", script=NETNS) == theirs
    hosts = store.ok("exec", "web", "cat", "/etc/hosts").out
    joined = store.ok("run", "--rm", "--network", "container:web", BUSYBOX, "sh", "-c",
                      "cat /etc/hosts; busybox nc 127.0.0.1 80 </dev/null").out  # fmt: skip
    assert joined == hosts + "web\n"
    assert "replaced" not in store.ok("inspect", "web").out
    mode = store.ok("run", "-d", "--name", "side", *QUICK, "--network", "container:web", *SLEEP)
    found = store.ok("inspect", "--format", "{{.HostConfig.NetworkMode}}", mode.line).line
    assert found == f"container:{store.ok('inspect', '--format', '{{.Id}}', 'web').line}"


def test_joining_a_stopped_container_starts_it_and_a_missing_one_is_named(store: Store) -> None:
    store.ok("create", "--name", "web", *QUICK, *SLEEP)
    theirs = sh(store, "--network", "container:web", script=NETNS)
    assert store.ok("exec", "web", "sh", "-c", NETNS).line == theirs
    assert "no container with name or ID" in refuse(store, "--network", "container:nobody")
    for options in (["-p", "80:80"], ["--dns", "9.9.9.9"], ["--add-host", "a:1.2.3.4"]):
        outcome = store.strata("run", "--rm", "--network", "container:web", *options, BUSYBOX,
                               "true")  # fmt: skip
        assert outcome.err, options


def test_a_container_can_join_a_namespace_by_path(store: Store, hosts: list[Host]) -> None:
    out = sh(store, "--network", f"ns:{hosts[1].netns}", script=ADDRESSES)
    assert "192.0.2.2/24" in out
    assert "no such file" in refuse(store, "--network", "ns:/run/netns/nowhere")
    assert "not a network namespace" in refuse(store, "--network", "ns:/etc/hosts")


# -- pasta -----------------------------------------------------------------------------------------


def test_pasta_reaches_out_with_the_hosts_address(store: Store, hosts: list[Host]) -> None:
    with Server(hosts[1].netns, 7000):
        # Without an end of what it sends, so that only the server's end counts.
        out = sh(store, "--network", "pasta", script=(
            "busybox mkfifo /tmp/f; busybox timeout 20 busybox nc 192.0.2.2 7000 <>/tmp/f"
        ))  # fmt: skip
    assert out == "192.0.2.1"
    wait_until(lambda: not list_pasta(store), "pasta gone with its container")


def test_pasta_publishes_ports(store: Store, hosts: list[Host]) -> None:
    store.ok(
        "run",
        "-d",
        "--name",
        "web",
        *QUICK,
        "--network",
        "pasta",
        "-p",
        "8081:80",
        "-p",
        "127.0.0.1:8082:81",
        "-p",
        "9000:9000/udp",
        BUSYBOX,
        "sh",
        "-c",
        "busybox nc -ll -p 80 -e echo web & busybox nc -ll -p 81 -e echo local & wait",
    )
    a, b = hosts
    # pasta takes connections before the container listens.
    wait_until(lambda: ask_tcp(b.netns, a.address, 8081) == b"web\n", "the server")
    wait_until(lambda: ask_tcp(a.netns, "127.0.0.1", 8082) == b"local\n", "the other server")
    assert ask_tcp(b.netns, a.address, 8082) is None
    with Server(netns_of(store, "web"), 9000):
        assert ask_udp(b.netns, a.address, 9000)
    assert store.ok("port", "web", "80").line == "0.0.0.0:8081"
    error = refuse(store, "--network", "pasta", "-p", "8081:80")
    assert "address already in use" in error
    assert "web" in error
    assert "sctp" in refuse(store, "--network", "pasta", "-p", "81:81/sctp")
    store.ok("stop", "web")
    wait_until(lambda: not list_pasta(store), "pasta gone")
    assert ask_tcp(a.netns, "127.0.0.1", 8081) is None
    store.ok("start", "web")
    wait_until(lambda: ask_tcp(b.netns, a.address, 8081) == b"web\n", "the server again")


def test_pasta_asks_the_hosts_name_server(store: Store, hosts: list[Host]) -> None:
    text = sh(store, "--network", "pasta", script="cat /etc/resolv.conf")
    assert "nameserver 169.254.1.1" in text
    given = sh(store, "--network", "pasta", "--dns", "192.0.2.2", script="cat /etc/resolv.conf")
    assert "nameserver 192.0.2.2" in given
    assert "169.254.1.1" not in given
    with NameServer(hosts[1].netns, "192.0.2.2", "203.0.113.4"):
        out = sh(store, "--network", "pasta", "--dns", "192.0.2.2",
                 script="busybox nslookup -type=a example.org")  # fmt: skip
    assert "203.0.113.4" in out


def test_pasta_takes_options_and_says_what_is_wrong_with_them(store: Store) -> None:
    out = sh(store, "--network", "pasta:-a,10.77.0.9,-n,24", script=ADDRESSES)
    assert "10.77.0.9/24" in out
    refused = refuse(store, "--network", "pasta:--nonsense")
    assert "pasta failed: unrecognized option '--nonsense'" in refused
    wait_until(lambda: not list_pasta(store), "no pasta left")
    assert not os.listdir(f"{store.runroot}/netns")
