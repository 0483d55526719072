"""Tables of the commands on volumes."""

from __future__ import annotations

from strata.cli.table import (
    DOCUMENT_FORMAT,
    NO_HEADING,
    PRUNE_FILTER,
    REMOVING,
    UNASKED,
    Command,
    Option,
)

_FORMAT = Option("--format", "string", "json, or a Go template, as in '{{.Name}}'", "FORMAT")
_FILTER = Option("--filter -f", "list", "Keep what matches, as in label=app=web", "KEY=VALUE")

COMMANDS = (
    Command(
        ("volume create",),
        "Create a volume",
        "volumes:create",
        "[NAME]",
        0,
        1,
        (
            Option(
                "--dataset",
                "string",
                "Adopt a dataset that exists, and only ever forget it",
                "DATASET",
                complete="dir",
            ),
            Option(
                "--driver -d", "string", "Driver", "DRIVER", "local", choices=("local", "strata")
            ),
            Option("--ignore", "flag", "Do nothing when the volume exists"),
            Option("--name", "string", "Its name, where no argument gives it", "NAME"),
            Option("--label -l", "list", "Set a label", "KEY[=VALUE]"),
            Option(
                "--opt -o",
                "list",
                "Set a native property, as in size=10g or compression=zstd",
                "KEY=VALUE",
                complete="property",
                differs="properties of the dataset and size=; type=, device= and o= are refused",
            ),
            Option(
                "--pool",
                "string",
                "Put it in another pool (see 'pool ls')",
                "POOL",
                complete="pool",
            ),
            Option(
                "--profile",
                "string",
                "Properties that suit a kind of data (see 'volume profiles')",
                "NAME",
                complete="profile",
            ),
        ),
        examples=(
            "strata volume create --profile postgres -o size=20g data",
            "strata volume create --dataset tank/photos photos",
        ),
    ),
    Command(
        ("volume update",),
        "Change limits, reservations and other native properties of a volume",
        "volumes:update",
        "VOLUME",
        1,
        1,
        (
            Option(
                "--opt -o",
                "list",
                "Set a native property; a limit ends with =none",
                "KEY=VALUE",
                complete="property",
            ),
        ),
        text=(
            "Takes effect at once, also while containers use the volume. What was written before "
            "keeps the\ncompression and record size it has."
        ),
        examples=(
            "strata volume update -o size=40g data",
            "strata volume update -o size=none data",
        ),
        complete="volume",
    ),
    Command(
        ("volume ls", "volume list"),
        "List volumes",
        "volumes:ls",
        "[-l VOLUME[@SNAPSHOT][:PATH]]",
        0,
        1,
        options=(
            _FILTER,
            _FORMAT,
            Option("--long -l", "flag", "List the files of a volume, also as they were"),
            NO_HEADING,
            Option("--quiet -q", "flag", "Names only"),
        ),
        text=(
            "Filters: name (a regular expression), label and label!, dangling, opt, since, until, "
            "driver, scope,\nanonymous."
        ),
    ),
    Command(
        ("volume inspect",),
        "Show everything about volumes",
        "volumes:inspect",
        "VOLUME [VOLUME...]",
        0,
        None,
        (
            Option("--all -a", "flag", "All volumes"),
            DOCUMENT_FORMAT,
        ),
        complete="volume",
    ),
    Command(
        ("volume rm",),
        "Remove volumes",
        "volumes:remove",
        "VOLUME [VOLUME...]",
        0,
        None,
        (
            Option("--all -a", "flag", "All volumes"),
            Option("--force -f", "flag", "Remove containers that use the volume first"),
            Option("--time -t", "int", "Seconds to wait for such containers", "SECONDS"),
            *REMOVING,
        ),
        text="Exits with 1 when a volume does not exist, 2 when one is in use, else 125.\n"
        "An adopted volume is only forgotten: its dataset stays as it is.",
        complete="volume",
    ),
    Command(
        ("volume prune",),
        "Remove anonymous volumes that no container uses; with --all named ones too",
        "volumes:prune",
        options=(
            Option("--all -a", "flag", "Named volumes too"),
            PRUNE_FILTER,
            UNASKED,
            *REMOVING,
        ),
    ),
    Command(
        ("volume exists",),
        "Exit with 0 when a volume exists, 1 when it does not",
        "volumes:exists",
        "VOLUME",
        1,
        1,
        complete="volume",
    ),
    Command(
        ("volume export",),
        "Write a volume's files as a tar archive",
        "volumes:export",
        "VOLUME",
        1,
        1,
        (
            Option(
                "--output -o",
                "string",
                "File to write, instead of standard output",
                "PATH",
                complete="file",
            ),
        ),
        text="The files are those of one moment, also while containers write.",
        examples=("strata volume export -o data.tar data",),
        complete="volume",
    ),
    Command(
        ("volume import",),
        "Unpack a tar archive over a volume's files",
        "volumes:import_",
        "VOLUME [PATH|-]",
        1,
        2,
        text="An archive that is broken changes nothing. Compressed ones are recognised.",
        examples=("strata volume import data data.tar",),
        complete="volume",
    ),
    Command(
        ("volume mount",),
        "Print the mountpoint of volumes on the host",
        "volumes:mount",
        "VOLUME [VOLUME...]",
        1,
        None,
        text="Volumes are mounted there before their first use, for backups, and stay mounted.",
        complete="volume",
    ),
    Command(
        ("volume unmount",),
        "Unmount volumes that lie outside the store; answer for others",
        "volumes:unmount",
        "VOLUME [VOLUME...]",
        1,
        None,
        text="A volume of the store stays mounted on the host until it is removed. One that is\n"
        "adopted or in another pool is unmounted, so that its pool can be exported.",
        complete="volume",
        differs="the mountpoint on the host stays, but for volumes outside the store",
    ),
    Command(
        ("volume reload",),
        "Answer scripts that reload volume plug-ins",
        "volumes:reload",
        text="There are no volume plug-ins: the list of volumes is always the store's.",
        differs="there are no plug-ins, so nothing is done",
    ),
    Command(
        ("volume profiles",),
        "List the profiles of volumes",
        "volumes:profiles",
        options=(_FORMAT,),
    ),
)
