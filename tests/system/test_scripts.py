"""Longer scripts as people have them for Docker and Podman run unchanged under those names.

What is expected was seen first from Podman 4.3 itself, where Podman 5 has not changed it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.hosts import open_hosts
from helpers.store import BUSYBOX, TOP, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SCRIPTS = f"{os.path.dirname(os.path.abspath(__file__))}/scripts"

DEPLOY = """\
network: shop
volume: shop-data
first: version 1
peer: version 2
second: version 2
data: order-1
running: shop-web
exited: shop-web-old
shop-web 2 unless-stopped 67108864 /srv
8080/tcp 18080
127.0.0.1:18080
old logs: 0
removed: shop-web-old
left: 1
"""

BACKUP = """\
1000
/tmp
1000:1000
entries: ./ ./deep/ ./deep/er/ ./deep/er/note ./letters ./link
read-only: yes
alpha
beta
ada yes
copied: gamma ada yes
deep deep/er deep/er/note
Loaded image: localhost/keeper:saved
again: state saved ada
["cat","/kept"] /vault
2
1
2
"""


NIGHTLY = """\
== inventory
night-app;running;web
night-db;running;db
night-failed;exited;
night-idle;created;
 4 row dict
MODE=live
night-app: /app
night-db: /var/lib/db /anonymous
on-failure:3 loc
failed with 7
none
true
== backup
night-app: . ./index
night-data: . ./base ./base/t1
row
== health
healthy
unhealthy
code 1
unhealthy 1
1
healthy
== failures
night-failed: 7
  no disk
== clean-up
code 1
still there
asked, and kept
4
2
2
image in use: 2
volume in use: 2
2
night-app night-data
0
"""

PIPELINE = """\
== host
linux false 1
known
same platform
== prepare
/src job- 2
changed: True
== stages
unit: hello world
lint: 3
tool hello
6
[]
sources are kept
missing: 127
not found: 127
usage: 125
== parallel
1 2 3
p1 1
p2 2
p3 3
p2
sum 6
3
== artefacts
built
1
gone: 1
Loaded image: localhost/JOB:ready
tool again
== blue and green
tool checks
green
old 137
renamed: 1
1
137
removed
"""


def run_script(store: Store, folder: Path, name: str, *args: str) -> str:
    """Run a script on a host of its own, where docker and podman are strata; its output."""
    # Its own: what outlives a command is killed with the host.
    store.add_busybox()
    programs = folder / "bin"
    programs.mkdir()
    for alias in ("docker", "podman"):
        words = " ".join(f"'{word}'" for word in store.argv())
        (programs / alias).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (programs / alias).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": TOP,
    }  # fmt: skip
    with open_hosts("a") as (host,):
        done = subprocess.run(
            ["nsenter", f"--net={host.netns}", "--", f"{SCRIPTS}/{name}", *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
            env=environment,
        )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def test_a_deployment_script_for_docker(store: Store, tmp_path: Path) -> None:
    assert run_script(store, tmp_path, "deploy.sh", BUSYBOX) == DEPLOY


def test_a_backup_script_for_docker(store: Store, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    found = run_script(store, tmp_path, "backup.sh", BUSYBOX, f"{tmp_path}/backup")
    assert found == BACKUP


def test_a_test_harness_for_podman(store: Store, tmp_path: Path) -> None:
    found = run_script(store, tmp_path, "harness.sh", BUSYBOX)
    assert found.splitlines()[-1] == "30 passed, 0 failed", found


def test_a_nightly_job_for_docker(store: Store, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    found = run_script(store, tmp_path, "nightly.sh", BUSYBOX, f"{tmp_path}/backup")
    assert found == NIGHTLY


def test_a_pipeline_for_podman(store: Store, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    found = run_script(store, tmp_path, "pipeline.sh", BUSYBOX, f"{tmp_path}/work")
    assert found == PIPELINE
