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

A database that cannot be told so is held still like ``freeze``, the choice for everything else. A
CMD that fails prevents the snapshot; it is called with ``end`` then too, as it may have begun.

Everything has a deadline, and what a database was told ends by itself when we are killed: a session
with its pipe, a pause with its time.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from strata import command, trace
from strata.engine.containers import life
from strata.engine.core import Engine, Record
from strata.engine.history.freezing import LIMIT, Freeze
from strata.errors import Busy, StateImproper, StrataError, UsageError
from strata.linux import cgroup
from strata.linux.tree import remove_file
from strata.runtime import exec as executing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LABEL = "io.strata.quiesce"
MODES = ("postgres", "mysql", "redis", "sqlite", "freeze", "none")
#: seconds one request inside a container may take
_DEADLINE = 30.0
#: and how long a session may take to end
_END = 5.0
_OUTPUT = 4096
#: part of an image's or program's name -> how it is quiesced
_KNOWN = {
    "postgres": "postgres", "postgresql": "postgres", "postgis": "postgres",
    "timescaledb": "postgres", "pgvector": "postgres",
    "mysql": "mysql", "mysqld": "mysql", "mariadb": "mysql", "mariadbd": "mysql",
    "percona": "mysql",
    "redis": "redis", "redis-server": "redis", "valkey": "redis", "valkey-server": "redis",
}  # fmt: skip
#: mode -> the program that is it, whose user speaks to it; otherwise that of the first process
_SERVERS = {"postgres": ("postgres", "postmaster"), "redis": ("redis-server", "valkey-server")}

_PSQL = 'exec psql -X -q -w -U "${POSTGRES_USER:-postgres}" -d postgres -c CHECKPOINT'
# As root of the system too, who needs no password where the socket tells who asks. An option file
# of its has the last word.
_MYSQL = (
    "c=$(command -v mariadb || command -v mysql) || { echo no client >&2; exit 127; }; "
    'p="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}"; '
    'f="${MARIADB_ROOT_PASSWORD_FILE:-$MYSQL_ROOT_PASSWORD_FILE}"; '
    '[ -z "$f" ] || read -r p <"$f"; '
    'MYSQL_PWD="$p" exec "$c" -uroot --unbuffered --skip-column-names --batch'
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
        self._still = still
        self._freeze: Freeze | None = None
        self._checks: list[Callable[[], None]] = []
        self._ends: list[Callable[[], object]] = []

    def __enter__(self) -> Quiesced:
        try:
            frozen = [record for record, mode in self._modes
                      if not self._begin(record, mode) or self._still]  # fmt: skip
            trace.point("quiesce:begun")
            self._freeze = Freeze(self._e, frozen).__enter__()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._freeze is not None:
            self._freeze.thaw()
        self._end()

    def check(self) -> None:
        """Raise `Busy` unless everything held until now."""
        if self._freeze is not None:
            self._freeze.check()
            self._freeze.thaw()  # who does not run cannot answer
        for check in self._checks:
            check()

    def _end(self) -> None:
        while self._ends:
            try:
                self._ends.pop()()
            except StrataError as error:
                self._report(error.message)

    def _begin(self, record: Record, mode: str) -> bool:
        """Bring one to a consistent state; whether that needs no freezing."""
        if mode.startswith("exec:"):
            self._begin_command(record, mode)
            return True
        try:
            if mode == "postgres":
                _run(self._e, record, ["sh", "-c", _PSQL], mode)
            elif mode == "redis":
                self._begin_redis(record)
            elif mode == "mysql":
                session = _Session(self._e, record)
                self._ends.append(session.close)
                self._checks.append(session.check)
        except StrataError as error:
            self._report(f"{record['name']}: {mode} could not be told, so it is held still: "
                         f"{error.message}")  # fmt: skip
            return False
        return mode != "freeze"

    def _begin_command(self, record: Record, mode: str) -> None:
        def call(moment: str) -> None:
            words = ["sh", "-c", mode[5:]]
            try:
                _run(self._e, record, words, "", env=[f"STRATA_QUIESCE={moment}"])
            except StrataError as error:
                raise StrataError(f"{record['name']}: {mode} failed: {error.message}",
                                  hint=error.hint) from None  # fmt: skip

        try:
            call("begin")
        except StrataError:
            with contextlib.suppress(StrataError):
                call("end")
            raise
        self._ends.append(lambda: call("end"))

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


def _find_user(record: Record, mode: str) -> str | None:
    """Who asks a database: root for ``mysql``, else whoever the server runs as; None: the user of
    the container."""
    if mode == "mysql":
        return "0:0"
    if not mode or record["config"].get("userns"):
        return None  # in a user namespace the numbers seen here are the host's
    try:
        with open(f"/proc/{_find_server(record, mode)}/status") as file:
            ids = dict(line.split(":", 1) for line in file if line.startswith(("Uid", "Gid")))
    except OSError as error:
        raise StateImproper("the container has just stopped") from error
    return ":".join(ids[key].split()[0] for key in ("Uid", "Gid"))


def _prepare(
    e: Engine, record: Record, words: list[str], mode: str, env: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The process to run in a container, as the user who may ask for a ``mode``."""
    from strata.runtime.host import read_host

    user = _find_user(record, mode)
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
    """A client of MySQL that holds a read lock until it is closed, or we are gone.

    The server itself bounds it: it gives up waiting for the lock, behind which all writers wait,
    after `LIMIT`, and ends a session that said nothing for as long.
    """

    def __init__(self, e: Engine, record: Record) -> None:
        process = _prepare(e, record, ["sh", "-c", _MYSQL], "mysql", ())
        self._name = record["name"]
        self._file = executing.write_process(e.paths.bundle(record["id"]), process)
        self._pid_file = f"{self._file.removesuffix('.json')}.pid"
        argv = executing.exec_argv(
            life.get_runtime(e, record), record["id"], self._file, pid_file=self._pid_file
        )
        stdin, self._in = os.pipe()
        self._out, stdout = os.pipe()
        try:
            self._pid = command.spawn(argv, stdin=stdin, stdout=stdout, stderr=stdout)
        finally:
            os.close(stdin)
            os.close(stdout)
        try:
            self._session = self._ask(
                f"SET SESSION lock_wait_timeout={LIMIT:.0f}; SET SESSION wait_timeout={LIMIT:.0f}; "
                "FLUSH TABLES WITH READ LOCK; "
            )
        except BaseException:
            self.close()
            raise

    def _ask(self, first: str = "") -> str:
        """Let the server do something; who it says the session is."""
        try:
            os.write(self._in, f"{first}SELECT 'session', CONNECTION_ID();\n".encode())
        except BrokenPipeError:
            pass  # what it said before it ended is still to be read
        waiter = select.poll()
        waiter.register(self._out, select.POLLIN)
        deadline = time.monotonic() + _DEADLINE
        said = b""
        while True:
            for line in said.split(b"\n")[:-1]:
                if line.startswith(b"session\t"):
                    return line.decode(errors="replace")
            left = deadline - time.monotonic()
            if left <= 0 or not waiter.poll(left * 1000):
                raise StrataError(f"no answer within {_DEADLINE:g} seconds")
            data = os.read(self._out, _OUTPUT)
            if not data:
                lines = said.decode(errors="replace").split("\n")
                raise StrataError(next((line for line in reversed(lines) if line), "no answer"))
            said += data

    def check(self) -> None:
        """Raise `Busy` when the lock is not held any more."""
        try:
            if self._ask() == self._session:
                return
        except StrataError:
            pass
        raise Busy(f"{self._name}: its database went on before the snapshot was taken",
                   hint="try again when the pool has less to do")  # fmt: skip

    def close(self) -> None:
        """End the session, and with it the lock."""
        os.close(self._in)
        os.close(self._out)
        executing.wait_or_kill(self._pid, self._pid_file, _END)
        for path in (self._file, self._pid_file):
            remove_file(path)
