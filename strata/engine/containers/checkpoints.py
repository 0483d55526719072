"""Checkpoints: the processes of a running container written down, to go on later.

A checkpoint lies on the container's own dataset, in ``.strata/checkpoint`` that only root may
enter, so a snapshot taken of a checkpointed container holds memory and files of one moment::

    checkpoint/         what CRIU wrote
    pre-checkpoint/     memory written down before, which ``checkpoint/`` builds on
    config.dump         the container and its settings
    spec.dump           the runtime's configuration
    network.status      addresses and hardware addresses, to get the same again

Names and documents are Podman's, and an exported checkpoint has the same layout. That a container
may have one, its record says: ``state["checkpointed"]`` is the time, or "" when only a look at the
folder can tell (a command was killed, or another head came). A start without it drops it: memory
that is older than the files would do them harm.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.engine import events
from strata.engine.containers import life
from strata.engine.core import PRIVATE, Engine, Record
from strata.errors import StateImproper, UsageError
from strata.linux import process
from strata.linux.tree import remove_file, remove_path
from strata.runtime import criu
from strata.runtime import launch as runtime
from strata.store import files, lifecycle
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Export = Callable[[Record, Callable[[], None]], None]

IMAGES, PREVIOUS = "checkpoint", "pre-checkpoint"
CONFIG, SPEC, NETWORKS = "config.dump", "spec.dump", "network.status"
#: what CRIU leaves in the container's bundle
_LEFT = (criu.DUMP_LOG, criu.RESTORE_LOG, "stats-dump", "stats-restore")
_END_LIMIT = 10.0


class Resumed:
    """What a container goes on from: the ``source`` for its monitor (folder and options of the
    runtime), the settings of its ``networks`` (None: its own), and what its ``state`` says."""

    __slots__ = ("networks", "source", "state")

    def __init__(
        self, source: tuple[str, Sequence[str]], networks: list[Record] | None, state: Record
    ) -> None:
        self.source = source
        self.networks = networks
        self.state = state


class Wishes:
    """How a checkpoint is to be made."""

    __slots__ = (
        "file_locks", "keep", "leave_running", "pre_checkpoint", "tcp_established",
        "with_previous",
    )  # fmt: skip

    def __init__(
        self, *, keep: bool = False, leave_running: bool = False, tcp_established: bool = False,
        file_locks: bool = False, pre_checkpoint: bool = False, with_previous: bool = False,
    ) -> None:  # fmt: skip
        self.keep = keep
        self.leave_running = leave_running
        self.tcp_established = tcp_established
        self.file_locks = file_locks
        self.pre_checkpoint = pre_checkpoint
        self.with_previous = with_previous


# -- the folder ------------------------------------------------------------------------------------


def find_folder(e: Engine, record: Record) -> str:
    """Where a container's checkpoint lies, if it has one."""
    return f"{e.driver.open(record['dataset'])}/{PRIVATE}/checkpoint"


def is_complete(folder: str) -> bool:
    """Whether a container can go on from what lies there."""
    return os.path.exists(f"{folder}/{IMAGES}/{criu.INVENTORY}")


def find_time(e: Engine, record: Record) -> float | None:
    """When the checkpoint of a container was written, in seconds since the epoch; None without."""
    try:
        return os.stat(f"{find_folder(e, record)}/{IMAGES}/{criu.INVENTORY}").st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def may_have(record: Record) -> bool:
    """Whether it is worth looking for a checkpoint of a container."""
    return "checkpointed" in record["state"]


def forget(e: Engine, record: Record) -> None:
    """Remove a container's checkpoint. Idempotent."""
    remove_path(find_folder(e, record))


def remove_logs(e: Engine, record: Record) -> None:
    """Remove what CRIU left of its last work on a container."""
    for name in _LEFT:
        remove_file(f"{e.paths.bundle(record['id'])}/{name}")


# -- making one ------------------------------------------------------------------------------------


def checkpoint(e: Engine, record: Record, wishes: Wishes, export: Export | None = None) -> Record:
    """Write a running container's processes down; they end unless ``wishes`` say otherwise.

    ``export`` writes the checkpoint out while the container is still locked. One that is to run
    on stands still until ``export`` calls the function it is given: it has seen the files.
    Returns what was counted: ``runtime_checkpoint_duration`` and ``criu_statistics``, times in
    microseconds. `StateImproper`, `Unable`, `RuntimeFailure`; after these it runs on.
    """
    e.recover()  # before the lock, as it may start this container
    removes = bool(record["config"]["remove"]) and not wishes.leave_running
    _check(e, record, wishes, lasts=export is not None or wishes.pre_checkpoint or not removes)
    # Begun before the lock is taken, so that an undo finds it free.
    with (
        e.journal.begin("checkpoint", ["settle-checkpoint", record["id"]]),
        e.hold(record, timeout=120) as fresh,
    ):
        record = fresh
        lifecycle.check("checkpoint", record, lifecycle.derive(record))
        if export is not None and wishes.leave_running:
            runtime.run_runtime(life.get_runtime(e, record), ["pause", record["id"]])
            trace.point("checkpoint:frozen")
        seconds = _dump(e, record, wishes)
        counted = criu.read_statistics(e.paths.bundle(record["id"]), "stats-dump")
        if not wishes.leave_running and not wishes.pre_checkpoint:
            record["state"]["held"] = record["state"].get("held", False) or removes
            _settle(e, record)
        trace.point("checkpoint:recorded")
        events.emit_container(e, "checkpoint", record)
        if export is not None:
            export(record, lambda: thaw(e, record))
        if not wishes.keep:
            remove_logs(e, record)
    if removes and not wishes.pre_checkpoint:
        from strata.engine.containers.removal import remove_record

        remove_record(e, record, force=False, volumes=True, verb="rm-auto", keep=False)
    return {"runtime_checkpoint_duration": int(seconds * 1e6), "criu_statistics": counted}


def _check(e: Engine, record: Record, wishes: Wishes, *, lasts: bool) -> None:
    """Whether a checkpoint can be made and outlives the container's end. `StateImproper`,
    `Unable`, `UsageError`."""
    lifecycle.check("checkpoint", record, lifecycle.derive(record))
    if not lasts:
        raise StateImproper(
            "cannot checkpoint containers that have been started with '--rm' unless '--export' "
            "is used", hint="its end takes the checkpoint along",
        )  # fmt: skip
    tracking = wishes.pre_checkpoint or wishes.with_previous
    criu.check_able(life.get_runtime(e, record), tracking=tracking)
    if wishes.with_previous and not os.path.exists(f"{find_folder(e, record)}/{PREVIOUS}"):
        raise UsageError(
            f"container {record['name']} has no pre-checkpoint",
            hint="`strata container checkpoint --pre-checkpoint` makes one",
        )


def thaw(e: Engine, record: Record) -> None:
    """Let a container go on that stood still for its checkpoint. Idempotent."""
    if lifecycle.is_alive(record["state"]):
        from strata.engine.containers import pausing

        pausing.thaw(e, record)


def _dump(e: Engine, record: Record, wishes: Wishes) -> float:
    """Let CRIU write; the seconds that took. What was there before is replaced."""
    folder = find_folder(e, record)
    options = [
        *(["--tcp-established"] if wishes.tcp_established else ()),
        *(["--file-locks"] if wishes.file_locks else ()),
        *(["--leave-running"] if wishes.leave_running else ()),
        *(["--pre-dump"] if wishes.pre_checkpoint else ()),
        *(["--parent-path", f"../{PREVIOUS}"] if wishes.with_previous else ()),
    ]
    # Said before it is true: who is killed from here on leaves a reason to look.
    record["state"]["checkpointed"] = ""
    e.records.save(record, durable=False)
    trace.point("checkpoint:announced")
    remove_path(f"{folder}/{IMAGES}")
    if not wishes.with_previous:
        remove_path(f"{folder}/{PREVIOUS}")
    target = f"{folder}/{PREVIOUS if wishes.pre_checkpoint else IMAGES}"
    os.makedirs(target, 0o700)
    if wishes.with_previous:
        os.symlink(f"../{PREVIOUS}", f"{target}/parent")
    _describe(e, record, folder)
    begun = time.monotonic()
    logs = e.paths.bundle(record["id"])
    criu.dump(life.get_runtime(e, record), record["id"], target, logs, options)
    seconds = time.monotonic() - begun
    trace.point("checkpoint:dumped")
    _sync(target)
    return seconds


def _describe(e: Engine, record: Record, folder: str) -> None:
    """Write down what is needed to make the container again: here or, exported, elsewhere."""
    from strata.engine.networks import host

    config = record["config"]
    state = host.find_state(e, record["id"])
    document = {
        "id": record["id"], "name": record["name"], "rootfsImageID": record["image"],
        "rootfsImageName": record["image_name"], "createdTime": record["created"],
        "checkpointedAt": format_time(time.time()), "runtime": config["runtime"],
        "command": [*config["entrypoint"], *config["command"]], "strata": {"record": record},
    }  # fmt: skip
    files.write_json(f"{folder}/{CONFIG}", document)
    with open(f"{e.paths.bundle(record['id'])}/config.json", "rb") as file:
        files.write_bytes(f"{folder}/{SPEC}", file.read())
    files.write_json(f"{folder}/{NETWORKS}", describe_networks(state))


def describe_networks(state: Record | None) -> Record:
    """What a container has of its networks, in the shape of Podman's ``network.status``."""
    described: Record = {}
    for name, attachment in (state["networks"] if state is not None else {}).items():
        described[name] = {
            "interfaces": {
                attachment["interface"]: {
                    "mac_address": attachment["mac"],
                    "subnets": [{"ipnet": address} for address in attachment["addresses"]],
                }
            }
        }
    return described


def _sync(folder: str) -> None:
    """Flush the files of a folder to disk: the container they hold is about to be gone."""
    for name in (*os.listdir(folder), "."):
        fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _settle(e: Engine, record: Record) -> None:
    """Write down that a container has ended because its processes were written down."""
    state = record["state"]
    if not process.wait_gone(state["pid"], state["pid_start"], _END_LIMIT):
        raise StateImproper(f"container {record['name']} still runs after its checkpoint",
                            hint=f"`strata stop {record['name']}` ends it")  # fmt: skip
    state["checkpointed"] = format_time(time.time())
    state["by_user"] = True
    trace.point("checkpoint:ended")
    life.settle_locked(e, record)


def settle(e: Engine, container_id: str) -> None:
    """Bring a container back in order whose checkpoint was broken off; a step of the journal.

    One that still runs goes on, without what was not finished. One that ended was finished.
    """
    record = e.records.find("container", container_id)
    if record is None:
        return
    with e.hold_if_there(record, timeout=5) as record:
        if record is None:
            return
        folder = find_folder(e, record)
        for part in (IMAGES, PREVIOUS):
            if not os.path.exists(f"{folder}/{part}/{criu.INVENTORY}"):
                remove_path(f"{folder}/{part}")
        written = find_time(e, record)
        complete = written is not None
        status = lifecycle.derive(record)
        if status == lifecycle.RUNNING:
            thaw(e, record)
        elif record["state"]["status"] in lifecycle.LIVE and complete:
            _settle(e, record)
            return
        if written is not None and may_have(record):
            at = "" if status in lifecycle.LIVE else format_time(written)
            record["state"]["checkpointed"] = at
            e.records.save(record, durable=False)
