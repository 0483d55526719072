"""The host's side of networks: bridges that are up, the table of rules, and who is attached.

What is up is written below ``<runroot>/net/up``, one file per network with its link's index, so
that a look at one file and one link tells whether there is anything to do. All that changes bridges
or the whole table is done alone, under the lock of the links; attaching a container shares it.
The table can be made anew at any time from the records and the states of attached containers.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine.core import Engine, Record
from strata.errors import NetworkError, RecordError, StrataError
from strata.linux import network as kernel
from strata.linux.tree import remove_file
from strata.network import act, dns, nft, plan
from strata.network.addresses import V6, get_family
from strata.store import files
from strata.store.paths import SHORT_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strata.linux.locks import Lock

STATE = "network.json"


def get_table(e: Engine) -> str:
    """The name of this store's table."""
    return nft.make_table_name(e.config.id)


def state_path(e: Engine, container_id: str) -> str:
    """Where the attachment of a running container is written down."""
    return f"{e.paths.bundle(container_id)}/{STATE}"


def find_state(e: Engine, container_id: str) -> Record | None:
    """The attachment of a container, None when it has none (or one that cannot be read)."""
    try:
        return files.read_json(state_path(e, container_id))
    except (FileNotFoundError, RecordError):
        return None


def list_states(e: Engine) -> Iterator[tuple[str, Record]]:
    """(short id of the container, attachment) of all that are attached."""
    for short in os.listdir(e.paths.bundles):
        state = find_state(e, short)
        if state is not None and kernel.is_pinned(e.paths.netns(short)):
            yield short, state


def lease_folder(e: Engine, network_id: str) -> str:
    """Where a network's addresses are given out."""
    return f"{e.paths.net}/leases/{network_id[:SHORT_ID]}"


# -- what is up ------------------------------------------------------------------------------------


def _mark(e: Engine, network_id: str) -> str:
    return f"{e.paths.net}/up/{network_id[:SHORT_ID]}"


def is_up(e: Engine, network: Record) -> bool:
    """Whether a network's bridge is there and ours."""
    index = kernel.find_link(network["interface"])
    if index is None:
        return False
    return _read_mark(e, network["id"])[:2] == [str(index), network["interface"]]


def _read_mark(e: Engine, network_id: str) -> list[str]:
    """Index and name of the link a network was brought up with, and ``found`` when others made
    it; nothing when it was not."""
    try:
        return os.readlink(_mark(e, network_id)).split(" ")
    except OSError:
        return []


def list_marks(e: Engine) -> Iterator[tuple[str, int, str]]:
    """(short id of the network, index and name of its link) of all that were brought up."""
    folder = f"{e.paths.net}/up"
    for short in os.listdir(folder) if os.path.isdir(folder) else ():
        if short.startswith("."):
            continue
        try:
            index, name = os.readlink(f"{folder}/{short}").split(" ")[:2]
            number = int(index)
        except (OSError, ValueError):
            continue
        yield short, number, name


class Holding:
    """A block in which these networks are up, with the table, and stay so."""

    __slots__ = ("_e", "_lock", "_networks")

    def __init__(self, e: Engine, networks: Iterable[Record]) -> None:
        self._e = e
        self._networks = [network for network in networks if plan.is_bridge(network)]
        self._lock: Lock | None = None

    def __enter__(self) -> None:
        e, wanted = self._e, self._networks
        self._lock = held = e.lock_links(shared=True)
        try:
            if not wanted or _is_ready(e, wanted):
                return
            held.release()
            self._lock = held = e.lock_links()
            if not _is_ready(e, wanted):
                for network in wanted:
                    if not is_up(e, network):
                        _bring_up(e, network)
                    if not has_tunnel(network):
                        _open_tunnel(e, network)
                write_table(e)
            held.share()
        except BaseException:
            held.release()
            raise

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


def _is_ready(e: Engine, networks: Iterable[Record]) -> bool:
    return all(is_up(e, network) and has_tunnel(network) for network in networks) and has_table(e)


def has_tunnel(network: Record) -> bool:
    """Whether an overlay's tunnel is there; what is no overlay needs none."""
    if not plan.is_overlay(network):
        return True
    return kernel.find_link(plan.tunnel_name(network["id"])) is not None


def has_table(e: Engine) -> bool:
    """Whether the table is there. `NetworkError` when the kernel has no nftables."""
    try:
        return kernel.has_table(get_table(e))
    except OSError as error:
        raise NetworkError(
            f"nftables does not answer: {error.strerror}",
            hint="networks need a kernel with nf_tables and root; or use --network host",
        ) from error


def _bring_up(e: Engine, network: Record) -> None:
    name = network["interface"]
    exists = kernel.find_link(name) is not None
    if not plan.is_managed(network):
        if not exists:
            raise NetworkError(
                f"the bridge {name} of network {network['name']} is not there",
                hint="it is not managed here: make it as before, then start the container again",
            )
        act.check_bridge(name)
        act.run(act.IP, plan.hang_on(network, list_host_ends(e, network["id"])))
        _write_mark(e, network["id"], f"{kernel.find_link(name)} {name} found")
        return
    mac = ":".join(["02", *(f"{byte:02x}" for byte in os.urandom(5))])
    if not exists:
        # Before it is made, so that a removal knows it for ours should nothing else happen.
        _write_mark(e, network["id"], f"0 {name}")
    alias = make_alias(e, network["id"])
    found = _read_mark(e, network["id"])[1:] != [name] and act.check_bridge(name) != alias
    act.run(act.IP, plan.bridge_up(network, exists=exists, mac=mac, alias=alias))
    trace.point("network:link-made")
    for setting, value in list_settings(network):
        act.ensure_setting(setting, value)
    # Links of containers outlive a bridge that somebody removed by hand.
    act.run(act.IP, plan.hang_on(network, list_host_ends(e, network["id"])))
    _write_mark(e, network["id"], f"{kernel.find_link(name)} {name}{' found' if found else ''}")
    trace.point("network:up")


def list_settings(network: Record) -> list[tuple[str, str]]:
    """What a network needs below /proc/sys/net, with the values."""
    if not plan.is_managed(network):
        return []
    name = network["interface"]
    six = V6 in {get_family(subnet["subnet"]) for subnet in network["subnets"]}
    # Replies to connections from 127.0.0.1 come in here; the rules keep all else from loopback.
    found = [(f"ipv4/conf/{name}/route_localnet", "1")]
    if six:
        # Until it is sure of its own address the bridge would ask nobody for theirs, two seconds.
        found.append((f"ipv6/conf/{name}/accept_dad", "0"))
    if not network["internal"]:
        found.append(("ipv4/ip_forward", "1"))
        if six:
            found.append(("ipv6/conf/all/forwarding", "1"))
    return found


def _write_mark(e: Engine, network_id: str, text: str) -> None:
    mark = _mark(e, network_id)
    folder = os.path.dirname(mark)
    os.makedirs(folder, 0o700, exist_ok=True)
    temporary = f"{folder}/.new"  # the caller has the links' lock alone
    remove_file(temporary)
    os.symlink(text, temporary)
    os.rename(temporary, mark)


def list_host_ends(e: Engine, network_id: str) -> list[str]:
    """The links of containers that are to be on a network's bridge, as far as they are there."""
    ends = [
        attachment["host_interface"] for _, state in list_states(e)
        for attachment in state["networks"].values() if attachment["id"] == network_id
    ]  # fmt: skip
    return [name for name in ends if kernel.find_link(name) is not None]


def take_down(e: Engine, network: Record) -> None:
    """Remove a network's bridge, unless others made it, rules and leases. Idempotent."""
    with e.lock_links():
        _forget_up(e, network["id"], network["interface"])
        if has_table(e):
            write_table(e)


def _forget_up(e: Engine, network_id: str, interface: str) -> None:
    from strata.linux.tree import remove_path

    mark = _mark(e, network_id)
    if kernel.find_link(interface) is not None and _is_own(e, network_id, interface):
        act.run(act.IP, plan.link_down(interface))
    trace.point("network:link-removed")
    remove_file(mark)
    remove_path(lease_folder(e, network_id))
    close_tunnel(network_id)


def make_alias(e: Engine, network_id: str) -> str:
    """What is written on a network's bridge: the store's and the network's id."""
    return f"strata:{e.config.id[:8]}:{network_id[:SHORT_ID]}"


def _is_own(e: Engine, network_id: str, interface: str) -> bool:
    """Whether we made a bridge; what is written on it counts when the mark was lost."""
    mark = _read_mark(e, network_id)
    if mark:
        return mark[1:] == [interface]
    try:
        return act.check_bridge(interface) == make_alias(e, network_id)
    except NetworkError:
        return False


def _open_tunnel(e: Engine, network: Record) -> None:
    from strata.engine.networks import overlay

    overlay.ensure_up(e, network)


def refresh_tunnel(e: Engine, network: Record) -> None:
    """Make an overlay's tunnel what its record says by now, if it is there."""
    with e.lock_links():
        if has_tunnel(network):
            _open_tunnel(e, network)


def close_tunnel(network_id: str) -> None:
    """Take an overlay's tunnel away, if it is there. Idempotent."""
    if kernel.find_link(plan.tunnel_name(network_id)) is not None:
        from strata.network import wireguard

        wireguard.take_down(network_id)


def close_idle_tunnels(e: Engine, network_ids: Iterable[str]) -> None:
    """Take away the tunnels of overlays that no container is attached to any more."""
    open_ones = [network_id for network_id in network_ids
                 if kernel.find_link(plan.tunnel_name(network_id)) is not None]  # fmt: skip
    if not open_ones:
        return
    with e.lock_links():
        used = {attachment["id"] for _, state in list_states(e)
                for attachment in state["networks"].values()}  # fmt: skip
        for network_id in open_ones:
            if network_id not in used:
                close_tunnel(network_id)


# -- the table -------------------------------------------------------------------------------------


def list_ports(e: Engine) -> list[nft.Port]:
    """All published ports."""
    found: list[nft.Port] = []
    for _, state in list_states(e):
        found += nft.plan_ports(state["ports"], *state["targets"])
    return found


def table_text(e: Engine) -> str:
    """The whole table as it should be; the one that removes it when no network is up."""
    up = [network for network in e.records.list_records("network")
          if plan.is_bridge(network) and is_up(e, network)]  # fmt: skip
    up.sort(key=lambda network: str(network["interface"]))
    if not up:
        return nft.no_table(get_table(e))
    return nft.whole_table(get_table(e), up, list_ports(e))


def write_table(e: Engine) -> None:
    """Put the whole table there anew, in one step. The caller has the links' lock alone."""
    act.run(act.NFT, table_text(e))
    trace.point("network:table-written")


def rebuild(e: Engine) -> None:
    """Bridges that should be up and the table, from what is written down, whatever became of
    them."""
    with e.lock_links():
        wanted = {attachment["id"] for _, state in list_states(e)
                  for attachment in state["networks"].values()}  # fmt: skip
        for network in e.records.list_records("network"):
            if network["id"] in wanted and plan.is_bridge(network):
                if not plan.is_managed(network) and kernel.find_link(network["interface"]) is None:
                    continue  # who has that bridge must bring it back
                _bring_up(e, network)
                if plan.is_overlay(network):
                    _open_tunnel(e, network)
        write_table(e)


def remove_all(e: Engine) -> None:
    """Remove every bridge and the table of this store, for a reset. Never fails."""
    networks = list(e.records.list_records("network"))
    dns.stop(e.paths.runroot)
    with e.lock_links():
        for network in networks:
            try:
                _forget_up(e, network["id"], network["interface"])
            except (StrataError, OSError):
                continue
        try:
            if has_table(e):
                act.run(act.NFT, nft.no_table(get_table(e)))
        except (StrataError, OSError):
            return
