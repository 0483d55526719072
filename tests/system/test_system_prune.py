"""``system prune`` and the commands that only answer what scripts for Podman ask."""

from __future__ import annotations

import os
import shutil

import pytest
from helpers.hosts import open_hosts
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


def test_it_takes_what_nobody_uses_and_undo_brings_it_back(store: Store) -> None:
    store.add_busybox()
    store.ok("create", "--name", "idle", "-v", "/anonymous", BUSYBOX, "true")
    store.ok("run", "-d", "--name", "busy", "-v", "kept:/kept", BUSYBOX, "sleep", "1000")
    store.ok("network", "create", "unused")
    store.ok("volume", "create", "named")

    planned = store.ok("system", "prune", "--dry-run").line
    assert "would remove container idle" in planned
    assert store.ok("ps", "-aq").out.count("\n") == 2

    done = store.ok("system", "prune", "--force")
    assert "Deleted Containers" in done.out
    assert "Deleted Networks\nunused\n" in done.out
    assert done.out.splitlines()[-1].startswith("Total reclaimed space: ")
    assert store.ok("ps", "-a", "--format", "{{.Names}}").line == "busy"
    assert {"kept", "named"} <= set(store.ok("volume", "ls", "-q").line.split())

    store.ok("undo")
    names = store.ok("ps", "-a", "--format", "{{.Names}}").line.split()
    assert sorted(names) == ["busy", "idle"]


def test_volumes_and_unused_images_go_only_when_asked(store: Store) -> None:
    store.add_busybox()
    store.ok("run", "-d", "--name", "busy", "-v", "kept:/kept", BUSYBOX, "sleep", "1000")
    store.ok("volume", "create", "named")
    store.ok("tag", BUSYBOX, "other")
    store.ok("system", "prune", "--force", "--volumes", "--all")
    assert store.ok("volume", "ls", "-q").line == "kept"
    assert store.strata("image", "exists", BUSYBOX).rc == 0, "its container still needs it"


def test_what_is_said_before_is_what_goes() -> None:
    with open_hosts("a") as (host,), open_store(netns=host.netns) as store:
        store.add_busybox()
        assert_says_what_goes(store)


def assert_says_what_goes(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.5.0/24", "back")
    store.ok("create", "--name", "idle", "-v", "data:/d", "--network", "back", BUSYBOX, "true")
    words = ("system", "prune", "--all", "--volumes")
    planned = [line.partition(" (")[0] for line in store.ok(*words, "--dry-run").out.splitlines()]
    image = store.ok("images", "--format", "{{.Repository}}:{{.Tag}}").line
    assert planned == ["would remove container idle", "would remove network back",
                       "would remove volume data", f"would remove image {image}"]  # fmt: skip
    done = store.ok(*words, "--force").out
    for title in ("Containers", "Networks", "Volumes", "Images"):
        assert f"Deleted {title}" in done
    assert store.ok(*words, "--dry-run").out == ""


def test_without_a_terminal_it_asks_nobody(store: Store) -> None:
    asked = store.strata("system", "prune")
    assert asked.rc == 125
    assert "--force" in asked.err


def test_another_runtime_is_for_containers_that_do_not_run(store: Store) -> None:
    store.add_busybox()
    store.ok("create", "--name", "idle", BUSYBOX, "true")
    store.ok("run", "-d", "--name", "busy", BUSYBOX, "sleep", "1000")
    done = store.strata("system", "migrate", "--new-runtime", "runc")
    assert done.rc != 0
    assert "container busy is running" in done.err
    runtimes = [store.ok("inspect", "--format", "{{.OCIRuntime}}", name).line
                for name in ("idle", "busy")]  # fmt: skip
    assert runtimes == ["runc", "crun"]
    assert store.ok("start", "-a", "idle").rc == 0
    unknown = store.strata("system", "migrate", "--new-runtime", "/nowhere")
    assert unknown.rc == 125
    assert "not installed" in unknown.err


def test_a_store_from_before_networks_learns_them(store: Store) -> None:
    for folder in ("networks", "names/network"):
        shutil.rmtree(f"{store.pool}/records/{folder}", ignore_errors=True)
    store.ok("system", "check")
    store.ok("network", "create", "later")
    assert "later" in store.ok("network", "ls", "--format", "{{.Name}}").line.split()
    assert os.path.isdir(f"{store.pool}/records/networks")


@pytest.mark.parametrize("words", [["system", "renumber"], ["system", "migrate"],
                                   ["volume", "reload"]], ids=" ".join)  # fmt: skip
def test_what_is_not_needed_here_is_answered(store: Store, words: list[str]) -> None:
    assert "nothing to do" in store.ok(*words).err


def test_the_mountpoint_of_a_volume_is_told(store: Store) -> None:
    store.ok("volume", "create", "data")
    path = store.ok("volume", "mount", "data").line
    assert os.path.ismount(path)
    assert store.ok("volume", "unmount", "data").line == "data"
    assert store.strata("volume", "mount", "nothing").rc == 125
