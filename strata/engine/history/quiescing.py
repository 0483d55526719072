"""Bringing what runs in containers to a consistent state for the moment of a snapshot.

A snapshot of one dataset is of one moment, so every program that survives a power cut survives
being started from it. That is all most need. Some want more, and say so by the label `LABEL` or
are known by their image:

===========  =================================================================================
``postgres``  a CHECKPOINT first, so that starting from the snapshot replays little
``mysql``     FLUSH TABLES WITH READ LOCK, held by a session over the moment (MySQL, MariaDB)
``redis``     writers wait (CLIENT PAUSE) and, without an append-only file, a SAVE (Redis, Valkey)
``sqlite``    nothing before: its journal is of the same moment as its data
``exec:CMD``  CMD in the container, as its user, before and after, with ``STRATA_QUIESCE`` set to
              ``begin`` or ``end``
``freeze``    all processes are held still (`strata.engine.history.freezing`)
``none``      nothing
===========  =================================================================================

Everything has a deadline, and what a database was told ends by itself when we are killed: a session
with its pipe, a pause with its time.
"""

from __future__ import annotations

import os
import select

from strata import command, trace
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.engine.history.freezing import LIMIT, Freeze
from strata.errors import StrataError, UsageError
from strata.linux import cgroup
from strata.runtime import exec as executing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LABEL = "io.strata.quiesce"
MODES = ("postgres", "mysql", "redis", "sqlite", "freeze", "none")
#: seconds one request inside a container may take
_DEADLINE = 30.0
_OUTPUT = 4096
#: part of an image's or program's name -> how it is quiesced
_KNOWN = {
    "postgres": "postgres", "postgresql": "postgres", "postgis": "postgres",
    "timescaledb": "postgres", "pgvector": "postgres",
    "mysql": "mysql", "mysqld": "mysql", "mariadb": "mysql", "mariadbd": "mysql",
    "percona": "mysql",
    "redis": "redis", "redis-server": "redis", "valkey": "redis", "valkey-server": "redis",
}  # fmt: skip
#: mode -> the program that is it, whose user speaks to it
_SERVERS = {
    "postgres": ("postgres", "postmaster"), "mysql": ("mysqld", "mariadbd"),
    "redis": ("redis-server", "valkey-server"),
}  # fmt: skip

_PSQL = 'exec psql -X -q -w -U "${POSTGRES_USER:-postgres}" -d postgres -c CHECKPOINT'
_MYSQL = (
    "c=$(command -v mariadb || command -v mysql) || { echo no client >&2; exit 127; }; "
    'MYSQL_PWD="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}" '
    'exec "$c" -uroot --unbuffered --skip-column-names --batch'
)  # fmt: skip
_REDIS = (
    "c=$(command -v redis-cli || command -v valkey-cli) || { echo no redis-cli >&2; exit 127; }; "
    'p="${REDISCLI_AUTH:-$REDIS_PASSWORD}"; [ -z "$p" ] || export REDISCLI_AUTH="$p"; '
)  # fmt: skip


def check_mode(text: str) -> str:
    """Check what a label or ``--quiesce`` says. `UsageError`."""
    if text in MODES or (text.startswith("exec:") and text[5:].strip()):
        return text
    raise UsageError(
        f"invalid way to quiesce {text!r}", hint=f"one of {', '.join(MODES)} or exec:COMMAND"
    )


def choose(record: Record) -> tuple[str, str]:
    """How a container is quiesced and how that is known: its label, its image, or a default."""
    label = record["config"]["labels"].get(LABEL)
    if label:
        return check_mode(label), "by its label"
    config = record["config"]
    image = record["image_name"].rpartition("/")[2].partition("@")[0].partition(":")[0]
    program = os.path.basename(([*config["entrypoint"], *config["command"], ""])[0])
    for name in (image, *image.split("-"), program):
        if name in _KNOWN:
            return _KNOWN[name], "by its image" if name != program else "by its program"
    return "none", ""


class Quiesced:
    """Containers brought to a consistent state; a context manager around the moment.

    ``modes``: container record and mode. ``still``: all of them are frozen as well, because the
    snapshots are of several moments.
    """

    def __init__(
        self, e: Engine, modes: Sequence[tuple[Record, str]], *, still: bool,
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._e = e
        self._modes = modes
        self._report = report
        frozen = [record for record, mode in modes if still or mode == "freeze"]
        self._freeze = Freeze(e, frozen)
        self._ends: list[Callable[[], object]] = []

    def __enter__(self) -> Quiesced:
        try:
            for record, mode in self._modes:
                self._begin(record, mode)
            trace.point("quiesce:begun")
            self._freeze.__enter__()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._freeze.thaw()
        self._end()

    def check(self) -> None:
        """Raise `Busy` unless everything held until now."""
        self._freeze.check()

    def _end(self) -> None:
        while self._ends:
            try:
                self._ends.pop()()
            except StrataError as error:
                self._report(error.message)

    def _begin(self, record: Record, mode: str) -> None:
        try:
            if mode == "postgres":
                _run(self._e, record, ["sh", "-c", _PSQL], mode)
            elif mode == "redis":
                self._begin_redis(record)
            elif mode == "mysql":
                self._ends.append(_Session(self._e, record).close)
            elif mode.startswith("exec:"):
                words = ["sh", "-c", mode[5:]]
                _run(self._e, record, words, "", env=["STRATA_QUIESCE=begin"])
                self._ends.append(
                    lambda: _run(self._e, record, words, "", env=["STRATA_QUIESCE=end"])
                )
        except StrataError as error:
            if mode.startswith("exec:"):
                raise StrataError(f"{record['name']}: {mode} failed: {error.message}",
                                  hint=error.hint) from None  # fmt: skip
            # The snapshot is still what a power cut would leave, which every database survives.
            self._report(f"{record['name']}: {mode} could not be told: {error.message}")

    def _begin_redis(self, record: Record) -> None:
        pause = f'"$c" CLIENT PAUSE {LIMIT * 1000:.0f} WRITE'
        resume = ["sh", "-c", f'{_REDIS} exec "$c" CLIENT UNPAUSE']
        save = 'case $("$c" CONFIG GET appendonly) in *yes*) ;; *) "$c" SAVE ;; esac'
        said = _run(self._e, record, ["sh", "-c", f"{_REDIS} {pause} && {save}"], "redis")
        self._ends.append(lambda: _run(self._e, record, resume, "redis"))
        if "ERR" in said or "NOAUTH" in said:
            raise StrataError(" ".join(said.split()))


def _find_server(record: Record, mode: str) -> int:
    """The pid of the server in a container, else of its first process."""
    pid = int(record["state"]["pid"])
    for candidate in cgroup.list_processes(pid):
        try:
            with open(f"/proc/{candidate}/comm") as file:
                if file.read().strip() in _SERVERS.get(mode, ()):
                    return candidate
        except OSError:
            continue
    return pid


def _prepare(
    e: Engine, record: Record, words: list[str], mode: str, env: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The process to run in a container: as its user, or as that of the server for a ``mode``."""
    from strata.runtime.host import read_host

    user = None
    if mode:
        with open(f"/proc/{_find_server(record, mode)}/status") as file:
            ids = dict(line.split(":", 1) for line in file if line.startswith(("Uid", "Gid")))
        user = ":".join(ids[key].split()[0] for key in ("Uid", "Gid"))
        if record["config"].get("userns"):
            user = None  # those are the host's numbers
    root = executing.open_root(record["state"]["pid"])
    try:
        return executing.make_process(
            record, root, words, host=read_host(record["config"]), env=env, user=user
        )
    finally:
        os.close(root)


def _run(
    e: Engine, record: Record, words: list[str], mode: str, *, env: Sequence[str] = ()
) -> str:  # fmt: skip
    """Run a program in a container; what it said. `StrataError` when it fails or takes too long."""
    code, data = executing.run_captured(
        life.get_runtime(e, record), record["id"], e.paths.bundle(record["id"]),
        _prepare(e, record, words, mode, env), timeout=_DEADLINE, limit=_OUTPUT,
    )  # fmt: skip
    said = data.decode(errors="replace")
    if code is None:
        raise StrataError(f"no answer within {_DEADLINE:g} seconds")
    if code != 0:
        lines = said.strip().splitlines()
        raise StrataError(
            f"{lines[-1] if lines else 'no output'} (exit code {code})",
            hint="--quiesce none takes the snapshot without asking what runs there",
        )
    return said


class _Session:
    """A client of MySQL that holds a read lock until it is closed, or we are gone."""

    def __init__(self, e: Engine, record: Record) -> None:
        import json

        process = _prepare(e, record, ["sh", "-c", _MYSQL], "mysql", ())
        bundle = e.paths.bundle(record["id"])
        self._file = f"{bundle}/exec.{os.getpid()}.{os.urandom(4).hex()}.json"
        with open(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(process, file)
        argv = executing.exec_argv(life.get_runtime(e, record), record["id"], self._file)
        stdin, self._in = os.pipe()
        self._out, stdout = os.pipe()
        try:
            self._pid = command.spawn(argv, stdin=stdin, stdout=stdout, stderr=stdout)
        finally:
            os.close(stdin)
            os.close(stdout)
        try:
            os.write(self._in, b"FLUSH TABLES WITH READ LOCK; SELECT 'locked';\n")
            self._wait_locked()
        except BaseException:
            self.close()
            raise

    def _wait_locked(self) -> None:
        waiter = select.poll()
        waiter.register(self._out, select.POLLIN)
        said = b""
        while b"locked" not in said.splitlines():
            if not waiter.poll(_DEADLINE * 1000):
                raise StrataError(f"no lock within {_DEADLINE:g} seconds")
            data = os.read(self._out, _OUTPUT)
            if not data:
                raise StrataError(" ".join(said.decode(errors="replace").split()) or "no answer")
            said += data

    def close(self) -> None:
        """End the session, and with it the lock."""
        os.close(self._in)
        os.close(self._out)
        command.wait(self._pid)
        os.unlink(self._file)
