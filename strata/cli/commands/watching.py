"""Tables of the commands that watch: events, stats, top."""

from __future__ import annotations

from strata.cli.table import FORMAT, LATEST, Command, Option

_NO_TRUNC = Option("--no-trunc", "flag", "Do not shorten ids")

COMMANDS = (
    Command(
        ("events", "system events"),
        "Show what happened, and go on as more happens",
        "watching:events",
        options=(
            Option("--filter -f", "list", "Keep what matches, as in event=died", "KEY=VALUE"),
            FORMAT,
            Option("--no-trunc", "flag", "Do not shorten ids", default=True),
            Option("--since", "string", "Events since a time, or a duration ago", "TIME"),
            Option(
                "--stream", "flag", "Go on with new events; false: end after the old", default=True
            ),
            Option("--until", "string", "Watch until a time, or for a duration", "TIME"),
        ),
        text=(
            "Without --since only new events are shown, unless --stream=false.\n"
            "Filters: container, event, image, label, network, pod, snapshot, type, volume."
        ),
        examples=(
            "strata events --since 10m --filter event=died",
            "strata events --stream=false --format json",
        ),
    ),
    Command(
        ("top", "container top"),
        "Show the processes of a container",
        "watching:top",
        "[CONTAINER] [DESCRIPTOR...|PS-OPTION...]",
        0,
        None,
        (LATEST,),
        text=(
            "Descriptors: args capamb capbnd capeff capinh capprm comm etime group groups hgroup "
            "hgroups\nhpid huser label nice pcpu pgid pid ppid rgroup rss ruser seccomp state "
            "stime time tty user vsz.\nWith options of ps, such as -ef, the container's own ps "
            "runs."
        ),
        examples=("strata top web", "strata top web pid,huser,args"),
        interspersed=False,
        complete="running",
    ),
    Command(
        ("stats", "container stats"),
        "Show what containers use, again and again",
        "watching:stats",
        "[CONTAINER...]",
        0,
        None,
        (
            Option("--all -a", "flag", "Also those that do not run"),
            FORMAT,
            Option("--interval -i", "int", "Seconds between two looks", "SECONDS", 5),
            LATEST,
            Option("--no-reset", "flag", "Do not clear the screen in between"),
            Option("--no-stream", "flag", "Look once"),
            _NO_TRUNC,
        ),
        examples=("strata stats --no-stream", "strata stats --format json web"),
        complete="running",
    ),
    Command(
        ("healthcheck run",),
        "Run the health check of a container",
        "watching:run_health_check",
        "CONTAINER",
        1,
        1,
        text="Exits with 0 when the check succeeds, 1 when it fails, 125 when it cannot run.",
        complete="running",
    ),
    Command(
        ("container revive",),
        "Start a container that has ended again, if its policy says so; called by the supervisor",
        "watching:revive",
        "CONTAINER",
        1,
        1,
        hidden=True,
    ),
    Command(
        ("system supervise",),
        "Watch containers with restart policies and health checks; started by strata itself",
        "watching:supervise",
        hidden=True,
    ),
)
