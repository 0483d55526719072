"""What runtimes' complaints mean."""

from __future__ import annotations

import pytest

from strata.cli.messages import shorten
from strata.runtime.failures import explain
from strata.runtime.launch import classify


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OOM: the memory limit could be too low: read from sync socket", "limit is too low"),
        ("error setting cgroup config for procHooks process: unable to set memory limit to 1 "
         "(current usage: 2637824)", "memory limit is too low"),
        ("open /proc/sys/net/nonsense: No such file or directory", "'net.nonsense' is not known"),
        ("write to /proc/sys/net/ipv4/ip_forward: Invalid argument",
         "'net.ipv4.ip_forward' does not take"),
        ("error during container init: write /proc/sys/net/ipv4/ip_forward: invalid argument",
         "'net.ipv4.ip_forward' does not take"),
        ("mount `/etc` to `etc/passwd`: Not a directory", "cannot mount /etc at /etc/passwd"),
        ('error mounting "/etc" to rootfs at "/etc/passwd": mount /etc:/etc/passwd (via '
         "/proc/self/fd/6), flags: 0x5000: not a directory", "cannot mount /etc at /etc/passwd"),
        ("chdir `/etc/passwd`: Not a directory", 'workdir "/etc/passwd" exists'),
        ("error during container init: mkdir /etc/passwd: not a directory",
         'workdir "/etc/passwd" exists'),
        ("error opening file `/proc/self/setgroups`: Too many open files", "open files is too low"),
        ("AppArmor is not initialized correctly", "AppArmor is not active"),
        ("writing file `cpu.cfs_quota_us`: Invalid argument", "the limit for cpu.cfs_quota_us"),
        ("cannot setns `/proc/self/ns/net`: Invalid argument", "/proc/self/ns/net is not a name"),
        (f"mkdir `/{'a' * 3000}`: File name too long", "a name of more than 255 bytes"),
    ],
)  # fmt: skip
def test_known_complaints_are_one_sentence_with_a_hint(text: str, said: str) -> None:
    found = explain(text)
    assert found is not None
    assert said in found.message
    assert found.hint
    assert found.exit_code == 125
    assert len(found.message) < 200


def test_a_command_that_is_not_there_is_left_to_its_exit_code() -> None:
    text = "executable file `nosuch` not found in $PATH: No such file or directory"
    assert explain(text) is None
    assert classify("crun", text).exit_code == 127
    assert classify("crun", "open executable: Permission denied").exit_code == 126


def test_a_sentence_with_a_huge_word_keeps_its_ends() -> None:
    text = f"no container {'a' * 100_000} here"
    found = shorten(text)
    assert found.startswith("no container aaa")
    assert found.endswith("aaa here (100018 characters)")
    assert len(found) < 1600
    assert shorten("short") == "short"
