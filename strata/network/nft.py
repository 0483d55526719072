"""The rules of one store's networks, as text for ``nft -f``. Pure.

All lies in one table. Its chains never change: what differs between networks is in sets of
interface names and prefixes, what differs between containers is one element of a map for each
published port. So a packet meets the same few rules however many containers there are, and a
container without published ports changes nothing here at all.

::

    early        nobody on our bridges reaches the host's loopback (the bridges have
                 route_localnet, which replies to 127.0.0.1:PORT need)
    published    port of the host -> container, for packets from elsewhere and from the host; not
                 for ::1, to which the kernel lets no reply through: refused at once, a client
                 that tries all addresses of localhost goes on with 127.0.0.1; nor for questions to
                 our server of names, also when a container publishes that port
    postrouting  the host's address for what leaves; for a connection to a published port the
                 bridge's, where the reply would otherwise not come back through the host
    forward      who may talk: see `_CHAINS`

Other tables are neither read nor changed: a packet must pass them as well.
"""

from __future__ import annotations

from strata.network.addresses import V6, get_family, parse_subnet
from strata.network.plan import is_managed, is_overlay, tunnel_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Record = Mapping[str, Any]
    #: (set or map, element)
    Element = tuple[str, str]
    #: (map, its key, its value): a published port, each a row of words
    Port = tuple[str, tuple[str, ...], tuple[str, ...]]

FAMILY = "inet"

_SETS = """
  set bridges { type ifname; }
  set pairs { type ifname . ifname; }
  set internal { type ifname; }
  set strict { type ifname; }
  set open { type ifname; }
  set routed4 { type ifname; }
  set routed6 { type ifname; }
  set names4 { type ipv4_addr; }
  set names6 { type ipv6_addr; }
  set hidden4 { type ipv4_addr; flags interval; }
  set hidden6 { type ipv6_addr; flags interval; }
  set local4 { type ifname . ipv4_addr; flags interval; }
  set local6 { type ifname . ipv6_addr; flags interval; }
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map host4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map host6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
"""

_CHAINS = """
  chain early {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }
  chain published {
    ip daddr @names4 th dport 53 return
    ip6 daddr @names6 th dport 53 return
    dnat ip to meta l4proto . ip daddr . th dport map @host4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to meta l4proto . ip6 daddr . th dport map @host6
    dnat ip6 to meta l4proto . th dport map @any6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump published
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname . ip saddr @local4 ct status dnat masquerade
    oifname . ip6 saddr @local6 ct status dnat masquerade
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname != "lo" oifname != @bridges ip saddr @hidden4 ip daddr != 224.0.0.0/4 masquerade
    oifname != "lo" oifname != @bridges ip6 saddr @hidden6 ip6 daddr != ff00::/8 masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname @bridges jump leaving
    oifname @bridges jump arriving
  }
  chain leaving {
    iifname . oifname @pairs accept
    iifname @internal drop
    oifname @bridges jump crossing
    accept
  }
  chain crossing {
    oifname @internal drop
    ct state established,related accept
    iifname @strict drop
    oifname @strict drop
    ct status dnat accept
    iifname @open accept
    oifname @open accept
    drop
  }
  chain arriving {
    oifname @internal drop
    ct state established,related accept
    ct status dnat accept
    meta nfproto ipv4 oifname @routed4 accept
    meta nfproto ipv6 oifname @routed6 accept
    drop
  }
"""


def make_table_name(store_id: str) -> str:
    """The table of a store; two stores on one host never meet."""
    return f"strata-{store_id[:8]}"


def whole_table(table: str, networks: Iterable[Record], ports: Iterable[Port]) -> str:
    """The text that puts the table there as it should be, whatever was there before."""
    elements = [element for network in networks for element in network_elements(network)]
    by_set: dict[str, list[str]] = {}
    for name, text in [*elements, *map(port_element, ports)]:
        by_set.setdefault(name, []).append(text)
    return (
        f"add table {FAMILY} {table}\ndelete table {FAMILY} {table}\n"
        f"table {FAMILY} {table} {{{_SETS}{_CHAINS}}}\n"
        + "".join(
            f"add element {FAMILY} {table} {name} {{ {', '.join(texts)} }}\n"
            for name, texts in by_set.items()
        )
    )


def no_table(table: str) -> str:
    """The text that removes the table, if it is there."""
    return f"add table {FAMILY} {table}\ndelete table {FAMILY} {table}\n"


def network_elements(network: Record) -> list[Element]:
    """What the sets hold for one network with a bridge."""
    if not is_managed(network):
        return []
    name = f'"{network["interface"]}"'
    options = network["options"]
    found = [("bridges", name), ("pairs", f"{name} . {name}")]
    isolate = options.get("isolate") or "true"
    if network["internal"]:
        found.append(("internal", name))
    if isolate == "strict":
        found.append(("strict", name))
    elif isolate == "false":
        found.append(("open", name))
    routed = [number for number in "46"
              if "routed" in (options.get("mode"), options.get(f"mode{number}"))]  # fmt: skip
    found += [(f"routed{number}", name) for number in routed]
    if is_overlay(network):
        # From the tunnel only to its own bridge and back: peers are not let out, nor into others.
        tunnel = f'"{tunnel_name(network["id"])}"'
        found += [("bridges", tunnel), ("internal", tunnel), ("pairs", f"{name} . {tunnel}"),
                  ("pairs", f"{tunnel} . {name}")]  # fmt: skip
    for subnet in network["subnets"]:
        parsed = parse_subnet(subnet["subnet"])
        number = "6" if parsed.family == V6 else "4"
        if network["dns"] and subnet.get("gateway"):
            found.append((f"names{number}", subnet["gateway"]))
        found.append((f"local{number}", f"{name} . {parsed.text}"))
        hidden = options.get("masquerade") != "false" and number not in routed
        if hidden and not network["internal"]:
            found.append((f"hidden{number}", parsed.text))
    return found


def plan_ports(ports: Sequence[Record], target4: str, target6: str) -> list[Port]:
    """What the maps hold for a container's published ports.

    ``ports``: ``{"host_ip", "host_port", "container_port", "protocol", "range"}`` with host ports
    settled; targets are the container's addresses, "" when it has none of that family.
    """
    found: list[Port] = []
    for port in ports:
        host_ip = port["host_ip"]
        for offset in range(int(port["range"])):
            here, there = str(port["host_port"] + offset), str(port["container_port"] + offset)
            for number, target in (("4", target4), ("6", target6)):
                if not target or not _serves(host_ip, number):
                    continue
                if host_ip in ("", "0.0.0.0", "::"):
                    found.append((f"any{number}", (port["protocol"], here), (target, there)))
                else:
                    key = (port["protocol"], host_ip, here)
                    found.append((f"host{number}", key, (target, there)))
    return found


def port_element(port: Port) -> Element:
    """A published port as `nft` writes it."""
    name, key, value = port
    return name, f"{' . '.join(key)} : {' . '.join(value)}"


def _serves(host_ip: str, number: str) -> bool:
    return not host_ip or (get_family(host_ip) == V6) == (number == "6")


def count_rules() -> dict[str, int]:
    """How many rules each chain has, for a comparison with what is there."""
    found: dict[str, int] = {}
    chain = ""
    for line in _CHAINS.splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            chain = words[1]
            found[chain] = 0
        elif words and words[0] not in ("}", "type"):
            found[chain] += 1
    return found


def group(elements: Iterable[Element]) -> dict[str, set[str]]:
    """Elements by set or map, without quotes, as `nft` lists them."""
    found: dict[str, set[str]] = {}
    for name, text in elements:
        found.setdefault(name, set()).add(text.replace('"', ""))
    return found
