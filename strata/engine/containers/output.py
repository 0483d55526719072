"""``logs``: what containers wrote, to the standard streams, each part to the one it was for.

With one container the bytes are as they were. With several each line begins with the short id or
the name of its container; they come one after another, or, when followed, as they are written.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.errors import UsageError
from strata.linux import process
from strata.linux.write import write_all
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from strata.runtime.logs import Entry

_COLOURS = (32, 33, 34, 35, 36, 31, 92, 93, 94, 95, 96, 91)


class Choice:
    """What to show of a log and how: bounds in seconds since the epoch, ``tail`` in lines."""

    __slots__ = ("colour", "follow", "show_names", "since", "tail", "timestamps", "until")

    def __init__(
        self, *, follow: bool = False, since: float | None = None, until: float | None = None,
        tail: int | None = None, timestamps: bool = False, show_names: bool = False,
        colour: bool = False,
    ) -> None:  # fmt: skip
        self.follow = follow
        self.since = since
        self.until = until
        self.tail = tail
        self.timestamps = timestamps
        self.show_names = show_names
        self.colour = colour


def show(e: Engine, records: Sequence[Record], choice: Choice) -> None:
    """Write the logs of containers. `UsageError` for one that keeps none."""
    for record in records:
        _check_driver(record)
    prefixes = [_make_prefix(record, index, choice) for index, record in enumerate(records)]
    if len(records) == 1:
        _show_one(records[0], choice, b"", write_all)
    elif choice.follow:
        _follow_all(records, prefixes, choice)
    else:
        for record, prefix in zip(records, prefixes, strict=True):
            _show_one(record, choice, prefix, write_all)


def _check_driver(record: Record) -> None:
    driver = record["config"]["log_driver"]
    if driver == "none":
        raise UsageError(
            f"container {record['name']} keeps no log: it was made with --log-driver none"
        )
    if driver.startswith("passthrough"):
        raise UsageError(
            f"this container is using the '{driver}' log driver, cannot read logs: this container "
            "is not logging output",
            hint="its output went to the streams of the command that started it",
        )


def _make_prefix(record: Record, index: int, choice: Choice) -> bytes:
    text = str(record["name"]) if choice.show_names else str(record["id"])[:12]
    if choice.colour:
        return f"\33[{_COLOURS[index % len(_COLOURS)]}m{text}\33[0m ".encode()
    return f"{text} ".encode()


def _show_one(
    record: Record, choice: Choice, prefix: bytes, write: Callable[[int, bytes], None]
) -> None:
    end = -1
    live = lifecycle.derive(record) in lifecycle.LIVE
    if choice.follow and live:
        try:
            end = process.open_pidfd(record["state"]["conmon_pid"])
        except ProcessLookupError:
            live = False
    try:
        entries = _read(record, choice, follow=choice.follow and live, end=end)
        begins = {1: True, 2: True}
        for entry in entries:
            fd = 2 if entry.stream == "stderr" else 1
            start = b""
            if begins[fd]:
                start = prefix + (f"{entry.stamp} ".encode() if choice.timestamps else b"")
            begins[fd] = not entry.partial
            write(fd, start + entry.text)
    finally:
        if end >= 0:
            os.close(end)


def _read(record: Record, choice: Choice, *, follow: bool, end: int) -> Iterator[Entry]:
    since, until = int((choice.since or 0) * 1e9), int((choice.until or 0) * 1e9)
    ends = end if end >= 0 else None
    if record["config"]["log_driver"] == "journald":
        from strata.runtime.journal import read_journal

        return read_journal(
            record["id"], tail=choice.tail, since=since, until=until, follow=follow, end=ends
        )
    from strata.runtime.logs import read_logs

    return read_logs(
        record["config"]["log_path"], tail=choice.tail, since=since, until=until, follow=follow,
        end=ends,
    )  # fmt: skip


def _follow_all(records: Sequence[Record], prefixes: Sequence[bytes], choice: Choice) -> None:
    """Follow several logs at once, one thread each; the last one to end ends it."""
    import threading

    lock = threading.Lock()
    failures: list[BaseException] = []
    over = threading.Event()
    left = [len(records)]

    def write(fd: int, data: bytes) -> None:
        with lock:
            write_all(fd, data)

    def follow(record: Record, prefix: bytes) -> None:
        try:
            _show_one(record, choice, prefix, write)
        except BaseException as error:
            failures.append(error)
            over.set()
        with lock:
            left[0] -= 1
            if not left[0]:
                over.set()

    for record, prefix in zip(records, prefixes, strict=True):
        threading.Thread(target=follow, args=(record, prefix), daemon=True).start()
    over.wait()
    if failures:
        raise failures[0]
