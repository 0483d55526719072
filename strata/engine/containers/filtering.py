"""The filters of ``ps`` and of what chooses containers like it, as in podman-ps(1)."""

from __future__ import annotations

from strata.engine import names
from strata.engine.core import Engine, Record
from strata.engine.filters import has_label, is_before, is_id, is_true, make_filter, matches
from strata.errors import NotFound, UsageError
from strata.store import lifecycle
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.engine.filters import Filters

#: what people may ask for -> the statuses that are meant
_STATUSES = {
    "created": (lifecycle.CREATED,), "configured": (lifecycle.CREATED,),
    "initialized": ("initialized",), "running": (lifecycle.RUNNING,),
    "paused": (lifecycle.PAUSED,), "stopping": (lifecycle.STOPPING,),
    "exited": (lifecycle.EXITED,), "stopped": (lifecycle.EXITED,),
    "removing": (lifecycle.REMOVING,), "unknown": (),
}  # fmt: skip
_POLICIES = {"none": "no", "": "no"}


def make_container_filter(e: Engine, filters: Filters) -> Callable[[Record], bool]:
    """Whether a row of ``ps`` passes. `UsageError` for a value that can never be meant."""
    for value in filters.get("status", ()):
        if value not in _STATUSES:
            raise UsageError(f"unknown container state: {value}: invalid argument",
                             hint=f"states: {', '.join(sorted(_STATUSES))}")  # fmt: skip
    for value in filters.get("exited", ()):
        if not value.removeprefix("-").isdigit():
            raise UsageError(f'exited code out of range "{value}": invalid syntax',
                             hint="give a number, as in exited=1")  # fmt: skip
    for value in filters.get("restart-policy", ()):
        if _POLICIES.get(value, value) not in ("no", "on-failure", "always", "unless-stopped"):
            raise UsageError(f"{value} invalid restart policy")
    for value in filters.get("until", ()):
        is_before(0.0, value)
    # What a value stands for is looked up once, and before the first row.
    named = [*filters.get("before", ()), *filters.get("since", ())]
    created = {value: _find_created(e, value) for value in named}
    images = {value: _find_image_id(e, value) for value in filters.get("ancestor", ())}
    networks = {value: _find_network(e, value) for value in filters.get("network", ())}
    return make_filter("container", filters, {
        "id": lambda row, value: is_id(value, row["Id"]),
        "name": lambda row, value: matches(value.replace("/", ""), row["Names"][0]),
        "status": lambda row, value: row["State"] in _STATUSES[value],
        "label": lambda row, value: has_label(row["Labels"], value),
        "label!": lambda row, value: not has_label(row["Labels"], value),
        "exited": lambda row, value: (
            row["State"] == lifecycle.EXITED and row["ExitCode"] == int(value)
        ),
        "ancestor": lambda row, value: _comes_from(row, value, images[value]),
        "before": lambda row, value: row["Created"] < created[value],
        "since": lambda row, value: row["Created"] > created[value],
        "volume": _has_volume,
        "health": lambda row, value: row["Health"] == ("" if value == "none" else value),
        "network": lambda row, value: networks[value] in (row["Networks"] or [row["NetworkMode"]]),
        "pod": lambda row, value: False,
        "until": lambda row, value: is_before(row["Created"], value),
        "restart-policy": lambda row, value: row["RestartPolicy"] == _POLICIES.get(value, value),
        "command": lambda row, value: bool(row["Command"]) and matches(value, row["Command"][0]),
        "should-start-on-boot": lambda row, value: (
            _starts_on_boot(e, row) == is_true(value, "should-start-on-boot")
        ),
    })  # fmt: skip


def _starts_on_boot(e: Engine, row: Record) -> bool:
    """Whether a container is to run after a boot; ``unless-stopped``: unless somebody did."""
    if row["RestartPolicy"] != "unless-stopped":
        return bool(row["RestartPolicy"] == "always")
    record = e.records.find("container", row["Id"])
    return record is not None and not record["state"].get("by_user")


def _find_created(e: Engine, text: str) -> float:
    try:
        return parse_time(names.get_container(e, text)["created"])
    except NotFound as error:
        error.exit_code = 125
        raise


def _find_image_id(e: Engine, text: str) -> str:
    try:
        found = names.find_image(e, text)
    except UsageError:
        return ""
    return str(found[0]["id"]) if found else ""


def _comes_from(row: Record, text: str, image_id: str) -> bool:
    """Whether a row's image is the one meant; one that is gone is meant by its digits or name."""
    if image_id:
        return bool(row["ImageID"] == image_id)
    digits = text.removeprefix("sha256:")
    return bool(digits and digits in row["ImageID"]) or row["Image"] == text


def _has_volume(row: Record, value: str) -> bool:
    """Whether a row has the volume, or anything at the path, or ``SOURCE:DESTINATION``."""
    source, _, destination = value.partition(":")
    if not destination:
        return source in row["Volumes"] or source in row["Mounts"]
    return [source, destination] in row["MountPairs"]


def _find_network(e: Engine, text: str) -> str:
    """The network or mode a user means, as records have it; what they wrote when there is none.

    A network answers to its id too, the default one to aliases; ``container:NAME`` is by id.
    """
    if text.startswith("container:"):
        try:
            return f"container:{names.get_container(e, text.partition(':')[2])['id']}"
        except NotFound:
            return text
    from strata.engine.networks.joining import find_network

    try:
        found = find_network(e, text)
    except UsageError:
        return text
    return str(found["name"]) if found else text
