"""Limits and reservations of volumes and containers: what is asked, what holds, who ran into one.

``size`` is the word for most: room for what an object itself holds. A volume begins empty, so its
size limits all it shows; a container begins as its image, so to its size comes what the image
refers to, measured once and kept in the record as ``size_base``. A driver knows only the sum, as
``refquota``. That limits what is shown, so it means the same on whatever head the object has, and
snapshots and branches do not eat it up. ``quota`` counts them, where the pool can.

The record is the truth. A limit is set on the dataset before the record says so, and whatever
happens in between, the journal lets the dataset follow the record (`apply`).
"""

from __future__ import annotations

from strata import trace
from strata.engine import events
from strata.engine.core import Engine, Record
from strata.engine.identity import is_owned
from strata.errors import CommandFailed, NoSpace, StrataError, UsageError
from strata.storage import properties
from strata.storage.driver import DatasetNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NONE = "none"
_FULL = (28, 122)  # ENOSPC, EDQUOT
_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
_RESERVATIONS = ("refreservation", "reservation")
#: what part of a limit must be used before it is blamed for an error that does not name it
_NEARLY = 0.9


def check_options(options: Mapping[str, str]) -> None:
    """`UsageError` for options that no storage takes, before anything is made or pulled."""
    properties.parse_options(options)


def list_options() -> list[str]:
    """The names of native properties that users may set, for completion."""
    return list(properties.PROPERTIES)


def plan_container(
    e: Engine, layer: str, native: Mapping[str, str]
) -> tuple[dict[str, str], int | None]:
    """Native properties of a new container on a layer, with ``size`` resolved, and what its
    record keeps as ``size_base``: None when its limit, if any, is no ``size``."""
    if "size" not in native:
        return dict(native), None
    from strata.engine.images import layers

    found = layers.find_base(e, layer or None)
    base = e.driver.count_referenced(layers.base_snapshot(found)) if found is not None else 0
    return properties.resolve_size(native, base), base


def change(e: Engine, record: Record, options: Mapping[str, str]) -> list[str]:
    """Change native properties of a volume or container; return notes on what differs.

    `UsageError` for what is not allowed, cannot be honoured, or is less than is held already; then
    nothing is changed.
    """
    from strata.engine.history import facts, targets

    _check_owner(record)
    asked, notes = properties.plan(options, e.driver.flavour)
    if not asked and not notes:
        raise UsageError("nothing to change", hint="say what, as in size=20G")
    e.recover()
    record = facts.reconcile(e, record)
    with e.hold(record) as record:
        _check_owner(record)
        base: int | None = None
        if "size" in asked and record["kind"] == "container" and asked["size"] != _NONE:
            base = record.get("size_base")
            if base is None:
                base = plan_container(e, record["layer"], asked)[1]
        wanted = properties.resolve_size(asked, base or 0)
        _check_room(e, record, asked, wanted, base or 0)
        with e.journal.begin("limit", ["settle-limits", record["kind"], record["id"]]):
            e.driver.set_properties(record["dataset"], wanted)
            _lift_on_branches(e, record, [name for name in wanted if wanted[name] == _NONE])
            trace.point("limit:set")
            native = {**(record.get("native") or {}), **wanted}
            record["native"] = {
                name: value for name, value in native.items()
                if not (name in properties.LIMITS and value == _NONE)
            }  # fmt: skip
            if "refquota" in wanted and record["kind"] == "container":
                record["size_base"] = base
            if record["kind"] == "volume":
                record["options"] = _merge_options(record["options"], options)
            targets.save(e, record)
            trace.point("limit:recorded")
        if all(wanted.get(name) == _NONE for name in wanted):
            e.driver.settle_counting()
    if record["kind"] == "container":
        events.emit_container(e, "update", record)
    else:
        events.emit(e, events.VOLUME, "update", id=record["id"], name=record["name"],
                    attributes=record["labels"])  # fmt: skip
    return notes


def _lift_on_branches(e: Engine, record: Record, names: Sequence[str]) -> None:
    """A limit that ends must not come back with a branch from its time."""
    for branch in record["branches"] if names else ():
        try:
            e.driver.set_properties(branch["dataset"], dict.fromkeys(names, _NONE))
        except DatasetNotFound:
            continue


def _check_owner(record: Record) -> None:
    """Refuse to change what is not ours: the dataset that a volume was adopted from."""
    if is_owned(record, record):
        raise UsageError(
            f"volume {record['name']} is an adopted dataset, which keeps its owner's settings",
            hint="set its properties with the tools of its pool",
        )


def _merge_options(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    merged = {**old, **new}
    for name, other in (("size", "refquota"), ("refquota", "size")):
        if name in new:
            merged.pop(other, None)
    limits = ("size", *properties.LIMITS)
    return {k: v for k, v in merged.items() if not (k in limits and v.lower() in (_NONE, "0"))}


def _check_room(
    e: Engine, record: Record, asked: Mapping[str, str], wanted: Mapping[str, str], base: int
) -> None:
    """Refuse a limit below what is held: not every pool does it by itself."""
    limit = wanted.get("refquota", _NONE)
    if limit == _NONE:
        return
    held = e.driver.count_referenced(record["dataset"])
    if held > int(limit):
        word = "size" if "size" in asked else "refquota"
        raise UsageError(
            f"{record['kind']} {record['name']} holds {show_bytes(held - base)} already, more than "
            f"{word}={show_bytes(int(limit) - base)}",
            hint="remove files from it first, or choose more",
        )


def get_supported(e: Engine) -> list[str]:
    """The limits that this storage can set, by their native names."""
    names = ["refquota"] if e.driver.facts.quota else []
    names += ["quota"] if e.driver.facts.quota_snapshots else []
    return [*names, *(_RESERVATIONS if e.driver.facts.reservation else ())]


def apply(e: Engine, record: Record) -> None:
    """Let the head of a volume or container have the limits that its record says. Idempotent."""
    if is_owned(record, record):
        return
    native = record.get("native") or {}
    others = {name: value for name, value in native.items() if name not in properties.LIMITS}
    absent = {name: _NONE for name in get_supported(e) if name not in native}
    e.driver.set_properties(record["dataset"], {**absent, **others})
    enforce(e, record, record["dataset"])


def enforce(e: Engine, record: Record, dataset: str) -> None:
    """Give a dataset the limits that a record says.

    One that is full, and so holds a little more than a pool would set, gets what it holds.
    """
    for name, value in get_wanted(record).items():
        try:
            e.driver.set_properties(dataset, {name: value})
        except StrataError:
            usage = e.driver.get_usage(dataset)
            held = (usage.referenced if name == "refquota" else usage.used) or 0
            if name in _RESERVATIONS or not properties.is_near(int(value), held):
                raise
            e.driver.set_properties(dataset, {name: str(held + (held >> 7))})


def settle(e: Engine, kind: str, object_id: str) -> None:
    """The journal's step: the dataset follows the record, if there is one."""
    record = e.records.find(kind, object_id)
    if record is not None:
        try:
            apply(e, record)
        except DatasetNotFound:
            return


def read(e: Engine, dataset: str) -> dict[str, str]:
    """The limits that a dataset has, by their native names."""
    found = e.driver.get_properties(dataset, get_supported(e))
    return {
        name: value for name, value in found.items()
        if name in properties.LIMITS and value not in ("", "0", _NONE)
    }  # fmt: skip


def get_wanted(record: Record) -> dict[str, str]:
    """The limits that a record says, by their native names."""
    native = record.get("native") or {}
    return {name: str(native[name]) for name in properties.LIMITS
            if native.get(name, _NONE) != _NONE}  # fmt: skip


def is_same(wanted: int, found: int) -> bool:
    """Whether a limit that was found is the one wanted, or what a full object got for it."""
    return found >= wanted and properties.is_near(wanted, found - (found >> 7))


def get_word(record: Record, name: str) -> str:
    """What a user calls a limit of an object, given its native name."""
    if name == "refquota" and (record["kind"] == "volume" or record.get("size_base") is not None):
        return "size"
    return name


def free_reservation(e: Engine, record: Record, dataset: str) -> None:
    """Let a former head reserve nothing any more: nobody writes to a branch."""
    kept = [name for name in _RESERVATIONS if name in (record.get("native") or {})]
    if kept:
        e.driver.set_properties(dataset, dict.fromkeys(kept, _NONE))


def describe(e: Engine, record: Record) -> list[Record]:
    """The limits of an object: ``Name`` as the user says it, ``Bytes``, and ``Used`` of them (None
    for a reservation). Empty without limits."""
    wanted = get_wanted(record)
    if not wanted:
        return []
    if not e.driver.facts.counts:
        e.driver.sync()  # the counts are those of what was brought to the pool
    rows = []
    for name, text in wanted.items():
        limit, used = int(text), None
        try:
            if name == "refquota":
                base = record.get("size_base") or 0
                limit -= base
                used = (e.driver.get_usage(record["dataset"]).referenced or 0) - base
            elif name == "quota":
                used = e.driver.get_usage(record["dataset"]).used
        except DatasetNotFound:
            pass  # `system check` says so
        rows.append({"Name": get_word(record, name), "Bytes": limit,
                     "Used": None if used is None else max(0, used)})  # fmt: skip
    return rows


def show_bytes(number: int) -> str:
    """A size as `--storage-opt` and ``-o`` take it, rounded to what people read: ``1.5G``."""
    value = float(number)
    for unit in ("", "K", "M", "G", "T"):
        if abs(value) < 1024 or unit == "T":
            text = f"{value:.0f}" if value >= 100 or not unit else f"{value:.1f}".removesuffix(".0")
            return f"{text}{unit}"
        value /= 1024
    raise AssertionError


class Explained:
    """Around what Strata itself writes into an object: the error names the limit that was hit.

    ``record`` None: nothing is written into an object, and errors stay what they are.
    """

    __slots__ = ("_e", "_record")

    def __init__(self, e: Engine, record: Record | None) -> None:
        self._e = e
        self._record = record

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None or self._record is None:
            return
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, CommandFailed):
            number = 28 if any(word in error.stderr for word in _FULL_WORDS) else None
        if number in _FULL or isinstance(error, NoSpace):
            raise _make_error(self._e, self._record, error, certain=number == 122) from error


def _make_error(e: Engine, record: Record, error: BaseException, *, certain: bool) -> NoSpace:
    what = f"{record['kind']} {record['name']}"
    rows = [row for row in describe(e, record) if row["Used"] is not None]
    rows.sort(key=lambda row: float(row["Used"]) / max(1, int(row["Bytes"])))
    if rows and (certain or rows[-1]["Used"] >= _NEARLY * rows[-1]["Bytes"]):
        row = rows[-1]
        name, size = row["Name"], show_bytes(row["Bytes"])
        option = f"{name}={show_bytes(2 * int(row['Bytes']))}"
        command = f"volume update -o {option}" if record["kind"] == "volume" else (
            f"update --storage-opt {option}"
        )  # fmt: skip
        return NoSpace(
            f"{what} is full: its limit {name}={size} is reached ({show_bytes(row['Used'])} used)",
            hint=f"remove files from it, or raise the limit: strata {command} {record['name']}",
        )
    if isinstance(error, NoSpace):
        return error
    return NoSpace(f"{what} cannot be written: the pool is full",
                   hint="see `strata system df`; prune, or enlarge the pool")  # fmt: skip


class Lifted:
    """Around a small write of ours into a full object: its limits hold again afterwards.

    Killed inside, `system check` finds them missing.
    """

    __slots__ = ("_e", "_record")

    def __init__(self, e: Engine, record: Record) -> None:
        self._e = e
        self._record = record

    def __enter__(self) -> None:
        wanted = get_wanted(self._record)
        lifted = {name: _NONE for name in wanted if name not in _RESERVATIONS}
        self._e.driver.set_properties(self._record["dataset"], lifted)

    def __exit__(self, *_: object) -> None:
        enforce(self._e, self._record, self._record["dataset"])


def is_limited(record: Record) -> bool:
    """Whether a limit of its own may stop writes to an object that the pool has room for."""
    native = record.get("native") or {}
    return "refquota" in native or "quota" in native
