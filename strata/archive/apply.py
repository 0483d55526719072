"""Apply a layer blob to a tree: the parent's side.

The parent opens and inflates the blob, hashes the uncompressed stream and feeds it to a child
(`strata.archive.unpack`) which is shut into the tree's ``rootfs``; inflating, hashing, feeding and
unpacking overlap. The child is a fresh interpreter and not a fork: it costs about 20 ms, partly
beside the first inflating, and in return it is safe in a program with threads, and what unpacks a
stranger's archive shares no memory with registry credentials.

The child returns the *split* (see `strata.archive.split`) on a pipe; the parent compresses it
into ``.strata/tar-split.zst``. On any failure the tree's content is undefined and its metadata is
absent: the caller destroys the dataset or puts it back to its snapshot.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from queue import Queue
from threading import Thread

from strata import command, trace
from strata.archive.inflate import inflate
from strata.archive.split import SplitFile
from strata.archive.tar import Limits
from strata.errors import ArchiveError, DigestMismatch, NoSpace, StorageError, StrataError
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Applied", "Limits", "apply_layer", "apply_stream"]

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from strata.archive.unpack import main; sys.exit(main(sys.argv[2:]))"
)
_PIPE_SIZE = 1 << 20
_QUEUE = 16


class Applied:
    """What was applied: ``diff_id``, ``size`` of the uncompressed tar in bytes, ``entries``."""

    __slots__ = ("diff_id", "entries", "size")

    def __init__(self, diff_id: str, size: int, entries: int) -> None:
        self.diff_id = diff_id
        self.size = size
        self.entries = entries


def apply_layer(
    blob_path: str,
    media_type: str,
    tree: str,
    *,
    limits: Limits | None = None,
    expected_diff_id: str | None = None,
) -> Applied:
    """Unpack the blob at ``blob_path`` over ``tree``/rootfs and store its split in ``.strata``.

    ``media_type`` is informative: compression is detected from the content. Raises
    `ArchiveError` (malformed, hostile, over a limit), `NoSpace`, `DigestMismatch` when the
    uncompressed stream is not ``expected_diff_id``, `StorageError` when the host fails.
    """
    limits = limits or Limits()
    fd = os.open(blob_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blob_size = os.fstat(fd).st_size
        try:
            pieces = guard(inflate(fd), blob_size, limits)
            return apply_stream(pieces, tree, limits=limits, expected_diff_id=expected_diff_id)
        except ImportError as error:
            raise ArchiveError(f"cannot read {media_type}: {error}") from None
    finally:
        os.close(fd)


def apply_stream(
    pieces: Iterable[bytes],
    tree: str,
    *,
    limits: Limits | None = None,
    expected_diff_id: str | None = None,
) -> Applied:
    """Like `apply_layer` for an uncompressed tar that comes in pieces."""
    limits = limits or Limits()
    try:
        with SplitFile(tree) as split:
            applied = _Job(f"{tree}/rootfs", split, limits).run(pieces)
            if expected_diff_id is not None and applied.diff_id != expected_diff_id:
                raise DigestMismatch(
                    f"layer diffID mismatch: expected {expected_diff_id}, got {applied.diff_id}",
                    hint="the image is damaged or dishonest: its configuration names other content",
                )
            trace.point("apply:unpacked")
            split.finish()
            trace.point("apply:stored")
    except OSError as error:
        raise _storage_error(error) from None
    return applied


def _storage_error(error: OSError) -> StrataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("no space left to unpack the layer", hint="free space in the pool")
    return StorageError(f"cannot unpack the layer: {error.strerror}")


def guard(pieces: Iterable[bytes], blob_size: int, limits: Limits) -> Iterable[bytes]:
    """Stop a stream that grows past the limits."""
    most = min(limits.size, max(limits.ratio_floor, limits.ratio * blob_size))
    produced = 0
    for piece in pieces:
        produced += len(piece)
        if produced > most:
            raise ArchiveError(
                f"the archive of {blob_size} bytes unpacks to more than {most} bytes",
                hint="it may be a decompression bomb; the limit can be raised",
            )
        yield piece


class Lane:
    """A thread that does one thing with every piece; after a failure it only drains."""

    __slots__ = ("_action", "_queue", "_thread", "failure")

    def __init__(self, action: Callable[[bytes], object]) -> None:
        self._action = action
        self._queue: Queue[bytes | None] = Queue(_QUEUE)
        self.failure: BaseException | None = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, piece: bytes) -> None:
        self._queue.put(piece)

    def end(self) -> None:
        """No more pieces; wait for the rest to be done."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (piece := self._queue.get()) is not None:
            if self.failure is None:
                try:
                    self._action(piece)
                except BaseException as error:
                    self.failure = error


class _Collector:
    """A thread that reads a pipe to its end; after a failure it only drains."""

    __slots__ = ("_action", "_fd", "_thread", "failure")

    def __init__(self, fd: int, action: Callable[[bytes], object]) -> None:
        self._fd = fd
        self._action = action
        self.failure: BaseException | None = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while data := os.read(self._fd, 1 << 17):
            if self.failure is None:
                try:
                    self._action(data)
                except BaseException as error:
                    self.failure = error


class _Job:
    """One child with its pipes and threads."""

    def __init__(self, root: str, split: SplitFile, limits: Limits) -> None:
        self._root = root
        self._split = split
        self._limits = limits
        self._report = bytearray()

    def run(self, pieces: Iterable[bytes]) -> Applied:
        import hashlib

        digest = hashlib.sha256()
        stream_r, stream_w = os.pipe2(os.O_CLOEXEC)
        split_r, split_w = os.pipe2(os.O_CLOEXEC)
        report_r, report_w = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(stream_w, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass
        try:
            pid = self._spawn(stream_r, split_w, report_w)
        except BaseException:
            for fd in (stream_w, split_r, report_r):
                os.close(fd)
            raise
        finally:
            for fd in (stream_r, split_w, report_w):
                os.close(fd)
        splits = _Collector(split_r, self._split.write)
        reports = _Collector(report_r, self._collect_report)
        hasher = Lane(digest.update)
        feeder = Lane(lambda piece: write_all(stream_w, piece))
        size = 0
        finished = False
        try:
            trace.point("apply:started")
            for piece in pieces:
                size += len(piece)
                hasher.put(piece)
                feeder.put(piece)
                if feeder.failure is not None or splits.failure is not None:
                    break
            finished = True
        finally:
            if not finished or splits.failure is not None:
                os.kill(pid, 9)
            feeder.end()
            os.close(stream_w)
            hasher.end()
            splits.join()
            reports.join()
            os.close(split_r)
            os.close(report_r)
            code = command.wait(pid)
        if splits.failure is not None:
            raise splits.failure
        kind, *fields = self._report.decode(errors="replace").split("\0")
        if code != 0 or kind != "done" or len(fields) != 2:
            raise _child_error(code, kind, fields)
        if feeder.failure is not None or int(fields[1]) != size:
            raise ArchiveError("the unpacking process stopped before the end of the layer")
        return Applied(f"sha256:{digest.hexdigest()}", size, int(fields[0]))

    def _spawn(self, stream: int, split: int, report: int) -> int:
        import strata

        limits = self._limits
        numbers = (limits.size, limits.entries, limits.depth, limits.path, limits.special)
        package = os.path.dirname(os.path.dirname(os.path.abspath(strata.__file__ or "")))
        # Held locks stay with the child too: the operation ends when its last process does.
        kept = ",".join(map(str, sorted(command.inherited)))
        argv = [
            sys.executable or "/usr/bin/python3", "-I", "-S", "-c", _BOOT, package, self._root,
            str(self._split.bodies_fd), kept, str(os.getpid()), *map(str, numbers),
        ]  # fmt: skip
        return command.spawn(
            argv, stdin=stream, stdout=split, stderr=report, pass_fds=(self._split.bodies_fd,)
        )

    def _collect_report(self, data: bytes) -> None:
        if len(self._report) < 16384:
            self._report += data


def _child_error(code: int, kind: str, fields: list[str]) -> StrataError:
    """The child's report as an error."""
    first = fields[0] if fields else ""
    if kind == "archive":
        return ArchiveError(first, hint=fields[1] if len(fields) > 1 else "")
    if kind == "space":
        return NoSpace("no space left to unpack the layer", hint="free space in the pool")
    if kind == "host":
        return StorageError(f"cannot unpack the layer: {first}")
    if code < 0:
        return ArchiveError(f"the unpacking process was killed by signal {-code}")
    lines = [line for line in kind.splitlines() if line.strip()]
    return ArchiveError(f"the unpacking process failed: {lines[-1].strip() if lines else code}")
