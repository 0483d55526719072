"""What is true of a target's datasets now: a record meets what was done by hand.

Somebody may destroy, rename or receive datasets with ``zfs`` or ``btrfs`` behind our back. A verb
that acts on a target reads its datasets first, and its record follows them: a renamed dataset is
found by its GUID, a branch that was destroyed is forgotten, a dataset that was replaced under its
name (``zfs receive -F``, destroy and receive) is the target's from now on, marked with its
identity. Only a head that is gone is an error, and a branch of it the way out.
"""

from __future__ import annotations

from strata.engine.core import Engine, Record
from strata.engine.history import targets
from strata.engine.identity import identity, is_owned
from strata.errors import NotFound
from strata.storage import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.storage.driver import Dataset


def reconcile(e: Engine, record: Record, *, leaving: bool = False) -> Record:
    """The record in agreement with its datasets, saved when that changed it.

    `NotFound` when the head was destroyed and is nowhere to be found by its GUID; not if the
    target is ``leaving`` its head for a branch, and has one.
    """
    lineage = (record, *record["branches"])
    if all(e.driver.find_guid(known["dataset"]) == known["guid"] for known in lineage):
        return record
    with e.hold(record) as fresh:
        return reconcile_locked(e, fresh, leaving=leaving)


def reconcile_locked(e: Engine, record: Record, *, leaving: bool = False) -> Record:
    """`reconcile` for a caller that has the target's lock; ``record`` is changed in place."""
    e.driver.outside.check_place(record["dataset"])  # else all that is there seems to be gone
    kept = []
    for branch in record["branches"]:
        found = _find(e, record, branch)
        if found is not None:
            kept.append({**branch, "dataset": found.name, "guid": found.guid})
    record["branches"] = kept
    head = _find(e, record, record)
    if head is None:
        if not (leaving and kept):
            _raise_lost(e, record)
    else:
        if is_owned(record, record):
            record["adopted"] = head.guid
        record["dataset"], record["guid"] = head.name, head.guid
        if head.identity.get("id") != record["id"]:
            if is_owned(record, record):
                from strata.engine import adoption

                e.driver.outside.adopt(head.name, identity(record), adoption.get_holder(e))
            else:
                own = {f"strata:{key}": value for key, value in identity(record).items()}
                e.driver.set_properties(head.name, own)
    targets.save(e, record)
    return record


def _find(e: Engine, record: Record, known: Record) -> Dataset | None:
    """The dataset that ``known`` (a record, or a branch of it) stands for.

    By its GUID, under its name or among its neighbours; else whatever has its name now.
    """
    found = e.driver.find(known["dataset"])
    if found is not None and found.guid == known["guid"]:
        return found
    if found is None and layout.is_outside(known["dataset"]):
        e.driver.outside.check_place(known["dataset"])
    parent = known["dataset"].rpartition("/")[0]
    for dataset in e.driver.list_datasets(parent):
        if dataset.guid == known["guid"]:
            return dataset
    return found


def _raise_lost(e: Engine, record: Record) -> None:
    from strata.engine import names

    e.records.save(record)  # branches that are gone are forgotten all the same
    name = record["name"]
    branches = [targets.branch_name(branch) for branch in record["branches"]]
    rescue = f"`strata switch {name} {branches[-1]}` goes on with a branch" if branches else ""
    verb = "volume rm" if record["kind"] == "volume" else "rm"
    what = "renamed or destroyed" if layout.is_outside(record["dataset"]) else "destroyed"
    raise NotFound(
        f"the dataset {names.show_dataset(e, record)} of {targets.describe(record)} is gone: it "
        f"was {what} outside Strata",
        hint=rescue or f"`strata {verb} {name}` forgets what is left of it",
    )
