"""Processes that outlive their caller: also for a caller that is itself a copy."""

from __future__ import annotations

import os
import select
import signal

from strata.linux.detached import run_detached


def test_a_copy_of_a_process_starts_one_of_its_own() -> None:
    ours, theirs = os.pipe()

    def tell(word: bytes) -> None:
        os.write(theirs, word)

    run_detached(lambda: tell(b"a"))
    assert os.read(ours, 1) == b"a"
    pid = os.fork()
    if pid == 0:
        try:
            run_detached(lambda: tell(b"b"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.read(ours, 1) == b"b"
    for fd in (ours, theirs):
        os.close(fd)


def test_it_has_a_session_of_its_own_and_no_descriptor_that_others_inherit() -> None:
    ours, theirs = os.pipe()
    handed, other = os.pipe()
    os.set_inheritable(other, True)

    def tell() -> None:
        own = os.getsid(0) == os.getpid()
        try:
            os.fstat(other)
        except OSError:
            own = own and True
        else:
            own = False
        os.write(theirs, b"y" if own else b"n")

    run_detached(tell)
    assert os.read(ours, 1) == b"y"
    for fd in (ours, theirs, handed, other):
        os.close(fd)


def test_it_outlives_the_terminal_of_its_caller() -> None:
    """The end of a session's first process hangs up its group, where the copy is at first."""
    ours, theirs = os.pipe()

    def be_first() -> None:
        os.setsid()
        run_detached(lambda: os.write(theirs, b"done"))
        os.killpg(0, signal.SIGHUP)

    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                be_first()
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGHUP
        ready, _, _ = select.select([ours], [], [], 10)
        assert ready, "it was hung up with its caller"
        assert os.read(ours, 4) == b"done"
    for fd in (ours, theirs):
        os.close(fd)
