"""The verbs on networks with real bridges: what they make, what they refuse, what check repairs."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.hosts import (
    WIRE,
    Attached,
    Server,
    ask_tcp,
    list_links,
    open_hosts,
    run,
    wait_for_tcp,
)
from helpers.networked import Place
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--stop-signal", "KILL", BUSYBOX, "sleep", "10000")
SERVER = ("--stop-signal", "KILL", BUSYBOX, "httpd", "-f", "-p", "80")


@pytest.fixture
def store(place: Place) -> Store:
    return place[0]


def run_sleeper(store: Store, name: str, *options: str) -> Attached:
    store.ok("run", "--detach", "--name", name, *options, *SLEEPER)
    return Attached(store, name)


def check_and_repair(store: Store, *expected: str) -> None:
    """The check finds what it is to find, says so, repairs it, and then finds nothing."""
    found = store.strata("system", "check")
    assert found.rc == 1, found
    for text in expected:
        assert text in found.out, found
    store.ok("system", "check", "--repair")
    assert store.ok("system", "check").out == ""


# -- create, ls, inspect, rm -----------------------------------------------------------------------


def test_a_network_is_made_shown_and_removed(place: Place) -> None:
    """It has no link before a container needs one, and nothing is left of it."""
    store, a, _ = place
    before = a.describe()
    store.ok(
        "network", "create", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.9",
        "--ip-range", "10.77.0.32/28", "--label", "tier=front", "-o", "mtu=1400",
        "-o", "isolate=strict", "--route", "10.66.0.0/16,10.77.0.8,7", "--dns", "192.0.2.53", "web",
    )  # fmt: skip
    assert a.describe() == before
    [shown] = store.ok("network", "inspect", "web").json
    assert shown["subnets"] == [{
        "subnet": "10.77.0.0/24", "gateway": "10.77.0.9",
        "lease_range": {"start_ip": "10.77.0.33", "end_ip": "10.77.0.46"},
    }]  # fmt: skip
    assert shown["labels"] == {"tier": "front"}
    assert shown["options"] == {"mtu": "1400", "isolate": "strict"}
    assert shown["routes"] == [{"destination": "10.66.0.0/16", "gateway": "10.77.0.8", "metric": 7}]
    assert shown["network_dns_servers"] == ["192.0.2.53"]
    assert (shown["driver"], shown["internal"], shown["ipv6_enabled"]) == ("bridge", False, False)
    sleeper = run_sleeper(store, "one", "--network", "web")
    assert sleeper.addresses["web"] == ["10.77.0.33"]
    routes = run(sleeper.netns, "ip", "route").stdout
    assert "default via 10.77.0.9 dev eth0 metric 100" in routes
    assert "10.66.0.0/16 via 10.77.0.8 dev eth0 metric 7" in routes
    assert "mtu 1400" in run(sleeper.netns, "ip", "link", "show", "eth0").stdout
    [container] = store.ok("network", "inspect", "web").json[0]["containers"].values()
    assert container["name"] == "one"
    refused = store.strata("network", "rm", "web")
    assert (refused.rc, "network is being used: one" in refused.err) == (2, True), refused
    assert store.ok("network", "rm", "--force", "--time", "0", "web").line == "web"
    assert store.strata("network", "exists", "web").rc == 1
    assert store.strata("container", "exists", "one").rc == 1
    assert a.describe()["links"] == before["links"]
    assert a.describe()["nft"] == before["nft"]


def test_listing_filters_and_prunes(store: Store) -> None:
    store.ok("network", "create", "--label", "old", "one")
    store.ok("network", "create", "two")
    run_sleeper(store, "user", "--network", "two")
    assert store.ok("network", "ls", "--quiet").out.split() == ["one", "strata", "two"]
    assert store.ok("network", "ls", "-q", "--filter", "name=^t").out.split() == ["two"]
    assert store.ok("network", "ls", "-q", "--filter", "label=old").out.split() == ["one"]
    # As with Podman, the default one never dangles, as nobody can remove it.
    kept = store.ok("network", "ls", "-q", "--filter", "dangling=false").out.split()
    assert kept == ["strata", "two"]
    assert store.ok("network", "ls", "-q", "--filter", "dangling=true").out.split() == ["one"]
    assert (
        store.ok("network", "ls", "--format", "{{.Name}}:{{.Driver}}").out.split()[0]
        == "one:bridge"
    )
    names = [network["name"] for network in store.ok("network", "ls", "--format", "json").json]
    assert names == ["one", "strata", "two"]
    assert store.ok("network", "prune", "--force").out.split() == ["one"]


@pytest.mark.parametrize(("words", "sentence"), [
    (["host"], "conflicts with a valid network mode"),
    (["a/b"], "network names must match"),
    (["-d", "cloud", "x"], "unsupported driver cloud"),
    (["--gateway", "10.1.0.1", "x"], "cannot set gateway without subnet"),
    (["--subnet", "10.77.0.0/33", "x"], "invalid CIDR address"),
    (["--subnet", "192.0.2.0/25", "x"], "already used on the host or by another config"),
    (["-o", "vlan=9999", "x"], "invalid value '9999'"),
    (["-o", "colour=red", "x"], "unsupported bridge network option colour"),
    (["--interface-name", "no blanks", "x"], "invalid interface name"),
    (["--interface-name", "lo", "x"], "interface lo is there already and is no bridge"),
    (["--dns", "nowhere", "x"], "invalid IP address"),
    (["--dns", "192.0.2.9", "--disable-dns", "x"], "name servers for a network without names"),
    (["--interface-name", "br8", "-o", "com.docker.network.bridge.name=br9", "x"],
     "two names, br8 and br9"),
    (["-o", "mode=open", "x"], "invalid value 'open' of the option mode"),
    (["-o", "mode=unmanaged", "x"], "an unmanaged network needs a bridge"),
    (["--ipam-driver", "none", "--subnet", "10.77.0.0/24", "x"], "none ipam driver is set"),
    (["-d", "macvlan", "--subnet", "10.77.0.0/24", "--dns", "192.0.2.9", "x"],
     "name servers for a network without names"),
    (["-d", "macvlan", "--subnet", "10.77.0.0/24", "--interface-name", "eth0", "-o", "parent=lo",
      "x"], "the parent is given two names, eth0 and lo"),
])  # fmt: skip
def test_bad_input_is_refused_and_makes_nothing(
    store: Store, words: list[str], sentence: str
) -> None:
    refused = store.strata("network", "create", *words)
    assert refused.rc == 125
    assert sentence in refused.err
    assert store.strata("network", "exists", "x").rc == 1


def test_a_link_that_others_made_is_never_taken_for_a_bridge_of_ours(
    place: Place,
) -> None:
    store, host, _ = place
    store.ok("network", "create", "--interface-name", "theirs", "x")
    host.ok("ip", "link", "add", "theirs", "type", "veth", "peer", "name", "far")
    try:
        refused = store.strata("run", "--rm", "--network", "x", BUSYBOX, "true")
        assert refused.rc == 125
        assert "interface theirs is there already and is no bridge" in refused.err
        store.ok("network", "rm", "x")
        assert "theirs" in host.list_links()
    finally:
        host.run("ip", "link", "del", "theirs")


def test_a_bridge_that_others_made_is_used_and_outlives_the_network(
    place: Place,
) -> None:
    store, host, _ = place
    host.ok("ip", "link", "add", "theirs", "type", "bridge")
    try:
        store.ok("network", "create", "--interface-name", "theirs", "x")
        store.ok("run", "--rm", "--network", "x", BUSYBOX, "true")
        store.ok("run", "--rm", "--network", "x", BUSYBOX, "true")
        assert store.ok("system", "check").out == ""
        store.ok("network", "rm", "x")
        assert "theirs" in host.list_links()
    finally:
        host.run("ip", "link", "del", "theirs")


def test_a_bridge_that_is_not_managed_is_only_plugged_into(place: Place) -> None:
    """As on a bridge of the host that is on its wire: the neighbours are the LAN."""
    store, a, b = place
    words = ("network", "create", "-o", "mode=unmanaged", "--interface-name", "lan0",
             "--subnet", "192.0.2.0/24", "--gateway", b.address, "--ip-range",
             "192.0.2.64/28", "lan")  # fmt: skip
    refused = store.strata(*words)
    assert (refused.rc, "there is no bridge lan0" in refused.err) == (125, True)
    a.ok("ip", "link", "add", "lan0", "type", "bridge")
    try:
        a.ok("ip", "-batch", "-", input=(
            f"link set lan0 up\nlink set eth0 master lan0\naddress del {a.address}/24 dev eth0\n"
            f"address add {a.address}/24 dev lan0\n"))  # fmt: skip
        before = a.describe()
        store.ok(*words)
        store.ok("network", "create", "own")
        made = store.ok("run", "--detach", "--name", "one", "--network", "lan", "--publish",
                        "8080:80", *SLEEPER)  # fmt: skip
        assert "no port is published" in made.err
        one = Attached(store, "one")
        with Server(one.netns, 80), Server(b.netns, 90):
            assert ask_tcp(b.netns, "192.0.2.65", 80) == b.address.encode()
            assert ask_tcp(one.netns, b.address, 90) == b"192.0.2.65"
            assert ask_tcp(a.netns, "192.0.2.65", 80) == a.address.encode()
            [end] = [name for name in a.list_links() if name.startswith("sv")]
            a.ok("ip", "link", "set", end, "nomaster")
            check_and_repair(store, f"the link {end} is not on its bridge lan0")
            assert ask_tcp(b.netns, "192.0.2.65", 80) == b.address.encode()
        shown = run(one.netns, "ip", "route", "show", "default").stdout
        assert f"via {b.address} dev eth0" in shown
        store.ok("rm", "--force", "--time", "0", "one")
        store.ok("network", "rm", "lan")
        store.ok("undo")
        store.ok("network", "rm", "--now", "lan")
        after = a.describe()
        assert (after["links"], after["routes"]) == (before["links"], before["routes"])
        assert f" {a.address}/24" in after["addresses"]
        assert "lan0" not in after["nft"]
    finally:
        a.ok("ip", "-batch", "-", input=(
            "link del lan0\n"
            f"address replace {a.address}/24 dev eth0\n"
            f"route replace default via {WIRE}\n"))  # fmt: skip


@pytest.mark.parametrize("address", ["10.77.9.0", "10.77.9.255"])
def test_an_address_that_stands_for_the_whole_subnet_is_refused(store: Store, address: str) -> None:
    store.ok("network", "create", "--subnet", "10.77.9.0/24", "x")
    refused = store.strata("run", "--rm", "--network", "x", "--ip", address, BUSYBOX, "true")
    assert refused.rc == 125
    assert f"requested static ip {address} stands for all of the subnet" in refused.err


def test_a_container_that_came_back_without_its_network_says_how_to_go_on(store: Store) -> None:
    store.ok("network", "create", "x")
    store.ok("create", "--name", "one", "--network", "x", BUSYBOX, "true")
    store.ok("network", "rm", "--force", "x")
    assert "its network x is not there" in store.ok("trash", "restore", "one").err
    refused = store.strata("start", "one")
    assert refused.rc == 125
    assert "`strata network disconnect x CONTAINER`" in refused.err
    store.ok("network", "disconnect", "x", "one")
    store.ok("network", "create", "x")
    store.ok("network", "connect", "x", "one")
    store.ok("start", "one")


def test_a_bridge_is_known_as_ours_when_the_state_of_the_host_was_lost(
    place: Place,
) -> None:
    store, host, _ = place
    for name in ("x", "y", "z"):
        store.ok("network", "create", "--interface-name", f"br{name}", name)
        store.ok("run", "--rm", "--network", name, BUSYBOX, "true")
    host.ok("ip", "link", "add", "theirs", "type", "bridge")
    store.ok("network", "create", "--interface-name", "theirs", "found")
    store.ok("run", "--rm", "--network", "found", BUSYBOX, "true")
    shutil.rmtree(f"{store.runroot}/net/up")
    store.ok("run", "--rm", "--network", "x", BUSYBOX, "true")
    store.ok("network", "rm", "x")
    assert "brx" not in host.list_links(), "used again since"
    store.ok("network", "rm", "y")
    assert "bry" not in host.list_links(), "not used since"
    store.ok("network", "rm", "found")
    assert "theirs" in host.list_links()
    assert store.ok("system", "check").out == ""
    [found] = store.ok("network", "inspect", "z").json
    for path in (f"records/networks/{found['id']}.json", f"images/networks/{found['id']}.json",
                 "records/names/network/z"):  # fmt: skip
        os.unlink(f"{store.pool}/{path}")
    assert "brz" in host.list_links()
    check_and_repair(store, "bridge brz")
    assert "brz" not in host.list_links()
    host.ok("ip", "link", "del", "theirs")


def test_interfaces_of_one_container_have_names_of_their_own(store: Store) -> None:
    for name in ("x", "y", "z"):
        store.ok("network", "create", name)
    refused = store.strata("run", "--rm", "--network", "x:interface_name=up", "--network", "y",
                           "--network", "z:interface_name=up", BUSYBOX, "true")  # fmt: skip
    assert refused.rc == 125
    assert "the interface name up is given to network x already, and again to network z" in (
        refused.err
    )
    assert store.ok("ps", "-aq").out == ""
    run_sleeper(store, "c", "--network", "x", "--network", "y:interface_name=eth0")
    networks = store.ok("exec", "c", "busybox", "ip", "-o", "link").out
    assert ("eth0@" in networks, "eth1@" in networks) == (True, True)
    store.ok("network", "connect", "z", "c")
    assert "eth2" in store.ok("exec", "c", "busybox", "ip", "-o", "link").out


def test_a_taken_name_is_refused_or_passed_over(store: Store) -> None:
    store.ok("network", "create", "web")
    refused = store.strata("network", "create", "web")
    assert (refused.rc, "already used" in refused.err) == (125, True)
    assert store.ok("network", "create", "--ignore", "web").line == "web"


def test_unknown_networks_are_refused(store: Store) -> None:
    for words in (["network", "inspect", "none-such"], ["run", "--network", "none-such", BUSYBOX]):
        refused = store.strata(*words)
        assert refused.rc == 125
        assert 'unable to find network with name or ID "none-such"' in refused.err
    assert store.strata("network", "rm", "none-such").rc == 1
    assert "cannot be removed" in store.strata("network", "rm", "strata").err


# -- addresses -------------------------------------------------------------------------------------


def test_first_runs_at_once_make_one_default_network(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda n: store.strata("run", "-d", "--name", f"r{n}", *SLEEPER),
                             range(6)))  # fmt: skip
    assert [outcome.rc for outcome in done] == [0] * 6, done
    assert store.ok("network", "ls", "--quiet").out.split() == ["strata"]
    addresses = [Attached(store, f"r{number}").addresses["strata"][0] for number in range(6)]
    assert len(set(addresses)) == 6


def test_static_addresses_and_names_of_links(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "web")
    options = "ip=10.77.0.5,ip6=fd77::5,mac=02:00:00:00:00:05,interface_name=net7"
    fixed = run_sleeper(store, "fixed", "--network", f"web:{options}")
    assert fixed.addresses["web"] == ["10.77.0.5", "fd77::5"]
    shown = run(fixed.netns, "ip", "link", "show", "net7").stdout
    assert "02:00:00:00:00:05" in shown
    for words, sentence in (
        ("web:ip=10.77.0.5", "already allocated to container fixed"),
        ("web:ip=10.78.0.5", "not in any subnet on network web"),
        ("web:ip=10.77.0.1", "is the gateway of network web"),
        ("web:ip6=FD77:0::5", "already allocated to container fixed"),
        ("web:ip6=fd77:0:0:0:0:0:0:1", "is the gateway of network web"),
    ):
        refused = store.strata("run", "--rm", "--network", words, *SLEEPER)
        assert refused.rc == 125
        assert sentence in refused.err, refused
    store.ok("rm", "--force", "--time", "0", "fixed")
    assert (
        run_sleeper(store, "next", "--network", "web:ip=10.77.0.5").addresses["web"][0]
        == "10.77.0.5"
    )


def test_options_that_compose_files_carry(store: Store) -> None:
    store.ok("network", "create", "-o", "com.docker.network.container_iface_prefix=net",
             "-o", "com.docker.network.enable_ipv6=true", "web")  # fmt: skip
    store.ok("network", "create", "plain")
    joined = run_sleeper(store, "one", "--network", "plain", "--network", "web")
    assert list_links(joined.netns) == ["eth0", "lo", "net0"]
    assert len(joined.addresses["web"]) == 2
    [shown] = store.ok("network", "inspect", "web").json
    assert (shown["ipv6_enabled"], shown["options"]) == (True, {"iface_prefix": "net"})


def test_what_is_routed_in_one_family_is_masqueraded_in_the_other(place: Place) -> None:
    store, a, b = place
    store.ok("network", "create", "--ipv6", "--subnet", "10.77.0.0/24",
             "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "web")  # fmt: skip
    one = run_sleeper(store, "one", "--network", "web")
    b.ok("ip", "route", "add", "10.77.0.0/24", "via", a.address)
    try:
        with Server(b.netns, 90), Server(one.netns, 80):
            assert ask_tcp(one.netns, b.address, 90) == one.addresses["web"][0].encode()
            assert ask_tcp(one.netns, b.address6, 90) == a.address6.encode()
            assert ask_tcp(b.netns, one.addresses["web"][0], 80) == b.address.encode()
    finally:
        b.ok("ip", "route", "del", "10.77.0.0/24")


def test_a_route_whose_gateway_is_nowhere_is_named(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.0.0/24",
             "--route", "10.21.0.0/24,10.77.0.9", "--route", "10.22.0.0/24,10.78.0.9,5",
             "web")  # fmt: skip
    [shown] = store.ok("network", "inspect", "web").json
    assert shown["routes"] == [
        {"destination": "10.21.0.0/24", "gateway": "10.77.0.9"},
        {"destination": "10.22.0.0/24", "gateway": "10.78.0.9", "metric": 5},
    ]
    refused = store.strata("run", "--rm", "--network", "web", *SLEEPER)
    assert refused.rc == 125
    assert "the route to 10.22.0.0/24 by 10.78.0.9 cannot be made" in refused.err
    store.ok("network", "create", "--subnet", "10.78.0.0/24", "other")
    joined = run_sleeper(store, "one", "--network", "web", "--network", "other")
    assert "10.22.0.0/24 via 10.78.0.9 dev eth1" in run(joined.netns, "ip", "route").stdout


def test_bridges_know_vlans_or_say_that_the_kernel_has_none(place: Place) -> None:
    store, host, _ = place
    made = store.strata("network", "create", "-o", "vlan=5", "lan")
    if made.rc:
        assert "the bridges of this kernel have no VLANs" in made.err
        probe = host.run("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1")
        assert probe.returncode != 0
        return
    store.ok("run", "--detach", "--name", "one", "--network", "lan", *SLEEPER)
    bridge = store.ok("network", "inspect", "--format", "{{.NetworkInterface}}", "lan").line
    assert "vlan_default_pvid 5" in host.ok("ip", "-d", "link", "show", bridge)


def test_a_full_network_says_so(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.0.0/30", "small")
    run_sleeper(store, "one", "--network", "small")
    refused = store.strata("run", "--rm", "--network", "small", *SLEEPER)
    assert refused.rc == 125
    assert "failed to find free IP in range: 10.77.0.1 - 10.77.0.2" in refused.err
    store.ok("rm", "--force", "--time", "0", "one")
    run_sleeper(store, "two", "--network", "small")


# -- ports -----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_names_who_has_it(place: Place) -> None:
    store, a, _ = place
    run_sleeper(store, "holder", "--publish", "8080:80")
    refused = store.strata("run", "--rm", "--publish", "127.0.0.1:8080:80", *SLEEPER)
    assert refused.rc == 125
    assert "address already in use: container holder" in refused.err
    run_sleeper(store, "other", "--publish", "8080:80/udp")
    with Server(a.netns, 9090):
        refused = store.strata("run", "--rm", "--publish", "9090:80", *SLEEPER)
        assert refused.rc == 125
        assert "bind: address already in use" in refused.err
    assert store.strata("run", "--rm", "--publish", "198.51.100.1:9090:80", *SLEEPER).rc == 125
    store.ok("run", "--rm", "--publish", "9090:80", BUSYBOX, "true")
    store.ok("rm", "--force", "--time", "0", "holder")
    run_sleeper(store, "again", "--publish", "8080:80")


def test_all_is_free_when_a_container_has_ended(place: Place) -> None:
    """Not some time later: the next command may want the same port and address."""
    store, a, _ = place
    store.ok("network", "create", "--subnet", "10.77.0.0/30", "small")
    options = ("--network", "small", "--publish", "8080:80")
    for _ in range(3):
        store.ok("run", "--rm", *options, BUSYBOX, "true")
        assert "8080" not in a.ok("nft", "list", "ruleset")
        assert os.listdir(f"{store.runroot}/netns") == []
    run_sleeper(store, "one", *options)
    store.ok("stop", "--time", "0", "one")
    store.ok("start", "one")
    store.ok("rm", "--force", "--time", "0", "one")
    run_sleeper(store, "two", *options)
    assert store.ok("system", "check").out == ""


def test_rules_come_back_with_the_next_container_after_a_flush(
    place: Place,
) -> None:
    store, a, b = place
    store.ok("run", "--detach", "--publish", "8080:80", *SERVER)
    wait_for_tcp(b.netns, a.address, 8080)
    a.ok("nft", "flush", "ruleset")
    assert ask_tcp(b.netns, a.address, 8080) is None
    run_sleeper(store, "next")
    assert ask_tcp(b.netns, a.address, 8080) is not None


# -- connecting ------------------------------------------------------------------------------------


def test_a_running_container_joins_and_leaves_networks(place: Place) -> None:
    store, a, b = place
    store.ok("network", "create", "--internal", "back")
    store.ok("network", "create", "web")
    store.ok(
        "run", "--detach", "--name", "srv", "--network", "back", "--publish", "8080:80", *SERVER
    )
    server = Attached(store, "srv")
    assert ask_tcp(b.netns, a.address, 8080) is None
    store.ok("network", "connect", "web", "srv")
    assert list_links(server.netns) == ["eth0", "eth1", "lo"]
    assert ask_tcp(a.netns, Attached(store, "srv").addresses["web"][0], 80) is not None
    again = store.strata("network", "connect", "web", "srv")
    assert (again.rc, "already connected" in again.err) == (125, True)
    store.ok("network", "disconnect", "back", "srv")
    assert list_links(server.netns) == ["eth1", "lo"]
    assert store.ok("system", "check").out == ""
    assert store.strata("network", "disconnect", "back", "srv").rc != 0
    store.ok("restart", "--time", "0", "srv")
    assert [*Attached(store, "srv").addresses] == ["web"]


# -- check -----------------------------------------------------------------------------------------


def test_check_finds_and_repairs_rules_and_bridges(place: Place) -> None:
    store, a, b = place
    store.ok("run", "--detach", "--name", "srv", "--publish", "8080:80", *SERVER)
    wait_for_tcp(b.netns, a.address, 8080)
    table = a.ok("nft", "list", "tables").split()[-1]
    a.ok("nft", "flush", "chain", "inet", table, "published")
    check_and_repair(store, f"table inet {table}: it is not as the networks need it")
    assert ask_tcp(b.netns, a.address, 8080) is not None
    a.ok("nft", "delete", "table", "inet", table)
    check_and_repair(store, f"table inet {table}: it is gone")
    bridge = store.ok("network", "inspect", "--format", "{{.NetworkInterface}}", "strata").line
    a.ok("ip", "link", "del", bridge)
    check_and_repair(store, f"its bridge {bridge} is gone")
    assert ask_tcp(b.netns, a.address, 8080) is not None
    [end] = [name for name in a.list_links() if name.startswith("sv")]
    a.ok("ip", "link", "del", end)
    check_and_repair(store, "container srv, strata: its link to the bridge is gone")
    assert ask_tcp(b.netns, a.address, 8080) is not None


@pytest.mark.parametrize("words", [("system", "check", "--repair"), ("network", "reload")])
def test_what_somebody_changed_of_a_bridge_is_found_and_put_right(
    place: Place, words: tuple[str, ...]
) -> None:
    store, a, b = place
    store.ok("network", "create", "--ipv6", "web")
    store.ok("run", "--detach", "--name", "srv", "--network", "web", "--publish", "8080:80",
             *SERVER)  # fmt: skip
    wait_for_tcp(b.netns, a.address, 8080)
    [shown] = store.ok("network", "inspect", "web").json
    bridge, gateway = shown["network_interface"], shown["subnets"][1]["gateway"]
    [end] = [name for name in a.list_links() if name.startswith("sv")]
    for harm, sentence in (
        (("ip", "link", "set", bridge, "down"), f"its bridge {bridge} is down"),
        (("ip", "address", "flush", "dev", bridge), f"its bridge {bridge} lacks the address"),
        (("ip", "link", "set", end, "nomaster"), f"the link {end} is not on its bridge"),
        (("ip", "link", "del", end), "its link to the bridge is gone"),
        (("ip", "link", "del", bridge), f"its bridge {bridge} is gone"),
        (("sysctl", "-qw", "net.ipv4.ip_forward=0"), "net.ipv4.ip_forward is not 1"),
    ):
        a.ok(*harm)
        found = store.strata("system", "check")
        assert (found.rc, sentence in found.out) == (1, True), (harm, found)
        store.ok(*words)
        assert store.ok("system", "check").out == "", harm
        assert ask_tcp(b.netns, a.address, 8080) is not None, harm
        assert ask_tcp(b.netns, a.address, 8080) is not None, harm
        assert gateway in a.ok("ip", "-6", "address", "show", "dev", bridge), harm


def test_containers_kept_apart_stay_so_when_their_bridge_comes_back(place: Place) -> None:
    store, a, _ = place
    store.ok("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
    store.ok("run", "--detach", "--name", "srv", "--network", "apart", *SERVER)
    srv = Attached(store, "srv").addresses["apart"][0]
    other = run_sleeper(store, "other", "--network", "apart")
    assert wait_for_tcp(a.netns, srv, 80) is not None
    assert ask_tcp(other.netns, srv, 80, timeout=0.5) is None
    bridge = store.ok("network", "inspect", "--format", "{{.NetworkInterface}}", "apart").line
    a.ok("ip", "link", "del", bridge)
    store.ok("network", "reload")
    assert wait_for_tcp(a.netns, srv, 80) is not None
    assert ask_tcp(other.netns, srv, 80, timeout=0.5) is None


def test_joining_in_vain_is_answered_at_once_and_changes_nothing(store: Store) -> None:
    """Not after a minute's wait for the container, which the command itself has."""
    store.ok("network", "create", "--subnet", "10.77.0.0/24", "web")
    run_sleeper(store, "holder", "--network", "web:ip=10.77.0.9")
    joining = run_sleeper(store, "one")
    words = ("network", "connect", "--ip", "10.77.0.9", "web", "one")
    refused = store.strata(*words, timeout=30)
    assert (refused.rc, "already allocated to container holder" in refused.err) == (125, True)
    assert list_links(joining.netns) == ["eth0", "lo"]
    assert store.ok("system", "check").out == ""
    store.ok("rm", "--force", "--time", "0", "holder")
    store.ok(*words)
    assert list_links(joining.netns) == ["eth0", "eth1", "lo"]


def test_networks_are_joined_and_left_in_any_order(store: Store) -> None:
    """What is free again is used again, but no two default routes get one priority."""
    for name in ("one", "two", "three"):
        store.ok("network", "create", "-o", "metric=7", name)
    store.ok("network", "create", "plain")
    sleeper = run_sleeper(store, "one", "--network", "one", "--network", "two")
    store.ok("network", "disconnect", "one", "one")
    store.ok("network", "connect", "three", "one")
    store.ok("network", "connect", "plain", "one")
    store.ok("network", "disconnect", "two", "one")
    store.ok("network", "connect", "one", "one")
    routes = run(sleeper.netns, "ip", "route", "show", "default").stdout.splitlines()
    assert [line.split()[-1] for line in routes] == ["7", "8", "100"]
    store.ok("restart", "--time", "0", "one")


def test_a_network_of_several_subnets_gives_an_address_in_each(place: Place) -> None:
    store, a, _ = place
    subnets = ("10.77.0.0/24", "10.78.0.0/24", "fd77::/64", "fd78::/64")
    store.ok("network", "create", *(f"--subnet={text}" for text in subnets), "many")
    sleeper = run_sleeper(store, "one", "--network", "many")
    assert [text.rpartition(mark)[0] for text, mark in
            zip(sleeper.addresses["many"], "..::", strict=True)] == [
                "10.77.0", "10.78.0", "fd77:", "fd78:"]  # fmt: skip
    [shown] = store.ok("inspect", "one").json
    endpoint = shown["NetworkSettings"]["Networks"]["many"]
    assert endpoint["IPAddress"] == sleeper.addresses["many"][0]
    assert endpoint["SecondaryIPAddresses"] == [
        {"Addr": sleeper.addresses["many"][1], "PrefixLength": 24}]  # fmt: skip
    assert endpoint["SecondaryIPv6Addresses"] == [
        {"Addr": sleeper.addresses["many"][3], "PrefixLength": 64}]  # fmt: skip
    for family, gateway in (("-4", "10.77.0.1"), ("-6", "fd77::1")):
        [route] = run(sleeper.netns, "ip", family, "route", "show", "default").stdout.splitlines()
        assert f"via {gateway} dev eth0" in route
    with Server(sleeper.netns, 80):
        for address in sleeper.addresses["many"]:
            assert ask_tcp(a.netns, address, 80) is not None


def test_check_finds_what_nobody_holds(place: Place) -> None:
    store, a, _ = place
    store.ok("network", "create", "web")
    sleeper = run_sleeper(store, "one", "--network", "web")
    short = os.listdir(f"{store.runroot}/net/leases")
    network_id = store.ok("network", "inspect", "--format", "{{.ID}}", "web").line
    assert network_id[:12] in short
    os.symlink("ef" * 32, f"{store.runroot}/net/leases/{network_id[:12]}/10.99.0.9")
    os.makedirs(f"{store.runroot}/net/ports/tcp/any", exist_ok=True)
    os.symlink("ef" * 32, f"{store.runroot}/net/ports/tcp/any/8088")
    open(f"{store.runroot}/netns/{'ef' * 6}", "w").close()
    bridge = store.ok("network", "inspect", "--format", "{{.NetworkInterface}}", "web").line
    a.ok("ip", "link", "add", "svefefefef0", "master", bridge, "type", "veth")
    check_and_repair(store, f"leases/{network_id[:12]}/10.99.0.9", "ports/tcp/any/8088",
                     f"network namespace {'ef' * 6}", "link svefefefef0")  # fmt: skip
    assert "svefefefef0" not in a.list_links()
    assert list_links(sleeper.netns) == ["eth0", "lo"]


def test_networks_survive_the_loss_of_all_records(place: Place) -> None:
    store = place[0]
    store.ok("network", "create", "--subnet", "10.77.0.0/24", "--label", "a=b", "web")
    before = store.ok("network", "inspect", "web").json
    records = store.engine().records.folder
    shutil.rmtree(f"{records}/networks")
    shutil.rmtree(f"{records}/names/network")
    store.ok("system", "rebuild")
    assert store.ok("network", "inspect", "web").json == before
    assert store.ok("system", "check").out == ""


def test_a_reset_leaves_neither_bridge_nor_table() -> None:
    with open_hosts("a") as [a], open_store(netns=a.netns) as store:
        store.add_busybox()
        before = a.describe()
        run_sleeper(store, "one", "--publish", "8080:80")
        store.ok("system", "reset", "--force", "--now")
        assert a.describe()["links"] == before["links"]
        assert a.describe()["nft"] == before["nft"]
