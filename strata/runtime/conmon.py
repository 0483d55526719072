"""The command line of conmon and the shell test it runs when the container has ended. Pure.

conmon 2.1 reads one block from ``_OCI_STARTPIPE`` before it forks, writes the container's pid (or
-1 and a message) to ``_OCI_SYNCPIPE``, keeps that pipe open until the exit file is written, and
then runs the exit command.

conmon stays in the home mount namespace; only the runtime's ``create`` enters the one in which
the root file system is mounted. So nothing outlives the container that could pin its dataset, and
the exit command needs no way back (conmon closes every inherited descriptor before it).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: numbers of the two pipes in conmon, after what the container's process is to inherit
SYNC_FD = 3
START_FD = 4

#: conmon writes ``oom`` to its directory, what it makes must not depend on the user's mask, and it
#: leaves its caller's cgroup when there is another (a redirection that fails only fails itself)
_WRAPPER = '{ echo 0 >"$1"; } 2>/dev/null; shift; umask 022; cd "$0" && exec "$@"'


def conmon_argv(
    *, container_id: str, name: str, bundle: str, conmon: str, runtime: Sequence[str], log: str,
    tty: bool, stdin: bool, exit_argv: Sequence[str], procs: str, timeout: int = 0,
    log_size: int = 0, log_tag: str = "", preserve: int = 0,
    restore: tuple[str, Sequence[str]] | None = None,
) -> list[str]:  # fmt: skip
    """How conmon is started. ``runtime`` is what runs the OCI runtime with its global options,
    ``log`` is ``k8s-file:PATH``, ``journald``, ``passthrough`` or ``none``, ``procs`` the
    ``cgroup.procs`` it moves itself to (empty: it stays where it is), ``timeout`` kills the
    container after so many seconds, ``log_size`` is the most bytes a log may have (0: no limit),
    ``log_tag`` goes with each entry of a journal, ``preserve`` says how many descriptors from 3 on
    the process inherits. ``restore``: a folder with a checkpoint that the container goes on from,
    running at once, and further options for that."""
    argv = [
        "/bin/sh", "-c", _WRAPPER, bundle, procs or "/dev/null", conmon, "--api-version", "1",
        "-c", container_id, "-u", container_id, "-n", name, "-r", runtime[0], "-b", bundle,
        "-p", f"{bundle}/pidfile", "-P", f"{bundle}/conmon.pid", "-l", log,
        "--exit-dir", f"{bundle}/exit", "--full-attach", "--no-sync-log",
    ]  # fmt: skip
    for argument in runtime[1:]:
        argv += ["--runtime-arg", argument]
    if preserve:
        for argument in ("--preserve-fds", str(preserve)):
            argv += ["--runtime-opt", argument]
    if restore is not None:
        argv += ["--restore", restore[0]]
        for argument in restore[1]:
            argv += ["--runtime-opt", argument]
    if timeout:
        argv += ["--timeout", str(timeout)]
    if log_size:
        argv += ["--log-size-max", str(log_size)]
    if log_tag:
        argv += ["--log-tag", log_tag]
    if tty:
        argv.append("-t")
    elif stdin:
        argv.append("-i")
    if exit_argv:
        argv += ["--exit-command", exit_argv[0]]
        for argument in exit_argv[1:]:
            argv += ["--exit-command-arg", argument]
    return argv


# Of /proc/PID/stat, what follows the name's ")" begins with the state, field 3; the start time
# is field 22: proc_pid_stat(5). A process that is gone leaves ``line`` empty.
_OWNER_TEST = """\
left=$1 pid=$2 start=$3; shift 3; line=
[ -e "$left" ] && exec "$@"
read -r line 2>/dev/null <"/proc/$pid/stat"
n=0
for word in ${line##*) }; do
n=$((n + 1))
if [ $n = 1 ] && [ "$word" = Z ]; then break; fi
if [ $n = 20 ] && [ "$word" = "$start" ]; then exit 0; fi
done
exec "$@"
"""


def left_file(bundle: str) -> str:
    """The file whose presence says that the owner has left the container to its conmon."""
    return f"{bundle}/left"


def exit_command(
    cleanup: Sequence[str], owner: tuple[int, int] | None, bundle: str
) -> list[str]:  # fmt: skip
    """What conmon runs at the end: ``cleanup``, unless the owner lives and has not left.

    ``owner`` is pid and start time of the foreground process that will clean up itself; None for
    a detached container. The shell costs a millisecond, an interpreter ten.
    """
    if not cleanup or owner is None:
        return list(cleanup)
    return ["/bin/sh", "-c", _OWNER_TEST, "sh", left_file(bundle), str(owner[0]), str(owner[1]),
            *cleanup]  # fmt: skip
