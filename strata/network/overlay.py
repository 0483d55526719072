"""What a WireGuard overlay is: ranges, each host's part of them, peers, tokens. Pure.

An overlay is one range of addresses, of which every host has a part (a ``/24`` of ``10.100.0.0/16``
unless told otherwise). A host's containers are on a bridge with its part; what goes to another
host's part is encrypted and sent there. Nothing knows the whole: each host has a list of peers,
and a peer is a public key, the parts that may come from it, and where it can be dialled.

A *token* tells one host about another: the overlay's ranges, its MTU, the issuing host and the
peers that it knows. It holds no secret. It is JSON in base64 with a checksum before it, so that
a paste with a missing end is seen. What a token says is a proposal: `parse_token` checks the shape
and `check_peer` that the peer takes nothing away from others.
"""

from __future__ import annotations

from strata import jsontext
from strata.errors import AlreadyExists, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any

    Overlay = dict[str, Any]
    Peer = dict[str, Any]
    Network = IPv4Network | IPv6Network

DEFAULT_RANGE = "10.100.0.0/16"
DEFAULT_PORT = 51820
DEFAULT_MTU = 1420
"""What is left of 1500 bytes after IPv6, UDP and WireGuard's own header (80 bytes)."""

TOKEN_PREFIX = "strata-overlay-1-"
MAX_TOKEN = 64 << 10
MAX_PEERS = 1000
_PARTS = {4: 24, 6: 64}
_WIDEST = {4: 8, 6: 32}


def parse_key(text: object) -> str:
    """A public key as ``wg`` writes it: 32 bytes in base64. `UsageError`."""
    import binascii

    if isinstance(text, str) and len(text) == 44:
        try:
            if len(binascii.a2b_base64(text, strict_mode=True)) == 32:
                return text
        except (binascii.Error, ValueError):
            pass
    raise UsageError(f"{text!r} is not a WireGuard public key", hint="32 bytes in base64")


def parse_endpoint(text: str, default_port: int = DEFAULT_PORT) -> str:
    """``HOST:PORT`` of what a user or a token gave; a missing port is added. `UsageError`.

    An IPv6 address stands in brackets, also in the answer.
    """
    host, port = text, str(default_port)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or ":" not in host or (rest and not rest.startswith(":")):
            raise _bad_endpoint(text)
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    elif ":" in text:
        pass  # a bare IPv6 address
    plain = host.replace(".", "").replace("-", "").replace("_", "")
    if ":" in host:
        import ipaddress

        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise _bad_endpoint(text) from None
    elif not plain.isalnum() or not plain.isascii() or host.startswith("-"):
        raise _bad_endpoint(text)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise _bad_endpoint(text)
    return f"{host}:{int(port)}"


def _bad_endpoint(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is not an endpoint", hint="give HOST or HOST:PORT, as in 203.0.113.7:51820"
    )


def parse_range(text: object) -> Network:
    """A range of addresses. `UsageError`, also when bits beyond its prefix are set."""
    import ipaddress

    try:
        return ipaddress.ip_network(str(text))
    except ValueError as error:
        raise UsageError(f"{text!r} is not a range of addresses: {error}") from None


def parse_overlay_range(text: object) -> Network:
    """A range that an overlay may have: not so wide that it would take over other routes."""
    found = parse_range(text)
    least, most = _WIDEST[found.version], _PARTS[found.version]
    if not least <= found.prefixlen <= most:
        raise UsageError(
            f"the overlay's range {found} must have a prefix between /{least} and /{most}",
            hint=f"each host gets a /{most} of it, as of {DEFAULT_RANGE}",
        )
    return found


def find_range_of(part: str) -> str:
    """The range an overlay has when only this host's part of it was given: 256 such parts."""
    found = parse_range(part)
    wide = max(_WIDEST[found.version], min(found.prefixlen, _PARTS[found.version]) - 8)
    return str(found if found.prefixlen < wide else found.supernet(new_prefix=wide))


def choose_parts(ranges: list[str], taken: list[str], seed: bytes = b"") -> list[str]:
    """A host's part of each range, none of ``taken`` overlapping. `UsageError` when all are.

    The first host takes the first part. One that joins passes its public key as ``seed`` and
    begins looking where that says, so that two hosts that join at once hardly meet.
    """
    import ipaddress

    used = [ipaddress.ip_network(text) for text in taken]
    parts = []
    for text in ranges:
        whole = ipaddress.ip_network(text)
        prefix = max(_PARTS[whole.version], whole.prefixlen)
        count = min(1 << (prefix - whole.prefixlen), 1 << 16)
        step = 1 << (whole.max_prefixlen - prefix)
        first = int.from_bytes(seed[:8], "big") % count
        for offset in range(count):
            base = int(whole.network_address) + (first + offset) % count * step
            part = ipaddress.ip_network((base, prefix))
            if not any(part.version == other.version and part.overlaps(other) for other in used):
                parts.append(str(part))
                break
        else:
            raise UsageError(
                f"no host's part of the overlay's range {text} is free",
                hint="give one with --subnet, or begin a wider overlay",
            )
    return parts


def check_parts(ranges: list[str], parts: list[str]) -> None:
    """That every part lies in one of the ranges. `UsageError`."""
    wholes = [parse_range(text) for text in ranges]
    for text in parts:
        part = parse_range(text)
        if not any(part.version == whole.version and part.subnet_of(whole)  # type: ignore[arg-type]
                   for whole in wholes):  # fmt: skip
            raise UsageError(
                f"the subnet {text} is not in the overlay's range {', '.join(ranges)}",
                hint="leave --subnet away and a free part is chosen",
            )


def check_peer(overlay: Overlay, own_parts: list[str], peer: Peer) -> None:
    """That a peer can be added: within the ranges, and nobody's name or part claimed twice."""
    check_parts(overlay["ranges"], peer["subnets"])
    if peer["public_key"] == overlay["public_key"]:
        raise UsageError("this token was issued by this very host", hint="take the other host's")
    others = [other for other in overlay["peers"] if other["public_key"] != peer["public_key"]]
    _check_name(overlay, others, peer["node"])
    holders = [(part, "this host") for part in own_parts]
    holders += [(part, f"peer {other['node']}") for other in others for part in other["subnets"]]
    for text in peer["subnets"]:
        part = parse_range(text)
        for taken, holder in holders:
            other_part = parse_range(taken)
            if part.version == other_part.version and part.overlaps(other_part):
                raise AlreadyExists(
                    f"the subnet {text} of peer {peer['node']} is already used by {holder}",
                    hint="create the network on that host again, with a --subnet that is free",
                )


def _check_name(overlay: Overlay, others: list[Peer], node: str) -> None:
    """Refuse a second host of the same name: nobody could say which one is meant."""
    if node == overlay["node"]:
        raise AlreadyExists(
            f"this host and the peer are both called {node} in the overlay",
            hint="give one of them another name when creating the network: -o node=NAME; if this "
            f"host was a member before, --peer-drop {node} on the other and take a new token",
        )
    if any(other["node"] == node for other in others):
        raise AlreadyExists(
            f"a peer called {node} is there already, with another key",
            hint="give one of them another name when creating the network: -o node=NAME; if that "
            f"host was set up anew, --peer-drop {node} first",
        )


def with_peer(overlay: Overlay, peer: Peer) -> Overlay:
    """The overlay with a peer added, or changed when its key is known."""
    others = [other for other in overlay["peers"] if other["public_key"] != peer["public_key"]]
    return {**overlay, "peers": [*others, peer]}


def without_peer(overlay: Overlay, wanted: str) -> Overlay:
    """The overlay without one peer, named by its host's name or its public key. `UsageError`."""
    found = [peer for peer in overlay["peers"] if wanted in (peer["node"], peer["public_key"])]
    if len(found) != 1:
        known = ", ".join(peer["node"] for peer in overlay["peers"]) or "none"
        raise UsageError(
            f"{'several peers are' if found else 'no peer is'} called {wanted!r}",
            hint="name it by its public key" if found else f"known peers: {known}",
        )
    return {**overlay, "peers": [peer for peer in overlay["peers"] if peer is not found[0]]}


# -- tokens ----------------------------------------------------------------------------------------


def make_token(name: str, overlay: Overlay, parts: list[str], mtu: int) -> str:
    """What another host needs to join: see the module's text. Holds no secret."""
    import base64
    import zlib

    me = {"node": overlay["node"], "public_key": overlay["public_key"],
          "endpoint": overlay["endpoint"], "subnets": parts}  # fmt: skip
    content = {"name": name, "ranges": overlay["ranges"], "mtu": mtu,
               "peers": [me, *overlay["peers"]]}  # fmt: skip
    data = jsontext.dumps(content).encode()
    body = zlib.crc32(data).to_bytes(4, "big") + data
    return TOKEN_PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def parse_token(text: str) -> dict[str, Any]:
    """The content of a token: ``name``, ``ranges``, ``mtu``, ``peers`` (the issuer first).

    `UsageError` for what is no token, or a part of one.
    """
    import base64
    import binascii
    import zlib

    text = "".join(text.split())
    if not text.startswith(TOKEN_PREFIX) or len(text) > MAX_TOKEN:
        raise UsageError(
            "this is not a join token",
            hint="`strata network join-token NAME` on a host of the overlay prints one",
        )
    body = text[len(TOKEN_PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) < 5 or zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        raise UsageError("the join token is damaged", hint="copy the whole line again")
    try:
        return _check_content(jsontext.loads(data[4:]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError("the join token has an unknown content") from None


def _check_content(content: Any) -> dict[str, Any]:
    """The fields of a token that are known, each checked."""
    ranges = [str(parse_overlay_range(text)) for text in content["ranges"]]
    mtu = int(content["mtu"])
    peers = content["peers"]
    if not 0 < len(ranges) <= 2 or not 576 <= mtu <= 65535 or not 0 < len(peers) <= MAX_PEERS:
        raise ValueError("out of bounds")
    checked = []
    for peer in peers:
        endpoint = str(peer["endpoint"])
        parts = [str(parse_range(text)) for text in peer["subnets"]]
        check_parts(ranges, parts)
        checked.append({
            "node": check_node(str(peer["node"])), "public_key": parse_key(peer["public_key"]),
            "endpoint": parse_endpoint(endpoint) if endpoint else "", "subnets": parts,
        })  # fmt: skip
    return {"name": str(content["name"]), "ranges": ranges, "mtu": mtu, "peers": checked}


def check_node(name: str) -> str:
    """A host's name as peers are shown it. `UsageError`."""
    plain = name.replace("-", "").replace(".", "").replace("_", "")
    if not plain.isalnum() or not plain.isascii() or len(name) > 253:
        raise UsageError(
            f"{name!r} is not the name of a host", hint="use letters, digits, '-', '.' and '_'"
        )
    return name


# -- the device ------------------------------------------------------------------------------------


def format_config(overlay: Overlay, private_key: str, endpoints: dict[str, str]) -> str:
    """The device's configuration for ``wg setconf``: wg(8). Holds the private key.

    ``endpoints`` maps a peer's public key to the address and port it is dialled at now. A host
    that nobody can dial keeps the connection open itself, so that the others can answer.
    """
    keepalive = overlay["keepalive"] or (0 if overlay["endpoint"] else 25)
    lines = ["[Interface]", f"PrivateKey = {private_key}", f"ListenPort = {overlay['port']}"]
    for peer in overlay["peers"]:
        lines += ["[Peer]", f"PublicKey = {peer['public_key']}",
                  f"AllowedIPs = {', '.join(peer['subnets'])}"]  # fmt: skip
        if endpoint := endpoints.get(peer["public_key"]):
            lines.append(f"Endpoint = {endpoint}")
            if keepalive:
                lines.append(f"PersistentKeepalive = {keepalive}")
    return "\n".join(lines) + "\n"


def format_routes(link: str, overlay: Overlay, gateways: list[str]) -> list[str]:
    """Lines for ``ip -batch``: a route to each peer's parts, with the source peers accept.

    ``gateways`` are this host's own addresses in the overlay. A part of an address family in which
    it has none is left out: nothing of that family could be sent.
    """
    own = {":" in gateway: gateway for gateway in gateways}
    return [
        f"route replace {part} dev {link} src {own[':' in part]}"
        for peer in overlay["peers"]
        for part in peer["subnets"]
        if (":" in part) in own
    ]
