"""Limits by cgroup v2 and ids by user namespaces, as far as OpenZFS or systemd has a part in them.

What does not depend on them is told in ``tests/system``, parts of which this lane runs too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, POOL, Store

pytestmark = pytest.mark.openzfs

SLEEPER = ("--network", "none", "--stop-signal", "KILL")


def read_group(store: Store, name: str) -> dict[str, str]:
    """What the kernel says of a container's limits, by file."""
    [found] = store.ok("container", "inspect", name).json
    folder = Path(f"/sys/fs/cgroup{found['State']['CgroupPath']}")
    names = ("memory.max", "memory.low", "memory.swap.max", "cpu.max", "cpu.weight",
             "cpuset.cpus", "pids.max", "io.weight", "io.bfq.weight")  # fmt: skip
    return {name: (folder / name).read_text().strip()
            for name in names if (folder / name).exists()}  # fmt: skip


def test_limits_are_the_kernels_and_inspect_shows_them(store: Store) -> None:
    store.ok("run", "-d", "--name", "held", *SLEEPER, "--memory", "64m", "--memory-swap", "100m",
             "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512",
             "--cpuset-cpus", "1", "--pids-limit", "40", BUSYBOX, "sleep", "1000")  # fmt: skip
    try:
        before = read_group(store, "held")
        assert before["memory.max"] == str(64 << 20)
        assert before["memory.low"] == str(32 << 20)
        assert before["memory.swap.max"] == str(36 << 20)
        assert (before["cpu.max"], before["cpuset.cpus"]) == ("50000 100000", "1")
        assert before["pids.max"] == "40"
        [found] = store.ok("container", "inspect", "held").json
        assert found["EffectiveLimits"]["Memory"] == 64 << 20
        assert found["EffectiveLimits"]["Pids"] == 40
        store.ok("update", "--cpu-shares", "2048", "--cpuset-cpus", "0", "--memory", "48m",
                 "--memory-reservation", "16m", "held")  # fmt: skip
        after = read_group(store, "held")
        assert int(after["cpu.weight"]) > int(before["cpu.weight"])
        assert (after["cpuset.cpus"], after["memory.low"]) == ("0", str(16 << 20))
        [found] = store.ok("container", "inspect", "held").json
        assert found["EffectiveLimits"]["Memory"] == 48 << 20
        assert found["HostConfig"]["CpusetCpus"] == "0"
    finally:
        store.ok("rm", "-f", "-t", "0", "held")


@pytest.mark.parametrize(
    "words",
    [("--blkio-weight", "100"), ("--device-write-bps", "/dev/vdc:1mb")],
    ids=lambda words: words[0],
)
def test_block_limits_are_refused_as_they_would_not_bind(
    store: Store, words: tuple[str, ...]
) -> None:
    refused = store.strata("create", "--name", "bound", *words, BUSYBOX, "true")
    assert refused.rc == 125
    assert "ZFS" in refused.err, repr(refused)
    assert store.strata("container", "exists", "bound").rc == 1


@pytest.fixture
def ids() -> Iterator[None]:
    """Ids for ``--userns=auto`` on this host, which is the lane's machine."""
    assert POOL, "only there the files are nobody's"
    before = {path: Path(path).read_text() if os.path.exists(path) else None
              for path in ("/etc/subuid", "/etc/subgid")}  # fmt: skip
    for path, text in before.items():
        Path(path).write_text(f"{text or ''}containers:200000:200000\n")
    yield
    for path, text in before.items():
        if text is None:
            os.unlink(path)
        else:
            Path(path).write_text(text)


def test_each_has_ids_of_its_own_and_all_see_the_same_owners(store: Store, ids: None) -> None:
    """Idmapped mounts of datasets: on the disk are the ids that the containers see."""
    for name in ("one", "two"):
        store.ok("run", "-d", "--name", name, *SLEEPER, "--userns", "auto", "-v", "shared:/s",
                 BUSYBOX, "sleep", "1000")  # fmt: skip
    try:
        starts = set()
        for name in ("one", "two"):
            pid = store.ok("inspect", "--format", "{{.State.Pid}}", name).line
            starts.add(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
            assert Path(f"/proc/{pid}").stat().st_uid == int(Path(f"/proc/{pid}/uid_map")
                                                             .read_text().split()[1])  # fmt: skip
        assert len(starts) == 2
        assert all(int(start) >= 200000 for start in starts)
        store.ok("exec", "one", "sh", "-c", "echo mine >/s/f; chown 1000 /s/f; touch /own")
        assert store.ok("exec", "two", "stat", "-c", "%u", "/s/f").line == "1000"
        assert os.stat(f"{store.root}/volumes/shared/_data/f").st_uid == 1000
        # A snapshot, its clone and a commit know nothing of it.
        store.ok("snapshot", "--volumes", "one@then")
        past = store.ok("run", "--rm", "--network", "none", "--at", "one@then", "stat", "-c", "%u",
                        "/s/f", "/own")  # fmt: skip
        assert past.out.split() == ["1000", "0"]
        store.ok("commit", "one", "localhost/plain")
        plain = store.ok("run", "--rm", "--network", "none", "localhost/plain", "stat", "-c", "%u",
                         "/own")  # fmt: skip
        assert plain.line == "0"
    finally:
        store.strata("rm", "-f", "-t", "0", "one", "two")
