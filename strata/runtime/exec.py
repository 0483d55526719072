"""A further process in a running container: ``crun exec`` on the caller's own descriptors.

In the foreground the runtime itself passes bytes and sets the terminal; nothing of ours stands
between but for the terminal's size when it changes. Its own failures are told from the process's
by looking for the program first and by its log.
"""

from __future__ import annotations

import os
import select

from strata import command, jsontext
from strata.errors import RuntimeFailure
from strata.linux import signals
from strata.linux.process import copy_descriptor, open_pidfd
from strata.linux.resolve import open_in_root
from strata.linux.terminal import KeptModes, RawMode, find_size, set_size
from strata.linux.write import write_all
from strata.oci import capabilities, spec
from strata.runtime import users
from strata.runtime.launch import Runtime, classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts

#: what a runtime ends with when it could not start the process
_FAILED = 255
#: bytes of input passed on at once; a terminal's queue holds 4096
_TYPED = 1024


def open_root(pid: int) -> int:
    """A descriptor of the root of a container, by its first process, for lookups below it."""
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFailure("the container has just stopped") from error


def make_process(
    record: Mapping[str, Any], root: int, argv: Sequence[str], *, host: HostFacts,
    env: Sequence[str] = (), user: str | None = None, workdir: str | None = None,
    tty: bool = False, privileged: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The OCI ``process`` object of one exec. ``root`` is from `open_root`; ``env`` goes over the
    container's own. `UsageError`, `RuntimeFailure` (no such user or program)."""
    config = record["config"]
    groups = [name for name in config.get("group_add") or () if name != "keep-groups"]
    who = users.resolve(root, config.get("user") or "" if user is None else user, tuple(groups))
    everything = privileged or bool(config.get("privileged"))
    caps = capabilities.resolve(
        config.get("cap_add") or (), () if privileged else config.get("cap_drop") or (),
        host.bounding, privileged=everything,
    )  # fmt: skip
    process = spec.make_process(
        config, who, caps, spec.container_hostname(record, host.hostname), args=argv, tty=tty,
        env=env, cwd=workdir or "", privileged=privileged,
    )  # fmt: skip
    _check_program(root, process)
    return process


def _check_program(root: int, process: Mapping[str, Any]) -> None:
    """Find the program as the runtime will: `RuntimeFailure` 127 when absent, 126 when not
    executable, in the runtime's words."""
    name = process["args"][0]
    if "/" in name:
        candidates = [name if name.startswith("/") else f"{process['cwd']}/{name}"]
    else:
        path = ""
        for item in process["env"]:
            if item.startswith("PATH="):
                path = item[5:]
        candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")]
    denied = False
    for candidate in candidates:
        try:
            fd = open_in_root(root, candidate, os.O_PATH)
        except PermissionError:
            denied = True
            continue
        except OSError:
            continue
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if mode & 0o170000 == 0o100000 and mode & 0o111:
            return
        denied = True
    if denied:
        raise classify("crun", f"open executable {name!r}: Permission denied")
    raise classify("crun", f"executable file `{name}` not found in $PATH")


def exec_argv(
    runtime: Runtime, container_id: str, process_file: str, *, detach: bool = False,
    preserve_fds: int = 0, pid_file: str = "",
) -> list[str]:  # fmt: skip
    """The runtime's command line. Pure."""
    argv = [
        runtime.program,
        *runtime.options,
        "--root",
        runtime.root,
        "exec",
        "--process",
        process_file,
    ]
    if detach:
        argv.append("--detach")
    if pid_file:
        argv += ["--pid-file", pid_file]
    if preserve_fds:
        argv += ["--preserve-fds", str(preserve_fds)]
    return [*argv, container_id]


def run(
    runtime: Runtime, container_id: str, bundle: str, process: Mapping[str, Any], *,
    stdin: int | None = None, stdout: int | None = 1, stderr: int | None = 2,
    detach: bool = False, preserve_fds: int = 0, foreground: bool = True,
) -> int:  # fmt: skip
    """Run a process in a running container; its exit code, 128+n for a signal, 126 or 127 when it
    could not be run (the runtime then has said why on ``stderr``). Detached: 0 once it runs.

    None as a descriptor is /dev/null. ``foreground``: the caller is a command line; while waiting
    it leaves Ctrl-C to the process, which has the same terminal.
    """
    if detach and process.get("terminal"):
        # Nobody would ever look at it, and the runtimes need someone to hold its other side.
        process = {**process, "terminal": False}
    name = write_process(bundle, process)
    try:
        argv = exec_argv(runtime, container_id, name, detach=detach, preserve_fds=preserve_fds)
        if detach:
            return _run_detached(runtime, argv)
        if process.get("terminal") and (stdin is None or not os.isatty(stdin)):
            return _run_in_terminal(argv, stdin, stdout, preserve_fds, foreground)
        terminal = stdin if foreground and process.get("terminal") else None
        return _run_here(argv, stdin, stdout, stderr, preserve_fds, foreground, terminal=terminal)
    finally:
        os.unlink(name)


def write_process(bundle: str, process: Mapping[str, Any]) -> str:
    """Write a process for the runtime to read; the file's path. The caller removes it."""
    name = f"{bundle}/exec.{os.getpid()}.{os.urandom(4).hex()}.json"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, jsontext.dumps_foreign(process).encode(errors="surrogateescape"))
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(fd)
    return name


def run_captured(
    runtime: Runtime, container_id: str, bundle: str, process: Mapping[str, Any], *,
    timeout: float, limit: int,
) -> tuple[int | None, bytes]:  # fmt: skip
    """Run a process in a running container without input; its exit code, and the first ``limit``
    bytes of both its outputs. It is killed, and the code None, when it takes longer than
    ``timeout`` seconds."""
    name = write_process(bundle, {**process, "terminal": False})
    pid_file = f"{name.removesuffix('.json')}.pid"
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        argv = exec_argv(runtime, container_id, name, pid_file=pid_file)
        pid = command.spawn(argv, stdout=output, stderr=output, new_session=True)
        code = wait_or_kill(pid, pid_file, timeout)
        return code, os.pread(output, limit, 0)
    finally:
        os.close(output)
        for path in (name, pid_file):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue


def wait_or_kill(pid: int, pid_file: str, timeout: float) -> int | None:
    """Wait for a runtime that runs a process; the exit code. After ``timeout`` seconds both are
    killed, and it is None: the runtime's own end would leave the process running."""
    ended = open_pidfd(pid)
    try:
        waiter = select.poll()
        waiter.register(ended, select.POLLIN)
        late = not waiter.poll(timeout * 1000)
        if late:
            try:
                with open(pid_file) as file:
                    os.kill(int(file.read()), 9)
            except (OSError, ValueError):
                pass
            os.kill(pid, 9)
    finally:
        os.close(ended)
    code = command.wait(pid)
    return None if late else 128 - code if code < 0 else code


def _run_detached(runtime: Runtime, argv: Sequence[str]) -> int:
    # Not through pipes: the process would hold them open and we would wait for its end.
    errors = os.memfd_create("errors", os.MFD_CLOEXEC)
    try:
        code = command.wait(command.spawn(argv, stderr=errors, new_session=True))
        if code != 0:
            raise classify(runtime.name, os.pread(errors, 4096, 0).decode(errors="replace"))
        return 0
    finally:
        os.close(errors)


def _run_here(
    argv: list[str], stdin: int | None, stdout: int | None, stderr: int | None,
    preserve_fds: int, foreground: bool, relay: Callable[[], None] | None = None,
    terminal: int | None = None,
) -> int:  # fmt: skip
    """Run the runtime and wait. ``relay`` returns when it has passed on all output; ``terminal``
    is the one whose size the process's is to follow."""
    # The log tells the runtime's own failures; the process never sees this pipe, nor does it take
    # a number that the caller preserves.
    read, write = (_move_up(fd, 3 + preserve_fds) for fd in os.pipe())
    try:
        os.set_blocking(read, False)
        words = [argv[0], "--log-format=json", "--log", f"/proc/self/fd/{write}", *argv[1:]]
        passed = [write, *range(3, 3 + preserve_fds)]
        before = _ignore_interrupts() if foreground else None
        # crun 1.8 leaves it raw.
        modes = KeptModes(-1 if terminal is None else terminal)
        try:
            pid = command.spawn(words, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=passed)
            if relay is not None:
                relay()
            code = command.wait(pid) if terminal is None else _wait_sized(pid, terminal)
        finally:
            modes.restore()
            if before is not None:
                before()
        if code < 0:
            return 128 - code
        return _failure_code(read) or code if code == _FAILED else code
    finally:
        os.close(read)
        os.close(write)


def _wait_sized(pid: int, terminal: int) -> int:
    """Wait for the runtime; while it runs, the process's terminal follows the size of ours.

    crun 1.8 sets the first size, and later only passes SIGWINCH on. So the new size is set on the
    side of the process's terminal that the runtime holds.
    """

    def follow(*_: object) -> None:
        size = find_size(terminal)
        if size is not None:
            set_size_of(pid, *size)

    before = signals.set_handler(signals.SIGWINCH, follow)
    try:
        return command.wait(pid)
    finally:
        signals.set_handler(signals.SIGWINCH, before)


def set_size_of(pid: int, rows: int, columns: int) -> None:
    """Set the size of the terminal whose other side a runtime holds. Nothing when it is gone."""
    try:
        pidfd = open_pidfd(pid)
    except ProcessLookupError:
        return
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/fd/{name}")) != "ptmx":
                    continue
                fd = copy_descriptor(pidfd, int(name))
            except OSError:
                continue
            try:
                set_size(fd, rows, columns)
            finally:
                os.close(fd)
    except FileNotFoundError:
        return
    finally:
        os.close(pidfd)


def _move_up(fd: int, least: int) -> int:
    """The same open file under a number of at least ``least``."""
    if fd >= least:
        return fd
    import fcntl

    number = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return number


def _run_in_terminal(
    argv: list[str], stdin: int | None, stdout: int | None, preserve_fds: int, foreground: bool
) -> int:
    """For a process with a terminal while our input is none: the runtime wants one to follow, so
    it gets a pseudo terminal of ours."""
    ours, theirs = (_move_up(fd, 3 + preserve_fds) for fd in os.openpty())
    # Before the runtime does it, so that nothing typed earlier is echoed or taken as a control.
    RawMode(theirs).__enter__()
    size = find_size(stdout) if stdout is not None else None
    if size is not None:
        set_size(theirs, *size)
    try:

        def relay() -> None:
            nonlocal theirs
            os.close(theirs)
            theirs = -1
            _relay(ours, stdin, stdout)

        return _run_here(argv, theirs, theirs, theirs, preserve_fds, foreground, relay)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _relay(terminal: int, stdin: int | None, stdout: int | None) -> None:
    """Pass bytes until the other side of the terminal is closed."""
    poll = select.poll()
    poll.register(terminal, select.POLLIN)
    if stdin is not None:
        poll.register(stdin, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if terminal in ready:
            try:
                data = os.read(terminal, 1 << 16)
            except OSError:  # EIO: nobody has the other side open
                return
            if stdout is not None:
                try:
                    write_all(stdout, data)
                except BrokenPipeError:
                    stdout = None
        if stdin is not None and stdin in ready:
            data = os.read(stdin, _TYPED)
            # The end of input as a terminal says it: VEOF, termios(3).
            write_all(terminal, data or b"\4")
            if not data:
                poll.unregister(stdin)
                stdin = None


def _failure_code(read: int) -> int:
    """126 or 127 (else 125) when the runtime logged an error, 0 when it did not."""
    waiter = select.poll()
    waiter.register(read, select.POLLIN)
    if not waiter.poll(0):
        return 0
    try:
        text = os.read(read, 1 << 16).decode(errors="replace")
    except BlockingIOError:
        return 0
    return classify("", text).exit_code


def _ignore_interrupts() -> Any:
    """Ignore SIGINT and SIGQUIT here; returns what undoes it. spawn gives the child defaults."""
    numbers = (signals.SIGINT, signals.SIGQUIT)
    before = [signals.set_handler(number, signals.IGNORE) for number in numbers]

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            signals.set_handler(number, handler)

    return restore
