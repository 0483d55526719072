"""What only some containers ask for, checked and prepared: loaded when a record has such a key.

`resolve` runs before a container is made, so that what this host cannot do makes nothing;
`prepare` runs before each start, as hosts change.
"""

from __future__ import annotations

import os

from strata.engine import names, secrets
from strata.engine.core import Engine, Record
from strata.errors import NotFound, StateImproper, StrataError, UsageError
from strata.oci import namespaces
from strata.oci.spec import NAMESPACE_KEYS, container_hostname
from strata.runtime import limits
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.linux import locks
    from strata.linux.mount import MountStep
    from strata.oci.facts import HostFacts
    from strata.runtime.launch import Launched


def resolve(e: Engine, config: Record, image: Record) -> locks.Lock | None:
    """Check a planned ``config`` against this host, and turn names in it into ids.

    The lock, if any, is to be held until the record is saved.
    """
    limits.check(config, e.driver.name)
    if "requires" in config:
        config["requires"] = [names.get_container(e, text)["id"] for text in config["requires"]]
    if "cdi" in config:
        from strata.runtime import cdi

        cdi.resolve(config["cdi"])
    for item in config.get("secrets", ()):
        secrets.get(e, item["name"])
    for key in (NAMESPACE_KEYS & config.keys()) - {"userns"}:
        kind, _, name = config[key].partition(":")
        if kind == "container":
            other = names.get_container(e, name)
            config[key] = f"container:{other['id']}"
            if key == "ipc_mode" and other["config"].get(key) in ("private", "none"):
                raise UsageError(
                    f"IPC mode of container {other['name']} is not shareable",
                    hint="make it with --ipc shareable, the default",
                )
        elif kind == "ns" and not os.path.exists(name):
            raise UsageError(f"the namespace {name} does not exist")
    if "userns" not in config:
        return None
    from strata.engine.containers import userspace

    return userspace.resolve(e, config, image)


def prepare(e: Engine, record: Record) -> None:
    """Start what a container needs, and check once more what this host can do."""
    config = record["config"]
    if lifecycle.derive(record) in lifecycle.LIVE:
        return
    limits.check(config, e.driver.name)
    start_required(e, record)


def list_required(config: Record) -> list[str]:
    """Ids of the containers that must run before this one starts."""
    found = list(config.get("requires", ()))
    for key in sorted(NAMESPACE_KEYS & config.keys()):
        kind, _, container_id = config[key].partition(":")
        if kind == "container":
            found.append(container_id)
    return list(dict.fromkeys(found))


def join(e: Engine, record: Record, host: HostFacts) -> list[MountStep]:
    """Look up the namespaces a container joins; the mounts that come with them."""
    config = record["config"]
    steps: list[MountStep] = []
    for key in sorted(NAMESPACE_KEYS & config.keys()):
        kind, _, rest = config[key].partition(":")
        name = namespaces.KINDS[key]
        if kind == "ns":
            host.joined[name] = rest
        if kind != "container":
            continue
        other = e.records.get("container", rest)
        if lifecycle.derive(other) not in lifecycle.LIVE:
            raise StateImproper(f"container {other['name']} is not running, so none can join it")
        pid = int(other["state"]["pid"])
        host.joined[name] = f"/proc/{pid}/ns/{name}"
        if name == "uts":
            host.hostname = container_hostname(other, host.hostname)
        if name == "ipc":
            from strata.linux.borrow import BorrowStep

            target = f"{e.paths.bundle(record['id'])}/{namespaces.SHM}"
            steps.append(BorrowStep(pid, "/dev/shm", target))
    return steps


def start_required(e: Engine, record: Record, above: tuple[str, ...] = ()) -> None:
    """Start the containers that this one requires, and theirs first. Idempotent."""
    from strata.engine.containers import life

    for needed in list_required(record["config"]):
        other = e.records.find("container", needed)
        if other is None:
            raise NotFound(
                f"container {record['name']} requires container {needed[:12]}, which is gone",
                hint="make it anew without it",
            )
        if other["id"] in (*above, record["id"]):
            raise StateImproper(f"containers require each other: {record['name']}, {other['name']}")
        if lifecycle.derive(other) not in lifecycle.LIVE:
            start_required(e, other, (*above, record["id"]))
            life.ensure_started(e, other)


def order_ends(e: Engine, which: Sequence[str]) -> list[list[str]]:
    """Divide names of containers into groups to stop one after another: each container comes
    after those that require it. What is no container comes first."""
    needs: dict[str, set[str]] = {}
    called: dict[str, list[str]] = {}
    first = []
    for text in which:
        try:
            record = names.get_container(e, text)
        except StrataError:
            first.append(text)
            continue
        needs[record["id"]] = set(list_required(record["config"]))
        called.setdefault(record["id"], []).append(text)
    groups = [first] if first else []
    while needs:
        needed = set().union(*needs.values())
        # Some that require each other, which can only be made by hand, go all at once.
        ready = [found for found in needs if found not in needed] or list(needs)
        groups.append([text for found in ready for text in called[found]])
        for found in ready:
            del needs[found]
    return groups


def write_pid_files(config: Record, launched: Launched) -> None:
    """Write the pids that ``--pidfile`` and ``--conmon-pidfile`` ask for, each file at once."""
    for key, pid in (("pidfile", launched.pid), ("conmon_pidfile", launched.conmon_pid)):
        path = config.get(key)
        if not path:
            continue
        try:
            with open(f"{path}.{os.getpid()}", "x") as file:
                file.write(str(pid))
            os.rename(f"{path}.{os.getpid()}", path)
        except OSError as error:
            raise UsageError(f"cannot write the pid file {path}: {error.strerror}") from None
