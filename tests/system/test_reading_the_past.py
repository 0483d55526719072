"""Looking at what was: copying, comparing, listing, mounting and running snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import Store, wait_until

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

IMAGE = "busybox"
BEFORE = (
    "mkdir -p /d/sub; echo 1 >/d/sub/a; echo old >/d/b; echo same >/d/same; echo conf >/etc/app"
)
AFTER = (
    "echo more >>/d/sub/a; rm /d/b; mkdir /d/new; echo x >/d/new/x; ln -s /etc /d/link; "
    "echo changed >/etc/app"
)


@pytest.fixture(scope="module")
def past(busybox_store: Store) -> Iterator[Store]:
    """``web`` with the volume ``data``, both with the snapshot ``one`` before their last change."""
    store = busybox_store
    store.ok("run", "-d", "--name", "web", "-v", "data:/d", "--stop-timeout", "0", IMAGE,
             "sh", "-c", f"{BEFORE}; echo ready; exec sleep 1000")  # fmt: skip
    store.wait_for_log("web", "ready")
    for name in ("data@one", "web@one"):
        store.ok("snapshot", name)
    store.ok("exec", "web", "sh", "-c", AFTER)
    yield store
    store.strata("rm", "-f", "-t", "0", "web")
    store.strata("volume", "rm", "data")
    store.strata("trash", "empty", "--all", "--force")


def test_changes_are_told_with_their_sizes(past: Store) -> None:
    lines = past.ok("diff", "data@one").out.splitlines()
    assert lines == [
        "D /b  -4 B", "A /link  +4 B", "A /new  +0 B", "A /new/x  +2 B", "C /sub/a  2 B -> 7 B",
    ]  # fmt: skip
    past.ok("snapshot", "data@two")
    assert past.ok("diff", "data@one", "data@two").out.splitlines() == lines
    assert past.ok("diff", "data@two").out == ""
    found = past.ok("diff", "--format", "json", "data@one").json
    assert {"Kind": "C", "Path": "/sub/a", "Before": 2, "After": 7} in found
    back = past.ok("diff", "data@two", "data@one").out.splitlines()
    assert "A /b  +4 B" in back
    assert "D /new  -2 B" in back


def test_a_volume_is_compared_with_a_snapshot_only(past: Store) -> None:
    outcome = past.strata("diff", "data")
    assert outcome.rc == 125
    assert "strata diff data@SNAPSHOT" in outcome.err
    prefix = past.ok("images", "-q", "--no-trunc").line.removeprefix("sha256:")[:3]
    past.ok("volume", "create", prefix)
    try:
        assert past.strata("diff", prefix).rc == 125, "not of the image whose id begins so"
    finally:
        past.ok("volume", "rm", prefix)


def test_a_container_is_compared_without_its_volumes(past: Store) -> None:
    changed = past.ok("diff", "web@one").out.splitlines()
    assert "C /etc/app  5 B -> 8 B" in changed
    assert not [line for line in changed if line.startswith("A /d/")]


def test_files_are_copied_out_of_the_past(past: Store, tmp_path: Path) -> None:
    past.ok("cp", "web@one:etc/app", f"{tmp_path}/app")
    assert (tmp_path / "app").read_text() == "conf\n"
    past.ok("cp", "volume:data@one:/b", str(tmp_path))
    assert (tmp_path / "b").read_text() == "old\n"
    past.ok("cp", "data@one:/b", "web:/d/b-again")
    assert past.ok("exec", "web", "cat", "/d/b-again").line == "old"
    past.ok("exec", "web", "rm", "/d/b-again")
    for words in (("web@one:/nosuch", str(tmp_path)), ("web@nosuch:/etc/app", str(tmp_path)),
                  ("/etc/passwd", "data@one:/")):  # fmt: skip
        refused = past.strata("cp", *words)
        assert refused.rc == 125
        assert refused.err.startswith("Error: ")


def test_a_directory_is_listed_as_it_was(past: Store) -> None:
    assert past.ok("volume", "ls", "-q", "-l", "data@one").out.split() == ["b", "same", "sub"]
    [row] = past.ok("volume", "ls", "-l", "--format", "json", "data@one:/sub").json
    assert (row["Name"], row["Size"], row["Mode"]) == ("a", 2, "-rw-r--r--")
    assert "link" in past.ok("volume", "ls", "-ql", "data").out.split()
    assert past.strata("volume", "ls", "-l").rc == 125
    assert past.strata("volume", "ls", "data").rc == 125
    assert past.strata("volume", "ls", "-l", "data@one:/nosuch").rc == 125


def test_a_mounted_snapshot_cannot_be_written_and_goes_when_told(past: Store) -> None:
    path = past.ok("mount", "data@one").line
    assert sorted(os.listdir(path)) == ["b", "same", "sub"]
    with pytest.raises(OSError, match="Read-only"):
        open(f"{path}/x", "w").close()
    assert past.ok("mount", "data@one").line == path
    assert past.ok("mount", "--format", "{{.Spec}} {{.Path}}").line == f"data@one {path}"
    past.ok("unmount", "data@one")
    assert past.ok("mount", "--format", "json").json == []
    assert past.strata("unmount", "data@one").rc == 125
    root = past.ok("mount", "web@start").line
    assert os.path.exists(f"{root}/bin/busybox")
    past.ok("unmount", "--all")


def test_the_past_runs_without_touching_the_present(past: Store) -> None:
    volumes = past.ok("volume", "ls", "-q").out
    script = "cat /etc/app /d/b; echo spoilt >/etc/app; rm /d/b /d/same"
    assert past.ok("run", "--rm", "--at", "web@one", "sh", "-c", script).out == "conf\nold\n"
    assert past.ok("exec", "web", "cat", "/etc/app", "/d/same").out == "changed\nsame\n"
    assert past.ok("run", "--rm", "--at", "web@one", "cat", "/d/b").line == "old"
    assert past.ok("volume", "ls", "-q").out == volumes


def test_without_a_command_it_says_which_one_it_runs(past: Store) -> None:
    past.ok("create", "--name", "hello", IMAGE, "echo", "a b")
    past.ok("snapshot", "hello@one")
    done = past.ok("run", "--rm", "--at", "hello@one")
    assert (done.line, done.err) == ("a b", "it runs the command of hello: echo 'a b'\n")
    assert past.ok("run", "--rm", "--at", "hello@one", "echo", "c").err == ""
    image = past.strata("run", "--rm", "--at", "hello@one", f"{IMAGE}:latest", "echo", "c")
    assert image.rc == 125
    assert f"{IMAGE}:latest is an image, and --at brings that of its container" in image.err
    assert past.strata("run", "--rm", "--at", "hello@one", "no:such").rc == 127
    past.ok("rm", "hello")


def test_a_volume_of_the_past_is_put_where_the_present_would_be(past: Store) -> None:
    shown = past.ok("run", "--rm", "--at", "data@one", "-v", "data:/x", IMAGE, "ls", "/x")
    assert shown.out.split() == ["b", "same", "sub"]
    missing = past.strata("run", "--rm", "--at", "data@one", IMAGE, "true")
    assert missing.rc == 125
    assert "-v data:" in missing.err
    assert past.strata("run", "--rm", "--at", "data@one").rc == 125
    assert past.strata("run", "--rm", "--at", "data@nosuch", "-v", "data:/x", IMAGE).rc == 125


def test_a_volume_without_such_a_snapshot_is_cloned_as_it_is(past: Store) -> None:
    past.ok("snapshot", "web@alone")
    shown = past.ok("run", "--rm", "--at", "web@alone", "sh", "-c", "ls /d; rm -r /d/new")
    assert "new" in shown.out.split()
    assert past.ok("exec", "web", "cat", "/d/new/x").line == "x"
    e = past.engine()
    dataset = past.ok("volume", "inspect", "data").json[0]["Dataset"]

    def is_gone() -> bool:
        return not [s for s in e.driver.list_snapshots(dataset) if s.name.startswith("clone-")]

    wait_until(is_gone, "the snapshot made for the clone goes with it")
