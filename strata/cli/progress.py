"""Progress of downloads for people: on a terminal only, and drawn from the first report on.

A progress is called as ``progress(digest, done, total)``, in bytes and from any thread. Bars end
by themselves once everything that was started has arrived, so that the terminal is free for the
container that ``run`` starts next.
"""

from __future__ import annotations

import sys
import time
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Progress = Callable[[str, int, int], None]

# How often a bar moves, in seconds: drawing must not cost more than downloading.
_INTERVAL = 0.1


def make_progress(*, quiet: bool = False) -> Progress | None:
    """Return a display for standard error, or None when it is no terminal or nobody wants it."""
    try:
        wanted = not quiet and sys.stderr.isatty()
    except (ValueError, AttributeError):
        wanted = False
    return _Bars() if wanted else None


class _Bars:
    """One bar per blob."""

    def __init__(self) -> None:
        # `threading` would cost every `run` on a terminal a quarter of its imports.
        self._lock = allocate_lock()
        self._bars: Any = None
        self._open: dict[str, Any] = {}
        self._told: dict[str, float] = {}

    def __call__(self, digest: str, done: int, total: int) -> None:
        """Move the bar of a blob, make it when it is new, end the display when all are done."""
        now = time.monotonic()
        finished = done >= total
        with self._lock:
            if not finished and now - self._told.get(digest, 0.0) < _INTERVAL:
                return
            if finished and digest not in self._open and digest in self._told:
                return
            self._told[digest] = now
            if self._bars is None:
                self._bars = _make_bars()
                self._bars.start()
            if digest not in self._open:
                label = digest.partition(":")[2][:12]
                self._open[digest] = self._bars.add_task(label, total=total)
            self._bars.update(self._open[digest], completed=done)
            if finished:
                del self._open[digest]
                if not self._open:
                    self._bars.stop()
                    self._bars = None


def _make_bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("Copying blob {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(file=sys.stderr),
    )
