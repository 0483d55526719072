"""Restart policies and health checks under the supervisor, which is there only when needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, TOP, Store, list_processes, open_store, wait_until

pytestmark = pytest.mark.btrfs

FRAGILE = ("run", "--detach", "--network", "none", "--stop-signal", "KILL")


@pytest.fixture(scope="module")
def own() -> Iterator[Store]:
    """A store with a supervisor of its own."""
    with open_store() as store:
        store.add_busybox()
        yield store


@pytest.fixture(autouse=True)
def tidy(own: Store) -> Iterator[None]:
    """Every test begins and ends without containers and without supervisor."""
    yield
    own.ok("rm", "--all", "--force", "--time", "0")
    wait_until(lambda: not find_supervisors(own), "the supervisor ends when nothing needs it")


def find_supervisors(store: Store) -> list[int]:
    found = []
    for pid in list_processes(store):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().endswith(b"system\0supervise\0"):
                    found.append(pid)
        except FileNotFoundError:
            continue
    return found


def get_row(store: Store, name: str) -> dict[str, object]:
    out = store.ok("ps", "--all", "--filter", f"name=^{name}$", "--format", "json").out
    [row] = json.loads(out)
    assert isinstance(row, dict)
    return row


def test_always_starts_again_until_it_is_stopped(own: Store) -> None:
    own.ok(*FRAGILE, "--restart", "always", "--name", "again", BUSYBOX, "sh", "-c", "sleep 0.05")
    wait_until(lambda: int(str(get_row(own, "again")["Restarts"])) >= 2, "two more runs")
    assert len(find_supervisors(own)) == 1
    own.ok("stop", "--time", "0", "again")
    wait_until(lambda: not find_supervisors(own), "nobody watches what was stopped")
    assert get_row(own, "again")["State"] == "exited"


def test_on_failure_tries_as_often_as_it_was_told(own: Store) -> None:
    own.ok(*FRAGILE, "--restart", "on-failure:2", "--name", "fails", BUSYBOX, "false")
    own.ok(*FRAGILE, "--restart", "on-failure", "--name", "works", BUSYBOX, "true")
    wait_until(lambda: not find_supervisors(own), "both are given up")
    failed, worked = get_row(own, "fails"), get_row(own, "works")
    assert (failed["Restarts"], failed["ExitCode"], failed["State"]) == (2, 1, "exited")
    assert (worked["Restarts"], worked["ExitCode"]) == (0, 0)


def test_a_killed_supervisor_is_started_by_the_next_command(own: Store) -> None:
    own.ok(*FRAGILE, "--restart", "always", "--name", "kept", BUSYBOX, "sleep", "1000")
    [first] = find_supervisors(own)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not find_supervisors(own), "it is dead")
    pid = int(own.ok("container", "inspect", "--format", "{{.State.Pid}}", "kept").line)
    wait_until(lambda: find_supervisors(own), "another one watches")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: get_row(own, "kept")["Restarts"] == 1, "it is started again")
    wait_until(lambda: get_row(own, "kept")["State"] == "running", "it runs again")


def test_what_ended_while_nobody_watched_is_started_again(own: Store) -> None:
    own.ok(*FRAGILE, "--restart", "unless-stopped", "--name", "kept", BUSYBOX, "sleep", "1000")
    pid = int(own.ok("container", "inspect", "--format", "{{.State.Pid}}", "kept").line)
    [first] = find_supervisors(own)
    os.kill(first, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: get_row(own, "kept")["Restarts"] == 1, "it is started again")


def test_killing_by_hand_is_no_failure_to_make_good(own: Store) -> None:
    own.ok(*FRAGILE, "--restart", "always", "--name", "killed", BUSYBOX, "sleep", "1000")
    own.ok("kill", "killed")
    wait_until(lambda: not find_supervisors(own), "nobody watches it")
    row = get_row(own, "killed")
    assert (row["State"], row["Restarts"]) == ("exited", 0)
    own.ok("start", "killed")
    assert len(find_supervisors(own)) == 1


def test_after_a_reboot_a_filter_starts_what_should_run(own: Store) -> None:
    own.ok("create", "--restart", "always", "--name", "boots", BUSYBOX, "sleep", "1000")
    own.ok("create", "--name", "stays", BUSYBOX, "sleep", "1000")
    own.ok("start", "--all", "--filter", "restart-policy=always")
    assert get_row(own, "boots")["State"] == "running"
    assert get_row(own, "stays")["State"] == "created"


def test_what_somebody_stopped_does_not_start_on_boot_unless_always(own: Store) -> None:
    for policy in ("always", "unless-stopped", "on-failure"):
        own.ok("run", "-d", "--network", "none", "--restart", policy, "--name", policy, BUSYBOX,
               "sleep", "1000")  # fmt: skip

    def list_starting(value: str) -> list[str]:
        found = own.ok("ps", "-a", "--filter", f"should-start-on-boot={value}", "--format",
                       "{{.Names}}").out  # fmt: skip
        return sorted(found.split())

    assert list_starting("true") == ["always", "unless-stopped"]
    own.ok("stop", "--time", "0", "always", "unless-stopped")
    assert list_starting("true") == ["always"]
    assert list_starting("false") == ["on-failure", "unless-stopped"]


def test_a_host_that_goes_down_stops_all_and_policies_hold(own: Store) -> None:
    for policy in ("always", "unless-stopped", "on-failure:3", "no"):
        own.ok("run", "-d", "--network", "none", "--restart", policy, "--name",
               policy.partition(":")[0], BUSYBOX, "sh", "-c",
               "trap 'exit 7' TERM; while :; do sleep 0.05; done")  # fmt: skip
    own.ok("pause", "no")
    stopped = own.ok("stop", "--all", "--not-stopped-by-user").out.split()
    assert len(stopped) == 4
    wait_until(lambda: not find_supervisors(own), "nobody starts them again")
    for name in ("always", "unless-stopped", "on-failure", "no"):
        row = get_row(own, name)
        assert (row["State"], row["ExitCode"], row["Restarts"]) == ("exited", 7, 0)
    own.ok("start", "--all", "--filter", "should-start-on-boot=true")
    running = own.ok("ps", "--format", "{{.Names}}").out.split()
    assert sorted(running) == ["always", "unless-stopped"]
    assert len(find_supervisors(own)) == 1
    own.ok("stop", "unless-stopped")
    own.ok("stop", "--all", "--not-stopped-by-user")
    left = own.ok("ps", "-a", "--filter", "should-start-on-boot=true", "--format", "{{.Names}}")
    assert left.out.split() == ["always"]


def test_where_systemd_is_not_the_init_there_is_no_unit() -> None:
    """Nor a word about it."""
    script = """mount -t tmpfs none /run && mount -t tmpfs none /usr/local/lib &&
    tools/boot-unit install /usr/local/bin/strata && tools/boot-unit remove && ls -A /usr/local/lib
    """
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                          cwd=TOP, capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_several_stop_at_once_and_after_those_that_require_them(own: Store) -> None:
    stubborn = ("run", "-d", "--network", "none", "--stop-timeout", "1")
    own.ok(*stubborn, "--name", "base", BUSYBOX, "sleep", "1000")
    for number in range(4):
        own.ok(*stubborn, "--name", f"user{number}", "--requires", "base", BUSYBOX, "sleep", "1000")
    names = ("base", "user0", "user1", "user2", "user3")
    refused = own.strata("stop", "nobody", *names)
    assert (refused.rc, refused.out) == (125, "")
    assert refused.err.startswith("Error: no container with name or ID 'nobody' found")
    began = time.monotonic()
    assert own.ok("stop", *names).out.split() == [*names[1:], "base"]
    assert time.monotonic() - began < 4.5  # twice a second, and not five times
    events = own.ok("events", "--stream=false", "--filter", "event=stop", "--format", "{{.Name}}")
    assert events.out.split()[-1] == "base"
    assert sorted(events.out.split()[-5:-1]) == ["user0", "user1", "user2", "user3"]


def test_health_is_watched_and_seen_everywhere(own: Store) -> None:
    own.ok(*FRAGILE, "--health-cmd", "test ! -e /bad", "--health-interval", "50ms",
           "--health-retries", "1", "--name", "sick", BUSYBOX, "sleep", "1000")  # fmt: skip
    wait_until(lambda: "(healthy)" in own.ok("ps").out, "the first check")
    assert own.ok("healthcheck", "run", "sick").out == ""
    own.ok("exec", "sick", "touch", "/bad")
    wait_until(lambda: "(unhealthy)" in own.ok("ps").out, "a failed check")
    failed = own.strata("healthcheck", "run", "sick")
    assert (failed.rc, failed.line) == (1, "unhealthy")
    assert own.ok("ps", "--filter", "health=unhealthy", "--format", "{{.Names}}").line == "sick"
    out = own.ok("events", "--stream=false", "--filter", "container=sick", "--filter",
                 "event=health_status", "--format", "{{.HealthStatus}}").out  # fmt: skip
    assert {"healthy", "unhealthy"} == set(out.split())


@pytest.mark.parametrize(("action", "state"), [("kill", "exited"), ("stop", "exited"),
                                               ("restart", "running")])  # fmt: skip
def test_an_unhealthy_container_is_treated_as_told(own: Store, action: str, state: str) -> None:
    own.ok(*FRAGILE, "--health-cmd", "test ! -e /tmp/bad", "--health-interval", "50ms",
           "--health-retries", "1", "--health-on-failure", action, "--tmpfs", "/tmp", "--name",
           "sick", BUSYBOX, "sleep", "1000")  # fmt: skip
    before = int(own.ok("container", "inspect", "--format", "{{.State.Pid}}", "sick").line)
    own.ok("exec", "sick", "touch", "/tmp/bad")
    wait_until(lambda: not os.path.exists(f"/proc/{before}"), "the sick run has ended")
    wait_until(lambda: get_row(own, "sick")["State"] == state, f"it is {state}")


def test_the_regular_check_begins_after_the_start_up_check_has_passed(own: Store) -> None:
    own.ok(*FRAGILE, "--health-cmd", "echo regular >>/ran", "--health-interval", "100s",
           "--health-startup-cmd", "test -e /up && echo startup >>/ran", "--health-startup-success",
           "2", "--health-startup-interval", "50ms", "--name", "slowly", BUSYBOX, "sleep", "1000",
           )  # fmt: skip
    health = own.ok("inspect", "slowly").json[0]["Config"]["StartupHealthCheck"]
    assert health == {
        "Test": ["CMD-SHELL", "test -e /up && echo startup >>/ran"], "Interval": 50_000_000,
        "Timeout": 30_000_000_000, "Successes": 2,
    }  # fmt: skip
    wait_until(lambda: len(own.ok("inspect", "slowly").json[0]["State"]["Health"]["Log"]) > 3,
               "some failures")  # fmt: skip
    assert own.ok("inspect", "--format", "{{.State.Health.Status}}", "slowly").line == "starting"
    own.ok("exec", "slowly", "touch", "/up")
    wait_until(lambda: "(healthy)" in own.ok("ps").out, "the first regular check")
    assert own.ok("exec", "slowly", "cat", "/ran").out == "startup\nstartup\nregular\n"


def test_a_container_that_never_comes_up_is_restarted(own: Store) -> None:
    own.ok(*FRAGILE, "--health-cmd", "true", "--health-interval", "disable",
           "--health-startup-cmd", "test -e /up || { touch /up; false; }",
           "--health-startup-retries", "1", "--health-startup-interval", "disable",
           "--name", "late", BUSYBOX, "sleep", "1000")  # fmt: skip
    assert not find_supervisors(own)
    pid = own.ok("inspect", "--format", "{{.State.Pid}}", "late").line
    failed = own.strata("healthcheck", "run", "late")
    assert (failed.rc, failed.line) == (1, "starting")
    assert own.ok("inspect", "--format", "{{.State.Pid}}", "late").line not in (pid, "0")
    own.ok("healthcheck", "run", "late")
    assert own.ok("inspect", "--format", "{{.State.Health.Status}}", "late").line == "starting"
    own.ok("healthcheck", "run", "late")
    assert own.ok("inspect", "--format", "{{.State.Health.Status}}", "late").line == "healthy"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--health-startup-cmd", "true"], "no regular healthcheck"),
        (["--health-cmd", "true", "--health-startup-retries", "3"], "add --health-startup-cmd"),
        (["--no-healthcheck", "--health-startup-cmd", "true"], "cannot specify both"),
        (["--health-cmd", "true", "--health-startup-cmd", "true", "--health-startup-timeout", "0"],
         "at least 1 second"),
        (["--health-cmd", "true", "--health-startup-cmd", "true", "--health-startup-success", "-1"],
         "0 or greater"),
    ],
)  # fmt: skip
def test_start_up_checks_that_make_no_sense_are_refused(
    own: Store, words: list[str], said: str
) -> None:
    refused = own.strata("create", *words, BUSYBOX, "true")
    assert refused.rc == 125
    assert said in refused.err


def test_a_check_that_takes_too_long_fails_and_leaves_no_process(own: Store) -> None:
    own.ok(*FRAGILE, "--health-cmd", "sleep 77", "--health-interval", "0", "--health-timeout",
           "1s", "--health-retries", "1", "--name", "slow", BUSYBOX, "sleep", "1000")  # fmt: skip
    assert not find_supervisors(own), "checked only by hand"
    failed = own.strata("healthcheck", "run", "slow")
    assert (failed.rc, failed.line) == (1, "unhealthy")
    assert "sleep 77" not in own.ok("top", "slow").out


def test_a_check_that_cannot_run_says_why(own: Store) -> None:
    own.ok("create", "--name", "plain", BUSYBOX, "true")
    for name, message in (("plain", "has no defined healthcheck"), ("none", "no such container")):
        refused = own.strata("healthcheck", "run", name)
        assert (refused.rc, message in refused.err) == (125, True)
