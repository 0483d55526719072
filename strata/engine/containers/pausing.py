"""Pausing containers: their cgroup's freezer, through the OCI runtime, and the record's status.

The runtime freezes with ``freezer.state`` on cgroup v1 and ``cgroup.freeze`` on v2. What is
frozen is a fact of the kernel; the record only repeats it, so a command that was killed between
the two is settled by looking (`settle`).
"""

from __future__ import annotations

from strata import trace
from strata.engine import events
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.errors import RuntimeFailure
from strata.linux import cgroup, process
from strata.runtime import launch as runtime
from strata.store import lifecycle


def pause(e: Engine, record: Record) -> None:
    """Freeze every process of a running container. `StateImproper`."""
    _switch(e, record, "pause", lifecycle.PAUSED)


def unpause(e: Engine, record: Record) -> None:
    """Let a paused container go on. `StateImproper`."""
    _switch(e, record, "unpause", lifecycle.RUNNING)


def _switch(e: Engine, record: Record, verb: str, status: str) -> None:
    # The lock is given back before the journal's step runs, which takes it.
    with e.begin(verb, ["settle-pause", record["id"]]), e.hold(record) as fresh:
        record = fresh
        lifecycle.check(verb, record, lifecycle.derive(record))
        word = "pause" if status == lifecycle.PAUSED else "resume"
        runtime.run_runtime(life.get_runtime(e, record), [word, record["id"]])
        trace.point(f"{verb}:switched")
        record["state"]["status"] = status
        e.records.save(record, durable=False)
        trace.point(f"{verb}:recorded")
    events.emit_container(e, verb, record)


def thaw(e: Engine, record: Record) -> None:
    """Let a frozen container go on because it is to end: a frozen process takes no signal."""
    state = record["state"]
    if not cgroup.is_frozen(state["pid"]):
        return
    try:
        runtime.run_runtime(life.get_runtime(e, record), ["resume", record["id"]])
    except RuntimeFailure:
        # With cgroup v2 SIGKILL reaches it all the same, and it may be dead by now.
        if not process.wait_gone(state["pid"], state["pid_start"], 1.0):
            raise


def settle(e: Engine, container_id: str) -> None:
    """Make the record say whether the container is frozen. Idempotent."""
    record = e.records.find("container", container_id)
    if record is None:
        return
    with e.hold_if_there(record, timeout=5) as record:
        if record is None:
            return
        if lifecycle.derive(record) not in (lifecycle.RUNNING, lifecycle.PAUSED):
            return
        frozen = cgroup.is_frozen(record["state"]["pid"])
        status = lifecycle.PAUSED if frozen else lifecycle.RUNNING
        if record["state"]["status"] != status:
            record["state"]["status"] = status
            e.records.save(record, durable=False)
