"""The event log: every verb says what it did, in Podman's words."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, Store, open_store, wait_until

from strata.engine import event_log, events

pytestmark = pytest.mark.btrfs


@pytest.fixture(scope="module")
def own() -> Iterator[Store]:
    """A store whose events no other test makes."""
    with open_store() as store:
        store.add_busybox()
        yield store


def list_events(store: Store, *options: str) -> list[dict[str, object]]:
    out = store.ok("events", "--stream=false", "--format", "json", *options).out
    return [json.loads(line) for line in out.splitlines()]


def test_a_run_leaves_the_events_of_a_life(own: Store) -> None:
    own.strata("run", "--rm", "--name", "life", "--label", "a=b", BUSYBOX, "sh", "-c", "exit 3")
    found = list_events(own, "--filter", "container=life")
    assert [event["Status"] for event in found] == [
        "create", "init", "attach", "start", "died", "remove",
    ]  # fmt: skip
    died = found[4]
    assert died["ContainerExitCode"] == 3
    assert died["Attributes"] == {"a": "b"}
    assert died["Image"] == BUSYBOX
    assert died["timeNano"] // 10**9 == died["time"]  # type: ignore[operator]


def test_other_verbs_say_what_they_did(own: Store) -> None:
    own.ok("run", "-d", "--stop-signal", "KILL", "--name", "verbs", BUSYBOX, "sleep", "1000")
    own.ok("pause", "verbs")
    own.ok("unpause", "verbs")
    own.ok("exec", "verbs", "true")
    own.ok("rename", "verbs", "verbs2")
    own.ok("restart", "verbs2")
    own.ok("kill", "verbs2")
    own.ok("wait", "verbs2")
    own.ok("rm", "verbs2")
    found = [
        event["Status"]
        for event in list_events(own, "--filter", "type=container")
        if str(event["Name"]).startswith("verbs")
    ]
    assert found == [
        "create", "init", "start", "pause", "unpause", "exec", "exec_died", "rename", "restart",
        "stop", "died", "cleanup", "init", "start", "kill", "died", "cleanup", "remove",
    ]  # fmt: skip


def test_volumes_snapshots_and_images_have_events(own: Store) -> None:
    own.ok("volume", "create", "v1")
    own.ok("snapshot", "v1@a")
    own.ok("rollback", "v1@a")
    own.ok("volume", "rm", "v1")
    own.ok("tag", BUSYBOX, "other")
    own.ok("untag", "other", "other")
    volumes = [event["Status"] for event in list_events(own, "--filter", "volume=v1")]
    assert volumes == ["create", "remove"]
    snapshots = [event["Status"] for event in list_events(own, "--filter", "type=snapshot")]
    assert snapshots == ["create", "rollback"]
    images = [event["Status"] for event in list_events(own, "--filter", "image=other")]
    assert images == ["tag", "untag"]


def test_the_line_for_people_is_podmans(own: Store) -> None:
    own.ok("create", "--name", "line", "--label", "k=v", BUSYBOX, "true")
    own.ok("rm", "line")
    lines = own.ok("events", "--stream=false", "--filter", "container=line").out.splitlines()
    assert len(lines) == 2
    date, _, zone, _, rest = lines[0].split(" ", 4)
    assert (len(date), zone) == (10, time.strftime("%z"))
    assert rest.startswith("container create ")
    assert rest.endswith(f"(image={BUSYBOX}, name=line, k=v)")
    shown = own.ok("events", "--stream=false", "--filter", "container=line", "--filter",
                   "event=rm", "--format", "{{.Type}} {{.Status}} {{.Name}}")  # fmt: skip
    assert shown.line == "container remove line"


def test_a_follower_sees_new_events_at_once_and_ends_in_time(own: Store) -> None:
    follower = own.start("events", "--filter", "type=volume", "--format", "{{.Status}} {{.Name}}",
                         stdout=subprocess.PIPE)  # fmt: skip
    assert follower.stdout is not None
    try:
        wait_until(lambda: _is_watching(follower.pid), "the follower watches")
        own.ok("volume", "create", "followed")
        assert follower.stdout.readline() == b"create followed\n"
        own.ok("volume", "rm", "followed")
        assert follower.stdout.readline() == b"remove followed\n"
        assert own.ok("events", "--until", "50ms", "--filter", "type=secret").out == ""
    finally:
        follower.kill()
        follower.communicate()


def _is_watching(pid: int) -> bool:
    links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    return any("inotify" in link for link in links)


def test_the_log_is_rotated_and_read_across_its_parts(own: Store) -> None:
    e = own.engine()
    for number in range(40):
        events.emit(e, events.SYSTEM, "filler", name=str(number), attributes={"x": "y" * 100_000})
    parts = [name for name in os.listdir(e.logs) if name.startswith("events.log")]
    assert 2 < len(parts) <= events.KEPT + 1
    names = [event["name"] for event in event_log.read(e) if event["status"] == "filler"]
    assert names == [str(number) for number in range(40)][-len(names) :]
    assert len(names) > 20


@pytest.mark.parametrize("words", [("--filter", "x=y"), ("--since", "never"), ("--format", "x"),
                                   ("argument",)])  # fmt: skip
def test_nonsense_is_refused(own: Store, words: tuple[str, ...]) -> None:
    refused = own.strata("events", "--stream=false", *words)
    assert refused.rc == 125
    assert refused.err.startswith("Error: ")
