"""The life cycle of a container, as one table.

``status`` in a record is what was last written; `derive` compares it with facts (this boot, the
process with its start time), so a killed engine or a reboot never leaves a lie. The words are
Podman's: created, initialized (only the process does not run yet), running, paused, stopping,
exited, removing.
"""

from __future__ import annotations

from strata.errors import StateImproper
from strata.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.store.files import Record

CREATED = "created"
INITIALIZED = "initialized"
RUNNING = "running"
PAUSED = "paused"
STOPPING = "stopping"
EXITED = "exited"
REMOVING = "removing"

#: verb -> the statuses it may start from
ALLOWED: dict[str, frozenset[str]] = {
    "init": frozenset({CREATED, EXITED}),
    "start": frozenset({CREATED, EXITED}),
    "stop": frozenset({CREATED, INITIALIZED, RUNNING, STOPPING, EXITED}),
    "restart": frozenset({CREATED, INITIALIZED, RUNNING, STOPPING, EXITED}),
    "kill": frozenset({RUNNING, STOPPING, PAUSED}),
    "pause": frozenset({RUNNING}),
    "unpause": frozenset({PAUSED}),
    "top": frozenset({RUNNING}),
    "checkpoint": frozenset({RUNNING}),
    "restore": frozenset({CREATED, EXITED}),
    "exec": frozenset({RUNNING}),
    "attach": frozenset({RUNNING}),
    "remove": frozenset({CREATED, EXITED, REMOVING}),
    "rollback": frozenset({CREATED, EXITED}),
}
LIVE = frozenset({INITIALIZED, RUNNING, STOPPING, PAUSED})

_SENTENCES = {
    "init": "container {name} has already been created in runtime: container state improper",
    "start": "unable to start container {name}: it is {status} and must be in Created or Stopped "
    "state to be started: container state improper",
    "stop": "can only stop created or running containers. {name} is in state {status}: container "
    "state improper",
    "restart": "unable to restart a container in a paused or unknown state: {name} is {status}: "
    "container state improper",
    "pause": "{name} is {status}, not running, can't pause: container state improper",
    "unpause": "{name} is not paused, can't unpause: container state improper",
    "top": "top can only be used on running containers: {name} is {status}",
    "checkpoint": "{name} is not running, cannot checkpoint: container state improper",
    "restore": "container {name} is running or paused, cannot restore: container state improper",
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
    "stop": "`strata unpause {name}` lets it go on; `strata kill {name}` ends it",
    "restart": "`strata unpause {name}` first",
    "pause": "`strata ps -a` shows what it does",
    "top": "`strata start {name}` starts it",
}
_PAUSED_HINT = "`strata unpause {name}` lets it go on"


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
        hint=(_PAUSED_HINT if status == PAUSED and verb in ("exec", "attach")
              else _HINTS.get(verb, "")).format(name=name),
    )  # fmt: skip
