"""macvlan and ipvlan networks as plans: what they need, and what makes their links."""

from __future__ import annotations

from typing import Any

import pytest

from strata.errors import NotFound, StrataError, UsageError
from strata.network import direct

LINKS = ["eth0", "lo"]
SUBNET = [{"subnet": "192.0.2.0/24"}]


def make_link(driver: str, **options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    network = {"driver": driver, "interface": "eth0", "options": options}
    return network, {"interface": "eth1", "mac": "0a:58:c0:00:02:05"}


def test_the_parent_is_the_one_given_or_that_of_the_default_route() -> None:
    given = {"parent": "lo"}
    assert direct.check("macvlan", given, SUBNET, "host-local", LINKS, "eth0") == "lo"
    assert direct.check("ipvlan", {}, SUBNET, "host-local", LINKS, "eth0") == "eth0"


@pytest.mark.parametrize(
    ("driver", "options", "subnets", "ipam", "default", "said"),
    [
        ("macvlan", {}, [], "host-local", "eth0", "DHCP"),
        ("macvlan", {}, [], "dhcp", "eth0", "DHCP"),
        ("macvlan", {}, SUBNET, "dhcp", "eth0", "DHCP"),
        ("ipvlan", {}, SUBNET, "host-local", None, "no default route"),
        ("macvlan", {"parent": "eth9"}, SUBNET, "host-local", "eth0", "eth9 does not exist"),
        ("macvlan", {"mode": "l2"}, SUBNET, "host-local", "eth0", "mode"),
        ("ipvlan", {"mode": "bridge"}, SUBNET, "host-local", "eth0", "mode"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    driver: str, options: dict[str, str], subnets: list[object], ipam: str, default: str | None,
    said: str,
) -> None:  # fmt: skip
    with pytest.raises((UsageError, NotFound)) as caught:
        direct.check(driver, options, subnets, ipam, LINKS, default)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_missing_vlan_link_comes_with_the_command_that_makes_it() -> None:
    with pytest.raises(StrataError) as caught:
        direct.check("macvlan", {"parent": "eth0.50"}, SUBNET, "host-local", LINKS, "eth0")
    assert caught.value.hint == "ip link add link eth0 name eth0.50 type vlan id 50"


def test_links_are_made_inside_the_namespace() -> None:
    assert direct.link(*make_link("macvlan")) == (
        "child", {"driver": "macvlan", "mode": "bridge", "parent": "eth0", "name": "eth1",
                  "mac": "0a:58:c0:00:02:05", "mtu": 0},
    )  # fmt: skip
    assert direct.link(*make_link("ipvlan", mode="l3", mtu="1400")) == (
        "child", {"driver": "ipvlan", "mode": "l3", "parent": "eth0", "name": "eth1",
                  "mac": "", "mtu": 1400},
    )  # fmt: skip
