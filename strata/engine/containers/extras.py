"""What only some containers ask for, checked and prepared: loaded when a record has such a key.

`resolve` runs before a container is made, so that what this host cannot do makes nothing;
`prepare` runs before each start, as hosts change.
"""

from __future__ import annotations

import os

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.errors import NotFound, StateImproper, UsageError
from strata.runtime import limits
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.runtime.launch import Launched


def resolve(e: Engine, config: Record) -> None:
    """Check a planned ``config`` against this host, and turn names in it into ids."""
    limits.check(config, e.driver.name)
    if "requires" in config:
        config["requires"] = [names.get_container(e, text)["id"] for text in config["requires"]]


def prepare(e: Engine, record: Record) -> None:
    """Start what a container needs, and check once more what this host can do."""
    config = record["config"]
    if lifecycle.derive(record) in lifecycle.LIVE:
        return
    limits.check(config, e.driver.name)
    if "requires" in config:
        start_required(e, record)


def start_required(e: Engine, record: Record, above: tuple[str, ...] = ()) -> None:
    """Start the containers that this one requires, and theirs first. Idempotent."""
    from strata.engine.containers import life

    for needed in record["config"].get("requires", ()):
        other = e.records.find("container", needed)
        if other is None:
            raise NotFound(
                f"container {record['name']} requires container {needed[:12]}, which is gone",
                hint="make it anew without --requires",
            )
        if other["id"] in (*above, record["id"]):
            raise StateImproper(f"containers require each other: {record['name']}, {other['name']}")
        if lifecycle.derive(other) not in lifecycle.LIVE:
            start_required(e, other, (*above, record["id"]))
            life.ensure_started(e, other)


def write_pid_files(config: Record, launched: Launched) -> None:
    """Write the pids that ``--pidfile`` and ``--conmon-pidfile`` ask for, each file at once."""
    for key, pid in (("pidfile", launched.pid), ("conmon_pidfile", launched.conmon_pid)):
        path = config.get(key)
        if not path:
            continue
        try:
            with open(f"{path}.{os.getpid()}", "x") as file:
                file.write(str(pid))
            os.rename(f"{path}.{os.getpid()}", path)
        except OSError as error:
            raise UsageError(f"cannot write the pid file {path}: {error.strerror}") from None
