"""What a user typed, resolved to a record."""

from __future__ import annotations

import os

from strata import trace
from strata.engine.core import Engine, Record
from strata.errors import AlreadyExists, NotFound, UsageError
from strata.linux import locks
from strata.storage import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")
NAME_LIMIT = 128


def check_name(name: str, what: str) -> str:
    """Return a container's or volume's name if it may be one; `UsageError` in Podman's words."""
    fine = name and name[0] in _NAME_FIRST and _NAME_REST.issuperset(name)
    if not fine:
        raise UsageError(
            f"{what} names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument {name!r}",
            hint=f"use letters, digits, '_', '.' and '-', at most {NAME_LIMIT} of them",
        )
    if len(name) > NAME_LIMIT:
        raise UsageError(f"{what} names have at most {NAME_LIMIT} characters, not {len(name)}")
    return name


def take_name(e: Engine, kind: str, name: str, object_id: str) -> None:
    """Take a name; one left over by a killed command gives way.

    The caller's operation plans to give it back first: that tells others that it is not left over.
    """
    try:
        e.records.take_name(kind, name, object_id)
        return
    except AlreadyExists:
        if not _is_left_over(e, kind, name):
            raise
    trace.point("name:stale")
    # Of two that find it left over, the second must not take it from the first.
    with locks.lock(f"{e.paths.locks}/4-names", what=f"the {kind} name {name!r}"):
        if _is_left_over(e, kind, name):
            e.records.drop_name(kind, name)
        e.records.take_name(kind, name, object_id)


def _is_left_over(e: Engine, kind: str, name: str) -> bool:
    """Whether a name stands for nothing that there is or that a living operation makes."""
    holder = e.records.find_name(kind, name)
    if holder is None or e.records.find(kind, holder) is not None:
        return False
    claims = ([step, kind, name, holder] for step in ("drop-name", "unclaim"))
    planned = [s for entry, alive in e.journal.list_entries() if alive for s in entry["undo"]]
    # Its record may have come while we read.
    return not any(claim in planned for claim in claims) and (e.records.find(kind, holder) is None)


def get_container(e: Engine, text: str) -> Record:
    """The container a user means by name, id or prefix."""
    return e.records.get("container", e.records.resolve("container", text))


def get_volume(e: Engine, text: str) -> Record:
    """The volume a user means by name, id or prefix."""
    return e.records.get("volume", e.records.resolve("volume", text))


def show_dataset(e: Engine, known: Record) -> str:
    """The dataset of a record or branch: below the root dataset, or as its owner calls it."""
    dataset = str(known["dataset"])
    return e.driver.outside.show(dataset) if layout.is_outside(dataset) else dataset


def exists(e: Engine, kind: str, text: str) -> bool:
    """Whether a user means a container or volume that there is."""
    try:
        e.records.get(kind, e.records.resolve(kind, text))
    except (NotFound, UsageError):
        return False
    return True


def get_each(
    e: Engine, get: Callable[[Engine, str], T], which: Iterable[str], *, ignore: bool,
    exit_code: int = 125,
) -> Iterator[T]:  # fmt: skip
    """What a user names, found by ``get`` (as `get_container`), each when the caller comes to it.

    What is not there is passed over with ``ignore``, else it is `NotFound` with this exit code.
    """
    for text in which:
        try:
            found = get(e, text)
        except NotFound as error:
            if ignore:
                continue
            error.exit_code = exit_code
            raise
        yield found


def find_image(e: Engine, text: str) -> tuple[Record, str] | None:
    """The image a user means and the full name it was found by ("" when by id)."""
    from strata.oci import reference as references

    digits = references.find_id_prefix(text)
    try:
        candidates = references.local_candidates(text)
    except references.InvalidReference:
        if digits is None:
            raise
        candidates = []
    for name in candidates:
        image_id = e.records.find_name("image", name)
        if image_id is not None and os.path.exists(e.records.path("image", image_id)):
            return e.records.get("image", image_id), name
    for name in candidates:
        if "@" in name:
            found = _find_by_digest(e, name)
            if found is not None:
                return found, name
    if digits:
        matches = e.records.match_prefix("image", digits)
        if len(matches) > 1:
            raise UsageError(
                f"more than one image has an id that starts with {digits!r}",
                hint="give more digits of the id",
            )
        if matches:
            return e.records.get("image", matches[0]), ""
    return None


def _find_by_digest(e: Engine, name: str) -> Record | None:
    repository, _, digest = name.partition("@")
    head, colon, tail = repository.rpartition(":")
    if colon and "/" not in tail:
        repository = head
    wanted = f"{repository}@{digest}"
    for image in e.records.list_records("image"):
        if wanted in image.get("digests", ()):
            return image
    return None


def get_image(e: Engine, text: str) -> tuple[Record, str]:
    """Like `find_image`; `NotFound` in Podman's words."""
    found = find_image(e, text)
    if found is None:
        raise NotFound(f"{text}: image not known", hint="`strata images` lists what is here")
    return found
