"""Containers on a link of the host itself: macvlan, and ipvlan where the kernel has it."""

from __future__ import annotations

import pytest
from helpers.hosts import WIRE, Attached, Host, Server, ask_tcp
from helpers.networked import Place
from helpers.store import BUSYBOX

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--stop-signal", "KILL", BUSYBOX, "sleep", "10000")
WIRE_NET = ("--subnet", "192.0.2.0/24", "--gateway", WIRE, "--ip-range", "192.0.2.64/27")


def has_ipvlan(host: Host) -> bool:
    """Whether the kernel has such links, asked without leaving one."""
    done = host.run("unshare", "--net", "ip", "link", "add", "link", "lo", "name", "x", "type",
                    "ipvlan")  # fmt: skip
    return "Unknown device type" not in done.stderr


def test_a_container_is_on_the_network_of_its_host(place: Place) -> None:
    store, a, b = place
    before = a.describe()
    store.ok("network", "create", "-d", "macvlan", "-o", "parent=eth0", *WIRE_NET, "lan")
    store.ok("run", "--detach", "--name", "c", "--network", "lan", *SLEEPER)
    c = Attached(store, "c")
    (address,) = c.addresses["lan"]
    assert address.startswith("192.0.2.")
    with Server(c.netns, 80), Server(b.netns, 80):
        # Both ways, under its own address: no rule and no published port between.
        assert ask_tcp(b.netns, address, 80) == b.address.encode()
        assert ask_tcp(c.netns, b.address, 80) == address.encode()
    assert a.describe() == before
    store.ok("rm", "--force", "--time", "0", "c")
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []


def test_a_static_address_and_two_neighbours(place: Place) -> None:
    store, _, _ = place
    store.ok("network", "create", "-d", "macvlan", *WIRE_NET, "lan")
    store.ok("run", "--detach", "--name", "c", "--network", "lan", "--ip", "192.0.2.77", *SLEEPER)
    store.ok("run", "--detach", "--name", "d", "--network", "lan", *SLEEPER)
    c, d = Attached(store, "c"), Attached(store, "d")
    assert c.addresses["lan"] == ["192.0.2.77"]
    with Server(c.netns, 80):
        assert ask_tcp(d.netns, "192.0.2.77", 80) == d.addresses["lan"][0].encode()


def test_beside_a_bridge(place: Place) -> None:
    """One container on both reaches neighbours on both."""
    store, _, b = place
    store.ok("network", "create", "-d", "macvlan", *WIRE_NET, "lan")
    store.ok("network", "create", "net")
    store.ok("run", "--detach", "--name", "c", "--network", "net", "--network", "lan", *SLEEPER)
    store.ok("run", "--detach", "--name", "d", "--network", "net", *SLEEPER)
    c, d = Attached(store, "c"), Attached(store, "d")
    with Server(d.netns, 80), Server(b.netns, 80):
        assert ask_tcp(c.netns, d.addresses["net"][0], 80) == c.addresses["net"][0].encode()
        assert ask_tcp(c.netns, b.address, 80) == c.addresses["lan"][0].encode()


def test_ipvlan_works_or_says_that_the_kernel_has_none(place: Place) -> None:
    store, a, b = place
    create = ("network", "create", "-d", "ipvlan", *WIRE_NET, "lan")
    if not has_ipvlan(a):
        refused = store.strata(*create)
        assert refused.rc == 125
        assert "this kernel has no ipvlan links" in refused.err
        assert store.strata("network", "exists", "lan").rc == 1
        return
    store.ok(*create)
    store.ok("run", "--detach", "--name", "c", "--network", "lan", *SLEEPER)
    c = Attached(store, "c")
    with Server(c.netns, 80):
        assert ask_tcp(b.netns, c.addresses["lan"][0], 80) == b.address.encode()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "DHCP"),
        (["--ipam-driver", "dhcp"], "dhcp"),
        (["-o", "parent=eth7", *WIRE_NET], "eth7 does not exist"),
        (["-o", "mode=loud", *WIRE_NET], "mode"),
        (["-o", "vlan=5", *WIRE_NET], "unsupported"),
    ],
)
def test_what_cannot_work_is_refused_with_a_hint(
    place: Place, options: list[str], said: str
) -> None:  # fmt: skip
    refused = place[0].strata("network", "create", "-d", "macvlan", *options, "lan")
    assert refused.rc == 125
    assert said in refused.err
    assert "hint:" in refused.err
