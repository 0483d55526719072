"""Tables of the commands that write processes down and let them go on."""

from __future__ import annotations

from strata.cli.table import Command, Option

_ALL = Option("--all -a", "flag", "All containers for which it can be done")
_LATEST = Option("--latest -l", "flag", "The container created last")
_KEEP = Option("--keep -k", "flag", "Keep the files of it that would be removed")
_TCP = Option("--tcp-established", "flag", "Also with established TCP connections")
_LOCKS = Option("--file-locks", "flag", "Also with locks on files")
_STATS = Option("--print-stats", "flag", "Print how long its parts took, in microseconds")

COMMANDS = (
    Command(
        ("container checkpoint",),
        "Write running containers' processes down and end them, to go on later",
        "checkpoints:checkpoint",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            Option("--compress -c", "string", "Of the archive: gzip, none, zstd", "KIND", "zstd"),
            Option("--export -e", "string", "Write it to an archive too", "FILE", complete="file"),
            _LOCKS,
            Option("--ignore-rootfs", "flag", "Leave changed files out of the archive"),
            Option("--ignore-volumes", "flag", "Leave volumes out of the archive"),
            _KEEP,
            _LATEST,
            Option("--leave-running -R", "flag", "Let it run on"),
            Option("--pre-checkpoint -P", "flag", "Only the memory, ahead; it runs on"),
            _STATS,
            _TCP,
            Option("--with-previous", "flag", "Only what changed since --pre-checkpoint"),
        ),
        text=(
            "Needs CRIU, and an OCI runtime that can use it.\n"
            "The checkpoint lies beside the container's files: a snapshot taken now holds both,\n"
            "and after a rollback to it the container can go on from there.\n"
            "`strata start` begins anew and drops the checkpoint."
        ),
        examples=(
            "strata container checkpoint web",
            "strata container checkpoint --export web.tar.zst --tcp-established web",
        ),
        complete="running",
    ),
    Command(
        ("container restore",),
        "Let containers go on from their checkpoints",
        "checkpoints:restore",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            _LOCKS,
            Option("--ignore-rootfs", "flag", "Do not bring back changed files of an archive"),
            Option("--ignore-static-ip", "flag", "Take another address than before"),
            Option("--ignore-static-mac", "flag", "Take another hardware address than before"),
            Option("--ignore-volumes", "flag", "Do not bring back volumes of an archive"),
            Option("--import -i", "string", "Make it from an archive", "FILE", complete="file"),
            _KEEP,
            _LATEST,
            Option("--name -n", "string", "Another name for what --import makes", "NAME"),
            _STATS,
            Option("--publish -p", "list", "Publish a port of what --import makes", "PORT"),
            _TCP,
        ),
        text=(
            "An archive says which processes run with which rights: import only what you trust.\n"
            "Under another name it gets an address of its own."
        ),
        examples=(
            "strata container restore web",
            "strata container restore --import web.tar.zst --name web2",
        ),
        complete="container",
    ),
)
