"""mount, unmount, cp with an archive on a pipe, container clone, init, and wait for conditions."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from helpers.store import (
    BUSYBOX,
    Store,
    list_processes,
    list_store_mounts,
    open_store,
    wait_until,
)

pytestmark = pytest.mark.btrfs

SLEEPER = ("run", "--detach", "--stop-signal", "KILL", "--network", "none")


@pytest.fixture
def box(busybox_store: Store) -> Iterator[str]:
    """A running container."""
    busybox_store.ok(*SLEEPER, "--name", "box", BUSYBOX, "sleep", "1000")
    yield "box"
    busybox_store.ok("rm", "--force", "--time", "0", "--ignore", "box", "box-clone", "other")


def make_tar(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.uid, info.gid, info.mode = len(data), 1000, 50, 0o640
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


# -- mount -----------------------------------------------------------------------------------------


def test_a_mounted_container_is_seen_on_the_host_until_the_last_unmount(
    busybox_store: Store, box: str
) -> None:
    s = busybox_store
    path = s.ok("mount", box).line
    assert os.path.exists(f"{path}/bin/busybox")
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    assert os.statvfs(path).f_flag & os.ST_NOSUID
    assert os.statvfs(path).f_flag & os.ST_NODEV
    s.ok("exec", box, "touch", "/seen")
    assert os.path.exists(f"{path}/seen")
    assert s.ok("mount", box).line == path
    assert s.ok("mount").line.split()[1] == path
    assert s.ok("mount", "--format", "json").json[0]["mountpoint"] == path
    assert s.ok("umount", box).line == box
    assert os.path.exists(f"{path}/seen")
    s.ok("unmount", box)
    assert not os.path.exists(path)
    assert s.ok("mount").out == ""
    again = s.strata("unmount", box)
    assert (again.rc, "is not mounted" in again.err) == (125, True)


def test_a_mount_ends_with_its_container_or_by_force(busybox_store: Store, box: str) -> None:
    s = busybox_store
    path = s.ok("mount", box).line
    s.ok("mount", box)
    s.ok("unmount", "--force", box)
    assert not os.path.exists(path)
    s.ok("mount", box)
    s.ok("rm", "--force", "--time", "0", box)
    assert path not in list_store_mounts(s.base)
    assert s.ok("mount").out == ""


def test_a_reset_takes_mounts_and_supervisor_along() -> None:
    with open_store() as own:
        own.add_busybox()
        own.ok(*SLEEPER, "--restart", "always", "--name", "box", BUSYBOX, "sleep", "1000")
        own.ok("mount", "box")
        own.ok("system", "reset", "--force", "--now")
        assert list_store_mounts(own.base) == []
        wait_until(lambda: not list_processes(own), "the supervisor ends with the store")
        assert not os.path.exists(f"{own.root}/mounts")


# -- cp --------------------------------------------------------------------------------------------


def test_an_archive_on_standard_input_is_unpacked_in_a_container(
    busybox_store: Store, box: str
) -> None:
    s = busybox_store
    s.ok("cp", "-", f"{box}:/tmp", input=make_tar(one=b"1", dir__two=b"22"))
    assert s.ok("exec", box, "cat", "/tmp/one", "/tmp/dir/two").out == "122"
    assert s.ok("exec", box, "stat", "-c", "%u %g %a", "/tmp/one").line == "1000 50 640"
    assert os.listdir(f"{s.pool}/images/spool") == []


@pytest.mark.parametrize("data", [b"no archive at all", make_tar(x=b"x" * 2000)[:1500]])
def test_a_broken_archive_changes_nothing(busybox_store: Store, box: str, data: bytes) -> None:
    s = busybox_store
    refused = s.strata("cp", "-", f"{box}:/tmp", input=data)
    assert refused.rc == 125
    assert s.ok("exec", box, "ls", "/tmp").out == ""
    assert os.listdir(f"{s.pool}/images/spool") == []


def test_an_archive_cannot_leave_the_container(busybox_store: Store, box: str) -> None:
    s = busybox_store
    s.ok("exec", box, "ln", "-s", "/", "/tmp/root")
    s.strata("cp", "-", f"{box}:/tmp", input=make_tar(**{"..__..__escaped": b"x"}))
    assert not os.path.exists("/escaped")
    assert not os.path.exists(f"{s.base}/escaped")


def test_files_of_a_container_come_as_an_archive(busybox_store: Store, box: str) -> None:
    s = busybox_store
    for source, names in ((f"{box}:/data", ["data", "data/seed"]), (f"{box}:/data/seed", ["seed"])):
        done = subprocess.run(s.argv("cp", source, "-"), capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            assert archive.getnames() == names
            file = archive.extractfile(names[-1])
            assert file is not None
            assert file.read() == b"from the image\n"
    assert s.strata("cp", f"{box}:/nothing", "-").rc == 125
    assert s.strata("cp", "-", "-").rc == 125
    assert s.strata("cp", "-", "/tmp", input=b"").rc == 125


# -- clone, init, wait -----------------------------------------------------------------------------


def test_a_clone_has_the_settings_and_the_image_s_files(busybox_store: Store) -> None:
    s = busybox_store
    s.ok(*SLEEPER, "--name", "box", "--env", "A=b", BUSYBOX, "sleep", "1000")
    try:
        s.ok("exec", "box", "touch", "/mine")
        made = s.ok("container", "clone", "--run", "box").line
        assert s.ok("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").out.count("box") == 2
        assert s.ok("exec", made, "sh", "-c", "echo $A; ls /mine 2>/dev/null || true").line == "b"
        running = s.strata("container", "clone", "--destroy", "box", "other")
        assert running.rc == 125
        s.ok("rm", "--force", "--time", "0", "other")
        s.ok("container", "clone", "--destroy", "--force", "--name", "other", "box")
        assert s.strata("container", "exists", "box").rc == 1
        assert s.ok("container", "exists", "other").rc == 0
    finally:
        s.ok("rm", "--force", "--time", "0", "--ignore", "box", "box-clone", "other")


def test_an_initialized_container_waits_for_its_start(busybox_store: Store) -> None:
    s = busybox_store
    s.ok("create", "--name", "box", "--stop-signal", "KILL", BUSYBOX, "sh", "-c",
         "echo begun; sleep 1000")  # fmt: skip
    try:
        assert s.ok("init", "box").line == "box"
        assert s.ok("ps", "--all", "--format", "{{.State}}").line == "initialized"
        twice = s.strata("init", "box")
        assert (twice.rc, "has already been created in runtime" in twice.err) == (125, True)
        assert s.strata("exec", "box", "true").rc == 125
        assert s.ok("logs", "box").out == ""
        s.ok("start", "box")
        s.wait_for_log("box", "begun")
        assert s.ok("wait", "--condition", "running", "box").line == "-1"
        s.ok("stop", "box")
        s.ok("init", "box")
        s.ok("rm", "box")
    finally:
        s.ok("rm", "--force", "--time", "0", "--ignore", "box")


def test_waiting_for_a_state_or_for_health(busybox_store: Store) -> None:
    s = busybox_store
    s.ok(*SLEEPER, "--name", "box", "--health-cmd", "test -e /fine", "--health-interval", "50ms",
         "--health-retries", "1", BUSYBOX, "sleep", "1000")  # fmt: skip
    try:
        assert s.ok("wait", "--condition", "unhealthy", "box").line == "-1"
        s.ok("exec", "box", "touch", "/fine")
        assert s.ok("wait", "--condition=exited,healthy", "box").line == "-1"
        waiter = s.start("wait", "--condition", "paused", "box", stdout=subprocess.PIPE)
        s.ok("pause", "box")
        assert waiter.communicate(timeout=15)[0] == b"-1\n"
        s.ok("kill", "box")
        assert s.ok("wait", "box", "box").out == "137\n137\n"
        assert s.strata("wait", "--condition", "bored", "box").rc == 125
        assert s.ok("wait", "--ignore", "nobody").line == "-1"
    finally:
        s.ok("rm", "--force", "--time", "0", "box")
