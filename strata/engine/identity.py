"""Identity properties: what a dataset says of itself to anybody who may list datasets."""

from __future__ import annotations

from strata.store.records import SCHEMA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def identity(record: dict[str, Any]) -> dict[str, str]:
    """Identity of the dataset a record stands for. Never configuration: every user can read it.

    ``lineage`` is shared by the head and the branches of one object; of a lineage the dataset with
    the highest ``generation`` is the head.
    """
    return {
        "id": record["id"],
        "kind": record["kind"],
        "name": record.get("name", ""),
        "lineage": record.get("lineage", record["id"]),
        "generation": str(record.get("generation", 1)),
        "schema": str(SCHEMA),
    }


def is_owned(record: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether a record's head or branch is the adopted dataset itself, which is its owner's."""
    return bool(record.get("adopted")) and known["guid"] == record["adopted"]
