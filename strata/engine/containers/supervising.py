"""Restart policies and health intervals: what the store's supervisor is there for.

A container that has either leaves a mark in ``<runroot>/watch`` at each start. As long as there
are marks one process per store watches (`strata.engine.system.supervisor`); it is started with
the first mark, and by the next command when it was killed. What there is to do it does through
commands of its own, so it holds no lock while it waits and loses nothing when it dies: all that
counts is in the records and in the marks.
"""

from __future__ import annotations

import os

from strata import command, trace
from strata.engine import events
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.errors import StateImproper
from strata.linux import cgroup, locks
from strata.linux.tree import remove_file
from strata.store import lifecycle

_UNENDING = ("always", "unless-stopped")


def get_policy(record: Record) -> tuple[str, int]:
    """A container's restart policy and how often ``on-failure`` tries (0: no end)."""
    found = record["config"].get("restart") or {}
    return str(found.get("policy") or "no"), int(found.get("retries") or 0)


def get_startup(record: Record) -> Record:
    """The check that comes before the regular ones, as long as it has not passed; else {}."""
    found: Record = (record["config"].get("health") or {}).get("startup") or {}
    known = (record["state"].get("health") or {}).get("startup") or {}
    return {} if known.get("passed") else found


def get_interval(record: Record) -> float:
    """Seconds between health checks; 0 when there are none or only by hand."""
    health = get_startup(record) or record["config"].get("health") or {}
    return float(health.get("interval") or 0) if health.get("test") else 0.0


def is_needed(record: Record) -> bool:
    """Whether a running container needs somebody who watches it."""
    health = record["config"].get("health") or {}
    intervals = (part.get("interval") for part in (health, health.get("startup") or {}))
    return get_policy(record)[0] != "no" or (bool(health.get("test")) and any(intervals))


def was_stopped(record: Record) -> bool:
    """Whether a container's last run was ended on purpose: by somebody, or as the host went down
    (``by_host``, which the next boot makes good)."""
    state = record["state"]
    return bool(state.get("by_user") or state.get("by_host"))


def is_due(record: Record) -> bool:
    """Whether a container that has ended is to be started again. Pure."""
    policy, retries = get_policy(record)
    state = record["state"]
    if was_stopped(record) or not state["started"]:
        return False
    if policy == "on-failure":
        tried = int(state.get("restarts") or 0)
        return state["exit_code"] != 0 and (not retries or tried < retries)
    return policy in _UNENDING


# -- marks -----------------------------------------------------------------------------------------


def find_marks(e: Engine) -> str:
    """The directory of the marks."""
    return f"{e.paths.runroot}/watch"


def lock_path(e: Engine) -> str:
    """The lock that the supervisor holds as long as it lives. It guards nothing else."""
    return f"{e.paths.locks}/9-supervisor"


def mark(e: Engine, container_id: str) -> None:
    """Have a container watched from now on; its mark is renewed when there is one."""
    folder = find_marks(e)
    path = f"{folder}/{container_id}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    os.close(fd)
    ensure(e)


def unmark(e: Engine, container_id: str) -> None:
    """Nobody needs to watch a container any more. Idempotent."""
    remove_file(f"{find_marks(e)}/{container_id}")


def list_marks(e: Engine) -> list[str]:
    """Ids of the containers to watch."""
    try:
        return os.listdir(find_marks(e))
    except FileNotFoundError:
        return []


def ensure(e: Engine) -> None:
    """Start the supervisor when there are marks and nobody watches. Cheap when there are none."""
    if not list_marks(e) or not command.find_own_argv():
        return
    held = locks.try_lock(lock_path(e))
    if held is None:
        return
    held.release()
    argv = [*command.find_own_argv(), "--root", e.paths.root, "--runroot", e.paths.runroot,
            "system", "supervise"]  # fmt: skip
    # Not our child, and its directory must not keep a file system of the caller's busy.
    wrapped = ["/bin/sh", "-c", '{ cd /; exec "$0" "$@"; } &', *argv]
    argv = cgroup.outliving(wrapped)
    os.waitpid(command.spawn_detached(argv, {**command.ENVIRONMENT}, {}), 0)


def begin_state(record: Record, *, revived: bool) -> Record:
    """What a new run's state has beside the usual: restarts so far, and health.

    `StateImproper` for one to be started again by its policy that was stopped meanwhile.
    """
    before = record["state"]
    if revived and was_stopped(record):
        raise StateImproper(f"container {record['name']} was stopped meanwhile")
    found: Record = {"restarts": int(before.get("restarts") or 0) if revived else 0}
    if (record["config"].get("health") or {}).get("test"):
        from strata.engine.containers import health

        found["health"] = health.make_state(record)
    return found


# -- starting again --------------------------------------------------------------------------------


def revive(e: Engine, container_id: str) -> bool:
    """Start a container that has ended if its policy says so; whether it did."""
    record = e.records.find("container", container_id)
    if record is None:
        return False
    with e.hold_if_there(record) as record:
        if record is None:
            return False
        if lifecycle.is_alive(record["state"]):
            return False
        life.settle_locked(e, record)
        if not is_due(record):
            return False
        record["state"]["restarts"] = int(record["state"].get("restarts") or 0) + 1
        e.records.save(record, durable=False)
        trace.point("revive:counted")
    events.emit_container(e, "restart", record)
    try:
        life.start_container(e, record, revived=True)
    except StateImproper:
        # Somebody started it, or stopped it for good.
        return False
    return True
