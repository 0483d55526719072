"""Tables of the commands on existing containers."""

from __future__ import annotations

from strata.cli.table import DOCUMENT_FORMAT, LATEST, REMOVING, UNASKED, Command, Option

_ALL = Option("--all -a", "flag", "All containers")
_IGNORE = Option("--ignore -i", "flag", "Pass over containers that do not exist")
_TIME = Option("--time -t", "int", "Seconds to wait before KILL (the container's own)", "SECONDS")
_DETACH = Option(
    "--detach-keys", "string", "Keys that leave the container running", "KEYS", "ctrl-p,ctrl-q"
)
_PROXY = Option("--sig-proxy", "flag", "Send signals on to the container", default=True)
_FILTER = Option("--filter -f", "list", "Keep what matches, as in status=running", "KEY=VALUE")
_CIDFILE = Option(
    "--cidfile", "list", "Read the container's id from a file", "PATH", complete="file"
)
_CHOICE = Option("--filter -f", "list", "Those that match, as in label=app", "KEY=VALUE")
_FORMAT = Option(
    "--format", "string", "json, or a Go template, as in '{{.ID}} {{.Names}}'", "FORMAT"
)
_NO_TRUNC = Option("--no-trunc", "flag", "Do not shorten ids and commands")

COMMANDS = (
    Command(
        ("start", "container start"),
        "Start containers",
        "life:start",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            Option("--all", "flag", "All containers that do not run"),
            Option("--attach -a", "flag", "Stay attached to the output"),
            _DETACH,
            _CHOICE,
            Option("--interactive -i", "flag", "Stay attached to the input too"),
            LATEST,
            _PROXY,
        ),
        complete="container",
    ),
    Command(
        ("stop", "container stop"),
        "Stop containers: their stop signal, then KILL",
        "life:stop",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            _CIDFILE,
            _CHOICE,
            _IGNORE,
            LATEST,
            Option(
                "--not-stopped-by-user",
                "flag",
                "The host goes down: restart policies hold at the next boot; also what is paused",
            ),
            _TIME,
        ),
        text="Several end at the same time, each after those that require it.",
        complete="running",
    ),
    Command(
        ("kill", "container kill"),
        "Send a signal to running containers",
        "life:kill",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            _CIDFILE,
            LATEST,
            Option("--signal -s", "string", "Signal to send", "SIGNAL", "KILL"),
        ),
        complete="running",
    ),
    Command(
        ("init", "container init"),
        "Make everything a start makes, without letting the process run",
        "life:init",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (_ALL, LATEST),
        text="`strata start` then only lets it run.",
        complete="container",
    ),
    Command(
        ("restart", "container restart"),
        "Stop containers and start them again",
        "life:restart",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            _CIDFILE,
            _CHOICE,
            LATEST,
            Option("--running", "flag", "Only those that run"),
            _TIME,
        ),
        text="One that does not run is started.",
        complete="container",
    ),
    Command(
        ("pause", "container pause"),
        "Freeze all processes of containers",
        "life:pause",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (_ALL, _CIDFILE, _CHOICE, LATEST),
        complete="running",
    ),
    Command(
        ("unpause", "container unpause"),
        "Let paused containers go on",
        "life:unpause",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (_ALL, _CIDFILE, _CHOICE, LATEST),
        complete="running",
    ),
    Command(
        ("update", "container update"),
        "Change the limits and the restart policy of a container",
        "life:update",
        "CONTAINER",
        0,
        1,
        (
            Option("--blkio-weight", "string", "Share of block I/O, 10 to 1000", "WEIGHT"),
            Option("--cpu-period", "int", "Period of the CPU quota, in microseconds", "NUMBER"),
            Option("--cpu-quota", "int", "CPU time in each period, in microseconds", "NUMBER"),
            Option("--cpu-rt-period", "int", "Period of real-time CPU, in microseconds", "NUMBER"),
            Option(
                "--cpu-rt-runtime", "int", "Real-time CPU in each period, microseconds", "NUMBER"
            ),
            Option("--cpu-shares -c", "int", "Share of CPU time when it is scarce", "NUMBER"),
            Option("--cpus", "float", "CPUs the container may use; 0 for no limit", "NUMBER"),
            Option("--cpuset-cpus", "string", "CPUs to run on, as in 0-3,5", "LIST"),
            Option("--cpuset-mems", "string", "Memory nodes to use, as in 0-1", "LIST"),
            LATEST,
            Option("--memory -m", "size", "Limit of memory; 0 for no limit", "SIZE"),
            Option("--memory-reservation", "size", "Memory to be left when it is scarce", "SIZE"),
            Option("--memory-swap", "string", "Limit of memory and swap, -1 for none", "SIZE"),
            Option("--memory-swappiness", "int", "How readily to swap, 0 to 100 (v1)", "NUMBER"),
            Option("--pids-limit", "int", "Most processes at a time; -1 for no limit", "NUMBER"),
            Option(
                "--restart", "string", "no, on-failure[:RETRIES], always, unless-stopped", "POLICY"
            ),
            Option(
                "--storage-opt",
                "list",
                "Storage of the container: size= (room above its image), refquota=, compression=",
                "KEY=VALUE",
                complete="property",
            ),
        ),
        text="Takes effect at once on a running container and stays for its next start.",
        examples=(
            "strata update --memory 1g --cpus 2 db",
            "strata update --restart always db",
            "strata update --storage-opt size=20g db",
        ),
        complete="container",
    ),
    Command(
        ("rm", "container rm"),
        "Remove containers",
        "life:remove",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            _ALL,
            _CIDFILE,
            Option("--filter", "list", "Those that match, as in label=app", "KEY=VALUE"),
            Option("--force -f", "flag", "Stop running containers first"),
            _IGNORE,
            LATEST,
            _TIME,
            Option("--volumes -v", "flag", "Remove their anonymous volumes too"),
            *REMOVING,
        ),
        text="Exits with 1 when a container does not exist, 2 when one is running, else 125.",
        complete="container",
    ),
    Command(
        ("ps", "container ls", "container list", "container ps"),
        "List containers",
        "ps:ps",
        options=(
            Option("--all -a", "flag", "Also those that do not run"),
            Option("--external", "flag", "Accepted; no other tool keeps containers in the store"),
            _FILTER,
            _FORMAT,
            Option("--last -n", "int", "The last NUMBER created, in any state", "NUMBER"),
            Option("--latest -l", "flag", "The one created last, in any state"),
            Option("--namespace --ns", "flag", "Show the namespaces of each"),
            _NO_TRUNC,
            Option("--noheading", "flag", "Leave out the heading"),
            Option("--pod -p", "flag", "Show the pod of each"),
            Option("--quiet -q", "flag", "Ids only"),
            Option("--size -s", "flag", "Show sizes"),
            Option(
                "--sort",
                "string",
                "Sort by",
                "FIELD",
                "created",
                choices=(
                    "command",
                    "created",
                    "id",
                    "image",
                    "names",
                    "runningfor",
                    "size",
                    "status",
                ),
            ),
            Option("--sync", "flag", "Accepted; the state is always that of the processes"),
            Option("--watch -w", "int", "Show it again every so many seconds", "SECONDS"),
        ),
        text=(
            "Filters: id and name (regular expressions), label and label! (with * for any), "
            "status, exited,\nancestor, before, since, until, volume, network, health, "
            "restart-policy, command, pod,\nshould-start-on-boot. Several of one key mean any of "
            "them, of label, before and until all."
        ),
        examples=(
            "strata ps -a --filter status=exited --format '{{.ID}} {{.Names}} {{.ExitCode}}'",
            "strata ps --format 'table {{.Names}}\\t{{.Ports}}' --sort names",
        ),
    ),
    Command(
        ("logs", "container logs"),
        "Show the output of containers",
        "streams:logs",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            Option("--color", "flag", "Give each of several containers a colour"),
            Option("--follow -f", "flag", "Go on as new output comes"),
            LATEST,
            Option(
                "--names -n",
                "flag",
                "Name containers rather than give their ids, where there are several",
            ),
            Option("--since", "string", "Output since a time, or a duration ago", "TIME"),
            Option("--tail", "int", "Lines from the end (-1: all)", "NUMBER", -1),
            Option("--timestamps -t", "flag", "Start each line with its time"),
            Option("--until", "string", "Output until a time, or a duration ago", "TIME"),
        ),
        complete="container",
    ),
    Command(
        ("exec", "container exec"),
        "Run a command in a running container",
        "streams:exec_",
        "CONTAINER COMMAND [ARG...]",
        1,
        None,
        (
            Option(
                "--cidfile", "list", "Read the container's id from a file", "PATH", complete="file"
            ),
            LATEST,
            Option(
                "--detach -d",
                "flag",
                "Run in the background",
                differs="prints no id: exec sessions leave nothing behind",
            ),
            Option(
                "--detach-keys",
                "string",
                "Keys that leave it running; with none given it cannot be left",
                "KEYS",
            ),
            Option("--env -e", "list", "Set an environment variable", "KEY[=VALUE]"),
            Option(
                "--env-file",
                "list",
                "Read environment variables from a file",
                "PATH",
                complete="file",
            ),
            Option("--interactive -i", "flag", "Keep standard input open"),
            Option("--preserve-fds", "int", "Hand on this many descriptors from 3 on", "NUMBER", 0),
            Option("--privileged", "flag", "Give all capabilities"),
            Option("--tty -t", "flag", "Allocate a terminal"),
            Option("--user -u", "string", "User, and group, to run as", "USER[:GROUP]"),
            Option("--workdir -w", "string", "Working directory", "PATH"),
        ),
        text=(
            "Exits with the command's code, 125 when strata failed, 126 when the command cannot "
            "run,\n127 when it is not found."
        ),
        examples=("strata exec -it web sh", "strata exec db psql -U postgres -c 'select 1'"),
        interspersed=False,
        complete="running",
    ),
    Command(
        ("attach", "container attach"),
        "Attach to a running container",
        "streams:attach",
        "CONTAINER",
        0,
        1,
        (
            _DETACH,
            LATEST,
            Option("--no-stdin", "flag", "Do not attach standard input"),
            _PROXY,
        ),
        text="Where standard input is no terminal, its end is the container's too; to look on from "
        "a\nscript, use --no-stdin or `strata logs -f`.",
        complete="running",
    ),
    Command(
        ("container inspect",),
        "Show everything about containers",
        "containers:inspect",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            DOCUMENT_FORMAT,
            LATEST,
            Option("--size -s", "flag", "Show sizes"),
        ),
        complete="container",
    ),
    Command(
        ("wait", "container wait"),
        "Wait for containers to stop and print their exit codes",
        "life:wait",
        "CONTAINER [CONTAINER...]",
        0,
        None,
        (
            Option("--condition", "csv", "State, or health, to wait for (stopped)", "STATE"),
            Option("--ignore", "flag", "Pass over containers that do not exist"),
            Option("--interval -i", "duration", "Longest time between two looks", "DURATION", 0.25),
            LATEST,
        ),
        complete="container",
    ),
    Command(
        ("commit", "container commit"),
        "Make an image of a container",
        "files:commit",
        "CONTAINER [IMAGE]",
        1,
        2,
        (
            Option("--author -a", "string", "Author of the image", "TEXT"),
            Option(
                "--change -c",
                "list",
                "Apply an instruction: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME "
                "WORKDIR",
                "INSTRUCTION",
            ),
            Option(
                "--format -f",
                "string",
                "Accepted: a manifest is written by save",
                "FORMAT",
                "oci",
                choices=("oci", "docker"),
                differs="the image is the same with both; `save` chooses the format",
            ),
            Option(
                "--iidfile", "string", "Write the image's id to a file", "PATH", complete="file"
            ),
            Option("--message -m", "string", "Comment of the image", "TEXT"),
            Option(
                "--pause -p",
                "flag",
                "Accepted; a snapshot is one moment, with or without a pause",
            ),
            Option("--quiet -q", "flag", "Do not show progress"),
        ),
        complete="container",
    ),
    Command(
        ("cp", "container cp"),
        "Copy files between a container and the host",
        "files:copy",
        "[CONTAINER:]SOURCE [CONTAINER:]DESTINATION",
        2,
        2,
        (
            Option("--archive -a", "flag", "Keep owners", default=True),
            Option("--follow -L", "flag", "Follow a symbolic link given as the source"),
            Option("--overwrite", "flag", "Let a directory replace a file and the reverse"),
            Option("--quiet -q", "flag", "Accepted; no progress is shown"),
        ),
        text=(
            "A SOURCE that ends in /. means what is in the directory.\n"
            "- stands for a tar archive: on standard input as the source, on standard output as "
            "the\ndestination."
        ),
        complete="container",
    ),
    Command(
        ("rename", "container rename"),
        "Rename a container",
        "life:rename",
        "CONTAINER NAME",
        2,
        2,
        complete="container",
    ),
    Command(
        ("container exists",),
        "Exit with 0 when a container exists, 1 when it does not",
        "life:exists",
        "CONTAINER",
        1,
        1,
        complete="container",
    ),
    Command(
        ("container prune",),
        "Remove all containers that do not run",
        "containers:prune",
        options=(
            Option("--filter", "list", "Remove only what matches, as in until=24h", "KEY=VALUE"),
            UNASKED,
            *REMOVING,
        ),
    ),
    Command(
        ("container cleanup",),
        "Note that a container has ended; called by conmon",
        "life:cleanup",
        "CONTAINER",
        1,
        1,
        (Option("--rm", "flag", "Remove the container"),),
        hidden=True,
    ),
)
