"""Networks under systemd: what serves them belongs to no caller either. The machine's own links and
rules may be changed, so no namespace is put in between."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers import kill
from helpers.store import BUSYBOX, TOP, Store

pytestmark = pytest.mark.openzfs


def test_names_are_served_on_after_the_unit_that_began_it(store: Store) -> None:
    store.ok("network", "create", "lan")
    done = subprocess.run(
        ["systemd-run", "--quiet", "--collect", "--pipe", f"--working-directory={TOP}",
         *store.argv("run", "-d", "--name", "one", "--network", "lan", "--stop-timeout", "1",
                      BUSYBOX, "sleep", "100000")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = store.ok("run", "--rm", "--network", "lan", BUSYBOX, "nslookup", "one")
    address = store.ok("exec", "one", "hostname", "-i").line
    assert f"Address: {address}" in answer.out.splitlines()
    pids = subprocess.run(
        ["pgrep", "-x", "conmon|aardvark-dns"], capture_output=True, text=True, check=True
    ).stdout.split()
    groups = {
        Path(f"/proc/{pid}/comm").read_text().strip(): Path(f"/proc/{pid}/cgroup").read_text()
        for pid in pids
    }
    assert groups == dict.fromkeys(("conmon", "aardvark-dns"), "0::/strata/engine\n")


def test_the_end_of_the_container_ends_what_served_it(store: Store) -> None:
    store.ok("rm", "-f", "one")
    store.ok("network", "rm", "lan")
    kill.wait_quiet(store)
    store.ok("system", "check")
