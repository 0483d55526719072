"""Connecting running containers to further networks and disconnecting them.

Both begin with a journal entry that names container and network. What a killed command leaves is
settled by looking at the container's record alone: a network that it does not list is taken away,
with link, addresses and ports.
"""

from __future__ import annotations

from strata import trace
from strata.engine import events
from strata.engine.core import Engine, Record
from strata.engine.networks import attach, host, joining
from strata.errors import AlreadyExists, NotFound, StrataError, UsageError
from strata.linux import network as kernel
from strata.network import act, leases, nft, plan
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.network.plan import Link


def connect(e: Engine, record: Record, name: str, item: Mapping[str, object] | None = None) -> None:
    """Connect a container to one more network, at once when it runs.

    ``item`` has any of ``aliases``, ``ips``, ``mac``, ``interface``. `AlreadyExists` when it is
    connected already.
    """
    network = joining.get_network(e, name)
    e.recover()
    # The container is let go before what was begun is taken back: that needs its lock.
    with (
        e.lock_networks(shared=True),
        e.journal.begin(
            "network-connect", ["settle-connection", record["id"], network["id"]]
        ) as operation,
        e.hold(record) as fresh,
    ):
        record = fresh
        network = joining.get_network(e, network["id"])
        _check_mode(record)
        config = record["config"]
        if any(other["id"] == network["id"] for other in config["networks"]):
            raise AlreadyExists(
                f"container {record['name']} is already connected to network "
                f'"{network["name"]}": network is already connected'
            )
        joining.check_item(network, dict(item or {}))
        wanted = {"aliases": [], "ips": [], "mac": "", "interface": "", **(item or {}),
                  "name": network["name"], "id": network["id"]}  # fmt: skip
        if lifecycle.derive(record) in lifecycle.LIVE:
            ports = _plug_in(e, record, network, wanted)
            record["state"] |= {"ports": ports} if ports else {}
        config["networks"].append(wanted)
        _save(e, record)
        trace.point("network-connect:recorded")
        operation.replace()
        _follow(e, record)
    _emit(e, "connect", record, network)


def disconnect(e: Engine, record: Record, name: str, *, force: bool = False) -> None:
    """Disconnect a container from a network, at once when it runs. `NotFound`."""
    e.recover()
    _check_mode(record)
    network = joining.find_network(e, name)
    network_id = _find_item(e, record, name, network)["id"]
    with (
        e.journal.begin("network-disconnect", ["settle-connection", record["id"], network_id]),
        e.hold(record) as fresh,
    ):
        record = fresh
        _check_mode(record)
        item = _find_item(e, record, name, network)
        record["config"]["networks"].remove(item)
        _save(e, record)
        trace.point("network-disconnect:recorded")
        _unplug(e, record, item["id"])
        _follow(e, record)
    _emit(e, "disconnect", record, network or {"id": item["id"], "name": item["name"]})


def _find_item(e: Engine, record: Record, name: str, network: Record | None) -> Record:
    """How a container is connected to a network, which may be gone. `NotFound`."""
    items: list[Record] = record["config"].get("networks") or []
    for item in items:
        if item["name"] == name or (network and item["id"] == network["id"]):
            return item
    if network is None:
        joining.get_network(e, name)
    raise NotFound(
        f'container {record["name"]} is not connected to network "{name}": network is not connected'
    )


def _check_mode(record: Record) -> None:
    mode = record["config"]["network"]
    if mode != "bridge":
        raise UsageError(
            f'"{mode}" is not supported: invalid network mode',
            hint=f"container {record['name']} was not made with networks of its own",
        )


def _save(e: Engine, record: Record) -> None:
    from strata.engine.containers.create import save

    save(e, record)


def _follow(e: Engine, record: Record) -> None:
    from strata.engine.networks import modes

    modes.follow(e, record)


def _emit(e: Engine, status: str, record: Record, network: Record) -> None:
    events.emit(e, events.NETWORK, status, id=record["id"], network=network["name"])


def settle_connection(e: Engine, container_id: str, network_id: str) -> None:
    """Take a network away from a container whose record does not list it. Idempotent."""
    record = e.records.find("container", container_id)
    if record is None:
        return
    with e.hold_if_there(record) as record:
        if record is None:
            return
        if any(item["id"] == network_id for item in record["config"]["networks"]):
            return
        _unplug(e, record, network_id)
        _follow(e, record)


# -- links -----------------------------------------------------------------------------------------


def _plug_in(e: Engine, record: Record, network: Record, item: Record) -> list[Record]:
    """Make the link of a running container to one more network; the ports it has by then."""
    state = host.find_state(e, record["id"])
    if state is None:
        return []
    links = list_links(e, state)
    try:
        attachment = attach.lease(e, record, network, item, links)
        trace.point("network-connect:leased")
        joined: list[Link] = [*links, (network, attachment)]
        new: Record = {**state, "networks": {**state["networks"], network["name"]: attachment}}
        attach.write_state(e, record, new)
        trace.point("network-connect:planned")
        with host.Holding(e, [network]):
            _link(state["netns"], [(network, attachment)])
            trace.point("network-connect:linked")
        targets = attach.find_targets(joined)
        if any(targets) and not any(state["targets"]) and not new["ports"]:
            # The first network with a way in.
            networks = [one for one, _ in [*links, (network, attachment)]]
            new["ports"] = attach.take_ports(e, record, networks, targets)
            trace.point("network-connect:ports-taken")
        _move_ports(e, record, new, joined)
    except BaseException:
        _unplug(e, record, network["id"])
        raise
    published: list[Record] = new["ports"]
    return published


def _link(netns: str, links: Sequence[Link]) -> None:
    act.make_links(plan.host_side(links), netns)
    with act.open_inside(netns) as inside:
        act.change_links(inside, plan.inside(links, loopback=False))


def list_links(e: Engine, state: Record) -> list[tuple[Record, Record]]:
    """The networks of an attached container, as far as they have records."""
    found: list[tuple[Record, Record]] = []
    for attachment in state["networks"].values():
        network = e.records.find("network", attachment["id"])
        if network is not None:
            found.append((network, attachment))
    return found


def _move_ports(e: Engine, record: Record, state: Record, links: Sequence[Link]) -> None:
    """Let published ports lead to where the container can be reached now."""
    targets = attach.find_targets(links)
    if targets == state["targets"]:
        return
    with e.lock_links(shared=True):
        old = nft.plan_ports(state["ports"], *state["targets"])
        new = nft.plan_ports(state["ports"], *targets)
        state["targets"] = targets
        attach.write_state(e, record, state)
        attach.publish_ports(e, new, old)


def _unplug(e: Engine, record: Record, network_id: str) -> None:
    """Remove a container's link to a network, its addresses there, its state, and leases of ports
    that did not get into that. Idempotent."""
    folder = host.lease_folder(e, network_id)
    state = host.find_state(e, record["id"])
    if state is not None:
        for name, attachment in list(state["networks"].items()):
            if attachment["id"] != network_id:
                continue
            if kernel.find_link(attachment["host_interface"]) is not None:
                act.run(act.IP, plan.link_down(attachment["host_interface"]))
            trace.point("network-disconnect:unlinked")
            left = {key: value for key, value in state["networks"].items() if key != name}
            state["networks"] = left
            _move_ports(e, record, state, list_links(e, state))
            attach.write_state(e, record, state)
    for address, holder in list(leases.list_leases(folder)):
        if holder == record["id"]:
            leases.release(f"{folder}/{address}", holder)
    had = {(port["protocol"], port["host_ip"], port["host_port"] + offset)
           for port in (state["ports"] if state is not None else ())
           for offset in range(port["range"])}  # fmt: skip
    ports = f"{e.paths.net}/ports"
    for protocol, host_ip, number, holder in list(leases.list_ports(ports)):
        if holder == record["id"] and (protocol, host_ip, number) not in had:
            leases.release_port(ports, protocol, host_ip, number, holder)


def plug_anew(e: Engine, record: Record) -> None:
    """Make links of a running container that somebody removed by hand. Idempotent."""
    with e.lock_container(record["id"], name=record["name"]):
        state = host.find_state(e, record["id"])
        if state is None:
            return
        links = list_links(e, state)
        with host.Holding(e, [network for network, _ in links]):
            for link in links:
                if plan.is_bridge(link[0]) and kernel.find_link(link[1]["host_interface"]) is None:
                    try:
                        _link(state["netns"], [link])
                    except StrataError:
                        continue
