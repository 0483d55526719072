"""The undo steps of the journal: what they are called and what they do.

A step is a list of strings in a journal entry, so that whoever comes after a killed command can
perform it. Each is idempotent, since the crash may have come before or after the effect it takes
back, and none destroys what was already published to others. The ``settle-`` steps and
``restart`` go forward instead: they finish what was decided.

=========================================  =====================================================
``destroy DATASET``                        with its snapshots
``unsnapshot DATASET@NAME``
``unview DATASET@NAME``                    what showed a snapshot, unless somebody still looks
``forget KIND ID``                         the record
``unclaim KIND NAME ID``                   the name, unless the object was recorded after all
``drop-name KIND NAME ID``                 the name, if it stands for that object
``abandon KIND ID DATASET``                what was made for an object that is not used yet
``unadopt ID DATASET``                     the marks and record of an adoption that was broken off
``drop-pool PLACE``                        a place for volumes that no pool has
``settle-forgetting ID``                   finish forgetting an adopted volume
``unswitch KIND ID DATASET``               a new head, unless the record points to it
``settle-names KIND ID NAME…``             keep the name the record says, drop the others
``settle-removal ID``                      finish removing what has a trash entry
``settle-image-removal ID``
``settle-layer DATASET``                   finish a committed layer from its own copy
``unspool OPERATION``                      what it kept to read once
``settle-network ID``                      finish removing a network that has a trash entry
``drop-key ID``                            the private key of an overlay that was not recorded
``forget-secrets ID``                      the secrets of a container that was not recorded
``settle-connection CONTAINER NETWORK``    take away a network its record does not list
``restart ID…``                            start containers that were stopped for a rollback
``settle-pause ID``                        write down whether a container is frozen
``settle-checkpoint ID``                   finish a checkpoint, or let the container go on
``end-unrecorded ID``                      end processes of a restore that was not recorded
``unimport ID``                            remove a container that was not wholly imported
``settle-update ID``                       give a container the limits its record says
``settle-limits KIND ID``                  give a dataset the limits its record says
``settle-snapshot KIND ID NAME``           own a snapshot that was taken, if it was
``unhide KIND ID GUID NAME ENTRY``         show a snapshot that did not come into the trash
``settle-branch-removal ENTRY``            finish removing a branch that has a trash entry
``settle-generation KIND ID DATASET``      let a dataset say the generation its record says
``unrestore KIND ID``                      back into the trash with what was not restored yet
``settle-restore ID``                      finish restoring what its trash entry holds anew
``settle-image-restore ID``
``drop-moment KIND ID NAME``               a snapshot taken for a fork
``drop-network ID``                        a network made for a fork
=========================================  =====================================================
"""

from __future__ import annotations

from strata.engine.containers import life
from strata.engine.core import Engine
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.engine.networks import joining
from strata.errors import Busy, StrataError
from strata.linux.tree import remove_path
from strata.storage import layout
from strata.storage.driver import DatasetBusy, DatasetNotFound


def perform(e: Engine, step: list[str]) -> None:
    """Perform one step. ValueError when there is no such step."""
    match step:
        case ["destroy", dataset]:
            e.destroy_dataset(dataset)
        case ["unsnapshot", snapshot]:
            e.driver.outside.check_place(snapshot)
            try:
                e.driver.destroy(snapshot)
            except DatasetNotFound:
                pass
        case ["unview", snapshot]:
            e.driver.outside.check_place(snapshot)
            try:
                e.driver.close(snapshot)
            except DatasetBusy:
                pass
        case ["forget", kind, object_id]:
            e.records.delete(kind, object_id)
        case ["unclaim", kind, name, object_id]:
            if e.records.find(kind, object_id) is None:
                e.records.drop_name(kind, name, object_id)
        case ["drop-name", kind, name, object_id]:
            e.records.drop_name(kind, name, object_id)
        case ["abandon", kind, object_id, dataset]:
            _abandon(e, kind, object_id, dataset)
        case ["forget-secrets", container_id]:
            if e.records.find("container", container_id) is None:
                from strata.engine import secrets

                secrets.forget_for(e, container_id)
        case ["unswitch", kind, object_id, dataset]:
            record = e.records.find(kind, object_id)
            if record is None or record["dataset"] != dataset:
                e.destroy_dataset(dataset)
        case ["unadopt", volume_id, dataset]:
            from strata.engine import adoption

            adoption.undo(e, volume_id, dataset)
        case ["drop-pool", place]:
            from strata.engine import pools

            pools.drop(e, place)
        case ["settle-forgetting", volume_id]:
            from strata.engine import adoption

            adoption.settle(e, volume_id)
        case ["settle-names", kind, object_id, *names]:
            _settle_names(e, kind, object_id, names)
        case ["settle-removal", object_id]:
            e.settle_removal(object_id)
            entry = e.trash.find(object_id)
            if entry is not None and entry["object"] == "container":
                joining.disconnect(e, entry["record"])
        case ["settle-image-removal", image_id]:
            images.settle_removal(e, image_id)
        case ["settle-layer", dataset]:
            layers.settle(e, dataset)
        case ["unspool", operation]:
            remove_path(f"{e.spool}/{operation}")
        case ["settle-pause", container_id]:
            from strata.engine.containers import pausing

            pausing.settle(e, container_id)
        case ["settle-checkpoint", container_id]:
            from strata.engine.containers import checkpoints

            checkpoints.settle(e, container_id)
        case ["end-unrecorded", container_id]:
            from strata.engine.containers import resuming

            resuming.end_unrecorded(e, container_id)
        case ["unimport", container_id]:
            from strata.engine.containers import checkpoint_import

            checkpoint_import.unimport(e, container_id)
        case ["drop-key", network_id]:
            from strata.engine.networks import overlay

            if e.records.find("network", network_id) is None:
                overlay.drop_key(e, network_id)
        case ["settle-network", network_id]:
            from strata.engine.networks import removal as networks

            networks.settle(e, network_id)
        case ["settle-connection", container_id, network_id]:
            from strata.engine.networks import live

            live.settle_connection(e, container_id, network_id)
        case ["settle-update", container_id]:
            from strata.engine.containers import updating

            updating.settle(e, container_id)
        case ["settle-limits", kind, object_id]:
            from strata.engine import limits

            limits.settle(e, kind, object_id)
        case ["restart", *container_ids]:
            try:
                life.restart_after_rollback(e, container_ids)
            except Busy:
                raise  # the next command tries again
            except StrataError:
                pass  # what cannot start now must not start by itself some other day
        case [
            "settle-snapshot" | "unhide" | "settle-branch-removal" | "settle-generation"
            | "drop-moment" | "drop-network" | "unrestore" | "settle-restore"
            | "settle-image-restore", *_,
        ]:  # fmt: skip
            from strata.engine.history import settling

            settling.perform(e, step)
        case _:
            raise ValueError(f"unknown undo step {step!r}")


def _settle_names(e: Engine, kind: str, object_id: str, names: list[str]) -> None:
    record = e.records.find(kind, object_id)
    for name in names:
        if record is None or record["name"] != name:
            e.records.drop_name(kind, name, object_id)


def _abandon(e: Engine, kind: str, object_id: str, dataset: str) -> None:
    """Destroy what was made for an object, unless its record points there and it is in use.

    Another command may have started to use a volume that a killed ``create`` made.
    """
    record = e.records.find(kind, object_id)
    if record is not None and record["dataset"] == dataset:
        if kind != "volume" or _is_volume_used(e, object_id):
            return
        e.unmount_volume(record["name"])
        e.remove_mountpoint(record["name"])
        e.records.drop_name(kind, record["name"], object_id)
        e.records.delete(kind, object_id)
    if layout.is_outside(dataset):
        from strata.engine import adoption

        adoption.drop_copy(e, object_id)
    e.destroy_dataset(dataset)


def _is_volume_used(e: Engine, volume_id: str) -> bool:
    return any(
        item.get("volume") == volume_id
        for container in e.records.list_records("container")
        for item in container["config"].get("mounts", ())
    )
