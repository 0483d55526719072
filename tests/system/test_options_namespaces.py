"""Namespaces shared with the host and between containers."""

from __future__ import annotations

import os

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
