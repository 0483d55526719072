"""``restart``: stop and start as one operation, so that a killed command leaves it running."""

from __future__ import annotations

from strata import trace
from strata.engine import events, names
from strata.engine.containers import drivers, life
from strata.engine.core import Engine
from strata.errors import StrataError
from strata.store import lifecycle


def restart(e: Engine, name: str, *, time: int | None = None) -> None:
    """Stop a container (see ``stop``) and start it again; start one that does not run.

    `StateImproper` for a paused one. When the start fails the container stays stopped.
    """
    record = names.get_container(e, name)
    status = lifecycle.derive(record)
    lifecycle.check("restart", record, status)
    if record["config"]["log_driver"].startswith("passthrough"):
        # It is to have the streams of this command: not found out when it is stopped already.
        drivers.check_streams(record["config"], record["name"])
    with e.begin("restart", ["restart", record["id"]]) as operation:
        events.emit_container(e, "restart", record)
        if status in lifecycle.LIVE:
            life.stop_container(e, record, time=time, held=True)
        trace.point("restart:stopped")
        try:
            life.ensure_started(e, e.records.get("container", record["id"]))
        except StrataError:
            # What cannot start now is not tried again by the next command.
            operation.replace()
            raise
