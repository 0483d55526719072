"""``update``: other limits for a container, at once through the runtime and in its record.

The record is the truth. Whatever happens half way, a running container is given what its record
says (`settle`), so a limit is either changed in both or in none.
"""

from __future__ import annotations

import os

from strata import jsontext, trace
from strata.engine import events, names
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.errors import UsageError
from strata.linux import cgroup
from strata.linux.write import write_all
from strata.oci import resources, spec
from strata.runtime import launch as runtime
from strata.runtime import limits
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.oci.facts import HostFacts

#: as many as the kernel has numbers for: PID_MAX_LIMIT
_MANY_PIDS = 1 << 22

#: the settings that can be changed while a container runs
LIMITS = (
    "memory", "memory_swap", "memory_reservation", "memory_swappiness", "cpus", "cpu_shares",
    "cpu_quota", "cpu_period", "cpu_rt_period", "cpu_rt_runtime", "cpuset_cpus", "cpuset_mems",
    "pids_limit", "blkio_weight",
)  # fmt: skip


def update(e: Engine, name: str, changes: Mapping[str, Any]) -> str:
    """Change settings of a container (`LIMITS`, ``restart``); return its id.

    `UsageError` for what this host cannot limit and for less memory than is in use,
    `RuntimeFailure` when the kernel refuses a value; then nothing is changed.
    """
    record = names.get_container(e, name)
    limits.check({**record["config"], **changes}, e.driver.name)
    e.recover()  # before the lock, as it may start this container
    with e.hold(record) as record:
        config = {**record["config"], **changes}
        live = lifecycle.derive(record) in lifecycle.LIVE
        if live and changes.get("memory"):
            check_memory(record["state"]["pid"], changes["memory"])
        with e.journal.begin("update", ["settle-update", record["id"]]):
            if live and any(key in LIMITS for key in changes):
                _apply(e, {**record, "config": config})
                trace.point("update:applied")
            record["config"] = config
            _save(e, record)
            trace.point("update:recorded")
        if live and "restart" in changes:
            from strata.engine.containers import supervising

            if supervising.is_needed(record) or record["id"] in supervising.list_marks(e):
                supervising.mark(e, record["id"])
    events.emit_container(e, "update", record)
    return str(record["id"])


def check_memory(pid: int, limit: int) -> None:
    """Refuse a limit in bytes below what a running container cannot give back. `UsageError`.

    cgroup v1 refuses it by itself; v2 sets it and ends the container for using more.
    """
    folder = cgroup.find_directories(pid).get("")
    if folder is None:
        return
    try:
        with open(f"{folder}/memory.stat") as file:
            pairs = (line.split() for line in file)
            used = {key: int(value) for key, value in pairs}
    except FileNotFoundError:  # it ended, or nobody counts its memory
        return
    held = sum(used.get(key, 0) for key in ("anon", "shmem", "kernel"))
    held -= used.get("slab_reclaimable", 0)
    if limit < held:
        raise UsageError(
            f"a memory limit of {limit} bytes is less than the {held} that are in use",
            hint="the kernel would kill the container: stop it first, or choose a higher limit",
        )


def _save(e: Engine, record: Record) -> None:
    from strata.engine.containers.create import save

    save(e, record)


def settle(e: Engine, container_id: str) -> None:
    """Give a running container the limits its record says. Idempotent."""
    record = e.records.find("container", container_id)
    if record is not None and lifecycle.derive(record) in lifecycle.LIVE:
        _apply(e, record)


def _apply(e: Engine, record: Record) -> None:
    from strata.runtime.host import read_host

    config = {key: record["config"].get(key) for key in LIMITS}
    document, warnings = plan(config, read_host(config))
    for warning in warnings:
        os.write(2, f"WARN: {warning}\n".encode())
    chosen = life.get_runtime(e, record)
    fd = os.memfd_create("resources", 0)
    try:
        write_all(fd, jsontext.dumps(document).encode())
        path = f"/proc/{os.getpid()}/fd/{fd}"
        runtime.run_runtime(chosen, ["update", "--resources", path, record["id"]])
    finally:
        os.close(fd)
    if "quota" not in document.get("cpu", ()):
        # crun 1.8 cannot take a quota away.
        cgroup.lift_cpu_quota(record["state"]["pid"])


def plan(config: Mapping[str, Any], host: HostFacts) -> tuple[Record, list[str]]:
    """The ``resources`` of the runtime spec for these limits, and warnings. Pure.

    A limit that is no more is taken away with the kernel's word for none.
    """
    warnings: list[str] = []
    found = spec.make_resources(config, host, warnings)
    document: Record = {"process": {}, "linux": {"resources": found}}
    resources.add(document, {"config": {k: v for k, v in config.items() if v}}, host)
    del found["devices"]
    # crun 1.8 passes -1 on, which the kernel refuses.
    found.setdefault("pids", {"limit": _MANY_PIDS})
    if not config.get("memory"):
        found["memory"] = {"limit": -1, **({"swap": -1} if host.swap_limit else {}),
                           **found.get("memory", {})}  # fmt: skip
    return found, warnings


def check_restart(record: Record, policy: Mapping[str, Any]) -> None:
    """Refuse a policy that contradicts how the container was made."""
    if policy["policy"] != "no" and record["config"]["remove"]:
        raise UsageError(
            "a container made with --rm cannot have a restart policy",
            hint="it is removed when it ends",
        )
