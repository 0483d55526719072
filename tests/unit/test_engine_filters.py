"""Filters of listings."""

from __future__ import annotations

import pytest

from strata.engine.filters import has_label, is_id, is_true, make_filter, matches
from strata.errors import UsageError

ROW = {"name": "web", "labels": {"tier": "front", "empty": ""}}
TESTS = {
    "name": lambda row, value: value in row["name"],
    "label": lambda row, value: has_label(row["labels"], value),
    "label!": lambda row, value: not has_label(row["labels"], value),
}


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (None, True),
        ({}, True),
        ({"name": ["we"]}, True),
        ({"name": ["x", "web"]}, True),
        ({"name": ["x"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=front", "empty="]}, True),
        ({"label": ["tier=front", "missing"]}, False),
        ({"label": ["tier=back"]}, False),
        ({"label": ["t*=front"]}, True),
        ({"label": ["x*"]}, False),
        ({"label!": ["tier"]}, False),
        ({"label!": ["tier=back", "missing"]}, True),
        ({"label!": ["tier=front", "missing"]}, False),
        ({"name": ["web"], "label": ["tier=back"]}, False),
    ],
)
def test_keys_all_match_and_of_values_any_but_of_labels_all(
    filters: dict[str, list[str]] | None, passes: bool
) -> None:
    assert make_filter("thing", filters, TESTS)(ROW) is passes


def test_an_unknown_key_is_refused_also_when_there_is_nothing_to_list() -> None:
    with pytest.raises(UsageError, match='"color" is an invalid thing filter') as caught:
        make_filter("thing", {"color": ["red"]}, TESTS)
    assert caught.value.hint == "use name, label or label!"


def test_nothing_has_labels_it_was_not_given() -> None:
    assert not has_label(None, "tier")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("TRUE", True),
                                             ("false", False), ("0", False)])  # fmt: skip
def test_yes_and_no(text: str, value: bool) -> None:
    assert is_true(text) is value


def test_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(UsageError, match="must be true or false"):
        is_true("maybe")


@pytest.mark.parametrize(("pattern", "found"), [("we", True), ("^web$", True), ("^eb", False),
                                                ("w.b", True), ("(", False), ("", True),
                                                ("a|web", True)])  # fmt: skip
def test_names_match_regular_expressions(pattern: str, found: bool) -> None:
    assert matches(pattern, "web") is found


@pytest.mark.parametrize(("wanted", "found"), [("0ab", True), ("0AB", True), ("ab", False),
                                               ("^0ab", True), ("cd$", True)])  # fmt: skip
def test_ids_match_by_their_beginning_or_a_regular_expression(wanted: str, found: bool) -> None:
    assert is_id(wanted, "0abcd") is found
