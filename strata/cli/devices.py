"""Read ``--device``, ``--device-cgroup-rule`` and ``--sysctl``. Pure; `UsageError`."""

from __future__ import annotations

import posixpath

from strata.errors import UsageError
from strata.oci.cdi import is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

_MODES = frozenset("rwm")
#: what has a value of its own in a container's ipc and uts namespaces; Podman's list
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)
_UTS_SYSCTLS = frozenset(("kernel.domainname",))


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add what the options say under the names of the record's config."""
    if options.list("device"):
        texts = options.list("device")
        described["cdi"] = [text for text in texts if is_name(text)]
        described["devices"] = [parse_device(text) for text in texts if not is_name(text)]
    if options.list("device-cgroup-rule"):
        described["device_rules"] = [parse_rule(t) for t in options.list("device-cgroup-rule")]
    if options.list("sysctl"):
        described["sysctls"] = parse_sysctls(options.list("sysctl"))
    for text in options.list("gpus"):
        name = f"nvidia.com/gpu={text}"
        if not is_name(name):
            raise UsageError(
                f"invalid --gpus {text}", hint="all, or a device as `nvidia-ctk cdi list` has it"
            )
        described["cdi"] = [*described.get("cdi", ()), name]


def parse_device(text: str) -> dict[str, str]:
    """Read ``HOST[:CONTAINER][:PERMISSIONS]``: ``{"source", "destination", "permissions"}``."""
    parts = text.split(":")
    source = parts[0]
    destination, permissions = source, "rwm"
    if len(parts) > 3 or not source.startswith("/"):
        raise UsageError(
            f"invalid device specification: {text}",
            hint="give /dev/NAME[:/dev/OTHER][:rwm], or vendor.com/class=name",
        )
    rest = parts[1:]
    if rest and rest[-1] and not rest[-1].startswith("/"):
        permissions = rest.pop()
        if not _MODES.issuperset(permissions) or len(set(permissions)) < len(permissions):
            raise UsageError(f"invalid device mode: {permissions}", hint="letters of rwm")
    if len(rest) > 1:
        raise UsageError(f"invalid device specification: {text}")
    if rest and rest[0]:
        destination = rest[0]
    if ".." in source.split("/") or ".." in destination.split("/"):
        raise UsageError(f"invalid device specification: {text}")
    return {
        "source": posixpath.normpath(source),
        "destination": posixpath.normpath(destination),
        "permissions": permissions,
    }


def parse_rule(text: str) -> str:
    """Check ``TYPE MAJOR:MINOR MODE`` as in ``c 189:* rwm``."""
    words = text.split()
    if len(words) != 3:
        raise UsageError(
            f'invalid device cgroup rule requires type, major:Minor, and access rules: "{text}"',
            hint="as in 'c 189:* rwm'",
        )
    kind, numbers, mode = words
    if kind not in ("a", "b", "c"):
        raise UsageError(f"invalid device type in device-access-add: {kind}")
    major, colon, minor = numbers.partition(":")
    if not colon or not all(n == "*" or (n.isdigit() and len(n) < 10) for n in (major, minor)):
        raise UsageError(f"invalid device numbers in device cgroup rule: {numbers}")
    if not _MODES.issuperset(mode) or len(set(mode)) < len(mode):
        raise UsageError(f"invalid access in device cgroup rule: {mode}", hint="letters of rwm")
    return " ".join(words)


def parse_sysctls(items: list[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` items; only parameters that a namespace has for itself."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"{item} is invalid, sysctl values must be in the form of KEY=VALUE")
        name = name.strip().replace("/", ".")
        if not (
            name in _IPC_SYSCTLS
            or name in _UTS_SYSCTLS
            or name.startswith(("net.", "fs.mqueue."))
        ) or ".." in name:  # fmt: skip
            raise UsageError(
                f"sysctl '{name}' is not allowed",
                hint="it belongs to the whole host; net.*, fs.mqueue.* and those of IPC can be set",
            )
        found[name] = value
    return found


def add_default_sysctls(described: Description, items: list[str]) -> None:
    """Add parameters that containers.conf gives all containers, below those that are typed; not
    those of a namespace which is not the container's own."""
    network = str(described["network"]).partition(":")[0]
    typed = described.get("sysctls") or {}
    found = {}
    for name, value in parse_sysctls(items).items():
        if name.startswith("net."):
            own = network not in ("host", "container", "ns")
        else:
            key = "uts_mode" if name in _UTS_SYSCTLS else "ipc_mode"
            own = described.get(key, "private") in ("private", "shareable", "none")
        # What every container has anyway is not worth a record.
        if own and (name, value) != ("net.ipv4.ping_group_range", "0 0"):
            found[name] = value
    if found:
        described["sysctls"] = {**found, **typed}
