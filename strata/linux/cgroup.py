"""Which cgroup hierarchy the host has, and the engine's directories in it.

Limits are set by the OCI runtime; here is only what nobody else does. Sources: cgroups(7),
Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os

from strata import command

ROOT = "/sys/fs/cgroup"
OWN = "/strata/engine"
"""Where the processes live that outlive the command they belong to, on a v2 host: monitors of
containers and what collects. Below the parent of the containers' own groups, beside them."""


def get_mode() -> str:
    """``v2``, ``v1``, or ``hybrid`` (v1 controllers beside a v2 mount at ``unified``)."""
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        return "v2"
    return "hybrid" if os.path.exists(f"{ROOT}/unified/cgroup.controllers") else "v1"


def list_controllers() -> list[str]:
    """The controllers a container's limits may use, in the kernel's order."""
    try:
        if get_mode() == "v2":
            with open(f"{ROOT}/cgroup.controllers") as file:
                return file.read().split()
        with open("/proc/cgroups") as file:
            rows = [line.split() for line in file if not line.startswith("#")]
    except OSError:
        return []
    return [row[0] for row in rows if row[3] == "1" and os.path.isdir(f"{ROOT}/{row[0]}")]


def has_swap_limit(mode: str) -> bool:
    """Whether the kernel accounts swap, so that a limit on it can be set."""
    if mode == "v2":
        # The file is only below the root; v2 accounts swap whenever the kernel has it.
        return os.path.exists("/proc/swaps")
    return os.path.exists(f"{ROOT}/memory/memory.memsw.limit_in_bytes")


def list_directories(path: str, mode: str | None = None) -> list[str]:
    """The existing directories of the cgroup ``path`` (``/strata/ID``), one per hierarchy."""
    if (mode or get_mode()) == "v2":
        candidates = [f"{ROOT}{path}"]
    else:
        candidates = [f"{ROOT}/{name}{path}" for name in sorted(os.listdir(ROOT))
                      if not os.path.islink(f"{ROOT}/{name}")]  # fmt: skip
    return [candidate for candidate in candidates if os.path.isdir(candidate)]


def remove(path: str) -> bool:
    """Remove a cgroup without processes, with the empty ones below it. Idempotent.

    One that still has processes stays, and the answer is False.
    """
    clean = True
    for top in list_directories(path):
        try:
            os.rmdir(top)
            continue
        except OSError:
            pass
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                clean = False
    return clean


def prepare_own() -> str | None:
    """Make the group `OWN`; the path of its ``cgroup.procs``. None where it cannot be had.

    A service manager ends a unit or a session by killing all that is in its cgroup, other sessions
    and parents do not matter to it (systemd.kill(5)). So what must live on leaves the group of its
    caller. With v1 controllers nothing is moved.
    """
    path = f"{ROOT}{OWN}"
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        if get_mode() != "v2":
            return None
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError:
            return None
    except OSError:
        return None
    return f"{path}/cgroup.procs"


def outliving(argv: list[str]) -> list[str]:
    """How a program is started that outlives the command: with its way to the group `OWN`."""
    procs = prepare_own()
    if procs is None:
        return argv
    return ["/bin/sh", "-c", '{ echo 0 >"$0"; } 2>/dev/null; exec "$@"', procs, *argv]


def move_to_own(pid: int = 0) -> None:
    """Move a process, by default this one, to the group `OWN`, where that is possible."""
    procs = prepare_own()
    if procs is None:
        return
    try:
        fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, str(pid).encode())
    except OSError:
        return
    finally:
        os.close(fd)


def find_own_procs() -> str | None:
    """The ``cgroup.procs`` file of the cgroup this process is in, in some hierarchy."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        name, _, path = rest.partition(":")
        file_name = f"{ROOT}/{name}{path.rstrip('/')}/cgroup.procs"
        if (number == "0") == (not name) and "=" not in name and os.path.exists(file_name):
            return file_name
    return None


def join_again(procs: str) -> None:
    """Move the calling process to the cgroup it is in, by the file `find_own_procs` has found.

    What for: a move after a pause waits for an RCU grace period (10 to 20 ms, percpu_down_write in
    kernel/cgroup/cgroup.c), and moves within the next one do not. OSError.
    """
    fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


_warming: list[int] = []


def warm_up() -> None:
    """Hide a wait of the kernel: call it as early as possible before a runtime starts. Idempotent.

    The runtime moves a process into the container's cgroup, which may have to wait (see
    `join_again`). So a child moves itself to where it already is, while we still prepare.
    """
    if _warming:
        return
    procs = find_own_procs()
    if procs is not None:
        _warming.append(command.spawn(["/bin/sh", "-c", 'echo 0 >"$0"', procs]))


def end_warm_up() -> None:
    """Reap the child of `warm_up`; once a runtime has started its wait is over too."""
    while _warming:
        try:
            os.waitpid(_warming.pop(), 0)
        except (IndexError, ChildProcessError):
            return


def find_directories(pid: int) -> dict[str, str]:
    """Where a process is counted: controller to directory; ``""`` is the v2 hierarchy.

    Empty for a process that is gone.
    """
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    unified = get_mode() == "v2"
    found = {}
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            if unified:
                found[""] = f"{ROOT}{path}"
            continue
        for name in names.split(","):
            folder = f"{ROOT}/{name}{path}"
            if "=" not in name and os.path.isdir(folder):
                found[name] = folder
    return found


def is_frozen(pid: int) -> bool:
    """Whether the freezer holds a process: v1 ``freezer.state``, v2 ``cgroup.freeze``."""
    folders = find_directories(pid)
    try:
        if "" in folders:
            with open(f"{folders['']}/cgroup.freeze") as file:
                return file.read().strip() == "1"
        with open(f"{folders['freezer']}/freezer.state") as file:
            return file.read().strip() != "THAWED"
    except (FileNotFoundError, KeyError):
        return False


def find_freezer(pid: int, name: str) -> str | None:
    """The file that freezes the cgroup ``name`` (its last component) a process is in.

    The process may be further below: a service manager in a container makes groups of its own.
    """
    folders = find_directories(pid)
    folder = folders.get("") or folders.get("freezer")
    while folder and folder != ROOT:
        if os.path.basename(folder) == name:
            return f"{folder}/{'cgroup.freeze' if '' in folders else 'freezer.state'}"
        folder = os.path.dirname(folder)
    return None


def write_freezer(path: str, frozen: bool) -> bool:
    """Freeze or thaw by a file of `find_freezer`; False when the group is gone."""
    words = ("1", "0") if path.endswith("cgroup.freeze") else ("FROZEN", "THAWED")
    try:
        with open(path, "w") as file:
            file.write(words[0] if frozen else words[1])
    except OSError:
        return False
    return True


def read_freezer(path: str) -> bool:
    """Whether every process of a group has come to a halt (v1 says FREEZING before that)."""
    try:
        if path.endswith("cgroup.freeze"):
            with open(f"{os.path.dirname(path)}/cgroup.events") as file:
                return "frozen 1" in file.read().splitlines()
        with open(path) as file:
            return file.read().strip() == "FROZEN"
    except OSError:
        return False


def list_processes(pid: int) -> list[int]:
    """The processes in the cgroup of a process, itself among them."""
    folders = find_directories(pid)
    folder = folders.get("") or folders.get("pids") or next(iter(folders.values()), "")
    try:
        with open(f"{folder}/cgroup.procs") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []


def lift_cpu_quota(pid: int) -> None:
    """Take away the limit on CPU time of the cgroup a process is in. OSError."""
    folders = find_directories(pid)
    if "" in folders:
        path, word = f"{folders['']}/cpu.max", "max"
    elif "cpu" in folders:
        path, word = f"{folders['cpu']}/cpu.cfs_quota_us", "-1"
    else:
        return
    try:
        with open(path, "w") as file:
            file.write(word)
    except FileNotFoundError:  # the controller is not handed down to it
        return
