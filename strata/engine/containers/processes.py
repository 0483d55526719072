"""``top``: the processes of a container, seen from the host.

Which they are says the container's cgroup, so processes of ``exec`` and those that changed their
name or session are among them; what they are is read from /proc: proc_pid_stat(5),
proc_pid_status(5). Descriptors, their headings and formats are Podman's (podman-top(1)).
"""

from __future__ import annotations

import os
import time

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.errors import UsageError
from strata.linux import cgroup
from strata.linux.process import read_mask
from strata.linux.read import read_text
from strata.oci import capabilities
from strata.runtime import exec as executing
from strata.runtime.users import read_in_root
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}


class Process:
    """One process: fields of its ``stat`` after the name, its ``status`` by key, its words."""

    __slots__ = ("args", "comm", "label", "pid", "stat", "status")

    def __init__(self, pid: int) -> None:
        """Read it. OSError when it is gone."""
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            text = file.read()
        self.pid = pid
        self.comm = text[text.index("(") + 1 : text.rindex(")")]
        #: stat[0] is field 3, the state
        self.stat = text[text.rindex(")") + 2 :].split()
        with open(f"/proc/{pid}/status", errors="replace") as file:
            pairs = (line.partition(":") for line in file.read().splitlines())
            self.status = {key: value.strip() for key, _, value in pairs}
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            words = raw.read().rstrip(b"\0").split(b"\0")
        self.args = " ".join(word.decode(errors="replace") for word in words) or f"[{self.comm}]"
        try:
            with open(f"/proc/{pid}/attr/current", errors="replace") as file:
                self.label = file.read().strip("\0\n ") or "?"
        except OSError:
            self.label = "?"

    @property
    def inner_pid(self) -> str:
        return self.status.get("NSpid", str(self.pid)).split()[-1]

    def seconds_of_cpu(self) -> float:
        return (int(self.stat[11]) + int(self.stat[12])) / _TICKS

    def started(self) -> float:
        """Seconds since the epoch."""
        return time.time() - (_read_uptime() - int(self.stat[19]) / _TICKS)


def _read_uptime() -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


class _View:
    """How values are shown: who is who inside and on the host, and which pids are inside."""

    def __init__(self, root: int, processes: Sequence[Process]) -> None:
        self.users = _parse_ids(read_in_root(root, "etc/passwd"))
        self.groups = _parse_ids(read_in_root(root, "etc/group"))
        self.host_users = _parse_ids(read_text("/etc/passwd"))
        self.host_groups = _parse_ids(read_text("/etc/group"))
        self.inner = {process.pid: process.inner_pid for process in processes}

    def parent(self, process: Process) -> str:
        return self.inner.get(int(process.stat[1]), "0")

    def groups_of(self, process: Process, known: dict[str, str]) -> str:
        ids = process.status.get("Groups", "").split()
        return ",".join(known.get(number, number) for number in ids) or "?"


def _parse_ids(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and not line.startswith("#"):
            found.setdefault(fields[2], fields[0])
    return found


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: 1h2m3s, 4.5s, 250ms, 0s."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        milli = f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")
        return f"{milli}ms"
    whole = int(seconds)
    rest = f"{seconds - whole:.9f}"[1:].rstrip("0").rstrip(".")
    hours, minutes = whole // 3600, whole // 60 % 60
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{text}{whole % 60}{rest}s"


def _tty(process: Process, view: _View) -> str:
    number = int(process.stat[4])
    if not number:
        return "?"
    major, minor = os.major(number), os.minor(number)
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 else f"{major}:{minor}"


def _caps(key: str) -> Callable[[Process, _View], str]:
    def show(process: Process, view: _View) -> str:
        mask = int(process.status.get(key, "0"), 16)
        held = [name.removeprefix("CAP_") for name in capabilities.from_mask(mask)]
        if not held:
            return "none"
        everything = read_mask("self", "CapBnd")
        return "full" if mask == everything else ",".join(sorted(held))

    return show


def _id(key: str, index: int, table: str) -> Callable[[Process, _View], str]:
    """A user or group: field ``index`` (0 real, 1 effective) of ``Uid``/``Gid``, by name."""

    def show(process: Process, view: _View) -> str:
        number = process.status[key].split()[index]
        known: dict[str, str] = getattr(view, table)
        return known.get(number, number)

    return show


def _percent(process: Process, view: _View) -> str:
    age = time.time() - process.started()
    return f"{100 * process.seconds_of_cpu() / age if age > 0 else 0:.3f}"


def _started(process: Process, view: _View) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(process.started()))


#: descriptor -> (AIX code, heading, how a process shows it)
DESCRIPTORS: dict[str, tuple[str, str, Callable[[Process, _View], str]]] = {
    "args": ("%a", "COMMAND", lambda process, view: process.args),
    "capamb": ("", "AMBIENT CAPS", _caps("CapAmb")),
    "capbnd": ("", "BOUNDING CAPS", _caps("CapBnd")),
    "capeff": ("", "EFFECTIVE CAPS", _caps("CapEff")),
    "capinh": ("", "INHERITED CAPS", _caps("CapInh")),
    "capprm": ("", "PERMITTED CAPS", _caps("CapPrm")),
    "comm": ("%c", "COMMAND", lambda process, view: process.comm),
    "etime": ("%t", "ELAPSED", lambda process, view: go_duration(time.time() - process.started())),
    "group": ("%G", "GROUP", _id("Gid", 1, "groups")),
    "groups": ("", "GROUPS", lambda process, view: view.groups_of(process, view.groups)),
    "hgroup": ("", "HGROUP", _id("Gid", 1, "host_groups")),
    "hgroups": ("", "HGROUPS", lambda process, view: view.groups_of(process, view.host_groups)),
    "hpid": ("", "HPID", lambda process, view: str(process.pid)),
    "huser": ("", "HUSER", _id("Uid", 1, "host_users")),
    "label": ("", "LABEL", lambda process, view: process.label),
    "nice": ("%n", "NI", lambda process, view: process.stat[16]),
    "pcpu": ("%C", "%CPU", _percent),
    "pgid": ("%r", "PGID", lambda process, view: process.status.get("NSpgid", "?").split()[-1]),
    "pid": ("%p", "PID", lambda process, view: process.inner_pid),
    "ppid": ("%P", "PPID", lambda process, view: view.parent(process)),
    "rgroup": ("%g", "RGROUP", _id("Gid", 0, "groups")),
    "rss": ("", "RSS", lambda process, view: str(int(process.stat[21]) * _PAGE // 1024)),
    "ruser": ("%u", "RUSER", _id("Uid", 0, "users")),
    "seccomp": ("", "SECCOMP", lambda process, view: _SECCOMP.get(
        process.status.get("Seccomp", ""), "?")),
    "state": ("", "STATE", lambda process, view: process.stat[0]),
    "stime": ("", "STIME", _started),
    "time": ("%x", "TIME", lambda process, view: go_duration(int(process.seconds_of_cpu()))),
    "tty": ("%y", "TTY", _tty),
    "user": ("%U", "USER", _id("Uid", 1, "users")),
    "vsz": ("%z", "VSZ", lambda process, view: str(int(process.stat[20]) // 1024)),
}  # fmt: skip
#: the usual ones, which no descriptor consists of
_BSD_OPTIONS = frozenset("aefjluwx")
_CODES = {code: name for name, (code, _, _) in DESCRIPTORS.items() if code}


def are_for_ps(words: Sequence[str]) -> bool:
    """Whether words are options of ps rather than descriptors: ``-ef``, or BSD's ``aux``."""
    return any(
        word.startswith("-") or (_BSD_OPTIONS.issuperset(word) and word not in DESCRIPTORS)
        for word in words
        if word
    )


def parse_descriptors(words: Sequence[str]) -> list[str]:
    """The descriptors a user gave, separated by spaces or commas; the default ones for none."""
    wanted = [part for word in words for part in word.split(",") if part]
    chosen = [_CODES.get(name, name.lower()) for name in wanted]
    for name, given in zip(chosen, wanted, strict=True):
        if name not in DESCRIPTORS:
            raise UsageError(
                f"unknown descriptor {given!r}",
                hint=f"descriptors: {', '.join(DESCRIPTORS)}; options of ps: -ef, aux",
            )
    return chosen or list(DEFAULT)


def list_pids(pid: int) -> list[int]:
    """The processes in the cgroup of a process and in those below it, by number."""
    folders = cgroup.find_directories(pid)
    top = folders.get("") or folders.get("pids") or folders.get("freezer") or ""
    found: set[int] = set()
    for folder, _, _ in os.walk(top) if top else ():
        found.update(
            int(line) for line in read_text(f"{folder}/cgroup.procs").split() if line != "0"
        )
    return sorted(found or {pid})


def top(e: Engine, name: str, words: Sequence[str]) -> list[list[str]]:
    """The table of a container's processes: headings, then a row for each. `StateImproper`."""
    chosen = parse_descriptors(words)
    record = get_running(e, name)
    pid = int(record["state"]["pid"])
    processes = []
    for number in list_pids(pid):
        try:
            processes.append(Process(number))
        except OSError:
            continue  # it has just ended
    root = executing.open_root(pid)
    try:
        view = _View(root, processes)
    finally:
        os.close(root)
    rows = [[DESCRIPTORS[name][2](process, view) for name in chosen] for process in processes]
    return [[DESCRIPTORS[name][1] for name in chosen], *rows]


def get_running(e: Engine, name: str) -> Record:
    """The container, when its processes can be looked at. `StateImproper`."""
    record = names.get_container(e, name)
    lifecycle.check("top", record, lifecycle.derive(record))
    return record
