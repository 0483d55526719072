"""Downloading the blobs of an image side by side, so that applying can begin with the first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from strata.errors import NotFound
from strata.oci import digest as digests
from strata.oci.manifest import Descriptor
from strata.registry import transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.registry.blob import Progress


# How long the end of a command waits for a thread, in seconds.
JOIN = 2.0


class BlobSource(Protocol):
    """The part of an ImageSource that downloads need; ``cancel`` is used where it exists."""

    def fetch(
        self, descriptor: Descriptor, destination: str, progress: Progress | None = None
    ) -> None:
        """Write a verified blob to a path."""


def download_all(
    source: BlobSource,
    descriptors: Sequence[Descriptor],
    folder: str,
    *,
    jobs: int = 3,
    progress: Progress | None = None,
) -> Downloads:
    """Start downloading blobs in the given order, ``jobs`` at a time; return at once.

    A blob becomes ``folder/HEX`` when verified; until then ``HEX.partial`` is kept for another
    try. Use the result as a context manager: leaving it stops what still runs.
    """
    return Downloads(source, descriptors, folder, jobs, progress)


class Downloads:
    """Running downloads. The first error stops the others and is raised by `wait`."""

    def __init__(
        self,
        source: BlobSource,
        descriptors: Sequence[Descriptor],
        folder: str,
        jobs: int,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._progress = progress
        # One download per digest: images repeat layers.
        unique = {descriptor.digest: descriptor for descriptor in descriptors}
        self._paths = {name: f"{folder}/{digests.parse(name)[1]}" for name in unique}
        self._queue = deque(unique.values())
        self._done: set[str] = set()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        # Daemons: an interrupted command must not hang in the end of the interpreter.
        self._threads = [
            threading.Thread(target=self._work, name=f"blob-{number}", daemon=True)
            for number in range(min(max(1, jobs), len(unique)))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, digest: str) -> str:
        """Block until a blob is complete; return its path.

        Raises the first error of any download, also when it was another blob's.
        """
        path = self._paths.get(digest)
        if path is None:
            raise NotFound(
                f"no download of {digest} was asked for", hint="this is a defect; please report it"
            )
        with self._changed:
            while digest not in self._done:
                if self._error is not None:
                    raise self._error
                self._changed.wait()
        return path

    def wait_all(self) -> list[str]:
        """Block until every blob is complete; return the paths in order."""
        return [self.wait(digest) for digest in self._paths]

    def close(self) -> None:
        """Stop what still runs; the source cannot be used after that if something was.

        A thread that cannot be freed (a name look-up, a TLS greeting) ends by itself later and
        writes nothing any more.
        """
        with self._changed:
            running = len(self._done) < len(self._paths)
            self._queue.clear()
            if running and self._error is None:
                self._error = transport.cancelled()
                self._changed.notify_all()
        if running:
            self._cancel_source()
        for thread in self._threads:
            thread.join(JOIN)

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._error is not None or not self._queue:
                    return
                descriptor = self._queue.popleft()
            try:
                self._source.fetch(descriptor, self._paths[descriptor.digest], self._progress)
            except BaseException as error:
                with self._changed:
                    first = self._error is None
                    if first:
                        self._error = error
                    self._changed.notify_all()
                if first:
                    self._cancel_source()
                return
            with self._changed:
                self._done.add(descriptor.digest)
                self._changed.notify_all()

    def _cancel_source(self) -> None:
        cancel = getattr(self._source, "cancel", None)
        if cancel is not None:
            cancel()
