"""Which networks a container being made joins: names become records that stay there meanwhile."""

from __future__ import annotations

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


def settle(e: Engine, config: Record) -> Lock | None:
    """Put ids and names of records into ``config["networks"]``; none named means the default.

    Returns the lock that keeps them there until the container's record says so, None when the
    container joins none. `NotFound`, `UsageError`.
    """
    if config["network"] != "bridge":
        return None
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
    return held


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
