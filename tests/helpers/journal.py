"""A systemd journal of the test's own, whatever the machine runs.

It lives in a mount namespace with a /run of its own, so the machine's journal, if any, gets
nothing. `use_journal` is a `Store` whose commands run in there.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from helpers.store import TOP, Store, wait_until

_PROGRAM = "/lib/systemd/systemd-journald"
_SETTINGS = """\
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
ForwardToConsole=no
RateLimitBurst=0
"""
_START = f"""\
mount -t tmpfs journal /run && mkdir -p /run/systemd/journald.conf.d /run/log/journal &&
printf %s "$1" >/run/systemd/journald.conf.d/test.conf && exec {_PROGRAM}
"""


class JournalStore(Store):
    """Another's store, used from the namespace ``mnt`` in which a journal runs."""

    def __init__(self, other: Store, mnt: str) -> None:
        super().__init__(other.base, networks=other.networks)
        self.mnt = mnt

    def argv(self, *args: str) -> list[str]:
        words = super().argv(*args)
        return ["nsenter", f"--mount={self.mnt}", "--", "sh", "-c", 'cd "$0" && exec "$@"', TOP,
                *words]  # fmt: skip

    def journal(self, *args: str) -> str:
        """What journalctl prints."""
        argv = ["nsenter", f"--mount={self.mnt}", "--", "journalctl", "--quiet", *args]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def use_journal(store: Store) -> Iterator[JournalStore]:
    """The store with a journal, which ends with the block."""
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _START, "sh", _SETTINGS]
    ) as program:
        try:
            made = JournalStore(store, f"/proc/{program.pid}/ns/mnt")
            probe = ["nsenter", f"--mount={made.mnt}", "--", "journalctl", "--sync"]

            def answers() -> bool:
                assert program.poll() is None, "the journal has ended"
                return subprocess.run(probe, capture_output=True, check=False).returncode == 0

            wait_until(answers, "a journal that answers")
            yield made
        finally:
            program.kill()
