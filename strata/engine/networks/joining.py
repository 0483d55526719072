"""What making, starting and ending a container asks of networks; little, for one without any.

Who makes one settles which networks it joins, and these stay there meanwhile. Who starts one has
it connected, and disconnected when the start fails. Whoever sees that one has ended disconnects it.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.linux.locks import Lock

DEFAULT_NAME = "strata"
#: what else stands for the default network, unless a network has that name
_ALIASES = frozenset(("podman", "bridge", "default"))


def find_network(e: Engine, text: str) -> Record | None:
    """The network a user means by name, id or prefix; None when there is none.

    The default one is not made by looking for it.
    """
    try:
        return e.records.get("network", e.records.resolve("network", text))
    except NotFound:
        if text not in _ALIASES:
            return None
    found = e.records.find_name("network", DEFAULT_NAME)
    return e.records.find("network", found) if found else None


def is_default(text: str) -> bool:
    """Whether a name stands for the default network (if no other has it)."""
    return text == DEFAULT_NAME or text in _ALIASES


def get_network(e: Engine, text: str) -> Record:
    """The network a user means; the default one is made when it is not there. `NotFound`."""
    found = find_network(e, text)
    if found is None and is_default(text):
        from strata.engine.networks import verbs

        verbs.ensure_default(e)
        found = find_network(e, text)
    if found is None:
        raise NotFound(
            f'unable to find network with name or ID "{text}": network not found',
            hint="`strata network ls` lists them",
        )
    return found


class Settled:
    """The networks of a container that is being made: they cannot be removed in this block."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Lock | None) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


def settle(e: Engine, config: Record) -> Settled:
    """Put ids and names of records into ``config["networks"]``; none named means the default.

    They stay there as long as the caller is in the block. `NotFound`, `UsageError`.
    """
    if config["network"] != "bridge":
        return Settled(None)
    wanted = config["networks"] or [{"name": DEFAULT_NAME}]
    for item in wanted:
        get_network(e, item["name"])
    held = e.lock_networks(shared=True)
    try:
        chosen: list[Record] = []
        for item in wanted:
            network = get_network(e, item["name"])
            if any(other["id"] == network["id"] for other in chosen):
                raise UsageError(f"network {network['name']} is given twice")
            check_item(network, item)
            chosen.append({"aliases": [], "ips": [], "mac": "", "interface": "", **item,
                           "name": network["name"], "id": network["id"]})  # fmt: skip
        config["networks"] = chosen
    except BaseException:
        held.release()
        raise
    return Settled(held)


def check_item(network: Record, item: Record) -> None:
    """Whether a network can give what is asked of it. `UsageError`."""
    from strata.network.addresses import parse_address, parse_subnet

    subnets = [parse_subnet(subnet["subnet"]) for subnet in network["subnets"]]
    for text in item.get("ips") or ():
        if not any(subnet.holds(*parse_address(text)) for subnet in subnets):
            raise UsageError(
                f"requested static ip {text} not in any subnet on network {network['name']}",
                hint=f"its subnets are {', '.join(subnet.text for subnet in subnets) or 'none'}",
            )


class Connecting:
    """The block in which a container starts: when it fails, what it held of networks is free."""

    __slots__ = ("_begun", "_e", "_record")

    def __init__(self, e: Engine, record: Record) -> None:
        self._e = e
        self._record = record
        self._begun = False

    def connect(self) -> str:
        """Connect the container; the path of its namespace, "" when its networks are not ours."""
        if self._record["config"]["network"] != "bridge":
            return ""
        from strata.engine.networks import attach

        self._begun = True
        return attach.attach(self._e, self._record).netns

    def __enter__(self) -> Connecting:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._begun:
            disconnect(self._e, self._record)


def disconnect(e: Engine, record: Record) -> None:
    """Give back what a container that does not run holds of networks. Idempotent."""
    if os.path.lexists(e.paths.netns(record["id"])):
        from strata.engine.networks import attach

        attach.detach(e, record)
