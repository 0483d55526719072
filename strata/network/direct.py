"""Networks on a link of the host itself: macvlan and ipvlan. Pure.

The container's link hangs on a *parent*, a link of the host, and is on the parent's network with an
address of its own. There is no bridge, no rule and no published port: the neighbours reach the
container directly, and whoever is the router there is its gateway. The kernel lets parent and child
not talk to each other, so the host alone cannot reach it.

Addresses are given out by the engine, from the subnet named at ``network create``; a DHCP client
for containers is not part of it, so that subnet must be given.
"""

from __future__ import annotations

from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from strata.network.plan import Change

    Record = Mapping[str, Any]

DRIVERS = ("macvlan", "ipvlan")
_MODES = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}


def check(
    driver: str, options: Mapping[str, str], subnets: Sequence[object], ipam: str,
    links: Collection[str], default: str | None,
) -> str:  # fmt: skip
    """The parent a new network gets; ``default`` is the link of the host's default route.

    `UsageError` for what such a network cannot do, `NotFound` for a parent that is not there.
    """
    mode = options.get("mode")
    if mode and mode not in _MODES[driver]:
        raise UsageError(f"unknown {driver} mode {mode!r}", hint=f"use {', '.join(_MODES[driver])}")
    if ipam == "dhcp" or (not subnets and ipam != "none"):
        raise UsageError(
            f"a {driver} network needs a subnet: addresses by DHCP are not supported",
            hint="give the parent's network with --subnet, and with --ip-range the part of it that "
            "its DHCP server leaves free; or --ipam-driver none for links without an address",
        )
    parent = options.get("parent") or default
    if not parent:
        raise UsageError(
            f"a {driver} network needs a parent, and this host has no default route to take it "
            "from", hint="name one with -o parent=LINK",
        )  # fmt: skip
    if parent not in links:
        base, dot, number = parent.partition(".")
        hint = f"this host has {', '.join(sorted(links))}"
        if dot and base in links and number.isdecimal():
            hint = f"ip link add link {base} name {parent} type vlan id {number}"
        raise NotFound(f"parent interface {parent} does not exist", hint=hint)
    return parent


def link(network: Record, attachment: Record) -> Change:
    """What makes the link of such a network inside a container's namespace.

    The kernel makes it there at once, under the container's name for it.
    """
    driver, options = network["driver"], network["options"]
    # An ipvlan link has its parent's hardware address.
    mac = attachment["mac"] if driver == "macvlan" else ""
    return "child", {"driver": driver, "mode": options.get("mode") or _MODES[driver][0],
                     "parent": network["interface"], "name": attachment["interface"],
                     "mac": mac, "mtu": int(options.get("mtu") or 0)}  # fmt: skip
