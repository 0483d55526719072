"""Who holds which bytes, where datasets share them: sums over sets of holders. Pure.

Each holder (a dataset or snapshot) is added with the extents it refers to. Afterwards one can ask
what some of them hold together, and what would be free if they went.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Shares:
    """Sums of bytes by who holds them. First every `add`, then the questions."""

    __slots__ = ("_ids", "_owners", "_sets", "_snapshots", "_sums", "_totals", "logical", "packed")

    def __init__(self) -> None:
        self._owners: dict[int, int] = {}
        #: a set of holders is an earlier set and one more holder; number 0 is the empty one
        self._sets: list[tuple[int, str]] = [(0, "")]
        self._ids: dict[tuple[int, str], int] = {}
        self._totals = [0]
        self._snapshots: dict[str, list[str]] = {}
        self._sums: dict[str, list[tuple[frozenset[str], int]]] | None = None
        #: bytes of each holder's files unpacked, and as they lie in the pool
        self.logical: dict[str, int] = {}
        self.packed: dict[str, int] = {}

    def add(self, name: str, sizes: Mapping[int, int], logical: int) -> None:
        """A holder, the bytes of each extent it refers to by address, and unpacked in all."""
        owners, totals = self._owners, self._totals
        for address, size in sizes.items():
            old = owners.get(address, 0)
            key = (old, name)
            new = self._ids.get(key)
            if new is None:
                new = self._ids[key] = len(self._sets)
                self._sets.append(key)
                totals.append(0)
            if old:
                totals[old] -= size
            totals[new] += size
            owners[address] = new
        self.logical[name] = logical
        self.packed[name] = sum(sizes.values())
        dataset, at, _ = name.partition("@")
        if at:
            self._snapshots.setdefault(dataset, []).append(name)
        self._sums = None

    def _get_sums(self) -> dict[str, list[tuple[frozenset[str], int]]]:
        """Sets that hold something, with their bytes, under each holder in them."""
        if self._sums is None:
            self._sums = {}
            for number, total in enumerate(self._totals):
                if not total:
                    continue
                members = set()
                while number:
                    number, name = self._sets[number]
                    members.add(name)
                entry = (frozenset(members), total)
                for name in members:
                    self._sums.setdefault(name, []).append(entry)
        return self._sums

    def list_snapshots(self, dataset: str) -> list[str]:
        """The holders that are snapshots of a dataset."""
        return self._snapshots.get(dataset, [])

    def knows(self, name: str) -> bool:
        """Whether this holder was added."""
        return name in self.packed

    def get_free(self, names: Iterable[str]) -> int:
        """Bytes that only these hold: what is free when they are gone."""
        return sum(total for members, total, wanted in self._touching(names) if members <= wanted)

    def get_held(self, names: Iterable[str]) -> int:
        """Bytes that at least one of these holds."""
        return sum(total for _, total, _ in self._touching(names))

    def _touching(self, names: Iterable[str]) -> list[tuple[frozenset[str], int, frozenset[str]]]:
        wanted = frozenset(names)
        sums = self._get_sums()
        found: dict[frozenset[str], int] = {}
        for name in wanted:
            found.update(sums.get(name, ()))
        return [(members, total, wanted) for members, total in found.items()]
