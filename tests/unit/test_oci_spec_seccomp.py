"""Deciding the conditions of a seccomp profile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from strata.errors import UsageError
from strata.oci import seccomp


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", **more}


PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        rule("read"),
        rule("mount", includes={"caps": ["CAP_SYS_ADMIN"]}),
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
         "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        rule("arch_prctl", includes={"arches": ["amd64"]}),
        rule("ptrace", includes={"minKernel": "4.8"}),
        rule("future", includes={"minKernel": "99.0"}),
        rule("past", excludes={"minKernel": "4.0"}),
        {"names": None, "name": "socket", "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_NE"}]},
    ],
}  # fmt: skip


def names(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["names"][0], item["action"][9:]) for item in document["syscalls"]]


def test_rules_follow_capabilities_architecture_and_kernel() -> None:
    plain = seccomp.translate(PROFILE, ["CAP_CHOWN"], "x86_64", "6.18.44-x")
    assert names(plain) == [
        ("read", "ALLOW"), ("mount", "ERRNO"), ("arch_prctl", "ALLOW"), ("ptrace", "ALLOW"),
        ("socket", "ALLOW"),
    ]  # fmt: skip
    assert plain["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert plain["defaultErrnoRet"] == 38
    admin = seccomp.translate(PROFILE, ["CAP_SYS_ADMIN"], "aarch64", "3.1")
    assert names(admin) == [
        ("read", "ALLOW"), ("mount", "ALLOW"), ("past", "ALLOW"), ("socket", "ALLOW"),
    ]  # fmt: skip
    assert admin["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]


@pytest.mark.parametrize(
    ("release", "expected"), [("6.18.44-fc", (6, 18)), ("5.10", (5, 10)), ("x", (0, 0))]
)
def test_kernel_releases_are_read(release: str, expected: tuple[int, int]) -> None:
    assert seccomp.parse_kernel(release) == expected


def test_a_filter_is_kept_until_the_profile_changes(tmp_path: Path) -> None:
    profile, cache = tmp_path / "p.json", str(tmp_path / "cache")
    profile.write_text(json.dumps(PROFILE))
    first = seccomp.get_filter(cache, str(profile), ["CAP_CHOWN"])
    assert names(json.loads(first.text))[0] == ("read", "ALLOW")
    kept = os.listdir(cache)
    assert len(kept) == 1
    again = seccomp.get_filter(cache, str(profile), ["CAP_CHOWN"])
    assert (again.text, again.bpf) == (first.text, first.bpf)
    seccomp.get_filter(cache, str(profile), ["CAP_KILL"])
    assert len(os.listdir(cache)) == 2
    profile.write_text(json.dumps({**PROFILE, "syscalls": [rule("write")]}))
    changed = seccomp.get_filter(cache, str(profile), ["CAP_CHOWN"])
    assert names(json.loads(changed.text)) == [("write", "ALLOW")]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defaultAction": 1, "syscalls": [3]}', "\0"])
def test_a_profile_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    profile = tmp_path / "p.json"
    profile.write_text(text)
    with pytest.raises(UsageError, match=r"p\.json"):
        seccomp.get_filter(str(tmp_path / "cache"), str(profile), [])


def test_a_missing_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="opening seccomp profile"):
        seccomp.get_filter(str(tmp_path), str(tmp_path / "none.json"), [])
