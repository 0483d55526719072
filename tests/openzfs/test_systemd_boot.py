"""What systemd does for containers at a boot and before a shutdown, by the unit of tools/boot-unit.

One story on one store: the power fails, the host comes back, goes down in good order, comes back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm_store import IMAGE, TOP, Store, make_store
from zfs_tools import zfs

pytestmark = pytest.mark.openzfs

UNIT = "strata-restart.service"
GROUPS = Path("/sys/fs/cgroup/strata")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: says in its exit code that it was asked to end
ASKED = ("sh", "-c", "trap 'exit 7' TERM; sleep 100000 & wait")


def systemd(*words: str, code: int = 0) -> str:
    """Run a program of systemd; what it said, on both streams."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module")
def strata(pool: str) -> Iterator[Store]:
    with make_store(pool) as store:
        store("import", str(store.folder / "busybox.tar"), IMAGE)
        launcher = store.folder / "strata"
        words = " ".join(store.argv())
        launcher.write_text(f'#!/bin/sh\ncd {TOP} && exec {words} "$@"\n')
        launcher.chmod(0o755)
        systemd("tools/boot-unit", "install", str(launcher), str(store.folder / "root"),
                str(store.folder / "run"))  # fmt: skip
        yield store
        systemd("tools/boot-unit", "remove")
        assert systemd("systemctl", "is-enabled", UNIT, code=4) == "not-found"


def list_states(strata: Store) -> dict[str, tuple[str, int]]:
    """Names of containers -> status, exit code."""
    found = json.loads(strata("ps", "-a", "--format", "json"))
    return {row["Names"][0]: (row["State"], row["ExitCode"]) for row in found}


def lose_power(strata: Store) -> None:
    """All that a boot ends is gone: processes, /run, mounts, the imported pool, the boot's id."""
    pool = strata.pool.partition("/")[0]
    for group in GROUPS.iterdir():
        if (group / "cgroup.kill").exists():
            (group / "cgroup.kill").write_text("1")
    shutil.rmtree(strata.folder / "run")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{strata.folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=True)
    device = zfs("list", "-HLPv", pool, program="zpool").split("\n")[1].split()[0]
    zfs("export", "-f", pool, program="zpool")
    if Path(BOOT_ID).read_text() == os.environ.setdefault("BOOT", Path(BOOT_ID).read_text()):
        other = strata.folder / "boot_id"
        other.write_text("00000000-1111-2222-3333-444444444444\n")
        subprocess.run(["mount", "--bind", str(other), BOOT_ID], check=True)
    else:
        subprocess.run(["umount", BOOT_ID], check=True)
    zfs("import", "-N", "-d", os.path.dirname(device), pool, program="zpool")


def test_the_unit_is_sound_and_enabled(strata: Store) -> None:
    path = systemd("systemctl", "show", "-P", "FragmentPath", UNIT)
    assert systemd("systemd-analyze", "verify", "--man=no", path) == ""
    assert systemd("systemctl", "is-enabled", UNIT) == "enabled"
    # It was started too, though nobody waits for it: only then does a shutdown run its ExecStop.
    systemd("systemctl", "start", UNIT)
    after = systemd("systemctl", "show", "-P", "After", UNIT).split()
    assert {"network-online.target", "zfs-import.target", "zfs-mount.service"} <= set(after)


def test_the_stores_mounts_are_kept_until_containers_have_ended(strata: Store) -> None:
    """systemd knows them from the kernel; before it unmounts, what is ordered after them stops."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    own = [mount for mount in mounts if mount.startswith(f"{strata.folder}/root/")]
    assert own
    for mount in own:
        unit = systemd("systemd-escape", "--path", "--suffix=mount", mount)
        assert UNIT in systemd("systemctl", "show", "-P", "Before", unit).split(), mount


def test_after_a_power_loss_the_right_containers_run(strata: Store) -> None:
    systemd("systemctl", "stop", UNIT)
    for name, policy in (("always", "always"), ("unless", "unless-stopped"), ("plain", "no"),
                         ("stopped", "unless-stopped")):  # fmt: skip
        strata("run", "-d", "--name", name, "--restart", policy, "--network", "none",
               "--stop-timeout", "60", IMAGE, *ASKED)  # fmt: skip
    strata("stop", "stopped")
    lose_power(strata)
    systemd("systemctl", "start", UNIT)
    states = list_states(strata)
    assert {name for name, (status, _) in states.items() if status == "running"} == {
        "always", "unless",
    }, states  # fmt: skip
    # What runs is in no unit: its end would be theirs.
    assert not Path(f"/sys/fs/cgroup/system.slice/{UNIT}").exists()


def test_a_shutdown_stops_all_of_them_in_good_order(strata: Store) -> None:
    strata("start", "plain")
    strata("pause", "unless")
    systemd("systemctl", "stop", UNIT)
    states = list_states(strata)
    for name in ("always", "unless", "plain"):
        assert states[name] == ("exited", 7), states
    assert systemd("systemctl", "is-failed", UNIT, code=1) == "inactive"


def test_after_it_the_policies_still_hold(strata: Store) -> None:
    lose_power(strata)
    systemd("systemctl", "start", UNIT)
    states = list_states(strata)
    assert {name for name, (status, _) in states.items() if status == "running"} == {
        "always", "unless",
    }, states  # fmt: skip


def test_one_that_cannot_start_keeps_no_other_from_being_stopped(strata: Store) -> None:
    strata("stop", "always", "unless")
    gone = strata.folder / "gone"
    gone.mkdir()
    strata("create", "--name", "broken", "--restart", "always", "--network", "none", "-v",
           f"{gone}:/data", IMAGE, "sleep", "1000")  # fmt: skip
    gone.rmdir()
    systemd("systemctl", "restart", UNIT)
    states = list_states(strata)
    assert (states["always"][0], states["broken"][0]) == ("running", "created")
    assert "gone" in systemd("journalctl", "-q", "-o", "cat", "-u", UNIT)
    systemd("systemctl", "stop", UNIT)
    assert list_states(strata)["always"] == ("exited", 7)
