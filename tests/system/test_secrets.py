"""Secrets: kept apart, seen by containers only, shown only on request."""

from __future__ import annotations

import json
import os
import stat

import pytest
from helpers.store import Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
VALUE = "hunter2-not-a-word-of-ours"


def test_a_secrets_life(busybox_store: Store) -> None:
    strata, ok = busybox_store.strata, busybox_store.ok
    made = ok("secret", "create", "-l", "a=1", "pw", "-", input=VALUE).line
    try:
        assert len(made) == 24
        [row] = ok("secret", "ls", "--format", "json").json
        assert (row["ID"], row["Spec"]["Name"], row["Spec"]["Labels"]) == (made, "pw", {"a": "1"})
        assert ok("secret", "ls", "-q", "--filter", "name=no").out == ""
        assert VALUE not in ok("secret", "inspect", "pw").out
        [shown] = ok("secret", "inspect", "--showsecret", made[:6]).json
        assert shown["SecretData"] == VALUE
        assert "secret name in use" in strata("secret", "create", "pw", "-", input="x").err
        assert ok("secret", "create", "--ignore", "pw", "-", input="x").line == made
        again = ok("secret", "create", "--replace", "pw", "-", input="new").line
        assert again != made
        assert strata("secret", "exists", "pw").rc == 0
        assert strata("secret", "exists", "none").rc == 1
        outcome = strata("secret", "rm", "none")
        assert outcome.rc == 125
        assert "no such secret" in outcome.err
        assert ok("secret", "rm", "--ignore", "none").out == ""
        assert ok("secret", "rm", "pw").line == again
        assert ok("secret", "ls", "-q").out == ""
    finally:
        strata("secret", "rm", "--all")


def test_what_would_go_is_said_before(busybox_store: Store) -> None:
    busybox_store.ok("secret", "create", "kept", "-", input="x")
    try:
        told = busybox_store.ok("secret", "rm", "--dry-run", "--all").out
        assert told == "would remove secret kept (without a way back)\n"
        assert busybox_store.strata("secret", "rm", "--dry-run", "nosuch").rc != 0
        assert busybox_store.ok("secret", "exists", "kept").rc == 0
    finally:
        busybox_store.ok("secret", "rm", "kept")


def test_containers_see_their_secrets_and_nobody_else_does(busybox_store: Store) -> None:
    strata, ok = busybox_store.strata, busybox_store.ok
    ok("secret", "create", "--env", "pw", "VALUE", env={"VALUE": VALUE})
    try:
        ok("run", "-d", "--name", "keeper", "--secret", "pw", "--secret", "pw,type=env,target=PW",
           "--secret", "pw,target=/deep/er,mode=0400,uid=1000", IMAGE, "sleep", "100")  # fmt: skip
        ok("secret", "rm", "pw")
        # It has a copy; so has every further process, and every further start.
        for _ in range(2):
            script = (
                "cat /run/secrets/pw; echo; echo $PW; stat -c '%a %u' /run/secrets/pw /deep/er; "
                "touch /run/secrets/x || echo ro; tr '\\0' '\\n' </proc/1/environ | grep -c hunter2"
            )
            out = ok("exec", "keeper", "sh", "-c", script).out.split("\n")
            assert out[:6] == [VALUE, VALUE, "444 0", "400 1000", "ro", "1"]
            ok("stop", "-t", "0", "keeper")
            ok("start", "keeper")
        assert VALUE not in ok("container", "inspect", "keeper").out
        ok("commit", "keeper", "copied")
        assert (
            strata("run", "--rm", "copied", "sh", "-c", "cat /run/secrets/pw; echo $PW").line == ""
        )
        found = _search(busybox_store, VALUE)
        assert found == []
    finally:
        strata("rm", "-f", "-t", "0", "keeper")
        strata("rmi", "copied")
        strata("secret", "rm", "--all")
    folder = f"{busybox_store.engine().records.folder}/secrets"
    assert os.listdir(f"{folder}/containers") == []
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def _search(store: Store, word: str) -> list[str]:
    """Files outside of the folder of secrets that hold a word: records, the bundle, copies."""
    found = []
    engine = store.engine()
    for top in (engine.records.folder, f"{store.runroot}/c"):
        for folder, _, names in os.walk(top):
            if "/secrets" in folder:
                continue
            for name in names:
                path = f"{folder}/{name}"
                # The specification of the process needs its variables; only root reads it.
                if name == "config.json" or not os.path.isfile(path):
                    continue
                try:
                    with open(path, "rb") as file:
                        text = file.read()
                except FileNotFoundError:
                    continue  # of a container that is just going
                if word.encode() in text:
                    found.append(path)
    return found


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("none", "no such secret"),
        ("x,type=file", "type file is invalid"),
        ("x,type=env,uid=3", "cannot be set with secret type env"),
        ("x,mode=9", "mode 9 invalid"),
        ("x,colour=red", "option colour=red invalid"),
        ("x,target=../../etc", "invalid secret target"),
        ("type=env", "no secret source"),
    ],
)
def test_secrets_that_make_no_sense(busybox_store: Store, option: str, words: str) -> None:
    outcome = busybox_store.strata("run", "--secret", option, IMAGE, "true")
    assert outcome.rc == 125
    assert words in outcome.err
    assert busybox_store.ok("ps", "-aq").out == ""


def test_values_that_are_none(busybox_store: Store) -> None:
    strata = busybox_store.strata
    assert "larger than 0" in strata("secret", "create", "empty", "-", input="").err
    assert "no such file" in strata("secret", "create", "x", "/nowhere").err
    assert "is not set" in strata("secret", "create", "--env", "x", "NOWHERE").err
    assert "invalid secret name" in strata("secret", "create", "a/b", "-", input="x").err
    assert json.loads(busybox_store.ok("secret", "ls", "--format", "json").out or "[]") == []
