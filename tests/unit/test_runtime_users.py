"""Whom --user means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import RuntimeFailure, StrataError
from strata.runtime import users

PASSWD = """\
# comment:x:9:9::/:/bin/sh
broken
root:x:0:0:root:/root:/bin/bash
alice:x:1000:1000:Alice:/people/alice:/bin/sh
bad:x:notanumber:0::/:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
"""
GROUP = """\
root:x:0:
adm:x:4:alice,bob
wheel:x:10:alice
users:x:100:
"""


@pytest.mark.parametrize(
    ("wanted", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [], "/root"),
        ("root", 0, 0, [], "/root"),
        ("alice", 1000, 1000, [4, 10], "/people/alice"),
        ("1000", 1000, 1000, [4, 10], "/people/alice"),
        ("alice:users", 1000, 100, [], "/people/alice"),
        ("alice:55", 1000, 55, [], "/people/alice"),
        ("4242", 4242, 0, [], "/"),
        ("4242:4343", 4242, 4343, [], "/"),
        (":users", 0, 100, [], "/root"),
    ],
)
def test_users_are_found_by_name_or_number(
    wanted: str, uid: int, gid: int, groups: list[int], home: str
) -> None:
    user = users.resolve_text(wanted, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == (uid, gid, groups, home)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("bad", "unable to find user bad"),
        ("alice:none", "unable to find group none: no matching entries in group file"),
        ("4294967295", "unable to find user"),
    ],
)
def test_unknown_names_are_podmans_sentences(wanted: str, message: str) -> None:
    with pytest.raises(RuntimeFailure, match=message):
        users.resolve_text(wanted, PASSWD, GROUP)


def test_an_image_without_files_has_root() -> None:
    user = users.resolve_text("", "", "")
    assert (user.uid, user.gid, user.home) == (0, 0, "/root")


@given(st.text(max_size=60), st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_the_lookup(wanted: str, passwd: str, group: str) -> None:
    try:
        user = users.resolve_text(wanted, passwd, group)
    except StrataError:
        return
    assert 0 <= user.uid < 2**32
    assert 0 <= user.gid < 2**32


def test_a_link_in_the_image_cannot_lead_out(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "secret").write_text("inside")
    (tmp_path / "etc/passwd").symlink_to("/../../secret")
    (tmp_path / "etc/group").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "etc/fifo")
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert users.read_in_root(root, "etc/passwd") == "inside"
        assert users.read_in_root(root, "etc/group") == ""
        assert users.read_in_root(root, "etc/fifo") == ""
        assert users.read_in_root(root, "etc") == ""
    finally:
        os.close(root)
