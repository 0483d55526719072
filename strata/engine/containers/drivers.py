"""Log drivers, above all others than files: what they need, and how conmon is told of them.

A file belongs to the store. The journal belongs to the host: what is in it outlives the container
and is not brought back with it. With ``passthrough`` nothing is kept: the process has the
standard streams of the command that starts it.
"""

from __future__ import annotations

import os

from strata import command
from strata.errors import StateImproper, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

JOURNALD = "journald"
#: key of a record -> names of the template fields that stand for it in a tag
_TAG_NAMES = {"id": ("ID", "Id"), "name": ("Name",), "image": ("Image",),
              "image_name": ("ImageName",)}  # fmt: skip
_CONMON_WITH_TTY = [2, 1, 10]
PASSTHROUGH = ("passthrough", "passthrough-tty")


def check(config: Mapping[str, Any]) -> None:
    """Refuse what cannot work here. `UsageError`, `StateImproper`."""
    driver = config["log_driver"]
    path = config["log_path"]
    if path and (os.path.isdir(path) or not os.path.isdir(os.path.dirname(path))):
        why = "it is a directory" if os.path.isdir(path) else "there is no such directory"
        raise UsageError(f"cannot write the log {path}: {why}", hint="name a file with path=")
    if driver == JOURNALD:
        from strata.runtime import journal

        if not journal.is_running():
            raise StateImproper(
                "the log driver journald needs a systemd journal, and none runs here",
                hint="start systemd-journald, or use --log-driver k8s-file, which keeps a file",
            )
    if driver in PASSTHROUGH and config["tty"]:
        raise UsageError(
            f"the log driver {driver} hands on the standard streams, so there can be no --tty",
            hint="with --log-driver passthrough-tty and without --tty it has this terminal",
        )


def _fill_tag(record: Mapping[str, Any]) -> str:
    """The log's tag with the container's names in it."""
    tag = str(record["config"].get("log_tag") or "")
    for key, names in _TAG_NAMES.items():
        for name in names:
            tag = tag.replace(f"{{{{.{name}}}}}", str(record[key]))
    return tag


def check_streams(config: Mapping[str, Any], name: str = "") -> None:
    """Before a start: ``passthrough`` hands on no terminal, through which a process may type, and
    an older conmon hands on none with ``passthrough-tty`` either. ``name``: of a container that
    exists."""
    if not any(os.isatty(fd) for fd in range(3)):
        return
    if config["log_driver"] == "passthrough":
        raise UsageError(
            "the '--log-driver passthrough' option cannot be used on a TTY",
            hint=f"give it other streams, as in `strata start {name} </dev/null 2>&1 | cat`"
            if name
            else "passthrough-tty hands on a terminal to a container that is trusted",
        )
    # "conmon version 2.1.6"
    said = command.run(["conmon", "--version"], check=False).text.splitlines()[:1]
    version = said[0].split()[-1] if said else ""
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    if numbers and numbers < _CONMON_WITH_TTY:
        raise UsageError(
            f"the log driver passthrough-tty needs conmon 2.1.10 or newer, and here is {version}",
            hint=f"give it other streams, as in `strata start {name} </dev/null 2>&1 | cat`"
            if name
            else "without --log-driver and with -it it has a terminal of its own",
        )


def describe(record: Mapping[str, Any]) -> tuple[str, str]:
    """What conmon is told before a start: ``--log-path`` and ``--log-tag``. Checks once more."""
    config = record["config"]
    check(config)
    driver = config["log_driver"]
    if driver in PASSTHROUGH:
        check_streams(config, record["name"])
        return "passthrough", ""
    return driver, _fill_tag(record)
