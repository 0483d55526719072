"""``container checkpoint`` and ``container restore``."""

from __future__ import annotations

import json
import os
import time

from strata.cli.context import Context, for_each, say
from strata.cli.handlers.choosing import choose
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options
    from strata.engine.containers import resuming
    from strata.engine.containers.checkpoints import Wishes
    from strata.engine.core import Engine, Record

_COMPRESSIONS = ("gzip", "none", "zstd")


def checkpoint(context: Context, options: Options, arguments: list[str]) -> int:
    """Write the processes of running containers down."""
    from strata.engine.containers import checkpoints
    from strata.engine.names import get_container

    path = options.text("export")
    if not path:
        for name in ("ignore-rootfs", "ignore-volumes", "compress"):
            if options.given(name):
                raise UsageError(f"--{name} can only be used with --export")
    if options.text("compress") not in _COMPRESSIONS:
        raise UsageError(
            f'selected compression algorithm ("{options.text("compress")}") not supported',
            hint=f"select one from: {', '.join(_COMPRESSIONS)}",
        )
    if options.flag("with-previous") and options.flag("pre-checkpoint"):
        raise UsageError("--with-previous can not be used with --pre-checkpoint")
    if path and options.flag("pre-checkpoint"):
        raise UsageError("--export can not be used with --pre-checkpoint",
                         hint="export the checkpoint --with-previous, it holds both")  # fmt: skip
    names = choose(context, options, arguments, states=("running",))
    if path and len(names) > 1:
        raise UsageError("--export is for one container", hint="checkpoint them one by one")

    wishes = checkpoints.Wishes(
        keep=options.flag("keep"), leave_running=options.flag("leave-running"),
        tcp_established=options.flag("tcp-established"), file_locks=options.flag("file-locks"),
        pre_checkpoint=options.flag("pre-checkpoint"), with_previous=options.flag("with-previous"),
    )  # fmt: skip
    counted: list[dict[str, Any]] = []

    def act(name: str) -> None:
        record = get_container(context.engine, name)
        if path:
            found = _export(context.engine, record, wishes, options)
        else:
            found = checkpoints.checkpoint(context.engine, record, wishes)
        counted.append({"Id": record["id"], **found})
        if not options.flag("print-stats"):
            say(name)

    return _act_on_all(context, options, names, act, counted, "podman_checkpoint_duration")


def _export(e: Engine, record: Record, wishes: Wishes, options: Options) -> Record:
    from strata.engine.containers import checkpoint_export, checkpoints

    with checkpoint_export.Archive(
        options.text("export"), options.text("compress"),
        rootfs=not options.flag("ignore-rootfs"), volumes=not options.flag("ignore-volumes"),
    ) as archive:  # fmt: skip
        return checkpoints.checkpoint(
            e,
            record,
            wishes,
            lambda fresh, go_on: checkpoint_export.export(e, fresh, archive, go_on),
        )


def restore(context: Context, options: Options, arguments: list[str]) -> int:
    """Let containers go on from their checkpoints."""
    from strata.engine.containers import resuming
    from strata.engine.names import get_container

    path = options.text("import")
    if path and (arguments or options.flag("all") or options.flag("latest")):
        raise UsageError("cannot use --import with positional arguments, --all or --latest")
    if not path:
        for name in ("ignore-rootfs", "ignore-volumes", "name", "publish"):
            if options.given(name):
                raise UsageError(f"--{name} can only be used with --import")
    if options.text("name") and options.flag("tcp-established"):
        raise UsageError("--tcp-established cannot be used with --name",
                         hint="under another name it gets another address")  # fmt: skip
    wishes = resuming.Wishes(
        keep=options.flag("keep"), tcp_established=options.flag("tcp-established"),
        file_locks=options.flag("file-locks"), ignore_ip=options.flag("ignore-static-ip"),
        ignore_mac=options.flag("ignore-static-mac"),
    )  # fmt: skip
    counted: list[dict[str, Any]] = []

    def act(name: str) -> None:
        if path:
            found = _import(context.engine, path, wishes, options)
            record = found.pop("record")
            name = record["id"]
        else:
            record = get_container(context.engine, name)
            found = resuming.restore(context.engine, record, wishes)
        counted.append({"Id": record["id"], **found})
        if not options.flag("print-stats"):
            say(name)

    names = [path] if path else _choose_checkpointed(context, options, arguments)
    return _act_on_all(context, options, names, act, counted, "podman_restore_duration")


def _import(e: Engine, path: str, wishes: resuming.Wishes, options: Options) -> Record:
    from strata.cli import ports
    from strata.engine.containers import checkpoint_import

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"failed to open checkpoint archive {path} for import: {error.strerror}",
            hint="`strata container checkpoint --export` writes one",
        ) from None
    try:
        return checkpoint_import.restore(
            e, fd, wishes, name=options.text("name"),
            ports=ports.parse_published(options.list("publish")),
            rootfs=not options.flag("ignore-rootfs"), contents=not options.flag("ignore-volumes"),
        )  # fmt: skip
    finally:
        os.close(fd)


def _choose_checkpointed(context: Context, options: Options, arguments: list[str]) -> list[str]:
    """What was named; with ``--all`` every container that was checkpointed."""
    names = choose(context, options, arguments, states=("created", "exited"))
    if not options.flag("all"):
        return names
    from strata.engine.names import get_container

    return [name for name in names
            if get_container(context.engine, name)["state"].get("checkpointed")]  # fmt: skip


def _act_on_all(
    context: Context, options: Options, names: list[str], act: Any,
    counted: list[dict[str, Any]], duration: str,
) -> int:  # fmt: skip
    begun = time.monotonic()
    code = for_each(context, names, act)
    if options.flag("print-stats") and counted:
        took = int((time.monotonic() - begun) * 1e6)
        say(json.dumps({duration: took, "container_statistics": counted}, indent=2))
    return code
