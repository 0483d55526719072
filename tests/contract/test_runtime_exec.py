"""Further processes in a running container."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.containers import Box, Container, box, wait_for_path

from strata.errors import RuntimeFailure
from strata.runtime import exec as exec_
from strata.runtime.host import read_host

pytestmark = pytest.mark.root
_ = box


@pytest.fixture(params=["crun", "runc"])
def running(request: pytest.FixtureRequest, box: Box) -> Iterator[Container]:
    container = box.start(["sleep", "1000"], env=["OWN=1", "BOTH=container"],
                          runtime=request.param)  # fmt: skip
    yield container
    container.end()
    box.containers.remove(container)


def run(container: Container, argv: list[str], *, stdin: bytes | None = None,
        detach: bool = False, **options: Any) -> tuple[int, str]:  # fmt: skip
    root = exec_.open_root(container.launched.pid)
    try:
        process = exec_.make_process(container.record, root, argv, host=read_host({}), **options)
    finally:
        os.close(root)
    source = None
    if stdin is not None:
        source = os.memfd_create("input")
        os.write(source, stdin)
        os.lseek(source, 0, os.SEEK_SET)
    output = os.memfd_create("output")
    try:
        code = exec_.run(
            container.runtime, container.id, container.bundle, process, stdin=source,
            stdout=output, stderr=output, detach=detach,
        )  # fmt: skip
        return code, os.pread(output, 1 << 20, 0).decode()
    finally:
        os.close(output)
        if source is not None:
            os.close(source)


def test_codes_output_and_identity(running: Container) -> None:
    assert run(running, ["sh", "-c", "exit 7"])[0] == 7
    assert run(running, ["sh", "-c", "exit 255"])[0] == 255
    assert run(running, ["sh", "-c", "kill -9 $$"])[0] == 137
    assert run(running, ["cat"], stdin=b"fed") == (0, "fed")
    assert run(running, ["cat"]) == (0, "")
    code, text = run(running, ["id"], user="app")
    assert (code, text.split()[0]) == (0, "uid=1000(app)")
    code, text = run(
        running, ["sh", "-c", "pwd; echo $OWN $BOTH $NEW $HOME; grep Seccomp: /proc/self/status"],
        workdir="/var/tmp", env=["BOTH=exec", "NEW=2"],
    )  # fmt: skip
    assert text == "/var/tmp\n1 exec 2 /root\nSeccomp:\t2\n"
    assert [name for name in os.listdir(running.bundle) if name.startswith("exec.")] == []


def test_what_cannot_run_has_podmans_codes(running: Container) -> None:
    with pytest.raises(RuntimeFailure, match="not found") as caught:
        run(running, ["nosuch"])
    assert caught.value.exit_code == 127
    with pytest.raises(RuntimeFailure) as caught:
        run(running, ["/etc/plain"])
    assert caught.value.exit_code == 126
    with pytest.raises(RuntimeFailure, match="unable to find user"):
        run(running, ["true"], user="ghost")
    code, text = run(running, ["true"], workdir="/no/where")
    assert code == 127
    assert "/no/where" in text


def test_privileges_are_granted_to_one_process_only(running: Container) -> None:
    _, plain = run(running, ["grep", "CapEff", "/proc/self/status"])
    _, more = run(running, ["grep", "CapEff", "/proc/self/status"], privileged=True)
    assert int(plain.split()[1], 16) < int(more.split()[1], 16)


def test_detached_processes_run_on(running: Container) -> None:
    code, _ = run(running, ["sh", "-c", "echo here >/tmp/mark; sleep 1000"], detach=True)
    assert code == 0
    mark = f"{running.box.rootfs}/tmp/mark"
    assert wait_for_path(mark) == "here\n"
    os.unlink(mark)


def test_a_terminal_is_made_when_our_input_is_none(running: Container) -> None:
    code, text = run(running, ["sh", "-c", "tty; exit 5"], tty=True)
    assert (code, text[:8]) == (5, "/dev/pts")
    code, text = run(running, ["sh", "-c", "read a; echo got $a; cat"], tty=True, stdin=b"word\n")
    assert code == 0
    assert "got word" in text
    assert run(running, ["true"], tty=True, detach=True)[0] == 0
    assert [name for name in os.listdir(running.bundle) if name.startswith("exec.")] == []


def test_what_a_process_writes_last_on_its_terminal_is_not_lost(running: Container) -> None:
    """Also when nobody has a processor free for whoever passes it on."""
    script = "seq 3000; printf last; exit 3"
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(3)]
    try:
        for _ in range(10):
            code, text = run(running, ["sh", "-c", script], tty=True)
            # How lines end is not asked here: runc changes that on the way.
            lines = text.replace("\r", "").splitlines()
            assert (code, lines) == (3, [*map(str, range(1, 3001)), "last"])
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_terminal_ends_with_its_process_and_not_with_what_that_left(running: Container) -> None:
    begun = time.monotonic()
    code, text = run(running, ["sh", "-c", "setsid sleep 30 & echo left"], tty=True)
    assert (code, text) == (0, "left\r\n")
    assert time.monotonic() - begun < 20


def test_what_cannot_run_in_a_terminal_has_its_code(running: Container) -> None:
    code, _ = run(running, ["true"], tty=True, workdir="/no/where")
    assert code == 127


def test_a_stopped_container_is_said_to_be_one(running: Container) -> None:
    running.end()
    with pytest.raises(RuntimeFailure, match="just stopped"):
        exec_.open_root(running.launched.pid)
