"""Taking ports of the host for a container, with an answer to who has one that is not free."""

from __future__ import annotations

import _socket
import errno
import os

from strata.engine.core import Engine, Record
from strata.engine.networks import attach
from strata.errors import AlreadyExists, NetworkError
from strata.network import dns, leases
from strata.network.addresses import V4, V6, get_family, normalize, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM}
_TRIES = 64
_LISTEN = "0A"
"""A listening socket in /proc/net/tcp."""


def take(
    e: Engine, holder: str, wanted: Sequence[Record], targets: Sequence[str], default: str
) -> list[Record]:  # fmt: skip
    """Take every port of ``wanted``; those with the host's ports chosen where it was 0.

    ``default`` is the address of the host for ports without one. `AlreadyExists` names who has a
    port that is not free; then those taken before stay leased until the caller detaches.
    """
    folder = f"{e.paths.net}/ports"
    found = []
    for port in wanted:
        host_ip = port["host_ip"] or default
        host_ip = normalize(host_ip) if host_ip else ""
        if host_ip and not targets[get_family(host_ip) == V6]:
            raise NetworkError(
                f"cannot publish on {host_ip}: the container has no address of that family",
                hint="use a network with a subnet of that family (--ipv6)",
            )
        if host_ip and parse_address(host_ip) == (V6, 1) and targets[1] != "any":
            raise NetworkError(
                f"cannot publish on {_show(host_ip, int(port['host_port']))}: the kernel leads no "
                "connection to ::1 anywhere else",
                hint="publish on 127.0.0.1 or another address of this host, or use --network pasta",
            )
        one = {"host_ip": host_ip, "host_port": int(port["host_port"]),
               "container_port": int(port["container_port"]), "protocol": port["protocol"],
               "range": int(port["range"])}  # fmt: skip
        if one["host_port"]:
            for offset in range(one["range"]):
                _take_one(e, folder, one["protocol"], host_ip, one["host_port"] + offset, holder)
            found.append(one)
        else:
            # Each of a range gets one of its own.
            found += [
                {**one, "range": 1, "container_port": one["container_port"] + offset,
                 "host_port": _take_any(folder, one["protocol"], host_ip, holder)}
                for offset in range(one["range"])
            ]  # fmt: skip
    return found


def _take_one(e: Engine, folder: str, protocol: str, host_ip: str, port: int, holder: str) -> None:
    for last in (False, True):
        try:
            leases.take_port(folder, protocol, host_ip, port, holder)
            break
        except leases.Taken as taken:
            path = f"{folder}/{protocol}/{host_ip or leases.ANY}/{port}"
            if last or not attach.forget_stale(e, taken.holder, path):
                raise _refuse(
                    protocol,
                    host_ip,
                    port,
                    f"container {attach.describe_holder(e, taken.holder)} publishes it",
                ) from None
    try:
        _probe(protocol, host_ip, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_only_ours(e, protocol, host_ip, port):
            return
        leases.release_port(folder, protocol, host_ip, port, holder)
        if error.errno == errno.EADDRINUSE:
            program = find_listener(protocol, port)
            raise _refuse(protocol, host_ip, port,
                          f"{program} has it" if program else "a program on the host has it"
                          ) from None  # fmt: skip
        raise NetworkError(
            f"cannot listen on the {protocol.upper()} port: listen {protocol} "
            f"{_show(host_ip, port)}: bind: {(error.strerror or str(error)).lower()}",
            hint="the address must be one of this host's",
        ) from None


def _take_any(folder: str, protocol: str, host_ip: str, holder: str) -> int:
    """A free port of the kernel's choice."""
    for _ in range(_TRIES):
        port = _probe(protocol, host_ip, 0)
        try:
            leases.take_port(folder, protocol, host_ip, port, holder)
            return port
        except leases.Taken:
            continue
    raise NetworkError("no free port of the host was found", hint="name one with --publish")


def _refuse(protocol: str, host_ip: str, port: int, who: str) -> AlreadyExists:
    return AlreadyExists(
        f"cannot listen on the {protocol.upper()} port: listen {protocol} "
        f"{_show(host_ip, port)}: bind: address already in use: {who}",
        hint="choose another port of the host with --publish, or stop what has it",
    )


def _show(host_ip: str, port: int) -> str:
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"


def _probe(protocol: str, host_ip: str, port: int) -> int:
    """Bind once, to see whether a program of the host has the port; the port bound. OSError."""
    kind = _KINDS.get(protocol, _socket.SOCK_STREAM)
    six = bool(host_ip) and get_family(host_ip) == V6
    sock = _socket.socket(_socket.AF_INET6 if six else _socket.AF_INET, kind)
    try:
        if protocol == "tcp":
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if six:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if protocol == "sctp" and port:
            return port  # what listens there is not seen without the kernel's module
        sock.bind((host_ip, port))
        return int(sock.getsockname()[1])
    finally:
        sock.close()


def _is_only_ours(e: Engine, protocol: str, host_ip: str, port: int) -> bool:
    """Whether a port of all addresses is taken by nobody but the server of names on gateways of
    networks: the rules leave that one what it has."""
    if port != dns.PORT or host_ip not in ("", "0.0.0.0", "::"):
        return False
    gateways = {parse_address(gateway) for network in e.records.list_records("network")
                if network["dns"] for gateway in dns.network_gateways(network)}  # fmt: skip
    return gateways.issuperset(address for address, _ in _list_listening(protocol, port))


def _list_listening(protocol: str, port: int) -> Iterator[tuple[tuple[int, int], str]]:
    """(address as `parse_address` has it, inode) of the sockets that have a port of the host."""
    for family, suffix in ((V4, ""), (V6, "6")):
        try:
            with open(f"/proc/net/{protocol}{suffix}") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            address, _, number = words[1].rpartition(":")
            if int(number, 16) == port and (protocol != "tcp" or words[3] == _LISTEN):
                # Words of 32 bits in the order of the machine.
                swapped = b"".join(bytes.fromhex(address[at : at + 8])[::-1]
                                   for at in range(0, len(address), 8))  # fmt: skip
                yield (family, int.from_bytes(swapped, "big")), words[9]


def find_listener(protocol: str, port: int) -> str:
    """The program that has a port of the host, for a sentence; "" when it cannot be told."""
    inodes = {f"socket:[{inode}]" for _, inode in _list_listening(protocol, port)}
    for pid in filter(str.isdigit, os.listdir("/proc")) if inodes else ():
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            if inodes.intersection(links):
                with open(f"/proc/{pid}/comm") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return ""
