"""A container's life: start, stop, kill, wait, and settling what has ended.

Whoever sees that a container has ended settles it: the foreground process that waited for it,
conmon's exit command when there is none, or the next command that finds a record saying
"running" whose process is gone. Settling is idempotent and done under the container's lock.
"""

from __future__ import annotations

import os
import time

from strata import command, trace
from strata.engine import events
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.networks import joining as networks
from strata.engine.volumes import making
from strata.engine.volumes.mounting import mount_locked
from strata.errors import NotFound, RuntimeFailure, StateImproper, StrataError, UsageError
from strata.linux import process
from strata.oci.spec import MORE_LIMITS, NAMESPACE_KEYS, container_hostname
from strata.runtime import launch as runtime
from strata.storage.driver import DatasetNotFound
from strata.store import lifecycle
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strata.engine.containers.checkpoints import Resumed
    from strata.linux.mount import MountStep
    from strata.oci.facts import HostFacts
    from strata.runtime.launch import Launched

_STOP_POLL = 10.0
#: mount options that are ours and not the runtime's
_OWN_OPTIONS = frozenset(("nocopy", "copy", "z", "Z", "U", "idmap", "O"))
_OWN_VALUES = ("upperdir=", "workdir=")
_KILL = 9
#: settings that may need somebody who watches the container
_WATCHED_KEYS = frozenset(("restart", "health"))
#: config keys that `strata.engine.containers.extras` has to see to before a start
MORE = (
    MORE_LIMITS
    | NAMESPACE_KEYS
    | {"requires", "pidfile", "conmon_pidfile", "group_add", "init_path"}
)


def get_runtime(e: Engine, record: Record) -> runtime.Runtime:
    """The OCI runtime a container was made for."""
    chosen = runtime.get_runtime(record["config"]["runtime"], e.paths.runroot)
    if record["config"].get("cgroups") == "disabled":
        chosen.options.append("--cgroup-manager=disabled")
    chosen.hooked = "cdi" in record["config"]
    if "time_mode" in record["config"]:
        chosen.time_path = runtime.find_time(e.paths.bundle(record["id"]))
    return chosen


# -- starting --------------------------------------------------------------------------------------


def start_container(
    e: Engine, record: Record, *, preserve: Sequence[int] = (), revived: bool = False
) -> None:
    """Start a container and leave it to its conmon. ``revived``: because of its restart policy."""
    launched = launch(e, record, owned=False, preserve=preserve, revived=revived)
    try:
        run_process(e, record, launched)
    finally:
        launched.close()


def ensure_started(e: Engine, record: Record) -> None:
    """Start a container unless it runs; one whose start was killed half way goes on."""
    if lifecycle.derive(record) not in lifecycle.LIVE:
        try:
            start_container(e, record)
        except StateImproper:
            # Another command was faster; that it runs is all that was asked for.
            if lifecycle.derive(e.records.get("container", record["id"])) not in lifecycle.LIVE:
                raise
        return
    chosen = get_runtime(e, record)
    with e.hold(record) as fresh:
        record = fresh
        starter = record["state"].get("starter") or (0, 0)
        if runtime.is_waiting(chosen, record["id"]) and not process.is_alive(*starter):
            runtime.run_runtime(chosen, ["start", record["id"]])
        if record["state"]["status"] == lifecycle.INITIALIZED:
            record["state"]["status"] = lifecycle.RUNNING
            record["state"]["started"] = format_time(time.time())
            e.records.save(record, durable=False)
            events.emit_container(e, "start", record)


def init_container(e: Engine, record: Record) -> None:
    """Make everything that a start makes, but for letting the process run. `StateImproper`."""
    if lifecycle.derive(record) in lifecycle.LIVE:
        lifecycle.check("init", record, lifecycle.derive(record))
    launched = launch(e, record, owned=False)
    try:
        trace.point("init:launched")
        with e.hold(record) as fresh:
            if fresh["state"]["pid_start"] == launched.pid_start:
                fresh["state"]["status"] = lifecycle.INITIALIZED
                e.records.save(fresh, durable=False)
    finally:
        launched.close()


def launch(
    e: Engine, record: Record, *, owned: bool, stdin: bool | None = None,
    preserve: Sequence[int] = (), revived: bool = False, resumed: Resumed | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Launched:  # fmt: skip
    """Create the container's process, not yet running, under its lock.

    ``owned``: this process stays and settles the container itself at its end; ``revived``: its
    restart policy wants it. ``preserve``: descriptors that the container's process inherits.
    ``resumed``: it goes on from there, already running. ``meanwhile`` is called while the runtime
    makes it.
    ``record`` is updated in place.
    """
    from strata.runtime import config as runtime_config
    from strata.runtime.host import read_host

    if not MORE.isdisjoint(record["config"]):
        from strata.engine.containers import extras

        extras.prepare(e, record)
    with (
        e.hold(record) as fresh,
        making.Held(e) as held,
        networks.Connecting(e, record) as network,
    ):
        record.update(fresh)
        status = lifecycle.derive(record)
        lifecycle.check("start", record, status)
        if record["state"]["status"] in lifecycle.LIVE:
            settle_locked(e, record)
        _clear_broken_start(e, record)
        config = record["config"]
        mounts, more = _resolve_mounts(e, held, record)
        netns = network.connect(resumed.networks if resumed is not None else None)
        host = read_host(config)
        if not NAMESPACE_KEYS.isdisjoint(config):
            from strata.engine.containers import extras

            more += extras.join(e, record, host)
        bundle = e.paths.bundle(record["id"])
        if "secrets" in config:
            from strata.engine.containers import given

            host.secret_env = given.make_environment(e, record)
            shown, steps = given.make_mounts(e, record, bundle)
            mounts, more = [*shown, *mounts], [*more, *steps]
        step = runtime.rootfs_step(_prepare_root(e, record), bundle)
        if "uid_map" in config:
            from strata.engine.containers import userspace

            step = userspace.map_step(config, step, way=bundle)
        hostname = container_hostname(record, host.hostname)

        log, tag = _describe_log(record)

        def make_spec(root: int) -> str:
            network.use_image(hostname, lambda path: runtime_config.read_image(root, path))
            return _make_spec(e, record, root, mounts, host, bundle, netns)

        plan = runtime.LaunchPlan(
            id=record["id"], name=record["name"], bundle=bundle,
            runtime=get_runtime(e, record), mounts=[step, *more], make_spec=make_spec,
            log=log, log_tag=tag,
            tty=config["tty"], stdin=config["stdin"] if stdin is None else stdin,
            files=runtime_config.make_files(record, host) | network.make_files(hostname),
            cleanup=_cleanup_argv(e, record),
            owner=_own_identity() if owned else None, timeout=config.get("timeout", 0),
            log_size=config.get("log_size", 0), preserve=preserve,
            stays=config.get("cgroups") in ("no-conmon", "disabled"),
            restore=resumed.source if resumed is not None else None,
            time=_find_time(config, host), meanwhile=meanwhile,
        )  # fmt: skip
        trace.point("start:planned")
        before = record["state"]
        watched: Record = {}
        if not _WATCHED_KEYS.isdisjoint(config):
            from strata.engine.containers import supervising

            watched = supervising.begin_state(record, revived=revived)
            if supervising.is_needed(record):
                supervising.mark(e, record["id"])
        try:
            launched = runtime.launch(plan)
        except RuntimeFailure as error:
            from strata.engine.containers import failing

            raise failing.explain(e, record, error) from error
        try:
            trace.point("start:created")
            network.wait_names()
            record["state"] = {
                **before, "status": lifecycle.RUNNING, "pid": launched.pid,
                "pid_start": launched.pid_start, "conmon_pid": launched.conmon_pid,
                "conmon_start": launched.conmon_start, "boot_id": process.get_boot_id(),
                "started": format_time(time.time()), "finished": "", "exit_code": 0, "oom": False,
                "error": "", "held": False, "by_user": False, "starter": list(_own_identity()),
                **network.describe_ports(),
                **watched,
            }  # fmt: skip
            stale = record["state"].pop("checkpointed", None) is not None
            record["state"].pop("restored", None)
            record["state"].pop("by_host", None)
            if resumed is not None:
                record["state"].update(resumed.state)
            e.records.save(record, durable=False)
            if "pidfile" in config or "conmon_pidfile" in config:
                from strata.engine.containers import extras

                extras.write_pid_files(config, launched)
            trace.point("start:recorded")
            if resumed is None:
                events.emit_container(e, "init", record)
            if stale and "checkpointed" not in record["state"]:
                from strata.engine.containers import checkpoints

                checkpoints.forget(e, record)
        except BaseException:
            # A full pool, Ctrl-C: nobody knows of it, so nobody would ever end it.
            record["state"] = before
            runtime.delete(plan.runtime, plan.id, force=True)
            launched.close()
            raise
    return launched


def _find_time(config: Record, host: HostFacts) -> int | str | None:
    """The time namespace a container is started in, as `LaunchPlan.time` wants it."""
    kind, _, ahead = config.get("time_mode", "host").partition(":")
    return int(ahead or 0) if kind == "private" else host.joined.get("time")


def _describe_log(record: Record) -> tuple[str, str]:
    """Where conmon writes the output, and its tag there."""
    driver = record["config"]["log_driver"]
    if driver == "none":
        return "none", ""
    if driver in ("k8s-file", "json-file"):
        return f"k8s-file:{record['config']['log_path']}", ""
    from strata.engine.containers import drivers

    return drivers.describe(record)


def _prepare_root(e: Engine, record: Record) -> MountStep:
    """How to mount a container's dataset; one that was renamed by hand is found by its GUID."""
    try:
        return e.driver.prepare_mount(record["dataset"])
    except DatasetNotFound:
        from strata.engine.history import facts

        return e.driver.prepare_mount(facts.reconcile_locked(e, record)["dataset"])


def _clear_broken_start(e: Engine, record: Record) -> None:
    """End what a start left behind that was killed before it could write down what it made.

    The old monitor must have written its exit file before a new run may use the same bundle.
    """
    chosen = get_runtime(e, record)
    if not os.path.isdir(f"{chosen.root}/{record['id']}"):
        return
    bundle = e.paths.bundle(record["id"])
    monitor = runtime.find_conmon(bundle)
    runtime.delete(chosen, record["id"], force=True)
    if monitor is not None:
        _wait_exit_file(bundle, record["id"], *monitor)


def run_process(e: Engine, record: Record, launched: Launched) -> None:
    """Let the created process run; when that fails the container is as before the start."""
    try:
        trace.point("start:running")
        runtime.start(launched)
        trace.point("start:started")
        events.emit_container(e, "start", record)
    except BaseException as error:
        take_back(e, record, launched, getattr(error, "message", "interrupted"))
        raise


def take_back(e: Engine, record: Record, launched: Launched, reason: str) -> None:
    """End a created process that is not to run after all; the container is as before its start."""
    with e.lock_container(record["id"], name=record["name"]):
        runtime.delete(launched.runtime, record["id"], force=True)
        # Not for conmon's own end: its exit command may be waiting for our lock.
        _wait_exit_file(launched.bundle, record["id"], launched.conmon_pid, launched.conmon_start)
        networks.disconnect(e, record)
        fresh = e.records.find("container", record["id"])
        if fresh is None or fresh["state"]["pid_start"] != launched.pid_start:
            return
        record.update(fresh)
        record["state"] = {**record["state"], "status": lifecycle.CREATED, "pid": 0,
                           "pid_start": 0, "error": reason}  # fmt: skip
        e.records.save(record, durable=False)


def _make_spec(
    e: Engine, record: Record, root: int, mounts: Sequence[Record], host: HostFacts, bundle: str,
    netns: str,
) -> str:  # fmt: skip
    from strata.runtime import config as runtime_config

    if "uid_map" in record["config"]:
        # Through its own mount we are none of the users it knows, and could make nothing in it.
        path = f"{e.driver.open(record['dataset'])}/{ROOTFS}"
        os.dup2(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), root, inheritable=False)
    text, warnings = runtime_config.make_config(
        record, root, mounts=mounts, host=host, bundle=bundle, cache=f"{e.paths.runroot}/seccomp",
        network_path=netns,
    )  # fmt: skip
    for warning in warnings:
        os.write(2, f"WARN: {warning}\n".encode())
    return text


def _own_identity() -> tuple[int, int]:
    pid = os.getpid()
    return pid, process.find_start_time(pid) or 0


def _cleanup_argv(e: Engine, record: Record) -> list[str]:
    """The command conmon runs when the container has ended and nobody waits for it."""
    argv = [*command.find_own_argv(), "--root", e.paths.root, "--runroot", e.paths.runroot,
            "container", "cleanup"]  # fmt: skip
    return [*argv, *(["--rm"] if record["config"]["remove"] else []), record["id"]]


def _mount_volumes(e: Engine, held: making.Held, record: Record) -> dict[str, str]:
    """Mount the volumes of a container, and keep them where they are; id -> host path."""
    wanted = [item for item in record["config"]["mounts"] if item["type"] == "volume"]
    sources = {}
    for item in sorted(wanted, key=lambda item: str(item["source"])):
        volume = held.find(item["volume"], item["source"])
        if volume is None:
            raise NotFound(
                f"no such volume: {item['source']!r}, needed at {item['destination']}",
                hint="it was removed; restore it or make the container anew",
            )
        sources[item["volume"]] = mount_locked(e, volume)
    held.share()
    return sources


def _resolve_mounts(
    e: Engine, held: making.Held, record: Record
) -> tuple[list[Record], list[MountStep]]:
    """Host paths for the mounts of a container, and what must be mounted for them; volumes are
    mounted, bind sources must exist."""
    resolved = []
    steps: list[MountStep] = []
    sources = _mount_volumes(e, held, record)
    # What has its owners translated for a container with a user namespace.
    mapped = {"volume", "idmap"} if "uid_map" in record["config"] else set()
    for item in record["config"]["mounts"]:
        kind, given = item["type"], item["options"]
        if kind == "volume":
            source = sources[item["volume"]]
        else:
            source = item["source"]
            if kind == "bind" and not os.path.lexists(source):
                raise UsageError(
                    f"statfs {source}: no such file or directory",
                    hint="the source of a bind mount must exist on the host",
                )
        if kind == "image" or item.get("subpath") or mapped & {kind, *given} or "O" in given:
            from strata.engine.containers import mounts

            step = mounts.make_step(e, record, item, source, len(steps))
            steps.append(step)
            source = step.target
        found: Record = {
            "type": "bind" if kind in ("volume", "image") else kind, "source": source,
            "destination": item["destination"],
            "options": [
                option for option in given
                if option not in _OWN_OPTIONS and not option.startswith(_OWN_VALUES)
            ],
        }  # fmt: skip
        if "U" in given:
            from strata.engine.containers import mounts

            found["idmapped"] = bool(mapped & {kind, *given})
            found["chown"] = mounts.find_owned(item, sources.get(item["volume"], item["source"]))
        resolved.append(found)
    return resolved, steps


# -- ending ----------------------------------------------------------------------------------------


def stop_container(
    e: Engine, record: Record, *, time: int | None = None, held: bool = False,
    by_user: bool = True,
) -> None:  # fmt: skip
    """Stop a container if it runs, and settle it.

    ``held``: it will be started again, so one made with ``--rm`` is not removed at this end.
    ``by_user``: somebody wants it stopped; otherwise the host goes down, and
    one that is frozen ends too.
    """
    overtake(e, record, time=time)
    with e.hold_if_there(record, timeout=120) as fresh:
        if fresh is None:
            return
        if by_user:
            lifecycle.check("stop", fresh, lifecycle.derive(fresh))
        if held:
            fresh["state"]["held"] = True
        stop_locked(e, fresh, time=time, by_user=by_user)


def overtake(e: Engine, record: Record, *, time: int | None = None) -> None:
    """Give a container that another command is stopping no more than the time given here.

    That command has the lock until the container has ended, and may be more patient.
    """
    found = e.records.find("container", record["id"])
    if found is None or found["state"]["status"] != lifecycle.STOPPING:
        return
    state = found["state"]
    if not lifecycle.is_alive(state) or not e.is_container_locked(record["id"]):
        return
    seconds = found["config"]["stop_timeout"] if time is None else time
    pid, start = state["pid"], state["pid_start"]
    if not process.wait_gone(pid, start, None if seconds < 0 else float(seconds)):
        runtime.kill(get_runtime(e, found), found["id"], 9, pid=pid, pid_start=start)


def stop_locked(
    e: Engine, record: Record, *, time: int | None = None, by_user: bool = True
) -> None:  # fmt: skip
    """Stop signal, then SIGKILL after the timeout, then settle. The caller has the lock."""
    state = record["state"]
    mark = "by_user" if by_user else "by_host"
    if state["status"] not in lifecycle.LIVE:
        if record["config"].get("restart") and not state.get(mark):
            # It may be about to be started again.
            state[mark] = True
            e.records.save(record, durable=False)
        return
    e.allow_reserve()
    state[mark] = True
    if lifecycle.is_alive(state):
        chosen = get_runtime(e, record)
        seconds = record["config"]["stop_timeout"] if time is None else time
        frozen = state["status"] == lifecycle.PAUSED
        record["state"]["status"] = lifecycle.STOPPING
        e.records.save(record, durable=False)
        trace.point("stop:announced")
        signal = record["config"]["stop_signal"] if seconds != 0 else 9
        pid, start = state["pid"], state["pid_start"]
        runtime.kill(chosen, record["id"], signal, pid=pid, pid_start=start)
        if frozen:
            from strata.engine.containers.pausing import thaw

            thaw(e, record)
        limit = None if seconds < 0 else float(seconds)
        if not process.wait_gone(pid, start, limit):
            runtime.kill(chosen, record["id"], 9, pid=pid, pid_start=start)
            if not process.wait_gone(pid, start, _STOP_POLL):
                raise StateImproper(
                    f"container {record['name']} could not be killed: a process of it hangs in "
                    "the kernel", hint="look at the host's disks and network file systems"
                )  # fmt: skip
        trace.point("stop:killed")
        events.emit_container(e, "stop", record)
    settle_locked(e, record)


def settle_locked(e: Engine, record: Record) -> None:
    """Write down how a container ended and release what its run held. The caller has the lock."""
    state = record["state"]
    if state["status"] not in lifecycle.LIVE:
        return
    # The exit file comes shortly after the process; conmon goes right after writing it. Its exit
    # command may be waiting for our lock, so the file is what counts.
    e.allow_reserve()
    bundle = e.paths.bundle(record["id"])
    ended = _wait_exit_file(bundle, record["id"], *_monitor(state))
    state["status"] = lifecycle.EXITED
    state["pid"] = state["pid_start"] = 0
    if ended is not None:
        state["exit_code"], state["oom"] = ended.code, ended.oom
        state["finished"] = format_time(ended.finished_ns / 1e9)
    else:
        state["exit_code"] = 255
        state["finished"] = format_time(time.time())
        state["error"] = "nobody saw how it ended (the host or its monitor went away)"
    e.records.save(record, durable=False)
    trace.point("settle:recorded")
    events.emit_container(e, "died", record, exit_code=state["exit_code"])
    release_runtime(e, record)
    events.emit_container(e, "cleanup", record)


def read_exit_code(e: Engine, record: Record) -> int:
    """The exit code of a run that has just ended, before anything is written down."""
    state = record["state"]
    bundle = e.paths.bundle(record["id"])
    ended = _wait_exit_file(bundle, record["id"], *_monitor(state))
    return ended.code if ended is not None else 255


def _monitor(state: Record) -> tuple[int, int]:
    """Pid and start time of a run's conmon; of another boot's nobody's."""
    if not lifecycle.is_of_this_boot(state):
        return 0, 0
    return state["conmon_pid"], state["conmon_start"]


def _wait_exit_file(
    bundle: str, container_id: str, conmon_pid: int, conmon_start: int
) -> runtime.Exit | None:
    """Wait for conmon to write the exit file, as long as conmon lives, at most ten seconds."""
    deadline = time.monotonic() + _STOP_POLL
    while time.monotonic() < deadline:
        ended = runtime.find_exit(bundle, container_id)
        if ended is not None:
            return ended
        if not process.is_alive(conmon_pid, conmon_start):
            return runtime.find_exit(bundle, container_id)
        time.sleep(0.002)
    return None


def release_runtime(e: Engine, record: Record) -> None:
    """Let the OCI runtime forget a container that has ended, and give back what it held of
    networks. Idempotent, never fails."""
    try:
        runtime.delete(get_runtime(e, record), record["id"], force=True)
        networks.disconnect(e, record)
    except StrataError:
        return
    trace.point("settle:released")


def cleanup(e: Engine, container_id: str, *, remove: bool) -> None:
    """Settle a container by id, and remove it when it was made with ``--rm``."""
    record = e.records.get("container", container_id)
    with e.hold_if_there(record, timeout=120) as fresh:
        if fresh is None:
            return
        record = fresh
        if lifecycle.is_alive(record["state"]):
            return
        settle_locked(e, record)
    if remove and record["config"]["remove"] and not record["state"].get("held"):
        from strata.engine.containers.removal import remove_image, remove_record
        from strata.engine.system.collect import collect_detached

        remove_record(e, record, force=False, volumes=True, verb="rm-auto", keep=False)
        remove_image(e, record)
        collect_detached(e)


def kill_container(e: Engine, record: Record, signal: int) -> None:
    """Send a signal to a running container's first process.

    One that is frozen gets it when it goes on, but for KILL, which ends it at once.
    """
    lifecycle.check("kill", record, lifecycle.derive(record))
    if record["config"].get("restart") and signal in (_KILL, record["config"]["stop_signal"]):
        mark_by_user(e, record)
    state = record["state"]
    sent = runtime.kill(
        get_runtime(e, record), record["id"], signal, pid=state["pid"], pid_start=state["pid_start"]
    )
    if not sent:
        lifecycle.check("kill", record, lifecycle.EXITED)
    if signal == _KILL and state["status"] == lifecycle.PAUSED:
        from strata.engine.containers.pausing import thaw

        thaw(e, record)
    events.emit_container(e, "kill", record)


def mark_by_user(e: Engine, record: Record) -> None:
    """Write down that a run ends because somebody wants so: no restart policy brings it back."""
    with e.hold(record) as fresh:
        if fresh["state"]["pid_start"] == record["state"]["pid_start"]:
            fresh["state"]["by_user"] = True
            e.records.save(fresh, durable=False)


def wait_for(e: Engine, record: Record, states: set[str], interval: float) -> int:
    """Block until a container is in one of the states; return its exit code (-1: never ran).

    One made with ``--rm`` may be removed before its record can be read, but not before conmon has
    written its code.
    """
    code = int(record["state"]["exit_code"])
    while True:
        fresh = e.records.find("container", record["id"])
        if fresh is None:
            return code
        record = fresh
        status = lifecycle.derive(record)
        state = record["state"]
        if status == lifecycle.EXITED and state["status"] in lifecycle.LIVE:
            code = read_exit_code(e, record)
            settle(e, record)
            continue
        if status in states:
            return int(state["exit_code"]) if status == lifecycle.EXITED else -1
        if status == lifecycle.RUNNING and (state.get("health") or {}).get("status") in states:
            return -1
        if status == lifecycle.CREATED and states == {lifecycle.EXITED}:
            return 0
        if status in lifecycle.LIVE and states == {lifecycle.EXITED}:
            ended = _wait_end(e, record)
            if ended is not None:
                settle(e, record)
                return ended
        time.sleep(interval)


def _wait_end(e: Engine, record: Record) -> int | None:
    """Wait for the end of a run; its exit code, None when it was over and removed before."""
    try:
        hold = runtime.hold_exit(e.paths.bundle(record["id"]))
    except FileNotFoundError:
        return None
    try:
        process.wait_gone(record["state"]["pid"], record["state"]["pid_start"], None)
        return read_exit_code(e, record)
    finally:
        os.close(hold)


def settle(e: Engine, record: Record) -> None:
    """Settle a container that has ended, unless somebody removed it by now."""
    try:
        cleanup(e, record["id"], remove=False)
    except NotFound:
        return


def restart_after_rollback(e: Engine, container_ids: Sequence[str]) -> list[str]:
    """Start containers that were stopped for a rollback; return the names of those started.

    One that cannot start keeps no other from it; the error is raised at the end.
    """
    started = []
    failed: StrataError | None = None
    for container_id in container_ids:
        record = e.records.find("container", container_id)
        if record is None:
            continue
        ran = lifecycle.derive(record) in lifecycle.LIVE
        try:
            ensure_started(e, record)
        except StrataError as error:
            failed = failed or error
            continue
        if not ran:
            started.append(str(record["name"]))
    if failed is not None:
        raise failed
    return started


# -- facts of a running container ------------------------------------------------------------------


def read_cgroup(pid: int) -> str:
    """The cgroup of a process, from /proc: the unified one, else the first."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    paths = [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
    paths.sort(key=lambda path: path in ("/", ""))
    return paths[0] if paths else ""


def read_namespaces(pid: int) -> dict[str, str]:
    """The namespaces of a process: kind to inode number."""
    found = {}
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        try:
            link = os.readlink(f"/proc/{pid}/ns/{kind}")
        except OSError:
            continue
        found[kind] = link.partition("[")[2].rstrip("]")
    return found


def read_capabilities(pid: int) -> list[str]:
    """The effective capabilities of a process."""
    from strata.oci.capabilities import from_mask

    return list(from_mask(process.read_mask(pid, "CapEff")))
