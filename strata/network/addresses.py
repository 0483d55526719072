"""Addresses and subnets as numbers, for IPv4 and IPv6 alike. Pure.

The standard ``ipaddress`` module takes longer to load than a container takes to be connected, so
what the way of ``run`` needs is here: parsing by inet_pton(3), and a prefix as two numbers.
"""

from __future__ import annotations

import _socket

V4 = 4
V6 = 6
_FAMILY = {V4: _socket.AF_INET, V6: _socket.AF_INET6}
_BITS = {V4: 32, V6: 128}


def parse_address(text: str) -> tuple[int, int]:
    """Family (`V4`, `V6`) and value of an address. ValueError when it is none."""
    family = V6 if ":" in text else V4
    try:
        packed = _socket.inet_pton(_FAMILY[family], text)
    except (OSError, ValueError):
        raise ValueError(f"invalid IP address: {text}") from None
    return family, int.from_bytes(packed, "big")


def pack_address(text: str) -> bytes:
    """An address in network byte order, 4 or 16 bytes. ValueError when it is none."""
    family, value = parse_address(text)
    return value.to_bytes(_BITS[family] // 8, "big")


def format_address(family: int, value: int) -> str:
    """The usual text of an address."""
    return _socket.inet_ntop(_FAMILY[family], value.to_bytes(_BITS[family] // 8, "big"))


def normalize(text: str) -> str:
    """The usual text of an address, of which IPv6 knows many. ValueError when it is none."""
    return format_address(*parse_address(text))


def get_family(text: str) -> int:
    """`V6` for a text with colons, else `V4`; for texts that were checked before."""
    return V6 if ":" in text else V4


class Subnet:
    """An address prefix: ``base`` is its first address as a number, ``prefix`` its length."""

    __slots__ = ("base", "family", "prefix")

    def __init__(self, family: int, value: int, prefix: int) -> None:
        self.family = family
        self.prefix = prefix
        self.base = value >> self._free << self._free

    @property
    def _free(self) -> int:
        return _BITS[self.family] - self.prefix

    @property
    def last(self) -> int:
        """The highest address, for IPv4 the one of the broadcast."""
        return self.base | ((1 << self._free) - 1)

    @property
    def text(self) -> str:
        return f"{format_address(self.family, self.base)}/{self.prefix}"

    def usable(self) -> tuple[int, int]:
        """First and last address a host may have."""
        if self._free <= 1:
            return self.base, self.last
        return self.base + 1, self.last - (1 if self.family == V4 else 0)

    def holds(self, family: int, value: int) -> bool:
        """Whether the address lies in it."""
        return family == self.family and self.base <= value <= self.last

    def overlaps(self, other: Subnet) -> bool:
        """Whether the two share an address."""
        return self.family == other.family and self.base <= other.last and other.base <= self.last


def parse_subnet(text: str) -> Subnet:
    """A prefix in CIDR form; bits of the host are dropped. ValueError."""
    address, slash, length = text.partition("/")
    family, value = parse_address(address)
    if not slash or not length.isdigit() or int(length) > _BITS[family]:
        raise ValueError(f"invalid CIDR address: {text}")
    return Subnet(family, value, int(length))
