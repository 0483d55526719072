"""Who has which address and which port of the host, as symbolic links below the run directory.

``net/leases/<network id>/<address>`` and ``net/ports/<protocol>/<host address>/<port>`` hold the
id of a container. Making a link fails when it is there, so of commands that want the same one
gets it, without a lock. A reboot forgets them together with the namespaces they stood for.
"""

from __future__ import annotations

import os

from strata.network.addresses import Subnet, format_address, get_family, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LAST = ".last"
ANY = "any"
_WILDCARDS = frozenset((ANY, "0.0.0.0", "::"))


class Taken(Exception):
    """Somebody has it; ``holder`` is the id of that container."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class Exhausted(Exception):
    """No address of the range is free."""


def take(path: str, holder: str) -> None:
    """Take one lease; taking one's own again is fine. `Taken`."""
    try:
        os.symlink(holder, path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        take(path, holder)
    except FileExistsError:
        other = find_holder(path)
        if other is None:
            take(path, holder)
        elif other != holder:
            raise Taken(other) from None


def find_holder(path: str) -> str | None:
    """The container that has the lease, or None."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def release(path: str, holder: str) -> None:
    """Give a lease up, if it is the holder's. Idempotent."""
    if find_holder(path) == holder:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


def allocate(folder: str, first: int, last: int, taken: frozenset[int], holder: str,
             family: int) -> str:  # fmt: skip
    """Take the next free address from ``first`` to ``last``; return its text. `Exhausted`.

    It goes round from the address given out last, so that one just freed rests as long as it can:
    its old owner's link may take a moment to go. ``taken`` are addresses never to give out.
    """
    os.makedirs(folder, 0o700, exist_ok=True)
    memory = f"{folder}/{_LAST}{family}"
    start = first
    previous = find_holder(memory)
    if previous is not None:
        start = parse_address(previous)[1] + 1
    if not first <= start <= last:
        start = first
    value = start
    while True:
        if value not in taken:
            text = format_address(family, value)
            try:
                os.symlink(holder, f"{folder}/{text}")
            except FileExistsError:
                pass
            else:
                _remember(memory, text, holder)
                return text
        value = value + 1 if value < last else first
        if value == start:
            raise Exhausted


def _remember(memory: str, text: str, holder: str) -> None:
    temporary = f"{memory}-{holder[:12]}"
    try:
        os.symlink(text, temporary)
        os.rename(temporary, memory)
    except OSError:
        return  # only a hint where to begin


def find_range(subnet: Subnet, lease_range: dict[str, str] | None) -> tuple[int, int]:
    """First and last address that may be given out; the range cut to what hosts may have."""
    first, last = subnet.usable()
    if lease_range:
        if lease_range.get("start"):
            first = max(first, parse_address(lease_range["start"])[1])
        if lease_range.get("end"):
            last = min(last, parse_address(lease_range["end"])[1])
    return first, last


def list_leases(folder: str) -> Iterator[tuple[str, str]]:
    """(address or port, holder) of every lease in a folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith("."):
            holder = find_holder(f"{folder}/{name}")
            if holder is not None:
                yield name, holder


def take_port(folder: str, protocol: str, host_ip: str, port: int, holder: str) -> None:
    """Take a port of the host for a container. `Taken`.

    As with sockets, one on all addresses and one on a single address exclude each other.
    """
    wanted = host_ip or ANY
    path = f"{folder}/{protocol}/{wanted}/{port}"
    take(path, holder)
    for other in os.listdir(f"{folder}/{protocol}"):
        if other != wanted and _collide(wanted, other):
            there = find_holder(f"{folder}/{protocol}/{other}/{port}")
            if there is not None and there != holder:
                release(path, holder)
                raise Taken(there)


def _collide(one: str, other: str) -> bool:
    """Whether two different host addresses stand for a common one."""
    if ANY in (one, other):
        return True
    same = get_family(one) == get_family(other)
    return same and (one in _WILDCARDS or other in _WILDCARDS)


def release_port(folder: str, protocol: str, host_ip: str, port: int, holder: str) -> None:
    """Give a port of the host up. Idempotent."""
    release(f"{folder}/{protocol}/{host_ip or ANY}/{port}", holder)


def list_ports(folder: str) -> Iterator[tuple[str, str, int, str]]:
    """(protocol, host address or "", port, holder) of every port that is taken."""
    for protocol in _list(folder):
        for host_ip in _list(f"{folder}/{protocol}"):
            for name, holder in list_leases(f"{folder}/{protocol}/{host_ip}"):
                yield protocol, "" if host_ip == ANY else host_ip, int(name), holder


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
