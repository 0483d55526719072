"""Read ``--network`` and the options that go with it. Pure.

The result is the container's ``network`` (its mode) and ``networks``: one entry
``{"name", "id", "aliases", "ips", "mac", "interface"}`` per network in the order of the
interfaces, only in bridge mode. That the networks exist is the engine's business.
Source: podman-run(1).
"""

from __future__ import annotations

from strata.cli.values import check_hostname, is_address, split_csv
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Entry = dict[str, Any]

#: what the default network answers to
DEFAULT_NETWORK = "strata"
_DEFAULTS = frozenset(("bridge", "private", "default"))
_ALONE = ("container", "ns", "pasta")
_KEYS = "alias, ip, ip6, mac and interface_name"
_HEX = frozenset("0123456789abcdef")
_LONGEST_INTERFACE = 15


def parse_networks(
    texts: Sequence[str], *, ips: Sequence[str] = (), mac: str = "", aliases: Sequence[str] = (),
) -> tuple[str, list[Entry]]:  # fmt: skip
    """Mode and networks from all ``--network`` values, ``--ip`` and ``--ip6``, ``--mac-address``
    and ``--network-alias``. `UsageError`."""
    mode = ""
    entries: list[Entry] = []
    for text in texts or ("bridge",):
        kind = text.partition(":")[0]
        if kind == "slirp4netns":
            raise UsageError(
                'network mode "slirp4netns" is not available: slirp4netns was replaced by pasta',
                hint="use --network pasta for a network through the host's sockets, "
                "or no --network for a bridge",
            )
        if text in ("host", "none") or kind in _ALONE:
            _check_alone(text, kind)
            if entries or mode not in ("", text):
                raise _mixed(text if entries else mode)
            mode = text
            continue
        if mode and mode != "bridge":
            raise _mixed(mode)
        mode = "bridge"
        for entry in _parse_named(text):
            if any(entry["name"] == other["name"] for other in entries):
                raise UsageError(
                    f'network "{entry["name"]}" is given twice',
                    hint="a container has one interface per network",
                )
            entries.append(entry)
    _apply_options(mode, entries, ips, mac, aliases)
    return mode, entries


def parse_entry(name: str, *, ips: Sequence[str], mac: str, aliases: Sequence[str]) -> Entry:
    """The entry of ``network connect``. `UsageError`."""
    entry = _make_entry(name)
    _apply_options("bridge", [entry], ips, mac, aliases)
    return entry


def parse_mac(text: str) -> str:
    """A hardware address as ``aa:bb:cc:dd:ee:ff``; `UsageError` unless one host may have it."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and _HEX.issuperset(part) for part in parts):
        raise UsageError(
            f"address {text}: invalid MAC address", hint="give it as in 92:d0:c6:0a:29:33"
        )
    if int(parts[0], 16) & 1:
        raise UsageError(
            f"address {text}: invalid MAC address: it is one for groups",
            hint="the first two digits must be an even number, as in 92:d0:c6:0a:29:33",
        )
    if not any(int(part, 16) for part in parts):
        raise UsageError(
            f"address {text}: invalid MAC address: it is nobody's",
            hint="give it as in 92:d0:c6:0a:29:33",
        )
    return ":".join(parts)


def _check_alone(text: str, kind: str) -> None:
    value = text.partition(":")[2]
    if kind in ("container", "ns") and not value:
        what = "a container's name or id" if kind == "container" else "the path of a namespace"
        raise UsageError(f'network mode "{text}" lacks its value', hint=f"give {kind}: and {what}")
    if kind == "ns" and not value.startswith("/"):
        raise UsageError(
            f'the network namespace "{value}" is not an absolute path',
            hint="give --network ns:/run/netns/NAME",
        )


def _parse_named(text: str) -> list[Entry]:
    name, colon, options = text.partition(":")
    if not colon:
        return [_make_entry(part) for part in text.split(",")]
    entry = _make_entry(name)
    for field in split_csv(options):
        key, equals, value = field.partition("=")
        if not equals or not value:
            raise UsageError(
                f'invalid network option "{field}" of {name}', hint=f"the options are {_KEYS}"
            )
        if key == "alias":
            if value not in entry["aliases"]:
                entry["aliases"].append(_check_alias(value))
        elif key in ("ip", "ip6"):
            entry["ips"].append(_check_ip(value, key))
        elif key == "mac":
            entry["mac"] = parse_mac(value)
        elif key == "interface_name":
            entry["interface"] = _check_interface(value)
        else:
            raise UsageError(
                f'unknown option "{key}" of network {name}', hint=f"the options are {_KEYS}"
            )
    return [entry]


def _make_entry(name: str) -> Entry:
    from strata.engine.names import check_name

    chosen = DEFAULT_NETWORK if name in _DEFAULTS else name
    check_name(chosen, "network")
    return {"name": chosen, "id": "", "aliases": [], "ips": [], "mac": "", "interface": ""}


def _apply_options(
    mode: str, entries: list[Entry], ips: Sequence[str], mac: str, aliases: Sequence[str]
) -> None:
    given = [("--ip", ips), ("--mac-address", mac), ("--network-alias", aliases)]
    if mode != "bridge":
        for option, value in given:
            if value:
                raise UsageError(
                    f'{option} can only be set when the network mode is bridge: "{mode}" was given',
                    hint="name a network with --network",
                )
        return
    if len(entries) > 1:
        for option, value in given[:2]:
            if value:
                raise UsageError(
                    f"{option} can only be set for a single network",
                    hint="write it behind each network, as in --network NAME:ip=10.89.0.9",
                )
    for text in ips:
        family = "ip6" if ":" in text else "ip"
        entries[0]["ips"].append(_check_ip(text, family))
    if mac:
        entries[0]["mac"] = parse_mac(mac)
    for entry in entries:
        entry["aliases"] += [
            alias for alias in map(_check_alias, aliases) if alias not in entry["aliases"]
        ]


def _check_ip(text: str, key: str) -> str:
    if not is_address(text):
        raise UsageError(f'"{text}" is not an ip address', hint="give it as in 10.89.0.9")
    if (":" in text) != (key == "ip6"):
        version = "IPv6" if key == "ip6" else "IPv4"
        raise UsageError(f'"{text}" is not an {version} address', hint="ip is IPv4, ip6 is IPv6")
    return text


def _check_alias(text: str) -> str:
    if not text:
        raise UsageError("a network alias is empty", hint="give the other name it shall have")
    return check_hostname(text)


def _check_interface(text: str) -> str:
    bad = any(letter in "/:" or letter.isspace() for letter in text) or text in (".", "..", "lo")
    if bad or len(text) > _LONGEST_INTERFACE:
        raise UsageError(
            f'invalid interface name "{text}"', hint="use at most 15 letters and digits, and not lo"
        )
    return text


def _mixed(mode: str) -> UsageError:
    return UsageError(
        f"can only set extra network names, selected mode {mode} is not bridge",
        hint=f"{mode.partition(':')[0]} stands alone; leave the other --network away",
    )
