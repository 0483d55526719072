"""Where a container's output goes: the journal, the caller's own streams, and which are shown."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from helpers.journal import JournalStore, use_journal
from helpers.store import TOP, Store, wait_until

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
BOTH = "echo out; echo err >&2; exit 3"


@pytest.fixture(scope="module")
def journal(busybox_store: Store) -> Iterator[JournalStore]:
    with use_journal(busybox_store) as made:
        yield made


def log_of(store: Store, name: str) -> dict[str, str]:
    found: dict[str, str] = store.ok("inspect", name).json[0]["HostConfig"]["LogConfig"]
    return found


# -- journald --------------------------------------------------------------------------------------


def test_the_journal_keeps_the_output_with_its_stream_and_is_read_back(
    journal: JournalStore,
) -> None:
    outcome = journal.strata("run", "--name", "both", "--log-driver", "journald", "--log-opt",
                             "tag={{.Name}}/x", IMAGE, "sh", "-c", BOTH)  # fmt: skip
    assert (outcome.rc, outcome.out, outcome.err) == (3, "out\n", "err\n")
    shown = journal.ok("logs", "both")
    assert (shown.out, shown.err) == ("out\n", "err\n")
    entries = [json.loads(line) for line in journal.journal("-o", "json", "CONTAINER_NAME=both")
               .splitlines()]  # fmt: skip
    assert [(e["MESSAGE"].rstrip(), e["CONTAINER_TAG"]) for e in entries] == [
        ("out", "both/x"), ("err", "both/x")
    ]  # fmt: skip
    assert log_of(journal, "both") | {"Size": ""} == {
        "Type": "journald", "Config": None, "Path": "", "Tag": "{{.Name}}/x", "Size": ""
    }  # fmt: skip
    journal.ok("rm", "both")


def test_logs_from_the_journal_take_all_bounds(journal: JournalStore) -> None:
    journal.ok("run", "--name", "many", "--log-driver", "journald", IMAGE, "sh", "-c",
               "for n in 1 2 3 4 5; do echo line $n; done; printf 'no end'")  # fmt: skip
    assert journal.ok("logs", "many").out.endswith("line 5\nno end")
    assert journal.ok("logs", "--tail", "2", "many").out == "line 5\nno end"
    assert journal.ok("logs", "--tail", "0", "many").out == ""
    stamps = [line.split(" ", 1) for line in journal.ok("logs", "-t", "many").out.splitlines()]
    assert [text for _, text in stamps][:2] == ["line 1", "line 2"]
    third = stamps[2][0]
    since = journal.ok("logs", "--since", third, "many").out
    until = journal.ok("logs", "--until", third, "many").out
    assert since.startswith("line 3\n")
    assert until.endswith("line 3\n")
    assert until.startswith("line 1\n")
    assert journal.ok("logs", "--since", str(time.time() + 3600), "many").out == ""
    journal.ok("rm", "many")


def test_a_long_line_is_one_line_and_any_byte_is_kept(journal: JournalStore) -> None:
    program = r"head -c 100000 /dev/zero | tr '\0' x; echo; printf '\001\377 odd\n'; echo last"
    journal.ok("run", "--name", "odd", "--log-driver", "journald", IMAGE, "sh", "-c", program)
    data = subprocess.run(journal.argv("logs", "odd"), capture_output=True, check=True).stdout
    assert data == b"x" * 100000 + b"\n\001\377 odd\nlast\n"
    tail = subprocess.run(
        journal.argv("logs", "--tail", "3", "odd"), capture_output=True, check=True
    )
    assert tail.stdout == data
    journal.ok("rm", "odd")


def test_following_the_journal_ends_with_the_container_and_misses_nothing(
    journal: JournalStore,
) -> None:
    journal.ok("run", "-d", "--name", "told", "--log-driver", "journald", IMAGE, "sh", "-c",
               "echo begin; until [ -e /go ]; do sleep 0.05; done; seq 500; echo end")  # fmt: skip
    with journal.start("logs", "-f", "told", stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"begin\n"
            journal.ok("exec", "told", "touch", "/go")
            rest = follower.stdout.read()
            assert follower.wait(30) == 0
        finally:
            follower.kill()
    assert rest == b"".join(b"%d\n" % n for n in range(1, 501)) + b"end\n"
    journal.ok("rm", "-f", "told")


def test_several_are_followed_at_once(journal: JournalStore) -> None:
    program = "echo begin; until [ -e /go ]; do sleep 0.05; done; echo end"
    for name in ("one", "two"):
        journal.ok("run", "-d", "--name", name, "--log-driver", "journald", IMAGE, "sh", "-c",
                   program)  # fmt: skip
    with journal.start("logs", "-f", "-n", "one", "two", stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout is not None
            begun = {follower.stdout.readline() for _ in range(2)}
            assert begun == {b"one begin\n", b"two begin\n"}
            for name in ("one", "two"):
                journal.ok("exec", name, "touch", "/go")
            assert sorted(follower.stdout.read().splitlines()) == [b"one end", b"two end"]
            assert follower.wait(30) == 0
        finally:
            follower.kill()
    journal.ok("rm", "-f", "one", "two")


def find_readers(text: str) -> list[str]:
    """Pids of journalctl with a word on its command line."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            words = file.read().split(b"\0")
            if words[0] == b"journalctl" and text.encode() in words:
                found.append(path)
    return found


def test_a_reader_that_is_killed_leaves_no_process(journal: JournalStore) -> None:
    journal.ok("run", "-d", "--name", "kept", "--stop-timeout", "0", "--log-driver", "journald",
               IMAGE, "sh", "-c", "echo begin; sleep 1000")  # fmt: skip
    word = "CONTAINER_ID_FULL=" + journal.ok("inspect", "--format", "{{.Id}}", "kept").line
    with journal.start("logs", "-f", "kept", stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"begin\n"
        wait_until(lambda: find_readers(word), "the reader")
        follower.kill()
    wait_until(lambda: not find_readers(word), "the end of the reader")
    journal.ok("rm", "-f", "kept")


def test_what_another_user_writes_into_the_journal_is_not_the_containers(
    journal: JournalStore,
) -> None:
    name = journal.ok("run", "--name", "own", "--log-driver", "journald", IMAGE, "echo", "own")
    assert name.out == "own\n"
    found = journal.ok("inspect", "--format", "{{.Id}}", "own").line
    forged = f"MESSAGE=forged\nPRIORITY=6\nCONTAINER_ID_FULL={found}\n"
    subprocess.run(
        ["nsenter", f"--mount={journal.mnt}", "--", "setpriv", "--reuid=1000", "--clear-groups",
         "logger", "--journald"], input=forged, text=True, check=True,
    )  # fmt: skip
    wait_until(lambda: "forged" in journal.journal("-o", "cat", f"CONTAINER_ID_FULL={found}"),
               "the forged line in the journal")  # fmt: skip
    assert journal.ok("logs", "own").out == "own\n"
    journal.ok("rm", "own")


def test_without_a_journal_nothing_is_made(busybox_store: Store) -> None:
    place = ["unshare", "--mount", "--propagation", "slave", "sh", "-c",
             'mount -t tmpfs none /run && exec "$@"', "sh"]  # fmt: skip
    words = ["create", "--name", "lost", "--log-driver", "journald", IMAGE]
    done = subprocess.run([*place, *busybox_store.argv(*words)], capture_output=True, text=True,
                          check=False, cwd=TOP)  # fmt: skip
    assert done.returncode == 125
    assert "none runs here" in done.stderr
    assert "k8s-file" in done.stderr
    assert busybox_store.strata("container", "exists", "lost").rc == 1


def test_json_file_is_kept_as_a_file_under_its_own_name(busybox_store: Store) -> None:
    busybox_store.ok("run", "--name", "js", "--log-driver", "json-file", IMAGE, "echo", "said")
    assert busybox_store.ok("logs", "js").out == "said\n"
    found = log_of(busybox_store, "js")
    assert found["Type"] == "json-file"
    assert os.path.exists(found["Path"])
    busybox_store.ok("rm", "js")


# -- passthrough -----------------------------------------------------------------------------------


def test_passthrough_has_the_callers_streams_and_keeps_nothing(busybox_store: Store) -> None:
    words = ["--name", "pt", "--log-driver", "passthrough", IMAGE, "sh", "-c", "cat; " + BOTH]
    outcome = busybox_store.strata("run", *words, input="given\n")
    assert (outcome.rc, outcome.out, outcome.err) == (3, "given\nout\n", "err\n")
    assert busybox_store.strata("logs", "pt").err.startswith(
        "Error: this container is using the 'passthrough' log driver, cannot read logs"
    )
    again = busybox_store.strata("start", "-a", "pt", input="more\n")
    assert (again.rc, again.out) == (3, "more\nout\n")
    busybox_store.ok("rm", "pt")


def test_passthrough_in_the_background_writes_where_it_was_started(busybox_store: Store) -> None:
    with busybox_store.start(
        "run", "-d", "--rm", "--name", "behind", "--log-driver", "passthrough", IMAGE, "sh", "-c",
        "echo mine", stdout=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.read() == b"mine\n"
    wait_until(lambda: busybox_store.strata("container", "exists", "behind").rc == 1, "the end")


def test_passthrough_proxies_signals_and_refuses_to_attach(busybox_store: Store) -> None:
    program = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with busybox_store.start(
        "run", "--rm", "--name", "told", "--log-driver", "passthrough", IMAGE, "sh", "-c", program,
        stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            attached = busybox_store.strata("attach", "told")
            assert attached.rc == 125
            assert "cannot attach" in attached.err
            running.send_signal(signal.SIGTERM)
            assert running.stdout.read() == b"bye\n"
            assert running.wait(20) == 9
        finally:
            running.kill()


def on_terminal(store: Store, *words: str, typed: bytes = b"") -> tuple[int, str]:
    """Run a command line with a terminal as all three streams; its code and what it showed."""
    master, slave = pty.openpty()
    os.write(master, typed)
    try:
        with store.start(*words, stdin=slave, stdout=slave, stderr=slave) as program:
            os.close(slave)
            shown = b""
            while True:
                try:
                    data = os.read(master, 4096)
                except OSError:
                    break
                if not data:
                    break
                shown += data
            return program.wait(30), shown.decode()
    finally:
        os.close(master)


def test_a_terminal_is_handed_on_only_by_the_driver_named_so(busybox_store: Store) -> None:
    words = ["run", "--rm", "--name", "ptt", "--log-driver"]
    code, shown = on_terminal(busybox_store, *words, "passthrough", IMAGE, "tty")
    assert code == 125
    assert "cannot be used on a TTY" in shown
    assert busybox_store.strata("container", "exists", "ptt").rc == 1
    said = subprocess.run(["conmon", "--version"], capture_output=True, text=True, check=True)
    version = said.stdout.splitlines()[0].split()[-1]
    code, shown = on_terminal(
        busybox_store, *words, "passthrough-tty", IMAGE, "sh", "-c",
        "test -t 0 && test -t 1 && test -t 2 && read line && echo $line is read; exit 5",
        typed=b"what was typed\n",
    )  # fmt: skip
    if [int(part) for part in version.split(".")] >= [2, 1, 10]:
        assert (code, shown.splitlines()[1:]) == (5, ["what was typed is read"])
    else:
        assert code == 125
        assert "needs conmon 2.1.10" in shown
    assert busybox_store.ok("run", "--rm", "--log-driver", "passthrough-tty", IMAGE, "echo",
                            "plain").out == "plain\n"  # fmt: skip
    outcome = busybox_store.strata(*words, "passthrough-tty", "-t", IMAGE, "true")
    assert outcome.rc == 125
    assert "there can be no --tty" in outcome.err


def test_what_runs_is_not_stopped_for_a_start_that_cannot_be(busybox_store: Store) -> None:
    """``passthrough`` at a terminal: one line, and the container goes on."""

    def quietly(*words: str) -> None:
        # Not through pipes, which the container would hold open.
        null = subprocess.DEVNULL
        with busybox_store.start(*words, stdin=null, stdout=null, stderr=null) as program:
            assert program.wait(60) == 0

    quietly("run", "-d", "--name", "kept", "--stop-timeout", "0", "--log-driver", "passthrough",
            IMAGE, "sleep", "1000")  # fmt: skip
    started = busybox_store.ok("inspect", "--format", "{{.State.StartedAt}}", "kept").line
    code, shown = on_terminal(busybox_store, "restart", "kept")
    assert (code, shown.count("\n")) == (125, 2)
    assert "hint: give it other streams" in shown
    assert busybox_store.ok("inspect", "--format", "{{.State.StartedAt}}", "kept").line == started
    busybox_store.ok("snapshot", "kept@then")
    code, shown = on_terminal(busybox_store, "rollback", "kept@then")
    assert (code, shown.count("\n")) == (125, 2)
    assert "not all that used it started again" in shown
    quietly("start", "kept")
    quietly("restart", "kept")
    busybox_store.ok("rm", "-f", "kept")


# -- attach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "out", "err"),
    [
        (["-a", "stdout"], "out\n", ""), (["-a", "stderr"], "", "err\n"),
        (["--attach", "STDOUT,stderr"], "out\n", "err\n"),
        (["-a", "stdin", "-a", "stdout"], "out\n", ""), (["-i", "-a", "stdout"], "in\nout\n", ""),
    ],
)  # fmt: skip
def test_attach_chooses_the_streams_that_are_shown(
    busybox_store: Store, given: list[str], out: str, err: str
) -> None:
    outcome = busybox_store.strata(
        "run", "--name", "chosen", *given, IMAGE, "sh", "-c", f"cat; {BOTH}", input="in\n"
    )
    assert (outcome.rc, outcome.out, outcome.err) == (3, out, err)
    # What is not shown is in the log nevertheless.
    assert busybox_store.ok("logs", "chosen").err == "err\n"
    busybox_store.ok("rm", "chosen")


def test_attached_to_standard_input_alone_the_id_is_printed(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "-a", "stdin", "--name", "alone", IMAGE, "sh", "-c", BOTH)
    found = busybox_store.ok("inspect", "--format", "{{.Id}}", "alone").out
    assert (outcome.rc, outcome.out, outcome.err) == (3, found, "")
    busybox_store.ok("rm", "alone")


def test_streams_that_do_not_exist_are_refused(busybox_store: Store) -> None:
    for words in (["-a", "foo"], ["-a", ""], ["-a", "stdout", "--log-driver", "passthrough"]):
        outcome = busybox_store.strata("run", "--rm", "--name", "bad", *words, IMAGE, "true")
        assert outcome.rc == 125
        assert "attach" in outcome.err, repr(outcome)
        assert busybox_store.strata("container", "exists", "bad").rc == 1
