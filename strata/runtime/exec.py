"""A further process in a running container: ``crun exec`` on the caller's own descriptors, or with
a terminal (`strata.runtime.console`).

The runtime's own failures are told from the process's by looking for the program first and by its
log.
"""

from __future__ import annotations

import os
import select

from strata import command, jsontext
from strata.errors import RuntimeFailure
from strata.linux import signals
from strata.linux.process import open_pidfd
from strata.linux.write import write_all
from strata.oci import capabilities, spec
from strata.runtime import program, users
from strata.runtime.launch import Runtime, classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts

#: what a runtime ends with when it could not start the process
_FAILED = 255


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
    os.close(program.find(root, process))
    return process


def exec_argv(
    runtime: Runtime, container_id: str, process_file: str, *, detach: bool = False,
    preserve_fds: int = 0, pid_file: str = "",
) -> list[str]:  # fmt: skip
    """The runtime's command line. Pure."""
    argv = [
        *runtime.argv,
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
    detach: bool = False, preserve_fds: int = 0, foreground: bool = True, keys: bytes = b"",
) -> int | None:  # fmt: skip
    """Run a process in a running container; its exit code, 128+n for a signal, 126 or 127 when it
    could not be run (the runtime then has said why on ``stderr``). Detached: 0 once it runs.

    None as a descriptor is /dev/null. ``foreground``: the caller is a command line; while waiting
    it leaves Ctrl-C to the process, which has the same terminal. ``keys`` typed at a terminal
    leave the process running; then None.
    """
    if detach and process.get("terminal"):
        # Nobody would ever look at it, and the runtimes need someone to hold its other side.
        process = {**process, "terminal": False}
    ends = None
    if process.get("terminal"):
        from strata.runtime import console

        here = stdin is not None and os.isatty(stdin)
        ends = console.Ends(stdin, stdout, keys=keys if here else b"", follows=here and foreground)
        size = ends.find_size()
        if size is not None:
            process = {**process, "consoleSize": {"height": size[0], "width": size[1]}}
    name = write_process(bundle, process)
    try:
        argv = exec_argv(runtime, container_id, name, detach=detach, preserve_fds=preserve_fds)
        if detach:
            return _run_detached(runtime, argv)

        def act(words: list[str], passed: Sequence[int]) -> int | None:
            if ends is not None:
                return console.run(runtime, words, bundle, ends, stderr=stderr, pass_fds=passed)
            return command.wait(
                command.spawn(words, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=passed)
            )

        return _run_here(argv, act, preserve_fds, foreground)
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
    argv: list[str], act: Callable[[list[str], Sequence[int]], int | None], preserve_fds: int,
    foreground: bool,
) -> int | None:  # fmt: skip
    """Let ``act`` run the runtime, by a command line and descriptors to pass to it."""
    # The log tells the runtime's own failures; the process never sees this pipe, nor does it take
    # a number that the caller preserves.
    read, write = (_move_up(fd, 3 + preserve_fds) for fd in os.pipe())
    try:
        os.set_blocking(read, False)
        own = argv.index("--root")
        log = ["--log-format=json", "--log", f"/proc/self/fd/{write}"]
        words = [*argv[:own], *log, *argv[own:]]
        before = _ignore_interrupts() if foreground else None
        try:
            code = act(words, [write, *range(3, 3 + preserve_fds)])
        finally:
            if before is not None:
                before()
        if code is None:
            return None
        if code < 0:
            return 128 - code
        return _failure_code(read) or code if code == _FAILED else code
    finally:
        os.close(read)
        os.close(write)


def _move_up(fd: int, least: int) -> int:
    """The same open file under a number of at least ``least``."""
    if fd >= least:
        return fd
    import fcntl

    number = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return number


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
