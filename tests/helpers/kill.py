"""Command lines that are killed, as by ``kill -9``, at a chosen traced point.

`run` executes the real command line in a fork of this process, which spares starting an
interpreter for each of some hundred runs. With ``kill_at`` the child kills itself when it comes
to that point (counted from 0); `list_points` runs it to its end and tells the points it passes.
Processes that the command starts are not killed with it, as in life.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from helpers import hosts
from helpers.store import POOL, Outcome, Store, list_processes, open_store, run_zfs
from strata import command, trace
from strata.cli.launcher import find_own_argv
from strata.cli.main import main
from strata.engine.core import Engine
from strata.engine.system import collect


def run(
    store: Store, *args: str, kill_at: int | None = None, points: list[str] | None = None,
    input: bytes = b"", env: dict[str, str] | None = None,
) -> Outcome:  # fmt: skip
    """Run a command line against a store; ``rc`` is -9 when it was killed.

    ``points`` receives the names of the points it came to.
    """
    out, err, seen = (os.memfd_create(name) for name in ("out", "err", "points"))
    try:
        pid = os.fork()
        if pid == 0:
            os.environ.update(env or {})
            _become(store, list(args), input, out, err, seen, kill_at)
        _, status = os.waitpid(pid, 0)
        if points is not None:
            points += _read(seen).split()
        return Outcome(args, os.waitstatus_to_exitcode(status), _read(out), _read(err))
    finally:
        for fd in (out, err, seen):
            os.close(fd)


def ok(store: Store, *args: str) -> Outcome:
    """Like `run`, and fail the test unless it ended with 0."""
    outcome = run(store, *args)
    assert outcome.rc == 0, repr(outcome)
    return outcome


def list_points(store: Store, *args: str) -> list[str]:
    """Run a command line to its end; the points it passed, in order."""
    points: list[str] = []
    outcome = run(store, *args, points=points)
    assert outcome.rc == 0, repr(outcome)
    assert points, f"{args} passes no traced point"
    return points


def kill_at(store: Store, number: int, *args: str) -> str:
    """Kill a command line at a point; return the point's name."""
    points: list[str] = []
    outcome = run(store, *args, kill_at=number, points=points)
    assert outcome.rc == -signal.SIGKILL, f"not killed at point {number}: {outcome!r}"
    return points[-1]


def _read(fd: int) -> str:
    return os.pread(fd, 1 << 24, 0).decode(errors="replace")


def _become(
    store: Store, args: list[str], input: bytes, out: int, err: int, seen: int,
    kill_at: int | None,
) -> None:  # fmt: skip
    """Be the command line and end. Runs in the child."""
    try:
        given = os.open("/dev/null", os.O_RDWR)
        if input:
            given = os.memfd_create("in")
            os.write(given, input)
            os.lseek(given, 0, os.SEEK_SET)
        for source, target in ((given, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        sys.stdin = open(0, closefd=False)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        owner, passed = os.getpid(), 0

        def hook(name: str) -> None:
            nonlocal passed
            if os.getpid() != owner:
                return
            os.write(seen, f"{name}\n".encode())
            if passed == kill_at:
                os.kill(owner, signal.SIGKILL)
            passed += 1

        trace.hook = hook
        command.find_own_argv = lambda: find_own_argv(None)
        if store.netns:
            hosts.enter(store.netns)
        code = main(store.words(*args))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    finally:
        os._exit(99)


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """One store with `BUSYBOX` for all scenarios of a module; each leaves it as it was."""
    with open_store() as store:
        store.add_busybox()
        yield store


@pytest.fixture
def clean(busybox_store: Store) -> Iterator[Store]:
    """The store for the whole run; afterwards nothing of the test is left in it."""
    yield busybox_store
    run(busybox_store, "rm", "--force", "--all", "--time", "0")
    run(busybox_store, "volume", "rm", "--all")
    wait_quiet(busybox_store)


# -- what a store holds ----------------------------------------------------------------------------


def describe(store: Store) -> dict[str, list[str]]:
    """Everything a store holds that a killed command could leave behind, by place."""
    records, images, found = _list_datasets(store)
    for name in ("downloads", "spool"):
        if name in found["images"]:
            found["images"].remove(name)
            found[f"images/{name}"] = sorted(os.listdir(f"{images}/{name}"))
    for folder, _, names in os.walk(records):
        found[f"/records{folder.removeprefix(records)}"] = sorted(names)
    for name in ("c", "crun", "runc"):
        path = f"{store.runroot}/{name}"
        found[f"run/{name}"] = sorted(os.listdir(path)) if os.path.isdir(path) else []
    found["operations"] = sorted(
        name for name in os.listdir(f"{store.runroot}/locks") if name.startswith("op.")
    )
    for name in ("netns", "net/leases", "net/ports", "net/up"):
        top = f"{store.runroot}/{name}"
        found[f"run/{name}"] = sorted(
            f"{folder.removeprefix(top)}/{entry}"
            for folder, _, entries in os.walk(top) for entry in entries if entry[0] != "."
        )  # fmt: skip
    if store.netns:
        found["links"] = hosts.list_links(store.netns)
        found["rules"] = sorted(hosts.run(store.netns, "nft", "list", "ruleset").stdout.split())
    disk = f"{store.base}/disk"
    for folder, names, _ in os.walk(disk) if os.path.isdir(disk) else ():
        found[folder.removeprefix(store.base)] = sorted(names)
        marks = sorted(key for key in os.listxattr(folder) if key.startswith("trusted.strata."))
        found[f"{folder.removeprefix(store.base)} marks"] = marks
    volumes = f"{store.root}/volumes"
    found["mountpoints"] = sorted(os.listdir(volumes)) if os.path.isdir(volumes) else []
    return {place: names for place, names in found.items() if names and place != "/records/damaged"}


def _list_datasets(store: Store) -> tuple[str, str, dict[str, list[str]]]:
    """Where the records lie, where the images, and what the pool holds."""
    top = store.dataset
    if not top:
        names = ("layers", "containers", "volumes/_", "trash", "build", "images", ".staging",
                 ".snapshots")  # fmt: skip
        found = {name: sorted(os.listdir(f"{store.pool}/{name}")) for name in names}
        return f"{store.pool}/records", f"{store.pool}/images", found
    parents = {"", "/layers", "/containers", "/volumes", "/volumes/_", "/trash", "/build"}
    listed = run_zfs("list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name", top)
    below = (name.removeprefix(top) for name in listed.splitlines())
    images = f"{store.root}/mnt/images"
    found = {"datasets": sorted(name for name in below if name not in parents),
             "images": sorted(os.listdir(images))}  # fmt: skip
    return f"{store.root}/mnt/records", images, found


def make_due(store: Store) -> Engine:
    """Make everything in the trash due; the opened store.

    The collections that the removing commands began have ended, so none of them takes it away.
    """
    wait_quiet(store)
    e = store.engine()
    for entry in list(e.trash.list_entries()):
        e.trash.save({**entry, "due": 0})
    return e


def empty_trash(store: Store) -> None:
    """Destroy what was removed, as the reaper does once it is due."""
    e = make_due(store)
    collect.collect(e)
    downloads = f"{e.images_folder}/downloads"
    for name in os.listdir(downloads) if os.path.isdir(downloads) else ():
        os.unlink(f"{downloads}/{name}")


def assert_repairs(store: Store, where: str) -> None:
    """``system check --repair`` leaves no problem and a second look finds none."""
    first = run(store, "system", "check", "--repair", "--format", "json")
    assert first.rc == 0, f"{where}: {first!r}"
    second = run(store, "system", "check", "--format", "json")
    assert second.rc == 0, f"{where}: {second!r}"
    assert second.json["Problems"] == [], f"{where}: {second!r}"


class Scenario:
    """A verb to kill, what must be there before it, and how to get back.

    ``again`` is tried right after the kill, with the exit codes it may give; without one it is
    the verb itself. ``undo`` runs to the end, whether or not its commands succeed. ``telling``
    names the only points to kill at where programs start slowly, in the virtual machine.
    """

    def __init__(
        self, name: str, verb: Sequence[str], *, prepare: Sequence[Sequence[str]] = (),
        undo: Sequence[Sequence[str]] = (), again: Sequence[str] | None = None,
        codes: Sequence[int] = (0,), touch: Callable[[Store], None] | None = None,
        telling: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.telling = telling
        self.name = name
        self.verb = verb
        self.prepare = prepare
        self.undo = undo
        self.again = again or verb
        self.codes = codes
        self.touch = touch

    def set_up(self, store: Store) -> None:
        """Bring about what the verb needs."""
        for words in self.prepare:
            ok(store, *words)
        if self.touch is not None:
            self.touch(store)

    def tear_down(self, store: Store) -> None:
        """Take away what the verb made."""
        for words in self.undo:
            run(store, *words)
        empty_trash(store)


def wait_quiet(store: Store) -> None:
    """Wait until no process of the store is left: containers, monitors, exit commands.

    A container's end takes a moment, and nobody promises when its exit command has run.
    """
    deadline = time.monotonic() + (60 if POOL else 20)
    while pids := [*list_processes(store), *_list_forks()]:
        assert time.monotonic() < deadline, f"processes are left: {describe_processes(pids)}"
        time.sleep(0.02)


def describe_processes(pids: list[int]) -> dict[int, str]:
    """Their command lines, as far as they still run."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
            found[pid] = file.read().replace("\0", " ")
    return found


def _list_forks() -> list[int]:
    """Collections that command lines started: forks of this process in sessions of their own."""
    with open("/proc/self/cmdline", "rb") as file:
        ours = file.read()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read() == ours and os.getsid(int(name)) == int(name):
                    found.append(int(name))
        except OSError:
            continue
    return found


def kill_everywhere(store: Store, scenario: Scenario) -> int:
    """Kill the verb at every point it passes; return how many there are.

    After each kill, in turn, either the next command comes first and then the check, or the other
    way round. At the end of each round the store holds what it held before.
    """
    before = describe(store)
    scenario.set_up(store)
    points = list_points(store, *scenario.verb)
    scenario.tear_down(store)
    numbers: Sequence[int] = range(len(points))
    if POOL and scenario.telling:
        assert set(scenario.telling) <= set(points), points
        numbers = [points.index(name) for name in scenario.telling]
    try:
        for number in numbers:
            _kill_once(store, scenario, number, before)
    except BaseException:
        # The next scenario starts from the same state whatever went wrong here.
        run(store, "system", "check", "--repair")
        scenario.tear_down(store)
        raise
    return len(points)


def _kill_once(
    store: Store, scenario: Scenario, number: int, before: dict[str, list[str]]
) -> None:  # fmt: skip
    scenario.set_up(store)
    where = f"{scenario.name} at {number}, {kill_at(store, number, *scenario.verb)}"
    if number % 2:
        assert_repairs(store, where)
    else:
        ok(store, "ps", "--all")
    again = run(store, *scenario.again)
    assert again.rc in scenario.codes, f"{where}: {again!r}"
    assert_repairs(store, where)
    try:
        scenario.tear_down(store)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    left = describe(store)
    differ = {p: (before.get(p), left.get(p)) for p in {*before, *left}
              if before.get(p) != left.get(p)}  # fmt: skip
    assert not differ, f"{where}: before and after: {differ}"
