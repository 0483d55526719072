"""The commands that change what a container does: start, stop, pause, restart and so on."""

from __future__ import annotations

import sys

from strata.cli import losses, values
from strata.cli.context import Context, for_each, note, say
from strata.cli.handlers.choosing import choose, choose_one
from strata.errors import NotFound, UsageError
from strata.linux.signals import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from strata.cli.parse import Options
    from strata.engine.core import Engine


def start(context: Context, options: Options, arguments: list[str]) -> int:
    """Start containers, and stay attached to one when asked."""
    attach = options.flag("attach") or options.flag("interactive")
    keys = values.parse_detach_keys(options.text("detach-keys"))
    if attach and options.flag("all"):
        raise UsageError("you cannot attach to all containers", hint="name one container")
    context.expect_start()
    from strata.engine.containers import verbs as containers

    names = choose(context, options, arguments, states=("created", "exited"))
    if attach:
        if len(names) != 1:
            raise UsageError("you cannot start and attach multiple containers at once")
        return containers.start(
            context.engine,
            names,
            attach=True,
            interactive=options.flag("interactive"),
            sig_proxy=options.flag("sig-proxy"),
            detach_keys=keys,
        )

    def act(name: str) -> None:
        containers.start(context.engine, [name])
        say(name)

    return for_each(context, names, act)


def stop(context: Context, options: Options, arguments: list[str]) -> int:
    """Stop containers."""
    from strata.engine.containers import verbs as containers

    seconds = options.number("time")
    ignore = options.flag("ignore") or options.flag("all")
    # When the host goes down nothing is left to be killed: neither what is frozen.
    going_down = options.flag("not-stopped-by-user")
    states = ("running", "paused", "initialized") if going_down else ("running",)

    def act(name: str) -> None:
        containers.stop(context.engine, [name], time=seconds, ignore=ignore, by_user=not going_down)

    def act_and_say(name: str) -> None:
        act(name)
        say(name)

    chosen = choose(context, options, arguments, states=states, ignore=ignore)
    if len(chosen) < 2:
        return for_each(context, chosen, act_and_say)
    from strata.cli.together import for_each_at_once
    from strata.engine.containers import extras

    waves = extras.order_ends(context.engine, chosen)
    return max(for_each_at_once(context, wave, act) for wave in waves)


def restart(context: Context, options: Options, arguments: list[str]) -> int:
    """Stop containers and start them again."""
    from strata.engine.containers import restarting

    seconds = options.number("time")
    if options.flag("running"):
        if arguments or options.flag("all"):
            raise UsageError("--running and names or --all cannot be used together")
        options.set("all", True)
    states = ("running",) if options.flag("running") else ()

    def act(name: str) -> None:
        restarting.restart(context.engine, name, time=seconds)
        say(name)

    return for_each(context, choose(context, options, arguments, states=states), act)


def init(context: Context, options: Options, arguments: list[str]) -> int:
    """Make everything that a start makes, but for letting the process run."""
    from strata.engine.containers import life

    return _act_on(context, options, arguments, life.init_container, ("created", "exited"))


def pause(context: Context, options: Options, arguments: list[str]) -> int:
    """Freeze all processes of containers."""
    from strata.engine.containers import pausing

    return _act_on(context, options, arguments, pausing.pause, ("running",))


def unpause(context: Context, options: Options, arguments: list[str]) -> int:
    """Let paused containers go on."""
    from strata.engine.containers import pausing

    return _act_on(context, options, arguments, pausing.unpause, ("paused",))


def update(context: Context, options: Options, arguments: list[str]) -> int:
    """Change the limits and the restart policy of a container; print its id."""
    from strata.cli import health
    from strata.engine.containers import updating
    from strata.engine.names import get_container

    name = choose_one(context, options, arguments)
    record = get_container(context.engine, name)
    changes = read_changes(options, record["config"])
    if options.given("restart"):
        changes["restart"] = health.parse_restart(options.text("restart"))
        updating.check_restart(record, changes["restart"])
    storage = options.list("storage-opt")
    if not changes and not storage:
        raise UsageError("nothing to update", hint="give a limit, as in --memory 1g")
    if storage:
        from strata.cli.security import parse_storage
        from strata.engine import limits

        wanted = parse_storage(storage)
    if changes:
        updating.update(context.engine, name, changes)
    if storage:
        for text in limits.change(context.engine, record, wanted):
            note(text)
    say(record["id"])
    return 0


def read_changes(options: Options, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an ``update`` changes; ``config`` holds those of the container."""
    from strata.cli import resources

    described: dict[str, Any] = {
        "memory": options.number("memory") if options.given("memory") else config.get("memory"),
        "cpus": options.real("cpus") if options.given("cpus") else None,
    }
    resources.read(described, options, {})
    keys = ("memory", "memory-swap", "memory-reservation", "memory-swappiness", "cpus",
            "cpu-shares", "cpu-quota", "cpu-period", "cpu-rt-period", "cpu-rt-runtime",
            "cpuset-cpus", "cpuset-mems", "blkio-weight")  # fmt: skip
    changes = {
        key: described.get(key) or None
        for key in (key.replace("-", "_") for key in keys if options.given(key))
    }
    if described["cpus"] is not None and described["cpus"] < 0:
        raise UsageError(f"invalid --cpus {described['cpus']}: must be positive")
    if "cpus" in changes:
        # The same thing said in another way: the last word holds.
        changes.update(cpu_quota=None, cpu_period=None)
    elif "cpu_quota" in changes or "cpu_period" in changes:
        changes["cpus"] = None
    if options.given("pids-limit"):
        limit = options.number("pids-limit") or -1
        if limit < -1:
            raise UsageError("invalid --pids-limit: must be -1 (no limit) or more")
        changes["pids_limit"] = limit
    return changes


def _act_on(
    context: Context, options: Options, arguments: list[str],
    verb: Callable[[Engine, dict[str, Any]], object], states: tuple[str, ...],
) -> int:  # fmt: skip
    """Do something to each container and print the name it was given by."""
    from strata.engine.names import get_container

    def act(name: str) -> None:
        verb(context.engine, get_container(context.engine, name))
        say(name)

    return for_each(context, choose(context, options, arguments, states=states), act)


def kill(context: Context, options: Options, arguments: list[str]) -> int:
    """Send a signal to containers."""
    from strata.engine.containers import verbs as containers

    number = parse_signal(options.text("signal"))

    def act(name: str) -> None:
        containers.kill(context.engine, [name], number)
        say(name)

    return for_each(context, choose(context, options, arguments, states=("running",)), act)


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove containers."""
    from strata.engine.containers import removal

    force = options.flag("force")
    ignore = options.flag("ignore") or options.flag("all")
    wanted = choose(context, options, arguments, ignore=ignore or force, exit_code=1)

    def act(name: str) -> None:
        gone = removal.remove(
            context.engine,
            [name],
            force=force,
            volumes=options.flag("volumes"),
            time=options.number("time"),
            ignore=ignore,
        )
        if gone:
            say(name)

    def find() -> list[dict[str, Any]]:
        from strata.engine.losses import list_containers

        return list_containers(
            context.engine, wanted, force=force, volumes=options.flag("volumes"), ignore=ignore
        )

    return losses.remove_each(context, options, wanted, act, find)


def wait(context: Context, options: Options, arguments: list[str]) -> int:
    """Wait for containers and print their exit codes."""
    from strata.engine.containers import verbs as containers

    conditions = options.list("condition") or ["stopped"]
    known = ("configured", "created", "exited", "healthy", "initialized", "paused", "removing",
             "running", "stopped", "stopping", "unhealthy")  # fmt: skip
    for condition in conditions:
        if condition not in known:
            raise UsageError(
                f'invalid condition "{condition}"', hint=f"conditions: {', '.join(known)}"
            )
    interval = options.real("interval")

    def act(name: str) -> None:
        try:
            codes = containers.wait(
                context.engine,
                [name],
                interval=interval if interval else 0.25,
                condition=conditions,
            )
        except NotFound:
            if not options.flag("ignore"):
                raise
            codes = [-1]
        for code in codes:
            say(str(code))
        sys.stdout.flush()

    if options.flag("ignore") and arguments and not options.flag("latest"):
        return for_each(context, arguments, act)  # what is not there has an answer of its own
    return for_each(context, choose(context, options, arguments), act)


def rename(context: Context, options: Options, arguments: list[str]) -> int:
    """Rename a container."""
    from strata.engine.containers import verbs as containers

    containers.rename(context.engine, arguments[0], arguments[1])
    return 0


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether a container exists."""
    from strata.engine import names

    return 0 if names.exists(context.engine, "container", arguments[0]) else 1


def cleanup(context: Context, options: Options, arguments: list[str]) -> int:
    """Note that a container has ended (conmon's exit command)."""
    from strata.engine.containers import verbs as containers

    containers.cleanup(context.engine, arguments[0], remove=options.flag("rm"))
    return 0
