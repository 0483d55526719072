"""The one place that runs programs.

``run`` starts a program with a small fixed environment and a closed standard input, collects its
output and turns a failure into `CommandFailed`. It uses ``posix_spawn`` and pipes directly,
because importing ``subprocess`` costs as much as starting the interpreter. Descriptors are closed
on exec unless named in ``pass_fds``; the store's lock descriptors are inherited on purpose (see
``strata.linux.locks``), so an operation ends only when its last program ends.
"""

from __future__ import annotations

import os
import time

from strata.errors import CommandFailed, NotFound, StrataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}

# Descriptors that every started program inherits (held locks). Filled by strata.linux.locks.
inherited: set[int] = set()

# A test or a trace may install a function here; it sees every argv before it runs.
observer: Callable[[Sequence[str]], None] | None = None

# Says the words that start strata again, absolute (for conmon's exit command, the reaper). The
# command line sets it; there are none when the engine is used as a library.
find_own_argv: Callable[[], list[str]] = list

_paths: dict[str, str] = {}


class Result:
    """A finished program: ``returncode`` (negative: signal), ``stdout`` and ``stderr`` bytes."""

    __slots__ = ("returncode", "stderr", "stdout")

    def __init__(self, returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    @property
    def text(self) -> str:
        """Standard output as text, undecodable bytes kept as surrogates."""
        return self.stdout.decode(errors="surrogateescape")


def find_program(name: str) -> str | None:
    """Return the absolute path of a program, or None. The answer is remembered."""
    if name.startswith("/"):
        return name if os.access(name, os.X_OK) else None
    if name in _paths:
        return _paths[name]
    for folder in ENVIRONMENT["PATH"].split(":"):
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            _paths[name] = path
            return path
    return None


def get_program(name: str) -> str:
    """Return the absolute path of a program; raise `NotFound` with a hint when it is missing."""
    path = find_program(name)
    if path is None:
        raise NotFound(
            f"the program {name!r} is not installed",
            hint="install it with your package manager, or run ./quickstart again",
        )
    return path


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
    keep_locks: bool = True,
) -> int:
    """Start a program and return its pid. None as a standard descriptor means /dev/null.

    ``pass_fds`` keep their numbers in the program and must be above 2. A program that outlives
    the operation (a daemon) is started without ``keep_locks``, or it would hold them for ever.
    """
    if observer is not None:
        observer(argv)
    program = get_program(argv[0])
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = []
    for target, source in ((0, stdin), (1, stdout), (2, stderr)):
        if source is None:
            mode = os.O_RDONLY if target == 0 else os.O_WRONLY
            actions.append((os.POSIX_SPAWN_OPEN, target, "/dev/null", mode, 0))
        else:
            # dup2 onto itself leaves close-on-exec set in older C libraries, so go through a copy.
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
    held = inherited if keep_locks else ()
    marked = [fd for fd in {*pass_fds, *held} if not os.get_inheritable(fd)]
    marked += [fd for fd in (stdin, stdout, stderr) if fd is not None and fd < 3
               and not os.get_inheritable(fd)]  # fmt: skip
    for fd in marked:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            program,
            list(argv),
            dict(ENVIRONMENT if env is None else env),
            file_actions=actions,
            setsid=new_session,
            setsigdef=[2, 3, 13, 15],
        )
    finally:
        for fd in marked:
            if fd > 2:
                os.set_inheritable(fd, False)


def spawn_detached(argv: Sequence[str], env: Mapping[str, str], placed: Mapping[int, int]) -> int:
    """Start a program that outlives us, ``argv[0]`` being a path; returns its pid.

    It has its own session, /dev/null as standard descriptors, of ours only those in ``placed``
    (number there -> descriptor here), default signals. It must not inherit locks or what our
    caller left open: who waits for the end of a pipe would wait for that program.
    """
    import fcntl

    if observer is not None:
        observer(argv)
    # Copies above every target, so that no step overwrites a descriptor still needed.
    least = max([32, *(there + 1 for there in placed)])
    copies = {
        there: fcntl.fcntl(here, fcntl.F_DUPFD_CLOEXEC, least) for there, here in placed.items()
    }
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int] | tuple[int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)
    ]
    try:
        for name in os.listdir("/proc/self/fd"):
            number = int(name)
            try:
                if number > 2 and number not in placed and os.get_inheritable(number):
                    actions.append((os.POSIX_SPAWN_CLOSE, number))
            except OSError:
                continue
        actions += [(os.POSIX_SPAWN_DUP2, copy, there) for there, copy in copies.items()]
        return os.posix_spawn(
            argv[0], list(argv), dict(env), file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=(1, 2, 3, 10, 12, 13, 14, 15, 17, 25),
        )  # fmt: skip
    finally:
        for copy in copies.values():
            os.close(copy)


def wait(pid: int) -> int:
    """Wait for a program; return its exit code, or minus the signal that killed it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    check: bool = True,
    timeout: float | None = None,
    classify: Callable[[Result], StrataError | None] | None = None,
) -> Result:
    """Run a program to its end.

    ``input`` is fed to its standard input. ``timeout`` is in seconds; past it the program is
    killed and `CommandFailed` raised. When it fails and ``check`` is true, ``classify`` (one per
    foreign tool) may turn the result into a typed error; None from it means "unknown", and
    `CommandFailed` is raised.
    """
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    in_r = in_w = -1
    if input is not None:
        in_r, in_w = os.pipe()
    try:
        pid = spawn(argv, stdin=in_r if input is not None else None, stdout=out_w, stderr=err_w,
                    env=env, pass_fds=pass_fds)  # fmt: skip
    except BaseException:
        for fd in (out_r, err_r, in_w):
            if fd >= 0:
                os.close(fd)
        raise
    finally:
        for fd in (out_w, err_w, in_r):
            if fd >= 0:
                os.close(fd)
    stdout, stderr, late = _communicate(pid, out_r, err_r, in_w, input or b"", timeout)
    code = wait(pid)
    result = Result(code, stdout, stderr)
    if late:
        raise CommandFailed(list(argv), code, f"no answer within {timeout} s")
    if check and code != 0:
        known = classify(result) if classify is not None else None
        raise known or CommandFailed(list(argv), code, stderr.decode(errors="replace"))
    return result


def _communicate(
    pid: int, out: int, err: int, into: int, data: bytes, timeout: float | None
) -> tuple[bytes, bytes, bool]:
    """Move bytes until both outputs are closed; kill the program once past ``timeout``."""
    import select

    deadline = None if timeout is None else time.monotonic() + timeout
    chunks: dict[int, list[bytes]] = {out: [], err: []}
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(err, select.POLLIN)
    if into >= 0:
        os.set_blocking(into, False)
        poll.register(into, select.POLLOUT)
    open_fds = {out, err}
    view = memoryview(data)
    late = False
    while open_fds:
        wait_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
        events = poll.poll(wait_ms)
        if not events and deadline is not None and time.monotonic() >= deadline:
            os.kill(pid, 9)
            late, deadline = True, None
            continue
        for fd, _ in events:
            if fd == into:
                try:
                    view = view[os.write(into, view[:65536]) :] if view else view
                except BrokenPipeError:
                    view = view[:0]
                if not view:
                    poll.unregister(into)
                    os.close(into)
                    into = -1
            else:
                chunk = os.read(fd, 65536)
                if chunk:
                    chunks[fd].append(chunk)
                else:
                    poll.unregister(fd)
                    os.close(fd)
                    open_fds.discard(fd)
    if into >= 0:
        os.close(into)
    return b"".join(chunks[out]), b"".join(chunks[err]), late
