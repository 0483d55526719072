"""Messages to the kernel about links and rules, for what every container needs.

A program like ``ip`` or ``nft`` takes longer to load than the kernel takes to do what it asks for.
So the few changes that come with a container are asked for here; what happens once per network
goes through those programs. A `Channel` belongs to the network namespace it was opened in, whoever
uses it later. netlink(7), rtnetlink(7), ``include/uapi/linux/{if_link,rtnetlink}.h`` and
``netfilter/nf_tables.h``.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    #: type, flags, body
    Message = tuple[int, int, bytes]
    #: map, key, value: each a row of numbers, addresses, ports as bytes
    Element = tuple[str, Sequence[bytes], Sequence[bytes]]

ROUTE, NETFILTER = 0, 12

_HEADER = struct.Struct("=IHHII")
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_HAS_TEXT = 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_NESTED = 0x8000
_LIMIT = 10.0

# links, addresses, routes
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 18, 20, 24
_LINK = struct.Struct("=BxHiII")
_UP = 1
_ADDRESS, _NAME, _MTU, _PARENT, _MASTER, _INFO, _AF_SPEC, _NETNS = 1, 3, 4, 5, 10, 18, 26, 28
_INFO_KIND, _INFO_DATA, _INFO_PORT_KIND, _INFO_PORT_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_MODE = 1
_PORT_HAIRPIN, _PORT_ISOLATED = 4, 33
_GENERATE_ADDRESS, _GENERATE_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_NODAD = 2
_ROUTE_TO, _ROUTE_LINK, _ROUTE_GATEWAY, _ROUTE_METRIC = 1, 4, 5, 6
_MAIN_TABLE, _BOOT, _UNICAST, _SCOPE_LINK = 254, 3, 1, 253
_MODES = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
}

# tables
_TABLES = 10 << 8
_GET_TABLE, _NEW_ELEMENT, _DROP_ELEMENT = _TABLES | 1, _TABLES | 12, _TABLES | 14
_NEW_TABLE = _TABLES
_BEGIN, _END = 0x10, 0x11
_INET = 1
_TABLE_NAME = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEMENT, _KEY, _DATA, _VALUE = 1, 1, 2, 1
#: as many fit a message, whose attributes count their bytes in 16 bits
_ELEMENTS = 400


class Refused(OSError):
    """The kernel does not do it; in its own words, if it has some."""

    #: which of the messages
    position = 0


_left: list[_socket.socket] = []


class Channel:
    """A socket to the kernel's `ROUTE` or `NETFILTER`, of the namespace of who opened it."""

    __slots__ = ("_sequence", "_sock")

    def __init__(self, family: int) -> None:
        self._sock = _socket.socket(
            _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, family
        )
        self._sock.settimeout(_LIMIT)
        self._sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock not in _left:
            self._sock.close()

    def leave(self) -> None:
        """Have it closed when the process ends, or when another one is left.

        Closing a channel to `NETFILTER` waits until the kernel has freed what was deleted, some ten
        milliseconds after it is gone for everybody (nft_rcv_nl_event in net/netfilter). A copy of
        this process (`strata.linux.detached`) has a copy of the channel, and then the wait is its.
        """
        while _left:
            _left.pop().close()
        _left.append(self._sock)

    def change(self, messages: Sequence[Message]) -> None:
        """Ask for changes, one after the other. `Refused` for the first that is; those behind it
        may have been done."""
        first = self._sequence + 1
        self._send([(kind, flags | _ACK, body) for kind, flags, body in messages])
        waiting = len(messages)
        refused: Refused | None = None
        while waiting:
            for kind, _, sequence, answer in self._receive():
                if kind == _ERROR and sequence >= first:
                    waiting -= 1
                    refused = refused or _as_error(answer, sequence - first)
        if refused is not None:
            raise refused

    def change_at_once(self, messages: Sequence[Message]) -> None:
        """Ask for changes of tables: all or none. `Refused`."""
        whole = struct.pack(">BBH", 0, 0, _TABLES >> 8)
        first = self._sequence + 2
        last = first + len(messages) - 1
        self._send([(_BEGIN, 0, whole), *((kind, flags | _ACK, body)
                    for kind, flags, body in messages), (_END, 0, whole)])  # fmt: skip
        while True:
            for kind, _, sequence, answer in self._receive():
                if kind != _ERROR:
                    continue
                refused = _as_error(answer, max(sequence - first, 0))
                if refused is not None:
                    raise refused
                if sequence == last:
                    return

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Type and body of the one answer to a question. `Refused`."""
        self._send([(kind, 0, body)])
        while True:
            for answered, _, sequence, answer in self._receive():
                if sequence != self._sequence:
                    continue
                if answered == _ERROR:
                    raise _as_error(answer, 0) or Refused("the kernel gave no answer")
                return answered, answer

    def _send(self, messages: Iterable[Message]) -> None:
        whole = b""
        for kind, flags, body in messages:
            self._sequence += 1
            whole += _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST,
                                  self._sequence, 0) + body  # fmt: skip
        self._sock.send(whole)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, body) of the answers of one datagram."""
        data = self._sock.recv(65536)
        found = []
        while len(data) >= _HEADER.size:
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data)
            found.append((kind, flags, sequence, data[_HEADER.size : size]))
            data = data[(size + 3) & ~3 :]
        return found


def _as_error(answer: bytes, position: int) -> Refused | None:
    """What the kernel answered; None when it did as asked."""
    number = -struct.unpack_from("=i", answer)[0]
    if number == 0:
        return None
    text = os.strerror(number)
    for kind, value in _attributes(answer[4 + _HEADER.size :]):
        if kind == 1:
            text = value.rstrip(b"\0").decode(errors="replace")
    refused = Refused(number, text)
    refused.position = position
    return refused


def _attributes(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if size < 4:
            break
        found.append((kind & 0x3FFF, data[4:size]))
        data = data[(size + 3) & ~3 :]
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _nest(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(attributes))


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


# -- links -----------------------------------------------------------------------------------------


def find_link(channel: Channel, name: str) -> int:
    """The index of a link in a channel's namespace. `Refused`."""
    _, answer = channel.ask(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0) + _text(_NAME, name))
    index: int = _LINK.unpack_from(answer)[2]
    return index


def add_veth(
    name: str, master: int, netns: int, peer: str, mac: bytes, mtu: int = 0
) -> Message:  # fmt: skip
    """Make a pair: one end on a bridge, the other as ``peer`` in the namespace of a descriptor."""
    size = _number(_MTU, mtu) if mtu else b""
    other = (_LINK.pack(0, 0, 0, 0, 0) + _text(_NAME, peer) + _number(_NETNS, netns)
             + _attribute(_ADDRESS, mac) + size)  # fmt: skip
    kind = _nest(_INFO, _text(_INFO_KIND, "veth"), _nest(_INFO_DATA, _attribute(_VETH_PEER, other)))
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(_NAME, name) + size + _number(_MASTER, master) + kind
    return _NEW_LINK, _CREATE | _EXCLUSIVE, body


def add_child(
    driver: str, mode: str, name: str, parent: int, netns: int, mac: bytes = b"", mtu: int = 0
) -> Message:  # fmt: skip
    """Make a macvlan or ipvlan link of a parent, at once in the namespace of a descriptor."""
    number = _MODES[driver][mode]
    value = struct.pack("=I" if driver == "macvlan" else "=H", number)
    kind = _nest(_INFO, _text(_INFO_KIND, driver), _nest(_INFO_DATA, _attribute(_MODE, value)))
    body = _LINK.pack(0, 0, 0, 0, 0) + _number(_PARENT, parent) + _text(_NAME, name)
    body += _number(_NETNS, netns) + (_attribute(_ADDRESS, mac) if mac else b"")
    return _NEW_LINK, _CREATE | _EXCLUSIVE, body + (_number(_MTU, mtu) if mtu else b"") + kind


def set_port(name: str, *, hairpin: bool, isolated: bool) -> Message:
    """Bring up the end of a link on a bridge, without an address of its own."""
    port = _attribute(_PORT_HAIRPIN, bytes([hairpin])) + _attribute(
        _PORT_ISOLATED, bytes([isolated])
    )
    kind = _nest(_INFO, _text(_INFO_PORT_KIND, "bridge"), _nest(_INFO_PORT_DATA, port))
    never = _attribute(_GENERATE_ADDRESS, bytes([_GENERATE_NONE]))
    silent = _nest(_AF_SPEC, _nest(_socket.AF_INET6, never))
    return _NEW_LINK, 0, _LINK.pack(0, 0, 0, _UP, _UP) + _text(_NAME, name) + silent + kind


def set_up(index: int) -> Message:
    """Bring a link up."""
    return _NEW_LINK, 0, _LINK.pack(0, 0, index, _UP, _UP)


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """Give a link an address: IPv4 with the subnet's broadcast, IPv6 usable at once."""
    six = len(address) == 16
    family = _socket.AF_INET6 if six else _socket.AF_INET
    body = struct.pack("=BBBBi", family, prefix, _NODAD if six else 0, 0, index)
    body += _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
    if not six and prefix < 31:
        all_ones = int.from_bytes(address, "big") | (1 << 32 - prefix) - 1
        body += _attribute(_IFA_BROADCAST, all_ones.to_bytes(4, "big"))
    return _NEW_ADDRESS, _CREATE | _EXCLUSIVE, body


def add_route(
    destination: bytes, prefix: int, gateway: bytes, metric: int, index: int = 0
) -> Message:  # fmt: skip
    """Add a route; through the link of the gateway when ``index`` names none."""
    family = _socket.AF_INET6 if len(destination) == 16 else _socket.AF_INET
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, _MAIN_TABLE, _BOOT,
                       0 if gateway else _SCOPE_LINK, _UNICAST, 0)  # fmt: skip
    body += _attribute(_ROUTE_TO, destination) if prefix else b""
    body += _attribute(_ROUTE_GATEWAY, gateway) if gateway else b""
    body += _number(_ROUTE_LINK, index) if index else b""
    return _NEW_ROUTE, _CREATE | _EXCLUSIVE, body + _number(_ROUTE_METRIC, metric)


# -- tables ----------------------------------------------------------------------------------------


def has_table(channel: Channel, name: str) -> bool:
    """Whether there is an ``inet`` table of that name. `Refused` when the kernel cannot tell."""
    body = struct.pack("=BBH", _INET, 0, 0) + _text(_TABLE_NAME, name)
    try:
        return channel.ask(_GET_TABLE, body)[0] == _NEW_TABLE
    except Refused as refused:
        if refused.errno == errno.ENOENT:
            return False
        raise


def change_elements(table: str, elements: Sequence[Element], *, add: bool) -> list[Message]:
    """Add elements to maps of an ``inet`` table, or remove those with these keys."""
    by_map: dict[str, list[bytes]] = {}
    for name, key, value in elements:
        parts = [_nest(_KEY, _attribute(_VALUE, _row(key)))]
        if add:
            parts.append(_nest(_DATA, _attribute(_VALUE, _row(value))))
        by_map.setdefault(name, []).append(_nest(_LIST_ELEMENT, *parts))
    head = struct.pack("=BBH", _INET, 0, 0) + _text(_LIST_TABLE, table)
    kind, flags = (_NEW_ELEMENT, _CREATE) if add else (_DROP_ELEMENT, 0)
    return [
        (kind, flags, head + _text(_LIST_SET, name)
         + _nest(_LIST_ELEMENTS, *encoded[start : start + _ELEMENTS]))
        for name, encoded in by_map.items() for start in range(0, len(encoded), _ELEMENTS)
    ]  # fmt: skip


def _row(values: Sequence[bytes]) -> bytes:
    """Values side by side, as in the kernel's registers of four bytes."""
    return b"".join(value + b"\0" * (-len(value) % 4) for value in values)
