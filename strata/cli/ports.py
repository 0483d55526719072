"""Read ``--publish`` and ``--expose``. Pure.

A published port is ``{"host_ip", "host_port", "container_port", "protocol", "range"}``: ``range``
ports beginning with these two; a host port of 0 is chosen when the container starts, and an empty
address stands for all of the host's. Source: podman-run(1); forms that only Docker knows are
answered with what to write instead.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Port = dict[str, Any]

PROTOCOLS = ("tcp", "udp", "sctp")
_FORM = "give [[ADDRESS:][HOSTPORT]:]PORT[/PROTOCOL], as in 8080:80 or 127.0.0.1:8080:80/udp"


def parse_published(texts: Iterable[str]) -> list[Port]:
    """Read all ``--publish`` values; the same one twice counts once. `UsageError`."""
    found: list[Port] = []
    for text in texts:
        found += [port for port in parse_publish(text) if port not in found]
    _check_conflicts(found)
    return found


def parse_publish(text: str) -> list[Port]:
    """Read one ``[[ADDRESS:][HOSTPORT]:]PORT[/PROTOCOL[,PROTOCOL]]``; ports may be ranges."""
    body, protocols = _split_protocols(text)
    address = ""
    if body.startswith("["):
        address, closed, body = body[1:].partition("]")
        if not closed or not body.startswith(":"):
            raise _invalid(text, "an IPv6 address stands in brackets, then a colon")
        body = body[1:]
        _check_address(address)
        if body.count(":") > 1:
            raise _invalid(text, _FORM)
        if ":" not in body:
            raise _invalid(text, f"give [{address}]::{body} for a host port of the engine's choice")
    elif body.count(":") > 2:
        raise _invalid(text, "write an IPv6 address in brackets, as in [::1]:8080:80")
    elif body.count(":") == 2:
        address, _, body = body.partition(":")
        if address:
            _check_address(address)
    host, colon, container = body.rpartition(":")
    if colon and "." in host:
        raise _invalid(text, f"give {host}::{container} for a host port of the engine's choice")
    if not container:
        raise UsageError(f'invalid port format "{text}": must provide a non-empty container port',
                         hint=_FORM)  # fmt: skip
    first, count = _parse_range(container, text, "container port")
    host_first = 0
    if host not in ("", "0"):
        host_first, host_count = _parse_range(host, text, "host port")
        if host_count != count:
            raise UsageError(
                f'invalid port format "{text}": host and container port ranges have different '
                f"lengths: {host_count} vs {count}",
                hint="give as many ports of the host as of the container",
            )
    return [
        {"host_ip": address, "host_port": host_first, "container_port": first,
         "protocol": protocol, "range": count}
        for protocol in protocols
    ]  # fmt: skip


def parse_exposed(texts: Iterable[str]) -> list[str]:
    """Read ``--expose PORT[-PORT][/PROTOCOL]``; the single ports as ``80/tcp``. `UsageError`."""
    found: dict[str, None] = {}
    for text in texts:
        body, protocols = _split_protocols(text)
        first, count = _parse_range(body, text, "port")
        for number in range(first, first + count):
            found.update((f"{number}/{protocol}", None) for protocol in protocols)
    return list(found)


def parse_port_argument(text: str) -> str:
    """Read what ``strata port NAME PORT[/PROTOCOL]`` asks for, as ``80/tcp``. `UsageError`."""
    body, protocols = _split_protocols(text)
    return f"{_parse_number(body, text, 'port')}/{protocols[0]}"


def _split_protocols(text: str) -> tuple[str, list[str]]:
    body, slash, tail = text.partition("/")
    if not slash:
        return body, ["tcp"]
    protocols = [part.lower() for part in tail.split(",")]
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise UsageError(
                f'invalid port format "{text}": unknown protocol "{protocol}"',
                hint="the protocols are tcp, udp and sctp",
            )
    return body, list(dict.fromkeys(protocols))


def _parse_range(text: str, whole: str, what: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _parse_number(low, whole, what)
    if not dash:
        return first, 1
    last = _parse_number(high, whole, what)
    if last < first:
        raise UsageError(
            f'invalid port format "{whole}": the range {text} ends before it begins',
            hint=f"give {high}-{low}",
        )
    return first, last - first + 1


def _parse_number(text: str, whole: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f'invalid port format "{whole}": {what} "{text}" is not a number',
                         hint=_FORM)  # fmt: skip
    number = int(text) if len(text) < 7 else 1 << 20
    if not 1 <= number <= 65535:
        raise UsageError(
            f"port numbers must be between 1 and 65535 (inclusive), got {text}", hint=_FORM
        )
    return number


def _check_address(text: str) -> None:
    from strata.cli.values import is_address

    if not is_address(text):
        raise UsageError(
            f'cannot parse "{text}" as an IP address',
            hint="give an address of the host, or none for all of them",
        )


def _check_conflicts(ports: list[Port]) -> None:
    """Refuse two mappings of one port of the host."""
    for index, one in enumerate(ports):
        for other in ports[:index]:
            if not one["host_port"] or one["protocol"] != other["protocol"]:
                continue
            low = max(one["host_port"], other["host_port"])
            high = min(one["host_port"] + one["range"], other["host_port"] + other["range"])
            if low < high and _overlap(one["host_ip"], other["host_ip"]):
                raise UsageError(
                    f"conflicting port mappings for host port {low} (protocol {one['protocol']})",
                    hint="give each a host port of its own",
                )


def _overlap(one: str, other: str) -> bool:
    if not one or not other or one == other:
        return True
    same = (":" in one) == (":" in other)
    return same and (one in ("0.0.0.0", "::") or other in ("0.0.0.0", "::"))


def _invalid(text: str, hint: str) -> UsageError:
    return UsageError(f'invalid port format "{text}"', hint=hint)
