"""Compiling a system call filter to BPF with libseccomp: seccomp_init(3), seccomp_export_bpf(3).

The OCI runtimes do this at every start and need 15 to 20 ms for the default profile, more than
for all the rest of a container. The result depends on the profile only, so it is kept.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LIBRARY = "libseccomp.so.2"

#: include/seccomp.h of libseccomp 2.5
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_UNKNOWN = -1
_EPERM = 1


class _Argument(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result), what)


def _action(name: str, errno: int | None) -> int:
    value = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= (_EPERM if errno is None else errno) & 0xFFFF
    return value


def compile_filter(document: Mapping[str, Any]) -> bytes:
    """The BPF program of an OCI ``linux.seccomp`` object: an array of ``struct sock_filter``.

    Names this kernel's library does not know are passed over, as the runtimes do. Raises
    `OSError` (no library, or it refused a rule) and `KeyError` (an action it cannot express).
    """
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    default = _action(document["defaultAction"], document.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise OSError(0, "seccomp_init failed")
    try:
        # A balanced tree instead of a chain: fewer steps for each call, and to attach it.
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, ctypes.c_uint32(_BINARY_TREE))
        for name in document.get("architectures") or ():
            token = library.seccomp_arch_resolve_name(
                name.removeprefix("SCMP_ARCH_").lower().encode()
            )
            if token and library.seccomp_arch_exist(context, ctypes.c_uint32(token)) != 0:
                _check(library.seccomp_arch_add(context, ctypes.c_uint32(token)), name)
        for rule in document.get("syscalls") or ():
            action = _action(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add_rule(library, context, action, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add_rule(
    library: ctypes.CDLL, context: ctypes.c_void_p, action: int, rule: Mapping[str, Any]
) -> None:
    arguments = [
        _Argument(item["index"], _OPERATORS[item["op"]], item["value"], item.get("valueTwo") or 0)
        for item in rule.get("args") or ()
    ]
    # The library takes each argument once per rule; conditions on one argument are alternatives.
    if len({item.arg for item in arguments}) < len(arguments):
        groups = [[item] for item in arguments]
    else:
        groups = [arguments]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            continue
        for group in groups:
            array = (_Argument * len(group))(*group)
            result = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), ctypes.c_int(number), len(group), array
            )
            _check(result, name)


def _export(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
