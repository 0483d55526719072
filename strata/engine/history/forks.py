"""Forks: a set of containers with their volumes, copied as they are at one moment, and started.

The snapshots of a fork are of one moment (`strata.engine.history.moments`). Members are called
``PREFIX-NAME``, have the label `LABEL` and stand on clones. They meet each other on networks of
their own, made like those they came from, under the names they had; published ports are free ones
the kernel chooses. Nothing of a fork touches what it was made of: host paths that were mounted
are the exception, and said.
"""

from __future__ import annotations

from strata import trace
from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.history import clones, facts, moments, snapshot_removal, targets
from strata.engine.volumes import making
from strata.errors import AlreadyExists, NotFound, StrataError, UsageError
from strata.store import lifecycle
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strata.store.journal import Operation

#: label of every member; its value is the fork's name
LABEL = "io.strata.fork"


def fork(
    e: Engine, which: Sequence[str], prefix: str, *, start: bool = True, quiesce: str = "",
    report: Callable[[str], None] = lambda text: None,
) -> Record:  # fmt: skip
    """Fork containers as ``prefix``; return the row of `list_forks` for it.

    `AlreadyExists` when there is such a fork, or a member's name is taken. What fails leaves
    nothing; only when members do not start, they stay and the error says so.
    """
    names.check_name(prefix, "fork")
    containers = [facts.reconcile(e, names.get_container(e, text)) for text in which]
    if len({record["id"] for record in containers}) < len(containers):
        raise UsageError("a container is named twice")
    if any(row["Name"] == prefix for row in list_forks(e)):
        raise AlreadyExists(f"there is a fork {prefix!r} already",
                            hint=f"`strata fork rm {prefix}` removes it")  # fmt: skip
    containers = _order(containers)
    _check_joined(e, containers)
    moment = f"{targets.FORK_PREFIX}{new_id(8)}"
    members: list[Record] = []
    sources = {record["id"]: record for record in containers}
    for record in containers:
        sources.update({v["id"]: v for v in moments.list_volumes(e, record)})
    with e.begin("fork") as operation:
        operation.plan(*(
            ["drop-moment", source["kind"], source["id"], moment] for source in sources.values()
        ))  # fmt: skip
        moments.take(
            e, [f"container:{record['name']}@{moment}" for record in containers],
            with_volumes=True, quiesce=quiesce, report=report,
        )  # fmt: skip
        trace.point("fork:frozen")
        networks = _make_networks(e, operation, containers, prefix)
        with making.Held(e) as held:
            copies = {
                source["id"]: _clone_volume(e, operation, held, source, moment, prefix)
                for source in sorted(sources.values(), key=lambda record: str(record["name"]))
                if source["kind"] == "volume"
            }  # fmt: skip
            for record in containers:
                config = _plan_config(record, copies, networks, members, prefix, report)
                frozen = targets.get_source(e, record, moment)
                members.append(clones.copy_container(
                    e, operation, record, frozen, f"{prefix}-{record['name']}", config=config,
                    cloned=_origin(record, moment),
                ))  # fmt: skip
    if start:
        _start(e, prefix, members)
    targets.emit(e, "fork", containers[0], moment, to=prefix)
    return next(row for row in list_forks(e) if row["Name"] == prefix)


def _order(containers: Sequence[Record]) -> list[Record]:
    """Containers so that whoever others join or require comes before them."""
    left = sorted(containers, key=lambda record: str(record["created"]))
    known = {record["id"] for record in left}
    ordered: list[Record] = []
    while left:
        done = {record["id"] for record in ordered}
        ready = [r for r in left if not (_needs(r) & known) - done]
        if not ready:
            ready = left[:1]
        ordered += ready
        left = [record for record in left if record not in ready]
    return ordered


def _check_joined(e: Engine, containers: Sequence[Record]) -> None:
    """`UsageError` when one joins the namespaces of a container that is not forked along."""
    chosen = {record["id"] for record in containers}
    for record in containers:
        for other in sorted(_list_joined(record) - chosen):
            found = e.records.find("container", other)
            name = found["name"] if found is not None else other[:12]
            raise UsageError(f"{record['name']} joins the container {name}, which is not forked",
                             hint=f"name {name} too")  # fmt: skip


def _needs(record: Record) -> set[str]:
    """Ids of containers whose namespaces a container joins, or that it requires."""
    return {*record["config"].get("requires", ()), *_list_joined(record)}


def _list_joined(record: Record) -> set[str]:
    found = set()
    for key in ("network", "pid_mode", "ipc_mode", "uts_mode"):
        kind, _, other = str(record["config"].get(key, "")).partition(":")
        if kind == "container":
            found.add(other)
    return found


def _origin(record: Record, moment: str) -> Record:
    return {"target": record["id"], "name": record["name"], "snapshot": moment}


def _clone_volume(
    e: Engine, operation: Operation, held: making.Held, volume: Record, moment: str, prefix: str
) -> Record:  # fmt: skip
    name = new_id() if volume["anonymous"] else f"{prefix}-{volume['name']}"
    return making.make(
        e, operation, held, name, native=volume.get("native"),
        labels={**volume["labels"], LABEL: prefix}, profile=volume["profile"],
        options=volume["options"], origin=targets.get_source(e, volume, moment),
        anonymous=volume["anonymous"], cloned=_origin(volume, moment),
    )  # fmt: skip


def _make_networks(
    e: Engine, operation: Operation, containers: Sequence[Record], prefix: str
) -> dict[str, Record]:  # fmt: skip
    """A network like each that the members are on; id of the old one -> record of the new one."""
    wanted = {item["id"]: item["name"] for record in containers
              if record["config"]["network"] == "bridge"
              for item in record["config"].get("networks", ())}  # fmt: skip
    if not wanted:
        return {}
    from strata.engine.networks import verbs

    made = {}
    for network_id, name in wanted.items():
        old = e.records.find("network", network_id)
        if old is None:
            raise NotFound(f"the network {name} is not there", hint="`strata network ls`")
        driver = old["driver"] if old["driver"] == "bridge" else ""
        if not driver:
            raise UsageError(
                f"network {name} is a {old['driver']} one: it cannot be made again beside itself",
                hint="fork the container without it: `strata network disconnect`",
            )
        copy_id = new_id()
        operation.plan(["drop-network", copy_id])
        made[network_id] = verbs.create(
            e, f"{prefix}-{name}", ipv6=old["ipv6"], internal=old["internal"], dns=True,
            labels={**old["labels"], LABEL: prefix}, network_id=copy_id,
        )  # fmt: skip
        trace.point("fork:network-made")
    return made


def _plan_config(
    record: Record, copies: Mapping[str, Record], networks: Mapping[str, Record],
    members: Sequence[Record], prefix: str, report: Callable[[str], None],
) -> Record:  # fmt: skip
    """Settings of a member: those of its container, but on its own volumes, networks, ports."""
    config: Record = {**record["config"], "remove": False}
    config["labels"] = {**config["labels"], LABEL: prefix}
    config["mounts"] = [dict(item) for item in config["mounts"]]
    for item in config["mounts"]:
        copy = copies.get(item.get("volume") or "")
        if copy is not None:
            item.update(source=copy["name"], volume=copy["id"])
        elif item["type"] == "bind":
            report(f"{record['name']}: {item['source']} of the host is shared with the fork")
    config["ports"] = [{**port, "host_port": 0} for port in config.get("ports", ())]
    config["networks"] = [
        {
            **item, "id": networks[item["id"]]["id"], "name": networks[item["id"]]["name"],
            "aliases": [*dict.fromkeys([record["name"], *item.get("aliases", ())])],
            "ips": [], "mac": "",
        }
        for item in config.get("networks", ()) if item["id"] in networks
    ]  # fmt: skip
    new_ids = {member["cloned"]["target"]: member["id"] for member in members}
    for key in ("network", "pid_mode", "ipc_mode", "uts_mode"):
        kind, _, other = str(config.get(key, "")).partition(":")
        if kind == "container":
            config[key] = f"container:{new_ids[other]}"
    if config.get("requires"):
        config["requires"] = [new_ids.get(other, other) for other in config["requires"]]
    for key in ("pidfile", "conmon_pidfile"):
        config.pop(key, None)
    return config


def _start(e: Engine, prefix: str, members: Sequence[Record]) -> None:
    from strata.engine.containers import life

    for member in members:
        try:
            life.ensure_started(e, e.records.get("container", member["id"]))
        except StrataError as error:
            raise StrataError(
                f"the fork {prefix} is made, but {member['name']} does not start: {error.message}",
                hint=error.hint or f"`strata fork rm {prefix}` removes it",
            ) from error
        trace.point("fork:started")


def drop_moment(e: Engine, kind: str, object_id: str, name: str) -> None:
    """Destroy a snapshot that a fork took and could not use. Idempotent."""
    record = e.records.find(kind, object_id)
    found = targets.find_snapshot(e, record, name) if record is not None else None
    if found is None or record is None:
        return
    e.driver.destroy(found.full_name)
    if name in record.get("snapshots", ()):
        snapshot_removal.disown(e, record, name)


def drop_network(e: Engine, network_id: str) -> None:
    """Remove a network that a fork made and could not use. Idempotent."""
    from strata.engine.networks import removal

    record = e.records.find("network", network_id)
    if record is not None:
        removal.discard(e, record, verb="fork", keep=False)


# -- the forks there are ---------------------------------------------------------------------------


def list_forks(e: Engine) -> list[Record]:
    """Forks by name: ``Name``, ``Containers`` (name, of, status), ``Volumes``, ``Networks``."""
    found: dict[str, Record] = {}

    def get(name: str) -> Record:
        return found.setdefault(
            name, {"Name": name, "Containers": [], "Volumes": [], "Networks": []}
        )

    for container in e.records.list_records("container"):
        name = container["config"]["labels"].get(LABEL)
        if name:
            get(name)["Containers"].append({
                "Name": container["name"], "Of": (container.get("cloned") or {}).get("name", ""),
                "Status": lifecycle.derive(container), "Id": container["id"],
            })  # fmt: skip
    for kind, key in (("volume", "Volumes"), ("network", "Networks")):
        for record in e.records.list_records(kind):
            name = record["labels"].get(LABEL)
            if name:
                get(name)[key].append(record["name"])
    for row in found.values():
        row["Containers"].sort(key=lambda member: str(member["Name"]))
        row["Volumes"].sort()
        row["Networks"].sort()
    return [found[name] for name in sorted(found)]


def get_fork(e: Engine, name: str) -> Record:
    """The fork of this name; `NotFound`."""
    for row in list_forks(e):
        if row["Name"] == name:
            return row
    raise NotFound(f"there is no fork {name!r}", hint="`strata fork ls` lists them")


def plan_removal(e: Engine, name: str) -> list[Record]:
    """What `remove` would take, as rows of `strata.engine.losses`."""
    from strata.engine import losses

    row = get_fork(e, name)
    found = [losses.describe(e, e.records.get("container", member["Id"]))
             for member in row["Containers"]]  # fmt: skip
    found += [losses.describe(e, names.get_volume(e, volume)) for volume in row["Volumes"]]
    return found + [losses.describe(e, network) for network in _list_networks(e, name)]


def _list_networks(e: Engine, name: str) -> list[Record]:
    return [network for network in e.records.list_records("network")
            if network["labels"].get(LABEL) == name]  # fmt: skip


def remove(e: Engine, name: str, *, time: int | None = None) -> list[str]:
    """Remove a fork: its containers, also running ones, its volumes and networks.

    They go to the trash unless the engine destroys (``Engine.destroys``). Returns their names.
    """
    from strata.engine.containers import removal
    from strata.engine.networks import removal as networks
    from strata.engine.system import collect
    from strata.engine.volumes import removal as volumes

    row = get_fork(e, name)
    gone = []
    for member in row["Containers"]:
        record = e.records.find("container", member["Id"])
        if record is not None:
            removal.remove_record(e, record, force=True, volumes=False, verb="fork-rm", time=time)
            gone.append(str(record["name"]))
    for text in row["Volumes"]:
        volumes.discard(e, names.get_volume(e, text), verb="fork-rm", keep=True)
        gone.append(text)
    for record in _list_networks(e, name):
        if networks.discard(e, record, verb="fork-rm"):
            gone.append(str(record["name"]))
    collect.collect_detached(e)
    return gone
