"""Bringing a removed network back, with its subnets, its bridge's name and an overlay's key.

What it had may be somebody else's by now. Its name is treated as that of any object that comes
back: it is then called ``NAME-restored``. A subnet or a bridge is not changed behind the user's
back, since addresses are written into configurations: the restoring is refused with who has it,
unless the user asks to renumber. An overlay's range is known to its peers and never changes.
"""

from __future__ import annotations

import os

from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.networks import joining, overlay, removal, verbs
from strata.errors import AlreadyExists, NotFound, StrataError, UsageError
from strata.network import act, model, plan
from strata.network.addresses import V4, parse_address, parse_subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.network.addresses import Subnet


def bring_back(
    e: Engine, network_id: str, name: str | None = None, *, renumber: bool = False
) -> Record:  # fmt: skip
    """Bring a network back from the trash, under ``name`` when given; a row as of `restore`.

    ``renumber``: with other subnets and another bridge where its own are taken.
    `AlreadyExists`, `NotFound` when it is not there any more.
    """
    from strata.engine.history.restoring import put_back

    if name is not None:
        names.check_name(name, "network")
        model.check_name(name)
    e.recover()
    with e.lock_networks():
        entry = e.trash.find(network_id)
        if entry is None:
            raise NotFound(f"{network_id[:12]} is not in the trash any more",
                           hint="`strata trash ls`")  # fmt: skip
        record: Record = {**entry["record"]}
        others = list(e.records.list_records("network"))
        if plan.is_overlay(record):
            _check_overlay(e, record, others)
        notes = _settle_places(e, record, others, renumber=renumber)
        notes += put_back(e, entry, record, name, {})
    events.emit(e, events.NETWORK, "restore", id=network_id, name=record["name"])
    for user in removal.users_of(e, network_id):
        with e.hold_if_there(user) as fresh:
            if fresh is not None:
                notes += [f"{user['name']}: {text}" for text in follow(e, fresh)]
    return {"Kind": "network", "Name": record["name"], "Was": entry["name"], "Notes": notes}


def _check_overlay(e: Engine, record: Record, others: Sequence[Record]) -> None:
    """Whether an overlay's key is there and its port free."""
    if not os.path.exists(overlay.key_path(e, record["id"])):
        e.trash.delete(record["id"])
        raise NotFound(
            f"network {record['name']} cannot come back: its private key was destroyed outside "
            "Strata",
            hint="create it anew and exchange tokens",
        )
    port = record["overlay"]["port"]
    for other in others:
        if plan.is_overlay(other) and other["overlay"]["port"] == port:
            raise AlreadyExists(
                f"network {record['name']} cannot come back: the overlay {other['name']} listens "
                f"on its port {port}",
                hint=f"remove {other['name']} first",
            )


# -- what it had on the host -----------------------------------------------------------------------


def _settle_places(
    e: Engine, record: Record, others: Sequence[Record], *, renumber: bool
) -> list[str]:  # fmt: skip
    """See that the network's subnets and bridge are free, or choose others; notes on those."""
    if not plan.is_bridge(record):
        return []
    fixed = plan.is_overlay(record)
    why = f"network {record['name']} cannot come back"
    anew = f"`strata trash restore --renumber {record['name']}` brings it back with another one"
    used = _list_used(record, others)
    texts = (record["overlay"]["ranges"] if fixed
             else [subnet["subnet"] for subnet in record["subnets"]])  # fmt: skip
    notes = []
    for text in texts:
        holder = next((who for who, there in used if there.overlaps(parse_subnet(text))), "")
        if not holder:
            continue
        if fixed or not renumber:
            raise AlreadyExists(
                f"{why}: its subnet {text} is taken by {holder}",
                hint="its peers count on that range: remove what has it now" if fixed else anew,
            )
        new, note = _renumber(record, text, [there for _, there in used], removal.list_removed(e))
        used.append(("", new))
        notes.append(note)
    interface = record["interface"]
    try:
        verbs.choose_interface(record, others, ())
    except StrataError as error:
        if not renumber:
            raise AlreadyExists(f"{why}: {error.message}", hint=anew) from None
        record["interface"] = ""
        verbs.choose_interface(record, others, removal.list_removed(e))
        notes.append(f"its bridge is {record['interface']} now, as {interface} is taken")
    return notes


def _list_used(record: Record, others: Sequence[Record]) -> list[tuple[str, Subnet]]:
    """(who, subnet) of all that networks and the host have, this network's own bridge aside."""
    found = []
    for other in others:
        ranges = other["overlay"]["ranges"] if plan.is_overlay(other) else []
        texts = [*(subnet["subnet"] for subnet in other["subnets"]), *ranges]
        found += [(f"network {other['name']}", parse_subnet(text)) for text in texts]
    for there in act.list_host_subnets(besides=record["interface"]):
        found.append((f"the host, which has a route to {there.text}", there))
    return found


def _renumber(
    record: Record, old: str, used: Sequence[Subnet], removed: Sequence[Record]
) -> tuple[Subnet, str]:  # fmt: skip
    """Give a network another subnet for one that is taken; it, and a note about it."""
    taken = parse_subnet(old)
    new = verbs.find_subnet(used, removed) if taken.family == V4 else model.make_local_subnet()
    record["subnets"] = [
        {"subnet": new.text, "gateway": plan.first_address(new), "lease_range": None}
        if subnet["subnet"] == old else subnet
        for subnet in record["subnets"]
    ]  # fmt: skip
    lost = [route for route in record["routes"]
            if route.get("gateway") and taken.holds(*parse_address(route["gateway"]))]  # fmt: skip
    record["routes"] = [route for route in record["routes"] if route not in lost]
    note = f"its subnet is {new.text} now, as {old} is taken"
    if lost:
        note += f"; without its route to {', '.join(route['destination'] for route in lost)}"
    return new, note


# -- its containers --------------------------------------------------------------------------------


def follow(e: Engine, record: Record) -> list[str]:
    """Let a container that does not run, or its networks, follow what came back.

    Notes on networks it misses and on addresses they cannot give any more. The caller has the
    container's lock.
    """
    from strata.engine.containers.create import save

    notes, changed = [], False
    for item in record["config"].get("networks") or ():
        network = e.records.find("network", item.get("id", ""))
        if network is None:
            notes.append(f"its network {item['name']} is not there")
            continue
        if network["name"] != item["name"]:
            item["name"], changed = network["name"], True
        try:
            joining.check_item(network, item)
        except UsageError as error:
            notes.append(error.message)
    if changed:
        save(e, record)
    return notes
