"""One hierarchy of errors: id, sentence, exit code, hint.

    StrataError
    ├── UsageError            bad options, arguments or values                      125
    ├── NotFound              no such container, image, volume, snapshot, store     125
    │   └── StoreMissing      the store is not there (never made, pool not imported)
    ├── AlreadyExists         the name is taken                                     125
    ├── InUse                 something still needs the object; lists what          125
    ├── StateImproper         the life-cycle table forbids this step now            125
    ├── Busy                  a lock was not free before the deadline               125
    ├── NoSpace               the pool or a quota is full                           125
    ├── CommandFailed         a program failed and nobody could say why             125
    ├── StorageError          the storage driver refused                            125
    ├── RegistryError         the registry refused, lied or vanished                125
    │   ├── Unauthorized
    │   └── DigestMismatch    content does not match its digest or size
    ├── ArchiveError          a layer or archive is malformed or hostile            125
    ├── RecordError           a record is damaged or from a newer version           125
    └── RuntimeFailure        the OCI runtime could not start the process           125..127

Only ``strata.cli.main`` prints an error and exits. Text for people is ``message``; ``hint`` says
what to do next, in one line. Ids are stable and appear with ``--format json``.
"""

from __future__ import annotations


class StrataError(Exception):
    """Base of every error a user may see. ``exit_code`` is what the command returns."""

    id = "error"
    exit_code = 125

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(StrataError):
    """Bad options, arguments or values."""

    id = "usage"


class NotFound(StrataError):
    """The named object does not exist."""

    id = "not-found"


class StoreMissing(NotFound):
    """The store is not there: never made, pool not imported, or its marker is absent."""

    id = "store-missing"


class AlreadyExists(StrataError):
    """The name is taken."""

    id = "already-exists"


class InUse(StrataError):
    """Something still needs the object; the message lists what."""

    id = "in-use"


class StateImproper(StrataError):
    """The life-cycle table forbids this step in the present state."""

    id = "state-improper"


class Busy(StrataError):
    """A kernel lock was not free before the deadline, or the kernel says busy."""

    id = "busy"


class NoSpace(StrataError):
    """The pool or a quota is full."""

    id = "no-space"


class CommandFailed(StrataError):
    """A program failed and its text could not be interpreted; carries argv, code and stderr."""

    id = "command-failed"

    def __init__(self, argv: list[str], returncode: int, stderr: str, *, hint: str = "") -> None:
        self.argv = argv
        self.returncode = returncode
        self.stderr = stderr
        how = f"was killed by signal {-returncode}" if returncode < 0 else f"failed ({returncode})"
        text = " ".join(stderr.split())
        super().__init__(f"{argv[0]} {how}: {text}" if text else f"{argv[0]} {how}", hint=hint)


class StorageError(StrataError):
    """The storage driver refused."""

    id = "storage"


class RegistryError(StrataError):
    """The registry refused, lied or vanished."""

    id = "registry"


class Unauthorized(RegistryError):
    """The registry wants credentials that were not given or not accepted."""

    id = "unauthorized"


class DigestMismatch(RegistryError):
    """Content does not match its digest or size."""

    id = "digest-mismatch"


class ArchiveError(StrataError):
    """A layer or archive is malformed or hostile."""

    id = "archive"


class RecordError(StrataError):
    """A record is damaged or was written by a newer version."""

    id = "record"


class RuntimeFailure(StrataError):
    """The OCI runtime could not start the process (126 cannot run, 127 not found, else 125)."""

    id = "runtime"


class NetworkError(StrataError):
    """Links, addresses or rules could not be made as planned."""

    id = "network"
