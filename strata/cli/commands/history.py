"""Tables of the commands on what containers and volumes were. TARGET is one of either."""

from __future__ import annotations

from strata.cli.table import FORMAT, REMOVING, Command, Option

_NO_STOP = Option("--no-stop", "flag", "Refuse when running containers use it")

COMMANDS = (
    Command(
        ("log",),
        "Draw the history of a container or volume: snapshots, branches, clones, users",
        "history:log",
        "TARGET",
        1,
        1,
        (
            FORMAT,
            Option("--size -s", "flag", "Show what each snapshot holds alone"),
        ),
        text="The newest comes first; * marks heads of branches, the current one is named first.\n"
        "Snapshots that were made by hand or by other tools are there too.",
        complete="target",
    ),
    Command(
        ("switch",),
        "Make a branch of a container or volume its head; nothing is lost",
        "history:switch",
        "TARGET BRANCH",
        2,
        2,
        (_NO_STOP,),
        text="Running containers that use it are stopped and started again.",
        examples=("strata rollback data@before-upgrade", "strata switch data g1"),
        complete="target",
    ),
    Command(
        ("fork create",),
        "Copy containers with their volumes as they are at one moment, and start the copies",
        "history:fork",
        "CONTAINER [CONTAINER...]",
        1,
        None,
        (
            Option("--as", "string", "Name of the fork; its members are called NAME-…", "NAME"),
            Option("--no-start", "flag", "Do not start the copies"),
            Option("--quiesce", "string", "How to make all of them consistent first", "MODE"),
        ),
        text="'strata fork CONTAINER... --as NAME' is short for this. The copies have networks of "
        "their own,\nwhere they know each other by their old names, and free published ports.",
        examples=("strata fork web db --as pr-123", "strata fork rm --discard pr-123"),
        complete="container",
    ),
    Command(("fork ls", "fork list"), "List forks", "history:forks", options=(FORMAT,)),
    Command(
        ("fork rm",),
        "Remove forks: their containers, running ones too, volumes and networks",
        "history:remove_forks",
        "FORK [FORK...]",
        1,
        None,
        (
            Option("--discard", "flag", "As --now"),
            *REMOVING,
            Option("--time -t", "int", "Seconds to wait for containers", "SECONDS"),
        ),
        complete="fork",
    ),
    Command(
        ("branch ls", "branch list"),
        "List the head and the branches of a container or volume",
        "history:branches",
        "TARGET",
        1,
        1,
        (FORMAT,),
        complete="target",
    ),
    Command(
        ("branch rename",),
        "Give a branch another name",
        "history:rename",
        "TARGET OLD NEW",
        3,
        3,
        complete="target",
    ),
    Command(
        ("branch rm",),
        "Remove branches, with the snapshots that lie on them",
        "history:remove",
        "TARGET BRANCH [BRANCH...]",
        2,
        None,
        REMOVING,
        complete="target",
    ),
)
