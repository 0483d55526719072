"""Reading the event log that `strata.engine.events` writes: all of it, a time of it, what comes.

A follower waits by inotify and never by time.
"""

from __future__ import annotations

import os
import time

from strata import jsontext
from strata.engine import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from strata.engine.core import Engine
    from strata.linux.lines import LineReader

    Event = dict[str, Any]


def read(
    e: Engine, *, since: float | None = None, until: float | None = None, follow: bool = False,
    passes: Callable[[Event], bool] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """The events in order. ``since`` and ``until``: seconds since the epoch, None for no bound.

    ``follow``: go on with new ones, until ``until`` has passed when it is given, else for ever.
    """
    first = 0 if since is None else int(since * 1e9)
    last = None if until is None else int(until * 1e9)
    for event in _follow(events.find_log(e), last) if follow else _read_all(events.find_log(e)):
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
    numbered = [f"{path}.{number}" for number in range(events.KEPT, 0, -1)]
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
        if event["type"] == events.IMAGE:
            return value in event["name"] or (bool(value) and event["id"].startswith(value))
        return event["type"] == events.CONTAINER and value in event["image"]

    return make_filter("event", filters, {
        "container": is_of(events.CONTAINER),
        "event": lambda event, value: event["status"] == _SYNONYMS.get(value, value),
        "image": is_of_image,
        "label": lambda event, value: has_label(event["attributes"], value),
        "network": is_of(events.NETWORK),
        "pod": lambda event, value: event.get("pod") == value,
        "snapshot": is_of(events.SNAPSHOT),
        "type": lambda event, value: event["type"] == value,
        "volume": is_of(events.VOLUME),
    })  # fmt: skip
