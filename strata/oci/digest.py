"""Digests ``algorithm:hex`` (OCI image-spec, descriptor.md) and what is computed from them."""

from __future__ import annotations

from strata.errors import DigestMismatch, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Registered algorithms and the length of their hexadecimal form.
LENGTHS = {"sha256": 64, "sha512": 128}

_HEX = frozenset("0123456789abcdef")


class InvalidDigest(UsageError):
    """The text is not a digest, or its algorithm is not one we can verify."""

    id = "invalid-digest"


def parse(text: str) -> tuple[str, str]:
    """Return algorithm and lower-case hex; raise `InvalidDigest` for anything else."""
    algorithm, colon, digits = text.partition(":")
    length = LENGTHS.get(algorithm)
    if colon and length is None and algorithm.isascii() and algorithm.isalnum():
        raise InvalidDigest(
            f"unsupported digest algorithm {algorithm[:40]!r}", hint="sha256 and sha512 are known"
        )
    if not colon or length is None:
        raise InvalidDigest(
            f"invalid digest {text[:150]!a}",
            hint="a digest is sha256: and 64 hexadecimal digits",
        )
    if len(digits) != length:
        raise InvalidDigest(
            f"invalid checksum digest length: {algorithm} has {length} hexadecimal digits, "
            f"not {len(digits)}",
            hint="copy the whole digest",
        )
    if not _HEX.issuperset(digits):
        raise InvalidDigest(
            f"invalid checksum digest format: {text[:150]!a}",
            hint="a digest is written in lower-case hexadecimal digits",
        )
    return algorithm, digits


def is_valid(text: str) -> bool:
    """Whether the text is a digest of a known algorithm."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == LENGTHS.get(algorithm) and _HEX.issuperset(digits)


def of(data: bytes) -> str:
    """The sha256 digest of some bytes, written ``sha256:hex``."""
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check(data: bytes, expected: str, size: int | None = None, what: str = "content") -> None:
    """Raise `DigestMismatch` unless the bytes have this digest (and size)."""
    verifier = Verifier(expected, size, what)
    verifier.update(data)
    verifier.finish()


def chain_id(diff_ids: Sequence[str]) -> str:
    """The identity of a stack of layers, from the bottom up (OCI image-spec, config.md).

    ``ChainID(A) = A``; ``ChainID(A..C) = sha256(ChainID(A..B) + " " + C)``. An empty stack has "".
    """
    chains = chain_ids(diff_ids)
    return chains[-1] if chains else ""


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain id of every prefix of the stack, in the order of the layers."""
    chains: list[str] = []
    for diff_id in diff_ids:
        parse(diff_id)
        chains.append(of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains


class Verifier:
    """Checks a stream against a digest and, when known, a size in bytes, while it passes.

    ``update`` refuses the first byte too many, so an endless stream ends early; ``finish`` must
    be called at the end. Both raise `DigestMismatch`.
    """

    __slots__ = ("_hash", "count", "expected", "size", "what")

    def __init__(self, expected: str, size: int | None = None, what: str = "content") -> None:
        import hashlib

        algorithm, _ = parse(expected)
        self._hash = hashlib.new(algorithm)
        self.expected = expected
        self.size = size
        self.what = what
        self.count = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream."""
        self.count += len(data)
        if self.size is not None and self.count > self.size:
            raise DigestMismatch(
                f"{self.what} {self.expected} is longer than its size of {self.size} bytes",
                hint="the source is damaged or dishonest; try again or use another one",
            )
        self._hash.update(data)

    def finish(self) -> None:
        """Check the whole."""
        if self.size is not None and self.count != self.size:
            raise DigestMismatch(
                f"{self.what} {self.expected} has {self.count} bytes, expected {self.size}",
                hint="the source is damaged or dishonest; try again or use another one",
            )
        actual = f"{self.expected.partition(':')[0]}:{self._hash.hexdigest()}"
        if actual != self.expected:
            raise DigestMismatch(
                f"{self.what} does not match its digest: expected {self.expected}, got {actual}",
                hint="the source is damaged or dishonest; try again or use another one",
            )
