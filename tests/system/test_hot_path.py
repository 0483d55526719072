"""What `ps`, `run` and `exec` really import, as the interpreter reports it."""

from __future__ import annotations

import os
import subprocess
import sysconfig

import pytest
from helpers.heavy import NEVER_ON_HOT_PATH
from helpers.hosts import open_hosts
from helpers.store import BUSYBOX, Store, open_store

from strata.cli.launcher import write_launcher

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = "/usr/bin/python3"


def _list_imported(store: Store, folder: str, *words: str) -> set[str]:
    """The first names of all that a command line imports."""
    return {name.split(".")[0] for name in _list_modules(store, folder, *words)}


def _list_modules(store: Store, folder: str, *words: str) -> set[str]:
    launcher = f"{folder}/strata"
    place = ["nsenter", f"--net={store.netns}", "--"] if store.netns else []
    write_launcher(PYTHON, TOP, sysconfig.get_path("purelib"), launcher)
    done = subprocess.run(
        [*place, PYTHON, "-IS", "-X", "importtime", launcher, *store.words(*words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rpartition("|")[2].strip() for line in lines}


def test_container_verbs_load_nothing_heavy(
    busybox_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, folder = busybox_store, str(tmp_path_factory.mktemp("bin"))
    store.ok("run", "-d", "--name", "sleeper", "--network", "none", BUSYBOX, "sleep", "1000")
    try:
        for words in (
            ("ps", "--all"),
            ("exec", "sleeper", "true"),
            ("run", "--rm", "--network", "none", BUSYBOX, "true"),
        ):
            assert not NEVER_ON_HOT_PATH & _list_imported(store, folder, *words), words[0]
    finally:
        store.ok("rm", "--force", "--time", "0", "sleeper")


def test_a_run_without_networks_loads_nothing_of_them(
    busybox_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for mode in ("none", "host"):
        found = _list_modules(busybox_store, str(tmp_path_factory.mktemp("bin")), "run", "--rm",
                              "--network", mode, BUSYBOX, "true")  # fmt: skip
        assert not [name for name in found if name.startswith("strata.network")], mode


def test_a_run_on_a_bridge_with_names_and_a_port_loads_nothing_heavy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with open_hosts("a") as (host,), open_store(netns=host.netns) as store:
        store.add_busybox()
        store.ok("network", "create", "front")
        store.ok("run", "--rm", BUSYBOX, "true")  # has read containers.conf
        found = _list_imported(store, str(tmp_path_factory.mktemp("bin")), "run", "--rm",
                               "--network", "front", "-p", "127.0.0.1:8080:80", BUSYBOX,
                               "true")  # fmt: skip
        assert not (NEVER_ON_HOT_PATH | {"ipaddress", "socket"}) & found
