"""Linux capabilities: names, the default set, and what options make of it. Pure.

Names and numbers: capabilities(7), include/uapi/linux/capability.h.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: position is the capability's number
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

#: Podman's default set
DEFAULT = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
    "CAP_SYS_CHROOT",
)  # fmt: skip

_ALL = "ALL"


def from_mask(mask: int) -> list[str]:
    """Names of the bits of a mask such as ``CapBnd`` in proc_pid_status(5)."""
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]


def to_mask(names: Iterable[str]) -> int:
    """The bits of known names."""
    return sum(1 << NAMES.index(name) for name in set(names))


def normalise(names: Iterable[str]) -> list[str]:
    """``net_raw`` or ``CAP_NET_RAW`` to ``CAP_NET_RAW``; ``all`` to ``ALL``. `UsageError`."""
    result = []
    for text in names:
        short = text.strip().upper().removeprefix("CAP_")
        name = short if short == _ALL else f"CAP_{short}"
        if name != _ALL and name not in NAMES:
            raise UsageError(
                f"unknown capability {text!r}", hint="capabilities(7) lists the names; ALL is one"
            )
        if name not in result:
            result.append(name)
    return result


def resolve(
    add: Sequence[str], drop: Sequence[str], bounding: Sequence[str], *, privileged: bool = False
) -> list[str]:
    """The container's capabilities, sorted, never more than ``bounding``.

    ``drop=ALL`` starts from nothing, ``add=ALL`` from ``bounding``; a name in both is an error.
    """
    added, dropped = normalise(add), normalise(drop)
    if _ALL in added and _ALL in dropped:
        raise UsageError("capabilities ALL cannot be both added and dropped")
    for name in added:
        if name in dropped and name != _ALL:
            raise UsageError(f"capability {name} cannot be both added and dropped")
    if _ALL in dropped:
        wanted = set(added)
    else:
        base = bounding if privileged or _ALL in added else DEFAULT
        wanted = set(base).union(added).difference(dropped)
    return sorted(wanted.intersection(bounding))
