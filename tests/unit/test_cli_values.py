"""Texts of options become values, and nonsense is refused with a hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli import security, values
from strata.engine.names import check_name
from strata.errors import UsageError
from strata.linux.signals import parse_signal
from strata.oci.capabilities import normalise
from strata.times import parse_duration, parse_moment

HOST = {"HOME": "/root", "LC_ALL": "C", "LC_TIME": "C", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("512k", 512 << 10),
        ("512m", 512 << 20),
        ("1g", 1 << 30),
        ("1G", 1 << 30),
        ("1GB", 1 << 30),
        ("1GiB", 1 << 30),
        ("1 g", 1 << 30),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "m", "x", "-1", "1..5g", "1.5.5", "1x", "1gg", ".5g", "1e3", "٣m", "9999999999p", "1bb"],
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid size"):
        values.parse_size(text)


@given(st.integers(0, 1 << 40), st.sampled_from(["", "b", "k", "m", "g", "K", "MiB", "GB"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    power = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3}[unit[:1].lower()]
    expected = number << (10 * power)
    if expected < 1 << 63:
        assert values.parse_size(f"{number}{unit}") == expected


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b""),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-P", b"\x10"),
        ("a,ctrl-[", b"a\x1b"),
        ("ctrl-@", b"\0"),
        ("ctrl-_", b"\x1f"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,x", b"\0\x1bx"),
        ("CTRL-A", b"\x01"),
        ("ctrl-\\", b"\x1c"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert values.parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ctrl-1", "ab", "a,,b", "ctrl-p,", "é", ","])
def test_other_detach_keys_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="detach key"):
        values.parse_detach_keys(text)


@pytest.mark.parametrize("name", ["a", "web-1", "A.b_c-d", "0"])
def test_names(name: str) -> None:
    assert check_name(name, "container") == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a@b", "é", "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names must match"):
        check_name(name, "container")


def test_long_names_are_refused() -> None:
    assert check_name("x" * 128, "volume")
    with pytest.raises(UsageError, match="at most 128 characters"):
        check_name("x" * 129, "volume")


@pytest.mark.parametrize(
    ("items", "files", "expected"),
    [
        (["A=1", "B=2", "A=3"], [], ["A=3", "B=2"]),
        (["A="], [], ["A="]),
        (["A=b=c"], [], ["A=b=c"]),
        (["HOME"], [], ["HOME=/root"]),
        (["EMPTY"], [], ["EMPTY="]),
        (["UNSET"], [], []),
        (["LC_*"], [], ["LC_ALL=C", "LC_TIME=C"]),
        (["A=2"], ["A=1\nB= x \n# no\n\n  C='q'\nHOME\n"], ["A=2", "B= x ", "C='q'", "HOME=/root"]),
        ([], ["A=1", "A=2"], ["A=2"]),
    ],
)
def test_environment(items: list[str], files: list[str], expected: list[str]) -> None:
    assert values.parse_environment(items, files, HOST) == expected


@pytest.mark.parametrize("item", ["", "=", "=A", "A=\0"])
def test_other_variables_are_refused(item: str) -> None:
    with pytest.raises(UsageError, match="invalid variable"):
        values.parse_environment([item], [], HOST)


@given(st.dictionaries(st.text("ABC_", min_size=1), st.text("xyz= '\"#", max_size=8)))
def test_an_environment_file_is_taken_literally(pairs: dict[str, str]) -> None:
    text = "".join(f"{key}={value}\n" for key, value in pairs.items())
    assert values.parse_environment([], [text], {}) == [f"{k}={v}" for k, v in pairs.items()]


@given(st.lists(st.text(max_size=6), min_size=1))
def test_quoted_fields_survive_a_split(fields: list[str]) -> None:
    text = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert values.split_csv(text) == fields


def test_labels_and_filters() -> None:
    assert values.parse_pairs(["a=1", "b", "c=d=e"], "--label") == {"a": "1", "b": "", "c": "d=e"}
    assert values.parse_label_file("a=1\n# x\n\n b=2 \n") == {"a": "1", "b": "2"}
    assert values.parse_filters(["a=1", "a=2", "b=c=d"]) == {"a": ["1", "2"], "b": ["c=d"]}
    for item in ("a", "=a", ""):
        with pytest.raises(UsageError, match="invalid filter"):
            values.parse_filters([item])
    with pytest.raises(UsageError, match="the key is empty"):
        values.parse_pairs(["=x"], "--label")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("sh", ["sh"]),
        ("sh -c x", ["sh -c x"]),
        ('["a", "b c"]', ["a", "b c"]),
        ("[]", []),
        ("[1]", ["[1]"]),
        ("[broken", ["[broken"]),
    ],
)
def test_entrypoints(text: str, words: list[str]) -> None:
    assert values.parse_entrypoint(text) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [("db:10.0.0.1", "db:10.0.0.1"), ("db:::1", "db:::1"), ("db:[::1]", "db:::1"),
     ("a;b:10.0.0.1", "a;b:10.0.0.1"), ("me:host-gateway", "me:host-gateway")],
)  # fmt: skip
def test_extra_hosts(text: str, expected: str) -> None:
    assert values.parse_add_host(text) == expected


@pytest.mark.parametrize("text", ["", "db", "db:", ":10.0.0.1", "db:300.0.0.1", "db:gateway",
                                  "a b:10.0.0.1"])  # fmt: skip
def test_other_extra_hosts_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.parse_add_host(text)


def test_addresses() -> None:
    for text in ("10.0.0.1", "::1", "fd00::10.0.0.1"):
        assert values.is_address(text)
    for text in ("", "10.0.0", "10.0.0.256", "010.0.0.1", ":::", "::1%eth0", "a", "1\0.0.0.1"):
        assert not values.is_address(text), text
    assert values.parse_servers(["9.9.9.9", "2620:fe::fe"], "--dns") == ["9.9.9.9", "2620:fe::fe"]
    with pytest.raises(UsageError, match="example is not an ip address"):
        values.parse_servers(["dns.example"], "--dns")


def test_platforms() -> None:
    assert values.parse_platform("linux/ARM64/v8") == "linux/arm64/v8"
    for text in ("", "linux", "linux/", "a/b/c/d", "linux/a b"):
        with pytest.raises(UsageError, match="invalid platform"):
            values.parse_platform(text)


def test_capabilities_get_their_kernel_names() -> None:
    assert normalise(["net_admin", "CAP_CHOWN", "all", "Net_Admin"]) == [
        "CAP_NET_ADMIN",
        "CAP_CHOWN",
        "ALL",
    ]


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("nofile=1024", 1024, 1024),
        ("nofile=1024:2048", 1024, 2048),
        ("nofile=-1", security.UNLIMITED, security.UNLIMITED),
        ("RLIMIT_NOFILE=1:-1", 1, security.UNLIMITED),
    ],
)
def test_ulimits(text: str, soft: int, hard: int) -> None:
    assert security.parse_ulimit(text) == {"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}


@pytest.mark.parametrize(
    "text", ["", "nofile", "nofile=", "nofile=x", "files=1", "nofile=2:1", "nofile=1:", "nofile=-2"]
)
def test_other_ulimits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ulimit"):
        security.parse_ulimit(text)


def test_security_options() -> None:
    found = security.parse_security(
        ["no-new-privileges", "seccomp=unconfined", "apparmor=p", "label=disable",
         "mask=/a:/b", "unmask=ALL", "unmask=/c"]
    )  # fmt: skip
    assert found == {
        "no_new_privileges": True,
        "seccomp": "unconfined",
        "apparmor": "p",
        "label_opts": ["disable"],
        "mask": ["/a", "/b"],
        "unmask": ["ALL", "/c"],
    }
    assert security.parse_security(["no-new-privileges:false"])["no_new_privileges"] is False
    assert security.parse_security(["systempaths=unconfined"])["unmask"] == ["ALL"]


@pytest.mark.parametrize("item", ["", "foo", "foo=bar", "seccomp", "seccomp=", "mask=a",
                                  "no-new-privileges=maybe", "unmask=x",
                                  "label=type:t"])  # fmt: skip
def test_other_security_options_are_refused(item: str) -> None:
    with pytest.raises(UsageError, match="security-opt"):
        security.parse_security([item])


def test_storage_options_are_an_allow_list() -> None:
    assert security.parse_storage(["size=1g", "compression=zstd"]) == {
        "size": "1g",
        "compression": "zstd",
    }
    for item in ("mountpoint=/x", "size", "size=", "canmount=on", "size=x", "=1g"):
        with pytest.raises(UsageError, match=r"storage option|cannot be set|invalid size"):
            security.parse_storage([item])


@pytest.mark.parametrize("text", [str(1 << 63), "-" + "9" * 20, "9" * 5000])
def test_whole_numbers_are_those_a_runtime_reads(text: str) -> None:
    assert values.parse_int("-00" + "9" * 18) == -(10**18 - 1)
    with pytest.raises(UsageError, match="out of range"):
        values.parse_int(text)
    with pytest.raises(UsageError, match=r"out of range|not a number"):
        values.parse_float(text)


READERS: list[Callable[[str], Any]] = [
    values.parse_size, parse_duration, parse_signal, values.parse_detach_keys,
    values.check_hostname, values.split_csv, values.parse_entrypoint,
    values.parse_add_host, values.parse_platform, values.parse_label_file,
    values.parse_int, values.parse_float, security.parse_ulimit,
    lambda text: check_name(text, "container"),
    lambda text: parse_moment(text, 2e9),
    lambda text: values.parse_environment([text], [text], HOST),
    lambda text: security.parse_security([text]),
    lambda text: security.parse_storage([text]),
]  # fmt: skip


@given(st.text(max_size=24), st.sampled_from(READERS))
def test_any_text_is_read_or_refused(text: str, reader: Callable[[str], Any]) -> None:
    """Whatever a user types, the worst is one line."""
    try:
        reader(text)
    except UsageError:
        pass
