"""Tables of ``run`` and ``create``, whose options describe a container."""

from __future__ import annotations

from strata.cli.table import Command, Option

CONTAINER_OPTIONS = (
    Option("--add-host", "list", "Add a line NAME:IP to /etc/hosts", "NAME:IP"),
    Option("--annotation", "list", "Add an OCI annotation", "KEY=VALUE"),
    Option("--authfile", "string", "Registry credentials file", "PATH", complete="file"),
    Option("--cap-add", "csv", "Add a capability, or ALL", "CAPABILITY"),
    Option("--cap-drop", "csv", "Drop a capability, or ALL", "CAPABILITY"),
    Option(
        "--cidfile", "string", "Write the container's id to a new file", "PATH", complete="file"
    ),
    Option("--cpus", "float", "CPUs the container may use, as in 1.5", "NUMBER"),
    Option(
        "--entrypoint",
        "string",
        "Replace the image's entrypoint (a program or a JSON array)",
        "COMMAND",
    ),
    Option(
        "--env -e",
        "list",
        "Set an environment variable; KEY takes the host's, KEY* all such",
        "KEY[=VALUE]",
    ),
    Option("--env-file", "list", "Read environment variables from a file", "PATH", complete="file"),
    Option("--hostname -h", "string", "Host name in the container", "NAME"),
    Option("--init", "flag", "Run catatonit as PID 1: reap zombies, forward signals"),
    Option("--interactive -i", "flag", "Keep standard input open"),
    Option("--label -l", "list", "Set a label", "KEY[=VALUE]"),
    Option("--label-file", "list", "Read labels from a file", "PATH", complete="file"),
    Option(
        "--log-driver",
        "string",
        "Where output is kept",
        "DRIVER",
        "k8s-file",
        choices=("k8s-file", "json-file", "none"),
    ),
    Option("--memory -m", "size", "Memory limit", "SIZE"),
    Option(
        "--mount", "list", "Mount type=bind|volume|tmpfs,source=…,destination=…[,ro…]", "OPTIONS"
    ),
    Option("--name", "string", "Name of the container", "NAME"),
    Option(
        "--network --net",
        "string",
        "Network: host (the default until networks exist) or none",
        "host|none",
        "host",
        complete="network",
    ),
    Option("--pids-limit", "int", "Most processes at a time; 0 or -1 for no limit", "NUMBER"),
    Option("--platform", "string", "Platform of the image to choose", "OS/ARCH[/VARIANT]"),
    Option("--privileged", "flag", "Give all capabilities and devices, drop seccomp and masks"),
    Option(
        "--pull",
        "string",
        "When to pull the image",
        "POLICY",
        "missing",
        choices=("always", "missing", "never", "newer"),
    ),
    Option("--quiet -q", "flag", "Do not show the progress of a pull"),
    Option("--read-only", "flag", "Mount the root file system read-only"),
    Option(
        "--read-only-tmpfs",
        "flag",
        "With --read-only, keep /dev/shm, /run, /tmp and /var/tmp writable",
        default=True,
    ),
    Option("--replace", "flag", "Remove a container of the same name first"),
    Option("--rm", "flag", "Remove the container and its anonymous volumes when it ends"),
    Option("--runtime", "string", "OCI runtime: crun (the default), runc, or a path", "RUNTIME"),
    Option(
        "--security-opt",
        "list",
        "no-new-privileges, seccomp=, apparmor=, label=, mask=, unmask=",
        "OPTION",
    ),
    Option("--shm-size", "size", "Size of /dev/shm (64m)", "SIZE"),
    Option(
        "--stop-signal",
        "string",
        "Signal that stops the container (the image's, or TERM)",
        "SIGNAL",
    ),
    Option("--stop-timeout", "int", "Seconds to wait for it before KILL", "SECONDS", 10),
    Option("--storage-opt", "list", "Storage of the container: size=, compression=", "KEY=VALUE"),
    Option("--tls-verify", "tristate", "Require https and verify certificates when pulling"),
    Option("--tmpfs", "list", "Mount a memory file system", "PATH[:OPTIONS]"),
    Option("--tty -t", "flag", "Allocate a terminal"),
    Option("--ulimit", "list", "Set a resource limit", "NAME=SOFT[:HARD]"),
    Option("--user -u", "string", "User, and group, to run as", "USER[:GROUP]"),
    Option(
        "--volume -v",
        "list",
        "Mount a volume or a host directory",
        "[SOURCE:]PATH[:OPTIONS]",
        complete="volume",
    ),
    Option("--workdir -w", "string", "Working directory", "PATH"),
)

COMMANDS = (
    Command(
        ("run", "container run"),
        "Run a command in a new container",
        "create:run",
        "IMAGE [COMMAND [ARG...]]",
        1,
        None,
        (
            *CONTAINER_OPTIONS,
            Option("--detach -d", "flag", "Run in the background and print the container's id"),
            Option(
                "--detach-keys",
                "string",
                "Keys that leave the container running",
                "KEYS",
                "ctrl-p,ctrl-q",
            ),
            Option("--sig-proxy", "flag", "Send signals on to the container", default=True),
        ),
        text=(
            "Options come before IMAGE; all words after it are the container's.\n"
            "Exits with the container's code, 125 when strata failed, 126 when the command "
            "cannot run,\n127 when it is not found, 128+n when signal n ended it."
        ),
        examples=(
            "strata run --rm -it debian:12",
            "strata run -d --name db -v data:/var/lib/postgresql postgres:16",
            "strata run --rm --network none -m 512m debian:12 sh -c 'echo hello'",
        ),
        interspersed=False,
        complete="image",
    ),
    Command(
        ("create", "container create"),
        "Create a container without starting it",
        "create:create",
        "IMAGE [COMMAND [ARG...]]",
        1,
        None,
        CONTAINER_OPTIONS,
        text="Options come before IMAGE; all words after it are the container's.",
        examples=("strata create --name web -v ./site:/srv:ro nginx",),
        interspersed=False,
        complete="image",
    ),
)
