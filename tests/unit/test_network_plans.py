"""The pure side of networks: addresses, records, changes of links and the rules for `nft`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import AlreadyExists, UsageError
from strata.network import model, nft, plan
from strata.network.addresses import V4, V6, Subnet, format_address, parse_address, parse_subnet


def make_network(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "kind": "network", "id": "ab" * 32, "name": "web", "driver": "bridge",
        "interface": "strata1", "created": "", "subnets": [
            {"subnet": "10.89.0.0/24", "gateway": "10.89.0.1", "lease_range": None},
        ],
        "routes": [], "ipv6": False, "internal": False, "dns": True, "dns_servers": [],
        "labels": {}, "options": {}, "ipam": "host-local", **changes,
    }  # fmt: skip


DUAL = [
    {"subnet": "10.89.0.0/24", "gateway": "10.89.0.1", "lease_range": None},
    {"subnet": "fd00:1::/64", "gateway": "fd00:1::1", "lease_range": None},
]
ATTACHMENT = {
    "id": "ab" * 32, "interface": "eth0", "host_interface": "sv01234567a",
    "addresses": ["10.89.0.2/24", "fd00:1::2/64"], "gateways": ["10.89.0.1", "fd00:1::1"],
    "metric": 100, "mac": "0a:58:0a:59:00:02", "aliases": [],
}  # fmt: skip


# -- addresses -------------------------------------------------------------------------------------


@given(st.ip_addresses())
def test_addresses_keep_their_text(address: Any) -> None:
    family, value = parse_address(str(address))
    assert (family, value) == (address.version, int(address))
    assert parse_address(format_address(family, value)) == (family, value)


@pytest.mark.parametrize("text", ["", "10.89.0", "10.89.0.256", "fd00::g", "10.89.0.1\0", "host"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid IP address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["10.89.0.0", "10.89.0.0/33", "10.89.0.0/-1", "fd00::/129", "/8"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_subnet(text)


def test_a_prefix_forgets_the_bits_of_the_host_and_knows_what_hosts_may_have() -> None:
    four, six = parse_subnet("10.89.0.77/24"), parse_subnet("fd00:1::77/64")
    assert (four.text, six.text) == ("10.89.0.0/24", "fd00:1::/64")
    assert [format_address(V4, value) for value in four.usable()] == ["10.89.0.1", "10.89.0.254"]
    assert format_address(V6, six.usable()[0]) == "fd00:1::1"
    assert four.overlaps(parse_subnet("10.0.0.0/8"))
    assert not four.overlaps(parse_subnet("10.89.1.0/24"))
    assert not four.overlaps(six)


# -- records ---------------------------------------------------------------------------------------


def test_gateways_and_ranges_go_to_the_subnet_that_holds_them() -> None:
    made = model.plan_subnets(
        ["10.1.0.0/24", "fd00:2::/64"], ["fd00:2::9"], ["10.1.0.64/26"], internal=False
    )
    assert made == [
        {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1",
         "lease_range": {"start": "10.1.0.65", "end": "10.1.0.126"}},
        {"subnet": "fd00:2::/64", "gateway": "fd00:2::9", "lease_range": None},
    ]  # fmt: skip


@pytest.mark.parametrize(("subnets", "gateways", "ranges", "sentence"), [
    ([], ["10.1.0.1"], [], "cannot set gateway without subnet"),
    ([], [], ["10.1.0.0/25"], "cannot set range without subnet"),
    (["10.1.0.0"], [], [], "invalid CIDR address"),
    (["10.1.0.0/31"], [], [], "no room"),
    (["10.1.0.0/24", "10.1.0.128/25"], [], [], "overlap"),
    (["10.1.0.0/24"], ["10.2.0.1"], [], "gateway 10.2.0.1 not in subnet 10.1.0.0/24"),
    (["10.1.0.0/24"], ["10.1.0.255"], [], "no address for a host"),
    (["10.1.0.0/24"], [], ["10.1.0.9-10.1.0.5"], "invalid ip-range"),
    (["10.1.0.0/24"], ["10.1.0.1", "10.1.0.2"], [], "two gateways"),
])  # fmt: skip
def test_subnets_that_cannot_be_are_refused(
    subnets: list[str], gateways: list[str], ranges: list[str], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        model.plan_subnets(subnets, gateways, ranges, internal=False)


def test_a_free_subnet_steps_over_what_others_use() -> None:
    used = [parse_subnet(text) for text in ("10.88.0.0/16", "10.89.0.0/24", "10.89.1.128/25")]
    assert model.find_free_subnet(used).text == "10.89.2.0/24"
    assert model.find_free_subnet(used, default=True).text == "10.89.2.0/24"
    assert model.find_free_subnet([], default=True).text == "10.88.0.0/16"
    with pytest.raises(UsageError, match="could not find free subnet"):
        model.find_free_subnet([parse_subnet("10.0.0.0/8")])


@given(st.lists(st.integers(0, 2**19 - 1), max_size=40))
def test_a_free_subnet_is_free(numbers: list[int]) -> None:
    base = parse_subnet("10.88.0.0/13").base
    used = [Subnet(V4, base + number, 20 + number % 10) for number in numbers]
    assert not any(model.find_free_subnet(used).overlaps(one) for one in used)


def test_a_local_subnet_is_a_random_one_of_rfc_4193() -> None:
    one, other = model.make_local_subnet(), model.make_local_subnet()
    assert one.text.startswith("fd")
    assert one.prefix == 64
    assert one.text != other.text


def test_options_have_one_name_whoever_writes_them() -> None:
    given_options = {
        "com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.name": "br7",
        "isolate": "strict", "vlan": "5", "metric": "77",
        "com.docker.network.container_iface_prefix": "net",
        "com.docker.network.bridge.gateway_mode_ipv6": "routed",
        "com.docker.network.enable_ipv6": "1",
    }  # fmt: skip
    assert model.plan_options("bridge", given_options) == (
        {"mtu": "1400", "isolate": "strict", "vlan": "5", "metric": "77", "iface_prefix": "net",
         "mode6": "routed", "ipv6": "true"}, "br7",
    )  # fmt: skip


def test_an_address_has_one_text_however_it_was_written() -> None:
    [subnet] = model.plan_subnets(["FD00:1::/64"], ["fd00:1:0:0:0:0:0:1"], ["fd00:1::0A-FD00:1::b"],
                                  internal=False)  # fmt: skip
    assert subnet == {"subnet": "fd00:1::/64", "gateway": "fd00:1::1",
                      "lease_range": {"start": "fd00:1::a", "end": "fd00:1::b"}}  # fmt: skip
    assert model.plan_route("fd00:2::/64,FD00:1::9")["gateway"] == "fd00:1::9"
    assert model.check_servers(["FD00::1", "fd00:0::1", "9.9.9.9"]) == ["fd00::1", "9.9.9.9"]


@pytest.mark.parametrize(("key", "value"), [
    ("mtu", "67"), ("mtu", "x"), ("vlan", "0"), ("vlan", "4095"), ("isolate", "maybe"),
    ("metric", "-1"), ("colour", "red"), ("com.docker.network.bridge.name", "a b"),
    ("com.docker.network.bridge.name", "sixteen-letters-"), ("mode", "open"),
    ("com.docker.network.bridge.gateway_mode_ipv6", "unmanaged"),
    ("com.docker.network.container_iface_prefix", "fifteen-letters"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError):
        model.plan_options("bridge", {key: value})


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.0.0.0/8,x", "10.0.0.0/8,fd00::1", "a,b,c,d"])
def test_routes_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid route"):
        model.plan_route(text)


def test_a_route() -> None:
    assert model.plan_route("10.21.0.0/24,10.89.0.9,50") == {
        "destination": "10.21.0.0/24", "gateway": "10.89.0.9", "metric": 50,
    }  # fmt: skip


@pytest.mark.parametrize("change", [
    {"interface": "a\nlink del eth0"}, {"subnets": [{"subnet": "10.89.0.0/24; flush"}]},
    {"subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.90.0.1"}]}, {"subnets": [5]},
    {"options": {"mtu": "1400\nlink del eth0"}}, {"options": {"mtu": 5}},
    {"routes": [{"destination": "x"}]}, {"internal": "no"}, {"name": 5},
])  # fmt: skip
def test_a_record_that_would_smuggle_lines_into_a_batch_is_not_sound(change: Any) -> None:
    assert model.is_sound(make_network())
    assert not model.is_sound(make_network(**change))


def test_a_taken_name_is_refused_in_podmans_words() -> None:
    error = model.refuse_duplicate("web")
    assert isinstance(error, AlreadyExists)
    assert error.message == "network name web already used: network already exists"


# -- lines for ip ----------------------------------------------------------------------------------


def test_a_bridge() -> None:
    text = plan.bridge_up(make_network(subnets=DUAL, options={"mtu": "1400", "vlan": "5"}),
                          exists=False, mac="02:00:00:00:00:01", alias="strata:1")  # fmt: skip
    assert text.splitlines() == [
        "link add name strata1 address 02:00:00:00:00:01 mtu 1400 type bridge "
        "vlan_filtering 1 vlan_default_pvid 5",
        "address replace 10.89.0.1/24 dev strata1 broadcast +",
        "address replace fd00:1::1/64 dev strata1 nodad",
        "link set dev strata1 up alias strata:1",
    ]  # fmt: skip


def test_a_bridge_that_is_there_is_completed() -> None:
    text = plan.bridge_up(make_network(), exists=True, mac="02:00:00:00:00:01", alias="a:b")
    assert text.splitlines() == [
        "address replace 10.89.0.1/24 dev strata1 broadcast +", "link set dev strata1 up",
    ]  # fmt: skip


def test_the_links_of_a_container() -> None:
    network = make_network(subnets=DUAL, options={"mtu": "1400", "icc": "false"})
    assert plan.host_side([(network, ATTACHMENT)]) == [
        ("veth", {"name": "sv01234567a", "master": "strata1", "peer": "eth0",
                  "mac": "0a:58:0a:59:00:02", "mtu": 1400}),
        ("port", {"name": "sv01234567a", "hairpin": True, "isolated": True}),
    ]  # fmt: skip


def test_the_container_s_own_side_with_two_networks() -> None:
    """The first network's default route goes before the second's."""
    second = {**ATTACHMENT, "interface": "eth1", "addresses": ["10.90.0.2/24"],
              "gateways": ["10.90.0.1"], "metric": 101}  # fmt: skip
    routed = make_network(routes=[
        {"destination": "10.21.0.0/24", "gateway": "10.90.0.9", "metric": 50},
    ])  # fmt: skip
    assert plan.inside([(make_network(subnets=DUAL), ATTACHMENT), (routed, second)]) == [
        ("up", {"link": "lo"}),
        ("address", {"address": "10.89.0.2/24", "link": "eth0"}),
        ("address", {"address": "fd00:1::2/64", "link": "eth0"}),
        ("up", {"link": "eth0"}),
        ("address", {"address": "10.90.0.2/24", "link": "eth1"}),
        ("up", {"link": "eth1"}),
        ("route", {"destination": "", "via": "10.89.0.1", "link": "eth0", "metric": 100}),
        ("route", {"destination": "", "via": "fd00:1::1", "link": "eth0", "metric": 100}),
        ("route", {"destination": "", "via": "10.90.0.1", "link": "eth1", "metric": 101}),
        ("route", {"destination": "10.21.0.0/24", "via": "10.90.0.9", "link": "", "metric": 50}),
    ]


def test_an_internal_network_has_no_way_out() -> None:
    assert plan.list_gateways(make_network(internal=True)) == []
    assert plan.list_gateways(make_network(options={"no_default_route": "true"})) == []
    assert plan.list_gateways(make_network()) == ["10.89.0.1"]


def test_several_subnets_give_one_way_out_of_each_family() -> None:
    subnets = [{"subnet": text, "gateway": gateway} for text, gateway in (
        ("10.90.1.0/24", None), ("10.90.2.0/24", "10.90.2.1"), ("fd00:1::/64", "fd00:1::1"),
        ("10.90.3.0/24", "10.90.3.1"), ("fd00:2::/64", "fd00:2::1"))]  # fmt: skip
    assert plan.list_gateways(make_network(subnets=subnets)) == ["10.90.2.1", "fd00:1::1"]


def test_default_routes_never_have_one_priority() -> None:
    """A later network comes behind those before it unless it says otherwise."""
    plain, low = make_network(), make_network(options={"metric": "200"})
    links: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for network, expected in ((plain, 100), (low, 200), (plain, 101), (low, 201)):
        assert plan.choose_metric(network, links) == expected
        links.append((network, {**ATTACHMENT, "metric": expected}))
    assert plan.choose_metric(plain, links[2:]) == 102, "the first one went"


def test_hardware_addresses_follow_from_addresses() -> None:
    assert plan.make_mac("10.88.0.2") == "0a:58:0a:58:00:02"
    assert plan.make_mac("fd00::1234") == "0a:59:00:00:12:34"


# -- rules -----------------------------------------------------------------------------------------


def test_a_network_s_elements() -> None:
    assert nft.network_elements(make_network(subnets=DUAL)) == [
        ("bridges", '"strata1"'), ("pairs", '"strata1" . "strata1"'),
        ("names4", "10.89.0.1"),
        ("local4", '"strata1" . 10.89.0.0/24'), ("hidden4", "10.89.0.0/24"),
        ("names6", "fd00:1::1"),
        ("local6", '"strata1" . fd00:1::/64'), ("hidden6", "fd00:1::/64"),
    ]  # fmt: skip


@pytest.mark.parametrize(("change", "present", "absent"), [
    ({"internal": True}, "internal", "hidden4"),
    ({"options": {"isolate": "strict"}}, "strict", "open"),
    ({"options": {"isolate": "false"}}, "open", "strict"),
    ({"options": {"mode": "routed"}}, "routed4", "hidden4"),
    ({"options": {"mode4": "routed"}}, "routed4", "hidden4"),
    ({"options": {"mode6": "routed"}, "subnets": DUAL}, "routed6", "hidden6"),
    ({"options": {"mode6": "routed"}, "subnets": DUAL}, "hidden4", "routed4"),
    ({"options": {"masquerade": "false"}}, "local4", "hidden4"),
    ({"dns": False}, "local4", "names4"),
    ({"options": {"mode": "managed"}}, "hidden4", "routed4"),
])  # fmt: skip
def test_what_kind_of_network_decides_its_sets(change: Any, present: str, absent: str) -> None:
    names = [name for name, _ in nft.network_elements(make_network(**change))]
    assert present in names
    assert absent not in names


def _port(**changes: Any) -> dict[str, Any]:
    return {"host_ip": "", "host_port": 8080, "container_port": 80, "protocol": "tcp", "range": 1,
            **changes}  # fmt: skip


def test_published_ports() -> None:
    ports = [_port(range=2), _port(host_ip="127.0.0.1", protocol="udp"), _port(host_ip="fd00::9")]
    found = nft.plan_ports(ports, "10.89.0.2", "fd00:1::2")
    assert found[0] == ("any4", ("tcp", "8080"), ("10.89.0.2", "80"))
    assert [nft.port_element(port) for port in found] == [
        ("any4", "tcp . 8080 : 10.89.0.2 . 80"), ("any6", "tcp . 8080 : fd00:1::2 . 80"),
        ("any4", "tcp . 8081 : 10.89.0.2 . 81"), ("any6", "tcp . 8081 : fd00:1::2 . 81"),
        ("host4", "udp . 127.0.0.1 . 8080 : 10.89.0.2 . 80"),
        ("host6", "tcp . fd00::9 . 8080 : fd00:1::2 . 80"),
    ]  # fmt: skip


@pytest.mark.parametrize(("host_ip", "maps"), [
    ("", ["any4"]), ("0.0.0.0", ["any4"]), ("::", []), ("fd00::9", []), ("192.0.2.1", ["host4"]),
])  # fmt: skip
def test_a_port_is_published_for_families_the_container_has(host_ip: str, maps: list[str]) -> None:
    found = nft.plan_ports([_port(host_ip=host_ip)], "10.89.0.2", "")
    assert [port[0] for port in found] == maps


def test_the_table_is_written_with_all_elements_of_a_set_at_once() -> None:
    ports = nft.plan_ports([_port(range=2)], "10.89.0.2", "")
    assert (
        "add element inet strata-x any4 "
        "{ tcp . 8080 : 10.89.0.2 . 80, tcp . 8081 : 10.89.0.2 . 81 }\n"
    ) in nft.whole_table("strata-x", [make_network()], ports)


def test_the_chains_are_the_same_however_many_networks_there_are() -> None:
    one = nft.whole_table("strata-x", [make_network()], [])
    many = nft.whole_table(
        "strata-x", [make_network(interface=f"strata{number}") for number in range(50)], []
    )
    assert one.startswith("add table inet strata-x\ndelete table inet strata-x\ntable inet")
    assert one.count("chain ") == many.count("chain ")
    assert sum(nft.count_rules().values()) < 40


def test_stores_have_tables_of_their_own() -> None:
    assert nft.make_table_name("0123456789abcdef") == "strata-01234567"
