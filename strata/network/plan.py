"""From network records and attachments to changes of links. Pure.

What a network needs once are lines for ``ip -batch``. What every container needs goes to the kernel
directly: a `Change` is a verb of `strata.network.act.change_links` and its words.

An attachment is one network of one container: ``{"id", "interface", "host_interface",
"addresses": ["10.88.0.2/16"], "gateways": [], "metric": 100, "mac", "aliases": []}``.
"""

from __future__ import annotations

from strata.network.addresses import V6, Subnet, format_address, get_family, parse_subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Record = Mapping[str, Any]
    #: (network record, attachment)
    Link = tuple[Record, Record]
    Change = tuple[str, dict[str, Any]]

METRIC = 100
"""Priority of a container's first default route; a further network's is one higher, so that the
first network wins and the next takes over when it goes."""


def is_bridge(network: Record) -> bool:
    """Whether its containers hang on a bridge of the host that we make and filter."""
    return network["driver"] in ("bridge", "wireguard")


def is_managed(network: Record) -> bool:
    """Whether a network is ours with bridge, addresses and rules; if not, its bridge belongs to
    somebody else, who decides what passes there: Podman's ``mode=unmanaged``."""
    return is_bridge(network) and network["options"].get("mode") != "unmanaged"


def is_overlay(network: Record) -> bool:
    """Whether it spans hosts: a bridge as others, and a tunnel beside it."""
    return bool(network["driver"] == "wireguard")


def tunnel_name(network_id: str) -> str:
    """The link of an overlay's tunnel. No two hosts' alike, as they may share what names it."""
    return f"swg{network_id[:8]}"


def get_mtu(network: Record) -> int:
    """The MTU its links get; 0 means the kernel's choice."""
    return int(network["options"].get("mtu") or 0)


def make_mac(address: str) -> str:
    """A hardware address from an IP address.

    Whoever gets an address after another has the same hardware address too, so that no neighbour
    needs to notice.
    """
    subnet = parse_subnet(f"{address}/{128 if get_family(address) == V6 else 32}")
    digits = f"{subnet.base:08x}"[-8:]
    return ":".join(["0a", "58" if subnet.family != V6 else "59",
                     *(digits[i : i + 2] for i in range(0, 8, 2))])  # fmt: skip


def with_prefix(address: str, subnet: Subnet) -> str:
    """An address with the length of its subnet's prefix."""
    return f"{address}/{subnet.prefix}"


# -- the bridge ------------------------------------------------------------------------------------


def bridge_up(network: Record, *, exists: bool, mac: str, alias: str) -> str:
    """The lines that make a network's bridge, or complete one that is there.

    ``alias`` says whose it is, for whom finds it.
    """
    name = network["interface"]
    lines = []
    if not exists:
        words = [f"link add name {name}", f"address {mac}"]
        mtu = get_mtu(network)
        if mtu:
            words.append(f"mtu {mtu}")
        words.append("type bridge")
        vlan = network["options"].get("vlan")
        if vlan:
            # Every port then is an untagged member of this VLAN alone.
            words.append(f"vlan_filtering 1 vlan_default_pvid {vlan}")
        lines.append(" ".join(words))
    for subnet in network["subnets"]:
        gateway = subnet.get("gateway")
        if gateway:
            parsed = parse_subnet(subnet["subnet"])
            six = parsed.family == V6
            extra = " nodad" if six else " broadcast +" if parsed.prefix < 31 else ""
            lines.append(f"address replace {with_prefix(gateway, parsed)} dev {name}{extra}")
    lines.append(f"link set dev {name} up" + ("" if exists else f" alias {alias}"))
    return "\n".join(lines) + "\n"


def hang_on(network: Record, links: Sequence[str]) -> str:
    """The lines that put links of containers on their bridge, as `host_side` does at first."""
    alone = "on" if is_alone(network) else "off"
    return "".join(
        f"link set dev {name} master {network['interface']}\n"
        f"link set dev {name} type bridge_slave hairpin on isolated {alone}\n"
        for name in links
    )


def is_alone(network: Record) -> bool:
    """Whether its containers do not reach each other: Docker's ``enable_icc=false``."""
    return bool(network["options"].get("icc") == "false")


def link_down(name: str) -> str:
    """The line that removes a link."""
    return f"link del dev {name}\n"


# -- containers ------------------------------------------------------------------------------------


def host_side(links: Sequence[Link]) -> list[Change]:
    """What makes a container's links, each with one end in its namespace."""
    changes: list[Change] = []
    for network, attachment in links:
        if not is_bridge(network):
            from strata.network import direct

            changes.append(direct.link(network, attachment))
            continue
        name = attachment["host_interface"]
        changes.append(("veth", {"name": name, "master": network["interface"],
                                 "peer": attachment["interface"], "mac": attachment["mac"],
                                 "mtu": get_mtu(network)}))  # fmt: skip
        # hairpin: where the kernel filters bridged frames, a container's connection to its own
        # published port is turned round by the bridge, which otherwise never sends back a frame.
        changes.append(("port", {"name": name, "hairpin": True, "isolated": is_alone(network)}))
    return changes


def inside(links: Sequence[Link], *, loopback: bool = True) -> list[Change]:
    """What the container's own namespace needs."""
    changes: list[Change] = [("up", {"link": "lo"})] if loopback else []
    routes: list[Change] = []
    for network, attachment in links:
        name = attachment["interface"]
        for address in attachment["addresses"]:
            changes.append(("address", {"address": address, "link": name}))
        changes.append(("up", {"link": name}))
        metric = int(attachment["metric"])
        for gateway in attachment["gateways"]:
            routes.append(("route", {"destination": "", "via": gateway, "link": name,
                                     "metric": metric}))  # fmt: skip
        for route in network["routes"]:
            routes.append(("route", {"destination": route["destination"],
                                     "via": route.get("gateway") or "", "link": "",
                                     "metric": int(route["metric"] or metric)}))  # fmt: skip
    return changes + routes


def choose_metric(network: Record, links: Sequence[Link]) -> int:
    """The priority of the default route of a network that joins those of ``links``.

    Behind them, unless an option says otherwise. No two are alike: the kernel refuses a second
    route to the same place of the same priority.
    """
    taken = {int(attachment["metric"]) for _, attachment in links}
    given = network["options"].get("metric")
    plain = (int(attachment["metric"]) for other, attachment in links
             if not other["options"].get("metric"))  # fmt: skip
    metric = int(given) if given else max(plain, default=METRIC - 1) + 1
    while metric in taken:
        metric += 1
    return metric


def list_gateways(network: Record) -> list[str]:
    """The gateways that get a default route, one of each family, the first subnet's: none on an
    internal network."""
    if network["internal"] or network["options"].get("no_default_route") == "true":
        return []
    found: dict[int, str] = {}
    for subnet in network["subnets"]:
        if subnet.get("gateway"):
            found.setdefault(get_family(subnet["gateway"]), subnet["gateway"])
    return list(found.values())


def find_free_name(prefix: str, taken: frozenset[str] | set[str]) -> str:
    """``prefix`` with the lowest number that makes a name nobody has."""
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def first_address(subnet: Subnet) -> str:
    """The address a gateway gets when nobody says otherwise."""
    return format_address(subnet.family, subnet.usable()[0])
