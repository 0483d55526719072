"""Tables of the commands on the files of containers and images: diff, export."""

from __future__ import annotations

from strata.cli.table import FORMAT, LATEST, Command, Option

_FORMAT = Option("--format", "string", "json", "FORMAT", choices=("json",))
_MEANING = "C means changed, A added, D deleted; parents of a change count as changed."

COMMANDS = (
    Command(
        ("diff",),
        "Show what a container or image changed",
        "files:diff",
        "CONTAINER|IMAGE [CONTAINER|IMAGE] | TARGET@OLD [TARGET@NEW]",
        0,
        2,
        (_FORMAT, LATEST),
        text=f"{_MEANING}\nCompared with the layer below, or with the second one named. Of a "
        "container or volume\nTARGET, what changed since its snapshot OLD, until NEW or now, with "
        "sizes.",
        examples=("strata diff web", "strata diff data@monday", "strata diff data@mon data@tue"),
        complete="object",
    ),
    Command(
        ("container diff",),
        "Show what a container changed",
        "files:diff_container",
        "CONTAINER [CONTAINER]",
        0,
        2,
        (_FORMAT, LATEST),
        text=_MEANING,
        complete="container",
    ),
    Command(
        ("image diff",),
        "Show what the top layer of an image changed",
        "files:diff_image",
        "IMAGE [IMAGE]",
        1,
        2,
        (_FORMAT,),
        text=_MEANING,
        complete="image",
    ),
    Command(
        ("export", "container export"),
        "Write a container's files as a tar archive",
        "files:export",
        "CONTAINER",
        0,
        1,
        (
            LATEST,
            Option(
                "--output -o",
                "string",
                "File to write, instead of standard output",
                "PATH",
                complete="file",
            ),
        ),
        text="Of a running container, the files are those of one moment.",
        examples=("strata export -o web.tar web", "strata export web | tar -t"),
        complete="container",
    ),
    Command(
        ("mount", "container mount"),
        "Show the files of containers, or of snapshots read-only, on the host",
        "files:mount",
        "[CONTAINER|TARGET@NAME...]",
        0,
        None,
        (
            Option("--all -a", "flag", "All containers"),
            FORMAT,
            LATEST,
            Option("--no-trunc", "flag", "Do not shorten ids"),
        ),
        text="Prints where. Without arguments what is mounted is listed.",
        examples=("ls $(strata mount web)", "ls $(strata mount data@monday)"),
        complete="object",
    ),
    Command(
        ("unmount", "umount", "container unmount", "container umount"),
        "Take the files of containers or snapshots away from the host",
        "files:unmount",
        "CONTAINER|TARGET@NAME...",
        0,
        None,
        (
            Option("--all -a", "flag", "All that are mounted"),
            Option("--force -f", "flag", "However often they were mounted"),
            LATEST,
        ),
        text="A container that was mounted several times must be unmounted as often.",
        complete="object",
    ),
    Command(
        ("container clone",),
        "Make a new container with the settings of another",
        "files:clone_container",
        "CONTAINER [NAME]",
        1,
        2,
        (
            Option("--destroy", "flag", "Remove the original"),
            Option("--force -f", "flag", "With --destroy: also when it runs"),
            Option("--name", "string", "Name of the new one (NAME-clone)", "NAME"),
            Option("--run", "flag", "Start the new one"),
        ),
        text=(
            "It starts from the image's files. `strata clone` makes one that has the other's files "
            "too."
        ),
        complete="container",
    ),
)
