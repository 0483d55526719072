"""Showing how far downloads are.

A progress is any callable ``progress(digest, done, total)`` in bytes. It is called from several
threads, and ``done`` goes back when a download starts again.
"""

from __future__ import annotations

import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TextIO

    Progress = Callable[[str, int, int], None]

# How often a bar is told, in seconds: drawing must not cost more than downloading.
INTERVAL = 0.1


class NullProgress:
    """Says nothing: for pipes and ``--quiet``."""

    def __call__(self, digest: str, done: int, total: int) -> None:
        """Ignore the report."""

    def __enter__(self) -> NullProgress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""


class TerminalProgress:
    """One bar per blob on standard error; imports rich."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("Copying blob {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=stream or sys.stderr),
        )
        self._tasks: dict[str, Any] = {}
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, digest: str, done: int, total: int) -> None:
        """Move the bar of a blob."""
        now = time.monotonic()
        with self._lock:
            if done < total and now - self._told.get(digest, 0.0) < INTERVAL:
                return
            self._told[digest] = now
            if digest not in self._tasks:
                label = digest.partition(":")[2][:12]
                self._tasks[digest] = self._bars.add_task(label, total=total)
            self._bars.update(self._tasks[digest], completed=done)

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


def choose(*, quiet: bool = False, stream: TextIO | None = None) -> NullProgress | TerminalProgress:
    """Bars when the stream (standard error) is a terminal, else silence."""
    target = stream or sys.stderr
    if quiet or not target.isatty():
        return NullProgress()
    return TerminalProgress(target)
