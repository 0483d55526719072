"""Checkpoints of running containers: whether this host can make them, and making one.

CRIU writes the processes of a container to files and makes them again from these. The OCI runtime
drives it: runc runs the program ``criu``, crun loads its library (which runs that program too), if
it was built to. What CRIU itself says lies in its log, whose last errors name the reason.
Sources: criu(8), runc-checkpoint(8), crun(1), ``images/stats.proto`` of CRIU.
"""

from __future__ import annotations

import os

from strata import command
from strata.errors import NotFound, RuntimeFailure, StrataError
from strata.runtime.launch import Runtime, run_runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: CRIU writes this file last, so a checkpoint with it is complete
INVENTORY = "inventory.img"
DUMP_LOG, RESTORE_LOG = "dump.log", "restore.log"
#: what CRIU tells of its work, in the folder of its logs
_STATISTICS = {
    "stats-dump": (1, ("freezing_time", "frozen_time", "memdump_time", "memwrite_time",
                       "pages_scanned", "pages_skipped_parent", "pages_written")),
    "stats-restore": (2, ("pages_compared", "pages_skipped_cow", "forking_time", "restore_time",
                          "pages_restored")),
}  # fmt: skip
_LOG_TAIL = 1 << 18

#: what a log of CRIU may hold, and what helps
_HINTS = (
    ("tcp-established", "--tcp-established lets connections be part of the checkpoint"),
    ("Connected TCP socket", "--tcp-established lets connections be part of the checkpoint"),
    ("file lock", "--file-locks lets file locks be part of the checkpoint"),
    ("File lock", "--file-locks lets file locks be part of the checkpoint"),
    ("No space left", "the checkpoint lies with the container's files, so its quota counts too"),
)  # fmt: skip


class Unable(StrataError):
    """This host cannot make or restore checkpoints; the message says what is missing."""

    id = "no-criu"


def check_able(runtime: Runtime, *, tracking: bool = False) -> None:
    """Raise `Unable` unless containers of this runtime can be checkpointed and restored here.

    ``tracking``: the kernel must also tell which memory was written since a moment. That it can
    be done is remembered until the host boots or one of the programs changes.
    """
    program = command.find_program("criu")
    known = f"{os.path.dirname(runtime.root)}/criu.able"
    found = _describe_programs(runtime.program, program or "", tracking)
    if program is not None and _read_tail(known) == found:
        return
    _look(runtime, program, tracking)
    with open(known, "w") as file:
        file.write(found)


def _describe_programs(*words: object) -> str:
    """Which programs were looked at, and what tells them from others at the same place."""
    lines = []
    for word in words:
        try:
            info = os.stat(str(word))
        except OSError:
            lines.append(str(word))
        else:
            lines.append(f"{word} {info.st_ino} {info.st_size} {info.st_ctime_ns}")
    return "\n".join(lines)


def _look(runtime: Runtime, program: str | None, tracking: bool) -> None:
    if not _drives_criu(runtime):
        raise Unable(
            f"the OCI runtime {runtime.name} does not support checkpoint/restore: it was built "
            "without CRIU",
            hint="containers made with --runtime runc can be checkpointed, and those of the crun "
            "of Debian 13 (packages runc, criu, libcriu2)",
        )
    if program is None:
        raise Unable(
            "checkpoint/restore needs CRIU, which is not installed: there is no program criu",
            hint="install the package criu" + (" and libcriu2" if runtime.is_crun else ""),
        )
    checked = command.run([program, "check"], check=False)
    if checked.returncode:
        text = (checked.stderr + checked.stdout).decode(errors="replace")
        raise Unable(
            f"CRIU cannot work on this host: {_first_error(text) or 'its check failed'}",
            hint=f"{_find_version(program)} does not fit this kernel; `criu check` says more",
        )
    if tracking:
        tracked = command.run([program, "check", "--feature", "mem_dirty_track"], check=False)
        if tracked.returncode:
            raise Unable(
                "system (architecture/kernel/CRIU) does not support memory tracking",
                hint="make a checkpoint without --pre-checkpoint and --with-previous",
            )


def _drives_criu(runtime: Runtime) -> bool:
    if runtime.is_crun:
        return "+CRIU" in command.run([runtime.program, "--version"], check=False).text
    return command.run([runtime.program, "checkpoint", "--help"], check=False).returncode == 0


def _find_version(program: str) -> str:
    """As in "CRIU 3.17.1"."""
    text = command.run([program, "--version"], check=False).text
    return f"CRIU {text.partition('Version:')[2].split()[0]}" if "Version:" in text else "this CRIU"


def dump(
    runtime: Runtime, container_id: str, images: str, logs: str, options: Sequence[str]
) -> None:
    """Write a running container's processes to the folder ``images``; they end, unless
    ``options`` say otherwise.

    ``logs`` is the folder CRIU works in and leaves its log. `RuntimeFailure`, `Unable`; then the
    container runs on.
    """
    words = ["checkpoint", "--image-path", images, "--work-path", logs, *options, container_id]
    try:
        run_runtime(runtime, words)
    except RuntimeFailure as error:
        raise explain(error, f"{logs}/{DUMP_LOG}", "checkpointed") from error


def explain(error: StrataError, log: str, done: str) -> StrataError:
    """What a runtime's failure means, by the log that CRIU left; ``done`` as in "restored"."""
    if "libcriu" in error.message:
        return Unable("crun cannot load the library of CRIU", hint="install the package libcriu2")
    text = _read_tail(log)
    reason = _first_error(text) or error.message
    hint = next((hint for word, hint in _HINTS if word in text), "")
    return RuntimeFailure(f"the container cannot be {done}: {reason}",
                          hint=hint or f"CRIU says more in {log}")  # fmt: skip


def _read_tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _first_error(text: str) -> str:
    """The first error of a log, as ``inet: Connected TCP socket, …``; what follows is its wake."""
    for line in text.splitlines():
        _, found, rest = line.partition("Error (")
        where, closed, reason = rest.partition("): ")
        # It says so before each dump by those who may not change their own limits.
        if found and closed and "RLIMIT_NOFILE" not in reason and "/" in where:
            return reason.strip()
    return ""


def read_statistics(logs: str, name: str) -> dict[str, int]:
    """What CRIU counted (times in microseconds), from ``stats-dump`` or ``stats-restore``."""
    field, keys = _STATISTICS[name]
    try:
        with open(f"{logs}/{name}", "rb") as file:
            data = file.read(1 << 16)
    except FileNotFoundError:
        raise NotFound(f"CRIU left no statistics in {logs}/{name}") from None
    # Two magic numbers and a length, 4 bytes each, then one message that holds one message.
    inner = dict(_read_message(data[12:])).get(field)
    counted = dict(_read_message(inner)) if isinstance(inner, bytes) else {}
    return {key: value for number, key in enumerate(keys, 1)
            if isinstance(value := counted.get(number, 0), int)}  # fmt: skip


def _read_message(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message of protocol buffers that has only numbers and inner messages."""
    fields: list[tuple[int, int | bytes]] = []
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while position < len(data):
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return value

    while position < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            fields.append((key >> 3, data[position : position + value]))
            position += value
        else:
            fields.append((key >> 3, value))
    return fields
