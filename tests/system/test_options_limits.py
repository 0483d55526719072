"""Limits, devices and the process's surroundings, seen from inside the container."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.store import POOL, Outcome, Store, wait_until

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def run(store: Store, *options: str, sh: str) -> Outcome:
    """``run --rm`` without a network, with options and a shell script."""
    return store.ok("run", "--rm", "--network", "none", *options, IMAGE, "sh", "-c", sh)


def refuse(store: Store, *options: str) -> str:
    """What a run that must fail before anything is made says."""
    outcome = store.strata("create", *options, IMAGE, "true")
    assert outcome.rc == 125, repr(outcome)
    assert outcome.err.count("\n") <= 2, repr(outcome)
    assert store.ok("ps", "-aq").out == ""
    return outcome.err


def test_limits(busybox_store: Store) -> None:
    if V2:
        check_limits_of_v2(busybox_store)
        return
    out = run(
        busybox_store, "-m", "64m", "--memory-swap", "100m", "--memory-reservation", "32m",
        "--memory-swappiness", "10", "--cpu-shares", "300", "--cpu-quota", "50000", "--cpu-period",
        "100000", "--cpuset-cpus", "0", "--oom-kill-disable",
        sh="cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes "
        "memory/memory.soft_limit_in_bytes memory/memory.swappiness cpu/cpu.shares "
        "cpu/cpu.cfs_quota_us cpuset/cpuset.cpus; head -1 memory/memory.oom_control",
    ).out.split()  # fmt: skip
    assert out == [str(100 << 20), str(32 << 20), "10", "300", "50000", "0", "oom_kill_disable",
                   "1"]  # fmt: skip


def check_limits_of_v2(busybox_store: Store) -> None:
    out = run(
        busybox_store, "-m", "64m", "--memory-swap", "100m", "--memory-reservation", "32m",
        "--cpu-quota", "50000", "--cpu-period", "100000", "--cpuset-cpus", "0", "--cgroup-conf",
        "memory.high=50000000",
        sh="cd /sys/fs/cgroup; cat memory.swap.max memory.low cpu.max cpuset.cpus",
    ).out.split()  # fmt: skip
    assert out == [str(36 << 20), str(32 << 20), "50000", "100000", "0"]
    assert "nothing like it" in refuse(busybox_store, "--memory-swappiness", "3")


def test_what_this_host_cannot_limit_is_refused_before_anything_is_made(
    busybox_store: Store,
) -> None:
    assert "not available" in refuse(busybox_store, "--cpuset-cpus", "9999")
    assert "no such file" in refuse(busybox_store, "--device", "/dev/nothing-here")
    assert "not a device node" in refuse(busybox_store, "--device", "/etc/hostname")
    # ZFS writes in threads of its own, which no cgroup of a container's counts.
    lack = "cannot bind here" if POOL else "not a block device"
    assert lack in refuse(busybox_store, "--device-read-bps", "/dev/null:1mb")
    assert "Network Namespace set to host" in refuse(
        busybox_store, "--network", "host", "--sysctl", "net.ipv4.ip_forward=1"
    )
    assert "container-init binary" in refuse(busybox_store, "--init", "--init-path", "/nowhere")
    assert "without a cgroup" in refuse(busybox_store, "--cgroups", "disabled", "-m", "64m")
    assert "no container" in refuse(busybox_store, "--requires", "nobody").lower()
    if not V2:
        assert "for cgroup v2" in refuse(busybox_store, "--cgroup-conf", "memory.high=1")


def test_devices_and_kernel_parameters(busybox_store: Store) -> None:
    out = run(
        busybox_store, "--device", "/dev/loop-control:/dev/lc:rw", "--device", "/dev/net::r",
        "--device-cgroup-rule", "c 10:200 rwm", "--cap-add", "MKNOD", "--sysctl",
        "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=9000",
        sh="test -c /dev/lc && exec 3</dev/lc && echo open; ls /dev/net; "
        "mknod /tun c 10 200 && exec 4<>/tun && echo rule; mknod /fuse c 10 229; "
        "(exec 5</fuse) 2>/dev/null || echo none; "
        "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax",
    )  # fmt: skip
    assert out.out.split() == ["open", "tun", "rule", "none", "77", "9000"]


def test_the_processs_surroundings(busybox_store: Store) -> None:
    out = run(
        busybox_store, "--group-add", "staff,55", "--umask", "0027", "--tz", "Etc/GMT-5",
        "--oom-score-adj", "500", "--env-merge", "PATH=${PATH}:/own", "--unsetenv", "container",
        sh="id -G; umask; date +%H%z; cat /proc/self/oom_score_adj; echo ${PATH##*:} "
        "[${container-none}]",
    ).out.split("\n")  # fmt: skip
    assert out[0].split() == ["0", "50", "55"]
    assert out[1] == "0027"
    assert out[2].endswith("+0500")
    assert out[3:5] == ["500", "/own [none]"]
    busybox_store.ok("run", "-d", "--name", "grouped", "--group-add", "55", "--umask", "0077",
                     IMAGE, "sleep", "100")  # fmt: skip
    try:
        assert busybox_store.ok("exec", "grouped", "sh", "-c", "id -G; umask").out.split() == [
            "0", "55", "0077",
        ]  # fmt: skip
    finally:
        busybox_store.ok("rm", "-f", "-t", "0", "grouped")


def test_without_a_cgroup_or_below_another_parent(busybox_store: Store) -> None:
    own = run(busybox_store, "--cgroups", "disabled", sh="cat /proc/self/cgroup").out
    assert "/strata/" not in own
    parent = f"/strata/test-{os.getpid()}"
    below = run(busybox_store, "--cgroup-parent", parent, sh="cat /proc/self/cgroup").out
    if not V2:
        assert f"{parent}/" in below
    parents = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if folder.endswith(parent)]
    assert parents
    for folder in parents:
        # Its own cgroup goes with it; the kernel may take a moment to count it out.
        wait_until(lambda: _remove(folder), f"{folder} empty")  # noqa: B023


def _remove(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def test_a_container_is_killed_when_its_time_is_over(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "--rm", "--timeout", "1", IMAGE, "sleep", "100")
    assert outcome.rc == 255
    assert busybox_store.ok("ps", "-aq").out == ""


def test_pid_files_the_log_and_what_is_required(busybox_store: Store, tmp_path: Path) -> None:
    ok = busybox_store.ok
    ok("create", "--name", "base", "--pidfile", f"{tmp_path}/pid", "--conmon-pidfile",
       f"{tmp_path}/conmon", "--log-opt", f"path={tmp_path}/log", IMAGE, "sh", "-c",
       "echo said; exec sleep 100")  # fmt: skip
    try:
        ok("create", "--name", "above", "--requires", "base", "--restart", "on-failure:2",
           "--health-cmd", "true", IMAGE, "echo", "hello")  # fmt: skip
        assert ok("start", "-a", "above").line == "hello"
        [state] = [found["State"] for found in ok("container", "inspect", "base").json]
        assert state["Running"]
        assert (tmp_path / "pid").read_text() == str(state["Pid"])
        assert (tmp_path / "conmon").read_text() == str(state["ConmonPid"])
        busybox_store.wait_for_log("base", "said")
        assert "said" in (tmp_path / "log").read_text()
    finally:
        for name in ("above", "base"):
            busybox_store.strata("rm", "-f", "-t", "0", name)


def test_a_user_that_is_only_a_number_has_an_entry(busybox_store: Store) -> None:
    script = "tail -1 /etc/passwd; tail -1 /etc/group; whoami"
    out = run(busybox_store, "-u", "4242:77", "-w", "/data", sh=script).out.split("\n")
    assert out[:3] == ["4242:*:4242:77:container user:/data:/bin/sh", "77:x:77:", "4242"]
    entry = "me:x:$UID:$GID:$NAME:$HOME:/bin/sh"
    assert run(busybox_store, "-u", "4242", "--passwd-entry", entry, sh="whoami").line == "me"


def test_users_of_the_host_are_added_to_the_containers(busybox_store: Store) -> None:
    shown = run(busybox_store, "--hostuser", "daemon", "--hostuser", "2", "--hostuser", "root",
                "-u", "daemon", "-w", "/tmp", sh="whoami; tail -n +3 /etc/passwd").out  # fmt: skip
    assert shown == "daemon\ndaemon:*:1:1:daemon:/tmp:/bin/sh\nbin:*:2:2:bin:/tmp:/bin/sh\n"
    refused = busybox_store.strata("run", "--rm", "--hostuser", "nosuch", IMAGE, "true")
    assert refused.rc == 125
    assert "user: unknown user nosuch" in refused.err
    out = run(busybox_store, "-u", "4242", "--passwd=false", sh="whoami 2>/dev/null || echo none")
    assert out.line == "none"
    assert run(busybox_store, "-u", "user", sh="grep -c 4242 /etc/passwd || true").line == "0"


def test_generated_files_appear_in_chroots_and_systemds_places_have_a_size(
    busybox_store: Store,
) -> None:
    shown = run(
        busybox_store, "--chrootdirs", "/data,/srv/jail/", "-h", "jailed", "--systemd", "always",
        "--shm-size-systemd", "3m",
        sh="cat /data/etc/hostname /srv/jail/etc/hostname; df -k /run | tail -1",
    ).out  # fmt: skip
    assert shown.split()[:2] == ["jailed", "jailed"]
    assert shown.splitlines()[2].split()[1] == "3072"
    assert "invalid chroot directory" in refuse(busybox_store, "--chrootdirs", "data")


def test_a_place_for_systemd(busybox_store: Store) -> None:
    own = "/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/systemd"
    out = run(
        busybox_store, "--systemd", "always", "--cgroupns", "private",
        sh="for p in /run /run/lock /tmp /var/log/journal; do "
        "awk -v p=$p '$2==p {print $3}' /proc/mounts; done; "
        f"mkdir {own}/mine && rmdir {own}/mine && echo own; echo ${{#container_uuid}}",
    ).out.split()  # fmt: skip
    assert out == ["tmpfs"] * 4 + ["own", "32"]


def test_descriptors_are_handed_on(busybox_store: Store, tmp_path: Path) -> None:
    for name in ("three", "four", "nine"):
        (tmp_path / name).write_text(f"{name}\n")
    strata = " ".join(busybox_store.argv())
    run = f"{strata} run --rm --network none"
    shell = f"cd {TOP}; exec 3<{tmp_path}/three 4<{tmp_path}/four 9<{tmp_path}/nine; "

    def ask(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", shell + command], capture_output=True, text=True,
                              check=False, timeout=60)  # fmt: skip

    both = ask(f"{run} --preserve-fds 2 {IMAGE} sh -c 'cat <&3; cat <&4; ls /proc/self/fd'")
    assert both.stdout.split()[:2] == ["three", "four"], both.stderr
    assert "9" not in both.stdout.split()
    one = ask(f"{run} --preserve-fd 9 {IMAGE} sh -c 'cat <&9; cat <&3'")
    assert one.stdout == "nine\n", one.stderr
    missing = ask(f"{run} --preserve-fds 3 {IMAGE} true")
    assert missing.returncode == 125
    assert "file descriptor 5 is not available" in missing.stderr
