"""Connecting a container to its networks before it runs, and giving back what that took.

The order is what makes it safe to be killed anywhere: first the file its namespace will be pinned
at, as the sign that something may be held; then addresses and ports, each a link with the id of
the container; then all of it is written down; only then links and rules. Whoever finds the
sign (the next start, the settling, a removal, ``system check``) gives everything back.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine.core import Engine, Record
from strata.engine.networks import host
from strata.errors import AlreadyExists, NetworkError, NotFound, UsageError
from strata.linux import network as kernel
from strata.linux.tree import remove_file
from strata.network import act, leases, nft, plan
from strata.network.addresses import V4, V6, get_family, normalize, parse_address, parse_subnet
from strata.store import files, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strata.network.plan import Link


class Attached:
    """An attached container: the path of its namespace, and what is written down of it."""

    __slots__ = ("netns", "state")

    def __init__(self, netns: str, state: Record) -> None:
        self.netns = netns
        self.state = state


def wants(record: Record) -> bool:
    """Whether a container gets a namespace with networks of ours."""
    return str(record["config"]["network"]) == "bridge"


def attach(e: Engine, record: Record, announce: Callable[[Record], object]) -> Attached:
    """Connect a container that is about to start. The caller has its lock.

    ``announce`` gets what is written down of it once its networks are up, before its own links
    are: names take a moment to be served.
    `NotFound` when a network is gone, `AlreadyExists` when an address or port is taken,
    `NetworkError`. When it fails nothing stays.
    """
    detach(e, record)
    config = record["config"]
    networks = [_get_network(e, item) for item in config["networks"]]
    pin = e.paths.netns(record["id"])
    make_sign(pin)
    trace.point("attach:begun")
    try:
        links: list[Link] = []
        for network, item in zip(networks, config["networks"], strict=True):
            links.append((network, lease(e, record, network, item, links)))
        trace.point("attach:leased")
        targets = find_targets(links)
        ports = take_ports(e, record, networks, targets)
        state: Record = {
            "netns": pin, "mode": "bridge",
            "networks": {network["name"]: attachment for network, attachment in links},
            "ports": ports, "targets": targets,
        }  # fmt: skip
        write_state(e, record, state)
        trace.point("attach:recorded")
        with host.Holding(e, networks):
            announce(state)
            _connect(e, pin, links, nft.plan_ports(ports, *targets))
    except BaseException:
        detach(e, record)
        raise
    trace.point("attach:done")
    return Attached(pin, state)


def make_sign(pin: str) -> None:
    """Make the file that a namespace is to be pinned at."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(pin, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(pin), 0o700, exist_ok=True)
        fd = os.open(pin, flags, 0o600)
    os.close(fd)


def write_state(e: Engine, record: Record, state: Record) -> None:
    """Write down what a container holds."""
    path = host.state_path(e, record["id"])
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.write_json(path, state, durable=False)


def _get_network(e: Engine, item: Record) -> Record:
    network = e.records.find("network", item["id"])
    if network is None:
        raise NotFound(
            f'unable to find network with name or ID "{item["name"]}": network not found',
            hint="it was removed: `strata trash restore` where it is in the trash, else "
            f"`strata network disconnect {item['name']} CONTAINER`, and `strata network connect` "
            "for another one",
        )
    return network


def _connect(e: Engine, pin: str, links: list[Link], ports: list[nft.Port]) -> None:
    """Namespace, links and rules."""
    with act.make_inside(pin) as inside:
        trace.point("attach:namespace-made")
        act.make_links(plan.host_side(links), pin)
        trace.point("attach:links-made")
        act.change_links(inside, plan.inside(links))
    publish_ports(e, ports)


def publish_ports(e: Engine, ports: Sequence[nft.Port], old: Sequence[nft.Port] = ()) -> None:
    """Put ports into the table, and take others out. The caller shares the links' lock."""
    try:
        act.change_ports(host.get_table(e), old, add=False)
        act.change_ports(host.get_table(e), ports, add=True)
    except OSError:
        # The table is not as it should be: write it anew.
        act.run(act.NFT, host.table_text(e))


# -- addresses -------------------------------------------------------------------------------------


def lease(
    e: Engine, record: Record, network: Record, item: Mapping[str, object], links: Sequence[Link]
) -> Record:  # fmt: skip
    """Take a container's addresses on one network; the attachment that is planned."""
    folder = host.lease_folder(e, network["id"])
    wanted = [normalize(text) for text in item.get("ips") or ()]  # type: ignore[attr-defined]
    addresses = []
    for subnet in network["subnets"]:
        parsed = parse_subnet(subnet["subnet"])
        given = [text for text in wanted if parsed.holds(*parse_address(text))]
        for text in given:
            wanted.remove(text)
            low, high = parsed.usable()
            if not low <= parse_address(text)[1] <= high:
                raise UsageError(
                    f"requested static ip {text} stands for all of the subnet {parsed.text}",
                    hint="choose another address",
                )
            _take_static(e, network, f"{folder}/{text}", text, record["id"])
        if not given and network["ipam"] != "none":
            given = [_take_next(folder, subnet, record["id"])]
        addresses += [plan.with_prefix(text, parsed) for text in given]
    if wanted:
        raise UsageError(
            f"requested static ip {wanted[0]} not in any subnet on network {network['name']}",
            hint=f"its subnets are {', '.join(s['subnet'] for s in network['subnets'])}",
        )
    taken = {str(attachment["interface"]) for _, attachment in links}
    # Nor one that another network of the container is to get.
    taken.update(other.get("interface") or "" for other in record["config"]["networks"])
    # Without an address of ours it comes from elsewhere, and nobody else may have the same.
    first = addresses[0] if addresses else f"::{os.urandom(2).hex()}:{os.urandom(2).hex()}"
    return {
        "id": network["id"],
        "interface": item.get("interface") or plan.find_free_name(
            network["options"].get("iface_prefix") or "eth", taken
        ),
        "host_interface": find_host_end(record["id"], {str(a["host_interface"]) for _, a in links}),
        "addresses": addresses, "gateways": plan.list_gateways(network),
        "metric": plan.choose_metric(network, links),
        "mac": item.get("mac") or plan.make_mac(first.partition("/")[0]),
        "aliases": list(item.get("aliases") or ()),  # type: ignore[call-overload]
    }  # fmt: skip


def find_host_end(container_id: str, planned: set[str]) -> str:
    """A free name for the host's end of a link; that of the last run may just be vanishing."""
    prefix = f"sv{container_id[:8]}"
    number = 0
    while f"{prefix}{number}" in planned or kernel.find_link(f"{prefix}{number}") is not None:
        number += 1
    return f"{prefix}{number}"


def _take_next(folder: str, subnet: Record, holder: str) -> str:
    parsed = parse_subnet(subnet["subnet"])
    first, last = leases.find_range(parsed, subnet["lease_range"])
    gateway = subnet.get("gateway")
    never = frozenset([parse_address(gateway)[1]] if gateway else [])
    try:
        return leases.allocate(folder, first, last, never, holder, parsed.family)
    except leases.Exhausted:
        from strata.network.addresses import format_address

        raise NetworkError(
            f"failed to find free IP in range: {format_address(parsed.family, first)} - "
            f"{format_address(parsed.family, last)}",
            hint="stop containers on that network, or make one with a larger subnet",
        ) from None


def _take_static(e: Engine, network: Record, path: str, text: str, holder: str) -> None:
    if any(text == subnet.get("gateway") for subnet in network["subnets"]):
        raise AlreadyExists(
            f"requested ip address {text} is the gateway of network {network['name']}",
            hint="choose another address",
        )
    for last in (False, True):
        try:
            leases.take(path, holder)
            return
        except leases.Taken as taken:
            if last or not forget_stale(e, taken.holder, path):
                raise AlreadyExists(
                    f"requested ip address {text} is already allocated to container "
                    f"{describe_holder(e, taken.holder)}",
                    hint="stop or disconnect that container, or choose another address",
                ) from None


def describe_holder(e: Engine, container_id: str) -> str:
    """Name and short id of who has a lease."""
    record = e.records.find("container", container_id)
    return f"{record['name']} ({container_id[:12]})" if record else container_id[:12]


def forget_stale(e: Engine, holder: str, path: str) -> bool:
    """Give back what a container holds that does not run and nobody is at; whether it was so.

    All give back under the container's lock: two at once could take from its successor.
    """
    from strata.engine.networks import joining

    held = e.try_lock("container", holder)
    if held is None:
        return False
    record = e.records.find("container", holder)
    if record is None:
        joining.disconnect(e, {"id": holder, "config": {"network": "bridge", "networks": []}})
        e.forget_lock(held)
    else:
        with held:
            if lifecycle.derive(record) in lifecycle.LIVE:
                return False
            joining.disconnect(e, record)
    leases.release(path, holder)
    return True


# -- ports -----------------------------------------------------------------------------------------


def find_targets(links: Sequence[Link]) -> list[str]:
    """The addresses published ports lead to, IPv4 and IPv6: on the first network that others may
    reach; "" without one."""
    found = {V4: "", V6: ""}
    for network, attachment in links:
        if network["internal"] or not plan.is_managed(network):
            continue
        for address in attachment["addresses"]:
            family = get_family(address)
            found[family] = found[family] or address.partition("/")[0]
    return [found[V4], found[V6]]


def take_ports(
    e: Engine, record: Record, networks: list[Record], targets: list[str]
) -> list[Record]:
    """Take the ports a container publishes; those with the host's ports that it really has."""
    wanted = record["config"]["ports"]
    if not wanted:
        return []
    if not any(targets):
        os.write(2, b"WARN: no port is published: no network of the container has a way in\n")
        return []
    from strata.engine.networks import publish

    default = next((str(n["options"]["host_binding_ipv4"]) for n in networks
                    if n["options"].get("host_binding_ipv4")), "")  # fmt: skip
    return publish.take(e, record["id"], wanted, targets, default)


# -- giving back -----------------------------------------------------------------------------------


def detach(e: Engine, record: Record) -> None:
    """Give back all a container that does not run holds. Idempotent."""
    container_id = record["id"]
    pin = e.paths.netns(container_id)
    path = host.state_path(e, container_id)
    if not os.path.lexists(pin) and not os.path.lexists(path):
        return
    state = host.find_state(e, container_id)
    if state is not None:
        state["taken"] = [*state["ports"], *state.get("taken", ())]
        _close_ports(e, path, state)
    kernel.unpin(pin)
    trace.point("detach:unpinned")
    if state is None:
        release_unknown(e, record)
    else:
        for attachment in state["networks"].values():
            folder = host.lease_folder(e, attachment["id"])
            for address in attachment["addresses"]:
                leases.release(f"{folder}/{address.partition('/')[0]}", container_id)
        for port in state["taken"]:
            for offset in range(int(port["range"])):
                leases.release_port(f"{e.paths.net}/ports", port["protocol"], port["host_ip"],
                                    port["host_port"] + offset, container_id)  # fmt: skip
        host.close_idle_tunnels(e, [one["id"] for one in state["networks"].values()])
    trace.point("detach:released")
    remove_file(path)
    # The sign goes last.
    remove_file(pin)


def _close_ports(e: Engine, path: str, state: Record) -> None:
    """Take a container's published ports out of the table, if it has any."""
    ports = nft.plan_ports(state["taken"], *state["targets"])
    if not ports:
        return
    with e.lock_links(shared=True):
        # From now on a table that is written anew does not have them.
        files.write_json(path, {**state, "ports": []}, durable=False)
        trace.point("detach:announced")
        try:
            act.change_ports(host.get_table(e), ports, add=False)
            return
        except OSError:
            pass  # some were not there: flushed by hand, or dropped by one who was killed
    with e.lock_links():
        if host.has_table(e):
            host.write_table(e)


def release_unknown(e: Engine, record: Record) -> None:
    """Give back what was taken before it was written down: look through all leases."""
    container_id = record["id"]
    for item in record["config"]["networks"]:
        folder = host.lease_folder(e, item["id"])
        for address, holder in list(leases.list_leases(folder)):
            if holder == container_id:
                leases.release(f"{folder}/{address}", container_id)
    ports = f"{e.paths.net}/ports"
    for protocol, host_ip, port, holder in list(leases.list_ports(ports)):
        if holder == container_id:
            leases.release_port(ports, protocol, host_ip, port, container_id)
