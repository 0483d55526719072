"""The journal: what an operation set out to do, written before its first effect.

Each verb that changes the store opens an `Operation`. Its file under ``records/journal`` names
the verb, the objects, and the undo steps of what was done so far, newest last. It is there while
there is something to take back or to keep, and so long the operation holds a kernel lock, with the
programs it started. When it ends well the file is removed; when it fails the undo steps run newest
first; when it is killed, the next command that changes the store finds the file with a free lock
and runs the undo steps for it.

An undo step is a list of strings, such as ``["destroy", "containers/web.3f2a"]``: data, so it
can be executed by another process, shown by ``system check``, and extended later. Every step is
idempotent, because the crash may have come before or after the effect it takes back. Steps that
only make sense forward (finish a removal) use the same form.

``keep`` lists ids of layers the operation relies on: a lease. Collection skips what any living
operation keeps.
"""

from __future__ import annotations

import os
import time

from strata import trace
from strata.errors import RecordError
from strata.linux import locks
from strata.store import files
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.store.files import Record

    UndoRunner = Callable[[list[str]], None]


class Operation:
    """A journalled operation; use it as a context manager.

    Leaving the block normally completes it. Leaving it with an exception undoes it.
    """

    __slots__ = ("_journal", "_lock", "_path", "id", "keep", "undo", "verb")

    def __init__(self, journal: Journal, verb: str, undo: list[list[str]], keep: list[str]) -> None:
        self._journal = journal
        self.id = new_id(16)
        self.verb = verb
        self.undo = undo
        self.keep = keep
        self._path = f"{journal.folder}/{self.id}.json"
        #: held from when there is an entry
        self._lock: locks.Lock | None = None
        try:
            self._write()
        except BaseException:
            self._release()
            raise
        trace.point(f"{verb}:begun")

    def _write(self) -> None:
        if not self.undo and not self.keep:
            self._remove()
            return
        if self._lock is None:
            self._lock = locks.lock(f"{self._journal.locks}/op.{self.id}")
        # Not flushed: it guards against killed commands; after a power cut `system check`
        # compares datasets with records and needs no journal.
        files.write_json(
            self._path,
            {"schema": 1, "id": self.id, "verb": self.verb, "pid": os.getpid(),
             "time": time.time(), "undo": self.undo, "keep": self.keep},
            durable=False,
        )  # fmt: skip

    def _remove(self) -> None:
        if self._lock is None:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def plan(self, *steps: list[str]) -> None:
        """Record how to take back an effect that is about to happen."""
        self.undo.extend(steps)
        self._write()
        trace.point(f"{self.verb}:{steps[-1][0]}-planned")

    def replace(self, *steps: list[str]) -> None:
        """Turn the point of no return: from here on these steps complete the operation."""
        self.undo = list(steps)
        self._write()
        trace.point(f"{self.verb}:decided")

    def lease(self, *layer_ids: str) -> None:
        """Keep these layers from collection until the operation ends."""
        self.keep.extend(layer_ids)
        self._write()

    def _release(self) -> None:
        if self._lock is not None:
            Journal._unlock(self._lock)
            self._lock = None

    def complete(self) -> None:
        """The operation ended well; forget it. Idempotent."""
        self._remove()
        trace.point(f"{self.verb}:completed")
        self._release()

    def fail(self) -> None:
        """Undo what was done, newest first; steps that fail stay in the journal."""
        left = self._journal.run_undo(self.undo)
        if left:
            self.undo = left
            try:
                self._write()
            except Exception:  # a full pool must not hide the first error
                pass
            self._release()
            return
        self.complete()

    def __enter__(self) -> Operation:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.complete()
        else:
            self.fail()


class Journal:
    """The journal of one store. ``execute`` performs one undo step and is idempotent."""

    __slots__ = ("execute", "folder", "locks")

    def __init__(self, folder: str, locks_folder: str, execute: UndoRunner) -> None:
        self.folder = folder
        self.locks = locks_folder
        self.execute = execute

    def begin(self, verb: str, *undo: list[str], keep: list[str] | None = None) -> Operation:
        """Start an operation; what it is given to undo and keep is written when this returns."""
        return Operation(self, verb, list(undo), list(keep or ()))

    def run_undo(self, steps: list[list[str]]) -> list[list[str]]:
        """Run undo steps newest first; return those that failed, in their old order."""
        left = []
        for step in reversed(steps):
            try:
                self.execute(step)
            except Exception:  # one step that fails must not keep the others from running
                left.append(step)
            trace.point(f"undo:{step[0]}")
        left.reverse()
        return left

    def _list(self) -> list[str]:
        return [name[:-5] for name in sorted(os.listdir(self.folder)) if files.is_record(name)]

    def _read(self, operation: str) -> Record | None:
        """An entry, None when it cannot be read. FileNotFoundError when it is settled."""
        try:
            return files.read_json(f"{self.folder}/{operation}.json")
        except RecordError:
            return None

    def list_entries(self) -> list[tuple[Record, bool]]:
        """All entries with whether their operation still lives."""
        found = []
        for operation in self._list():
            try:
                record = self._read(operation)
            except FileNotFoundError:
                continue
            if record is None:
                continue
            held = locks.try_lock(f"{self.locks}/op.{operation}")
            if held is not None:
                self._unlock(held)
            found.append((record, held is None))
        return found

    def list_kept(self) -> set[str]:
        """Layer ids that living operations rely on."""
        return {layer for record, alive in self.list_entries() if alive for layer in record["keep"]}

    def recover(self) -> int:
        """Undo operations whose process is gone; return how many entries were settled.

        Entries whose undo still fails stay; ``system check`` reports them.
        """
        settled = 0
        for operation in self._list():
            held = locks.try_lock(f"{self.locks}/op.{operation}")
            if held is None:
                continue
            try:
                path = f"{self.folder}/{operation}.json"
                # Only now: it may have gone on, and past its point of no return, until it died.
                try:
                    record = self._read(operation)
                except FileNotFoundError:
                    continue
                if record is None:
                    os.unlink(path)  # broken off while the first entry was written: no effect yet
                    settled += 1
                    continue
                steps = [step for step in record.get("undo", ()) if _is_step(step)]
                left = self.run_undo(steps)
                if left:
                    record["undo"] = left
                    files.write_json(path, record, durable=False)
                else:
                    os.unlink(path)
                    settled += 1
            finally:
                self._unlock(held)
        return settled

    @staticmethod
    def _unlock(held: locks.Lock) -> None:
        try:
            os.unlink(held.path)
        except FileNotFoundError:
            pass
        held.release()


def _is_step(step: object) -> bool:
    return isinstance(step, list) and bool(step) and all(isinstance(part, str) for part in step)
