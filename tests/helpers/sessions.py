"""Sessions in the documents: run again as they stand there, at a terminal, and compared.

A block of a page is a session when its first line is a prompt, ``$`` or ``#``, and a command of
``strata``. What differs from one run to the next (ids, times) is no part of its `shape`. With
STRATA_WRITE_SESSIONS=1 the block is replaced by what the commands printed, instead of compared.
"""

from __future__ import annotations

import difflib
import os
import pty
import re
import shlex
import subprocess
import sys

from helpers.store import TOP, Store

WRITES = os.environ.get("STRATA_WRITE_SESSIONS") == "1"
_PROMPT = re.compile(r"[$#] (?=[a-z])")
_CHANGING = (
    (re.compile(r"\b[0-9a-f]{8,64}\b"), "<id>"),
    (re.compile(r"Less than a second ago|About a minute ago|\d+ (?:second|minute)s? ago"), "<ago>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "<date>"),
    (re.compile(r" {2,}"), "  "),
)


def read_sessions(page: str) -> list[list[str]]:
    """The lines of each session of a page, in order."""
    with open(f"{TOP}/{page}") as file:
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in blocks if re.match(r"[$#] strata ", block)]


def replay(store: Store, session: list[str]) -> list[str]:
    """Run the commands of a session one after the other; their lines and what they printed."""
    folder = f"{store.base}/bin"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/strata", "w") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(store.argv())} "$@"\n')
    os.chmod(f"{folder}/strata", 0o755)
    lines = []
    for line in session:
        if _PROMPT.match(line):
            lines += [line, *_run_at_terminal(line[2:], folder)]
    return lines


def _run_at_terminal(command: str, folder: str) -> list[str]:
    """What a user sees who gives a command, without colours."""
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": TOP,
                   "NO_COLOR": "1", "LC_ALL": "C.UTF-8", "TERM": "xterm"}  # fmt: skip
    ours, theirs = pty.openpty()
    said = b""
    with subprocess.Popen(["sh", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs,
                          env=environment, start_new_session=True):  # fmt: skip
        os.close(theirs)
        while piece := _read(ours):
            said += piece
    os.close(ours)
    return said.decode().replace("\r\n", "\n").splitlines()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # EIO: the last that had the terminal has closed it
        return b""


def get_shape(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run."""
    found = []
    for line in lines:
        for pattern, word in _CHANGING:
            line = pattern.sub(word, line)
        found.append(line.rstrip())
    return found


def check_session(store: Store, page: str, number: int) -> None:
    """Run a session of a page again, and see that the page tells what happens; or write it."""
    session = read_sessions(page)[number]
    lines = [line.rstrip() for line in replay(store, session)]
    if WRITES:
        with open(f"{TOP}/{page}") as file:
            text = file.read()
        with open(f"{TOP}/{page}", "w") as file:
            file.write(text.replace("\n".join(session), "\n".join(lines)))
        print(f"written: session {number} of {page}", file=sys.stderr)
        return
    told, shown = get_shape(session), get_shape(lines)
    differing = difflib.unified_diff(told, shown, page, "terminal", lineterm="")
    assert shown == told, "\n".join(differing)
