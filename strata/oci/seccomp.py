"""The default system call filter: containers-common's seccomp.json to the OCI form.

The distribution's file (the format Docker introduced) has conditions: rules included or excluded
by capability, architecture and kernel. The OCI runtime wants them decided. The decision depends
only on the capability set and the file, so the result is kept under the run directory (as text,
and compiled), and the hot path copies it into config.json without parsing it.
"""

from __future__ import annotations

import os

from strata import jsontext
from strata.errors import UsageError
from strata.oci.capabilities import to_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

DEFAULT_PROFILE = "/usr/share/containers/seccomp.json"
#: an administrator's replacement, as with Podman
LOCAL_PROFILE = "/etc/containers/seccomp.json"

#: machine of uname(2) -> (name in conditions, name in archMap)
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}


def parse_kernel(release: str) -> tuple[int, int]:
    """``6.18.44-fc`` to (6, 18); what cannot be read counts as 0."""
    numbers = []
    for part in release.split(".", 2)[:2]:
        digits = ""
        for char in part:
            if not char.isdigit():
                break
            digits += char
        numbers.append(int(digits or "0"))
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def translate(
    profile: dict[str, Any], caps: Sequence[str], machine: str, release: str
) -> dict[str, Any]:
    """Decide the conditions of a profile for a capability set: OCI runtime spec, ``linux.seccomp``.

    A profile already in OCI form (``architectures``, no ``archMap``) comes through unchanged but
    for its conditions.
    """
    arch, scmp = _MACHINES.get(machine, (machine, ""))
    have = set(caps)
    result: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    if profile.get("architectures"):
        result["architectures"] = profile["architectures"]
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == scmp:
            result["architectures"] = [scmp, *(entry.get("subArchitectures") or ())]
    for key in ("flags", "listenerPath", "listenerMetadata"):
        if profile.get(key):
            result[key] = profile[key]
    kernel = parse_kernel(release)
    syscalls: list[dict[str, Any]] = []
    for rule in profile.get("syscalls") or ():
        if not _applies(rule, have, arch, kernel):
            continue
        names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
        if not names:
            continue
        out: dict[str, Any] = {"names": names, "action": rule["action"]}
        if rule.get("errnoRet") is not None:
            out["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            out["args"] = rule["args"]
        syscalls.append(out)
    result["syscalls"] = syscalls
    return result


def _applies(rule: dict[str, Any], caps: set[str], arch: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if arch in (excludes.get("arches") or ()) or caps.intersection(excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= parse_kernel(excludes["minKernel"]):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not caps.issuperset(includes.get("caps") or ()):
        return False
    return not (includes.get("minKernel") and kernel < parse_kernel(includes["minKernel"]))


def find_profile(choice: str) -> str | None:
    """The file for ``--security-opt seccomp=CHOICE``; None for ``unconfined`` or none installed."""
    if choice == "unconfined":
        return None
    if choice:
        return choice
    for path in (LOCAL_PROFILE, DEFAULT_PROFILE):
        if os.path.exists(path):
            return path
    return None


class Filter:
    """A decided filter: JSON text of ``linux.seccomp``, and the same compiled, as base64; that is
    empty where libseccomp cannot be used or the filter has what BPF alone cannot say."""

    __slots__ = ("bpf", "text")

    def __init__(self, text: str, bpf: str) -> None:
        self.text = text
        self.bpf = bpf


#: raised when what is kept under one name changes
_CACHE_FORMAT = 1


def get_filter(cache: str, path: str, caps: Sequence[str]) -> Filter:
    """The filter of a profile file for a capability set.

    ``cache`` is a directory below the run directory. Raises `UsageError` when the profile cannot
    be read or is not one.
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise UsageError(f"opening seccomp profile {path!r}: {error.strerror}") from error
    key = f"{to_mask(caps):x}-{facts.st_dev:x}-{facts.st_ino:x}-{facts.st_mtime_ns:x}"
    place = f"{cache}/seccomp{_CACHE_FORMAT}-{key}-{facts.st_size:x}"
    try:
        with open(place) as file:
            bpf, separator, text = file.read().partition("\n")
        if separator:
            return Filter(text, bpf)
    except FileNotFoundError:
        pass
    made = _make_filter(path, caps)
    os.makedirs(cache, 0o700, exist_ok=True)
    staging = f"{place}.{os.urandom(4).hex()}"
    with open(staging, "w") as file:
        file.write(f"{made.bpf}\n{made.text}")
    os.rename(staging, place)
    return made


def _make_filter(path: str, caps: Sequence[str]) -> Filter:
    system = os.uname()
    try:
        with open(path) as file:
            profile = jsontext.loads(file.read())
        document = translate(profile, caps, system.machine, system.release)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"seccomp profile {path!r} is not valid: {error}") from error
    text = jsontext.dumps(document)
    if document.get("flags") or document.get("listenerPath"):
        return Filter(text, "")
    from binascii import b2a_base64

    from strata.linux.filter import compile_filter

    try:
        return Filter(text, b2a_base64(compile_filter(document), newline=False).decode())
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        # The runtime will compile the text itself, and say what is wrong with it.
        return Filter(text, "")
