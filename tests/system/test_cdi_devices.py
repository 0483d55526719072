"""Devices that a vendor's file describes, in a /run of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.journal import JournalStore, use_journal
from helpers.store import Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
SPEC = """\
cdiVersion: "0.6.0"
kind: vendor.com/card
containerEdits:
  env: [DRIVER=7]
devices:
- name: "0"
  containerEdits:
    env: [CARD=zero]
    deviceNodes:
    - {{path: /dev/card0, hostPath: /dev/null, permissions: rw}}
    mounts:
    - {{hostPath: {base}/library, containerPath: /opt/library, options: [ro, nosuid]}}
    hooks:
    - {{hookName: createContainer, path: /bin/sh, args: [sh, -c, "echo made >>{base}/hooks"]}}
    - {{hookName: poststop, path: /bin/sh, args: [sh, -c, "echo gone >>{base}/hooks"]}}
"""


@pytest.fixture(scope="module")
def store(busybox_store: Store) -> Iterator[JournalStore]:
    with use_journal(busybox_store) as made:
        folder = made.mnt.replace("/ns/mnt", "/root/run/cdi")
        os.mkdir(folder)
        with open(f"{made.base}/library", "w") as file:
            file.write("code\n")
        with open(f"{folder}/vendor.yaml", "w") as file:
            file.write(SPEC.format(base=made.base))
        with open(f"{folder}/broken.json", "w") as file:
            file.write("{")
        yield made


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_device_brings_all_that_its_vendor_says(store: JournalStore, runtime: str) -> None:
    path = f"{store.base}/hooks"
    with open(path, "w"):
        pass
    program = ("echo x >/dev/card0 && ls -l /dev/card0 | cut -c1 && cat /opt/library && "
               "echo $DRIVER$CARD && ! echo y 2>/dev/null >/opt/library")  # fmt: skip
    outcome = store.ok("run", "--name", "carded", "--runtime", runtime, "--device",
                       "vendor.com/card=0", IMAGE, "sh", "-c", program)  # fmt: skip
    assert outcome.out == "c\ncode\n7zero\n"
    with open(path) as file:
        assert file.read() == "made\ngone\n"
    store.ok("rm", "carded")


def test_a_process_in_the_container_has_the_variables_too(store: JournalStore) -> None:
    store.ok("run", "-d", "--name", "carded", "--stop-timeout", "0", "--device",
             "vendor.com/card=0", IMAGE, "sleep", "1000")  # fmt: skip
    assert store.ok("exec", "carded", "sh", "-c", "echo $CARD").line == "zero"
    store.ok("rm", "-f", "carded")


def test_a_device_nobody_describes_is_refused_before_anything_is_made(store: JournalStore) -> None:
    for option in ("--device=vendor.com/card=9", "--gpus=all"):
        outcome = store.strata("create", "--name", "none", option, IMAGE)
        assert outcome.rc == 125
        assert "unresolvable CDI devices" in outcome.err
        assert "vendor.com/card=0" in outcome.err
        assert "broken.json" in outcome.err
        assert store.strata("container", "exists", "none").rc == 1
