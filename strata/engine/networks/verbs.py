"""The verbs on networks: create, list, inspect, update, reload. Removing them is `removal`."""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.filters import has_label, is_before, is_true, make_filter
from strata.engine.names import take_name
from strata.engine.networks import host, joining, overlay, removal
from strata.engine.networks.joining import find_network, get_network
from strata.errors import AlreadyExists, RecordError, UsageError
from strata.linux import network as kernel
from strata.linux.tree import remove_file
from strata.network import act, direct, dns, model, plan
from strata.network.addresses import V4, V6, Subnet, parse_subnet
from strata.store import files, lifecycle
from strata.store.paths import SHORT_ID
from strata.store.records import SCHEMA, check_shape, new_id
from strata.times import format_time, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strata.engine.filters import Filters


def create(
    e: Engine, name: str | None = None, *, driver: str = "bridge", subnets: Sequence[str] = (),
    gateways: Sequence[str] = (), ranges: Sequence[str] = (), ipv6: bool = False,
    internal: bool = False, dns: bool = True, dns_servers: Sequence[str] = (),
    routes: Sequence[str] = (), options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None, interface: str = "", ipam: str = "",
    ignore: bool = False, join: str = "", network_id: str = "",
) -> Record:  # fmt: skip
    """Make a network; return its record. No link is made before a container needs it.

    ``network_id``: the id it gets, for a caller that has written down how to take it back.

    ``join``: a token of another host's overlay, for the driver wireguard.

    `AlreadyExists` when the name is taken (``ignore``: the record that is there), `UsageError`.
    """
    if name:
        names.check_name(name, "network")
        model.check_name(name)
    if driver not in model.DRIVERS:
        raise UsageError(
            f"unsupported driver {driver}: invalid argument",
            hint=f"use {', '.join(model.DRIVERS[:-1])} or {model.DRIVERS[-1]}",
        )
    if ipam not in ("", "host-local", "none"):
        raise UsageError(f"unsupported ipam driver {ipam}", hint="use host-local or none")
    own: dict[str, str] = {}
    if driver == overlay.DRIVER:
        own, options = overlay.split_options(options or {})
    elif join:
        raise UsageError(f"a {driver} network cannot join others", hint="use -d wireguard")
    chosen, named = model.plan_options(driver, options or {})
    ipv6 = chosen.pop("ipv6", "") == "true" or ipv6
    if interface:
        model.check_interface(interface)
        if named not in ("", interface):
            raise UsageError(f"the bridge is given two names, {interface} and {named}")
    if "vlan" in chosen:
        act.check_vlan()
    given = []
    if driver != overlay.DRIVER:
        given = model.plan_subnets(subnets, gateways, ranges, internal=internal)
    if ipam == "none" and given:
        raise UsageError(
            "none ipam driver is set but subnets are given",
            hint="leave --subnet away, or --ipam-driver none",
        )
    if driver in direct.DRIVERS:
        if interface and chosen.setdefault("parent", interface) != interface:
            raise UsageError(f"the parent is given two names, {interface} and {chosen['parent']}")
        interface = act.check_parent(driver, chosen, given, ipam)
    managed = chosen.get("mode") != "unmanaged"
    bridge = interface or named
    if driver == "bridge" and not managed and kernel.find_link(bridge) is None:
        raise UsageError(
            f"there is no bridge {bridge}" if bridge else "an unmanaged network needs a bridge",
            hint="name one that is there with --interface-name",
        )
    # The server of names listens on addresses of ours.
    has_names = dns and driver in ("bridge", overlay.DRIVER) and ipam != "none" and managed
    if dns_servers and not has_names:
        raise UsageError(
            "cannot set name servers for a network without names",
            hint="leave --disable-dns or --dns away; containers have a --dns of their own",
        )
    record: Record = {
        "schema": SCHEMA, "kind": "network", "id": network_id or new_id(), "name": name or "",
        "driver": driver,
        "interface": interface or named, "created": format_time(time.time()), "subnets": given,
        "routes": [model.plan_route(text) for text in routes], "ipv6": ipv6, "internal": internal,
        "dns": has_names, "dns_servers": model.check_servers(dns_servers),
        "labels": dict(labels or {}), "options": chosen, "ipam": ipam or "host-local",
    }  # fmt: skip
    e.recover()
    with e.lock_networks():
        existing = find_network(e, name) if name else None
        if existing is not None and existing["name"] == name:
            if ignore:
                return existing
            raise model.refuse_duplicate(str(name))
        key = ""
        if driver == overlay.DRIVER:
            key, subnets = overlay.begin(e, record, own, subnets, join)
            record["subnets"] = model.plan_subnets(subnets, gateways, ranges, internal=internal)
            overlay.route_all(record)
        _make(e, record, key=key)
    return record


def ensure_default(e: Engine) -> None:
    """Make the default network unless it is there; of commands that need it at once one does."""
    e.recover()
    with e.lock_networks():
        if find_network(e, joining.DEFAULT_NAME) is not None:
            return
        record: Record = {
            "schema": SCHEMA, "kind": "network", "id": new_id(), "name": joining.DEFAULT_NAME,
            "driver": "bridge", "interface": "", "created": format_time(time.time()),
            "subnets": [], "routes": [], "ipv6": False, "internal": False, "dns": True,
            "dns_servers": [], "labels": {}, "options": {}, "ipam": "host-local",
        }  # fmt: skip
        _make(e, record, default=True)


def _make(e: Engine, record: Record, *, default: bool = False, key: str = "") -> None:
    """Choose what was left open, and write the record. The caller has the list's lock alone."""
    e.records.ensure_layout()
    others = list(e.records.list_records("network"))
    # What a removed network had is given to others last, so that it can come back.
    removed = [] if default else removal.list_removed(e)
    if record["ipam"] == "host-local":
        _fill_subnets(record, others, removed, default=default)
    if plan.is_bridge(record):
        choose_interface(record, others, removed)
    taken = {str(other["name"]) for other in others}
    record["name"] = record["name"] or plan.find_free_name("strata", taken | {"strata0"})
    with e.begin("network-create") as operation:
        operation.plan(["unclaim", "network", record["name"], record["id"]])
        try:
            take_name(e, "network", record["name"], record["id"])
        except AlreadyExists:
            raise model.refuse_duplicate(record["name"]) from None
        if key:
            operation.plan(["drop-key", record["id"]])
            overlay.save_key(e, record["id"], key)
        save(e, record)
        trace.point("network-create:recorded")
    events.emit(e, events.NETWORK, "create", id=record["id"], name=record["name"])


def save(e: Engine, record: Record) -> None:
    """Write a network's record, and the copy that `system rebuild` restores it from."""
    e.records.save(record)
    trace.point("network:recorded")
    path = removal.copy_path(e, record["id"])
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.write_json(path, record)
    remove_file(removal.removed_path(e, record["id"]))


def read_copy(e: Engine, network_id: str, *, removed: bool = False) -> Record | None:
    """The copy of a network's record, None when it is gone or not that of this network."""
    path = (removal.removed_path if removed else removal.copy_path)(e, network_id)
    try:
        record = check_shape(files.read_json(path), "network", path)
    except (FileNotFoundError, RecordError):
        return None
    return record if record["id"] == network_id and model.is_sound(record) else None


def list_copies(e: Engine) -> list[str]:
    """Ids of the networks that have a copy of their record."""
    folder = os.path.dirname(removal.copy_path(e, ""))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else ()
    return [name.removesuffix(".json") for name in names if files.is_record(name)]


def restore(e: Engine) -> int:
    """Write records that are missing from their copies; how many."""
    count = 0
    for network_id in list_copies(e):
        if e.records.find("network", network_id) is not None:
            continue
        if e.trash.find(network_id) is not None:
            continue  # its removal is not finished
        record = read_copy(e, network_id)
        if record is not None:
            e.records.save(record)
            claim_name(e, network_id)
            count += 1
    return count


def list_lost(e: Engine) -> list[Record]:
    """Networks that were removed and that nothing in the trash knows any more, but that could come
    back: an overlay only with its private key."""
    folder = os.path.dirname(removal.copy_path(e, ""))
    found = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        network_id, _, ending = name.rpartition(".")
        if ending != "removed" or e.trash.find(network_id) is not None:
            continue
        record = read_copy(e, network_id, removed=True)
        if record is None or e.records.find("network", network_id) is not None:
            continue
        if not plan.is_overlay(record) or os.path.exists(overlay.key_path(e, network_id)):
            found.append(record)
    return found


def bury_lost(e: Engine) -> None:
    """Give such networks an entry in the trash again, with a new deadline."""
    for record in list_lost(e):
        e.bury("network", record, [], verb="system rebuild", keep=True)


def claim_name(e: Engine, network_id: str) -> None:
    """Take the name that a network's record says, or one with digits of its id."""
    record = e.records.find("network", network_id)
    if record is None:
        return
    for name in (record["name"], f"{record['name']}-{network_id[:SHORT_ID]}"):
        holder = e.records.find_name("network", name)
        if holder in (None, network_id) or e.records.find("network", str(holder)) is None:
            e.records.set_name("network", name, network_id)
            if name != record["name"]:
                save(e, {**record, "name": name})
            return


def _fill_subnets(
    record: Record, others: Sequence[Record], removed: Sequence[Record], *, default: bool
) -> None:  # fmt: skip
    """Check the subnets given, add what is missing: a free IPv4 one, with IPv6 a local one."""
    wanted = [parse_subnet(subnet["subnet"]) for subnet in record["subnets"]]
    used = [parse_subnet(subnet["subnet"]) for other in others for subnet in other["subnets"]]
    if plan.is_bridge(record):
        # Who has an unmanaged bridge may well be on its network.
        used += act.list_host_subnets(
            besides="" if plan.is_managed(record) else record["interface"]
        )
        model.check_free(wanted, used)
    families = {one.family for one in wanted}
    added: list[Subnet] = []
    if V4 not in families and (not wanted or record["ipv6"]):
        added.append(find_subnet(used, removed, default=default))
    if record["ipv6"] and V6 not in families:
        added.append(model.make_local_subnet())
    record["subnets"] = [*record["subnets"], *(
        {"subnet": one.text, "gateway": plan.first_address(one), "lease_range": None}
        for one in added
    )]  # fmt: skip
    record["ipv6"] = record["ipv6"] or V6 in families


def find_subnet(
    used: Sequence[Subnet], removed: Sequence[Record], *, default: bool = False
) -> Subnet:  # fmt: skip
    """A free IPv4 subnet, and as long as there is one none that a removed network had."""
    kept = [parse_subnet(subnet["subnet"]) for other in removed for subnet in other["subnets"]]
    try:
        return model.find_free_subnet([*used, *kept], default=default)
    except UsageError:
        return model.find_free_subnet(used, default=default)


def choose_interface(
    record: Record, others: Sequence[Record], removed: Sequence[Record]
) -> None:  # fmt: skip
    """Check the name of the bridge that was given, or choose a free one.

    `AlreadyExists` names the network that has it, `NetworkError` a link that is no bridge.
    """
    wanted = record["interface"]
    if not wanted:
        taken = {str(other["interface"]) for other in (*others, *removed)}
        if record["name"] != joining.DEFAULT_NAME:
            taken.add("strata0")  # the default network's, when it comes
        record["interface"] = plan.find_free_name("strata", taken | kernel.list_links())
        return
    for other in others:
        if other["interface"] == wanted and plan.is_bridge(other):
            raise AlreadyExists(
                f"the bridge name {wanted} is already used by network {other['name']}",
                hint="choose another --interface-name, or leave it out",
            )
    if kernel.find_link(wanted) is not None:
        act.check_bridge(wanted)


# -- looking ---------------------------------------------------------------------------------------


def exists(e: Engine, text: str) -> bool:
    """Whether there is such a network."""
    try:
        return find_network(e, text) is not None or joining.is_default(text)
    except UsageError:
        return False


def list_networks(e: Engine, filters: Filters | None = None) -> list[Record]:
    """Networks by name, in the shape of `inspect` without the containers."""
    if find_network(e, joining.DEFAULT_NAME) is None:
        ensure_default(e)
    used = {
        item.get("id") for container in e.records.list_records("container")
        for item in container["config"].get("networks", ())
    }  # fmt: skip
    found = list(filter(_make_filter(filters, used), e.records.list_records("network")))
    found.sort(key=lambda record: str(record["name"]))
    return [describe(record) for record in found]


def _make_filter(filters: Filters | None, used: set[object]) -> Callable[[Record], bool]:
    def is_named(record: Record, value: str) -> bool:
        import re

        try:
            return re.search(value, record["name"]) is not None
        except re.error:
            return value in record["name"]

    return make_filter("network", filters, {
        "name": is_named,
        "id": lambda record, value: record["id"].startswith(value),
        "driver": lambda record, value: record["driver"] == value,
        "label": lambda record, value: has_label(record["labels"], value),
        "until": lambda record, value: is_before(parse_time(record["created"]), value),
        # The default one is not for the taking, so scripts that remove what dangles pass it over.
        "dangling": lambda record, value: is_true(value) == (
            record["id"] not in used and record["name"] != joining.DEFAULT_NAME
        ),
    })  # fmt: skip


def describe(record: Record) -> Record:
    """A network in Podman's shape."""
    found: Record = {
        "name": record["name"], "id": record["id"], "driver": record["driver"],
        "network_interface": record["interface"], "created": record["created"],
        "subnets": [_describe_subnet(subnet) for subnet in record["subnets"]],
        "ipv6_enabled": record["ipv6"], "internal": record["internal"],
        "dns_enabled": record["dns"], "ipam_options": {"driver": record["ipam"]},
    }  # fmt: skip
    if plan.is_overlay(record):
        found["overlay"] = record["overlay"]
    routes = [{key: value for key, value in route.items() if value is not None}
              for route in record["routes"]]  # fmt: skip
    for key, value in (("routes", routes), ("labels", record["labels"]),
                       ("network_dns_servers", record["dns_servers"]),
                       ("options", record["options"])):  # fmt: skip
        if value:
            found[key] = value
    return found


def _describe_subnet(subnet: Record) -> Record:
    found: Record = {"subnet": subnet["subnet"]}
    if subnet.get("gateway"):
        found["gateway"] = subnet["gateway"]
    if subnet.get("lease_range"):
        found["lease_range"] = {
            "start_ip": subnet["lease_range"]["start"], "end_ip": subnet["lease_range"]["end"]
        }  # fmt: skip
    return found


def inspect(e: Engine, which: Sequence[str]) -> list[Record]:
    """What ``strata network inspect`` prints: Podman's shape, with the running containers."""
    return [
        {**describe(record), "containers": _describe_containers(e, record)}
        for record in (get_network(e, text) for text in which)
    ]


def _describe_containers(e: Engine, record: Record) -> Record:
    found: Record = {}
    for container in removal.users_of(e, record["id"]):
        if lifecycle.derive(container) not in lifecycle.LIVE:
            continue
        state = host.find_state(e, container["id"]) or {"networks": {}}
        attachment = state["networks"].get(record["name"])
        if attachment is not None:
            found[container["id"]] = {
                "name": container["name"],
                "interfaces": {attachment["interface"]: {
                    "subnets": _describe_addresses(record, attachment),
                    "mac_address": attachment["mac"],
                }},
            }  # fmt: skip
    return found


def _describe_addresses(record: Record, attachment: Record) -> list[Record]:
    from strata.network.addresses import parse_address

    found = []
    for address in attachment["addresses"]:
        parsed = parse_address(address.partition("/")[0])
        gateway = next((subnet.get("gateway") for subnet in record["subnets"]
                        if parse_subnet(subnet["subnet"]).holds(*parsed)), None)  # fmt: skip
        found.append({"ipnet": address, **({"gateway": gateway} if gateway else {})})
    return found


# -- changing --------------------------------------------------------------------------------------


def update(
    e: Engine, name: str, *, dns_add: Sequence[str] = (), dns_drop: Sequence[str] = (),
    peer_add: Sequence[str] = (), peer_drop: Sequence[str] = (),
) -> Record:  # fmt: skip
    """Change a network's name servers and, of an overlay, its peers; return its record.

    ``peer_add``: join tokens; ``peer_drop``: names or public keys of peers.
    """
    dns_add, dns_drop = model.check_servers(dns_add), model.check_servers(dns_drop)
    found = get_network(e, name)
    with e.lock_networks():
        record = e.records.get("network", found["id"])
        if peer_add or peer_drop:
            record = overlay.change_peers(record, peer_add, peer_drop)
        if (dns_add or dns_drop) and not record["dns"]:
            raise UsageError(
                f"unable to update dns servers for network {record['name']}: dns is not enabled",
                hint="it was made with --disable-dns",
            )
        for server in dns_drop:
            if server not in record["dns_servers"]:
                raise UsageError(
                    f"network {record['name']} has no name server {server}",
                    hint=f"it has {', '.join(record['dns_servers']) or 'none'}",
                )
        kept = [server for server in record["dns_servers"] if server not in dns_drop]
        record["dns_servers"] = list(dict.fromkeys([*kept, *dns_add]))
        save(e, record)
        trace.point("network-update:recorded")
        dns.refresh(e.paths.runroot, record)
        if peer_add or peer_drop:
            host.refresh_tunnel(e, record)
    return record


def reload(e: Engine) -> None:
    """Make bridges and links that running containers need and all rules anew, from what is
    written down."""
    from strata.engine.networks import live

    e.recover()
    host.rebuild(e)
    for record in list(e.records.list_records("container")):
        if lifecycle.derive(record) in lifecycle.LIVE:
            live.plug_anew(e, record)
            with e.lock_container(record["id"], name=record["name"]):
                joining.follow(e, record)
