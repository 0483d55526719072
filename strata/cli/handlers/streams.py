"""The commands on a container's streams: logs, exec, attach."""

from __future__ import annotations

import os
import time

from strata.cli import values
from strata.cli.context import Context
from strata.cli.handlers.choosing import choose, choose_one
from strata.errors import UsageError
from strata.times import parse_moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options


def logs(context: Context, options: Options, arguments: list[str]) -> int:
    """Show containers' output."""
    from strata.engine.containers import verbs as containers

    now = time.time()
    moments: dict[str, float | None] = {}
    for key in ("since", "until"):
        text = options.text(key)
        moments[key] = parse_moment(text, now) if text else None
    tail = options.number("tail")
    containers.logs(
        context.engine,
        choose(context, options, arguments),
        follow=options.flag("follow"),
        since=moments["since"],
        until=moments["until"],
        tail=tail if tail is not None and tail >= 0 else None,
        timestamps=options.flag("timestamps"),
        show_names=options.flag("names"),
        colour=options.flag("color"),
    )
    return 0


def exec_(context: Context, options: Options, arguments: list[str]) -> int:
    """Run a command in a running container; return its exit code."""
    files = []
    if options.list("env-file"):
        from strata.cli.handlers.create import read_env_files

        files = read_env_files(options.list("env-file"), os.environ)
    if options.flag("detach") and (options.flag("interactive") or options.flag("tty")):
        raise UsageError("--detach cannot be used with --interactive or --tty")
    preserve = options.number("preserve-fds") or 0
    if preserve < 0:
        raise UsageError("invalid --preserve-fds: must not be negative")
    chosen = options.flag("latest") or options.list("cidfile")
    if not chosen and not arguments:
        raise UsageError("exec requires the name or ID of a container or the --latest flag")
    context.expect_start()
    from strata.engine.containers import verbs as containers

    if chosen:
        from strata.cli.handlers.choosing import choose_one

        name = choose_one(context, options, [])
    else:
        name, *arguments = arguments
    return containers.exec(
        context.engine,
        name,
        arguments,
        interactive=options.flag("interactive"),
        tty=options.flag("tty"),
        env=values.parse_environment(options.list("env"), files, os.environ),
        user=options.maybe("user"),
        workdir=options.maybe("workdir") or None,
        detach=options.flag("detach"),
        privileged=options.flag("privileged"),
        preserve_fds=preserve,
        detach_keys=values.parse_detach_keys(options.text("detach-keys")),
    )


def attach(context: Context, options: Options, arguments: list[str]) -> int:
    """Attach to a running container; return its exit code."""
    from strata.engine.containers import verbs as containers

    return containers.attach(
        context.engine,
        choose_one(context, options, arguments),
        no_stdin=options.flag("no-stdin"),
        sig_proxy=options.flag("sig-proxy"),
        detach_keys=values.parse_detach_keys(options.text("detach-keys")),
    )
