"""Filters of listings."""

from __future__ import annotations

import pytest

from strata.engine.filters import has_label, is_true, make_filter
from strata.errors import UsageError

ROW = {"name": "web", "labels": {"tier": "front", "empty": ""}}
TESTS = {
    "name": lambda row, value: value in row["name"],
    "label": lambda row, value: has_label(row["labels"], value),
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
        ({"name": ["web"], "label": ["tier=back"]}, False),
    ],
)
def test_keys_all_match_and_of_values_any_but_of_labels_all(
    filters: dict[str, list[str]] | None, passes: bool
) -> None:
    assert make_filter("thing", filters, TESTS)(ROW) is passes


def test_an_unknown_key_is_refused_also_when_there_is_nothing_to_list() -> None:
    with pytest.raises(UsageError, match="invalid thing filter 'color'") as caught:
        make_filter("thing", {"color": ["red"]}, TESTS)
    assert caught.value.hint == "use name or label"


def test_nothing_has_labels_it_was_not_given() -> None:
    assert not has_label(None, "tier")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("TRUE", True),
                                             ("false", False), ("", False)])  # fmt: skip
def test_yes_and_no(text: str, value: bool) -> None:
    assert is_true(text) is value
