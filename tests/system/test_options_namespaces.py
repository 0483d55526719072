"""Namespaces shared with the host and between containers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.store import Outcome, Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


def run(store: Store, *options: str, sh: str) -> Outcome:
    return store.ok("run", "--rm", "--network", "none", *options, IMAGE, "sh", "-c", sh)


def test_a_container_joins_another(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "-d", "--name", "first", "--network", "none", "-h", "shared", IMAGE, "sh", "-c",
       "echo here >/dev/shm/file; exec sleep 100")  # fmt: skip
    try:
        out = run(busybox_store, "--pid", "container:first", "--ipc", "container:first", "--uts",
                  "container:first", "--cgroupns", "container:first",
                  sh="tr '\\0' ' ' </proc/1/cmdline; echo; cat /dev/shm/file; hostname; "
                  "echo $HOSTNAME; for n in pid ipc uts cgroup; do readlink /proc/self/ns/$n; done",
                  ).out.split("\n")  # fmt: skip
        assert out[0].strip() == "sleep 100"
        assert out[1:4] == ["here", "shared", "shared"]
        [found] = ok("container", "inspect", "first").json
        pid = found["State"]["Pid"]
        theirs = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "ipc", "uts", "cgroup")]
        assert out[4:8] == theirs
        path = f"ns:/proc/{pid}/ns/uts"
        assert run(busybox_store, "--uts", path, sh="readlink /proc/self/ns/uts").line == theirs[2]
        ok("stop", "-t", "0", "first")
        # It is started when one needs it.
        assert run(busybox_store, "--uts", "container:first", sh="hostname").line == "shared"
    finally:
        busybox_store.strata("rm", "-f", "-t", "0", "first")


def test_a_container_shares_with_the_host(busybox_store: Store) -> None:
    out = run(busybox_store, "--pid", "host", "--ipc", "host", "--uts", "host",
              sh="for n in pid ipc uts mnt; do readlink /proc/self/ns/$n; done; hostname"
              ).out.split()  # fmt: skip
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts", "mnt")]
    assert out[:3] == own[:3]
    assert out[3] != own[3]
    assert out[4] == os.uname().nodename


def test_a_cgroup_namespace_and_none_of_ipc(busybox_store: Store) -> None:
    out = run(busybox_store, "--cgroupns", "private", sh="cut -d: -f3 /proc/self/cgroup | sort -u")
    assert out.out.split() == ["/"]
    assert run(busybox_store, "--ipc", "none", sh="test -e /dev/shm || echo none").line == "none"


def test_what_cannot_be_joined_is_refused(busybox_store: Store) -> None:
    busybox_store.ok("create", "--name", "closed", "--ipc", "private", IMAGE)
    try:
        for mode, words in (
            ("--ipc=container:closed", "is not shareable"),
            ("--pid=container:nobody", "no container with name or ID"),
            ("--uts=ns:/nowhere", "does not exist"),
            ("--ipc=what", "unrecognized namespace mode"),
        ):
            outcome = busybox_store.strata("create", mode, IMAGE)
            assert outcome.rc == 125
            assert words in outcome.err
        assert busybox_store.ok("ps", "-a", "--format", "{{.Names}}").out.split() == ["closed"]
    finally:
        busybox_store.ok("rm", "closed")


MAP = ("--uidmap", "0:100000:5000")


def test_a_user_namespace_translates_owners(busybox_store: Store, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "own").touch()
    script = (
        "id -u; stat -c %u /bin /h /i /v; touch /x /v/new /i/new; stat -c %u /x; "
        "touch /h/new 2>/dev/null || echo no; echo a >>/etc/hosts && echo hosts; "
        "head -1 /proc/self/uid_map"
    )
    out = run(busybox_store, *MAP, "-v", "ids:/v", "-v", f"{tmp_path}:/h", "-v",
              f"{tmp_path}:/i:idmap", sh=script).out.split("\n")  # fmt: skip
    try:
        # The image and volumes keep their ids; a directory of the host does so on request only.
        assert out[:8] == ["0", "0", "65534", "0", "0", "0", "no", "hosts"]
        assert out[8].split() == ["0", "100000", "5000"]
        assert os.stat(tmp_path / "new").st_uid == 0
        assert run(busybox_store, "-v", "ids:/v", sh="stat -c %u /v/new").line == "0"
        run(busybox_store, *MAP, "-u", "user", "-v", f"{tmp_path}:/h:U", sh="touch /h/mine")
        assert os.stat(tmp_path / "mine").st_uid == 101000
    finally:
        busybox_store.ok("volume", "rm", "ids")


def test_a_user_namespace_through_a_containers_life(busybox_store: Store, tmp_path: Path) -> None:
    ok = busybox_store.ok
    file = tmp_path / "file"
    file.write_text("copied\n")
    ok("secret", "create", "pw", str(file))
    try:
        ok("run", "-d", "--name", "mapped", "--network", "none", *MAP, "--secret", "pw,uid=1000",
           IMAGE, "sleep", "100")  # fmt: skip
        [found] = ok("container", "inspect", "mapped").json
        assert os.stat(f"/proc/{found['State']['Pid']}").st_uid == 100000
        out = ok("exec", "-u", "user", "mapped", "sh", "-c", "id -u; cat /run/secrets/pw")
        assert out.out.split() == ["1000", "copied"]
        ok("cp", str(file), "mapped:/file")
        assert ok("exec", "mapped", "stat", "-c", "%u", "/file").line == "0"
        joined = run(busybox_store, "--userns", "container:mapped", "--pid", "container:mapped",
                     sh="cat /proc/self/uid_map; ls -ld /proc/1/exe")  # fmt: skip
        assert joined.out.split()[:3] == ["0", "100000", "5000"]
        ok("stop", "-t", "0", "mapped")
        ok("start", "mapped")
        ok("commit", "mapped", "plain")
        assert run(busybox_store, sh="true").rc == 0
        out = ok("run", "--rm", "--network", "none", "plain", "stat", "-c", "%u", "/file")
        assert out.line == "0"
    finally:
        busybox_store.strata("rm", "-f", "-t", "0", "mapped")
        busybox_store.strata("rmi", "plain")
        busybox_store.strata("secret", "rm", "pw")


def test_user_namespaces_of_root_and_of_nobody(busybox_store: Store) -> None:
    whole = run(busybox_store, "--userns", "keep-id", sh="cat /proc/self/uid_map")
    assert whole.out.split() == ["0", "0", "4294967295"]
    outcome = busybox_store.strata("create", "--subuidname", "nobody-here", IMAGE)
    assert outcome.rc == 125
    assert 'no ranges found for user "nobody-here"' in outcome.err
    outcome = busybox_store.strata("run", "--rm", "--uidmap", "0:100000:10", "-u", "user", IMAGE)
    assert outcome.rc != 0
    assert busybox_store.ok("ps", "-aq").out == ""


def read_uptime(text: str) -> float:
    return float(text.split(maxsplit=1)[0])


@pytest.mark.parametrize("runtime", [name for name in ("crun", "runc") if shutil.which(name)])
def test_a_time_namespace_has_clocks_of_its_own(busybox_store: Store, runtime: str) -> None:
    ok = busybox_store.ok
    ahead = 864_000
    made = ("--runtime", runtime, "--network", "none", "--time")
    ok("run", "-d", "--name", "later", *made, f"private:{ahead}", IMAGE, "sleep", "100")
    try:
        with open("/proc/uptime") as file:
            here = read_uptime(file.read())
        # Whatever the runtime does to it finds it again, though its process began in other time.
        assert 0 <= read_uptime(ok("exec", "later", "cat", "/proc/uptime").out) - here - ahead < 60
        joined = ok("run", "--rm", *made, "container:later", IMAGE, "cat", "/proc/uptime").out
        assert 0 <= read_uptime(joined) - here - ahead < 60
        ok("pause", "later")
        ok("unpause", "later")
        ok("restart", "-t", "0", "later")
        assert read_uptime(ok("exec", "later", "cat", "/proc/uptime").out) > here + ahead
        host = ok("run", "--rm", *made, "host", IMAGE, "cat", "/proc/uptime").out
        assert read_uptime(host) < here + ahead
    finally:
        busybox_store.ok("rm", "-f", "-t", "0", "later")
    assert os.listdir(f"{busybox_store.runroot}/{runtime}") == []
