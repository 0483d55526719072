"""Health checks: running the test of a container, and what follows from its result.

The result is part of the container's state: ``{"status", "streak", "log"}``, status starting,
healthy or unhealthy, the last `LOG_LENGTH` results with the beginning of their output. During the
start period failures do not count. Source: podman-healthcheck(1), libpod's healthcheck.go.
"""

from __future__ import annotations

import os
import time

from strata import jsontext, trace
from strata.engine import events
from strata.engine.containers import life, supervising
from strata.engine.core import Engine, Record
from strata.errors import NoSpace, StateImproper, StrataError, UsageError
from strata.store import files, lifecycle
from strata.times import format_time, parse_time

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
LOG_LENGTH = 5
OUTPUT_LIMIT = 500
#: what 0, "no limit", comes to: results, bytes
_LONGEST_LOG, _LONGEST_OUTPUT = 1000, 1 << 20


def make_state(record: Record) -> Record:
    """The health of a container that was just started."""
    found: Record = {"status": STARTING, "streak": 0, "log": []}
    if record["config"]["health"].get("startup"):
        found["startup"] = {"passed": False, "success": 0, "failure": 0}
    return found


def get_state(record: Record) -> Record:
    """What is known of a container's health since its start."""
    known = record["state"].get("health")
    return dict(known) if isinstance(known, dict) and known.get("status") else make_state(record)


def get_argv(record: Record) -> list[str]:
    """The words of the check that is due. `UsageError` when the container has none."""
    health = supervising.get_startup(record) or record["config"].get("health") or {}
    test = list(health.get("test") or ())
    if len(test) > 1 and test[0] == "CMD":
        return test[1:]
    if len(test) > 1 and test[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", " ".join(test[1:])]
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        return test
    raise UsageError(
        f"container {record['id'][:12]} has no defined healthcheck",
        hint="--health-cmd of `strata run` gives it one",
    )


def note_result(
    known: Record, entry: Record, *, retries: int, in_start_period: bool, length: int = LOG_LENGTH
) -> Record:  # fmt: skip
    """The health after one more result, of which the last ``length`` are kept. Pure."""
    known = {**known, "log": [*known["log"], entry][-length:]}
    if "startup" in known:
        known["startup"] = {**known["startup"], "due": False}
    if entry["ExitCode"] == 0:
        return {**known, "status": HEALTHY, "streak": 0}
    if in_start_period and known["status"] == STARTING:
        return known
    streak = known["streak"] + 1
    status = UNHEALTHY if streak >= max(1, retries) else known["status"]
    return {**known, "status": status, "streak": streak}


def note_startup(
    known: Record, entry: Record, *, success: int, length: int = LOG_LENGTH
) -> Record:  # fmt: skip
    """The health after a start-up check: it stays "starting", and after enough successes the
    regular check is due. Pure."""
    counts = dict(known["startup"])
    passed = entry["ExitCode"] == 0
    counts["success" if passed else "failure"] += 1
    counts["passed"] = counts["due"] = passed and counts["success"] >= max(1, success)
    return {**known, "log": [*known["log"], entry][-length:], "startup": counts}


def run_check(e: Engine, record: Record) -> tuple[bool, str]:
    """Run a container's check once, write down the result and act on it.

    Returns whether the check succeeded, and the health since. `StateImproper` when the container
    does not run.
    """
    argv = get_argv(record)
    if lifecycle.derive(record) != lifecycle.RUNNING:
        raise StateImproper(
            f"container {record['id'][:12]} is not running", hint="start the container first"
        )
    startup = supervising.get_startup(record)
    health = startup or record["config"]["health"]
    began = time.time()
    kept = record["config"]["health"]
    length = kept.get("log_count", LOG_LENGTH) or _LONGEST_LOG
    limit = kept.get("log_size", OUTPUT_LIMIT) or _LONGEST_OUTPUT
    code, output = _execute(e, record, argv, float(health.get("timeout") or 30), limit)
    entry = {"Start": format_time(began), "End": format_time(time.time()), "ExitCode": code,
             "Output": output}  # fmt: skip
    trace.point("health:checked")
    with e.hold(record) as fresh:
        if fresh["state"]["pid_start"] != record["state"]["pid_start"]:
            # Of a run that is over: it says nothing of this one.
            return code == 0, get_state(fresh)["status"]
        known = get_state(fresh)
        if startup and not supervising.get_startup(fresh):
            # Another check was faster, and the last one needed.
            return code == 0, str(known["status"])
        if startup:
            found = note_startup(known, entry, success=startup["success"], length=length)
        else:
            age = time.time() - parse_time(fresh["state"]["started"])
            found = note_result(
                known, entry, retries=int(health.get("retries") or 3),
                in_start_period=age < float(health.get("start_period") or 0), length=length,
            )  # fmt: skip
        fresh["state"]["health"] = found
        e.records.save(fresh, durable=False)
    to = str(kept.get("log_to") or "local")
    more = {"check": jsontext.dumps_foreign(entry)} if to == "events_logger" else {}
    events.emit_container(
        e, "health_status", fresh, health=found["status"], streak=found["streak"], **more
    )
    if found.get("startup", {}).get("due") and supervising.is_needed(fresh):
        # A check by hand may have been the last one needed, and nobody has waited for it.
        supervising.mark(e, fresh["id"])
    if startup and code != 0 and 0 < startup["retries"] <= found["startup"]["failure"]:
        _react(e, fresh, "restart")
    if found["status"] == UNHEALTHY:
        _react(e, fresh, str(health.get("on_failure") or "none"))
    if to.startswith("/"):
        _write_results(f"{to}/{record['id']}-healthcheck.log", found)
    return code == 0, str(found["status"])


def _write_results(path: str, found: Record) -> None:
    """Write what is known of a container's health where it was asked for, as Podman does."""
    text = jsontext.dumps_foreign(
        {"Status": found["status"], "FailingStreak": found["streak"], "Log": found["log"]}
    )
    try:
        files.write_bytes(path, text.encode(errors="surrogateescape"), durable=False)
    except (OSError, NoSpace) as error:
        why = str(getattr(error, "strerror", None) or "no space left on device").lower()
        raise UsageError(
            f"unable to update health check log {path}: {why}",
            hint="the result is in the container's record nevertheless",
        ) from None


def _execute(
    e: Engine, record: Record, argv: list[str], timeout: float, limit: int
) -> tuple[int, str]:
    from strata.runtime import exec as executing
    from strata.runtime.host import read_host

    root = executing.open_root(record["state"]["pid"])
    try:
        process = executing.make_process(record, root, argv, host=read_host(record["config"]))
    except StrataError as error:
        return error.exit_code, error.message[:limit]
    finally:
        os.close(root)
    code, data = executing.run_captured(
        life.get_runtime(e, record), record["id"], e.paths.bundle(record["id"]), process,
        timeout=timeout, limit=limit,
    )  # fmt: skip
    if code is None:
        return -1, f"Healthcheck command exceeded timeout ({timeout:g}s)"
    return code, data.decode(errors="replace")


def _react(e: Engine, record: Record, action: str) -> None:
    """Do what ``--health-on-failure`` says, unless somebody was faster."""
    try:
        if action == "kill":
            life.kill_container(e, record, 9)
        elif action == "stop":
            life.stop_container(e, record)
        elif action == "restart":
            from strata.engine.containers.restarting import restart

            restart(e, record["id"])
    except StateImproper:
        return
