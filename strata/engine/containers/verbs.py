"""The container verbs, as the command line and later the API call them.

Each resolves names, then hands over to the module that does the work: `create`, `life`
(start, stop, kill, cleanup), `foreground` (run, attach, exec, logs), `removal`, `listing`.
"""

from __future__ import annotations

from strata import trace
from strata.engine import events, names
from strata.engine.containers import create as creating
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.engine.networks import joining
from strata.errors import NotFound, StateImproper, UsageError
from strata.runtime import launch as runtime
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def create(e: Engine, options: Mapping[str, Any]) -> str:
    """Create a container; return its id. For ``options`` see `strata.engine.create.create`."""
    return str(creating.create(e, options)["id"])


def run(e: Engine, options: Mapping[str, Any]) -> int:
    """Create, start and stay attached until the end; return the exit code."""
    from strata.engine.containers import foreground

    return foreground.run(e, options)


def run_detached(e: Engine, options: Mapping[str, Any]) -> str:
    """Create and start a container and leave it to its monitor; return its id."""
    record = creating.create(e, options)
    try:
        life.start_container(e, record, preserve=options.get("preserve", ()))
    except BaseException:
        # What never ran is not left behind when it was made only to run.
        if record["config"]["remove"]:
            from strata.engine.containers import removal

            removal.remove(e, [record["id"]], force=True, ignore=True)
        raise
    return str(record["id"])


def start(
    e: Engine, which: Sequence[str], *, attach: bool = False, interactive: bool = False,
    sig_proxy: bool = True, detach_keys: bytes = b"",
) -> int:  # fmt: skip
    """Start containers; with ``attach`` stay with the one named and return its exit code."""
    if attach:
        from strata.engine.containers import foreground

        return foreground.start_attached(
            e, names.get_container(e, which[0]), stdin=interactive, sig_proxy=sig_proxy,
            detach_keys=detach_keys,
        )  # fmt: skip
    for text in which:
        record = names.get_container(e, text)
        if lifecycle.derive(record) == lifecycle.PAUSED:
            lifecycle.check("start", record, lifecycle.PAUSED)
        life.ensure_started(e, record)
    return 0


def stop(
    e: Engine, which: Sequence[str], *, time: int | None = None, ignore: bool = False,
    by_user: bool = True,
) -> list[str]:  # fmt: skip
    """Stop containers: their stop signal, then SIGKILL after ``time`` seconds."""
    done = []
    for record in names.get_each(e, names.get_container, which, ignore=ignore):
        life.stop_container(e, record, time=time, by_user=by_user)
        done.append(str(record["id"]))
    return done


def kill(e: Engine, which: Sequence[str], signal: int = 9) -> list[str]:
    """Send a signal to containers' first process."""
    done = []
    for text in which:
        record = names.get_container(e, text)
        life.kill_container(e, record, signal)
        done.append(str(record["id"]))
    return done


def wait(
    e: Engine, which: Sequence[str], *, interval: float = 0.25, condition: Sequence[str] = (),
) -> list[int]:  # fmt: skip
    """Wait until containers reach one of the conditions; return their exit codes."""
    wanted = {"stopped": lifecycle.EXITED, "configured": lifecycle.CREATED}
    states = {wanted.get(word, word) for word in condition or ("stopped",)}
    codes = []
    for text in which:
        record = names.get_container(e, text)
        codes.append(life.wait_for(e, record, states, interval))
    return codes


def exec(
    e: Engine, name: str, argv: Sequence[str], *, interactive: bool = False, tty: bool = False,
    env: Sequence[str] = (), user: str | None = None, workdir: str | None = None,
    detach: bool = False, privileged: bool = False, preserve_fds: int = 0,
    detach_keys: bytes = b"",
) -> int:  # fmt: skip
    """Run a command in a running container; return its exit code."""
    from strata.engine.containers import foreground

    return foreground.exec_in(
        e, names.get_container(e, name), list(argv), interactive=interactive, tty=tty,
        env=list(env), user=user, workdir=workdir, detach=detach, privileged=privileged,
        preserve_fds=preserve_fds, detach_keys=detach_keys,
    )  # fmt: skip


def attach(
    e: Engine, name: str, *, no_stdin: bool = False, sig_proxy: bool = True,
    detach_keys: bytes = b"",
) -> int:  # fmt: skip
    """Attach to a running container; return its exit code, or 0 after detaching."""
    from strata.engine.containers import foreground

    record = names.get_container(e, name)
    return foreground.attach(
        e, record, stdin=not no_stdin, sig_proxy=sig_proxy, detach_keys=detach_keys
    )


def logs(
    e: Engine, which: Sequence[str], *, follow: bool = False, since: float | None = None,
    until: float | None = None, tail: int | None = None, timestamps: bool = False,
    show_names: bool = False, colour: bool = False,
) -> None:  # fmt: skip
    """Write containers' output to the standard streams; of several, each line says whose it is."""
    from strata.engine.containers.output import Choice, show

    records = [names.get_container(e, text) for text in which]
    choice = Choice(
        follow=follow, since=since, until=until, tail=tail, timestamps=timestamps,
        show_names=show_names, colour=colour,
    )  # fmt: skip
    show(e, records, choice)


def rename(e: Engine, name: str, new: str) -> None:
    """Give a container another name; its dataset keeps the one it was made with."""
    record = names.get_container(e, name)
    names.check_name(new, "container")
    e.recover()  # before the lock, as it may start this container
    with e.hold(record) as record:
        old = record["name"]
        if old == new:
            raise UsageError(f"renaming container {old} to its own name", hint="give another name")
        with e.journal.begin("rename", ["settle-names", "container", record["id"], old, new]):
            names.take_name(e, "container", new, record["id"])
            record["name"] = new
            creating.save(e, record)
            trace.point("rename:recorded")
            e.records.drop_name("container", old, record["id"])
        joining.follow(e, record)
        events.emit_container(e, "rename", record)


def set_runtime(e: Engine, name: str, choice: str) -> str:
    """Give a container that does not run another OCI runtime; return its id."""
    runtime.get_runtime(choice, e.paths.runroot)
    record = names.get_container(e, name)
    with e.hold(record) as record:
        if lifecycle.derive(record) in lifecycle.LIVE:
            raise StateImproper(
                f"container {record['name']} is running", hint="stop it, then choose its runtime"
            )
        record["config"]["runtime"] = choice
        creating.save(e, record)
    return str(record["id"])


def cleanup(e: Engine, container_id: str, *, remove: bool = False) -> None:
    """Settle a container whose processes ended; conmon's exit command."""
    try:
        life.cleanup(e, container_id, remove=remove)
    except NotFound:
        return


def inspect(e: Engine, which: Sequence[str], *, size: bool = False) -> list[Record]:
    """What ``strata inspect`` prints, in Podman's shape plus dataset and branches."""
    from strata.engine.containers.inspect import inspect_container

    return [inspect_container(e, names.get_container(e, text), size=size) for text in which]
