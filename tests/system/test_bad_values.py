"""Bad values on command lines: one clear line and a hint, nothing stays; odd surroundings."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Outcome, Store, open_store, wait_until

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
HUGE = "a" * 130_000


def refuse(store: Store, *words: str, code: int = 125) -> Outcome:
    """A command that must fail, in at most two lines, and leave no container."""
    before = store.ok("ps", "-aq").out
    outcome = store.strata(*words)
    assert outcome.rc == code, repr(outcome)
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") <= 2
    assert len(outcome.err) < 4000
    assert store.ok("ps", "-aq").out == before
    return outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "1"], "the memory limit is too low"),
        (["--sysctl", "net.nonsense=1", "--network", "none"], "'net.nonsense' is not known"),
        (["--sysctl", "net.ipv4.ip_forward=abc", "--network", "none"], "does not take that value"),
        (["--log-opt", "path=/none/dir/log"], "there is no such directory"),
        (["--log-opt", "path=/tmp"], "it is a directory"),
        (["--log-opt", "path=/proc/nolog"], "conmon ended before"),
        (["--runtime", "/bin/true"], "conmon ended before true could make"),
        (["--cpus", "0.001"], "must be 0.01 or more"),
        (["-w", "/etc/passwd"], "is not a directory"),
        (["-v", "/etc:/etc/passwd"], "one is a directory"),
        (["-w", f"/{HUGE}"], "File name too long"),
        (["--hostname", HUGE], "invalid hostname"),
    ],
)
def test_runs_that_cannot_start_say_why(busybox_store: Store, words: list[str], said: str) -> None:
    outcome = refuse(busybox_store, "run", "--rm", *words, IMAGE, "true")
    assert said in outcome.err
    assert "hint: " in outcome.err


def test_the_line_of_an_environment_file_is_named(busybox_store: Store) -> None:
    path = f"{busybox_store.base}/env"
    with open(path, "wb") as file:
        file.write(b"# comment\nODD=\xff\xfe\nBAD=\0x\n")
    outcome = refuse(busybox_store, "run", "--rm", "--env-file", path, IMAGE, "env")
    assert f'parsing env file "{path}": line 3: ' in outcome.err
    with open(path, "wb") as file:
        file.write(b"ODD=\xff\xfe\n")
    argv = busybox_store.argv("run", "--rm", "--env-file", path, IMAGE, "env")
    # JSON has no other bytes than UTF-8's, and Podman's container gets the same.
    assert (
        "ODD=\ufffd\ufffd\n".encode()
        in subprocess.run(argv, capture_output=True, check=True).stdout
    )


def test_a_limit_below_what_the_image_brings_is_named() -> None:
    with open_store() as store:
        store.add_busybox()
        outcome = refuse(store, "run", "--rm", "--storage-opt", "refquota=1m", BUSYBOX, "true")
        assert "is full: its limit refquota=1M is reached" in outcome.err
        store.ok("run", "--rm", "--storage-opt", "refquota=30m", BUSYBOX, "true")
        # What the image brings does not count here.
        store.ok("run", "--rm", "--storage-opt", "size=1m", BUSYBOX, "true")


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", HUGE], ["logs", HUGE], ["exec", HUGE, "true"], ["rm", HUGE], ["start", HUGE],
        ["volume", "create", HUGE], ["secret", "create", HUGE, "/etc/hostname"], ["tag", HUGE, "x"],
        ["port", HUGE], ["cp", f"{HUGE}:/x", "/tmp"], [HUGE], ["run", f"--{HUGE}"],
        ["rename", "\udcff\udcfe", "x"], ["volume", "create", "a\nb"], ["inspect", "\x1b[31m"],
    ],
)  # fmt: skip
def test_huge_and_odd_words_are_answered_shortly(busybox_store: Store, words: list[str]) -> None:
    outcome = busybox_store.strata(*words)
    assert outcome.rc in (1, 125), repr(outcome)
    assert len(outcome.err) < 4000
    assert "\x1b" not in outcome.err
    assert "internal error" not in outcome.err


@pytest.mark.parametrize(
    "words",
    [["ps", "-a"], ["images"], ["info"], ["volume", "ls"], ["events", "--stream=false"],
     ["system", "df"], ["--help"], ["run", "--help"], ["inspect", IMAGE], ["version"]],
)  # fmt: skip
def test_a_closed_standard_output_is_no_crash(busybox_store: Store, words: list[str]) -> None:
    quoted = " ".join(f"'{word}'" for word in busybox_store.argv(*words))
    for redirection in (">&-", "2>&- >&-", "<&-"):
        done = subprocess.run(["sh", "-c", f"{quoted} {redirection}"], capture_output=True,
                              text=True, check=False, cwd=os.getcwd())  # fmt: skip
        assert done.returncode in (0, 125, 141)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
    full = subprocess.run(["sh", "-c", f"{quoted} >/dev/full"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert full.returncode == 125
    assert "no space left" in full.stderr


def test_a_container_may_take_its_image_with_it() -> None:
    with open_store() as store:
        store.add_busybox()
        store.ok("tag", BUSYBOX, "localhost/other:1")
        assert store.ok("run", "--rmi", "localhost/other:1", "echo", "once").out == "once\n"
        assert store.strata("image", "exists", "localhost/other:1").rc == 1
        store.ok("create", "--name", "user", BUSYBOX)
        store.ok("run", "--rmi", BUSYBOX, "true")
        assert store.strata("image", "exists", BUSYBOX).rc == 0
        store.ok("rm", "user")
        store.ok("run", "-d", "--name", "last", "--rmi", BUSYBOX, "true")
        wait_until(lambda: store.strata("image", "exists", BUSYBOX).rc == 1, "the image is gone")
        assert store.ok("ps", "-aq").out == ""
        conflict = store.strata("run", "--rmi", "--restart", "always", BUSYBOX, "true")
        assert (conflict.rc, "conflicts with --restart" in conflict.err) == (125, True)


def test_a_process_may_see_a_32_bit_machine(busybox_store: Store) -> None:
    words = ["run", "--rm", "--personality"]
    assert busybox_store.ok(*words, "LINUX32", IMAGE, "uname", "-m").line == "i686"
    assert "LINUX or LINUX32" in refuse(busybox_store, *words, "DOS", IMAGE, "true").err


def test_results_of_checks_go_where_they_are_told(busybox_store: Store, tmp_path: Path) -> None:
    words = ["run", "-d", "--stop-timeout", "0", "--health-interval", "disable", "--health-cmd",
             "echo fine", "--health-log-destination"]  # fmt: skip
    folder = tmp_path / "results"
    folder.mkdir()
    name = busybox_store.ok(*words, str(folder), IMAGE, "sleep", "1000").line
    busybox_store.ok("healthcheck", "run", name)
    file = folder / f"{name}-healthcheck.log"
    results = json.loads(file.read_text())
    found = busybox_store.ok("inspect", name).json[0]
    assert results == found["State"]["Health"]
    assert [entry["Output"] for entry in results["Log"]] == ["fine\n"]
    assert found["Config"]["HealthLogDestination"] == str(folder)
    file.unlink()
    folder.rmdir()
    told = refuse(busybox_store, "healthcheck", "run", name).err
    assert f"unable to update health check log {file}: no such file or directory" in told
    assert len(busybox_store.ok("inspect", name).json[0]["State"]["Health"]["Log"]) == 2
    other = busybox_store.ok(*words, "events_logger", IMAGE, "sleep", "1000").line
    busybox_store.ok("healthcheck", "run", other)
    event = ["events", "--stream=false", "--filter", "event=health_status", "--filter"]
    shown = busybox_store.ok(*event, f"container={other}", "--format", "{{.HealthLog}}").line
    assert json.loads(shown)["Output"] == "fine\n"
    assert "health_log={" in busybox_store.ok(*event, f"container={other}").line
    assert "health_log" not in busybox_store.ok(*event, f"container={name}").out
    busybox_store.ok("rm", "-f", name, other)
    told = refuse(busybox_store, *words, str(folder), IMAGE, "true").err
    assert f"HealthCheck Log '{folder}' destination error: stat {folder}: no such file" in told
    file = tmp_path / "file"
    file.touch()
    told = refuse(busybox_store, *words, str(file), IMAGE, "true").err
    assert f"HealthCheck Log '{file}' destination must be directory" in told


def test_as_many_results_of_checks_are_kept_as_asked_for(busybox_store: Store) -> None:
    busybox_store.ok("run", "-d", "--name", "checked", "--stop-timeout", "0", "--health-interval",
                     "disable", "--health-cmd", "seq 1000", "--health-max-log-count", "2",
                     "--health-max-log-size", "9", IMAGE, "sleep", "1000")  # fmt: skip
    for _ in range(3):
        busybox_store.ok("healthcheck", "run", "checked")
    log = busybox_store.ok("inspect", "checked").json[0]["State"]["Health"]["Log"]
    assert [entry["Output"] for entry in log] == ["1\n2\n3\n4\n5"] * 2
    busybox_store.ok("rm", "-f", "checked")
