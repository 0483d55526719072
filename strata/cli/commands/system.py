"""Tables of the commands on the store and on the command line itself."""

from __future__ import annotations

from strata.cli.table import (
    DOCUMENT_FORMAT,
    FORMAT,
    LATEST,
    PRUNE_FILTER,
    REMOVING,
    UNASKED,
    Command,
    Option,
)

COMMANDS = (
    Command(
        ("system init",),
        "Make the store",
        "system:init",
        options=(
            Option(
                "--driver",
                "string",
                "Storage driver (kernel ZFS where there is one, else btrfs)",
                "DRIVER",
                choices=("zfs", "btrfs"),
            ),
            Option("--file", "string", "Pool file to make the store in", "PATH", complete="file"),
            Option("--pool", "string", "Existing ZFS pool to make the store in", "NAME"),
            Option("--size", "size", "Size of the pool file", "SIZE"),
        ),
        examples=("strata system init", "strata system init --driver zfs --pool tank"),
    ),
    Command(
        ("system info", "info"),
        "Show the engine, its store and this host",
        "system:info",
        options=(DOCUMENT_FORMAT,),
    ),
    Command(
        ("system df",),
        "Show what uses space",
        "space:df",
        options=(
            FORMAT,
            Option(
                "--explain", "flag", "What each object holds: alone, shared, in snapshots, trash"
            ),
            Option("--free", "size", "With --explain: which commands would free that much", "SIZE"),
            Option("--verbose -v", "flag", "List every object"),
        ),
    ),
    Command(
        ("system check",),
        "Compare records, datasets and processes",
        "system:check",
        options=(
            Option("--format", "string", "json", "FORMAT", choices=("", "json")),
            Option("--repair -r", "flag", "Repair what can be repaired without loss"),
        ),
        text="Exits with 0 when nothing is wrong (any more), 1 otherwise.",
    ),
    Command(
        ("system rebuild",),
        "Write the records anew from the datasets",
        "system:rebuild",
        text="Exit codes, times and restart counts do not survive it.",
    ),
    Command(
        ("system reset",),
        "Remove all containers, images and volumes, and the store",
        "system:reset",
        options=(UNASKED, *REMOVING),
        text="The pool file or root dataset is kept aside for a week, and 'strata undo' brings the "
        "store\nback; it goes on taking its space. --now destroys it, also one kept aside.",
    ),
    Command(
        ("inspect",),
        "Show everything about containers, images, volumes or networks",
        "system:inspect",
        "OBJECT [OBJECT...]",
        0,
        None,
        (
            Option(
                "--format -f",
                "string",
                "json, or a Go template, as in '{{.State.Status}}'",
                "FORMAT",
            ),
            LATEST,
            Option("--size -s", "flag", "Show sizes of containers"),
            Option(
                "--type -t",
                "string",
                "Kind of object",
                "TYPE",
                "all",
                choices=("all", "container", "image", "network", "volume"),
            ),
        ),
        complete="object",
    ),
    Command(
        ("system prune",),
        "Remove stopped containers, unused networks and images without a name",
        "prune:prune",
        options=(
            Option("--all -a", "flag", "All unused images, not only those without a name"),
            Option("--volumes", "flag", "Unused volumes too: anonymous ones, with --all all"),
            PRUNE_FILTER,
            UNASKED,
            *REMOVING,
        ),
        differs="what goes can be brought back by 'strata undo'; volumes only as 'volume prune'",
    ),
    Command(
        ("system migrate",),
        "Bring containers to this version, or to another OCI runtime",
        "system:migrate",
        options=(
            Option("--new-runtime", "string", "Runtime for all containers from now on", "RUNTIME"),
        ),
        text="Records are brought to this version when they are read, so without --new-runtime "
        "nothing\nis left to do. Containers that run are refused.",
        differs="containers are not stopped",
    ),
    Command(
        ("system renumber",),
        "Answer scripts that renumber locks",
        "system:renumber",
        text="Locks are the kernel's and have no numbers: nothing is done.",
        differs="locks have no numbers, so nothing is done",
    ),
    Command(("version",), "Show versions", "system:version", options=(DOCUMENT_FORMAT,)),
    Command(
        ("completion",),
        "Print a shell's completion script",
        "system:completion",
        "bash|zsh|fish",
        1,
        1,
        examples=(
            "strata completion bash > /etc/bash_completion.d/strata",
            "strata completion fish > ~/.config/fish/completions/strata.fish",
        ),
        complete="shell",
    ),
    Command(
        ("help",),
        "Show the help of a command",
        "system:help_",
        "[COMMAND...]",
        0,
        None,
        complete="command",
    ),
    Command(
        ("__complete",),
        "Print candidates for the last word; called by completion scripts",
        "system:complete",
        "WORD...",
        0,
        None,
        interspersed=False,
        hidden=True,
    ),
)
