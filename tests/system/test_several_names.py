"""Commands on several objects: what one wrong name, --all and an impatient second command do.

What is expected was seen first from Podman 5.4.
"""

from __future__ import annotations

import subprocess

import pytest
from helpers.store import BUSYBOX, Store, get_busybox_tar, wait_until

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

#: takes no notice of its stop signal
STUBBORN = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")


def state(store: Store, name: str) -> str:
    return store.ok("inspect", "--format", "{{.State.Status}}", name).line


def test_a_wrong_name_among_several_leaves_all_as_they_are(busybox_store: Store) -> None:
    ok, strata = busybox_store.ok, busybox_store.strata
    ok("run", "-d", "--name", "one", "--stop-timeout", "0", BUSYBOX, "sleep", "1000")
    for verb in ("stop", "kill", "pause", "restart"):
        for names in (("one", "nobody"), ("nobody", "one")):
            outcome = strata(verb, *names)
            assert (outcome.rc, outcome.out) == (125, ""), repr(outcome)
            assert outcome.err.count("Error: ") == 1
    assert state(busybox_store, "one") == "running"
    ok("stop", "one")
    for names in (("one", "nobody"), ("nobody", "one")):
        assert strata("start", *names).rc == 125
        assert strata("rm", *names).rc == 1
        assert strata("init", *names).rc == 125
    assert state(busybox_store, "one") == "exited"

    # Asked to pass over it, they do the rest and say only what they did.
    assert ok("stop", "--ignore", "nobody", "one").line == "one"
    assert ok("stop", "--ignore", "nobody").out == ""
    assert ok("rm", "--ignore", "nobody", "one").line == "one"
    ok("create", "--name", "one", BUSYBOX)
    assert ok("rm", "--force", "nobody", "one").line == "one"


def test_rmi_all_leaves_images_that_containers_use(store: Store) -> None:
    ok = store.ok
    store.add_busybox()
    ok("run", "-d", "--name", "user", BUSYBOX, "sleep", "1000")
    ok("import", "--message", "unused", "--change", "CMD true", get_busybox_tar(), "unused")
    ok("tag", "unused", "unused:again")
    outcome = store.strata("rmi", "--all")
    assert outcome.rc == 2
    assert "in use by a container" in outcome.err
    assert state(store, "user") == "running"
    assert ok("images", "--format", "{{.Repository}}").line == "localhost/busybox"
    ok("rmi", "--all", "--force")
    assert ok("images", "--quiet").out == ""
    assert ok("ps", "--all", "--quiet").out == ""


@pytest.mark.parametrize("words", [("rm", "--force"), ("stop",)])
def test_who_has_less_patience_ends_it(store: Store, words: tuple[str, ...]) -> None:
    store.add_busybox()
    store.ok("run", "-d", "--name", "one", BUSYBOX, *STUBBORN)
    store.wait_for_log("one", "up")
    patient: subprocess.Popen[bytes] = store.start("stop", "--time", "1000", "one")
    wait_until(lambda: state(store, "one") == "stopping", "it is being stopped")
    store.ok(*words, "--time", "0", "one", timeout=30)
    assert patient.wait(30) == 0


def test_a_question_takes_its_answer_from_a_pipe(store: Store) -> None:
    store.add_busybox()
    store.ok("create", "--name", "idle", BUSYBOX)
    prune = ("container", "prune")
    refused = store.strata(*prune, input="")
    assert refused.rc == 125
    assert "--force" in refused.err
    assert store.ok(*prune, input="n\nn\n").out == ""
    assert store.ok("ps", "-aq").out
    assert store.ok(*prune, input="y\ny\n").out
    assert store.ok("ps", "-aq").out == ""
