"""Tables of the commands on snapshots. TARGET is a container or a volume."""

from __future__ import annotations

from strata.cli.table import FORMAT, NO_HEADING, REMOVING, Command, Option

COMMANDS = (
    Command(
        ("snapshot create",),
        "Make snapshots of containers and volumes, all of one moment",
        "snapshots:create",
        "TARGET@NAME [TARGET@NAME...]",
        1,
        None,
        (
            Option(
                "--quiesce",
                "string",
                "How running containers are made consistent, instead of what their label or image "
                "says: postgres, mysql, redis, sqlite, freeze, none or exec:COMMAND",
                "MODE",
            ),
            Option("--volumes", "flag", "The named volumes of containers too"),
        ),
        text="'strata snapshot TARGET@NAME' is short for this. The label io.strata.quiesce says "
        "how a\ncontainer is made consistent. Where the pool cannot take several snapshots at "
        "once, the\ncontainers that use them are held still meanwhile.",
        examples=(
            "strata snapshot data@before-upgrade",
            "strata snapshot --volumes web@monday db@monday",
        ),
        complete="target",
    ),
    Command(
        ("snapshot ls", "snapshot list"),
        "List snapshots",
        "snapshots:ls",
        "[TARGET]",
        0,
        1,
        (
            FORMAT,
            NO_HEADING,
            Option("--quiet -q", "flag", "TARGET@NAME only"),
        ),
        complete="target",
    ),
    Command(
        ("snapshot rm",),
        "Remove snapshots",
        "snapshots:remove",
        "TARGET@NAME [TARGET@NAME...]",
        1,
        None,
        REMOVING,
        text="A snapshot that a branch or clone stands on goes to the trash like any other and "
        "waits\nthere for them; with --now it is refused.",
        complete="snapshot",
    ),
    Command(
        ("rollback",),
        "Take a container or volume back to a snapshot; nothing is lost",
        "snapshots:rollback",
        "TARGET@NAME",
        1,
        1,
        (Option("--no-stop", "flag", "Refuse when running containers use it"),),
        text="The state before is kept as a branch, with its snapshots. Running containers that\n"
        "use it are stopped and started again.",
        examples=("strata rollback data@before-upgrade",),
        complete="snapshot",
    ),
    Command(
        ("clone",),
        "Make a new container or volume from one, or from its snapshot",
        "snapshots:clone",
        "TARGET[@NAME] NEW",
        2,
        2,
        examples=("strata clone data@before-upgrade data-test",),
        complete="snapshot",
    ),
)
