"""Published and exposed ports, as values and as people and clients read them. Pure.

A port is ``{"host_ip", "host_port", "container_port", "protocol", "range"}``: ``range`` ports
beginning with these two numbers; an empty address means all of the host's; a host port of 0 one
that is chosen when the container starts. An exposed port is a text like ``80/tcp``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Port = dict[str, Any]
    #: host address or "", host port, container port, protocol
    Single = tuple[str, int, int, str]


def expand(ports: Iterable[Mapping[str, Any]]) -> Iterator[Single]:
    """Each single port of all ranges."""
    for port in ports:
        for offset in range(port["range"]):
            host = port["host_port"] + offset if port["host_port"] else 0
            yield port["host_ip"], host, port["container_port"] + offset, port["protocol"]


def add_exposed(ports: Sequence[Port], exposed: Iterable[str]) -> list[Port]:
    """``--publish-all``: the ports with one of the engine's choice for each of ``exposed``
    (``80/tcp``) that is not published yet. Pure."""
    there = {(number, protocol) for _, _, number, protocol in expand(ports)}
    added: list[Port] = []
    for text in exposed:
        number, protocol = split_exposed(text)
        if (number, protocol) not in there:
            added.append({"host_ip": "", "host_port": 0, "container_port": number,
                          "protocol": protocol, "range": 1})  # fmt: skip
    return [*ports, *added]


def split_exposed(text: str) -> tuple[int, str]:
    """``80/udp`` as number and protocol; without a protocol it is tcp."""
    number, _, protocol = text.partition("/")
    return int(number), protocol or "tcp"
