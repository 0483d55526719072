"""Many at once, two for one name, foreign namespaces, subvolumes inside; and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest
from helpers.store import Store, list_processes, list_store_mounts, open_store, wait_until

from strata.linux import btrfs

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


@pytest.fixture(scope="module")
def own() -> Iterator[Store]:
    """A store whose containers, cgroups and names are counted; no other test uses it."""
    with open_store() as store:
        store.add_busybox()
        yield store


def leftovers(store: Store) -> dict[str, list[str]]:
    """What containers leave when something forgets them, by kind."""
    e = store.engine()
    records = e.records.folder
    running = list_processes(store)
    return {
        "processes": [str(pid) for pid in running],
        "mounts": [t for t in list_store_mounts(store.base) if t not in (store.root, store.pool)],
        "containers": os.listdir(f"{records}/containers"),
        "volumes": os.listdir(f"{records}/volumes"),
        "names": os.listdir(f"{records}/names/container") + os.listdir(f"{records}/names/volume"),
        "journal": os.listdir(f"{records}/journal"),
        "datasets": os.listdir(f"{store.pool}/containers"),
        "bundles": os.listdir(f"{store.runroot}/c"),
        "states": os.listdir(f"{store.runroot}/crun"),
        "logs": [name for name in os.listdir(e.logs) if not name.startswith("events.log")],
        "locks": [name for name in os.listdir(f"{store.runroot}/locks") if name[0] in "23"],
    }


def wait_clean(store: Store) -> None:
    # Until then the output of what was removed is kept with it.
    store.ok("trash", "empty", "--all", "--force")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not any(leftovers(store).values()), "nothing is left", 20)
    assert not {kind: left for kind, left in leftovers(store).items() if left}


def list_cgroups() -> set[str]:
    return {
        f"{folder}/{name}"
        for folder, names, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(folder) == "strata"
        for name in names
    }


def test_many_runs_at_once_are_all_right_and_leave_nothing(own: Store) -> None:
    before = list_cgroups()
    wrong: list[str] = []

    def work(worker: int) -> None:
        for number in range(8):
            word = f"{worker}-{number}"
            outcome = own.strata("run", "--rm", "-v", "/anon", "--network", "none", IMAGE, "sh",
                                 "-c", f"echo {word}; exit {number}")  # fmt: skip
            if (outcome.rc, outcome.out) != (number, f"{word}\n") or outcome.err:
                wrong.append(repr(outcome))

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    wait_clean(own)
    # Other stores of this host come and go; what stays and was not there is ours.
    wait_until(lambda: not list_cgroups() - before - _busy(), "cgroups go")
    own.ok("system", "check")


def _busy() -> set[str]:
    """Cgroups that have processes: containers of somebody else."""
    found = set()
    for path in list_cgroups():
        with contextlib.suppress(OSError), open(f"{path}/cgroup.procs") as file:
            if file.read().strip():
                found.add(path)
    return found


def test_detached_with_rm_in_numbers(own: Store) -> None:
    for _ in range(3):
        starts = [own.start("run", "-d", "--rm", IMAGE, "true", stdout=subprocess.DEVNULL)
                  for _ in range(6)]  # fmt: skip
        assert [start.wait(60) for start in starts] == [0] * 6
    wait_clean(own)


@pytest.mark.parametrize(
    "argv", [["create", "--name", "one", IMAGE], ["volume", "create", "one"]],
    ids=["container", "volume"],
)  # fmt: skip
def test_of_many_commands_for_one_name_one_wins(own: Store, argv: list[str]) -> None:
    commands = [own.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    codes = []
    for command in commands:
        _, err = command.communicate(timeout=60)
        codes.append(command.returncode)
        assert command.returncode == 0 or b"already in use" in err
    assert sorted(codes) == [0] + [125] * 5
    own.ok("volume" if argv[0] == "volume" else "container", "rm", "one")
    own.ok("system", "check")


def test_a_volume_that_many_make_at_once_is_one(own: Store) -> None:
    argv = ["run", "--rm", "-v", "shared:/data", IMAGE, "cat", "/data/seed"]
    commands = [own.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    for command in commands:
        out, err = command.communicate(timeout=60)
        assert out == b"from the image\n", err
    assert own.ok("volume", "ls", "-q").line == "shared"
    own.ok("volume", "rm", "shared")


def test_start_stop_and_rm_against_each_other(own: Store) -> None:
    """Whatever comes first, every command ends, and at the end nothing is left."""
    for _ in range(3):
        own.ok("create", "--name", "torn", "--stop-timeout", "0", IMAGE, "sleep", "1000")
        lines = ("start torn", "stop torn", "rm -f torn", "start torn", "kill torn",
                 "exec torn true", "rename torn torn2")  # fmt: skip
        running = [own.start(*line.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                   for line in lines]  # fmt: skip
        for command in running:
            _, err = command.communicate(timeout=60)
            assert b"internal error" not in err, err
        for name in ("torn", "torn2"):
            own.strata("rm", "-f", name)
        # A lock file made by who came too late goes with the next collection.
        own.ok("run", "--rm", IMAGE, "true")
        wait_clean(own)
    own.ok("system", "check")


def test_a_container_removed_while_somebody_is_attached(own: Store) -> None:
    with own.start("run", "--name", "watched", "--stop-timeout", "0", IMAGE, "sh", "-c",
                   "echo ready; sleep 1000", stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        own.ok("rm", "-f", "watched")
        assert process.wait(20) == 137
    wait_clean(own)


def test_both_foreground_and_monitor_killed(own: Store) -> None:
    with own.start("run", "--rm", "--name", "lost", IMAGE, "sh", "-c", "echo ready; sleep 1000",
                   stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        state = own.ok("container", "inspect", "lost").json[0]["State"]
        process.kill()
        os.kill(state["ConmonPid"], signal.SIGKILL)
    own.ok("rm", "-f", "-t", "0", "lost")
    wait_clean(own)


def test_a_foreign_namespace_that_holds_everything(own: Store) -> None:
    """A copy of all mounts, private, as a sandbox or a debugger has it."""
    own.ok("run", "-d", "--name", "held", "--stop-timeout", "0", "-v", "heldv:/v", IMAGE, "sleep",
           "1000")  # fmt: skip
    mountpoint = own.ok("volume", "inspect", "--format", "{{.Mountpoint}}", "heldv").line
    assert os.path.ismount(mountpoint)
    pid = own.ok("container", "inspect", "held").json[0]["State"]["Pid"]
    inside = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        own.ok("snapshot", "container:held@one")
        own.ok("rollback", "held@one")
        own.ok("rm", "-f", "held")
        own.ok("volume", "rm", "heldv")
        own.ok("run", "--rm", "--name", "held", "-v", "heldv:/v", IMAGE, "true")
        own.ok("volume", "rm", "heldv")
    finally:
        os.close(inside)
        holder.kill()
        holder.wait()
    own.ok("system", "check")


def test_subvolumes_made_inside_a_container(own: Store) -> None:
    """systemd makes such; a snapshot of btrfs leaves them out, and they block its removal."""
    own.ok("run", "-d", "--name", "nest", "--stop-timeout", "0", IMAGE, "sleep", "1000")
    top = f"{own.pool}/{own.ok('container', 'inspect', 'nest').json[0]['Dataset']}/rootfs"
    for folder, name in ((top, "sub"), (f"{top}/sub", "inner")):
        fd = btrfs.open_directory(folder)
        btrfs.create_subvolume(fd, name)
        os.close(fd)
    own.ok("exec", "nest", "sh", "-c", "echo data >/sub/inner/file")
    own.ok("snapshot", "nest@one")
    own.ok("exec", "nest", "rm", "/sub/inner/file")
    own.ok("commit", "nest", "localhost/nest")
    own.ok("rollback", "nest@one")
    assert own.ok("exec", "nest", "cat", "/sub/inner/file").line == "data"
    assert own.ok("run", "--rm", "localhost/nest", "ls", "/sub").line == "inner"
    own.ok("clone", "nest", "twin")
    own.ok("rm", "-f", "nest", "twin")
    own.ok("rmi", "localhost/nest")
    own.ok("system", "check")
