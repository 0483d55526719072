"""What a removing verb would take, before it takes it: the answer of ``--dry-run``.

Rows say ``Kind``, ``Name``, ``Id``, ``Size`` (bytes, None where the driver cannot tell),
``Snapshots`` that go along and ``With`` (what else goes, such as anonymous volumes). They are
found by the rules of the verb itself, so what it would refuse is refused here.
"""

from __future__ import annotations

from strata.engine import names
from strata.engine.containers import removal
from strata.engine.core import Engine, Record
from strata.engine.history import targets
from strata.engine.holders import list_users
from strata.engine.images import verbs as images
from strata.engine.networks import removal as networks
from strata.engine.volumes import removal as volumes
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from strata.engine.filters import Filters


def describe(e: Engine, record: Record, *, anonymous: bool = False) -> Record:
    """One object as a row; ``anonymous``: its anonymous volumes go along."""
    row: Record = {
        "Kind": record["kind"], "Name": record.get("name") or ", ".join(record.get("names") or ()),
        "Id": record["id"], "Size": None, "Snapshots": [], "With": [],
    }  # fmt: skip
    if record["kind"] == "image":
        row["Size"] = record["size"]
        return row
    if record["kind"] == "network":
        row["With"] = [f"subnet {subnet['subnet']}" for subnet in record["subnets"]]
        return row
    if record.get("adopted"):
        row.update(Act="forget", With=[f"{names.show_dataset(e, known)} staying as it is"
                                       for known in (record, *record["branches"])])  # fmt: skip
        return row
    sizes = [e.driver.get_usage(name).used for name in _list_present(e, record)]
    row["Size"] = None if None in sizes or not sizes else sum(size or 0 for size in sizes)
    row["Snapshots"] = [s.name for s in targets.list_snapshots(e, record)
                        if not s.name.startswith(targets.COMMIT_PREFIX)]  # fmt: skip
    if anonymous:
        row["With"] = [f"volume {item['source'][:12]}" for item in record["config"]["mounts"]
                       if item.get("volume") and item.get("anonymous")]  # fmt: skip
    return row


def _list_present(e: Engine, record: Record) -> list[str]:
    return [name for name in targets.list_lineage(record) if e.driver.find(name) is not None]


def list_containers(
    e: Engine, which: Sequence[str], *, force: bool = False, volumes: bool = False,
    ignore: bool = False,
) -> list[Record]:  # fmt: skip
    """What ``rm`` would take."""
    rows = []
    for record in names.get_each(
        e, names.get_container, which, ignore=ignore or force, exit_code=1
    ):
        if not force:
            lifecycle.check("remove", record, lifecycle.derive(record))
        rows.append(describe(e, record, anonymous=volumes or record["config"]["remove"]))
    return rows


def list_volumes(e: Engine, which: Sequence[str], *, force: bool = False) -> list[Record]:
    """What ``volume rm`` would take."""
    rows = []
    for record in names.get_each(e, names.get_volume, which, ignore=force, exit_code=1):
        users = list_users(e, record["id"])
        if not force:
            volumes.refuse_used(record, users)
        rows += [describe(e, user) for user in users]
        rows.append(describe(e, record))
    return rows


def list_networks(e: Engine, which: Sequence[str], *, force: bool = False) -> list[Record]:
    """What ``network rm`` would take."""
    rows = []
    for record in names.get_each(e, networks.get_removable, which, ignore=force, exit_code=1):
        users = networks.users_of(e, record["id"])
        if not force:
            networks.refuse_used(record, users)
        rows += [describe(e, user) for user in users]
        rows.append(describe(e, record))
    return rows


def list_images(
    e: Engine, which: Sequence[str], *, force: bool = False, ignore: bool = False
) -> list[Record]:  # fmt: skip
    """What ``rmi`` would take: images, or only the name when an image has others."""
    rows = []
    for image, name in names.get_each(
        e, names.get_image, which, ignore=ignore or force, exit_code=1
    ):  # fmt: skip
        if name and len(image["names"]) > 1:
            rows.append({"Kind": "name", "Name": name, "Id": image["id"], "Size": 0,
                         "Snapshots": [], "With": []})  # fmt: skip
            continue
        users = images.users_of(e, image["id"])
        if not force:
            images.refuse_used(users)
        rows += [describe(e, user) for user in users]
        rows.append(describe(e, image))
    return rows


def list_prunable(
    e: Engine, kind: str, filters: Filters | None = None, *, all: bool = False,
    without: Collection[str] = (),
) -> list[Record]:  # fmt: skip
    """What a ``prune`` of containers, networks, volumes or images would take.

    ``without``: ids of containers that are taken for gone already.
    """
    if kind == "container":
        chosen = removal.choose_prunable(e, filters)
    elif kind == "network":
        chosen = networks.choose_prunable(e, filters, without)
    elif kind == "volume":
        chosen = volumes.choose_prunable(e, filters, all, without)
    else:
        chosen = images.choose_prunable(e, all=all, filters=filters, without=without)
    return [describe(e, record) for record in chosen]
