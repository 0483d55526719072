"""The event log: what happened to containers, images, volumes, networks, snapshots.

Every verb that changes something says so at its end through `emit`: one line of JSON appended to
``events.log`` on the logs dataset, which is never rolled back. A line is written with one
write(2) on a descriptor opened for appending, so lines of several commands do not mix. Past
`MAX_SIZE` the file becomes ``events.log.1`` and so on, `KEPT` of them. Names and words are
Podman's (podman-events(1)); a follower waits by inotify and never by time.

An event is a record for people and scripts, not a promise: a command killed after its effect and
before its end leaves none, and a full pool loses it rather than fail the verb.
"""

from __future__ import annotations

import os
import time

from strata import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from strata.engine.core import Engine, Record
    from strata.linux.lines import LineReader

    Event = dict[str, Any]

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


# -- reading ---------------------------------------------------------------------------------------


def read(
    e: Engine, *, since: float | None = None, until: float | None = None, follow: bool = False,
    passes: Callable[[Event], bool] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """The events in order. ``since`` and ``until``: seconds since the epoch, None for no bound.

    ``follow``: go on with new ones, until ``until`` has passed when it is given, else for ever.
    """
    first = 0 if since is None else int(since * 1e9)
    last = None if until is None else int(until * 1e9)
    for event in _follow(find_log(e), last) if follow else _read_all(find_log(e)):
        if last is not None and event["time"] > last:
            return
        if event["time"] >= first and (passes is None or passes(event)):
            yield event


def parse_line(line: bytes) -> Event | None:
    """One event, None for a line that is none."""
    try:
        event = jsontext.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("time"), int):
        return None
    shape = {"type": "", "status": "", "id": "", "name": "", "image": ""}
    return {**shape, "attributes": {}, **event}


def _list_parts(path: str) -> list[str]:
    numbered = [f"{path}.{number}" for number in range(KEPT, 0, -1)]
    return [part for part in (*numbered, path) if os.path.exists(part)]


def _read_events(reader: LineReader) -> Iterator[Event]:
    return filter(None, map(parse_line, reader.read()))


def _read_all(path: str) -> Iterator[Event]:
    from strata.linux.lines import LineReader

    for part in _list_parts(path):
        try:
            reader = LineReader(part)
        except FileNotFoundError:  # rotated away just now
            continue
        try:
            yield from _read_events(reader)
        finally:
            reader.close()


def _follow(path: str, last: int | None) -> Iterator[Event]:
    import select

    from strata.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Watcher
    from strata.linux.lines import LineReader

    with Watcher() as watcher:
        watcher.add(os.path.dirname(path), IN_CREATE | IN_MOVED_TO)
        for part in _list_parts(path)[:-1] if os.path.exists(path) else _list_parts(path):
            reader = LineReader(part)
            try:
                yield from _read_events(reader)
            finally:
                reader.close()
        poll = select.poll()
        poll.register(watcher.fileno(), select.POLLIN)
        current: LineReader | None = None
        try:
            while True:
                if current is None or not current.is_current(path):
                    if current is not None:
                        yield from _read_events(current)
                        current.close()
                        current = None
                    try:
                        current = LineReader(path)
                        watcher.add(path, IN_MODIFY)
                    except FileNotFoundError:
                        pass
                if current is not None:
                    yield from _read_events(current)
                left = None if last is None else (last - time.time_ns()) // 10**6 + 1
                if left is not None and left <= 0:
                    return
                poll.poll(left)
                watcher.read()
        finally:
            if current is not None:
                current.close()


# -- choosing --------------------------------------------------------------------------------------

_SYNONYMS = {"die": "died", "rm": "remove", "delete": "remove", "destroy": "remove"}


def make_event_filter(filters: Mapping[str, Sequence[str]] | None) -> Callable[[Event], bool]:
    """Whether an event passes ``--filter``: container, event, image, label, network, pod, type,
    volume. `UsageError` for another key."""
    from strata.engine.filters import has_label, make_filter

    def is_of(kind: str) -> Callable[[Event, str], bool]:
        def test(event: Event, value: str) -> bool:
            return event["type"] == kind and (
                event["name"] == value or (bool(value) and event["id"].startswith(value))
            )

        return test

    def is_of_image(event: Event, value: str) -> bool:
        if event["type"] == IMAGE:
            return value in event["name"] or (bool(value) and event["id"].startswith(value))
        return event["type"] == CONTAINER and value in event["image"]

    return make_filter("event", filters, {
        "container": is_of(CONTAINER),
        "event": lambda event, value: event["status"] == _SYNONYMS.get(value, value),
        "image": is_of_image,
        "label": lambda event, value: has_label(event["attributes"], value),
        "network": is_of(NETWORK),
        "pod": lambda event, value: event.get("pod") == value,
        "snapshot": is_of(SNAPSHOT),
        "type": lambda event, value: event["type"] == value,
        "volume": is_of(VOLUME),
    })  # fmt: skip
