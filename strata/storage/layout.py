"""The one place that knows what datasets are called.

Names are relative to the store's root dataset (``POOL/strata`` or the top of a pool file)::

    layers/<id16>                     containers/<name>.<id12>
    volumes/<project>/<name>.<s8>     project ``_`` is none
    records  images  logs             the engine's own files
    build/…  trash/…

A name that begins with ``/`` is *outside*: on ZFS the full name of a dataset, in whatever pool
(``/tank/photos``), on btrfs the path of a subvolume. What Strata itself makes outside lies beside
what it was made from and ends in `MADE` with digits (``/tank/photos.strata-1f3a9c2e``); nothing
else out there is ever renamed or destroyed.

The readable part is a convenience that may lag behind a rename; objects are found by id and GUID.
The rules for names are those of the ZFS kernel (``zfs_namecheck.c``) without the space, which no
mount table likes, and with a letter, digit or ``_`` first, which leaves dotted names to drivers.
"""

from __future__ import annotations

import os

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")

FULL_NAME_LIMIT = 255
"""Bytes of ``pool/…/dataset@snapshot``: ZFS_MAX_DATASET_NAME_LEN less the terminating zero."""
RELATIVE_LIMIT = 191
"""Bytes of a name below the root dataset, ``@snapshot`` included: leaves 63 for the root."""
READABLE_LIMIT = 64
"""How much of a user's name the readable part of a dataset name keeps."""

NO_PROJECT = "_"

PARENTS = ("layers", "containers", "volumes", "volumes/_", "build", "trash")
"""Datasets that only hold others."""
FILE_SYSTEMS = ("records", "images", "logs")
"""Datasets with the engine's own files, mounted as long as the store is in use."""
UNSHIPPED = ("layers", "build", "trash")
"""Parents that other people's snapshot and replication tools should pass over."""
MADE = ".strata-"
"""With eight digits after it, the end of the name of every dataset that Strata makes outside."""
OUTSIDE_LIMIT = 1024
BASE_SNAPSHOT = "layer"
"""The snapshot every layer has and every clone of it starts from."""

IDENTITY_KEYS = ("id", "kind", "name", "lineage", "generation", "schema")
"""What the identity of a dataset may say; nothing else, for every local user can read it."""

_NAME_HINT = "use letters, digits and - _ . : and begin with a letter, digit or _"


def check_component(text: str, what: str = "name") -> str:
    """Return one component of a dataset name, or a snapshot's name; `UsageError` when it is bad."""
    if not text:
        raise UsageError(f"the {what} is empty", hint=_NAME_HINT)
    if text[0] not in _FIRST or not ALLOWED.issuperset(text):
        raise UsageError(f"invalid {what} {text!r}", hint=_NAME_HINT)
    return text


def check_dataset(name: str) -> str:
    """Return a dataset name relative to the root dataset, or an outside one; `UsageError` when it
    is bad."""
    if name[:1] == "/":
        return check_outside(name)
    for component in name.split("/"):
        if not component or component[0] not in _FIRST or not ALLOWED.issuperset(component):
            raise UsageError(f"invalid dataset name {name!r}", hint=_NAME_HINT)
    if len(name) > RELATIVE_LIMIT:
        raise UsageError(f"dataset name {name!r} is longer than {RELATIVE_LIMIT} bytes",
                         hint="choose a shorter name")  # fmt: skip
    return name


def is_outside(name: str) -> bool:
    """Whether a dataset or snapshot lies outside the store's root dataset."""
    return name[:1] == "/"


def check_outside(name: str) -> str:
    """Return the name of a dataset outside the root dataset; `UsageError` when it is bad.

    It may hold what ZFS or a file system allows, but no ``@``, which divides off snapshots.
    """
    parts = name.split("/")[1:]
    if any(part in {"", ".", ".."} for part in parts) or "@" in name or not name.isprintable():
        raise UsageError(
            f"the name {name!r} cannot be used for a dataset",
            hint="it may hold neither @ nor line breaks, nor empty parts",
        )
    if len(os.fsencode(name)) > OUTSIDE_LIMIT:
        raise UsageError(f"dataset name {name!r} is longer than {OUTSIDE_LIMIT} bytes",
                         hint="choose a shorter name")  # fmt: skip
    return name


def is_made(name: str) -> bool:
    """Whether a dataset is one that Strata made, by its name: inside, or outside with `MADE`."""
    if not is_outside(name):
        return True
    _, separator, digits = name.rpartition("/")[2].rpartition(MADE)
    return bool(separator) and len(digits) == 8 and set("0123456789abcdef").issuperset(digits)


def check_made(name: str) -> str:
    """Return the name of a dataset that may be made, renamed or destroyed; `UsageError`."""
    check_dataset(name)
    if not is_made(name):
        raise UsageError(f"the dataset {name} was not made by Strata: it stays as it is",
                         hint="change it with the tools it was made with")  # fmt: skip
    return name


def check_inside(name: str) -> str:
    """Return the name of a dataset of the store; `UsageError` for one outside."""
    if is_outside(name):
        raise UsageError(f"the dataset {name} lies outside the store: it stays as it is",
                         hint="change it with the tools it was made with")  # fmt: skip
    return check_dataset(name)


def check_snapshot(name: str) -> tuple[str, str]:
    """Split ``dataset@snapshot``; `UsageError` when either part is bad."""
    dataset, separator, snapshot = name.partition("@")
    if not separator:
        raise UsageError(f"{name!r} names no snapshot", hint="write it as DATASET@SNAPSHOT")
    check_dataset(dataset)
    check_component(snapshot, "snapshot name")
    if len(name) > RELATIVE_LIMIT and not is_outside(name):
        raise UsageError(f"snapshot name {name!r} is longer than {RELATIVE_LIMIT} bytes",
                         hint="choose a shorter name")  # fmt: skip
    return dataset, snapshot


def check_root(dataset: str) -> str:
    """Return the full name of a root dataset (``tank/strata``); `UsageError` when it is bad."""
    components = dataset.split("/")
    for component in components:
        if not component or component in {".", ".."} or not ALLOWED.issuperset(component):
            raise UsageError(f"invalid dataset name {dataset!r}", hint=_NAME_HINT)
    check_pool(components[0])
    if len(dataset) > FULL_NAME_LIMIT - RELATIVE_LIMIT - 1:
        raise UsageError(f"root dataset {dataset!r} is too long",
                         hint="use a pool or dataset with a shorter name")  # fmt: skip
    return dataset


def check_pool(name: str) -> str:
    """Return a pool's name; `UsageError` when ZFS reserves or refuses it."""
    reserved = ("mirror", "raidz", "draid", "spare")
    if (
        not name[:1].isalpha()
        or not ALLOWED.issuperset(name)
        or name.startswith(reserved)
        or name == "log"
        or (name[0] == "c" and name[1:2].isdigit())
    ):
        raise UsageError(
            f"invalid pool name {name!r}",
            hint="begin with a letter; mirror, raidz, draid, spare, log and c0…c9 are reserved",
        )
    return name


# -- making names ------------------------------------------------------------------------------


def new_id() -> str:
    """A random object id: 64 hex digits."""
    return os.urandom(32).hex()


def readable(name: str) -> str:
    """A user's name as far as a dataset name can carry it."""
    text = "".join(char if char in ALLOWED else "-" for char in name)[:READABLE_LIMIT]
    return text if text and text[0] in _FIRST else f"_{text}"[:READABLE_LIMIT]


def layer(layer_id: str) -> str:
    """Dataset of a layer."""
    return f"layers/{layer_id[:16]}"


def container(name: str, container_id: str) -> str:
    """Dataset of a new container."""
    return f"containers/{readable(name)}.{container_id[:12]}"


def volume(name: str, project: str = NO_PROJECT) -> str:
    """A fresh dataset name for a volume; every call gives another suffix."""
    return f"volumes/{project}/{readable(name)}.{os.urandom(4).hex()}"


def successor(dataset: str) -> str:
    """A fresh name beside ``dataset`` for the head that a rollback puts in its place."""
    if is_outside(dataset):
        parent, _, base = dataset.rpartition("/")
        return beside(parent, base.rpartition(MADE)[0] if is_made(dataset) else base)
    base, _, suffix = dataset.rpartition(".")
    return f"{base or dataset}.{os.urandom(max(4, len(suffix) // 2)).hex()}"


def beside(parent: str, name: str) -> str:
    """A fresh name outside, below ``parent``, for what is called ``name``."""
    return f"{parent}/{name[:READABLE_LIMIT]}{MADE}{os.urandom(4).hex()}"


def build(build_id: str, step: int) -> str:
    """Dataset of a build step."""
    return f"build/{build_id[:12]}.{step}"


def trash(dataset: str) -> str:
    """A fresh name in the trash for a dataset that is removed."""
    return f"trash/{dataset.rpartition('/')[2][:80]}.{os.urandom(4).hex()}"


def base_snapshot(dataset: str) -> str:
    """The base snapshot of a layer's dataset."""
    return f"{dataset}@{BASE_SNAPSHOT}"


def store_identity(name: str) -> dict[str, str]:
    """Identity of one of the engine's own datasets (`FILE_SYSTEMS`)."""
    return {"id": new_id(), "kind": "store", "name": name, "schema": "1"}


def check_identity(identity: Mapping[str, str]) -> None:
    """`UsageError` unless every key is in `IDENTITY_KEYS` and every value is short plain text."""
    for key, value in identity.items():
        if key not in IDENTITY_KEYS:
            raise UsageError(f"identity has no {key!r}", hint=f"one of {', '.join(IDENTITY_KEYS)}")
        if len(value) > 1024 or not value.isprintable():
            raise UsageError(f"identity {key} is too long or not plain text: {value[:40]!r}")


def flatten(name: str) -> str:
    """A dataset or snapshot name as one path component (``~`` is in no name)."""
    return name.replace("/", "~")
