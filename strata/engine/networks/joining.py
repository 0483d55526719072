"""What making, starting and ending a container asks of networks; little, for one without any.

Who makes one settles which networks it joins, and these stay there meanwhile. Who starts one has
it connected, and disconnected when the start fails. Whoever sees that one has ended disconnects it.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.errors import NotFound, StrataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.engine.networks.modes import Joined
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
    if config.get("publish_all"):
        from strata.network.ports import add_exposed

        config["ports"] = add_exposed(config["ports"], config["expose"])
    if config["network"] != "bridge":
        if ":" in config["network"]:
            from strata.engine.networks import modes

            modes.settle(e, config)
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
            _check_interface(network, item, chosen)
            check_item(network, item)
            chosen.append({"aliases": [], "ips": [], "mac": "", "interface": "", **item,
                           "name": network["name"], "id": network["id"]})  # fmt: skip
        config["networks"] = chosen
    except BaseException:
        held.release()
        raise
    return Settled(held)


def _check_interface(network: Record, item: Record, others: list[Record]) -> None:
    """Refuse a name for two interfaces of one container. `UsageError`."""
    for other in others:
        if item.get("interface") and item["interface"] == other["interface"]:
            raise UsageError(
                f"the interface name {item['interface']} is given to network {other['name']} "
                f"already, and again to network {network['name']}",
                hint="give each its own interface_name, or leave it out",
            )


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

    __slots__ = ("_begun", "_e", "_joined", "_record")

    def __init__(self, e: Engine, record: Record) -> None:
        self._e = e
        self._record = record
        self._begun = False
        self._joined: Joined | None = None

    def connect(self, wanted: list[Record] | None = None) -> str:
        """Connect the container; the path of its namespace, "" when it is the host's or new.

        ``wanted`` stands for the settings of its networks this one time.
        """
        if self._record["config"]["network"] in ("host", "none"):
            return ""
        from strata.engine.networks import modes

        self._begun = True
        record = self._record
        if wanted is not None:
            record = {**record, "config": {**record["config"], "networks": wanted}}
        self._joined = modes.join(self._e, record)
        return self._joined.netns

    def make_files(self, hostname: str) -> dict[str, str]:
        """The files about names, as far as they are not those of a container without networks."""
        if self._joined is None and not _asks_for_names(self._record["config"]):
            return {}
        from strata.engine.networks import modes

        return modes.make_files(self._e, self._record, self._joined, hostname)

    def describe_ports(self) -> Record:
        """For the state of a record: the ports it has now, with those the engine chose."""
        state = self._joined.state if self._joined is not None else None
        return {"ports": state["ports"]} if state is not None and state["ports"] else {}

    def use_image(self, hostname: str, read: Callable[[str], str]) -> None:
        """Make /etc/hosts from the image's, now that it is mounted, when that was asked for."""
        if self._record["config"].get("hosts_file") == "image":
            from strata.engine.networks import modes

            made = modes.make_files(self._e, self._record, self._joined, hostname,
                                    image_hosts=read("/etc/hosts"))  # fmt: skip
            modes.write_file(f"{self._e.paths.bundle(self._record['id'])}/hosts", made["hosts"])

    def wait_names(self) -> None:
        """Wait until the container's names are served; they normally are."""
        if self._joined is not None and self._joined.zones:
            from strata.network import dns

            warning = dns.wait_answering(self._joined.zones)
            if warning:
                os.write(2, f"WARN: {warning}\n".encode())

    def __enter__(self) -> Connecting:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Not what a running container has, which somebody tried to start again.
        if kind is not None and self._begun:
            disconnect(self._e, self._record)


def _asks_for_names(config: Record) -> bool:
    """Whether a container without networks of its own has wishes about its files of names."""
    keys = ("dns", "dns_search", "dns_option", "hosts_file")
    return any(config.get(key) for key in keys) or any(
        text.endswith(":host-gateway") for text in config["add_hosts"]
    )


def disconnect(e: Engine, record: Record) -> None:
    """Give back what a container that does not run holds of networks. Idempotent, never fails:
    what cannot be given back keeps its sign, and the check finds it. The caller has the lock."""
    if os.path.lexists(e.paths.netns(record["id"])):
        from strata.engine.networks import modes

        try:
            modes.leave(e, record)
        except (StrataError, OSError):
            return


def follow(e: Engine, record: Record) -> None:
    """Serve a running container by its present name. The caller has its lock."""
    if record["config"]["network"] == "bridge" and os.path.lexists(e.paths.netns(record["id"])):
        from strata.engine.networks import modes

        modes.follow(e, record)
