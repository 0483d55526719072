"""What a network is: from a user's options to a record, checked. Pure.

Words and defaults are Podman's (libnetwork): a bridge, a /24 of 10.89.0.0 and above, the first
address as gateway. What differs: networks are isolated from each other unless they say otherwise.
"""

from __future__ import annotations

import os

from strata.errors import AlreadyExists, UsageError
from strata.network import plan
from strata.network.addresses import V4, V6, Subnet, normalize, parse_address, parse_subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Record = dict[str, Any]

DRIVERS = ("bridge", "macvlan", "ipvlan", "wireguard")

#: words that mean something else at ``--network``
_RESERVED = frozenset(("none", "host", "bridge", "private", "slirp4netns", "pasta", "container",
                       "ns", "default"))  # fmt: skip

_DEFAULT_POOL = parse_subnet("10.88.0.0/16")
_POOL = parse_subnet("10.88.0.0/13")
_FIRST = parse_subnet("10.89.0.0/24")

#: Docker's names of what has a name here
_DOCKER = {
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.enable_icc": "icc",
    "com.docker.network.bridge.enable_ip_masquerade": "masquerade",
    "com.docker.network.bridge.host_binding_ipv4": "host_binding_ipv4",
    "com.docker.network.bridge.gateway_mode_ipv4": "mode4",
    "com.docker.network.bridge.gateway_mode_ipv6": "mode6",
    "com.docker.network.container_iface_prefix": "iface_prefix",
    "com.docker.network.enable_ipv6": "ipv6",
}
_MODES = ("nat", "routed")
_ALL_MODES = (*_MODES, "managed", "unmanaged")
#: options of every driver, and of bridges alone
_OWN = ("mtu", "metric", "no_default_route", "iface_prefix")
_BRIDGE = ("vlan", "isolate", "icc", "masquerade", "host_binding_ipv4", "mode")
_DOCKER_NAME = "com.docker.network.bridge.name"
#: what no option may hold, as options become words of batches
_HOSTILE = frozenset(' \t\n;{}"')
_TRUE = frozenset(("true", "1", "t", "yes"))
_FALSE = frozenset(("false", "0", "f", "no"))


def check_interface(name: str, *, room: int = 0) -> str:
    """A link's name, if the kernel takes it, also with ``room`` more characters. `UsageError`."""
    most = 15 - room
    fine = 0 < len(name) <= most and name not in (".", "..")
    if not fine or any(letter in "/:\"'" or letter.isspace() for letter in name):
        raise UsageError(
            f"invalid interface name {name!r}",
            hint=f"1 to {most} characters, without blanks, quotes, slashes and colons",
        )
    return name


def check_name(name: str) -> None:
    """Refuse names that mean something else at ``--network``."""
    if name in _RESERVED:
        raise UsageError(
            f'cannot create network with name "{name}" because it conflicts with a valid network '
            "mode", hint="choose another name"
        )  # fmt: skip


def _boolean(key: str, value: str) -> str:
    low = value.lower()
    if low in _TRUE or low in _FALSE:
        return "true" if low in _TRUE else "false"
    raise UsageError(f"invalid value {value!r} of the option {key}", hint="use true or false")


def _number(key: str, value: str, low: int, high: int) -> str:
    if not value.isdigit() or not low <= int(value) <= high:
        raise UsageError(f"invalid value {value!r} of the option {key}: use {low} to {high}")
    return str(int(value))


def plan_options(driver: str, given: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The options under our names, checked, and the name of the link ("" when none is given)."""
    options: dict[str, str] = {}
    interface = ""
    for key, value in given.items():
        name = _DOCKER.get(key, key)
        if key == _DOCKER_NAME:
            interface = check_interface(value)
        elif name == "mtu":
            options[name] = _number(key, value, 68, 65535)
        elif name == "metric":
            options[name] = _number(key, value, 1, 2**32 - 1)
        elif name == "no_default_route":
            options[name] = _boolean(key, value)
        elif name == "iface_prefix":
            options[name] = check_interface(value, room=1)
        elif driver == "bridge" and name == "vlan":
            options[name] = _number(key, value, 1, 4094)
        elif driver == "bridge" and name == "isolate":
            options[name] = "strict" if value == "strict" else _boolean(key, value)
        elif driver == "bridge" and name in ("icc", "masquerade", "ipv6"):
            options[name] = _boolean(key, value)
        elif driver == "bridge" and name in ("mode", "mode4", "mode6"):
            modes = _ALL_MODES if name == "mode" else _MODES
            if value not in modes:
                raise UsageError(
                    f"invalid value {value!r} of the option {key}",
                    hint=f"use {', '.join(modes[:-1])} or {modes[-1]}",
                )
            options[name] = value
        elif driver == "bridge" and name == "host_binding_ipv4":
            options[name] = _address_of(value, V4)
        elif driver in ("macvlan", "ipvlan") and name in ("parent", "mode"):
            options[name] = value
        else:
            raise UsageError(
                f"unsupported {driver} network option {key}",
                hint=f"use {', '.join(_OWN)}, "
                + (f"{', '.join(_BRIDGE[:-1])} or {_BRIDGE[-1]}" if driver == "bridge"
                   else "parent or mode"),
            )  # fmt: skip
    return options, interface


def _address_of(text: str, family: int) -> str:
    try:
        if parse_address(text)[0] == family:
            return text
    except ValueError:
        pass
    raise UsageError(f"invalid IP address {text!r}")


# -- subnets ---------------------------------------------------------------------------------------


def plan_subnets(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], *, internal: bool
) -> list[Record]:  # fmt: skip
    """The subnets a user gave; gateways and ranges go to the subnet that holds them."""
    if gateways and not subnets:
        raise UsageError("cannot set gateway without subnet", hint="give --subnet too")
    if ranges and not subnets:
        raise UsageError("cannot set range without subnet", hint="give --subnet too")
    parsed: list[Subnet] = []
    for text in subnets:
        try:
            one = parse_subnet(text)
        except ValueError as error:
            raise UsageError(f"subnet {text!r}: {error}", hint="as in 10.89.5.0/24") from None
        if one.prefix > (30 if one.family == V4 else 126):
            raise UsageError(f"the subnet {one.text} has no room for a gateway and a container")
        for other in parsed:
            if one.overlaps(other):
                raise UsageError(f"the subnets {other.text} and {one.text} overlap")
        parsed.append(one)
    chosen: dict[int, str] = {}
    for text in gateways:
        position = _find_subnet(parsed, text, "gateway")
        if position in chosen:
            raise UsageError(f"two gateways in the subnet {parsed[position].text}")
        chosen[position] = normalize(text)
    limits: dict[int, dict[str, str]] = {}
    for text in ranges:
        start, end = _parse_range(text)
        position = _find_subnet(parsed, start, "ip-range")
        if _find_subnet(parsed, end, "ip-range") != position:
            raise UsageError(f"the range {text} does not lie in one subnet")
        limits[position] = {"start": normalize(start), "end": normalize(end)}
    return [
        {"subnet": one.text, "gateway": chosen.get(position, plan.first_address(one)),
         "lease_range": limits.get(position)}
        for position, one in enumerate(parsed)
    ]  # fmt: skip


def _find_subnet(parsed: Sequence[Subnet], text: str, what: str) -> int:
    try:
        family, value = parse_address(text)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None
    for position, one in enumerate(parsed):
        if one.holds(family, value):
            if one.family == V4 and not one.usable()[0] <= value <= one.usable()[1]:
                raise UsageError(f"{what} {text} is no address for a host in {one.text}")
            return position
    raise UsageError(f"{what} {text} not in subnet {', '.join(one.text for one in parsed)}")


def _parse_range(text: str) -> tuple[str, str]:
    """A range as CIDR or ``first-last``."""
    try:
        if "/" in text:
            from strata.network.addresses import format_address

            one = parse_subnet(text)
            first, last = one.usable()
            if one.family == V4 and one.prefix < 31:
                # All addresses of the range, as far as its subnet lets hosts have them.
                first = max(first, one.base)
            return format_address(one.family, first), format_address(one.family, last)
        start, dash, end = text.partition("-")
        if dash:
            (one_family, low), (other_family, high) = parse_address(start), parse_address(end)
            if one_family == other_family and low <= high:
                return start, end
    except ValueError:
        pass
    raise UsageError(f"invalid ip-range {text!r}", hint="as in 10.89.5.64/26 or FIRST-LAST")


def find_free_subnet(used: Iterable[Subnet], *, default: bool = False) -> Subnet:
    """A /24 of the pool (for the default network a /16 when there is one) nobody uses."""
    taken = list(used)
    if default and not any(_DEFAULT_POOL.overlaps(one) for one in taken):
        return _DEFAULT_POOL
    base = _FIRST.base
    while base <= _POOL.last:
        candidate = Subnet(V4, base, 24)
        holder = next((one for one in taken if candidate.overlaps(one)), None)
        if holder is None:
            return candidate
        base = max(base, holder.last | 0xFF) + 1
    raise UsageError(
        "could not find free subnet from subnet pools",
        hint="remove networks, or give --subnet",
    )


def make_local_subnet() -> Subnet:
    """A random unique local /64: RFC 4193, section 3.2."""
    return Subnet(V6, int.from_bytes(b"\xfd" + os.urandom(7) + bytes(8), "big"), 64)


def check_free(wanted: Sequence[Subnet], used: Iterable[Subnet]) -> None:
    """Refuse subnets that a network or the host uses already."""
    taken = list(used)
    for one in wanted:
        for other in taken:
            if one.overlaps(other):
                raise UsageError(
                    f"subnet {one.text} is already used on the host or by another config",
                    hint=f"{other.text} overlaps it; choose another, or leave --subnet out",
                )


def plan_route(text: str) -> Record:
    """``DESTINATION,GATEWAY[,METRIC]`` of ``--route``."""
    words = text.split(",")
    hint = "as in 10.21.0.0/24,10.19.12.250,120"
    if len(words) not in (2, 3):
        raise UsageError(f"invalid route: {text}", hint=hint)
    try:
        destination, gateway = parse_subnet(words[0]), parse_address(words[1])
    except ValueError as error:
        raise UsageError(f"invalid route: {text}: {error}", hint=hint) from None
    if destination.family != gateway[0]:
        raise UsageError(f"invalid route: {text}: the families of the addresses differ")
    metric = None
    if len(words) == 3:
        metric = int(_number("--route", words[2], 0, 2**32 - 1))
    return {"destination": destination.text, "gateway": normalize(words[1]), "metric": metric}


def check_servers(servers: Sequence[str]) -> list[str]:
    """Addresses of name servers."""
    found: dict[str, None] = {}
    for text in servers:
        try:
            found[normalize(text)] = None
        except ValueError as error:
            raise UsageError(f"--dns: {error}") from None
    return list(found)


def refuse_duplicate(name: str) -> AlreadyExists:
    """The error for a name that a network has."""
    return AlreadyExists(
        f"network name {name} already used: network already exists",
        hint="choose another name, or use --ignore",
    )


def is_sound(record: Record) -> bool:
    """Whether a record read back holds what rules and links may be made of, and no more."""
    try:
        check_interface(record["interface"] or "none")
        for subnet in record["subnets"]:
            parsed = parse_subnet(subnet["subnet"])
            if subnet.get("gateway") and not parsed.holds(*parse_address(subnet["gateway"])):
                return False
            for text in (subnet.get("lease_range") or {}).values():
                parse_address(text)
        for route in record["routes"]:
            parse_subnet(route["destination"])
            if route.get("gateway"):
                parse_address(route["gateway"])
        fine = all(
            isinstance(key, str) and isinstance(value, str) and not _HOSTILE.intersection(value)
            for key, value in record["options"].items()
        )
    except (UsageError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return fine and isinstance(record["internal"], bool) and isinstance(record["name"], str)
