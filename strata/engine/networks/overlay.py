"""Overlay networks of the driver ``wireguard``: their part of a network's life.

The private key lies in ``records/keys/<network id>``, mode 0600: beside the records and in none of
them, so that no listing, inspection or copy of a record can show it. It is removed with the
network and never kept in the trash.

The device exists while the network's bridge does: from the first container to the last.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import names
from strata.engine.core import Engine, Record
from strata.errors import UsageError
from strata.linux.tree import remove_file
from strata.network import overlay as plans
from strata.network.addresses import V6, Subnet
from strata.network.plan import is_overlay
from strata.store import files
from strata.store.records import is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DRIVER = "wireguard"

_OWN_OPTIONS = ("endpoint", "port", "range", "node", "keepalive")
#: second bytes of the ranges a new overlay may have: 10.100.0.0/16 and the next ones
_CANDIDATES = range(100, 120)


def split_options(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The options only an overlay has, and the others."""
    own = {key: value for key, value in given.items() if key in _OWN_OPTIONS}
    return own, {key: value for key, value in given.items() if key not in own}


def begin(
    e: Engine, record: Record, given: dict[str, str], subnets: Sequence[str], join: str
) -> tuple[str, list[str]]:  # fmt: skip
    """Plan the overlay of a network that is being created: its private key, this host's subnets.

    Puts ``overlay``, the MTU and, when none was given, the token's name into the record. ``join``
    is a token of another host, or empty to begin an overlay. The caller has the list's lock.
    """
    from strata.network import act, model, wireguard
    from strata.network.addresses import parse_subnet

    used = act.list_host_subnets()
    for other in e.records.list_records("network"):
        taken = other["overlay"]["ranges"] if is_overlay(other) else []
        used += [parse_subnet(text) for text in taken]
        used += [parse_subnet(subnet["subnet"]) for subnet in other["subnets"]]

    def check_free(ranges: list[str]) -> None:
        model.check_free([parse_subnet(text) for text in ranges], used)

    key = wireguard.make_private_key()
    token = plans.parse_token(join) if join else None
    overlay, parts, mtu = _plan(
        e, given, subnets=subnets, ipv6=record["ipv6"], token=token, check_free=check_free,
        public_key=wireguard.derive_public_key(key),
    )  # fmt: skip
    record["overlay"] = overlay
    record["options"] = {"mtu": str(mtu), **record["options"]}
    if token is not None and not record["name"]:
        names.check_name(token["name"], "network")
        record["name"] = token["name"]
    return key, parts


def route_all(record: Record) -> None:
    """Give containers a route to the whole overlay, also where another network is their default."""
    for whole in record["overlay"]["ranges"]:
        for subnet in record["subnets"]:
            gateway = subnet["gateway"]
            if gateway and (":" in gateway) == (":" in whole):
                record["routes"].append({"destination": whole, "gateway": gateway, "metric": None})
                break


def _plan(
    e: Engine, given: dict[str, str], *, subnets: Sequence[str], ipv6: bool, token: Record | None,
    check_free: Callable[[list[str]], None], public_key: str,
) -> tuple[Record, list[str], int]:  # fmt: skip
    """A new overlay, this host's subnets in it, and its MTU. Changes nothing.

    ``check_free`` raises `UsageError` when a range overlaps what the host or a network uses.
    """

    port, endpoint = _plan_port(e, given)
    overlay: Record = {
        "ranges": [], "node": plans.check_node(given.get("node") or os.uname().nodename),
        "public_key": public_key, "endpoint": endpoint,
        "port": port, "keepalive": _number("keepalive", given.get("keepalive", "0"), 0, 65535),
        "peers": [],
    }  # fmt: skip
    if token is not None:
        return _join(overlay, token, given, list(subnets), check_free)
    mtu = plans.DEFAULT_MTU
    if given.get("range"):
        overlay["ranges"] = [str(plans.parse_overlay_range(text))
                             for text in given["range"].split("+")]  # fmt: skip
        check_free(overlay["ranges"])
    elif subnets:
        overlay["ranges"] = [plans.find_range_of(text) for text in subnets]
        check_free(overlay["ranges"])
    else:
        overlay["ranges"] = [_find_free_range(check_free)]
    if ipv6 and not any(":" in text for text in overlay["ranges"]):
        # Written as everybody will write it again (RFC 5952), or two hosts would differ over it.
        local = int.from_bytes(b"\xfd" + os.urandom(5) + bytes(10), "big")
        overlay["ranges"].append(Subnet(V6, local, 48).text)
    parts = list(subnets) or plans.choose_parts(overlay["ranges"], [])
    plans.check_parts(overlay["ranges"], parts)
    return overlay, parts, mtu


def _join(
    overlay: Record, token: Record, given: dict[str, str], subnets: list[str],
    check_free: Callable[[list[str]], None],
) -> tuple[Record, list[str], int]:  # fmt: skip
    if given.get("range"):
        raise UsageError("the overlay's range comes from the join token", hint="drop -o range")
    overlay["ranges"] = token["ranges"]
    check_free(overlay["ranges"])
    taken = [part for peer in token["peers"] for part in peer["subnets"]]
    import binascii

    seed = binascii.a2b_base64(overlay["public_key"])
    parts = subnets or plans.choose_parts(overlay["ranges"], taken, seed)
    plans.check_parts(overlay["ranges"], parts)
    for peer in token["peers"]:
        plans.check_peer(overlay, parts, peer)
        overlay = plans.with_peer(overlay, peer)
    return overlay, parts, token["mtu"]


def _plan_port(e: Engine, given: dict[str, str]) -> tuple[int, str]:
    """The port to listen on and the endpoint others dial, each from the other when missing."""
    port = _number("port", given["port"], 1, 65535) if given.get("port") else 0
    endpoint = ""
    if given.get("endpoint"):
        endpoint = plans.parse_endpoint(given["endpoint"], port or plans.DEFAULT_PORT)
        port = port or int(endpoint.rpartition(":")[2])
    used = {network["overlay"]["port"]: network["name"]
            for network in e.records.list_records("network") if is_overlay(network)}  # fmt: skip
    if port in used:
        raise UsageError(
            f"the overlay {used[port]} listens on port {port} already",
            hint="choose another with -o port=NUMBER",
        )
    if not port:
        port = next(number for number in range(plans.DEFAULT_PORT, 65536) if number not in used)
    return port, endpoint


def _number(key: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(f"invalid value {text!r} of the option {key}", hint=f"use {low} to {high}")
    return int(text)


def _find_free_range(check_free: Callable[[list[str]], None]) -> str:
    for number in _CANDIDATES:
        candidate = f"10.{number}.0.0/16"
        try:
            check_free([candidate])
        except UsageError:
            continue
        return candidate
    raise UsageError(
        "no range for an overlay is free on this host",
        hint="give one with -o range=10.44.0.0/16",
    )


# -- the key ---------------------------------------------------------------------------------------


def key_path(e: Engine, network_id: str) -> str:
    """The file of an overlay's private key."""
    return f"{e.records.folder}/keys/{network_id}"


def list_keys(e: Engine) -> list[str]:
    """The networks whose private keys are there."""
    folder = os.path.dirname(key_path(e, ""))
    return [name for name in os.listdir(folder) if is_id(name)] if os.path.isdir(folder) else []


def save_key(e: Engine, network_id: str, private_key: str) -> None:
    """Keep the private key, readable by root alone."""
    path = key_path(e, network_id)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.write_bytes(path, f"{private_key}\n".encode(), mode=0o600)
    trace.point("overlay:key-written")


def drop_key(e: Engine, network_id: str) -> None:
    """Remove the private key of a network that is gone. Idempotent."""
    remove_file(key_path(e, network_id))
    trace.point("overlay:key-gone")


# -- the device ------------------------------------------------------------------------------------


def get_alias(e: Engine) -> str:
    """What marks a link as this store's."""
    return f"strata:{e.config.id[:8]}"


def ensure_up(e: Engine, network: Record) -> None:
    """Make the network's device what its record says; its bridge must be there. Idempotent."""
    from strata.network import wireguard

    gateways = [subnet["gateway"] for subnet in network["subnets"] if subnet["gateway"]]
    mtu = int(network["options"].get("mtu") or plans.DEFAULT_MTU)
    wireguard.ensure_up(network["id"], network["overlay"], gateways, mtu,
                        key_path(e, network["id"]), get_alias(e))  # fmt: skip


# -- peers -----------------------------------------------------------------------------------------


def make_join_token(network: Record) -> str:
    """What another host needs to join. Holds no secret. `UsageError` for other drivers."""
    require_overlay(network)
    parts = [subnet["subnet"] for subnet in network["subnets"]]
    mtu = int(network["options"].get("mtu") or plans.DEFAULT_MTU)
    return plans.make_token(network["name"], network["overlay"], parts, mtu)


def change_peers(network: Record, added: Sequence[str], dropped: Sequence[str]) -> Record:
    """The network with peers added by their tokens and dropped by name or key.

    Of a token only its issuer is added: whom else that host knows is not its to decide here.
    """
    require_overlay(network)
    overlay = network["overlay"]
    for wanted in dropped:
        overlay = plans.without_peer(overlay, wanted)
    parts = [subnet["subnet"] for subnet in network["subnets"]]
    for token in added:
        content = plans.parse_token(token)
        if content["ranges"] != overlay["ranges"]:
            raise UsageError(
                f"the token is of an overlay with the range {', '.join(content['ranges'])}, "
                f"and {network['name']} has {', '.join(overlay['ranges'])}",
                hint=f"on the other host: strata network create -d wireguard --join TOKEN "
                f"{network['name']}, with the token of this one",
            )
        plans.check_peer(overlay, parts, content["peers"][0])
        overlay = plans.with_peer(overlay, content["peers"][0])
    return {**network, "overlay": overlay}


def require_overlay(network: Record) -> None:
    """`UsageError` unless the network spans hosts."""
    if not is_overlay(network):
        raise UsageError(
            f"the network {network['name']} is a {network['driver']} network; only those of the "
            "driver wireguard have peers",
            hint="strata network create -d wireguard NAME",
        )
