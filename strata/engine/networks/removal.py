"""Removing networks: into the trash, like everything else.

A network's trash entry holds its record; from when it is written the network counts as removed.
Name, bridge, tunnel and rules go at once. The private key of an overlay stays where it is, in
`strata.engine.networks.overlay.key_path`, readable by root alone, until the entry is emptied.
The way back is `strata.engine.networks.restoring`.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.filters import has_label, is_before, make_filter
from strata.engine.networks import host, joining, overlay
from strata.engine.networks.joining import find_network
from strata.engine.system import collect
from strata.errors import InUse, NotFound, UsageError
from strata.linux.tree import remove_file
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from strata.engine.filters import Filters


def users_of(e: Engine, network_id: str) -> list[Record]:
    """Containers that join a network when they run."""
    return [
        container for container in e.records.list_records("container")
        if any(item.get("id") == network_id for item in container["config"].get("networks", ()))
    ]  # fmt: skip


def get_removable(e: Engine, text: str) -> Record:
    """The network a user means to remove. `NotFound`, `UsageError` for the default one."""
    record = find_network(e, text)
    if record is None:
        raise NotFound(
            f'unable to find network with name or ID "{text}": network not found',
            hint="`strata network ls` lists them",
        )  # fmt: skip
    if record["name"] == joining.DEFAULT_NAME:
        raise UsageError(f"default network {record['name']} cannot be removed")
    return record


def refuse_used(record: Record, users: Sequence[Record]) -> None:
    """`InUse` with the list, unless it is empty."""
    if users:
        listed = ", ".join(f"{user['name']} ({user['id'][:12]})" for user in users)
        raise InUse(
            f'"{record["name"]}" has associated containers with it. Use -f to forcibly delete '
            f"containers and pods: network is being used: {listed}",
            hint="remove or disconnect those containers first", exit_code=2,
        )  # fmt: skip


def remove(
    e: Engine, which: Sequence[str], *, force: bool = False, time: int | None = None
) -> list[str]:  # fmt: skip
    """Move networks to the trash; return their names. In use: refused, or with ``force`` the
    containers go first, into the trash as well."""
    gone = []
    for record in names.get_each(e, get_removable, which, ignore=force, exit_code=1):
        for user in users_of(e, record["id"]) if force else ():
            from strata.engine.containers.removal import remove_record

            remove_record(e, user, force=True, volumes=False, verb="network-rm", time=time)
        if discard(e, record):
            gone.append(str(record["name"]))
    if gone:
        collect.collect_detached(e)
    return gone


def discard(e: Engine, record: Record, *, verb: str = "network-rm", keep: bool = True) -> bool:
    """Move one network that no container uses to the trash, or, without ``keep``, destroy it.

    False when it is gone already. `InUse`.
    """
    e.allow_reserve()
    e.recover()
    with e.lock_networks():
        fresh = e.records.find("network", record["id"])
        if fresh is None:
            return False
        refuse_used(fresh, users_of(e, fresh["id"]))
        with e.journal.begin(verb, ["settle-network", fresh["id"]]):
            e.bury("network", fresh, [], verb=verb, keep=keep)
            trace.point(f"{verb}:trashed")
            settle(e, fresh["id"])
    events.emit(e, events.NETWORK, "remove", id=fresh["id"], name=fresh["name"])
    return True


def settle(e: Engine, network_id: str) -> None:
    """Finish a removal whose trash entry was written; nothing when it was not. Idempotent."""
    entry = e.trash.find(network_id)
    if entry is None or "restoring" in entry:
        return
    record = entry["record"]
    e.records.drop_name("network", record["name"], network_id)
    e.records.delete("network", network_id)
    try:
        os.rename(copy_path(e, network_id), removed_path(e, network_id))
    except FileNotFoundError:
        pass
    trace.point("network-rm:forgotten")
    host.take_down(e, record)
    if not entry["due"]:
        _destroy(e, network_id)


def copy_path(e: Engine, network_id: str) -> str:
    """Where the copy of a network's record lies: not beside the records."""
    return f"{e.images_folder}/networks/{network_id}.json"


def removed_path(e: Engine, network_id: str) -> str:
    """Where that copy lies while the network is in the trash."""
    return f"{e.images_folder}/networks/{network_id}.removed"


def _destroy(e: Engine, network_id: str) -> None:
    overlay.drop_key(e, network_id)
    remove_file(removed_path(e, network_id))
    e.trash.delete(network_id)
    trace.point("network-rm:destroyed")


def empty(e: Engine, network_id: str) -> None:
    """Destroy what the trash holds of a network, unless it is coming back. Idempotent."""
    with e.lock_networks():
        entry = e.trash.find(network_id)
        if entry is None or "restoring" in entry:
            return
        if e.records.find("network", network_id) is not None:
            settle(e, network_id)
        _destroy(e, network_id)


def list_removed(e: Engine) -> list[Record]:
    """The records of the networks that can still be brought back."""
    return [entry["record"] for entry in e.trash.list_entries()
            if entry["object"] == "network" and entry["due"]]  # fmt: skip


def prune(e: Engine, filters: Filters | None = None) -> list[str]:
    """Move networks no container uses to the trash, but the default one; return their names."""
    gone = []
    for record in choose_prunable(e, filters):
        try:
            if discard(e, record, verb="network-prune"):
                gone.append(str(record["name"]))
        except InUse:
            continue
    return gone


def choose_prunable(
    e: Engine, filters: Filters | None = None, without: Collection[str] = ()
) -> list[Record]:  # fmt: skip
    """The networks that `prune` removes, by name, unless they come into use meanwhile.

    ``without``: ids of containers that are taken for gone already.
    """
    passes = make_filter("network prune", filters, {
        "label": lambda record, value: has_label(record["labels"], value),
        "label!": lambda record, value: not has_label(record["labels"], value),
        "until": lambda record, value: is_before(parse_time(record["created"]), value),
    })  # fmt: skip
    used = {
        item.get("id") for container in e.records.list_records("container")
        if container["id"] not in without for item in container["config"].get("networks", ())
    }  # fmt: skip
    return sorted(
        (
            record for record in e.records.list_records("network")
            if record["name"] != joining.DEFAULT_NAME and record["id"] not in used
            and passes(record)
        ),
        key=lambda record: str(record["name"]),
    )  # fmt: skip
