"""What is planned for links and rules, held against the kernel in namespaces of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.hosts import Host, inside, list_links, open_hosts, run

from strata.engine.networks.compare import read_table
from strata.errors import NetworkError
from strata.linux import netlink
from strata.linux import network as kernel
from strata.network import act, nft, plan

pytestmark = pytest.mark.root

TABLE = "strata-test"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_hosts("a") as [a]:
        yield a


def make_network(number: int, **changes: object) -> dict[str, object]:
    return {
        "driver": "bridge", "interface": f"strata{number}", "internal": False, "routes": [],
        "subnets": [
            {"subnet": f"10.89.{number}.0/24", "gateway": f"10.89.{number}.1", "lease_range": None},
            {"subnet": f"fd00:{number}::/64", "gateway": f"fd00:{number}::1", "lease_range": None},
        ], "options": {}, "dns": True, **changes,
    }  # fmt: skip


def test_the_table_is_as_written_and_asked_for_by_name(host: Host) -> None:
    networks = [make_network(1), make_network(2, internal=True),
                make_network(3, options={"isolate": "strict"}),
                make_network(4, options={"isolate": "false"})]  # fmt: skip
    ports = nft.plan_ports(
        [{"host_ip": ip, "host_port": 8080, "container_port": 80, "protocol": protocol, "range": 3}
         for ip in ("127.0.0.1", "fd00::5") for protocol in ("tcp", "udp", "sctp")]
        + [{"host_ip": "", "host_port": 9090, "container_port": 90, "protocol": "tcp", "range": 2}],
        "10.89.1.2", "fd00:1::2",
    )  # fmt: skip
    assert not inside(host.netns, lambda: kernel.has_table(TABLE))
    inside(host.netns, lambda: act.run(act.NFT, nft.whole_table(TABLE, networks, ports)))
    assert inside(host.netns, lambda: kernel.has_table(TABLE))
    sets = [element for one in networks for element in nft.network_elements(one)]
    rest, wanted = nft.group(sets), nft.group([*sets, *map(nft.port_element, ports)])
    assert inside(host.netns, lambda: read_table(TABLE)) == (nft.count_rules(), wanted)
    inside(host.netns, lambda: act.change_ports(TABLE, ports, add=False))
    assert inside(host.netns, lambda: read_table(TABLE)) == (nft.count_rules(), rest)
    inside(host.netns, lambda: act.change_ports(TABLE, ports, add=True))
    assert inside(host.netns, lambda: read_table(TABLE)) == (nft.count_rules(), wanted)
    inside(host.netns, lambda: act.change_ports(TABLE, ports[1:], add=False))
    with pytest.raises(OSError, match="No such file"):
        inside(host.netns, lambda: act.change_ports(TABLE, ports, add=False))
    left = nft.group([*sets, nft.port_element(ports[0])])
    assert inside(host.netns, lambda: read_table(TABLE)) == (nft.count_rules(), left), "all or none"
    inside(host.netns, lambda: act.run(act.NFT, nft.no_table(TABLE)))
    inside(host.netns, lambda: act.run(act.NFT, nft.no_table(TABLE)))
    assert not inside(host.netns, lambda: kernel.has_table(TABLE))


def test_links_are_made_in_a_namespace_that_goes_with_its_pin(
    host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pin = str(tmp_path_factory.mktemp("netns") / "one")
    os.close(os.open(pin, os.O_CREAT | os.O_WRONLY, 0o600))
    routes = [{"destination": "10.21.0.0/24", "gateway": "10.89.7.9", "metric": 5}]
    network = make_network(7, options={"mtu": "1400", "icc": "false"}, routes=routes)
    attachment = {
        "interface": "eth0", "host_interface": "svtest0", "gateways": ["10.89.7.1", "fd00:7::1"],
        "metric": 100,
        "addresses": ["10.89.7.2/24", "fd00:7::2/64"], "mac": plan.make_mac("10.89.7.2"),
    }  # fmt: skip
    links = [(network, attachment)]

    def make() -> None:
        act.run(act.IP, plan.bridge_up(network, exists=False, mac="02:00:00:00:00:07", alias="a:b"))
        act.run(act.IP, plan.bridge_up(network, exists=True, mac="02:00:00:00:00:07", alias="a:b"))
        with act.make_inside(pin) as channel:
            act.make_links(plan.host_side(links), pin)
            act.change_links(channel, plan.inside(links))

    assert not kernel.is_pinned(pin)
    try:
        inside(host.netns, make)
        assert kernel.is_pinned(pin)
        assert list_links(pin) == ["eth0", "lo"]
        addresses = run(pin, "ip", "-o", "address", "show", "dev", "eth0").stdout
        assert "10.89.7.2/24" in addresses
        assert "fd00:7::2/64" in addresses
        assert "default via 10.89.7.1 dev eth0 metric 100" in run(pin, "ip", "route").stdout
        assert "via 10.89.7.9 dev eth0 metric 5" in run(pin, "ip", "route").stdout
        assert "default via fd00:7::1 dev eth0" in run(pin, "ip", "-6", "route").stdout
        shown = run(host.netns, "ip", "-d", "link", "show", "svtest0").stdout
        for words in ("mtu 1400", "master strata7", "hairpin on", "isolated on", "addrgenmode none",
                      "state UP"):  # fmt: skip
            assert words in shown
        shown = run(pin, "ip", "-o", "address", "show", "dev", "eth0").stdout
        assert "inet 10.89.7.2/24 brd 10.89.7.255 scope global" in shown
        assert "mtu 1400" in run(pin, "ip", "link", "show", "eth0").stdout
        assert inside(host.netns, lambda: kernel.find_link("svtest0")) is not None
        with pytest.raises(NetworkError, match=r"File exists \(veth name svtest0"):
            inside(host.netns, lambda: act.make_links(plan.host_side(links), pin))
        gone = [("up", {"link": "eth5"})]
        with pytest.raises(NetworkError, match=r"No such device \(up link eth5\)"):
            inside(pin, lambda: act.change_links(netlink.Channel(netlink.ROUTE), gone))
        with pytest.raises(NetworkError, match=r"File exists.*link add name strata7"):
            inside(host.netns, lambda: act.run(
                act.IP, plan.bridge_up(network, exists=False, mac="02:00:00:00:00:07", alias="a:b")
            ))  # fmt: skip
    finally:
        kernel.unpin(pin)
        kernel.unpin(pin)
    assert not kernel.is_pinned(pin)


def test_hundreds_of_ports_are_published_in_one_transaction(host: Host) -> None:
    port = {"host_ip": "", "host_port": 20000, "container_port": 80, "protocol": "tcp",
            "range": 2000}  # fmt: skip
    ports = nft.plan_ports([port], "10.89.1.2", "fd00:1::2")
    inside(host.netns, lambda: act.run(act.NFT, nft.whole_table(TABLE, [make_network(1)], [])))
    try:
        inside(host.netns, lambda: act.change_ports(TABLE, ports, add=True))
        found = inside(host.netns, lambda: read_table(TABLE))
        assert found is not None
        assert len(found[1]["any4"]) == len(found[1]["any6"]) == 2000
        inside(host.netns, lambda: act.change_ports(TABLE, ports, add=False))
        found = inside(host.netns, lambda: read_table(TABLE))
        assert found is not None
        assert "any4" not in found[1]
    finally:
        inside(host.netns, lambda: act.run(act.NFT, nft.no_table(TABLE)))


def test_a_namespace_that_is_none_cannot_be_entered(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("netns") / "none")
    with pytest.raises(NetworkError, match="cannot be entered"):
        act.open_inside(path)
