"""Tables of the commands on what was removed."""

from __future__ import annotations

from strata.cli.table import DOCUMENT_FORMAT, DRY_RUN, FORMAT, UNASKED, Command, Option

_DRY_RUN = Option("--dry-run", "flag", "Only print what would come back")

COMMANDS = (
    Command(
        ("undo",),
        "Bring back what a command removed",
        "trash:undo",
        "[OPERATION]",
        0,
        1,
        (_DRY_RUN,),
        text="Without OPERATION the newest one that can be undone. All objects that one command\n"
        "removed come back together; one whose name is taken comes back as NAME-restored.",
        examples=("strata undo", "strata undo --dry-run", "strata undo 3f9c01b2a4d7"),
        complete="operation",
    ),
    Command(
        ("trash ls", "trash list"),
        "List what was removed and can still be brought back",
        "trash:list_",
        options=(
            FORMAT,
            Option("--no-trunc", "flag", "Show whole ids and commands"),
        ),
    ),
    Command(
        ("trash show",),
        "Show everything about removed objects",
        "trash:show",
        "NAME|ID [NAME|ID...]",
        1,
        None,
        (DOCUMENT_FORMAT,),
        complete="trash",
    ),
    Command(
        ("trash restore",),
        "Bring back removed objects, one by one",
        "trash:restore",
        "NAME|ID [NAME|ID...]",
        1,
        None,
        (
            _DRY_RUN,
            Option("--name", "string", "What it is called from now on", "NAME"),
            Option(
                "--renumber",
                "flag",
                "Give a network a subnet and bridge of its own anew where others have them now",
            ),
        ),
        examples=(
            "strata trash restore pgdata",
            "strata trash restore --name pgdata-old pgdata",
            "strata trash restore --renumber back",
        ),
        complete="trash",
    ),
    Command(
        ("trash empty",),
        "Destroy what is in the trash before its time, for good",
        "trash:empty",
        "[NAME|ID...]",
        most=None,
        options=(
            Option("--all -a", "flag", "Everything in the trash"),
            DRY_RUN,
            UNASKED,
            Option("--free", "size", "The oldest, until the pool has that much free", "SIZE"),
            Option("--older-than", "duration", "What was removed longer ago", "DURATION"),
        ),
        text="Lists what goes, snapshots that others took of it included, and asks.",
        examples=(
            "strata trash empty pgdata",
            "strata trash empty --older-than 12h",
            "strata trash empty --free 10g",
        ),
        complete="trash",
    ),
)
