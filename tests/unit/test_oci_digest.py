"""Digests, streams checked while they pass, and chain ids."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import DigestMismatch
from strata.oci import digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digests_are_told_apart() -> None:
    assert digest.parse(EMPTY) == ("sha256", EMPTY[7:])
    assert digest.parse("sha512:" + "0" * 128) == ("sha512", "0" * 128)
    assert digest.of(b"") == EMPTY


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", ":" + "a" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65,
     "sha256:" + "A" * 64, "sha256:" + "g" * 64, "md5:" + "a" * 32, "SHA256:" + "a" * 64,
     "sha256:" + "a" * 63 + "\n", "sha256:../../" + "a" * 58, " " + EMPTY],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    assert not digest.is_valid(text)
    with pytest.raises(digest.InvalidDigest) as caught:
        digest.parse(text)
    assert caught.value.hint


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_a_stream_in_pieces_has_the_digest_of_the_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    for algorithm in ("sha256", "sha512"):
        expected = f"{algorithm}:{hashlib.new(algorithm, whole).hexdigest()}"
        verifier = digest.Verifier(expected, len(whole))
        for piece in pieces:
            verifier.update(piece)
        verifier.finish()


def test_a_stream_is_refused_at_the_first_byte_too_many() -> None:
    verifier = digest.Verifier(digest.of(b"abc"), 3)
    verifier.update(b"abc")
    with pytest.raises(DigestMismatch, match="longer than its size of 3 bytes"):
        verifier.update(b"d")


def test_a_short_stream_is_refused() -> None:
    with pytest.raises(DigestMismatch, match="has 2 bytes, expected 3"):
        digest.check(b"ab", digest.of(b"abc"), 3)


def test_other_content_is_refused() -> None:
    with pytest.raises(DigestMismatch, match="layer does not match its digest") as caught:
        digest.check(b"abd", digest.of(b"abc"), 3, "layer")
    assert digest.of(b"abd") in caught.value.message


def test_chain_ids_follow_the_specification() -> None:
    a, b, c = (digest.of(name) for name in (b"a", b"b", b"c"))
    ab = digest.of(f"{a} {b}".encode())
    abc = digest.of(f"{ab} {c}".encode())
    assert digest.chain_id([]) == ""
    assert digest.chain_id([a]) == a
    assert digest.chain_id([a, b, c]) == abc
    assert digest.chain_ids([a, b, c]) == [a, ab, abc]


def test_chain_ids_are_only_made_of_digests() -> None:
    with pytest.raises(digest.InvalidDigest):
        digest.chain_id([EMPTY, "nonsense"])
