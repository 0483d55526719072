"""Networks under systemd: what serves them belongs to no caller either. The machine's own links and
rules may be changed, so no namespace is put in between."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm_store import IMAGE, TOP, Store, make_store

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module")
def strata(pool: str) -> Iterator[Store]:
    with make_store(pool) as store:
        store("import", str(store.folder / "busybox.tar"), IMAGE)
        store("network", "create", "lan")
        yield store


def test_names_are_served_on_after_the_unit_that_began_it(strata: Store) -> None:
    done = subprocess.run(
        ["systemd-run", "--quiet", "--collect", "--pipe", f"--working-directory={TOP}",
         *strata.argv("run", "-d", "--name", "one", "--network", "lan", "--stop-timeout", "1",
                      IMAGE, "sleep", "100000")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = strata("run", "--rm", "--network", "lan", IMAGE, "nslookup", "one")
    address = strata("exec", "one", "hostname", "-i")
    assert f"Address: {address}" in answer.splitlines()
    pids = subprocess.run(
        ["pgrep", "-x", "conmon|aardvark-dns"], capture_output=True, text=True, check=True
    ).stdout.split()
    groups = {
        Path(f"/proc/{pid}/comm").read_text().strip(): Path(f"/proc/{pid}/cgroup").read_text()
        for pid in pids
    }
    assert groups == dict.fromkeys(("conmon", "aardvark-dns"), "0::/strata/engine\n")


def test_the_end_of_the_container_ends_what_served_it(strata: Store) -> None:
    strata("rm", "-f", "one")
    strata("network", "rm", "lan")
    deadline = time.monotonic() + 60
    while Path("/sys/fs/cgroup/strata/engine/cgroup.procs").read_text():
        assert time.monotonic() < deadline, "processes stay"
        time.sleep(0.1)
    done = strata.call("system", "check")
    assert done.returncode == 0, done.stdout + done.stderr
