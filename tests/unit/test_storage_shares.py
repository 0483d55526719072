"""Sums of bytes by who holds them, against counting them one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strata.storage.shares import Shares

HOLDERS = ("a", "a@1", "a@2", "b", "b@1", "c")
EXTENTS = st.dictionaries(st.integers(-3, 9), st.none(), max_size=8)


@given(st.lists(EXTENTS, min_size=len(HOLDERS), max_size=len(HOLDERS)),
       st.sets(st.sampled_from(HOLDERS)))  # fmt: skip
def test_what_some_hold_alone_and_together(held: list[dict[int, None]], chosen: set[str]) -> None:
    shares = Shares()
    sizes = {address: 10 + abs(address) for address in range(-3, 10)}
    for name, extents in zip(HOLDERS, held, strict=True):
        shares.add(name, {address: sizes[address] for address in extents}, 100)
    theirs = {a for name, extents in zip(HOLDERS, held, strict=True) if name in chosen
              for a in extents}  # fmt: skip
    others = {a for name, extents in zip(HOLDERS, held, strict=True) if name not in chosen
              for a in extents}  # fmt: skip
    assert shares.get_held(chosen) == sum(sizes[a] for a in theirs)
    assert shares.get_free(chosen) == sum(sizes[a] for a in theirs - others)
    assert shares.list_snapshots("a") == ["a@1", "a@2"]
    assert shares.knows("c")
    assert not shares.knows("d")
