"""What ``system check`` compares of networks: records, names, bridges, rules, links, leases.

As everywhere in the check, a problem counts when it is still there at the second look, and every
repair looks again under the locks.
"""

from __future__ import annotations

import functools
import os

from strata import command, jsontext
from strata.engine.core import Engine, Record
from strata.engine.networks import host, joining, live, verbs
from strata.engine.system.world import Problem, World
from strata.errors import StrataError
from strata.linux import network as kernel
from strata.network import act, dns, leases, nft, plan
from strata.network.addresses import parse_address
from strata.store import lifecycle
from strata.store.paths import SHORT_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def find_networks(e: Engine, w: World) -> Iterator[Problem]:
    """Everything that is not as it should be about networks."""
    yield from _find_names(e, w)
    yield from _find_lost(e, w)
    yield from _find_removed(e, w)
    yield from _find_users(w)
    yield from _find_bridges(e, w)
    yield from _find_held(e, w)
    yield from _find_served(e, w)
    yield from _find_links(e, w)
    yield from _find_rules(e, w)


def _show(record: Record) -> str:
    return f"network {record['name']}"


def _find_names(e: Engine, w: World) -> Iterator[Problem]:
    networks, index = w.records["network"], w.names["network"]
    for name, object_id in index.items():
        if w.is_busy(name, object_id) or w.is_damaged("network", object_id):
            continue
        named = networks.get(object_id)
        if named is None or named["name"] != name:
            yield Problem(
                "name-dangling", f"network name {name}", "it stands for nothing",
                functools.partial(e.records.drop_name, "network", name, object_id),
            )  # fmt: skip
    for record in networks.values():
        if index.get(record["name"]) != record["id"] and not w.is_busy(record["id"]):
            yield Problem(
                "name-missing", _show(record), "its name stands for something else, or for nothing",
                functools.partial(verbs.claim_name, e, record["id"]),
            )  # fmt: skip
        if verbs.read_copy(e, record["id"]) is None:
            yield Problem("copy-missing", _show(record), "the copy of its record is gone",
                          functools.partial(verbs.save, e, record))  # fmt: skip


def _find_lost(e: Engine, w: World) -> Iterator[Problem]:
    removed = {entry["id"] for entry in w.trash}
    for network_id in verbs.list_copies(e):
        known = network_id in w.records["network"] or w.is_damaged("network", network_id)
        known = known or network_id in removed
        if not known and not w.is_busy(network_id) and verbs.read_copy(e, network_id) is not None:
            yield Problem("record-lost", f"network {network_id[:SHORT_ID]}", "its record is gone",
                          functools.partial(verbs.restore, e))  # fmt: skip


def _find_removed(e: Engine, w: World) -> Iterator[Problem]:
    for record in verbs.list_lost(e):
        if not w.is_busy(record["id"]) and not w.is_damaged("network", record["id"]):
            yield Problem("trash-lost", _show(record),
                          "nothing says when the removed network may go",
                          functools.partial(verbs.bury_lost, e))  # fmt: skip


def _find_users(w: World) -> Iterator[Problem]:
    for record in w.records["container"].values():
        for item in record["config"].get("networks") or ():
            network_id = item.get("id", "")
            if network_id in w.records["network"] or w.is_damaged("network", network_id):
                continue
            if not w.is_busy(record["id"], network_id):
                yield Problem("network-gone", f"container {record['name']}, {item['name']}",
                              "the network it joins was lost: disconnect it")  # fmt: skip


def _find_bridges(e: Engine, w: World) -> Iterator[Problem]:
    """Bridges of networks that are gone, and those that containers need and are not there."""
    known = {network_id[:SHORT_ID]: record for network_id, record in w.records["network"].items()}
    known_damaged = {object_id[:SHORT_ID] for kind, object_id, _ in w.damaged if kind == "network"}
    busy = {word[:SHORT_ID] for word in w.busy}
    marked = [(short, name) for short, _, name in host.list_marks(e)]
    for short, name in dict.fromkeys([*marked, *_list_named(e)]):
        if short not in known and short not in known_damaged and short not in busy:
            yield Problem("bridge-stale", f"bridge {name}", "its network is gone",
                          functools.partial(host.take_down, e, {"id": short, "interface": name}),
                          )  # fmt: skip
    needed = {attachment["id"] for _, state in host.list_states(e)
              for attachment in state["networks"].values()}  # fmt: skip
    for network_id in needed:
        record = w.records["network"].get(network_id)
        if record is None or not plan.is_bridge(record):
            continue
        if not host.is_up(e, record):
            yield Problem("bridge-gone", _show(record), f"its bridge {record['interface']} is gone",
                          functools.partial(host.rebuild, e))  # fmt: skip
            continue
        faults = [*_find_faults(record, host.list_host_ends(e, network_id))]
        if faults:
            yield Problem("bridge-wrong", _show(record), ", ".join(faults),
                          functools.partial(host.rebuild, e))  # fmt: skip


def _find_faults(record: Record, ends: Sequence[str]) -> Iterator[str]:
    """What somebody changed of a bridge that is there, and of what the host does for it."""
    links = {str(link.get("ifname")): link for link in _list_links("address")}
    name = record["interface"]
    bridge = links.get(name, {})
    if plan.is_managed(record) and "UP" not in bridge.get("flags", ()):
        yield f"its bridge {name} is down"
    had = {parse_address(str(one["local"])) for one in bridge.get("addr_info", ())
           if "local" in one}  # fmt: skip
    for subnet in record["subnets"] if plan.is_managed(record) else ():
        if subnet.get("gateway") and parse_address(subnet["gateway"]) not in had:
            yield f"its bridge {name} lacks the address {subnet['gateway']}"
    for end in ends:
        if links.get(end, {}).get("master") != name:
            yield f"the link {end} is not on its bridge {name}"
    for setting, value in host.list_settings(record):
        if not act.has_setting(setting, value):
            yield f"net.{setting.replace('/', '.')} is not {value}"


def _list_named(e: Engine) -> Iterator[tuple[str, str]]:
    """(short id of the network, bridge) of all bridges on which this store is written."""
    prefix = host.make_alias(e, "")
    for link in _list_links():
        alias = str(link.get("ifalias", ""))
        if alias.startswith(prefix):
            yield alias.removeprefix(prefix), str(link.get("ifname"))


def _is_free(e: Engine, w: World, container_id: str) -> bool:
    """Whether nobody runs or handles the container with this (short) id."""
    for record in w.records["container"].values():
        if record["id"].startswith(container_id):
            return lifecycle.derive(record) not in lifecycle.LIVE and not e.is_container_locked(
                record["id"]
            )
    return not any(word.startswith(container_id) for word in w.busy)


def _find_held(e: Engine, w: World) -> Iterator[Problem]:
    """What containers that do not run hold: namespaces, addresses, ports."""
    unsure = {object_id for kind, object_id, _ in w.damaged if kind == "container"}
    folder = os.path.dirname(e.paths.netns("0" * SHORT_ID))
    for short in os.listdir(folder) if os.path.isdir(folder) else ():
        if _is_free(e, w, short) and not any(known.startswith(short) for known in unsure):
            yield Problem("namespace-stale", f"network namespace {short}",
                          "its container does not run",
                          functools.partial(_disconnect, e, short))  # fmt: skip
    held = dict(host.list_states(e))
    for path, holder in _list_leases(e):
        state = held.get(holder[:SHORT_ID])
        fine = state is not None and _holds(state, path, e)
        if (
            not fine
            and holder not in unsure
            and (
                _is_free(e, w, holder) or (state is not None and not e.is_container_locked(holder))
            )
        ):
            yield Problem("lease-stale", path.removeprefix(f"{e.paths.net}/"),
                          f"container {holder[:SHORT_ID]} does not have it",
                          functools.partial(_release, e, path, holder))  # fmt: skip


def _find_served(e: Engine, w: World) -> Iterator[Problem]:
    """Names that are served of containers that do not run, and names that nobody serves."""
    runroot = e.paths.runroot
    served = {holder for holders in dns.list_zones(runroot).values() for holder in holders}
    for holder in sorted(served):
        if _is_free(e, w, holder):
            yield Problem("name-stale", f"names of container {holder[:SHORT_ID]}",
                          "they are served, but it does not run",
                          functools.partial(dns.withdraw, runroot, holder))  # fmt: skip
    if served and not dns.find_server(runroot):
        yield Problem("name-server-gone", "the server of names on networks",
                      "aardvark-dns does not run, so names do not resolve",
                      functools.partial(verbs.reload, e))  # fmt: skip


def _disconnect(e: Engine, short: str) -> None:
    """Give back what a container holds, also one whose record is gone."""
    found = e.records.match_prefix("container", short)
    if not found:
        whole = _find_whole_id(e, short)
        joining.disconnect(e, {"id": whole, "config": {"network": "bridge", "networks": []}})
        return
    with e.lock_container(found[0]):
        record = e.records.find("container", found[0])
        if record is not None and lifecycle.derive(record) not in lifecycle.LIVE:
            joining.disconnect(e, record)


def _find_whole_id(e: Engine, short: str) -> str:
    """The id of a container without a record, from what it holds; else what is known of it."""
    holders = [holder for _, holder in _list_leases(e)]
    for served in dns.list_zones(e.paths.runroot).values():
        holders += served
    return next((holder for holder in holders if holder.startswith(short)), short)


def _list_leases(e: Engine) -> Iterator[tuple[str, str]]:
    top = f"{e.paths.net}/leases"
    for short in os.listdir(top) if os.path.isdir(top) else ():
        for address, holder in leases.list_leases(f"{top}/{short}"):
            yield f"{top}/{short}/{address}", holder
    for protocol, host_ip, port, holder in leases.list_ports(f"{e.paths.net}/ports"):
        yield f"{e.paths.net}/ports/{protocol}/{host_ip or leases.ANY}/{port}", holder


def _holds(state: Record, path: str, e: Engine) -> bool:
    if path.startswith(f"{e.paths.net}/ports/"):
        protocol, host_ip, number = path.split("/")[-3:]
        return any(
            port["protocol"] == protocol and (port["host_ip"] or leases.ANY) == host_ip
            and 0 <= int(number) - port["host_port"] < port["range"]
            for port in state["ports"]
        )  # fmt: skip
    short, address = path.split("/")[-2:]
    return any(
        attachment["id"].startswith(short)
        and address in [text.partition("/")[0] for text in attachment["addresses"]]
        for attachment in state["networks"].values()
    )


def _release(e: Engine, path: str, holder: str) -> None:
    with e.lock_container(holder):
        state = host.find_state(e, holder)
        if state is None or not _holds(state, path, e):
            leases.release(path, holder)


def _find_links(e: Engine, w: World) -> Iterator[Problem]:
    """Links on our bridges that no container has, and those containers lack."""
    states = dict(host.list_states(e))
    planned = {attachment["host_interface"] for state in states.values()
               for attachment in state["networks"].values()}  # fmt: skip
    bridges = {name for _, _, name in host.list_marks(e)}
    for link in _list_links() if bridges else ():
        name = str(link.get("ifname"))
        if link.get("master") not in bridges or not name.startswith("sv") or name in planned:
            continue
        if not _is_starting(e, w, name[2:10]):
            yield Problem("link-stale", f"link {name}", "no container has it",
                          functools.partial(_remove_link, e, name))  # fmt: skip
    for record in w.records["container"].values():
        state = states.get(record["id"][:SHORT_ID])
        if state is None or lifecycle.derive(record) not in lifecycle.LIVE:
            continue
        for network, attachment in live.list_links(e, state):
            if plan.is_bridge(network) and kernel.find_link(attachment["host_interface"]) is None:
                yield Problem("link-gone", f"container {record['name']}, {network['name']}",
                              "its link to the bridge is gone",
                              functools.partial(live.plug_anew, e, record))  # fmt: skip


def _is_starting(e: Engine, w: World, prefix: str) -> bool:
    return any(object_id.startswith(prefix) and e.is_container_locked(object_id)
               for object_id in w.records["container"])  # fmt: skip


def _list_links(what: str = "link") -> list[Record]:
    """The links of this namespace; as ``address`` with their addresses and without their alias."""
    try:
        text = command.run(["ip", "-json", what, "show"]).text
        found = jsontext.loads(text or "[]")
    except (StrataError, ValueError):
        return []
    return [link for link in found if isinstance(link, dict)]


def _remove_link(e: Engine, name: str) -> None:
    if kernel.find_link(name) is not None:
        act.run(act.IP, plan.link_down(name))


# -- rules -----------------------------------------------------------------------------------------


def _find_rules(e: Engine, w: World) -> Iterator[Problem]:
    up = [record for record in w.records["network"].values()
          if plan.is_bridge(record) and host.is_up(e, record)]  # fmt: skip
    if not up:
        return
    table = host.get_table(e)
    wanted = nft.count_rules(), nft.group(
        [*(element for record in up for element in nft.network_elements(record)),
         *map(nft.port_element, host.list_ports(e))]
    )  # fmt: skip
    found = read_table(table)
    if found is None or found != wanted:
        text = "it is gone" if found is None else "it is not as the networks need it"
        yield Problem("rules-stale", f"table {nft.FAMILY} {table}", text,
                      functools.partial(host.rebuild, e))  # fmt: skip


def read_table(table: str) -> tuple[dict[str, int], dict[str, set[str]]] | None:
    """Rules per chain and elements per set, as the kernel has them; None without the table."""
    try:
        text = command.run(["nft", "-j", "list", "table", nft.FAMILY, table]).text
        document = jsontext.loads(text)
    except (StrataError, ValueError):
        return None
    rules: dict[str, int] = {}
    elements: dict[str, set[str]] = {}
    for entry in document["nftables"]:
        if "chain" in entry:
            rules.setdefault(entry["chain"]["name"], 0)
        elif "rule" in entry:
            chain = entry["rule"]["chain"]
            rules[chain] = rules.get(chain, 0) + 1
        for kind in ("set", "map"):
            if kind in entry:
                found = {_text(element) for element in entry[kind].get("elem", ())}
                if found:
                    elements[entry[kind]["name"]] = found
    return rules, elements


def _text(element: object) -> str:
    """An element as `nft` reads it, from its JSON form."""
    if isinstance(element, list):
        return " : ".join(_text(part) for part in element)
    if isinstance(element, dict):
        if "concat" in element:
            return " . ".join(_text(part) for part in element["concat"])
        if "prefix" in element:
            return f"{element['prefix']['addr']}/{element['prefix']['len']}"
        if "elem" in element:
            return _text(element["elem"]["val"])
    return str(element)
