"""``container restore``: a container goes on from its checkpoint.

It is a start like any other (the same mounts, networks, monitor and record) in which the runtime
lets CRIU make the processes again instead of making a new one. They run as soon as they are
there, so a restore that is killed before its record says so leaves processes that the record does
not know; the journal names them, and the next command ends them. The checkpoint is removed only
after the record says that the container runs.
"""

from __future__ import annotations

import time

from strata import trace
from strata.engine import events
from strata.engine.containers import checkpoints, life
from strata.engine.core import Engine, Record
from strata.errors import NotFound, RecordError, RuntimeFailure
from strata.runtime import criu
from strata.store import files, lifecycle
from strata.times import format_time


class Wishes:
    """How a container is to go on."""

    __slots__ = ("file_locks", "ignore_ip", "ignore_mac", "keep", "tcp_established")

    def __init__(
        self, *, keep: bool = False, tcp_established: bool = False, file_locks: bool = False,
        ignore_ip: bool = False, ignore_mac: bool = False,
    ) -> None:  # fmt: skip
        self.keep = keep
        self.tcp_established = tcp_established
        self.file_locks = file_locks
        #: whether it may get other addresses, or hardware addresses, than it had
        self.ignore_ip = ignore_ip
        self.ignore_mac = ignore_mac


def restore(e: Engine, record: Record, wishes: Wishes) -> Record:
    """Let a container go on from its checkpoint. It keeps it when it cannot.

    Returns what was counted: ``runtime_restore_duration`` and ``criu_statistics``, times in
    microseconds. `StateImproper`, `NotFound` without a checkpoint, `Unable`, `RuntimeFailure`.
    """
    e.recover()
    record = e.records.get("container", record["id"])
    lifecycle.check("restore", record, lifecycle.derive(record))
    folder = checkpoints.find_folder(e, record)
    if not checkpoints.may_have(record) or not checkpoints.is_complete(folder):
        raise NotFound(
            "a complete checkpoint for this container cannot be found, cannot restore",
            hint=f"`strata container checkpoint {record['name']}` makes one while it runs",
        )
    criu.check_able(life.get_runtime(e, record))
    options = [
        *(["--tcp-established"] if wishes.tcp_established else ()),
        *(["--file-locks"] if wishes.file_locks else ()),
    ]
    state = {"restored": format_time(time.time()), **({"checkpointed": ""} if wishes.keep else {})}
    resumed = checkpoints.Resumed(
        (f"{folder}/{checkpoints.IMAGES}", options), _read_networks(record, folder, wishes), state
    )
    bundle = e.paths.bundle(record["id"])
    checkpoints.remove_logs(e, record)
    begun = time.monotonic()
    with e.journal.begin("restore", ["end-unrecorded", record["id"]]) as operation:
        try:
            launched = life.launch(e, record, owned=False, resumed=resumed)
        except RuntimeFailure as error:
            raise criu.explain(error, f"{bundle}/{criu.RESTORE_LOG}", "restored") from error
        launched.close()
        trace.point("restore:running")
        operation.replace()
        if not wishes.keep:
            checkpoints.forget(e, record)
    seconds = time.monotonic() - begun
    events.emit_container(e, "restore", record)
    counted = criu.read_statistics(bundle, "stats-restore")
    if not wishes.keep:
        checkpoints.remove_logs(e, record)
    return {"runtime_restore_duration": int(seconds * 1e6), "criu_statistics": counted}


def _read_networks(record: Record, folder: str, wishes: Wishes) -> list[Record] | None:
    """The settings of a container's networks with what it had of them before."""
    config = record["config"]
    if config["network"] != "bridge":
        return None
    try:
        status = files.read_json(f"{folder}/{checkpoints.NETWORKS}")
    except (FileNotFoundError, RecordError):
        return None
    wanted = []
    for item in config["networks"]:
        item = dict(item)
        if wishes.ignore_ip:
            item["ips"] = []
        if wishes.ignore_mac:
            item["mac"] = ""
        for name, had in (status.get(item["name"]) or {}).get("interfaces", {}).items():
            item["interface"] = name
            if not wishes.ignore_ip:
                item["ips"] = [one["ipnet"].partition("/")[0] for one in had["subnets"]]
            if not wishes.ignore_mac:
                item["mac"] = had["mac_address"]
        wanted.append(item)
    return wanted


def end_unrecorded(e: Engine, container_id: str) -> None:
    """End processes that a killed restore made and its record does not know. Idempotent."""
    record = e.records.find("container", container_id)
    if record is None:
        return
    with e.hold_if_there(record, timeout=5) as record:
        if record is not None and lifecycle.derive(record) not in lifecycle.LIVE:
            life.release_runtime(e, record)
