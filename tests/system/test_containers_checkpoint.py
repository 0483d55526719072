"""Checkpoints where this host cannot make them, and what is refused anywhere.

The lane of OpenZFS has a CRIU that fits its kernel; there containers really go on.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store

pytestmark = pytest.mark.btrfs


@pytest.fixture
def sleeper(busybox_store: Store, tmp_path: Path) -> Iterator[str]:
    """A running container, whose crun was built without CRIU whatever the host's own can do."""
    runtime = tmp_path / "crun-plain"
    runtime.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo crun version 1 && exit\n'
        f'exec {shutil.which("crun")} "$@"\n'
    )
    runtime.chmod(0o755)
    busybox_store.ok("run", "-d", "--stop-timeout", "0", "--runtime", str(runtime),
                     "--name", "sleeper", BUSYBOX, "sleep", "1000")  # fmt: skip
    yield "sleeper"
    busybox_store.ok("rm", "--force", "--ignore", "sleeper")


def get_state(store: Store, name: str) -> dict[str, object]:
    state = store.ok("container", "inspect", name).json[0]["State"]
    assert isinstance(state, dict)
    return state


def test_a_runtime_without_criu_is_named_and_the_container_is_left_alone(
    busybox_store: Store, sleeper: str, tmp_path: Path
) -> None:
    s = busybox_store
    before = get_state(s, sleeper)
    archive = tmp_path / "sleeper.tar"
    for words in (("container", "checkpoint"), ("container", "checkpoint", "-e", str(archive))):
        done = s.strata(*words, sleeper)
        assert (done.rc, done.out) == (125, ""), repr(done)
        assert done.err.splitlines()[0] == (
            "Error: the OCI runtime crun-plain does not support checkpoint/restore: it was built "
            "without CRIU"
        )
        assert "packages runc, criu, libcriu2" in done.err
    assert get_state(s, sleeper) == before
    assert s.ok("exec", sleeper, "echo", "alive").line == "alive"
    assert os.listdir(tmp_path) == ["crun-plain"]
    assert s.ok("system", "check").rc == 0


def test_a_criu_that_cannot_work_here_is_named(busybox_store: Store) -> None:
    s = busybox_store
    if shutil.which("criu") is not None and os.system("criu check >/dev/null 2>&1") == 0:
        return  # it can
    s.ok("run", "-d", "--stop-timeout", "0", "--runtime", "runc", "--name", "other", BUSYBOX,
         "sleep", "1000")  # fmt: skip
    try:
        done = s.strata("container", "checkpoint", "other")
        assert done.rc == 125, repr(done)
        if shutil.which("criu") is None:
            assert "hint: install the package criu\n" in done.err
        else:
            assert "CRIU cannot work on this host: " in done.err
        assert get_state(s, "other")["Status"] == "running"
    finally:
        s.ok("rm", "-f", "other")


BAD = [
    (("checkpoint", "sleeper", "--ignore-rootfs"), "can only be used with --export"),
    (("checkpoint", "sleeper", "--compress", "gzip"), "can only be used with --export"),
    (("checkpoint", "sleeper", "-e", "/none/x", "-c", "lzma"), "not supported"),
    (("checkpoint", "sleeper", "-e", "/none/x"), "cannot write the archive /none/x"),
    (("checkpoint", "sleeper", "-P", "--with-previous"), "can not be used with"),
    (("checkpoint", "sleeper", "-P", "-e", "x"), "can not be used with"),
    (("checkpoint", "sleeper", "--all"), "cannot be used together"),
    (("checkpoint", "sleeper", "sleeper", "-e", "x"), "--export is for one container"),
    (("checkpoint", "nobody"), "no such container"),
    (("checkpoint",), "you must provide at least one name or id"),
    (("checkpoint", "--create-image", "x", "sleeper"), "an archive is written by --export"),
    (("restore", "sleeper"), "container sleeper is running or paused, cannot restore"),
    (("restore", "sleeper", "--name", "x"), "--name can only be used with --import"),
    (("restore", "sleeper", "--publish", "80"), "--publish can only be used with --import"),
    (("restore", "--import", "/none"), "failed to open checkpoint archive /none"),
    (("restore", "--import", "/etc/passwd"), "not"),
    (("restore", "--import", "x", "sleeper"), "cannot use --import with"),
    (("restore", "--import", "x", "--name", "y", "--tcp-established"), "cannot be used with"),
    (("restore", "--pod", "x", "--import", "y"), "there are no pods"),
]


def test_bad_input_changes_nothing(busybox_store: Store, sleeper: str) -> None:
    for words, message in BAD:
        done = busybox_store.strata("container", *words)
        assert (done.rc, message in done.err) == (125, True), (message, repr(done))
        assert not os.path.exists("x")
    assert get_state(busybox_store, sleeper)["Status"] == "running"


def test_a_container_without_a_checkpoint_cannot_be_restored(busybox_store: Store) -> None:
    s = busybox_store
    s.ok("create", "--name", "fresh", BUSYBOX, "true")
    done = s.strata("container", "restore", "fresh")
    assert done.rc == 125
    assert "a complete checkpoint for this container cannot be found, cannot restore" in done.err
    assert s.ok("container", "checkpoint", "--all").out == ""
    assert s.ok("container", "restore", "--all").out == ""
    s.ok("rm", "fresh")


def make_archive(path: Path, document: object) -> str:
    """An archive that says of its container what ``document`` says, and holds a checkpoint."""
    with tarfile.open(path, "w") as archive:
        for name, data in (("config.dump", json.dumps(document).encode()),
                           ("checkpoint/inventory.img", b"x")):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return str(path)


def test_archives_of_others_and_damaged_ones_make_nothing(
    busybox_store: Store, tmp_path: Path
) -> None:
    s = busybox_store
    s.ok("create", "--name", "model", "-v", "data:/data", BUSYBOX, "true")
    record = s.engine().records.get("container", s.ok("inspect", "model").json[0]["Id"])
    s.ok("rm", "model")
    s.ok("volume", "rm", "data")
    config = record["config"]
    cases: list[tuple[object, str]] = [
        ({"id": "x", "rootfsImageName": "y"}, "exported by another engine"),
        ([], "no exported checkpoint"),
        ({"strata": {"record": {**record, "schema": 99}}}, "exported by another version"),
        ({"strata": {"record": {**record, "config": {**config, "env": 5}}}}, "damaged"),
        ({"strata": {"record": {**record, "image": 5}}}, "damaged"),
        ({"strata": {"record": {**record, "image": "0" * 64}}}, "builds on the image 000000000000"),
    ]
    for number, (document, message) in enumerate(cases):
        path = make_archive(tmp_path / f"{number}.tar", document)
        done = s.strata("container", "restore", "--import", path)
        assert (done.rc, message in done.err) == (125, True), (message, repr(done))
    # One that says all that is needed, but of which nothing can be made to run.
    path = make_archive(tmp_path / "whole.tar", {"strata": {"record": record}})
    done = s.strata("container", "restore", "--import", path)
    assert done.rc == 125, repr(done)
    assert s.ok("ps", "-aq").out == ""
    assert s.ok("volume", "ls", "-q").out == ""
    assert s.ok("system", "check").rc == 0
