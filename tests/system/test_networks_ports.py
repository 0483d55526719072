"""Published ports, asked from the host, from another host and from other containers."""

from __future__ import annotations

import socket

import pytest
from helpers.hosts import (
    Host,
    Server,
    ask_tcp,
    ask_udp,
    connect,
    inside,
    wait_for_tcp,
)
from helpers.networked import Place
from helpers.store import BUSYBOX, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

QUICK = ("--stop-timeout", "0")


@pytest.fixture
def store(place: Place) -> Store:
    return place[0]


def serve(store: Store, name: str, *options: str, ports: tuple[int, ...] = (80,)) -> None:
    """A container that answers on TCP ports with its name and the port."""
    script = " & ".join(f"busybox nc -ll -p {port} -e echo {name} {port}" for port in ports)
    store.ok("run", "-d", "--name", name, *QUICK, *options, BUSYBOX, "sh", "-c",
             f"{script} & wait")  # fmt: skip


def netns_of(store: Store, name: str) -> str:
    return f"/proc/{store.ok('inspect', '--format', '{{.State.Pid}}', name).line}/ns/net"


def test_a_port_is_reached_from_the_host_from_others_and_from_containers(
    store: Store, hosts: list[Host]
) -> None:
    a, b = hosts
    serve(store, "web", "-p", "8080:80", "-p", "8053:53/udp")
    assert wait_for_tcp(b.netns, a.address, 8080) == b"web 80\n"
    assert ask_tcp(a.netns, "127.0.0.1", 8080) == b"web 80\n"
    assert ask_tcp(a.netns, a.address, 8080) == b"web 80\n"
    with Server(netns_of(store, "web"), 53):
        assert ask_udp(b.netns, a.address, 8053) == b.address.encode(), "with its own address"
        assert ask_udp(a.netns, "127.0.0.1", 8053)
    for network in ("strata", "other"):
        if network == "other":
            store.ok("network", "create", "other")
        out = store.ok("run", "--rm", "--network", network, BUSYBOX, "sh", "-c",
                       f"busybox nc {a.address} 8080 </dev/null")  # fmt: skip
        assert out.line == "web 80", network
    assert store.ok("exec", "web", "sh", "-c",
                    f"busybox nc {a.address} 8080 </dev/null").line == "web 80"  # fmt: skip
    assert ask_tcp(b.netns, a.address, 80) is None
    store.ok("stop", "web")
    assert ask_tcp(b.netns, a.address, 8080) is None
    store.ok("start", "web")
    assert wait_for_tcp(b.netns, a.address, 8080) == b"web 80\n"


def test_ranges_addresses_and_ports_of_the_engines_choice(store: Store, hosts: list[Host]) -> None:
    a, b = hosts
    serve(store, "web", "-p", "9000-9001:80-81", "-p", "127.0.0.1:9002:80", "-p", "82",
          "-p", "192.0.2.1::81", ports=(80, 81, 82))  # fmt: skip
    assert wait_for_tcp(b.netns, a.address, 9000) == b"web 80\n"
    assert wait_for_tcp(b.netns, a.address, 9001) == b"web 81\n"
    assert ask_tcp(a.netns, "127.0.0.1", 9002) == b"web 80\n"
    assert ask_tcp(b.netns, a.address, 9002) is None
    lines = store.ok("port", "web").out.splitlines()
    assert "80/tcp -> 0.0.0.0:9000" in lines
    assert "80/tcp -> 127.0.0.1:9002" in lines
    assert "81/tcp -> 0.0.0.0:9001" in lines
    address, _, chosen = store.ok("port", "web", "82/tcp").line.rpartition(":")
    assert address == "0.0.0.0"
    assert wait_for_tcp(b.netns, a.address, int(chosen)) == b"web 82\n"
    bound = next(line for line in lines if line.startswith("81/tcp -> 192.0.2.1:"))
    assert wait_for_tcp(b.netns, a.address, int(bound.rpartition(":")[2])) == b"web 81\n"
    assert len(lines) == 5


def test_ports_over_ipv6(store: Store, hosts: list[Host]) -> None:
    a, b = hosts
    store.ok("network", "create", "--ipv6", "dual")
    serve(store, "web", "--network", "dual", "-p", "8080:80", "-p", f"[{a.address6}]:8081:80")
    assert wait_for_tcp(b.netns, a.address6, 8081) == b"web 80\n"
    assert ask_tcp(b.netns, a.address6, 8080) == b"web 80\n"
    assert ask_tcp(b.netns, a.address, 8081) is None
    assert f"80/tcp -> [{a.address6}]:8081" in store.ok("port", "web").out
    taken = store.strata("run", "--rm", "--network", "dual", "-p",
                         f"[{a.address6.upper()}]:8081:80", BUSYBOX, "true")  # fmt: skip
    assert (taken.rc, "container web" in taken.err) == (125, True), taken
    serve(store, "next", "--network", "dual", "-p", f"[{a.address6.upper()}]:8082:80")
    assert wait_for_tcp(b.netns, a.address6, 8082) == b"next 80\n"
    assert store.ok("system", "check").out == ""


def test_the_loopback_of_ipv6_is_refused_with_the_reason(
    store: Store, hosts: list[Host]
) -> None:  # fmt: skip
    a, _ = hosts
    store.ok("network", "create", "--ipv6", "dual")
    refused = store.strata("run", "--rm", "--network", "dual", "-p", "[::1]:8080:80", BUSYBOX)
    assert refused.rc == 125
    assert "cannot publish on [::1]:8080: the kernel leads no connection to ::1" in refused.err
    assert "127.0.0.1" in refused.err
    serve(store, "web", "--network", "dual", "-p", "8080:80")
    assert wait_for_tcp(a.netns, "127.0.0.1", 8080) == b"web 80\n"
    # At once, so that a client goes on to the next address of localhost.
    with pytest.raises(ConnectionRefusedError):
        connect(a.netns, "::1", 8080, timeout=20)


def test_all_exposed_ports(store: Store, hosts: list[Host]) -> None:
    a, b = hosts
    store.ok("run", "--name", "made", BUSYBOX, "true")
    store.ok("commit", "-q", "--change", "EXPOSE 80", "--change", "EXPOSE 53/udp", "made",
             "localhost/exposing")  # fmt: skip
    script = "busybox nc -ll -p 80 -e echo web"
    store.ok("run", "-d", "--name", "web", *QUICK, "-P", "--expose", "81", "-p", "8053:53/udp",
             "localhost/exposing", "sh", "-c", script)  # fmt: skip
    ports = dict(line.split(" -> ") for line in store.ok("port", "web").out.splitlines())
    assert sorted(ports) == ["53/udp", "80/tcp", "81/tcp"]
    assert ports["53/udp"] == "0.0.0.0:8053"
    number = int(ports["80/tcp"].rpartition(":")[2])
    assert wait_for_tcp(b.netns, a.address, number) == b"web\n"
    shown = store.ok("ps", "--format", "{{.Ports}}").line
    assert f"0.0.0.0:{number}->80/tcp" in shown
    store.ok("rm", "-f", "web")
    store.ok("run", "-d", "--name", "web", *QUICK, "localhost/exposing", "sh", "-c", script)
    assert store.ok("port", "web").out == ""
    shown = store.ok("ps", "--format", "{{.Ports}}").line
    assert sorted(shown.split(", ")) == ["53/udp", "80/tcp"]
    store.ok("rm", "-f", "web", "made")
    store.ok("rmi", "localhost/exposing")


def test_a_port_that_is_taken_is_refused_with_who_has_it(store: Store, hosts: list[Host]) -> None:
    serve(store, "web", "-p", "8080:80")
    for words in (["-p", "8080:80"], ["-p", "127.0.0.1:8080:81"], ["-p", "8079-8081:1-3"]):
        outcome = store.strata("run", "--rm", "--name", "late", *words, BUSYBOX, "true")
        assert outcome.rc == 125, repr(outcome)
        assert "address already in use" in outcome.err
        assert "web" in outcome.err
    store.ok("run", "--rm", "-p", "8080:80/udp", BUSYBOX, "true")
    with Server(hosts[0].netns, 8090):
        outcome = store.strata("run", "--rm", "-p", "8090:80", BUSYBOX, "true")
    assert outcome.rc == 125
    assert "address already in use" in outcome.err
    outcome = store.strata("run", "--rm", "-p", "198.51.100.77:8091:80", BUSYBOX, "true")
    assert outcome.rc == 125
    assert "cannot assign requested address" in outcome.err
    store.ok("rm", "--force", "web")
    serve(store, "next", "-p", "8080:80")
    assert wait_for_tcp(hosts[1].netns, hosts[0].address, 8080) == b"next 80\n"


def test_ports_stay_with_their_container_when_networks_come_and_go(
    store: Store, hosts: list[Host]
) -> None:
    a, b = hosts
    store.ok("network", "create", "back")
    serve(store, "web", "-p", "8080:80")
    assert wait_for_tcp(b.netns, a.address, 8080) == b"web 80\n"
    store.ok("network", "connect", "back", "web")
    assert ask_tcp(b.netns, a.address, 8080) == b"web 80\n"
    store.ok("network", "disconnect", "strata", "web")
    assert wait_for_tcp(b.netns, a.address, 8080) == b"web 80\n"


def test_the_first_network_with_a_way_in_publishes_the_ports(
    store: Store, hosts: list[Host]
) -> None:
    a, b = hosts
    store.ok("network", "create", "--internal", "back")
    store.ok("network", "create", "front")
    serve(store, "holder", "-p", "8080:80")
    options = ("--network", "back", "-p", "8080:80", "-p", "81:80")
    made = store.ok("run", "-d", "--name", "web", *QUICK, *options, BUSYBOX, "sh", "-c",
                    "busybox nc -ll -p 80 -e echo web 80")  # fmt: skip
    assert "no port is published" in made.err
    taken = store.strata("network", "connect", "front", "web", timeout=30)
    assert (taken.rc, "container holder" in taken.err) == (125, True), taken
    assert store.ok("system", "check").out == "", "what it took before is free again"
    store.ok("rm", "--force", "holder")
    store.ok("network", "connect", "front", "web")
    assert wait_for_tcp(b.netns, a.address, 8080) == b"web 80\n"
    assert ask_tcp(b.netns, a.address, 81) == b"web 80\n"
    store.ok("network", "disconnect", "front", "web")
    assert ask_tcp(b.netns, a.address, 8080) is None
    assert store.ok("system", "check").out == ""


def test_inspect_tells_what_clients_of_docker_read(store: Store, hosts: list[Host]) -> None:
    store.ok("network", "create", "--subnet", "10.90.1.0/24", "--subnet", "fd00:9::/64", "one")
    store.ok("create", "--name", "web", *QUICK, "--network",
             "one:ip=10.90.1.9,ip6=fd00:9::9,alias=w", "-p",
             "127.0.0.1:8080:80", "--expose", "443", "--dns", "9.9.9.9", "--dns-search",
             "lan", BUSYBOX, "sleep", "100000")  # fmt: skip
    before = store.ok("inspect", "web").json[0]
    assert before["NetworkSettings"]["Networks"]["one"]["IPAddress"] == ""
    assert before["NetworkSettings"]["SandboxKey"] == ""
    store.ok("start", "web")
    found = store.ok("inspect", "web").json[0]
    settings, host = found["NetworkSettings"], found["HostConfig"]
    endpoint = settings["Networks"]["one"]
    assert endpoint["IPAddress"] == settings["IPAddress"] == "10.90.1.9"
    assert (endpoint["IPPrefixLen"], endpoint["Gateway"]) == (24, "10.90.1.1")
    assert (endpoint["GlobalIPv6Address"], endpoint["GlobalIPv6PrefixLen"]) == ("fd00:9::9", 64)
    assert endpoint["IPv6Gateway"] == "fd00:9::1"
    assert endpoint["MacAddress"].count(":") == 5
    assert endpoint["Aliases"] == ["w", found["Id"][:12]]
    assert endpoint["NetworkID"] == store.ok("network", "inspect", "one").json[0]["id"]
    assert settings["Ports"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "443/tcp": None,
    }  # fmt: skip
    assert settings["SandboxKey"].endswith(found["Id"][:12])
    assert host["NetworkMode"] == "bridge"
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert (host["Dns"], host["DnsSearch"]) == (["9.9.9.9"], ["lan"])
    assert "443/tcp" in found["Config"]["ExposedPorts"]
    assert store.ok("ps", "--format", "{{.Networks}}").line == "one"


def test_the_port_command(store: Store) -> None:
    for words, message in (
        (["port"], "container name"),
        (["port", "nobody"], "no container with name or ID"),
        (["port", "--all", "x"], "--all"),
        (["port", "web", "x"], "not a number"),
        (["port", "web", "99"], 'failed to find published port "99/tcp"'),
    ):
        if words[1:2] == ["web"] and not store.ok("ps", "-aq").out:
            store.ok("create", "--name", "web", "-p", "8080:80", "-p", "8053:53/udp", BUSYBOX)
        outcome = store.strata(*words)
        assert outcome.rc == 125, repr(outcome)
        assert message in outcome.err
    assert store.ok("port", "web").out == "80/tcp -> 0.0.0.0:8080\n53/udp -> 0.0.0.0:8053\n"
    assert store.ok("port", "web", "53/udp").line == "0.0.0.0:8053"
    assert store.ok("port", "--latest", "80").line == "0.0.0.0:8080"
    short = store.ok("ps", "-aq").line
    assert f"{short}\t80/tcp -> 0.0.0.0:8080\n" in store.ok("port", "--all").out


def test_connecting_what_cannot_be(store: Store) -> None:
    store.ok("network", "create", "back")
    store.ok("create", "--name", "web", BUSYBOX)
    store.ok("create", "--name", "bare", "--network", "none", BUSYBOX)
    for words, message in (
        (["connect", "nowhere", "web"], "network not found"),
        (["connect", "back", "nobody"], "no container with name or ID"),
        (["connect", "back", "bare"], "invalid network mode"),
        (["connect", "strata", "web"], "already connected"),
        (["connect", "--ip", "1.2.3", "back", "web"], "not an ip address"),
        (["connect", "--ip", "10.1.2.3", "back", "web"], "not in any subnet"),
        (["connect", "--alias", "a b", "back", "web"], "invalid hostname"),
        (["connect", "back"], "accepts 2 arg(s)"),
        (["disconnect", "back", "web"], "not connected"),
    ):
        outcome = store.strata("network", *words)
        assert outcome.rc == 125, repr(outcome)
        assert message in outcome.err
        assert "internal error" not in outcome.err
    store.ok("network", "connect", "--alias", "w", "back", "web")
    networks = store.ok("inspect", "web").json[0]["NetworkSettings"]["Networks"]
    assert list(networks) == ["strata", "back"]


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_container_may_publish_the_port_of_names(place: Place, kind: str) -> None:
    """A name server in a container serves the host's addresses, ours goes on at the gateways."""
    store, host, other_host = place
    published = ("--publish", f"53:53/{kind}")
    store.ok("network", "create", "--ipv6", "lan")

    def start(name: str, *options: str) -> None:
        store.ok("run", "-d", "--name", name, *QUICK, "--network", "lan", *options, BUSYBOX,
                 "sleep", "100000")  # fmt: skip

    def knows(container: str, name: str) -> bool:
        return "Name:" in store.strata("exec", container, "busybox", "nslookup", name).out

    start("first", *published)
    with Server(netns_of(store, "first"), 53):
        asked = ask_udp if kind == "udp" else ask_tcp
        assert asked(other_host.netns, host.address, 53) is not None
        assert knows("first", "first")
    taken = store.strata("run", "--rm", *published, BUSYBOX, "true")
    assert (taken.rc, "container first" in taken.err) == (125, True), taken
    store.ok("rm", "--force", "first")
    start("other")
    start("last", *published)
    with Server(netns_of(store, "last"), 53):
        assert asked(other_host.netns, host.address, 53) is not None
        assert asked(host.netns, "127.0.0.1", 53) is not None
        assert knows("other", "last")
    assert store.ok("system", "check").out == ""
    store.ok("rm", "--force", "last")
    with Server(host.netns, 53, address=host.address):
        taken = store.strata("run", "--rm", *published, BUSYBOX, "true")
        assert (taken.rc, "address already in use" in taken.err) == (125, True), taken


def test_a_program_of_the_host_cannot_be_robbed_of_its_port_by_udp(
    store: Store, hosts: list[Host]
) -> None:
    with inside(hosts[0].netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as held:
        held.bind(("127.0.0.1", 5353))
        outcome = store.strata("run", "--rm", "-p", "5353:53/udp", BUSYBOX, "true")
    assert outcome.rc == 125
    assert "address already in use" in outcome.err
