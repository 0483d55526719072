"""What `ps`, `run` and `exec` really import, as the interpreter reports it."""

from __future__ import annotations

import os
import subprocess
import sysconfig

import pytest
from helpers.heavy import NEVER_ON_HOT_PATH
from helpers.store import BUSYBOX, Store

from strata.cli.launcher import write_launcher

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = "/usr/bin/python3"


def _list_imported(store: Store, folder: str, *words: str) -> set[str]:
    launcher = f"{folder}/strata"
    write_launcher(PYTHON, TOP, sysconfig.get_path("purelib"), launcher)
    done = subprocess.run(
        [PYTHON, "-IS", "-X", "importtime", launcher, *store.argv(*words)[3:]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


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
