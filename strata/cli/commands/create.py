"""Tables of ``run`` and ``create``, whose options describe a container."""

from __future__ import annotations

from strata.cli.table import Command, Option

CONTAINER_OPTIONS = (
    Option(
        "--add-host",
        "list",
        "Add a line to /etc/hosts; host-gateway stands for the host's address",
        "NAME[;NAME]:IP",
    ),
    Option("--annotation", "list", "Add an OCI annotation", "KEY=VALUE"),
    Option("--arch", "string", "Architecture of the image to choose", "ARCH"),
    Option("--authfile", "string", "Registry credentials file", "PATH", complete="file"),
    Option("--blkio-weight", "string", "Share of block I/O, 10 to 1000", "WEIGHT"),
    Option("--blkio-weight-device", "csv", "Share of one device's I/O", "DEVICE:WEIGHT"),
    Option("--cap-add", "csv", "Add a capability, or ALL", "CAPABILITY"),
    Option("--cap-drop", "csv", "Drop a capability, or ALL", "CAPABILITY"),
    Option("--cgroup-conf", "csv", "Write a file of the cgroup (v2 only)", "KEY=VALUE"),
    Option("--cgroup-parent", "string", "Parent of the container's cgroup", "PATH"),
    Option(
        "--cgroupns", "string", "Cgroup namespace: private, host, container:NAME, ns:PATH", "MODE"
    ),
    Option("--cgroups", "string", "enabled, disabled or no-conmon", "MODE", "enabled"),
    Option(
        "--cidfile", "string", "Write the container's id to a new file", "PATH", complete="file"
    ),
    Option(
        "--conmon-pidfile", "string", "Write the pid of conmon to a file", "PATH", complete="file"
    ),
    Option("--cpu-period", "int", "Period of the CPU quota, in microseconds", "NUMBER"),
    Option("--cpu-quota", "int", "CPU time in each period, in microseconds", "NUMBER"),
    Option("--cpu-rt-period", "int", "Period of real-time CPU, in microseconds", "NUMBER"),
    Option("--cpu-rt-runtime", "int", "Real-time CPU in each period, in microseconds", "NUMBER"),
    Option("--cpu-shares -c", "int", "Share of CPU time when it is scarce", "NUMBER"),
    Option("--cpus", "float", "CPUs the container may use, as in 1.5", "NUMBER"),
    Option("--cpuset-cpus", "string", "CPUs to run on, as in 0-3,5", "LIST"),
    Option("--cpuset-mems", "string", "Memory nodes to use, as in 0-1", "LIST"),
    Option(
        "--device",
        "csv",
        "Give a device, or all of a directory",
        "HOST[:CONTAINER][:rwm]",
        complete="file",
    ),
    Option("--device-cgroup-rule", "csv", "Allow devices by number", "'TYPE MAJOR:MINOR MODE'"),
    Option("--device-read-bps", "csv", "Bytes a second to read from a device", "DEVICE:RATE"),
    Option("--device-read-iops", "csv", "Reads a second from a device", "DEVICE:RATE"),
    Option("--device-write-bps", "csv", "Bytes a second to write to a device", "DEVICE:RATE"),
    Option("--device-write-iops", "csv", "Writes a second to a device", "DEVICE:RATE"),
    Option("--disable-content-trust", "flag", "Accepted and without effect, as in Podman"),
    Option("--dns", "list", "Address of a DNS server to ask", "IP"),
    Option("--dns-option --dns-opt", "list", "Option for resolv.conf, as in ndots:2", "OPTION"),
    Option("--dns-search", "list", "Domain to search names in; . for none", "DOMAIN"),
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
    Option("--env-host", "flag", "Take over the whole environment of the host"),
    Option("--env-merge", "list", "Change a variable of the image: PATH=${PATH}:/app", "KEY=VALUE"),
    Option(
        "--gpus",
        "string",
        "GPUs by the Container Device Interface (refused)",
        "NAME",
    ),
    Option(
        "--group-add", "csv", "Additional group, or keep-groups for those of the caller", "GROUP"
    ),
    Option(
        "--health-cmd", "string", "Command that checks the health; none for no check", "COMMAND"
    ),
    Option("--health-interval", "string", "Time between checks (30s), or disable", "DURATION"),
    Option(
        "--health-on-failure", "string", "When unhealthy: none, kill, restart or stop", "ACTION"
    ),
    Option("--health-retries", "int", "Failures until it counts as unhealthy (3)", "NUMBER"),
    Option(
        "--health-start-interval", "string", "Time between checks while it starts (5s)", "DURATION"
    ),
    Option(
        "--health-start-period",
        "string",
        "Time to start, in which failures do not count (0s)",
        "DURATION",
    ),
    Option("--health-timeout", "string", "Time a check may take (30s)", "DURATION"),
    Option("--hostname -h", "string", "Host name in the container", "NAME"),
    Option("--http-proxy", "flag", "Take over the host's proxy variables", default=True),
    Option(
        "--image-volume",
        "string",
        "Volumes of the image: anonymous, tmpfs or ignore",
        "MODE",
        "anonymous",
        choices=("anonymous", "bind", "tmpfs", "ignore"),
    ),
    Option("--init", "flag", "Run catatonit as PID 1: reap zombies, forward signals"),
    Option(
        "--init-path", "string", "Program for --init instead of catatonit", "PATH", complete="file"
    ),
    Option("--expose", "list", "Say that a port is used, for -P and inspect", "PORT[/PROTOCOL]"),
    Option(
        "--hosts-file",
        "string",
        "File that /etc/hosts begins from: a path, image or none (the host's /etc/hosts)",
        "PATH|image|none",
        complete="file",
    ),
    Option("--ip", "string", "IPv4 address on the network", "IPV4"),
    Option("--ip6", "string", "IPv6 address on the network", "IPV6"),
    Option("--interactive -i", "flag", "Keep standard input open"),
    Option(
        "--ipc",
        "string",
        "IPC namespace: shareable, private, host, none, container:NAME, ns:PATH",
        "MODE",
    ),
    Option(
        "--isolation",
        "string",
        "Accepted and without effect, as on Docker for Linux",
        "MODE",
    ),
    Option(
        "--kernel-memory",
        "size",
        "No longer has an effect",
        "SIZE",
    ),
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
    Option("--log-opt", "csv", "Options of the log: path=, max-size=, tag=", "KEY=VALUE"),
    Option("--mac-address", "string", "Hardware address on the network", "MAC"),
    Option("--memory -m", "size", "Memory limit", "SIZE"),
    Option("--memory-reservation", "size", "Memory to be left when it is scarce", "SIZE"),
    Option("--memory-swap", "string", "Limit of memory and swap together, -1 for none", "SIZE"),
    Option("--memory-swappiness", "int", "How readily to swap, 0 to 100 (cgroup v1)", "NUMBER"),
    Option(
        "--mount",
        "list",
        "Mount type=bind, volume, tmpfs, image, devpts, glob; source=, destination=, …",
        "OPTIONS",
    ),
    Option("--name", "string", "Name of the container", "NAME"),
    Option(
        "--network --net",
        "list",
        "Network: NAME[:ip=…,ip6=…,mac=…,alias=…,interface_name=…], bridge, host, none, "
        "container:NAME, ns:PATH or pasta[:OPTIONS]; may be given several times",
        "NETWORK",
        complete="network",
    ),
    Option("--no-healthcheck", "flag", "Leave out the image's health check"),
    Option("--oom-kill-disable", "flag", "Do not kill when memory runs out (cgroup v1)"),
    Option("--oom-score-adj", "int", "Which to kill first, -1000 to 1000", "NUMBER"),
    Option("--os", "string", "Operating system of the image to choose", "OS"),
    Option("--pid", "string", "PID namespace: private, host, container:NAME, ns:PATH", "MODE"),
    Option(
        "--pidfile",
        "string",
        "Write the pid of the container's process to a file",
        "PATH",
        complete="file",
    ),
    Option("--network-alias", "list", "Another name of the container on its networks", "NAME"),
    Option("--no-hostname", "flag", "Leave the image's /etc/hostname as it is"),
    Option("--no-hosts", "flag", "Leave the image's /etc/hosts as it is"),
    Option("--pids-limit", "int", "Most processes at a time; 0 or -1 for no limit", "NUMBER"),
    Option("--platform", "string", "Platform of the image to choose", "OS/ARCH[/VARIANT]"),
    Option("--privileged", "flag", "Give all capabilities and devices, drop seccomp and masks"),
    Option(
        "--publish -p",
        "list",
        "Publish a port, or a range, on the host",
        "[[IP:][HOSTPORT]:]PORT[/PROTOCOL]",
    ),
    Option("--publish-all -P", "flag", "Publish all exposed ports on free ports of the host"),
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
    Option(
        "--requires", "csv", "Container to start before this one", "CONTAINER", complete="container"
    ),
    Option("--restart", "string", "no, on-failure[:RETRIES], always or unless-stopped", "POLICY"),
    Option("--rm", "flag", "Remove the container and its anonymous volumes when it ends"),
    Option("--runtime", "string", "OCI runtime: crun (the default), runc, or a path", "RUNTIME"),
    Option(
        "--secret",
        "list",
        "Give a secret as a file, or with type=env as a variable",
        "NAME[,OPTIONS]",
        complete="secret",
    ),
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
    Option("--sysctl", "csv", "Set a kernel parameter of the container's namespaces", "NAME=VALUE"),
    Option("--timeout", "int", "Kill the container after so many seconds", "SECONDS"),
    Option("--tls-verify", "tristate", "Require https and verify certificates when pulling"),
    Option("--tmpfs", "list", "Mount a memory file system", "PATH[:OPTIONS]"),
    Option("--tty -t", "flag", "Allocate a terminal"),
    Option("--tz", "string", "Time zone, or local for the host's", "ZONE"),
    Option("--ulimit", "list", "Set a resource limit", "NAME=SOFT[:HARD]"),
    Option("--umask", "string", "Mode bits that new files lack (0022)", "MASK"),
    Option("--unsetenv", "list", "Leave out a variable of the image or a default", "NAME"),
    Option("--unsetenv-all", "flag", "Leave out all variables of the image and the defaults"),
    Option("--user -u", "string", "User, and group, to run as", "USER[:GROUP]"),
    Option("--uts", "string", "UTS namespace: private, host, container:NAME, ns:PATH", "MODE"),
    Option("--variant", "string", "Variant of the architecture to choose", "VARIANT"),
    Option(
        "--volume -v",
        "list",
        "Mount a volume or a host directory",
        "[SOURCE:]PATH[:OPTIONS]",
        complete="volume",
    ),
    Option(
        "--volume-driver", "string", "Driver of new volumes", "NAME", "local", choices=("local",)
    ),
    Option(
        "--volumes-from",
        "list",
        "Mount what another container mounts",
        "CONTAINER[:ro]",
        complete="container",
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
