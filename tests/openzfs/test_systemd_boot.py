"""What systemd does for containers at a boot and before a shutdown, by the unit of tools/boot-unit.

One story on one store: the power fails, the host comes back, goes down in good order, comes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, TOP, Store, open_store
from zfs_tools import zfs

pytestmark = pytest.mark.openzfs

UNIT = "strata-restart.service"
GROUPS = Path("/sys/fs/cgroup/strata")
#: says in its exit code that it was asked to end
ASKED = ("sh", "-c", "trap 'exit 7' TERM; sleep 100000 & wait")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def systemd(*words: str, code: int = 0) -> str:
    """Run a program of systemd; what it said, on both streams."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


class Host:
    """A store on a host that boots."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = Path(store.base)
        self.launcher = self.folder / "strata"
        self.launcher.write_text(f'#!/bin/sh\ncd {TOP} && exec {" ".join(store.argv())} "$@"\n')
        self.launcher.chmod(0o755)

    def __call__(self, *words: str) -> str:
        return self.store.ok(*words).line

    def lose_power(self) -> None:
        """All that a boot ends is gone: processes, /run, mounts, the pool. A host has one id of its
        boot, and others run tests on this one; so the records get that of another."""
        pool = self.store.dataset.partition("/")[0]
        names = self("ps", "-aq", "--no-trunc").split()
        # The monitors first: nobody is to see the containers end.
        for pid in (GROUPS / "engine/cgroup.procs").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one of others
                if os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), 9)
        for name in names:
            if (GROUPS / name).exists():
                (GROUPS / name / "cgroup.kill").write_text("1")
        self.change_boot_ids()
        shutil.rmtree(self.folder / "run")
        for mount in reversed(list_mounts(self)):
            subprocess.run(["umount", "-l", mount], check=True)
        device = zfs("list", "-HLPv", pool, program="zpool").split("\n")[1].split()[0]
        zfs("export", "-f", pool, program="zpool")
        zfs("import", "-N", "-d", os.path.dirname(device), pool, program="zpool")

    def change_boot_ids(self) -> None:
        changed = 0
        for path in (self.folder / "root/mnt/records").rglob("*.json"):
            text = path.read_text()
            if not path.is_symlink() and BOOT_ID.read_text().strip() in text:
                path.write_text(text.replace(BOOT_ID.read_text().strip(), "of-another-boot"))
                changed += 1
        assert changed


@pytest.fixture(scope="module")
def strata(pool: str) -> Iterator[Host]:
    # Before any other store of this run: the pool is exported under it.
    with open_store(pool=pool, networks=True) as store:
        store.add_busybox()
        host = Host(store)
        host("create", "--name", "always", "--restart", "always", "--network", "none",
             "--stop-timeout", "60", BUSYBOX, *ASKED)  # fmt: skip
        systemd("tools/boot-unit", "install", str(host.launcher), store.root,
                store.runroot)  # fmt: skip
        yield host
        systemd("tools/boot-unit", "remove")
        assert systemd("systemctl", "is-enabled", UNIT, code=4) == "not-found"
        host("rm", "--all", "--force")


def list_mounts(strata: Host) -> list[str]:
    """The mounts that the store has on the host."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(mount for mount in mounts if mount.startswith(f"{strata.folder}/"))


def list_states(strata: Host) -> dict[str, tuple[str, int]]:
    """Names of containers -> status, exit code."""
    found = json.loads(strata("ps", "-a", "--format", "json"))
    return {row["Names"][0]: (row["State"], row["ExitCode"]) for row in found}


def test_the_unit_is_sound_and_enabled(strata: Host) -> None:
    path = systemd("systemctl", "show", "-P", "FragmentPath", UNIT)
    assert systemd("systemd-analyze", "verify", "--man=no", path) == ""
    assert systemd("systemctl", "is-enabled", UNIT) == "enabled"
    # Only then does a shutdown run its ExecStop. But nothing was started: this was no boot.
    assert systemd("systemctl", "is-active", UNIT) == "active"
    assert list_states(strata)["always"][0] == "created"
    assert systemd("systemctl", "show", "-P", "NeedDaemonReload", UNIT) == "no"
    after = systemd("systemctl", "show", "-P", "After", UNIT).split()
    assert {"network-online.target", "zfs-import.target", "zfs-mount.service"} <= set(after)


def test_the_stores_mounts_are_kept_until_containers_have_ended(strata: Host) -> None:
    """systemd knows them from the kernel; before it unmounts, what is ordered after them stops."""
    mounts = list_mounts(strata)
    assert mounts
    for mount in mounts:
        unit = systemd("systemd-escape", "--path", "--suffix=mount", mount)
        assert UNIT in systemd("systemctl", "show", "-P", "Before", unit).split(), mount


def test_after_a_power_loss_the_right_containers_run(strata: Host) -> None:
    systemd("systemctl", "stop", UNIT)
    for name, policy in (("unless", "unless-stopped"), ("plain", "no"),
                         ("stopped", "unless-stopped")):  # fmt: skip
        strata("run", "-d", "--name", name, "--restart", policy, "--network", "none",
               "--stop-timeout", "60", BUSYBOX, *ASKED)  # fmt: skip
    strata("start", "always")
    strata("stop", "stopped")
    strata.lose_power()
    systemd("systemctl", "start", UNIT)
    states = list_states(strata)
    assert {name for name, (status, _) in states.items() if status == "running"} == {
        "always", "unless",
    }, states  # fmt: skip
    # What runs is in no unit: its end would be theirs.
    assert not Path(f"/sys/fs/cgroup/system.slice/{UNIT}").exists()


def test_a_shutdown_stops_all_of_them_in_good_order(strata: Host) -> None:
    strata("start", "plain")
    strata("pause", "unless")
    systemd("systemctl", "stop", UNIT)
    states = list_states(strata)
    for name in ("always", "unless", "plain"):
        assert states[name] == ("exited", 7), states
    assert systemd("systemctl", "is-failed", UNIT, code=1) == "inactive"


def test_after_it_the_policies_still_hold(strata: Host) -> None:
    strata.lose_power()
    systemd("systemctl", "start", UNIT)
    states = list_states(strata)
    assert {name for name, (status, _) in states.items() if status == "running"} == {
        "always", "unless",
    }, states  # fmt: skip


def test_one_that_cannot_start_keeps_no_other_from_being_stopped(strata: Host) -> None:
    strata("stop", "always", "unless")
    gone = strata.folder / "gone"
    gone.mkdir()
    strata("create", "--name", "broken", "--restart", "always", "--network", "none", "-v",
           f"{gone}:/data", BUSYBOX, "sleep", "1000")  # fmt: skip
    gone.rmdir()
    systemd("systemctl", "restart", UNIT)
    states = list_states(strata)
    assert (states["always"][0], states["broken"][0]) == ("running", "created")
    assert "gone" in systemd("journalctl", "-q", "-o", "cat", "-u", UNIT)
    systemd("systemctl", "stop", UNIT)
    assert list_states(strata)["always"] == ("exited", 7)
