"""The drawing of a history: lanes, joins, colours, plain letters."""

from __future__ import annotations

from typing import Any

import pytest

from strata.cli.graph import draw, knows_utf8

NOW = 1000.0


def tip(branch: str, parent: str = "", *, head: bool = False) -> dict[str, Any]:
    return {"Kind": "head" if head else "branch", "Name": branch, "Branch": branch,
            "Parent": parent, "Created": None if head else NOW - 120, "Foreign": False,
            "Clones": [], "Users": []}  # fmt: skip


def dot(name: str, branch: str, parent: str = "", **known: Any) -> dict[str, Any]:
    return {"Kind": "snapshot", "Name": name, "Branch": branch, "Parent": parent,
            "Created": NOW - 120, "Foreign": False, "Clones": [], "Users": [],
            **known}  # fmt: skip


def history(*rows: dict[str, Any], **known: Any) -> dict[str, Any]:
    head = next(row["Name"] for row in rows if row["Kind"] == "head")
    return {"Kind": "volume", "Target": "data", "Head": head, "Users": [], "Cloned": None,
            "Rows": list(rows), **known}  # fmt: skip


def shown(*rows: dict[str, Any], plain: bool = False) -> list[str]:
    lines = draw(history(*rows), now=NOW, plain=plain)[1:]
    return [line.partition("  ")[0] if "│" not in line else line.replace("  left 2 minutes ago", "")
            .replace("  2 minutes ago", "") for line in lines]  # fmt: skip


def test_branches_join_where_they_were_cloned() -> None:
    rows = (tip("g3", "b", head=True), tip("g1", "b"), tip("g2", "a"), dot("b", "g1", "a"),
            dot("a", "g1"))  # fmt: skip
    assert shown(*rows) == ["* g3 (head)", "│ * g1", "│ │ * g2", "├─╯ │", "●   │ b", "├───╯", "● a"]


def test_what_has_no_common_snapshot_is_drawn_apart() -> None:
    rows = (tip("g3", head=True), tip("g2", "a"), dot("a", "g2"), tip("g1"))
    assert shown(*rows) == ["* g3 (head)", "", "* g2", "● a", "", "* g1"]


def test_what_ends_beside_others_leaves_its_lane_free() -> None:
    rows = (tip("g3", "b", head=True), tip("g2"), tip("g1"), dot("b", "g3"))
    assert shown(*rows) == ["* g3 (head)", "│ * g2", "│", "│ * g1", "● b"]


def test_details_are_told() -> None:
    found = history(
        tip("g1", "b", head=True),
        dot("b", "g1", "a", Foreign=True, Clones=[f"volume c{n}" for n in range(7)]),
        dot("a", "g1", Used=2000),
        Users=["web (running)"], Cloned={"name": "old", "snapshot": "s"},
    )  # fmt: skip
    assert draw(found, now=NOW) == [
        "volume data, on g1, cloned from old@s, used by web (running)",
        "* g1 (head)",
        "● b  2 minutes ago, foreign  -> volume c0, volume c1, volume c2, volume c3, volume c4 "
        "and 2 more",
        "● a  2 minutes ago, 2 kB",
    ]


def test_colour_is_put_around_names_and_times_only() -> None:
    found = history(tip("g2", "a", head=True), tip("g1", "a"), dot("a", "g1"))
    assert draw(found, now=NOW, colour=True)[1:] == [
        "* \033[32mg2 (head)\033[0m",
        "│ * \033[36mg1\033[0m\033[2m  left 2 minutes ago\033[0m",
        "├─╯",
        "● \033[33ma\033[0m  \033[2m2 minutes ago\033[0m",
    ]


def test_foreign_names_do_not_drive_the_terminal() -> None:
    found = history(tip("g1", "a", head=True), dot("a\033[2J", "g1"))
    assert "\033" not in "".join(draw(found, now=NOW))


def test_plain_letters_are_ascii() -> None:
    rows = (tip("g2", "a", head=True), tip("g1", "a"), dot("a", "g1"))
    assert draw(history(*rows), now=NOW, plain=True)[1:] == [
        "* g2 (head)", "| * g1  left 2 minutes ago", "|-'", "o a  2 minutes ago",
    ]  # fmt: skip


@pytest.mark.parametrize(("environment", "known"), [
    ({"LANG": "C.UTF-8"}, True),
    ({"LANG": "de_DE.utf8"}, True),
    ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
    ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
    ({"LC_ALL": "", "LANG": "de_DE.UTF-8"}, True),
    ({"LANG": "de_DE.ISO-8859-15"}, False),
    ({}, False),
])  # fmt: skip
def test_the_locale_says_whether_utf8_is_shown(environment: dict[str, str], known: bool) -> None:
    assert knows_utf8(environment) is known
