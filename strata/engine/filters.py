"""``--filter key=value`` of listings and prunes, from a table of tests.

Different keys must all match. Of several values of one key any may match, except of labels,
``before`` and ``until``, where all must. ``KEY!=VALUE`` is a key of its own, ``KEY!``.
"""

from __future__ import annotations

import time

from strata.errors import UsageError
from strata.times import parse_moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Filters = Mapping[str, Sequence[str]]
    Test = Callable[[Any, str], bool]

_ALL = frozenset(("before", "label", "label!", "until"))
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_HEX = frozenset("0123456789abcdefABCDEF")
_TRUE = frozenset(("true", "1"))
_FALSE = frozenset(("false", "0"))


def make_filter(
    what: str, filters: Filters | None, tests: Mapping[str, Test]
) -> Callable[[Any], bool]:
    """The function that tells whether something passes; ``tests`` has one for each key.

    `UsageError` when a key has none; ``what`` names the kind of thing in it.
    """
    chosen: list[tuple[Test, Sequence[str], Callable[..., bool]]] = []
    for key, values in (filters or {}).items():
        if key not in tests:
            *keys, last = tests
            raise UsageError(
                f'"{key}" is an invalid {what} filter', hint=f"use {', '.join(keys)} or {last}"
            )
        chosen.append((tests[key], values, all if key in _ALL else any))

    def passes(subject: Any) -> bool:
        return all(
            judge(test(subject, value) for value in values) for test, values, judge in chosen
        )

    return passes


def has_label(labels: Mapping[str, str] | None, text: str) -> bool:
    """Whether there is a label ``KEY``, or ``KEY=VALUE`` with this value; ``*`` stands for any."""
    key, _, value = text.partition("=")
    if not labels:
        return False
    if "*" in key:
        from fnmatch import fnmatchcase

        return any(
            fnmatchcase(known, f"*{key}*") and (not value or value == found)
            for known, found in labels.items()
        )
    return key in labels and (not value or labels[key] == value)


def matches(pattern: str, text: str) -> bool:
    """Whether a regular expression is found in a text; one that is none matches nothing."""
    if _PLAIN.issuperset(pattern):
        return pattern in text
    import re

    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def is_id(wanted: str, object_id: str) -> bool:
    """Whether an id starts with the digits, or matches the regular expression, a user gave."""
    if _HEX.issuperset(wanted):
        return object_id.startswith(wanted.lower())
    return matches(wanted, object_id)


def is_before(seconds: float, text: str) -> bool:
    """Whether a moment is before ``until``'s: an age such as ``24h``, or a time. `UsageError`."""
    return seconds < parse_moment(text, time.time())


def is_true(text: str, what: str = "dangling") -> bool:
    """Whether a filter's value says yes; `UsageError` when it says neither yes nor no."""
    if text.lower() not in _TRUE | _FALSE:
        raise UsageError(
            f'"{text}" is not a valid value for the "{what}" filter - must be true or false'
        )
    return text.lower() in _TRUE
