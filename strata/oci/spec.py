"""From a container record and facts to an OCI runtime spec. Pure.

Source: OCI runtime spec 1.0.2 (``config.md``, ``config-linux.md``); defaults are Podman's, so an
image that runs there runs here. What cannot be granted on this host is left out or lowered, and
a sentence for the user is returned beside the spec. Reading the host (`strata.oci.facts`), the user
database of the image (`strata.runtime.users`) and volume paths happens before.
"""

from __future__ import annotations

from strata.errors import UsageError
from strata.oci import capabilities
from strata.oci.mounts import INIT_PATH, build_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIDS_LIMIT = 2048
CGROUP_PARENT = "/strata"
NOFILE_LIMIT = 1_048_576
NPROC_LIMIT = 4_194_304

MASKED_PATHS = (
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/dev/block",
    "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
)  # fmt: skip
READONLY_PATHS = (
    "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
)  # fmt: skip

ULIMITS = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
))  # fmt: skip

#: config keys that `strata.oci.resources` brings into a spec
MORE_LIMITS = frozenset((
    "memory_swap", "memory_reservation", "memory_swappiness", "cpu_shares", "cpu_quota",
    "cpu_period", "cpu_rt_period", "cpu_rt_runtime", "cpuset_cpus", "cpuset_mems", "blkio_weight",
    "blkio_weight_devices", "blkio_throttle", "oom_kill_disable", "oom_score_adj", "cgroups",
    "cgroup_parent", "cgroup_conf", "devices", "device_rules", "sysctls",
))  # fmt: skip

#: config keys that `strata.oci.namespaces` brings into a spec
NAMESPACE_KEYS = frozenset(("pid_mode", "ipc_mode", "uts_mode", "time_mode", "cgroupns", "userns"))


class User:
    """Who the process is: numbers, and the home directory of that line of passwd."""

    __slots__ = ("gid", "groups", "home", "login", "uid")

    def __init__(
        self, uid: int, gid: int, groups: Sequence[int] = (), home: str = "/", login: str = ""
    ) -> None:
        self.uid = uid
        self.gid = gid
        #: supplementary group ids
        self.groups = list(groups)
        self.home = home
        #: the name in the image's passwd, empty when it is not there
        self.login = login


def build_spec(
    record: Mapping[str, Any], *, user: User, mounts: Sequence[Mapping[str, Any]],
    host: HostFacts, bundle: str, network_path: str = "",
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """The runtime spec for one start of a container, and warnings for the user.

    ``mounts`` are resolved: ``{"type": "bind"|"tmpfs", "source": host path, "destination",
    "options"}``. ``bundle`` holds ``rootfs`` and the generated files. ``network_path`` is a pinned
    network namespace. The filter of system calls is not part of it (`wants_seccomp`). Raises
    `UsageError`.
    """
    config = record["config"]
    warnings: list[str] = []
    caps = capabilities.resolve(
        config.get("cap_add") or (), config.get("cap_drop") or (), host.bounding,
        privileged=bool(config.get("privileged")),
    )  # fmt: skip
    hostname = container_hostname(record, host.hostname)
    args = [*(config.get("entrypoint") or ()), *(config.get("command") or ())]
    if not args:
        raise UsageError(
            "no command or entrypoint provided, and no CMD or ENTRYPOINT from image",
            hint="give a command after the image name",
        )
    process = make_process(config, user, caps, hostname, args=args, tty=bool(config.get("tty")),
                           env=host.secret_env)  # fmt: skip
    process["rlimits"] = _rlimits(config.get("ulimits") or (), host, warnings)
    if not process["rlimits"]:
        del process["rlimits"]
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": bool(config.get("read_only"))},
        "hostname": hostname,
        "mounts": build_mounts(config, mounts, host, bundle),
        "annotations": _annotations(record),
        "linux": _linux(record, host, network_path, warnings),
    }
    if config.get("init"):
        _add_init(spec, host)
    if not MORE_LIMITS.isdisjoint(config):
        from strata.oci import resources

        resources.add(spec, record, host)
    if config.get("systemd"):
        from strata.oci import systemd

        systemd.add(spec, record, host)
    if not NAMESPACE_KEYS.isdisjoint(config):
        from strata.oci import namespaces

        namespaces.change(spec, config, host, bundle)
    return spec, warnings


def wants_seccomp(config: Mapping[str, Any]) -> str | None:
    """Which filter a container gets: ``""`` the default, a path, or None for no filter."""
    choice = config.get("seccomp") or ""
    if choice == "unconfined" or (config.get("privileged") and not choice):
        return None
    return str(choice)


def container_hostname(record: Mapping[str, Any], host: str) -> str:
    """The UTS host name: the given one, the host's on its network, that of the namespace it joins
    (``host`` in both cases), else the short id."""
    config = record["config"]
    if config.get("hostname"):
        return str(config["hostname"])
    if config.get("network") == "host" or config.get("uts_mode", "private") != "private":
        return host
    return str(record["id"])[:12]


def make_process(
    config: Mapping[str, Any], user: User, caps: Sequence[str], hostname: str, *,
    args: Sequence[str], tty: bool, env: Sequence[str] = (), cwd: str = "",
    privileged: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The ``process`` of a container, or of an exec in it.

    ``env`` goes over the container's own, ``cwd`` replaces its working directory, and
    ``privileged`` lets also a user other than root hold all of ``caps``.
    """
    process: dict[str, Any] = {
        "terminal": tty,
        "user": {"uid": user.uid, "gid": user.gid, "umask": int(config.get("umask") or "22", 8)},
        "args": list(args),
        "env": build_env(
            [*(config.get("env") or ()), *env],
            home=user.home,
            hostname=hostname,
            tty=tty,
            unset=config.get("unset_env") or (),
        ),
        "cwd": cwd or config.get("workdir") or "/",
        "capabilities": process_capabilities(
            caps, 0 if privileged else user.uid, config.get("cap_add") or ()
        ),
        "noNewPrivileges": bool(config.get("no_new_privileges")),
    }
    if user.groups:
        process["user"]["additionalGids"] = list(user.groups)
    if config.get("apparmor") and config["apparmor"] != "unconfined":
        process["apparmorProfile"] = config["apparmor"]
    return process


def build_env(
    env: Sequence[str], *, home: str, hostname: str, tty: bool, engine: str = "strata",
    unset: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """The environment: defaults (but for ``unset``, or ``*``) first, the container's own values
    over them; later wins."""
    values = {"PATH": DEFAULT_PATH, "container": engine}
    if tty:
        values["TERM"] = "xterm"
    if hostname:
        values["HOSTNAME"] = hostname
    values["HOME"] = home or "/"
    # The host's name is no default: Podman keeps it too.
    for name in [name for name in values if name != "HOSTNAME"] if "*" in unset else unset:
        values.pop(name, None)
    for item in env:
        name, _, value = item.partition("=")
        values[name] = value
    return [f"{name}={value}" for name, value in values.items()]


def process_capabilities(
    caps: Sequence[str], uid: int, asked: Sequence[str] = ()
) -> dict[str, list[str]]:
    """The five sets. Root holds all of ``caps``; another user only what was asked for by name."""
    sets = {"bounding": list(caps), "effective": list(caps), "permitted": list(caps),
            "inheritable": [], "ambient": []}  # fmt: skip
    if uid != 0:
        named = set(capabilities.normalise(asked))
        own = sorted(set(caps) & named) if "ALL" not in named else list(caps)
        for name in ("effective", "permitted", "inheritable", "ambient"):
            sets[name] = list(own)
    return sets


def _rlimits(
    wanted: Sequence[Mapping[str, Any]], host: HostFacts, warnings: list[str]
) -> list[dict[str, Any]]:
    limits: dict[str, tuple[int, int]] = {}
    if host.can_raise_limits:
        for name, most in (("nofile", NOFILE_LIMIT), ("nproc", NPROC_LIMIT)):
            hard = max(host.rlimits.get(name, (0, most))[1], most)
            limits[name] = (min(hard, most), min(hard, most))
    for item in wanted:
        name = str(item["type"]).lower().removeprefix("rlimit_")
        if name not in ULIMITS:
            raise UsageError(f"invalid ulimit type: {item['type']}")
        soft, hard = _unlimited(item["soft"]), _unlimited(item["hard"])
        if soft > hard:
            raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {name}")
        here = host.rlimits.get(name)
        if not host.can_raise_limits and here is not None and hard > here[1]:
            warnings.append(
                f"ulimit {name}={hard} is above this host's limit, {here[1]} is used "
                "(raising it needs CAP_SYS_RESOURCE)"
            )
            soft, hard = min(soft, here[1]), here[1]
        limits[name] = (soft, hard)
    return [
        {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
        for name, (soft, hard) in sorted(limits.items())
    ]


def _unlimited(value: int) -> int:
    """-1 is "unlimited", which the kernel writes as all bits set."""
    return 2**64 - 1 if value < 0 else value


def _annotations(record: Mapping[str, Any]) -> dict[str, str]:
    config = record["config"]
    result = {
        "io.container.manager": "strata",
        "org.opencontainers.image.stopSignal": str(config.get("stop_signal") or 15),
    }
    if "keep-groups" in config.get("group_add", ()):
        result["run.oci.keep_original_groups"] = "1"
    result.update(config.get("annotations") or {})
    return result


def _linux(
    record: Mapping[str, Any], host: HostFacts, network_path: str, warnings: list[str]
) -> dict[str, Any]:
    config = record["config"]
    namespaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount")]
    if config.get("network") != "host":
        namespaces.append(
            {"type": "network", "path": network_path} if network_path else {"type": "network"}
        )
    if host.cgroup == "v2":
        namespaces.append({"type": "cgroup"})
    linux: dict[str, Any] = {
        "cgroupsPath": f"{config.get('cgroup_parent') or CGROUP_PARENT}/{record['id']}",
        "namespaces": namespaces,
        "resources": make_resources(config, host, warnings),
        "rootfsPropagation": "private",
    }
    if config.get("privileged"):
        linux["devices"] = host.devices
    else:
        unmask = _unmasked(config.get("unmask") or ())
        linux["maskedPaths"] = [
            *(path for path in MASKED_PATHS if not unmask(path)), *(config.get("mask") or ()),
        ]  # fmt: skip
        linux["readonlyPaths"] = [path for path in READONLY_PATHS if not unmask(path)]
    return linux


class _unmasked:
    """Whether a path was unmasked: ``ALL``, the path itself, or a shell pattern of it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [part for text in patterns for part in text.split(":")]

    def __call__(self, path: str) -> bool:
        for pattern in self._patterns:
            if pattern.upper() == "ALL" or pattern.rstrip("/") == path:
                return True
            if any(char in pattern for char in "*?["):
                from fnmatch import fnmatchcase

                if fnmatchcase(path, pattern):
                    return True
        return False


def make_resources(
    config: Mapping[str, Any], host: HostFacts, warnings: list[str]
) -> dict[str, Any]:
    """The ``linux.resources`` of the everyday limits; `strata.oci.resources` has the others."""
    allow = bool(config.get("privileged"))
    resources: dict[str, Any] = {"devices": [{"allow": allow, "access": "rwm"}]}
    limit = config.get("pids_limit")
    if limit is None:
        limit = PIDS_LIMIT
    if limit > 0:
        resources["pids"] = {"limit": int(limit)}
    if config.get("memory"):
        memory = int(config["memory"])
        resources["memory"] = {"limit": memory}
        if host.swap_limit:
            # As with Podman, a limit without a word on swap means as much swap again.
            resources["memory"]["swap"] = 2 * memory
        else:
            warnings.append("the kernel does not limit swap; only memory is limited")
    if config.get("cpus"):
        period = 100_000
        resources["cpu"] = {"quota": round(float(config["cpus"]) * period), "period": period}
    return resources


def _add_init(spec: dict[str, Any], host: HostFacts) -> None:
    if not host.init_program:
        raise UsageError(
            "the container wants --init, and no catatonit is installed",
            hint="install the package catatonit",
        )
    spec["process"]["args"] = [INIT_PATH, "--", *spec["process"]["args"]]


def hosts_text(
    record: Mapping[str, Any], hostname: str, base: str, address: str = "127.0.1.1"
) -> str:
    """The container's /etc/hosts: ``base`` (the host's file on its network, else empty), then
    ``--add-host`` entries, then the container's own names at ``address``. `UsageError`."""
    lines = []
    for entry in record["config"].get("add_hosts") or ():
        names, separator, ip = str(entry).partition(":")
        if not separator or not ip:
            raise UsageError(f"invalid host entry {entry!r}, must be NAME:ADDRESS")
        lines += [f"{ip}\t{name}" for name in names.split(";") if name]
    if base:
        lines.append(base.rstrip("\n"))
    else:
        lines += ["127.0.0.1\tlocalhost localhost.localdomain",
                  "::1\tlocalhost localhost.localdomain"]  # fmt: skip
    own = dict.fromkeys((hostname, str(record.get("name") or "")))
    if record["config"].get("network") != "host":
        lines.append(f"{address}\t{' '.join(name for name in own if name)}")
    return "\n".join(lines) + "\n"
