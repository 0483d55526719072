"""The life cycle of a container, as one table.

``status`` in a record is what was last written; `derive` compares it with facts (this boot, the
process with its start time), so a killed engine or a reboot never leaves a lie. The words are
Podman's: created, running, stopping, exited, removing (paused comes with ``pause``).
"""

from __future__ import annotations

from strata.errors import StateImproper
from strata.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.store.files import Record

CREATED = "created"
RUNNING = "running"
STOPPING = "stopping"
EXITED = "exited"
REMOVING = "removing"

#: verb -> the statuses it may start from
ALLOWED: dict[str, frozenset[str]] = {
    "start": frozenset({CREATED, EXITED}),
    "stop": frozenset({CREATED, RUNNING, STOPPING, EXITED}),
    "kill": frozenset({RUNNING, STOPPING}),
    "exec": frozenset({RUNNING}),
    "attach": frozenset({RUNNING}),
    "remove": frozenset({CREATED, EXITED, REMOVING}),
    "rollback": frozenset({CREATED, EXITED}),
}
LIVE = frozenset({RUNNING, STOPPING})

_SENTENCES = {
    "kill": "can only kill running containers. {name} is in state {status}",
    "exec": "can only create exec sessions on running containers: {name} is in state {status}",
    "attach": "you cannot attach to a stopped container ({name} is in state {status})",
    "remove": "cannot remove container {name} as it is {status} - running or paused containers "
    "cannot be removed without force",
}
_HINTS = {
    "exec": "`strata start {name}` starts it",
    "attach": "`strata start --attach {name}` starts it and attaches",
    "remove": "stop it first, or use `strata rm --force {name}`",
    "start": "it is running already",
}


def make_state() -> Record:
    """The state of a container that never ran."""
    return {
        "status": CREATED, "pid": 0, "pid_start": 0, "conmon_pid": 0, "conmon_start": 0,
        "boot_id": "", "started": "", "finished": "", "exit_code": 0, "oom": False, "error": "",
    }  # fmt: skip


def is_alive(state: Record) -> bool:
    """Whether the container's own process still runs, in this boot."""
    pid, start = state.get("pid"), state.get("pid_start")
    if not isinstance(pid, int) or not isinstance(start, int) or pid <= 0:
        return False
    return process.is_alive(pid, start) and is_of_this_boot(state)


def is_of_this_boot(state: Record) -> bool:
    """Whether the pids in a state can name its processes. Start times count from the boot, so
    after another one a stranger may have both numbers."""
    return state.get("boot_id") in (None, "", process.get_boot_id())


def derive(record: Record) -> str:
    """The status by the facts: a record that says running whose process is gone has exited."""
    status = str(record["state"].get("status", CREATED))
    if status in LIVE and not is_alive(record["state"]):
        return EXITED
    return status


def check(verb: str, record: Record, status: str) -> None:
    """Raise `StateImproper` when ``verb`` may not start from ``status``."""
    if status in ALLOWED[verb]:
        return
    sentence = _SENTENCES.get(verb, "cannot {verb} container {name}: it is {status}")
    name = record["name"]
    raise StateImproper(
        sentence.format(verb=verb, name=name, status=status),
        hint=_HINTS.get(verb, "").format(name=name),
    )
