"""The command line of conmon and the shell test it runs when the container has ended. Pure.

conmon 2.1: it reads one byte block from ``_OCI_STARTPIPE`` before it forks, writes the
container's pid (or -1 and a message) to ``_OCI_SYNCPIPE``, keeps that pipe open until the exit
file is written, and then runs the exit command. It closes every descriptor above 2 in the exit
command but keeps inherited ones itself, so the home mount namespace is reached through the
parent's: ``/proc/$PPID/fd/5``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYNC_FD = 3
START_FD = 4
HOME_FD = 5
#: conmon's own descriptors begin here
FIRST_FREE_FD = 6


def conmon_argv(
    *, container_id: str, name: str, bundle: str, runtime: str, runtime_args: Sequence[str],
    log: str, tty: bool, stdin: bool, exit_argv: Sequence[str],
) -> list[str]:  # fmt: skip
    """conmon's arguments. ``log`` is ``k8s-file:PATH`` or ``none``."""
    argv = [
        "conmon", "--api-version", "1", "-c", container_id, "-u", container_id, "-n", name,
        "-r", runtime, "-b", bundle, "-p", f"{bundle}/pidfile", "-P", f"{bundle}/conmon.pid",
        "-l", log, "--exit-dir", f"{bundle}/exit", "--full-attach", "--no-sync-log",
    ]  # fmt: skip
    for argument in runtime_args:
        argv += ["--runtime-arg", argument]
    if tty:
        argv.append("-t")
    elif stdin:
        argv.append("-i")
    if exit_argv:
        argv += ["--exit-command", exit_argv[0]]
        for argument in exit_argv[1:]:
            argv += ["--exit-command-arg", argument]
    return argv


def exit_command(cleanup: Sequence[str], owner: tuple[int, int] | None) -> list[str]:
    """What conmon runs at the end: ``cleanup`` in the home namespace, unless the owner lives.

    ``owner`` is pid and start time of the foreground process that will clean up itself; None for
    a detached container. The shell costs a millisecond, an interpreter ten.
    """
    if not cleanup:
        return []
    go = f'exec nsenter --mount="/proc/$PPID/fd/{HOME_FD}" -- "$@"'
    if owner is None:
        return ["/bin/sh", "-c", go, "sh", *cleanup]
    pid, start = owner
    # Field 22 of proc_pid_stat(5) is the start time; what follows the name's ")" begins at 3.
    test = (
        f"if read -r line 2>/dev/null </proc/{pid}/stat; then set -- \"${{line##*) }}\" \"$@\"; "
        "stat=$1; shift; IFS=' '; n=0; for word in $stat; do n=$((n+1)); "
        f'[ $n = 1 ] && [ "$word" = Z ] && break; [ $n = 20 ] && [ "$word" = {start} ] && exit 0; '
        "done; fi; "
    )
    return ["/bin/sh", "-c", test + go, "sh", *cleanup]
