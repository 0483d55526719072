"""Datasets outside the store's root dataset: whose they are, and the places they lie in.

Two kinds are out there. An *adopted* dataset is its owner's: Strata gives it an identity and takes
snapshots, and nothing else. A *place* is Strata's, below a pool or path a user named, with volumes
in it. What snapshots, clones and shows datasets is the driver, with names that begin with ``/``.
"""

from __future__ import annotations

from strata.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.linux.mount import MountInfo
    from strata.storage.driver import Dataset


class PlaceMissing(NotFound):
    """The pool that a dataset outside the store lies in is not there now."""

    id = "place-missing"


class Outside:
    """What every storage driver does there; got from `Driver.outside`.

    A *holder* is a store's id, a blank, and its state directory.
    """

    def locate(self, text: str) -> str:
        """The name of the dataset a user means: ``tank/photos`` on ZFS, a path on btrfs."""
        raise NotImplementedError

    def show(self, name: str) -> str:
        """A dataset's name as its owner knows it."""
        raise NotImplementedError

    def get_pool(self, name: str) -> str:
        """Which pool a dataset or snapshot lies in, inside or outside: equal for two of one."""
        raise NotImplementedError

    def check_place(self, name: str) -> None:
        """Raise `PlaceMissing` unless the pool of a dataset is there, so that one that is gone is
        told from one whose pool is not imported or mounted. Nothing for a dataset inside."""
        raise NotImplementedError

    def check_adoptable(self, name: str) -> Dataset:
        """Read a dataset that is about to be adopted; errors say why it cannot be."""
        raise NotImplementedError

    def find_holder(self, name: str) -> str:
        """The holder that `adopt` wrote on a dataset, "" for none."""
        raise NotImplementedError

    def adopt(self, name: str, identity: Mapping[str, str], holder: str) -> None:
        """Give a dataset an identity and a holder. Idempotent."""
        raise NotImplementedError

    def give_back(self, name: str) -> None:
        """Take back `adopt`: nothing of Strata is on the dataset but snapshots. Idempotent."""
        raise NotImplementedError

    def make_place(self, text: str, holder: str) -> str:
        """Make a place for volumes in a pool or below a path a user names; its name.

        Idempotent for the same holder; `AlreadyExists` when it is somebody else's."""
        raise NotImplementedError

    def find_place_holder(self, name: str) -> str:
        """The holder of a place, "" when there is none."""
        raise NotImplementedError

    def remove_place(self, name: str) -> None:
        """Remove an empty place that `make_place` made. `HasDependants` when it is not empty."""
        raise NotImplementedError

    def collect(self, name: str) -> list[str]:
        """Remove what killed commands left beside a dataset; return what it was."""
        return []

    def find_shown(
        self, names: Sequence[str], here: Sequence[MountInfo], mounts: Sequence[MountInfo]
    ) -> list[MountInfo]:
        """Of ``mounts`` of any namespace those that show one of the datasets; ``here`` are the
        mounts of our own."""
        raise NotImplementedError
