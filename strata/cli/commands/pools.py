"""Tables of the commands on pools beside the store's own."""

from __future__ import annotations

from strata.cli.table import NO_HEADING, Command, Option

COMMANDS = (
    Command(
        ("pool add",),
        "Configure another pool for volumes",
        "pools:add",
        "NAME DATASET|PATH",
        2,
        2,
        text=(
            "Volumes are put in a dataset 'strata' in DATASET, or on btrfs in a directory 'strata' "
            "below PATH.\nNothing else there is touched."
        ),
        examples=(
            "strata pool add fast nvme",
            "strata volume create --pool fast pgdata",
        ),
        complete="dir",
    ),
    Command(
        ("pool ls", "pool list"),
        "List pools, the store's own first",
        "pools:list_",
        options=(
            Option("--format", "string", "json, or a Go template", "FORMAT"),
            NO_HEADING,
            Option("--quiet -q", "flag", "Names only"),
        ),
    ),
    Command(
        ("pool rm", "pool remove"),
        "Forget pools that hold no volumes",
        "pools:remove",
        "POOL [POOL...]",
        1,
        None,
        (Option("--force -f", "flag", "Also one that is not there, and what the trash has in it"),),
        text="Refused while a volume, or something in the trash, lies in the pool.",
        complete="pool",
    ),
)
