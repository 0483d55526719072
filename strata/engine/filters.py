"""``--filter key=value`` of listings and prunes, from a table of tests.

Different keys must all match. Of several values of one key any may match, except of labels and
of ``until``, where all must.
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

_ALL = frozenset(("label", "until"))
_TRUE = frozenset(("true", "1"))


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
                f"invalid {what} filter {key!r}", hint=f"use {', '.join(keys)} or {last}"
            )
        chosen.append((tests[key], values, all if key in _ALL else any))

    def passes(subject: Any) -> bool:
        return all(
            judge(test(subject, value) for value in values) for test, values, judge in chosen
        )

    return passes


def has_label(labels: Mapping[str, str] | None, text: str) -> bool:
    """Whether there is a label ``KEY``, or ``KEY=VALUE`` with this value."""
    key, equals, value = text.partition("=")
    return labels is not None and key in labels and (not equals or labels[key] == value)


def is_before(seconds: float, text: str) -> bool:
    """Whether a moment is before ``until``'s: an age such as ``24h``, or a time. `UsageError`."""
    return seconds < parse_moment(text, time.time())


def is_true(text: str) -> bool:
    """Whether a filter's value says yes."""
    return text.lower() in _TRUE
