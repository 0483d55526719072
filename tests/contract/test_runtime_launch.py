"""Starting, watching and ending real containers with conmon and an OCI runtime."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from helpers.containers import Box, box, own_identity, wait_for_path

from strata import jsontext
from strata.errors import NotFound, RuntimeFailure, UsageError
from strata.linux import cgroup, mount
from strata.linux.mount import MountStep
from strata.linux.process import is_alive, wait_gone
from strata.runtime import launch

pytestmark = pytest.mark.root
_ = box

RUNTIMES = pytest.mark.parametrize("runtime", ["crun", "runc"])


@RUNTIMES
def test_a_life_leaves_its_code_and_output_and_nothing_else(box: Box, runtime: str) -> None:
    container = box.start(["sh", "-c", "echo out; echo err >&2; exit 7"], runtime=runtime)
    one = container.launched
    assert one.pid > 0
    assert one.conmon_pid > 0
    assert container.wait() == 7
    assert sorted(container.output().split()) == ["err", "out"]
    assert wait_gone(one.conmon_pid, one.conmon_start, 10)
    launch.delete(container.runtime, container.id)
    one.close()
    assert os.listdir(container.runtime.root) == []
    assert cgroup.list_directories(f"/strata/{container.id}") == []
    assert box.find_processes() == []
    launch.delete(container.runtime, container.id)


def test_the_root_is_mounted_nowhere_else_and_gone_with_the_container(box: Box) -> None:
    container = box.start(["sleep", "1000"])
    container.launched.close()
    assert not [entry for entry in mount.list_mounts() if box.top in entry.target]
    conmon = container.launched.conmon_pid
    assert not [entry for entry in mount.list_mounts(conmon) if box.top in entry.target]
    assert os.readlink(f"/proc/{conmon}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    inside = mount.list_mounts(container.launched.pid)
    assert inside[0].target == "/"
    assert "shared" not in inside[0].propagation


@RUNTIMES
@pytest.mark.parametrize(
    ("argv", "code"),
    [(["nosuchprogram"], 127), (["/no/such"], 127), (["/etc/plain"], 126)],
)
def test_what_cannot_run_says_so_and_leaves_nothing(
    box: Box, runtime: str, argv: list[str], code: int
) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        box.create(argv, runtime=runtime)
    assert caught.value.exit_code == code
    assert argv[0].rpartition("/")[2] in caught.value.message or code == 126
    assert "\n" not in caught.value.message
    _, plan, _ = box.plan(argv, runtime=runtime)
    wait_no_processes(box)
    assert os.listdir(plan.runtime.root) == []


def wait_no_processes(box: Box) -> None:
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                ours = box.top.encode() in file.read()
        except OSError:
            continue
        if ours and pid != os.getpid():
            with open(f"/proc/{pid}/stat", "rb") as file:
                start = int(file.read().rpartition(b") ")[2].split()[19])
            assert wait_gone(pid, start, 10)


def list_children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def test_a_mount_that_fails_ends_everything_that_was_begun(box: Box) -> None:
    before, children = set(os.listdir("/proc/self/fd")), list_children()
    _, plan, _ = box.plan(["true"])
    plan.mounts.append(MountStep(f"{box.top}/absent", f"{plan.bundle}/rootfs"))
    with pytest.raises(RuntimeFailure, match="absent"):
        launch.launch(plan)
    assert box.find_processes() == []
    assert list_children() == children
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_unknown_user_is_refused_before_anything_runs(box: Box) -> None:
    with pytest.raises(RuntimeFailure, match="unable to find user ghost"):
        box.create(["true"], user="ghost")
    assert box.find_processes() == []


def test_an_absent_runtime_is_named(box: Box) -> None:
    with pytest.raises(NotFound, match="norun"):
        box.get_runtime("norun")


def test_the_process_has_defaults_whatever_the_caller_has(box: Box) -> None:
    before = os.umask(0o077)
    try:
        code, text = box.run(["grep", "-E", "Umask|SigIgn|SigBlk", "/proc/self/status"])
    finally:
        os.umask(before)
    assert code == 0
    facts = dict(line.split(":\t") for line in text.splitlines())
    assert facts["Umask"] == "0022"
    assert facts["SigBlk"] == "0" * 16
    # The C library's own two signals cannot be set by anybody.
    assert int(facts["SigIgn"], 16) & 0x7FFFFFFF == 0


def test_no_descriptor_of_the_caller_lives_on_in_the_container(box: Box) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    container = box.start(["sleep", "1000"])
    os.close(write)
    os.set_blocking(read, False)
    assert os.read(read, 1) == b""
    os.close(read)
    assert is_alive(container.launched.pid, container.launched.pid_start)


def test_threads_may_launch_at_once(box: Box) -> None:
    codes: list[int] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            codes.append(box.run(["sh", "-c", f"exit {number}"])[0])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(codes) == [0, 1, 2, 3]


def test_the_cleanup_runs_when_nobody_owns_the_container(box: Box) -> None:
    mark = f"{box.top}/cleaned"
    container = box.start(
        ["true"], cleanup=["/bin/sh", "-c", f"readlink /proc/self/ns/mnt >{mark}"]
    )
    container.wait()
    assert wait_for_path(mark).strip() == os.readlink("/proc/self/ns/mnt")


def test_the_cleanup_is_left_to_a_living_owner(box: Box) -> None:
    mark = f"{box.top}/cleaned"
    container = box.start(["true"], cleanup=["/bin/touch", mark], owner=own_identity())
    container.wait()
    one = container.launched
    assert wait_gone(one.conmon_pid, one.conmon_start, 10)
    assert not os.path.exists(mark)


@pytest.mark.parametrize("kind", ["gone", "another", "zombie"])
def test_the_cleanup_runs_when_the_owner_is_gone(box: Box, kind: str) -> None:
    mark = f"{box.top}/cleaned"
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{pid}/stat", "rb") as file:
        start = int(file.read().rpartition(b") ")[2].split()[19])
    if kind != "zombie":
        os.waitpid(pid, 0)
    owner = (os.getpid(), own_identity()[1] + 1) if kind == "another" else (pid, start)
    container = box.start(["true"], cleanup=["/bin/sh", "-c", f"echo done >{mark}"], owner=owner)
    container.wait()
    assert wait_for_path(mark) == "done\n"
    if kind == "zombie":
        os.waitpid(pid, 0)


@RUNTIMES
def test_signals_reach_the_first_process_only_while_it_lives(box: Box, runtime: str) -> None:
    container = box.start(
        ["sh", "-c", "trap 'exit 33' TERM; touch /tmp/up; while :; do sleep 0.01; done"],
        runtime=runtime,
    )
    one = container.launched
    state = jsontext.loads(launch.run_runtime(container.runtime, ["state", container.id]).stdout)
    assert state["status"] == "running"
    deadline = f"{box.rootfs}/tmp/up"
    while not os.path.exists(deadline):
        assert is_alive(one.pid, one.pid_start)
    send = {"pid": one.pid, "pid_start": one.pid_start}
    assert launch.kill(container.runtime, container.id, signal.SIGTERM, **send)
    assert container.wait() == 33
    assert not launch.kill(container.runtime, container.id, signal.SIGTERM, **send)


def test_death_by_signal_is_128_and_its_number(box: Box) -> None:
    container = box.start(["sleep", "1000"])
    one = container.launched
    launch.kill(container.runtime, container.id, 9, pid=one.pid, pid_start=one.pid_start)
    assert container.wait() == 137


def test_the_second_run_forgets_the_first(box: Box) -> None:
    record, plan, _ = box.plan(["sh", "-c", "exit 5"])
    for code in (5, 5):
        launched = launch.launch(plan)
        assert launch.find_exit(plan.bundle, record["id"]) is None
        launch.start(launched)
        launched.wait()
        launched.close()
        ended = launch.find_exit(plan.bundle, record["id"])
        assert ended is not None
        assert (ended.code, ended.oom) == (code, False)
        launch.delete(plan.runtime, record["id"])


@RUNTIMES
def test_the_default_walls_stand(box: Box, runtime: str) -> None:
    script = (
        "grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status; hostname; pwd;"
        "unshare -n true; mount -t tmpfs x /mnt; echo x >/proc/sys/kernel/hostname;"
        "ls /sys/firmware | wc -l; echo $HOME $container; cat /etc/hostname; id"
    )
    container = box.start(
        ["sh", "-c", script], runtime=runtime, user="app", workdir="/made/here",
        hostname="walls", no_new_privileges=True,
    )  # fmt: skip
    container.wait()
    lines = container.output().splitlines()
    for expected in (
        "Seccomp:\t2", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "walls", "/made/here", "0",
        "/srv/app strata", "uid=1000(app) gid=1000(app) groups=27(extra)",
        "unshare: unshare(0x40000000): Operation not permitted",
    ):  # fmt: skip
        assert expected in lines, expected
    assert os.stat(f"{box.rootfs}/made/here").st_uid == 1000


@pytest.mark.parametrize("seccomp", ["unconfined", ""])
def test_the_filter_can_be_left_out(box: Box, seccomp: str) -> None:
    code, text = box.run(["grep", "Seccomp:", "/proc/self/status"], seccomp=seccomp)
    assert code == 0
    assert text.split()[1] == ("0" if seccomp else "2")


def test_privileged_containers_see_devices_and_may_mount(box: Box) -> None:
    code, text = box.run(
        ["sh", "-c", "mkdir -p /m && mount -t tmpfs x /m && ls /dev/loop-control /dev/fuse"],
        privileged=True,
    )
    assert "/dev/fuse" in text or not os.path.exists("/dev/fuse"), text
    if os.path.exists("/dev/fuse") and os.path.exists("/dev/loop-control"):
        assert code == 0


def test_a_read_only_root_has_writable_temporary_places(box: Box) -> None:
    code, text = box.run(
        ["sh", "-c", "touch /x; touch /etc/hosts; touch /tmp/a /run/b /var/tmp/c && echo fine"],
        read_only=True,
    )
    assert (code, text.count("Read-only file system")) == (0, 2), text
    assert "fine\n" in text


def test_binds_limits_and_init_arrive(box: Box) -> None:
    os.makedirs(f"{box.top}/data")
    with open(f"{box.top}/data/file", "w") as file:
        file.write("bound\n")
    container = box.start(
        ["sh", "-c", "cat /data/file; touch /data/x; ulimit -n; cat /proc/1/cmdline; df -k /t"],
        binds=[{"type": "bind", "source": f"{box.top}/data", "destination": "/data",
                "options": ["ro"]}],
        ulimits=[{"type": "nofile", "soft": 100, "hard": 100}], init=True,
        tmpfs={"/t": "size=4m"}, memory=64 << 20, cpus=0.5,
    )  # fmt: skip
    container.wait()
    text = container.output()
    assert "bound\n" in text
    assert "Read-only file system" in text
    assert "\n100\n" in text
    assert "/run/strata-init" in text
    assert " 4096 " in text


def test_limits_the_host_cannot_raise_are_lowered_aloud(box: Box) -> None:
    from strata.runtime.host import read_host

    if read_host({}).can_raise_limits:
        wanted = 1000
    else:
        wanted = read_host({}).rlimits["nofile"][1] + 1
    container = box.start(
        ["sh", "-c", "ulimit -n"],
        ulimits=[{"type": "nofile", "soft": wanted, "hard": wanted}],
    )
    assert container.wait() == 0
    if wanted != 1000:
        assert len(container.warnings) == 1
        assert container.output().strip() == str(wanted - 1)


def test_nonsense_options_are_refused_before_anything_runs(box: Box) -> None:
    with pytest.raises(UsageError):
        box.create(["true"], cap_add=["FLY"])
    with pytest.raises(UsageError):
        box.create(["true"], seccomp="/no/such/profile")
    assert box.find_processes() == []


def test_an_owner_that_leaves_hands_the_cleanup_over(box: Box) -> None:
    mark = f"{box.top}/cleaned"
    container = box.start(
        ["sleep", "1000"], cleanup=["/bin/sh", "-c", f"echo done >{mark}"], owner=own_identity()
    )
    assert launch.leave(container.bundle, container.id)
    one = container.launched
    launch.kill(container.runtime, container.id, 9, pid=one.pid, pid_start=one.pid_start)
    container.wait()
    assert wait_for_path(mark) == "done\n"
    assert not launch.leave(container.bundle, container.id)


def test_a_workdir_that_cannot_be_is_said_to_be_one(box: Box) -> None:
    with pytest.raises(RuntimeFailure, match="workdir '/etc/plain/x' cannot be made"):
        box.create(["true"], workdir="/etc/plain/x")


def test_a_start_broken_off_after_create_does_not_stand_in_the_way(box: Box) -> None:
    record, plan, _ = box.plan(["sh", "-c", "exit 9"])
    first = launch.launch(plan)
    first.close()
    second = launch.launch(plan)
    assert wait_gone(first.conmon_pid, first.conmon_start, 10)
    launch.start(second)
    second.wait()
    second.close()
    ended = launch.find_exit(plan.bundle, record["id"])
    assert ended is not None
    assert ended.code == 9
    launch.delete(plan.runtime, record["id"])


def test_running_out_of_memory_is_noted(box: Box) -> None:
    container = box.start(
        ["sh", "-c", "x=a; while :; do x=$x$x$x$x; done"],
        memory=16 << 20,
    )
    assert container.wait() == 137
    ended = launch.find_exit(container.bundle, container.id)
    assert ended is not None
    assert ended.oom


def test_a_container_may_keep_no_log(box: Box) -> None:
    record, plan, _ = box.plan(["echo", "gone"])
    plan.log = "none"
    launched = launch.launch(plan)
    launch.start(launched)
    launched.wait()
    launched.close()
    ended = launch.find_exit(plan.bundle, record["id"])
    assert ended is not None
    assert ended.code == 0
    assert not os.path.exists(f"{plan.bundle}.log")
    launch.delete(plan.runtime, record["id"])


class _Interrupted(Exception):
    """Stands for Ctrl-C at a moment of our choice."""


def test_breaking_off_while_the_container_is_made_leaves_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan, _ = box.plan(["sleep", "1000"])
    children = list_children()
    wait = os.waitpid

    def interrupt(pid: int, options: int) -> tuple[int, int]:
        monkeypatch.setattr(os, "waitpid", wait)
        raise _Interrupted

    def make_spec(root: int) -> str:
        # The next wait is the one for conmon, after it was told to begin.
        monkeypatch.setattr(os, "waitpid", interrupt)
        return text(root)

    text, plan.make_spec = plan.make_spec, make_spec
    with pytest.raises(_Interrupted):
        launch.launch(plan)
    wait_no_processes(box)
    assert os.listdir(plan.runtime.root) == []
    assert list_children() == children
