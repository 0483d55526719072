"""What containers.conf means for the command line: each key is the default of an option.

So what is typed wins, `help` needs no second table, and no other part of the program knows the
file (`strata.engine.settings` reads it).
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options
    from strata.cli.table import Command, Option
    from strata.engine.settings import Settings

#: key of containers.conf -> option whose default it is. Lists come before what is typed.
KEYS = {
    "containers.annotations": "annotation",
    "containers.cgroupns": "cgroupns",
    "containers.cgroups": "cgroups",
    "containers.default_ulimits": "ulimit",
    "containers.devices": "device",
    "containers.dns_options": "dns-option",
    "containers.dns_searches": "dns-search",
    "containers.dns_servers": "dns",
    "containers.env_host": "env-host",
    "containers.http_proxy": "http-proxy",
    "containers.init": "init",
    "containers.init_path": "init-path",
    "containers.ipcns": "ipc",
    "containers.log_driver": "log-driver",
    "containers.mounts": "mount",
    "containers.netns": "network",
    "containers.no_hosts": "no-hosts",
    "containers.oom_score_adj": "oom-score-adj",
    "containers.pidns": "pid",
    "containers.pids_limit": "pids-limit",
    "containers.privileged": "privileged",
    "containers.read_only": "read-only",
    "containers.shm_size": "shm-size",
    "containers.tz": "tz",
    "containers.umask": "umask",
    "containers.userns": "userns",
    "containers.utsns": "uts",
    "containers.volumes": "volume",
    "engine.detach_keys": "detach-keys",
    "engine.pull_policy": "pull",
    "engine.runtime": "runtime",
    "engine.stop_timeout": "stop-timeout",
}

#: lists that are below what is typed, and not simply before it
_BELOW = {
    "containers.default_capabilities": "default-capabilities",
    "containers.default_sysctls": "default-sysctls",
    "containers.env": "default-env",
}

#: a kernel parameter that every container has
_PING = "net.ipv4.ping_group_range=0 0"

#: options whose values, though there may be several, replace the default: a mode stands alone
_REPLACED = ("network",)

#: keys that must not look as if somebody had typed them: with --detach that is an error, and
#: servers beside a network without any
_ONLY_DEFAULTS = ("engine.detach_keys", "containers.dns_options", "containers.dns_searches",
                  "containers.dns_servers")  # fmt: skip


def is_used(key: str) -> bool:
    """Whether a key of containers.conf means something here; others are read and passed over."""
    return key in KEYS or key in _BELOW


def apply(command: Command, options: Options, settings: Settings) -> None:
    """Give the options of a command line the defaults that the files say. `UsageError`."""
    for key in _BELOW.keys() & settings.keys():
        found, path = settings[key]
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise UsageError(f"{path}: {key}: must be a list of strings", hint="correct that file")
        if not _is_usual(key, found):
            options.set(_BELOW[key], found)
    for key, (value, path) in settings.items():
        option = command.find(f"--{KEYS.get(key, '')}")
        if option is None or value in ("", []):
            continue
        try:
            default = _convert(option, value)
        except (ValueError, UsageError) as error:
            raise UsageError(f"{path}: {key}: {error}", hint="correct that file") from None
        quiet = key in _ONLY_DEFAULTS and not options.given(option.key)
        if isinstance(default, list) and option.key not in _REPLACED and not quiet:
            options.set(option.key, [*default, *options.list(option.key)])
        elif key in _ONLY_DEFAULTS:
            options.set_default(option.key, default)
        elif not options.given(option.key):
            options.set(option.key, default)


def _is_usual(key: str, found: list[str]) -> bool:
    """Whether a list says what is so without it, as the files of distributions do."""
    if key == "containers.default_capabilities":
        from strata.oci.capabilities import DEFAULT

        return {f"CAP_{name.upper().removeprefix('CAP_')}" for name in found} == set(DEFAULT)
    return key == "containers.default_sysctls" and set(found) <= {_PING}


def _convert(option: Option, value: Any) -> Any:
    """The value of an option as if each item had been typed. ValueError, `UsageError`."""
    from strata.cli.parse import Options, convert

    scratch = Options((option,))
    for item in value if isinstance(value, list) else [value]:
        text = str(item).lower() if isinstance(item, bool) else str(item)
        scratch.set(option.key, convert(scratch, option, text))
    return scratch.get(option.key)
