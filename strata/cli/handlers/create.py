"""``run`` and ``create``: a command line becomes the engine's description of a container."""

from __future__ import annotations

import os
import sys

from strata.cli import values
from strata.cli.context import Context, note, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]


#: module of ``strata.cli`` -> the options it reads; it is loaded when one of them was given
_THEMES = {
    "resources": frozenset((
        "memory-swap", "memory-reservation", "memory-swappiness", "cpu-period", "cpu-quota",
        "cpu-rt-period", "cpu-rt-runtime", "cpu-shares", "cpuset-cpus", "cpuset-mems",
        "blkio-weight", "blkio-weight-device", "device-read-bps", "device-write-bps",
        "device-read-iops", "device-write-iops", "oom-score-adj", "oom-kill-disable", "cgroups",
        "cgroup-parent", "cgroup-conf",
    )),
    "devices": frozenset(("device", "device-cgroup-rule", "sysctl", "gpus")),
    "secrets": frozenset(("secret",)),
    "namespaces": frozenset((
        "pid", "ipc", "uts", "time", "cgroupns", "userns", "uidmap", "gidmap", "subuidname",
        "subgidname",
    )),
    "health": frozenset((
        "restart", "health-cmd", "health-interval", "health-timeout", "health-retries",
        "health-start-period", "health-start-interval", "health-on-failure", "no-healthcheck",
        "health-startup-cmd", "health-startup-interval", "health-startup-retries",
        "health-startup-success", "health-startup-timeout", "health-max-log-count",
        "health-max-log-size", "health-log-destination",
    )),
    "process": frozenset((
        "attach", "hostuser", "personality", "retry", "retry-delay", "creds", "rmi",
        "shm-size-systemd", "chrootdirs",
        "group-add", "umask", "tz", "timeout", "init-path", "pidfile", "conmon-pidfile", "log-opt",
        "requires", "systemd", "unsetenv", "unsetenv-all", "env-merge", "kernel-memory", "os",
        "arch", "variant", "platform", "passwd", "passwd-entry", "group-entry",
    )),
}  # fmt: skip

_PRESERVED = frozenset(("preserve-fds", "preserve-fd"))

_CAPABILITIES = frozenset(("cap-add", "cap-drop", "default-capabilities"))
#: taken over from the host unless --http-proxy=false, in both cases of their letters
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def run(context: Context, options: Options, arguments: list[str]) -> int:
    """Create and start a container; in the foreground, stay until it ends."""
    context.expect_start()
    described = _describe(context, options, arguments)
    if described["detach"] and options.given("detach-keys"):
        raise UsageError("--detach and --detach-keys cannot be used together")
    if options.any_given(_PRESERVED):
        from strata.cli.process import read_preserved

        described["preserve"] = read_preserved(options)
    if described["log_driver"].startswith("passthrough"):
        from strata.engine.containers import drivers

        drivers.check_streams(described)
    if described["tty"] and described["stdin"] and not os.isatty(0):
        note("WARN: The input device is not a TTY. The --tty and --interactive flags might not "
             "work properly")  # fmt: skip
    context.need_root()
    from strata.engine.containers import verbs as containers

    described["progress"] = _progress(options)
    if not described["detach"]:
        return containers.run(context.engine, described)
    container_id = containers.run_detached(context.engine, described)
    if not described["log_driver"].startswith("passthrough"):
        # Standard output is the container's then, as with Podman.
        say(container_id)
    return 0


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Create a container and print its id."""
    described = _describe(context, options, arguments)
    described["progress"] = _progress(options)
    context.need_root()
    from strata.engine.containers import verbs as containers

    say(containers.create(context.engine, described))
    return 0


def _describe(context: Context, options: Options, arguments: list[str]) -> Description:
    if options.given("at"):
        from strata.cli import past

        return past.describe(context, options, arguments, read_options)
    if not arguments:
        raise UsageError("requires at least 1 arg(s), only received 0",
                         hint="usage: strata run IMAGE [COMMAND [ARG...]]")  # fmt: skip
    described = read_options(options, arguments)
    described["command_line"] = ["strata", *sys.argv[1:]]
    return described


def read_options(
    options: Options, arguments: list[str], host: Mapping[str, str] = os.environ
) -> Description:
    """Return the engine's description of the container that a command line asks for.

    ``host`` is the environment that ``-e KEY`` reads. Raises `UsageError` for any value that makes
    no sense, before anything is touched.
    """
    image = arguments[0]
    if not image:
        raise UsageError("the image's name is empty", hint="name an image, as in debian:12")
    described: Description = {
        "image": image,
        "command": arguments[1:],
        "name": options.text("name"),
        "entrypoint": None,
        "env": [],
        "default_env": options.list("default-env"),
        "workdir": options.maybe("workdir") or None,
        "user": options.maybe("user"),
        "tty": options.flag("tty"),
        "stdin": options.flag("interactive"),
        "hostname": options.text("hostname"),
        "init": options.flag("init"),
        "read_only": options.flag("read-only"),
        "read_only_tmpfs": options.flag("read-only-tmpfs"),
        "cap_add": [],
        "cap_drop": [],
        "privileged": options.flag("privileged"),
        "no_new_privileges": False,
        "seccomp": "",
        "apparmor": "",
        "label_opts": [],
        "mask": [],
        "unmask": [],
        "ulimits": [],
        "memory": options.number("memory") or None,
        "cpus": options.real("cpus") or None,
        "pids_limit": options.number("pids-limit"),
        "shm_size": options.number("shm-size"),
        "stop_signal": None,
        "stop_timeout": options.number("stop-timeout"),
        "runtime": options.text("runtime") or "crun",
        "log_driver": options.text("log-driver"),
        "log_path": "",
        "labels": {},
        "annotations": {},
        "add_hosts": [],
        "tmpfs": {},
        "mounts": [],
        "networks": [],
        "ports": [],
        "expose": [],
        "dns": [],
        "dns_search": [],
        "dns_option": [],
        "no_resolv": False,
        "remove": options.flag("rm") or options.flag("rmi"),
        "storage": {},
        "pull": options.text("pull"),
        "platform": None,
        "replace": options.flag("replace"),
        "cidfile": options.text("cidfile"),
        "detach": options.flag("detach"),
        "detach_keys": b"",
        "sig_proxy": options.flag("sig-proxy"),
        "authfile": options.maybe("authfile"),
        "tls_verify": options.tristate("tls-verify"),
    }
    _read_process(described, options, host)
    _read_limits(described, options)
    _read_security(described, options)
    _read_mounts(described, options)
    for theme, keys in _THEMES.items():
        if options.any_given(keys):
            module = __import__(f"strata.cli.{theme}", fromlist=["read"])
            module.read(described, options, host)
    _read_network(described, options)
    if options.given("default-sysctls"):
        from strata.cli.devices import add_default_sysctls

        add_default_sysctls(described, options.list("default-sysctls"))
    _check(described, options)
    return described


def read_file(path: str) -> str:
    """Return a text file named by an option; raise `UsageError` when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise UsageError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def read_env_files(paths: list[str], host: Mapping[str, str]) -> list[str]:
    """The texts of ``--env-file``; `UsageError` names the line that is none."""
    texts = []
    for path in paths:
        text = read_file(path)
        for number, line in enumerate(text.splitlines(), 1):
            try:
                values.parse_environment((), [line], host)
            except UsageError as error:
                raise UsageError(
                    f'parsing env file "{path}": line {number}: {error.message}', hint=error.hint
                ) from None
        texts.append(text)
    return texts


def _read_process(described: Description, options: Options, host: Mapping[str, str]) -> None:
    if options.given("entrypoint"):
        described["entrypoint"] = values.parse_entrypoint(options.text("entrypoint"))
    files = read_env_files(options.list("env-file"), host)
    described["env"] = [
        *_inherit(options, host),
        *values.parse_environment(options.list("env"), files, host),
    ]
    labels: dict[str, str] = {}
    for path in options.list("label-file"):
        labels.update(values.parse_label_file(read_file(path)))
    labels.update(values.parse_pairs(options.list("label"), "--label"))
    described["labels"] = labels
    for text in options.list("annotation"):
        if "=" not in text:
            raise UsageError("annotations must be formatted KEY=VALUE", hint=f"not as {text!r}")
    described["annotations"] = values.parse_pairs(options.list("annotation"), "--annotation")
    described["add_hosts"] = [values.parse_add_host(text) for text in options.list("add-host")]
    described["detach_keys"] = values.parse_detach_keys(options.text("detach-keys"))
    if described["name"]:
        from strata.engine.names import check_name

        check_name(described["name"], "container")
    if described["hostname"]:
        values.check_hostname(described["hostname"])
    if options.given("stop-signal"):
        from strata.linux.signals import parse_signal

        described["stop_signal"] = parse_signal(options.text("stop-signal"))


def _inherit(options: Options, host: Mapping[str, str]) -> list[str]:
    """What the container gets of the host's environment without naming it."""
    if options.flag("env-host"):
        return [f"{name}={value}" for name, value in host.items()]
    if not options.flag("http-proxy"):
        return []
    names = [*_PROXIES, *(name.upper() for name in _PROXIES)]
    return [f"{name}={host[name]}" for name in names if name in host]


def _read_limits(described: Description, options: Options) -> None:
    if options.list("ulimit"):
        from strata.cli.security import parse_ulimits

        described["ulimits"] = parse_ulimits(options.list("ulimit"))
    if options.list("storage-opt"):
        from strata.cli.security import parse_storage

        described["storage"] = parse_storage(options.list("storage-opt"))
    if described["pids_limit"] == 0:
        described["pids_limit"] = -1


def _read_security(described: Description, options: Options) -> None:
    if options.any_given(_CAPABILITIES):
        from strata.cli.security import read_capabilities

        read_capabilities(described, options)
    if options.given("security-opt"):
        from strata.cli.security import parse_security

        described.update(parse_security(options.list("security-opt")))


def _read_network(described: Description, options: Options) -> None:
    """Networks, ports and names. The common case, one mode by its name, loads nothing."""
    texts = options.list("network")
    ips = [text for text in (options.text("ip"), options.text("ip6")) if text]
    mac, aliases = options.text("mac-address"), options.list("network-alias")
    if texts in (["host"], ["none"]) and not (ips or mac or aliases):
        described["network"] = texts[0]
    else:
        from strata.cli.attachments import parse_networks

        described["network"], described["networks"] = parse_networks(
            texts, ips=ips, mac=mac, aliases=aliases
        )
    mode = described["network"].partition(":")[0]
    ports, exposed = options.list("publish"), options.list("expose")
    if ports or exposed:
        from strata.cli.ports import parse_exposed, parse_published

        described["ports"] = parse_published(ports)
        described["expose"] = parse_exposed(exposed)
    described["publish_all"] = options.flag("publish-all")
    if (ports or described["publish_all"]) and mode not in ("bridge", "pasta"):
        described["ports"], described["publish_all"] = [], False
        note(f"WARN: port mappings have been discarded: network mode {mode} has none")
    for key in ("dns", "dns-search", "dns-option"):
        if options.list(key):
            if mode in ("none", "container"):
                if not options.given(key):
                    continue
                raise UsageError(
                    f"conflicting options: --{key} and the network mode: {mode}",
                    hint="leave one of them away",
                )
            described[key.replace("-", "_")] = options.list(key)
    if options.list("dns") == ["none"]:
        described["dns"], described["no_resolv"] = [], True
    else:
        values.parse_servers(options.list("dns"), "--dns")
    _read_hosts(described, options, mode)


def _read_hosts(described: Description, options: Options, mode: str) -> None:
    described["no_hosts"] = options.flag("no-hosts")
    described["no_hostname"] = options.flag("no-hostname")
    file = options.text("hosts-file")
    if file and file not in ("image", "none"):
        file = os.path.abspath(file)
        read_file(file)
    described["hosts_file"] = file
    if described["no_hosts"] and (options.list("add-host") or file):
        raise UsageError(
            "--no-hosts and --add-host or --hosts-file cannot be set together",
            hint="the image's /etc/hosts is not written to",
        )
    if mode == "container" and options.list("add-host"):
        raise UsageError(
            "cannot set extra host entries when the container is joined to another containers "
            "network namespace",
            hint="give --add-host to that container",
        )


def _read_mounts(described: Description, options: Options) -> None:
    volumes, mounts_given, tmpfs = (options.list(key) for key in ("volume", "mount", "tmpfs"))
    if volumes or mounts_given or tmpfs:
        from strata.cli.mounts import combine

        mounts, memory = combine(volumes, mounts_given, tmpfs, os.getcwd())
        for mount in mounts:
            mount["options"] = _settle_labels(mount["options"])
        described["mounts"], described["tmpfs"] = mounts, memory
    for key in ("volumes-from", "image-volume"):
        if options.given(key):
            described[key.replace("-", "_")] = options.get(key)


def _settle_labels(mount_options: list[str]) -> list[str]:
    """Drop the SELinux options where SELinux is not active, as Podman does."""
    kept = [option for option in mount_options if option not in ("z", "Z")]
    if len(kept) < len(mount_options) and os.path.exists("/sys/fs/selinux/enforce"):
        raise UsageError("relabelling a mount (z, Z) is not available in this version")
    return kept


def _check(described: Description, options: Options) -> None:
    """Refuse values that contradict each other or that no kernel takes."""
    if described["cpus"] is not None and described["cpus"] < 0.01:
        raise UsageError(
            f"invalid --cpus {described['cpus']}: must be 0.01 or more",
            hint="the kernel divides a CPU no finer",
        )
    timeout = described["stop_timeout"]
    if timeout is not None and timeout < -1:
        raise UsageError("invalid --stop-timeout: must be -1 (wait for ever) or more")
    if described["pids_limit"] is not None and described["pids_limit"] < -1:
        raise UsageError("invalid --pids-limit: must be -1 (no limit) or more")
    if described["workdir"] is not None and not described["workdir"].startswith("/"):
        raise UsageError(
            f'the working directory "{described["workdir"]}" is not an absolute path',
            hint="--workdir takes a path in the container that starts with /",
        )
    if described["replace"] and not described["name"]:
        raise UsageError("cannot replace container without --name being set")


def _progress(options: Options) -> object:
    from strata.cli.progress import make_progress

    return make_progress(quiet=options.flag("quiet"))
