"""Verbs that stay with a container: run, start --attach, attach, exec.

The process that runs a container in the foreground is its owner: it waits, settles the container
and (with ``--rm``) removes it, so conmon's exit command need not start an interpreter. When the
owner detaches or is killed, the exit command does both.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine import events
from strata.engine.containers import create, life
from strata.engine.core import Engine, Record
from strata.engine.networks import joining as networks
from strata.errors import StateImproper, StrataError, UsageError
from strata.runtime import launch as runtime
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def run(e: Engine, options: Mapping[str, Any]) -> int:
    """Create, start and stay attached; return the exit code."""
    record = create.create(e, options)
    try:
        return _run_owned(
            e, record, stdin=record["config"]["stdin"], sig_proxy=options.get("sig_proxy", True),
            detach_keys=options.get("detach_keys", b""), preserve=options.get("preserve", ()),
            shown=options.get("attach"),
        )  # fmt: skip
    except BaseException as error:
        # What never ran is not left behind, as `run` made it only to run it. Interrupted later,
        # it is its monitor's.
        if record["config"]["remove"] and (
            isinstance(error, StrataError) or record["state"]["status"] == lifecycle.CREATED
        ):
            from strata.engine.containers import removal
            from strata.engine.system import collect

            removal.remove_record(e, record, force=True, volumes=True, verb="rm-auto", keep=False)
            collect.collect_detached(e)
        raise


def start_attached(
    e: Engine, record: Record, *, stdin: bool, sig_proxy: bool, detach_keys: bytes
) -> int:  # fmt: skip
    """``start --attach``: start a container and stay until it ends."""
    if lifecycle.derive(record) == lifecycle.INITIALIZED:
        life.ensure_started(e, record)
        record = e.records.get("container", record["id"])
    if lifecycle.derive(record) in lifecycle.LIVE:
        return attach(e, record, stdin=stdin, sig_proxy=sig_proxy, detach_keys=detach_keys)
    return _run_owned(e, record, stdin=stdin, sig_proxy=sig_proxy, detach_keys=detach_keys)


def _run_owned(
    e: Engine, record: Record, *, stdin: bool, sig_proxy: bool, detach_keys: bytes,
    preserve: Sequence[int] = (), shown: Sequence[str] | None = None,
) -> int:  # fmt: skip
    launched = life.launch(
        e, record, owned=True, preserve=preserve, meanwhile=lambda: _load_rest(record)
    )
    from strata.runtime import attach as attaching

    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True
        life.run_process(e, record, launched)
        if shown is not None and not shown:
            # Only standard input was asked for: then its name is all there is to see.
            os.write(1, f"{record['id']}\n".encode())

    try:
        trace.point("run:launched")
        if record["config"]["log_driver"].startswith("passthrough"):
            send = _make_sender(e, record) if sig_proxy else None
            ended = attaching.wait(launched.sync, send_signal=send, started=begin)
        else:
            events.emit_container(e, "attach", record)
            sock = attaching.connect(launched.bundle)
            ended = _stay(
                e, record, sock, launched.sync, stdin=stdin, sig_proxy=sig_proxy,
                detach_keys=detach_keys, started=begin, shown=shown,
            )  # fmt: skip
        if ended != attaching.EXITED and runtime.leave(launched.bundle, record["id"]):
            return _leave(record, ended)
        launched.wait()
    except BaseException as error:
        if not begun:
            life.take_back(e, record, launched, getattr(error, "message", "interrupted"))
        elif not isinstance(error, StrataError) and not runtime.leave(
            launched.bundle, record["id"]
        ):
            # Ended already; otherwise its monitor settles it now.
            finish(e, record)
        raise
    finally:
        launched.close()
    return finish(e, record)


def _load_rest(record: Record) -> None:
    """Import what is needed from when the process runs, while the runtime makes the container."""
    from strata.runtime import attach  # noqa: F401

    if record["config"]["remove"]:
        from strata.engine.containers import removal  # noqa: F401
        from strata.engine.system import collect  # noqa: F401


def _stay(
    e: Engine, record: Record, sock: int, end: int, *, stdin: bool, sig_proxy: bool,
    detach_keys: bytes, started: Callable[[], None] | None = None,
    shown: Sequence[str] | None = None,
) -> str:  # fmt: skip
    """Connect the standard streams with a container; returns how that ended."""
    from strata.runtime import attach as attaching

    streams = attaching.Streams(stdin=0 if stdin else None)
    if shown is not None:
        streams.stdout = 1 if "stdout" in shown else None
        streams.stderr = 2 if "stderr" in shown else None
    return attaching.run(
        e.paths.bundle(record["id"]), sock, end, streams=streams, tty=record["config"]["tty"],
        detach_keys=detach_keys, send_signal=_make_sender(e, record) if sig_proxy else None,
        started=started,
    )  # fmt: skip


def _make_sender(e: Engine, record: Record) -> Callable[[int], None]:
    """Signals for a container that runs, for as long as it does."""
    state = record["state"]
    chosen = life.get_runtime(e, record)

    def send(number: int) -> None:
        runtime.kill(chosen, record["id"], number, pid=state["pid"], pid_start=state["pid_start"])

    return send


def attach(
    e: Engine, record: Record, *, stdin: bool, sig_proxy: bool, detach_keys: bytes
) -> int:  # fmt: skip
    """Connect to a running container; its exit code, or 0 after the detach keys."""
    lifecycle.check("attach", record, lifecycle.derive(record))
    if record["config"]["log_driver"].startswith("passthrough"):
        raise UsageError(
            "this container is using the 'passthrough' log driver, cannot attach: its streams are "
            "those of the command that started it"
        )
    from strata.runtime import attach as attaching

    bundle = e.paths.bundle(record["id"])
    try:
        end = runtime.ExitWatch(bundle, record["id"], record["state"]["conmon_pid"])
    except ProcessLookupError:
        raise StateImproper(
            "you can only attach to running containers", hint="start the container first"
        ) from None
    with end:
        events.emit_container(e, "attach", record)
        sock = attaching.connect(bundle)
        wanted = stdin and record["config"]["stdin"]
        ended = _stay(
            e, record, sock, end.fileno(), stdin=wanted, sig_proxy=sig_proxy,
            detach_keys=detach_keys,
        )  # fmt: skip
        if ended != attaching.EXITED:
            return _leave(record, ended)
        code = life.read_exit_code(e, record)
    life.settle(e, record)
    return code


def _leave(record: Record, ended: str) -> int:
    """The exit code of a command whose container goes on; says so when nobody asked for that."""
    from strata.runtime import attach as attaching

    if ended == attaching.BROKEN:
        name = record["name"]
        try:
            os.write(2, f"WARN: nobody reads the output of {name} any more, and it goes on: "
                        f"`strata stop {name}` ends it\n".encode())  # fmt: skip
        except OSError:
            pass  # nobody reads this either
        return 128 + 13  # as if SIGPIPE had ended it, so that a pipeline goes on
    return 0


def exec_in(
    e: Engine, record: Record, argv: list[str], *, interactive: bool, tty: bool, env: list[str],
    user: str | None, workdir: str | None, detach: bool, privileged: bool, preserve_fds: int,
    detach_keys: bytes = b"",
) -> int:  # fmt: skip
    """Run a process in a running container; its exit code, 0 when it was left by the keys."""
    from strata.runtime import exec as executing
    from strata.runtime.host import read_host

    lifecycle.check("exec", record, lifecycle.derive(record))
    if not argv:
        raise UsageError("must provide a non-empty command to start an exec session")
    if "secrets" in record["config"]:
        from strata.engine.containers import given

        env = [*given.make_environment(e, record), *env]
    if "cdi" in record["config"]:
        from strata.runtime import cdi

        env = [*cdi.list_environment(record["config"]["cdi"]), *env]
    root = executing.open_root(record["state"]["pid"])
    try:
        process_spec = executing.make_process(
            record, root, argv, host=read_host(record["config"]), env=env, user=user,
            workdir=workdir, tty=tty, privileged=privileged,
        )  # fmt: skip
    finally:
        os.close(root)
    events.emit_container(e, "exec", record)
    code = executing.run(
        life.get_runtime(e, record), record["id"], e.paths.bundle(record["id"]), process_spec,
        stdin=0 if interactive else None, detach=detach, preserve_fds=preserve_fds,
        keys=detach_keys,
    )  # fmt: skip
    if code is None:
        return 0
    if not detach:
        events.emit_container(e, "exec_died", record, exit_code=code)
    return code


def finish(e: Engine, record: Record) -> int:
    """Settle an owned container that has ended; remove it when it was made with ``--rm``.

    Another command may have been first: removed it, or stopped and started it again.
    """
    from strata.engine.containers import removal
    from strata.engine.system import collect

    code = life.read_exit_code(e, record)
    state = record["state"]
    with e.hold_if_there(record) as fresh:
        if fresh is None:
            return code
        record = fresh
        found = record["state"]
        if found["status"] in lifecycle.LIVE and found["pid_start"] != state["pid_start"]:
            return code
        if not record["config"]["remove"] or found.get("held"):
            life.settle_locked(e, record)
            return code
        if found["status"] in lifecycle.LIVE:
            events.emit_container(e, "died", record, exit_code=code)
        # Its ports and addresses are free when the command ends; the rest can wait.
        networks.disconnect(e, record)
        removal.discard_locked(e, record, verb="rm-auto", keep=False)
        trace.point("run:removed")
    removal.remove_anonymous(e, record, True)
    removal.remove_image(e, record)
    removed = record
    collect.collect_detached(e, lambda: removal.release(e, removed))
    return code
