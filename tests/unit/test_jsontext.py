"""`strata.jsontext` agrees with the standard library's ``json`` in both directions."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_writes_what_json_writes(value: object) -> None:
    assert jsontext.dumps(value) == json.dumps(value, separators=(",", ":"))


@given(VALUES, st.sampled_from([None, 1, "\t"]))
def test_reads_what_json_writes(value: object, indent: int | str | None) -> None:
    text = f" \n{json.dumps(value, indent=indent)}\r\n"
    assert jsontext.loads(text) == value
    assert jsontext.loads(text.encode()) == value


@given(st.text(alphabet='{}[]",:0123456789.-eEtrufalsn \n\\', max_size=40))
def test_refuses_what_json_refuses(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            jsontext.loads(text)
    else:
        assert jsontext.loads(text) == expected


@pytest.mark.parametrize("loaded", [True, False], ids=["with the package", "without"])
@pytest.mark.parametrize("bad", ["", " ", "{", "[1,]", "{}{}", "nul", "'a'", '"\x01"', "{1:2}"])
def test_refuses_malformed_text(bad: str, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loaded:
        monkeypatch.delitem(sys.modules, "json.decoder")
    with pytest.raises(ValueError):
        jsontext.loads(bad)


def test_refuses_bytes_that_are_not_utf8() -> None:
    with pytest.raises(ValueError):
        jsontext.loads(b'"\xff"')


def test_refuses_bottomless_nesting() -> None:
    with pytest.raises(RecursionError):
        jsontext.loads("[" * 200_000)


def test_refuses_other_types() -> None:
    with pytest.raises(TypeError):
        jsontext.dumps({"when": object()})


def test_refuses_cycles() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueError):
        jsontext.dumps(cycle)


def test_bytes_that_were_no_text_become_a_sign_for_other_readers() -> None:
    odd = b"a\xffb \xf0\x9f\x98\x80".decode(errors="surrogateescape")
    assert json.loads(jsontext.dumps_foreign({odd: [odd, 1, None]})) == {
        "a\ufffdb \U0001f600": ["a\ufffdb \U0001f600", 1, None]
    }
    plain = {"a": "\\udcff \U0001f600"}
    assert jsontext.dumps_foreign(plain) == jsontext.dumps(plain)
