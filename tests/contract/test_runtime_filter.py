"""The compiled default filter, run by a small BPF interpreter."""

from __future__ import annotations

import os
import struct

import pytest

from strata.linux.filter import compile_filter
from strata.oci import capabilities, seccomp

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
X86_64 = 0xC000003E

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="system call numbers here are of x86-64"
)


def evaluate(program: bytes, number: int, args: tuple[int, ...] = (), arch: int = X86_64) -> int:
    """What a classic BPF program answers for one system call: seccomp(2), struct seccomp_data."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        op, jump_true, jump_false, k = code[position]
        position += 1
        if op == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif op == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif op == 0x05:  # BPF_JMP | BPF_JA
            position += k
        elif op in (0x15, 0x25, 0x35, 0x45):  # BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k,
                     0x45: bool(accumulator & k)}[op]  # fmt: skip
            position += jump_true if taken else jump_false
        elif op == 0x06:  # BPF_RET | BPF_K
            return int(k)
        else:
            raise AssertionError(f"unknown instruction {op:#x}")


def compiled(caps: list[str]) -> bytes:
    path = seccomp.find_profile("")
    assert path is not None, "the package with the default profile is missing"
    import json

    with open(path) as file:
        profile = json.load(file)
    return compile_filter(seccomp.translate(profile, caps, "x86_64", "6.1.0"))


READ, MOUNT, PERSONALITY, KEXEC_LOAD, BPF, SOCKET = 0, 165, 135, 246, 321, 41
NOWHERE = 4242


def test_the_default_set_may_read_and_may_not_load_a_kernel() -> None:
    program = compiled(list(capabilities.DEFAULT))
    assert evaluate(program, READ) == ALLOW
    assert evaluate(program, KEXEC_LOAD) == ERRNO | 1
    assert evaluate(program, BPF) == ERRNO | 1
    assert evaluate(program, NOWHERE) == ERRNO | 38


def test_arguments_are_compared() -> None:
    program = compiled(list(capabilities.DEFAULT))
    assert evaluate(program, PERSONALITY, (0,)) == ALLOW
    assert evaluate(program, PERSONALITY, (0xFFFFFFFF,)) == ALLOW
    assert evaluate(program, PERSONALITY, (5,)) != ALLOW
    # AF_NETLINK with NETLINK_AUDIT, without CAP_AUDIT_WRITE
    assert evaluate(program, SOCKET, (16, 3, 9)) == ERRNO | 22
    assert evaluate(program, SOCKET, (16, 3, 0)) == ALLOW
    assert evaluate(program, SOCKET, (2, 1, 6)) == ALLOW


def test_a_capability_opens_its_calls() -> None:
    assert evaluate(compiled(["CAP_SYS_ADMIN"]), BPF) == ALLOW
    assert evaluate(compiled(["CAP_AUDIT_WRITE"]), SOCKET, (16, 3, 9)) == ALLOW


def test_other_architectures_are_not_a_way_around() -> None:
    program = compiled(list(capabilities.DEFAULT))
    kexec_load_32 = 283
    assert evaluate(program, kexec_load_32, arch=0x40000003) == ERRNO | 1
    unknown = evaluate(program, READ, arch=0xC00000B7)
    assert unknown != ALLOW


def test_an_action_bpf_cannot_express_is_refused() -> None:
    with pytest.raises(KeyError):
        compile_filter({"defaultAction": "SCMP_ACT_NOTIFY"})
