"""The supervisor: one process per store, there only while a container needs to be watched.

It waits for three things at once: marks of containers that begin (inotify), the end of watched
containers (pidfds), and the next moment something is due. What is due it hands to a command of
its own (``container revive``, ``healthcheck run``), one at a time for a container, so that it
never waits for a lock and a hanging check delays nobody else. It ends when no mark is left.

A container that keeps ending is started again after 0.1 s, then 0.2 s and so on, at most a
minute; one that ran for ten seconds begins anew. Source: Docker's restartmanager.
"""

from __future__ import annotations

import os
import select
import time

from strata import command
from strata.engine.containers import supervising
from strata.engine.core import Engine, Record
from strata.errors import RecordError
from strata.linux import locks
from strata.linux.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_MOVED_TO, Watcher
from strata.linux.process import open_pidfd
from strata.store import lifecycle
from strata.times import parse_time

_FIRST_DELAY, _LAST_DELAY, _SETTLED = 0.1, 60.0, 10.0
#: seconds until a container whose lock was not free is looked at again
_AGAIN = 0.2


class _Watched:
    """One container: its run (by pid and start time), what is next and when (monotonic)."""

    __slots__ = ("began", "child", "delay", "ends", "next_check", "next_look", "run")

    def __init__(self) -> None:
        self.run = (0, 0)
        #: pidfd of the run
        self.ends = -1
        #: pid and pidfd of a command that works for it
        self.child = (0, -1)
        #: since when the run is watched (monotonic), 0: no run since the last end
        self.began = 0.0
        self.delay = 0.0
        self.next_look = 0.0
        #: 0: no check
        self.next_check = 0.0

    def forget_run(self) -> None:
        if self.ends >= 0:
            os.close(self.ends)
            self.ends = -1
        self.next_check = 0.0


def supervise(e: Engine) -> None:
    """Watch until no container needs it. Returns at once when another process does."""
    while supervising.list_marks(e):
        held = locks.try_lock(supervising.lock_path(e))
        if held is None:
            return
        with held:
            _Supervisor(e).run()
        # A mark that came after the last look was left by one who saw us alive.


class _Supervisor:
    def __init__(self, e: Engine) -> None:
        self.e = e
        self.watched: dict[str, _Watched] = {}
        #: commands for containers that need no watching any more
        self.orphans: list[int] = []

    def run(self) -> None:
        with Watcher() as watcher:
            folder = supervising.find_marks(self.e)
            try:
                watcher.add(folder, IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE)
            except OSError:
                return
            fresh = True
            while True:
                marks = supervising.list_marks(self.e)
                if not marks:
                    return
                self._take_up(marks, fresh)
                # Without anything to watch, look once more for marks and end.
                fresh = self._wait(watcher) if self.watched else True

    def _take_up(self, marks: list[str], fresh: bool) -> None:
        now = time.monotonic()
        for container_id in [known for known in self.watched if known not in marks]:
            self._drop(container_id)
        for container_id in marks:
            one = self.watched.setdefault(container_id, _Watched())
            if one.child[0]:
                continue
            if fresh or one.ends < 0 or now >= one.next_look > 0:
                self._look(container_id, one, now)
            if not one.child[0] and 0 < one.next_check <= now:
                self._start(one, "healthcheck", "run", container_id)

    def _look(self, container_id: str, one: _Watched, now: float) -> None:
        """Compare with the record: follow a new run, or decide what follows the end of one."""
        try:
            record = self.e.records.find("container", container_id)
        except RecordError:
            record = None
        if record is None:
            supervising.unmark(self.e, container_id)
            self._drop(container_id)
        elif lifecycle.derive(record) in lifecycle.LIVE:
            self._follow(record, one, now)
        elif now >= one.next_look:
            self._after_end(record, one, now)

    def _follow(self, record: Record, one: _Watched, now: float) -> None:
        state = record["state"]
        run = (int(state["pid"]), int(state["pid_start"]))
        one.next_look = 0.0
        if not supervising.is_needed(record):
            supervising.unmark(self.e, record["id"])
            self._drop(record["id"])
            return
        interval = supervising.get_interval(record)
        if run != one.run or one.ends < 0:
            one.forget_run()
            one.run = run
            one.began = now
            try:
                one.ends = open_pidfd(run[0])
            except ProcessLookupError:
                one.next_look = now + _AGAIN
                return
            one.next_check = now if interval else 0.0
        elif not interval:
            one.next_check = 0.0
        elif not one.next_check:
            one.next_check = now + _get_pause(record, interval)

    def _after_end(self, record: Record, one: _Watched, now: float) -> None:
        """Start again, or give up watching. An end is written down under the container's lock, so
        whoever is starting or stopping it comes first."""
        container_id = record["id"]
        one.forget_run()
        held = self.e.try_lock("container", container_id)
        if held is None:
            one.next_look = now + _AGAIN
            return
        with held:
            fresh = self.e.records.find("container", container_id)
            if fresh is None:
                self.e.forget_lock(held)
            unsettled = fresh is not None and fresh["state"]["status"] in lifecycle.LIVE
            over = fresh is None or (
                lifecycle.derive(fresh) not in lifecycle.LIVE
                and not unsettled
                and not supervising.is_due(fresh)
            )
            if over:
                supervising.unmark(self.e, container_id)
        if over:
            self._drop(container_id)
            return
        if not one.next_look:
            lasted = one.began > 0 and now - one.began >= _SETTLED
            one.delay = _FIRST_DELAY if lasted else min(_LAST_DELAY, one.delay * 2 or _FIRST_DELAY)
            one.began = 0.0
            one.next_look = now + one.delay
        else:
            one.next_look = 0.0
            self._start(one, "container", "revive", container_id)

    def _start(self, one: _Watched, *words: str) -> None:
        argv = [*command.find_own_argv(), "--root", self.e.paths.root, "--runroot",
                self.e.paths.runroot, *words]  # fmt: skip
        pid = command.spawn(argv, new_session=True, keep_locks=False)
        one.child = (pid, open_pidfd(pid))

    def _drop(self, container_id: str) -> None:
        one = self.watched.pop(container_id, None)
        if one is None:
            return
        one.forget_run()
        if one.child[0]:
            os.close(one.child[1])
            self.orphans.append(one.child[0])

    def _reap(self, one: _Watched) -> None:
        os.close(one.child[1])
        os.waitpid(one.child[0], 0)
        one.child = (0, -1)

    def _wait(self, watcher: Watcher) -> bool:
        """Wait for something to happen; whether marks or runs changed."""
        poll = select.poll()
        poll.register(watcher.fileno(), select.POLLIN)
        moments = []
        for one in self.watched.values():
            if one.child[0]:
                poll.register(one.child[1], select.POLLIN)
                continue
            if one.ends >= 0:
                poll.register(one.ends, select.POLLIN)
            moments += [moment for moment in (one.next_look, one.next_check) if moment]
        left = None
        if moments:
            left = max(0, int((min(moments) - time.monotonic()) * 1000) + 1)
        ready = {fd for fd, _ in poll.poll(left)}
        changed = watcher.fileno() in ready
        if changed:
            watcher.read()
        self.orphans = [pid for pid in self.orphans if os.waitpid(pid, os.WNOHANG)[0] == 0]
        now = time.monotonic()
        for container_id, one in list(self.watched.items()):
            if one.child[0] and one.child[1] in ready:
                self._reap(one)
                one.next_check = 0.0
                self._look(container_id, one, now)
            elif one.ends >= 0 and one.ends in ready:
                one.forget_run()
                self._look(container_id, one, now)
        return changed


def _get_pause(record: Record, interval: float) -> float:
    """Seconds to the next health check; in the start period it may come sooner, and the first
    regular one follows a start-up check at once."""
    if ((record["state"].get("health") or {}).get("startup") or {}).get("due"):
        return 0.0
    if supervising.get_startup(record):
        return interval
    health = record["config"]["health"]
    known = record["state"].get("health") or {}
    age = time.time() - parse_time(record["state"]["started"])
    starting = known.get("status", "starting") == "starting"
    if starting and age < float(health.get("start_period") or 0):
        return min(interval, float(health.get("start_interval") or interval))
    return interval
