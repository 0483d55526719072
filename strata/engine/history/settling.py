"""The journal's steps about history, for `strata.engine.undo`."""

from __future__ import annotations

from strata.engine.core import Engine
from strata.engine.history import branches, forks, heads, restoring, snapshot_removal, snapshots
from strata.engine.images import restoring as images


def perform(e: Engine, step: list[str]) -> None:
    """Perform one step. ValueError when there is no such step."""
    match step:
        case ["settle-snapshot", kind, object_id, name]:
            snapshots.settle(e, kind, object_id, name)
        case ["unhide", kind, object_id, guid, name, entry_id]:
            snapshot_removal.unhide(e, kind, object_id, guid, name, entry_id)
        case ["settle-branch-removal", entry_id]:
            branches.settle_removal(e, entry_id)
        case ["settle-generation", kind, object_id, dataset]:
            heads.settle_generation(e, kind, object_id, dataset)
        case ["unrestore", kind, entry_id]:
            restoring.take_back(e, kind, entry_id)
        case ["settle-restore", entry_id]:
            restoring.finish(e, entry_id)
        case ["drop-moment", kind, object_id, name]:
            forks.drop_moment(e, kind, object_id, name)
        case ["drop-network", network_id]:
            forks.drop_network(e, network_id)
        case ["settle-image-restore", entry_id]:
            images.finish(e, entry_id)
        case _:
            raise ValueError(f"unknown undo step {step!r}")
