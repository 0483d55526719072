"""The event log: what happened to containers, images, volumes, networks, snapshots.

Every verb that changes something says so at its end through `emit`: one line of JSON appended to
``events.log`` on the logs dataset, which is never rolled back. A line is written with one
write(2) on a descriptor opened for appending, so lines of several commands do not mix. Past
`MAX_SIZE` the file becomes ``events.log.1`` and so on, `KEPT` of them. Names and words are
Podman's (podman-events(1)). `strata.engine.event_log` reads it.

An event is a record for people and scripts, not a promise: a command killed after its effect and
before its end leaves none, and a full pool loses it rather than fail the verb.
"""

from __future__ import annotations

import os
import time

from strata import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from strata.engine.core import Engine, Record

MAX_SIZE = 1 << 20
KEPT = 4

CONTAINER, IMAGE, VOLUME, NETWORK = "container", "image", "volume", "network"
SECRET, SNAPSHOT, SYSTEM = "secret", "snapshot", "system"
TYPES = (CONTAINER, IMAGE, VOLUME, NETWORK, SECRET, SNAPSHOT, SYSTEM, "pod")


def find_log(e: Engine) -> str:
    """The path of the newest part of the log."""
    return f"{e.logs}/events.log"


def emit(
    e: Engine, kind: str, status: str, *, id: str = "", name: str = "", image: str = "",
    attributes: Mapping[str, str] | None = None, **details: object,
) -> None:  # fmt: skip
    """Append one event. ``kind`` is its Type, ``status`` what happened. Never fails.

    ``details`` are further fields: ``exit_code``, ``health``, ``streak``, ``check``, ``network``,
    ``error``.
    """
    event = {
        "time": time.time_ns(), "type": kind, "status": status, "id": id, "name": name,
        "image": image, "attributes": dict(attributes or {}), **details,
    }  # fmt: skip
    path = find_log(e)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, jsontext.dumps(event).encode("ascii", "replace") + b"\n")
            full = os.fstat(fd).st_size > MAX_SIZE
        finally:
            os.close(fd)
        if full:
            _rotate(e, path)
    except OSError:
        return


def emit_container(e: Engine, status: str, record: Record, **details: object) -> None:
    """Append an event of a container, with its image and labels as Podman does."""
    emit(
        e, CONTAINER, status, id=record["id"], name=record["name"], image=record["image_name"],
        attributes=record["config"]["labels"], **details,
    )  # fmt: skip


def _rotate(e: Engine, path: str) -> None:
    from strata.linux import locks

    held = locks.try_lock(f"{e.paths.locks}/4-events")
    if held is None:
        return
    with held:
        if os.stat(path).st_size <= MAX_SIZE:
            return
        for number in range(KEPT, 0, -1):
            older = f"{path}.{number - 1}" if number > 1 else path
            if os.path.exists(older):
                os.rename(older, f"{path}.{number}")
