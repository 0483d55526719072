"""Starting a container and what is done to it afterwards.

Story of one start::

    launch(plan)    a child gets its own mount namespace (recursive slave of ours) and mounts
                    the root file system there, privately; conmon is started beside it and
                    waits; the caller resolves the user in the mounted image and the spec is
                    written; then conmon runs the runtime's create in the child's namespace,
                    and the container's pid comes back
    start(launched) the process runs
    …               the sync pipe closes when the exit file is written
    read_exit()     code, time, out of memory
    delete()        the runtime forgets it; its cgroups are gone

The calling process keeps its own namespace, directory, mask and signals: everything of that kind
happens in the child, which also is safe when the caller has threads.
"""

from __future__ import annotations

import os
import select
import time

from strata import command, jsontext
from strata.errors import CommandFailed, NotFound, RuntimeFailure
from strata.linux import cgroup, mount, namespace
from strata.linux.process import find_start_time, is_alive, open_pidfd, signal_pidfd
from strata.linux.write import write_all
from strata.oci import spec
from strata.runtime import conmon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from strata.linux.mount import MountStep
    from strata.linux.namespace import Keeper

PRIVATE = 0o700
_CREATE_LIMIT_MS = 10_000


class Runtime:
    """An OCI runtime and where it keeps its state."""

    __slots__ = ("hooked", "name", "options", "program", "root", "time_path")

    def __init__(self, name: str, program: str, root: str, options: Sequence[str] = ()) -> None:
        #: ``crun``, ``runc`` …, for messages and for what only one of them needs
        self.name = name
        self.program = program
        #: whether the container may have hooks, which only the program itself runs
        self.hooked = False
        #: directory for ``--root``
        self.root = root
        #: further global options
        self.options = list(options)
        #: the time namespace of a container that runs, where it is not ours: by when its process
        #: began, as seen from there, the runtime knows it again
        self.time_path = ""

    @property
    def argv(self) -> list[str]:
        """The words that start it for a container that is there."""
        if not self.time_path:
            return [self.program]
        return [command.get_program("nsenter"), f"--time={self.time_path}", "--", self.program]

    @property
    def is_crun(self) -> bool:
        """Also ``/opt/crun-1.14`` and the like."""
        return self.name.startswith("crun")

    @property
    def hides_unified(self) -> bool:
        """Whether ``create`` must not see the v2 mount of a hybrid host (crun 1.8: "cgroups in
        hybrid mode not supported"; every other verb works beside it)."""
        return self.is_crun and cgroup.get_mode() == "hybrid"


def get_runtime(choice: str, runroot: str) -> Runtime:
    """``crun``, ``runc`` or a path, as given by ``--runtime``. `NotFound` when not installed."""
    choice = choice or "crun"
    program = command.find_program(choice)
    if program is None:
        raise NotFound(
            f"the OCI runtime {choice!r} is not installed",
            hint="install the package crun or runc, or choose another with --runtime",
        )
    name = os.path.basename(choice)
    return Runtime(name, program, f"{runroot}/{name}")


class LaunchPlan:
    """All that one start needs, as values. ``make_spec`` gets a descriptor of the mounted root
    file system and returns the text of config.json; it runs in the caller's process."""

    __slots__ = (
        "bundle", "cleanup", "files", "id", "log", "log_size", "log_tag", "make_spec",
        "meanwhile", "mounts", "name", "owner", "preserve", "restore", "runtime", "stays",
        "stdin", "time", "timeout", "tty",
    )  # fmt: skip

    def __init__(
        self, *, id: str, name: str, bundle: str, runtime: Runtime, mounts: Sequence[MountStep],
        make_spec: Callable[[int], str], log: str = "none", tty: bool = False,
        stdin: bool = False, files: dict[str, str] | None = None,
        cleanup: Sequence[str] = (), owner: tuple[int, int] | None = None, timeout: int = 0,
        log_size: int = 0, log_tag: str = "", preserve: Sequence[int] = (), stays: bool = False,
        restore: tuple[str, Sequence[str]] | None = None, time: int | str | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.name = name
        self.bundle = bundle
        self.runtime = runtime
        #: executed in order in the container's namespace; the first is the root file system
        self.mounts = list(mounts)
        self.make_spec = make_spec
        #: ``k8s-file:PATH``, ``journald``, ``none``, or ``passthrough`` for our own streams
        self.log = log
        #: a word beside each entry of a journal
        self.log_tag = log_tag
        #: bytes, 0 for no limit
        self.log_size = log_size
        #: descriptors of ours that the container's process inherits under the same numbers
        self.preserve = list(preserve)
        #: seconds after which conmon kills it, 0 for never
        self.timeout = timeout
        self.tty = tty
        self.stdin = stdin
        #: generated files of the bundle: name -> text
        self.files = dict(files or {})
        #: argv of the cleanup, run in the home namespace at the end; empty: nobody is told
        self.cleanup = list(cleanup)
        #: pid and start time of the foreground process that cleans up itself
        self.owner = owner
        #: whether conmon remains in the cgroup of its caller
        self.stays = stays
        #: the folder of a checkpoint to go on from, and the runtime's options for that
        self.restore = restore
        #: the time namespace: how many seconds a new one is ahead, the path of one that is there,
        #: or None for the host's
        self.time = time
        #: called while the runtime makes the container
        self.meanwhile = meanwhile


class Launched:
    """A created container. ``sync`` gives end of file when its exit file is written."""

    __slots__ = ("_keeper", "bundle", "conmon_pid", "conmon_start", "id", "pid", "pid_start",
                 "runtime", "sync")  # fmt: skip

    def __init__(
        self, id: str, bundle: str, runtime: Runtime, pid: int, pid_start: int, conmon_pid: int,
        conmon_start: int, sync: int, keeper: Keeper,
    ) -> None:  # fmt: skip
        self._keeper = keeper
        self.id = id
        self.bundle = bundle
        self.runtime = runtime
        self.pid = pid
        self.pid_start = pid_start
        self.conmon_pid = conmon_pid
        self.conmon_start = conmon_start
        self.sync = sync

    def wait(self) -> None:
        """Block until the exit file is written (or conmon is gone)."""
        self._keeper.leave()
        while self.sync >= 0 and os.read(self.sync, 4096):
            pass

    def close(self) -> None:
        """Give back descriptor and helper. Idempotent; the container is not touched."""
        self._keeper.close()
        if self.sync >= 0:
            os.close(self.sync)
            self.sync = -1


class Exit:
    """How a container ended: exit code (128+n for a signal), time in ns since the epoch."""

    __slots__ = ("code", "finished_ns", "oom")

    def __init__(self, code: int, finished_ns: int, oom: bool) -> None:
        self.code = code
        self.finished_ns = finished_ns
        self.oom = oom


def rootfs_step(step: MountStep, bundle: str) -> MountStep:
    """Turn a driver's mount of a dataset into the container's root: its ``rootfs`` directory,
    with set-user-id programs and device nodes working, which host-visible mounts deny."""
    step.target = f"{bundle}/rootfs"
    step.subdirectory = "rootfs"
    denied = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    step.clear |= denied
    step.add &= ~denied
    return step


def _keep_warm() -> Callable[[], None] | None:
    """What the child that waits for the runtime does meanwhile, so that no pause begins again."""
    procs = cgroup.find_own_procs()
    return None if procs is None else lambda: cgroup.join_again(procs)


def launch(plan: LaunchPlan) -> Launched:
    """Create the container, not yet running its process. Raises `RuntimeFailure`."""
    cgroup.warm_up()
    try:
        return _launch(plan)
    finally:
        cgroup.end_warm_up()


def _launch(plan: LaunchPlan) -> Launched:
    hide = plan.runtime.hides_unified

    def prepare() -> None:
        if hide:
            namespace.hide_unified()
        for step in plan.mounts:
            step.execute()
        mount.set_propagation(plan.mounts[0].target, mount.MS_PRIVATE)
        if isinstance(plan.time, int):
            namespace.make_time(plan.time)

    if os.path.isdir(f"{plan.runtime.root}/{plan.id}"):
        # Left by a start whose owner was killed in the middle: it waits for nobody.
        delete(plan.runtime, plan.id, force=True)
    _prepare_bundle(plan)
    keeper = namespace.fork_keeper(prepare, _keep_warm())
    sync = start_write = -1
    pid = 0
    begun = False
    try:
        # conmon loads while the child mounts and the spec is written; then it may create.
        spaces = [f"--mount={keeper.ns_path}"]
        if plan.time is not None:
            path = keeper.time_path if isinstance(plan.time, int) else plan.time
            spaces.append(f"--time={path}")
        pid, sync, start_write = _spawn_conmon(plan, spaces)
        try:
            keeper.wait_ready()
        except OSError as error:
            raise RuntimeFailure(
                f"mounting the container's file systems: {error.strerror or error}"
            ) from error
        _write_config(plan, keeper.root)
        begun = True
        try:
            os.write(start_write, b"\n")
        except BrokenPipeError:
            raise _conmon_gone(plan) from None
        os.close(start_write)
        start_write = -1
        if plan.meanwhile is not None:
            plan.meanwhile()
        os.waitpid(pid, 0)
        pid = 0
        child = _read_sync(plan, sync)
        # Nobody needs the namespace now; it goes while the container starts.
        keeper.leave()
    except BaseException:
        if pid > 0 and not begun:
            # It has not forked yet, so this is all of it.
            os.kill(pid, 9)
        if pid > 0:
            os.waitpid(pid, 0)
        if begun:
            _abandon(plan, sync)
        for fd in (sync, start_write):
            if fd >= 0:
                os.close(fd)
        keeper.close()
        raise
    if plan.time is not None:
        plan.runtime.time_path = find_time(plan.bundle)
    conmon_pid = _read_number(f"{plan.bundle}/conmon.pid")
    return Launched(
        plan.id, plan.bundle, plan.runtime, child, find_start_time(child) or 0, conmon_pid,
        find_start_time(conmon_pid) or 0, sync, keeper,
    )  # fmt: skip


def _abandon(plan: LaunchPlan, sync: int) -> None:
    """Undo a create that was broken off (Ctrl-C) or failed: nothing stays, nobody complains."""
    waiter = select.poll()
    waiter.register(sync, select.POLLIN)
    waiter.poll(_CREATE_LIMIT_MS)
    try:
        delete(plan.runtime, plan.id, force=True)
    except RuntimeFailure:
        return


def _spawn_conmon(plan: LaunchPlan, spaces: Sequence[str]) -> tuple[int, int, int]:
    """Start conmon, waiting; returns its pid, our end of the sync pipe and of the start pipe.

    ``spaces``: where the runtime is started, as nsenter(1) wants to be told."""
    runtime = plan.runtime
    count = max(plan.preserve) - 2 if plan.preserve else 0
    argv = conmon.conmon_argv(
        container_id=plan.id, name=plan.name, bundle=plan.bundle,
        conmon=command.get_program("conmon"),
        runtime=[
            command.get_program("nsenter"), *spaces, "--", runtime.program,
            *runtime.options, "--root", runtime.root, "--log-format=json", "--log",
            f"{plan.bundle}/oci.log",
        ],
        log=plan.log, tty=plan.tty, stdin=plan.stdin,
        exit_argv=conmon.exit_command(plan.cleanup, plan.owner, plan.bundle),
        timeout=plan.timeout, log_size=plan.log_size, log_tag=plan.log_tag,
        procs="" if plan.stays else cgroup.prepare_own() or "", preserve=count,
        restore=plan.restore,
    )  # fmt: skip
    sync_there, start_there = conmon.SYNC_FD + count, conmon.START_FD + count
    env = {
        **command.ENVIRONMENT, "_OCI_SYNCPIPE": str(sync_there),
        "_OCI_STARTPIPE": str(start_there),
    }  # fmt: skip
    sync, sync_write = os.pipe()
    start_read, start_write = os.pipe()
    placed = {sync_there: sync_write, start_there: start_read}
    if plan.log == "passthrough":
        placed |= {fd: fd for fd in range(3) if _is_open(fd)}
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) if count else -1
    for number in range(3, 3 + count):
        # Nothing of the monitor's own may come to lie between those that are inherited.
        placed[number] = number if number in plan.preserve else nothing
    try:
        pid = command.spawn_detached(argv, env, placed)
    except BaseException:
        os.close(sync)
        os.close(start_write)
        raise
    finally:
        for fd in (sync_write, start_read, nothing):
            if fd >= 0:
                os.close(fd)
    return pid, sync, start_write


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _prepare_bundle(plan: LaunchPlan) -> None:
    """Make the directory and forget the last run."""
    for folder in (plan.bundle, f"{plan.bundle}/rootfs", f"{plan.bundle}/exit",
                   plan.runtime.root):  # fmt: skip
        try:
            os.mkdir(folder, PRIVATE)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(folder, PRIVATE, exist_ok=True)
    for name in ("config.json", "pidfile", "conmon.pid", "oci.log", "oom", "attach", "ctl", "winsz",
                 "left", f"exit/{plan.id}"):  # fmt: skip
        try:
            os.unlink(f"{plan.bundle}/{name}")
        except FileNotFoundError:
            continue
    for name, text in plan.files.items():
        _write_file(f"{plan.bundle}/{name}", text, 0o644)


def _write_file(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        write_all(fd, text.encode(errors="surrogateescape"))
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _write_config(plan: LaunchPlan, top: str) -> None:
    """Let the caller look into the mounted image, through the child's namespace, and write."""
    root = os.open(f"{top}{plan.bundle}/rootfs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        text = plan.make_spec(root)
    finally:
        os.close(root)
    _write_file(f"{plan.bundle}/config.json", text, 0o600)


def _read_sync(plan: LaunchPlan, sync: int) -> int:
    """The container's pid from conmon's first line; `RuntimeFailure` when there is none."""
    data = b""
    while b"\n" not in data:
        chunk = os.read(sync, 65536)
        if not chunk:
            break
        data += chunk
    try:
        answer = jsontext.loads(data.partition(b"\n")[0])
        child = int(answer["data"])
    except (ValueError, KeyError, TypeError):
        answer, child = {}, -1
    if child > 0:
        return child
    text = read_runtime_log(plan.bundle) or str(answer.get("message") or "")
    if not text:
        raise _conmon_gone(plan)
    raise classify(plan.runtime.name, text)


def _conmon_gone(plan: LaunchPlan) -> RuntimeFailure:
    """It says nothing to us when it cannot do its own part."""
    return RuntimeFailure(
        f"conmon ended before {plan.runtime.name} could make the container",
        hint=f"it may be unable to write its log ({plan.log}), or that is no OCI runtime",
    )


def read_runtime_log(bundle: str) -> str:
    """The last error in the runtime's JSON log, empty when there is none."""
    try:
        with open(f"{bundle}/oci.log", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = jsontext.loads(line)
            if entry.get("level") in ("error", "fatal"):
                return str(entry["msg"])
        except (ValueError, KeyError, AttributeError):
            continue
    return ""


def classify(runtime: str, text: str) -> RuntimeFailure:
    """What a runtime's message means, in Podman's words: 127 not found, 126 not permitted."""
    line = " ".join(text.split())
    low = line.lower()
    from strata.runtime.failures import explain

    known = explain(line)
    if known is not None:
        return known
    if "executable file" in low or "no such file or directory" in low or "not found in" in low:
        return RuntimeFailure(
            f"{runtime}: {line}: OCI runtime attempted to invoke a command that was not found",
            exit_code=127,
        )
    if "permission denied" in low or "operation not permitted" in low:
        return RuntimeFailure(f"{runtime}: {line}: OCI permission denied", exit_code=126)
    return RuntimeFailure(f"{runtime}: {line}: OCI runtime error")


def start(launched: Launched) -> None:
    """Run the created container's process. `RuntimeFailure`."""
    runtime = launched.runtime
    if (
        runtime.hooked
        or not runtime.is_crun
        or not _release(f"{runtime.root}/{launched.id}/exec.fifo")
    ):
        run_runtime(runtime, ["start", launched.id])


def _release(fifo: str) -> bool:
    """Do what ``crun start`` does for a container without hooks, without a process for it.

    crun's init waits for one byte in a FIFO beside its state; the FIFO's absence means "running".
    False when nobody reads there, so that another version's ways are left to the program.
    """
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        os.unlink(fifo)
        return os.write(fd, b"\0") == 1
    finally:
        os.close(fd)


def is_waiting(runtime: Runtime, container_id: str) -> bool:
    """Whether the container was created and its process still waits to be started."""
    return os.path.exists(f"{runtime.root}/{container_id}/exec.fifo")


def run_runtime(runtime: Runtime, words: Sequence[str]) -> command.Result:
    """Run a verb of the runtime in the home namespace; `RuntimeFailure` with its message."""
    try:
        return command.run([*runtime.argv, *runtime.options, "--root", runtime.root, *words])
    except CommandFailed as error:
        raise classify(runtime.name, error.stderr or error.message) from error


def kill(
    runtime: Runtime, container_id: str, signal: int, *, pid: int, pid_start: int,
    all: bool = False,
) -> bool:  # fmt: skip
    """Send a signal to the container's first process, or to ``all``; False when it is gone.

    A signal to the first process goes directly, by a descriptor that cannot name another one.
    """
    if not is_alive(pid, pid_start):
        return False
    if all:
        run_runtime(runtime, ["kill", "--all", container_id, str(signal)])
        return True
    try:
        fd = open_pidfd(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(pid, pid_start):
            return False
        signal_pidfd(fd, signal)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def delete(runtime: Runtime, container_id: str, *, force: bool = False) -> None:
    """Let the runtime forget a container; no cgroup stays. Idempotent.

    ``force`` kills what still runs. Raises `RuntimeFailure`.
    """
    state = f"{runtime.root}/{container_id}"
    group = f"{spec.CGROUP_PARENT}/{container_id}"
    if not os.path.isdir(state):
        cgroup.remove(group)
        return
    # For a container without hooks whose processes are gone, ``crun delete`` removes its cgroups
    # and its directory; when the cgroups can be removed, the processes are gone.
    status = _read_status(state)
    group = str(status.get("cgroup-path") or group)
    plain = runtime.is_crun and not runtime.hooked and not runtime.time_path
    if plain and _is_over(status) and cgroup.remove(group):
        from strata.linux.tree import remove_path

        remove_path(state)
        return
    try:
        run_runtime(runtime, ["delete", *(["--force"] if force else []), container_id])
    except RuntimeFailure:
        if os.path.isdir(state):
            raise
    cgroup.remove(group)


def _read_status(state: str) -> dict[str, Any]:
    """crun's ``status`` file in a container's state directory; empty when it is another's."""
    try:
        with open(f"{state}/status") as file:
            status = jsontext.loads(file.read())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _is_over(status: dict[str, Any]) -> bool:
    """Whether the first process that crun's ``status`` names is gone."""
    try:
        pid, start_time = int(status["pid"]), int(status["process-start-time"])
    except (ValueError, KeyError, TypeError):
        return False
    return not is_alive(pid, start_time)


def leave(bundle: str, container_id: str) -> bool:
    """Hand an owned container over to its conmon; False when it has ended meanwhile.

    Either conmon's exit command sees that it was left, or it was too early for that, and then the
    exit file, which is written before, is there: the caller cleans up.
    """
    _write_file(conmon.left_file(bundle), "", 0o600)
    return find_exit(bundle, container_id) is None


def find_exit(bundle: str, container_id: str) -> Exit | None:
    """How the last run ended, or None when conmon wrote nothing (yet)."""
    path = f"{bundle}/exit/{container_id}"
    try:
        with open(path) as file:
            text = file.read().strip()
            finished = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    code = int(text) if text.lstrip("-").isdigit() else 255
    return Exit(code, finished, os.path.exists(f"{bundle}/oom"))


def find_time(bundle: str) -> str:
    """The time namespace of the process that the runtime last made here, "" when it is gone."""
    path = f"/proc/{_read_number(f'{bundle}/pidfile')}/ns/time"
    return path if os.path.exists(path) else ""


def find_conmon(bundle: str) -> tuple[int, int] | None:
    """Pid and start time of the monitor that last wrote its pid here, None when it is gone."""
    pid = _read_number(f"{bundle}/conmon.pid")
    start = find_start_time(pid) if pid > 0 else None
    return None if start is None else (pid, start)


def hold_exit(bundle: str) -> int:
    """Keep the exit file, once written, from a removal until the descriptor returned is closed.

    `FileNotFoundError` when the container is removed already.
    """
    import fcntl

    fd = os.open(f"{bundle}/exit", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise FileNotFoundError(f"{bundle}/exit") from None
    return fd


def wait_unheld(bundle: str, timeout: float = 1.0) -> None:
    """Before a removal: wait until nobody holds the exit file, at most ``timeout`` seconds (one
    who holds it and does not read is stuck on an output of its own)."""
    import fcntl

    try:
        fd = os.open(f"{bundle}/exit", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.005)
    finally:
        os.close(fd)


class ExitWatch:
    """A descriptor that becomes readable when a running container's exit file is written; until
    it is closed the file is held (`hold_exit`).

    conmon itself ends later: it waits for its exit command, which may remove the container with
    its exit file. Raises `ProcessLookupError` when it is over already.
    """

    __slots__ = ("_conmon", "_epoll", "_hold", "_watcher")

    def __init__(self, bundle: str, container_id: str, conmon_pid: int) -> None:
        import select

        from strata.linux.inotify import IN_MOVED_TO, Watcher

        self._hold = -1
        self._conmon = open_pidfd(conmon_pid)
        self._watcher = Watcher()
        self._epoll = select.epoll()
        try:
            try:
                self._hold = hold_exit(bundle)
                self._watcher.add(f"{bundle}/exit", IN_MOVED_TO)
            except FileNotFoundError:
                raise ProcessLookupError from None
            self._epoll.register(self._watcher, select.EPOLLIN)
            # For a conmon that was killed and writes nothing.
            self._epoll.register(self._conmon, select.EPOLLIN)
            if find_exit(bundle, container_id) is not None:
                raise ProcessLookupError
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        """Idempotent."""
        for fd in (self._conmon, self._hold):
            if fd >= 0:
                os.close(fd)
        self._conmon = self._hold = -1
        self._watcher.close()
        self._epoll.close()

    def __enter__(self) -> ExitWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_number(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read().strip() or 0)
    except (FileNotFoundError, ValueError):
        return 0
