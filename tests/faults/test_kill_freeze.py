"""What is held still for a snapshot always goes on again, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from helpers import kill, race
from helpers.store import BUSYBOX, Store, wait_until

from strata.engine.history import freezing, moments
from strata.engine.names import get_volume
from strata.errors import Busy, StrataError
from strata.linux import cgroup

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

#: appends the same numbers to two volumes, one after the other
WRITER = "i=0; while :; do i=$((i+1)); echo $i >> /a/n; echo $i >> /b/n; done"


@pytest.fixture
def writer(busybox_store: Store) -> Iterator[Store]:
    """A store with a container ``writer`` that writes to the volumes ``left`` and ``right``."""
    store = busybox_store
    store.ok("run", "-d", "--name", "writer", "-v", "left:/a", "-v", "right:/b", BUSYBOX, "sh",
             "-c", WRITER)  # fmt: skip
    with open(f"{store.base}/pid", "w") as file:
        file.write(store.ok("inspect", "--format", "{{.State.Pid}}", "writer").line)
    try:
        yield store
    finally:
        store.ok("rm", "-f", "-t", "0", "writer")
        store.ok("volume", "rm", "left", "right")
        store.ok("trash", "empty", "--all", "--force")


def is_frozen(store: Store) -> bool:
    """By the kernel's word alone: every command of Strata would thaw it."""
    with open(f"{store.base}/pid") as file:
        return cgroup.is_frozen(int(file.read()))


def count(store: Store) -> int:
    with open(f"{store.root}/volumes/right/_data/n") as file:
        return len(file.read().split())


def assert_goes_on(store: Store, where: str) -> None:
    wait_until(lambda: not is_frozen(store), f"thawed: {where}", 5)
    before = count(store)
    wait_until(lambda: count(store) > before, f"writes again: {where}", 5)


def test_it_thaws_when_the_command_is_killed_at_any_step(writer: Store) -> None:
    command = ("snapshot", "left@step", "right@step")
    points = kill.list_points(writer, *command)
    assert {"freeze:announced", "freeze:guarded", "freeze:frozen"} <= set(points)
    kill.ok(writer, "snapshot", "rm", "--now", "left@step", "right@step")
    for number in range(len(points)):
        where = kill.kill_at(writer, number, *command)
        assert_goes_on(writer, where)  # before any further command
        kill.ok(writer, "ps")
        assert not os.path.exists(f"{writer.runroot}/frozen"), where
        kill.ok(writer, "volume", "create", "other")
        kill.ok(writer, "volume", "rm", "other")
        kill.ok(writer, "system", "check", "--repair")
        left = kill.ok(writer, "snapshot", "ls", "-q").line.split()
        for spec in {"left@step", "right@step"} & set(left):
            kill.ok(writer, "snapshot", "rm", "--now", spec)


def _list_copies() -> set[int]:
    """Processes that are copies of this one."""
    with open("/proc/self/cmdline", "rb") as file:
        own = file.read()
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read() == own and int(name) != os.getpid():
                    found.add(int(name))
        except OSError:
            continue
    return found


def _in_child(act: Callable[[], object]) -> int:
    """Do something in a copy of this process; how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_later_command_thaws_when_command_and_guard_are_killed(writer: Store) -> None:
    before = _list_copies()

    def take() -> None:
        def kill_both() -> None:
            guards = _list_copies() - before - {os.getppid()}
            assert len(guards) == 1
            for pid in guards:
                os.kill(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        with race.at("freeze:frozen", kill_both):
            moments.take(writer.engine(), ["left@both", "right@both"])

    assert _in_child(take) == -signal.SIGKILL
    assert is_frozen(writer), "there is nobody left to thaw it"
    writer.ok("ps")
    assert_goes_on(writer, "after ps")
    assert not os.path.exists(f"{writer.runroot}/frozen")


def test_a_killed_guard_changes_nothing_for_a_living_command(writer: Store) -> None:
    before = _list_copies()

    def kill_guard() -> None:
        for pid in _list_copies() - before:
            os.kill(pid, signal.SIGKILL)

    with race.at("freeze:frozen", kill_guard):
        taken = moments.take(writer.engine(), ["left@alone", "right@alone"])
    assert taken == ["left@alone", "right@alone"]
    assert_goes_on(writer, "after the snapshot")


def test_the_guard_outlives_the_session_of_the_command(writer: Store) -> None:
    """A closed terminal and a service manager end all processes of a session."""
    before = _list_copies()

    def take() -> None:
        os.setsid()

        def kill_session() -> None:
            [guard] = _list_copies() - before - {os.getppid()}
            assert os.getsid(guard) not in (os.getsid(0), os.getsid(os.getppid()))
            if cgroup.get_mode() == "v2":  # with v1 nothing is moved
                with open(f"/proc/{guard}/cgroup") as file:
                    assert file.read() == f"0::{cgroup.OWN}\n"
            os.killpg(0, signal.SIGKILL)

        with race.at("freeze:frozen", kill_session):
            moments.take(writer.engine(), ["left@session", "right@session"])

    assert _in_child(take) == -signal.SIGKILL
    assert_goes_on(writer, "after the end of the session")


def test_nothing_is_frozen_before_somebody_would_thaw_it(
    writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    with race.at("freeze:guarded", lambda: frozen.append(is_frozen(writer))) as seen:
        moments.take(writer.engine(), ["left@guarded", "right@guarded"])
    assert frozen == [False]
    assert seen.index("freeze:guarded") < seen.index("freeze:begun")
    # No copy of a process answers so soon.
    monkeypatch.setattr(freezing, "_ACKNOWLEDGE", 0.0)
    with race.at("freeze:announced", lambda: None) as seen, pytest.raises(StrataError) as caught:
        moments.take(writer.engine(), ["left@alone", "right@alone"])
    assert "nobody would thaw" in caught.value.message
    assert "freeze:begun" not in seen
    assert not is_frozen(writer)
    assert "alone" not in writer.ok("snapshot", "ls", "-q").out
    assert not os.path.exists(f"{writer.runroot}/frozen")


@pytest.mark.parametrize("point", ["freeze:announced", "freeze:begun", "freeze:frozen"])
def test_an_interrupted_command_thaws_itself(writer: Store, point: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with race.at(point, interrupt), pytest.raises(KeyboardInterrupt):
        moments.take(writer.engine(), ["left@cut", "right@cut"])
    assert not is_frozen(writer)
    assert not os.path.exists(f"{writer.runroot}/frozen")
    assert "cut" not in writer.ok("snapshot", "ls", "-q").out


def test_the_guard_waits_for_ten_seconds() -> None:
    """Long enough for a busy pool, short enough for who talks to what stands still."""
    assert freezing.LIMIT == 10


def test_past_its_time_it_thaws_and_no_snapshot_counts(
    writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "LIMIT", 0.2)

    def wait() -> None:
        wait_until(lambda: not is_frozen(writer), "the guard thaws", 5)

    with race.at("freeze:frozen", wait), pytest.raises(Busy) as caught:
        moments.take(writer.engine(), ["left@late", "right@late"])
    assert "longer than" in caught.value.message
    assert "late" not in writer.ok("snapshot", "ls", "-q").out
    assert_goes_on(writer, "late")


def test_what_its_user_paused_stays_paused(writer: Store) -> None:
    writer.ok("pause", "writer")
    writer.ok("snapshot", "left@paused", "right@paused")
    assert is_frozen(writer)
    writer.ok("unpause", "writer")
    assert_goes_on(writer, "unpaused")


def test_snapshots_of_several_volumes_are_of_one_moment(writer: Store) -> None:
    wait_until(lambda: count(writer) > 0, "the writer writes")
    for number in range(10):
        writer.ok("snapshot", f"left@m{number}", f"right@m{number}")
    e = writer.engine()
    for number in range(10):
        found = []
        for target in ("left", "right"):
            snapshot = f"{get_volume(e, target)['dataset']}@m{number}"
            with open(f"{e.driver.open(snapshot)}/n") as file:
                found.append(len(file.read().split()))
            e.driver.close(snapshot)
        assert found[0] - found[1] in (0, 1), f"snapshot {number}: {found}"
