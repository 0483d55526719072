"""The commands on existing containers."""

from __future__ import annotations

import os
import sys
import time

from strata.cli import values
from strata.cli.context import Context, for_each, need_names, note, say
from strata.errors import NotFound, UsageError
from strata.linux.signals import parse_signal
from strata.times import parse_moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def start(context: Context, options: Options, arguments: list[str]) -> int:
    """Start containers, and stay attached to one when asked."""
    from strata.engine.containers import verbs as containers

    attach = options.flag("attach") or options.flag("interactive")
    keys = values.parse_detach_keys(options.text("detach-keys"))
    if attach and options.flag("all"):
        raise UsageError("you cannot attach to all containers", hint="name one container")
    names = _choose(context, options, arguments, states=("created", "exited"))
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

    def act(name: str) -> None:
        containers.stop(context.engine, [name], time=seconds, ignore=ignore)
        say(name)

    return for_each(context, _choose(context, options, arguments, states=("running",)), act)


def kill(context: Context, options: Options, arguments: list[str]) -> int:
    """Send a signal to containers."""
    from strata.engine.containers import verbs as containers

    number = parse_signal(options.text("signal"))

    def act(name: str) -> None:
        containers.kill(context.engine, [name], number)
        say(name)

    return for_each(context, _choose(context, options, arguments, states=("running",)), act)


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove containers."""
    from strata.engine.containers import removal

    force = options.flag("force")
    ignore = options.flag("ignore") or options.flag("all")

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

    return for_each(context, _choose(context, options, arguments), act, classify=True)


def ps(context: Context, options: Options, arguments: list[str]) -> int:
    """List containers."""
    filters = values.parse_filters(options.list("filter"))
    last = options.number("last")
    if last is not None and options.flag("latest"):
        raise UsageError("--last and --latest cannot be used together")
    quiet = options.flag("quiet")
    if quiet and options.given("format"):
        raise UsageError("--quiet and --format cannot be used together")
    from strata.engine.containers.listing import list_containers

    rows = list_containers(
        context.engine,
        all=options.flag("all"),
        filters=filters,
        last=last if last and last > 0 else None,
        latest=options.flag("latest"),
        size=options.flag("size"),
    )
    full = options.flag("no-trunc")
    if quiet:
        for row in rows:
            say(row["Id"] if full else row["Id"][:12])
        return 0
    from strata.cli.format import show_rows

    now = time.time()
    columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ]
    if options.flag("size"):
        columns.append(("SIZE", "Size"))
    show_rows(
        [describe_row(row, now, full=full) for row in rows],
        columns,
        format=options.text("format"),
        raw=[{**row, "Status": describe_status(row, now)} for row in rows],
        heading=not options.flag("noheading"),
    )
    return 0


def describe_row(row: dict[str, Any], now: float, *, full: bool) -> dict[str, Any]:
    """Return a row of ``ps`` with Podman's field names in their human form."""
    from strata.cli.format import ago, go_time, human_size, join_pairs

    command = " ".join(row["Command"])
    if not full and len(command) > 17:
        command = f"{command[:17]}..."
    created = ago(row["Created"], now)
    size = row.get("Size")
    return {
        **row,
        "ID": row["Id"] if full else row["Id"][:12],
        "Command": command,
        "CreatedAt": go_time(row["Created"]),
        "CreatedHuman": created,
        "RunningFor": created,
        "Labels": join_pairs(row["Labels"]),
        "Mounts": ",".join(row["Mounts"]),
        "Names": ",".join(row["Names"]),
        "Networks": ",".join(row["Networks"]),
        "Ports": "",
        "Size": f"{human_size(size['rwSize'])} (virtual {human_size(size['rootFsSize'])})"
        if size
        else "",
        "Status": describe_status(row, now),
    }


def describe_status(row: dict[str, Any], now: float) -> str:
    """Return a container's status in words: Up 2 minutes, Exited (0) 3 hours ago."""
    from strata.cli.format import ago, human_duration, to_seconds

    state = row["State"]
    if state == "running":
        since = to_seconds(row["StartedAt"])
        return f"Up {human_duration(max(0.0, now - since))}" if since else "Up"
    if state == "exited":
        return f"Exited ({row['ExitCode']}) {ago(row['ExitedAt'], now)}".rstrip()
    if state == "removing":
        return "Removal In Progress"
    return str(state).capitalize()


def logs(context: Context, options: Options, arguments: list[str]) -> int:
    """Show a container's output."""
    from strata.engine.containers import verbs as containers

    now = time.time()
    moments: dict[str, float | None] = {}
    for key in ("since", "until"):
        text = options.text(key)
        moments[key] = parse_moment(text, now) if text else None
    tail = options.number("tail")
    containers.logs(
        context.engine,
        _choose_one(context, options, arguments),
        follow=options.flag("follow"),
        since=moments["since"],
        until=moments["until"],
        tail=tail if tail is not None and tail >= 0 else None,
        timestamps=options.flag("timestamps"),
        names=options.flag("names"),
    )
    return 0


def exec_(context: Context, options: Options, arguments: list[str]) -> int:
    """Run a command in a running container; return its exit code."""
    files = []
    if options.list("env-file"):
        from strata.cli.handlers.create import read_file

        files = [read_file(path) for path in options.list("env-file")]
    if options.flag("detach") and (options.flag("interactive") or options.flag("tty")):
        raise UsageError("--detach cannot be used with --interactive or --tty")
    preserve = options.number("preserve-fds") or 0
    if preserve < 0:
        raise UsageError("invalid --preserve-fds: must not be negative")
    from strata.engine.containers import verbs as containers

    return containers.exec(
        context.engine,
        arguments[0],
        arguments[1:],
        interactive=options.flag("interactive"),
        tty=options.flag("tty"),
        env=values.parse_environment(options.list("env"), files, os.environ),
        user=options.maybe("user"),
        workdir=options.maybe("workdir"),
        detach=options.flag("detach"),
        privileged=options.flag("privileged"),
        preserve_fds=preserve,
    )


def attach(context: Context, options: Options, arguments: list[str]) -> int:
    """Attach to a running container; return its exit code."""
    from strata.engine.containers import verbs as containers

    return containers.attach(
        context.engine,
        _choose_one(context, options, arguments),
        no_stdin=options.flag("no-stdin"),
        sig_proxy=options.flag("sig-proxy"),
        detach_keys=values.parse_detach_keys(options.text("detach-keys")),
    )


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about containers."""
    from strata.cli.format import show_objects
    from strata.engine.containers import verbs as containers

    found: list[Any] = []
    size = options.flag("size")
    code = for_each(
        context,
        _choose(context, options, arguments),
        lambda name: found.extend(containers.inspect(context.engine, [name], size=size)),
    )
    show_objects(found, options.maybe("format"))
    return code


def wait(context: Context, options: Options, arguments: list[str]) -> int:
    """Wait for containers and print their exit codes."""
    from strata.engine.containers import verbs as containers

    conditions = options.list("condition") or ["stopped"]
    known = ("created", "exited", "running", "stopped", "removing")
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

    return for_each(context, _choose(context, options, arguments), act)


def commit(context: Context, options: Options, arguments: list[str]) -> int:
    """Make an image of a container and print its id."""
    from strata.engine.containers.commit import commit as commit_container

    image_id = commit_container(
        context.engine,
        arguments[0],
        arguments[1] if len(arguments) > 1 else None,
        author=options.text("author"),
        message=options.text("message"),
        changes=options.list("change"),
    )
    path = options.text("iidfile")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"sha256:{image_id}")
    say(image_id)
    return 0


def copy(context: Context, options: Options, arguments: list[str]) -> int:
    """Copy files between a container and the host."""
    if "-" in arguments:
        raise UsageError(
            "cp cannot read or write an archive in this version", hint="name a file or directory"
        )
    from strata.engine.containers.copy import copy as copy_files

    copy_files(
        context.engine,
        arguments[0],
        arguments[1],
        archive=options.flag("archive"),
        overwrite=options.flag("overwrite"),
        follow=options.flag("follow"),
    )
    return 0


def rename(context: Context, options: Options, arguments: list[str]) -> int:
    """Rename a container."""
    from strata.engine.containers import verbs as containers

    containers.rename(context.engine, arguments[0], arguments[1])
    return 0


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether a container exists."""
    from strata.engine.containers import verbs as containers

    return 0 if containers.exists(context.engine, arguments[0]) else 1


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove the containers that do not run."""
    from strata.engine.containers import removal

    warning = "This will remove all containers that do not run."
    if context.confirm(warning, force=options.flag("force")):
        filters = values.parse_filters(options.list("filter"))
        show_pruned(removal.prune(context.engine, filters))
    return 0


def cleanup(context: Context, options: Options, arguments: list[str]) -> int:
    """Note that a container has ended (conmon's exit command)."""
    from strata.engine.containers import verbs as containers

    containers.cleanup(context.engine, arguments[0], remove=options.flag("rm"))
    return 0


def show_pruned(done: dict[str, Any]) -> None:
    """Print what a prune removed, and on standard error what that freed and what is still held."""
    from strata.cli.format import human_size

    for name in done["Deleted"]:
        say(name)
    for failure in done.get("Failed") or ():
        note(f"not removed: {failure}")
    freed, held = done.get("Freed") or 0, done.get("Trash") or 0
    text = f"freed {human_size(freed)}"
    note(f"{text}; the trash holds {human_size(held)}" if held else text)


def _choose(
    context: Context, options: Options, arguments: list[str], states: tuple[str, ...] = ()
) -> list[str]:
    """Return the names given, or those that ``--all`` or ``--latest`` stand for."""
    if options.flag("latest"):
        if arguments or options.flag("all"):
            raise UsageError("--latest and names or --all cannot be used together")
        return [_find_latest(context)]
    everything = options.flag("all")
    need_names(arguments, all=everything)
    if not everything:
        return arguments
    from strata.engine.containers.listing import list_containers

    rows = list_containers(context.engine, all=True)
    return [row["Id"] for row in rows if not states or row["State"] in states]


def _choose_one(context: Context, options: Options, arguments: list[str]) -> str:
    names = _choose(context, options, arguments)
    return names[0]


def _find_latest(context: Context) -> str:
    from strata.engine.containers.listing import list_containers

    rows = list_containers(context.engine, all=True, latest=True)
    if not rows:
        raise NotFound("no containers to operate on")
    return str(rows[0]["Id"])
