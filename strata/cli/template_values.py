"""Values as Go's templates see them, and how Go prints them.

What the engine answers is plain JSON. Templates written for Podman meet Go's types there: structs,
where an unknown field is an error; maps, where a missing key is the zero value; and times, which
print otherwise than they are written in JSON. `wrap` gives the plain values these three shapes,
by the names of the fields they are found under.
"""

from __future__ import annotations

import json
import time

from strata.cli.messages import to_unicode
from strata.times import parse_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: fields whose keys are the user's, as maps in Go
_MAPS = frozenset((
    "Annotations", "CgroupConf", "Data", "DriverOpts", "ExposedPorts", "IPAMConfig", "Labels",
    "Networks", "Options", "PortBindings", "Ports", "Runtimes", "Storage", "Sysctls", "Tmpfs",
    "Volumes", "graphOptions", "graphStatus", "labels", "networks", "options", "registries",
))  # fmt: skip
#: maps whose values are lists or structs: what a missing key gives
_LISTS = frozenset(("PortBindings", "Ports"))
_OBJECTS = frozenset(("Networks", "networks", "ExposedPorts", "Volumes"))
_TIMES = frozenset((
    "CheckpointedAt", "Created", "CreatedAt", "FinishedAt", "RestoredAt", "StartedAt", "created",
))  # fmt: skip
#: health checks, and their durations in nanoseconds
_CHECKS = frozenset(("Healthcheck", "StartupHealthCheck"))
_SPANS = frozenset(("Interval", "StartInterval", "StartPeriod", "Timeout"))
#: fields JSON leaves out where they say nothing
_OPTIONAL: dict[str, Any] = {
    "CgroupPath": "", "Checkpointed": False, "ConmonPid": 0, "Health": None,
    "HealthcheckOnFailureAction": "", "Healthcheck": None, "Init": False,
    "Passwd": None, "Restored": False, "Secrets": None, "SizeRootFs": 0,
    "SizeRw": None, "StartupHealthCheck": None, "StoppedByUser": False, "SubPath": "",
    "SystemdMode": False, "Timezone": "",
}  # fmt: skip
#: Docker's, or an earlier Podman's, name of a field
_ALIASES = {
    "CgroupsVersion": "cgroupVersion",
    "DefaultCapabilities": "capabilities",
    "Dst": "Destination",
    "Src": "Source",
    "Healthcheck": "Health",
    "ImageID": "Image",
}

_GO_MONTHS = ("January February March April May June July August September October November "
              "December").split()  # fmt: skip


class Missing:
    """What a key missing from a map is until something uses it."""

    def __repr__(self) -> str:
        return "<no value>"


MISSING = Missing()


class Struct(dict):  # type: ignore[type-arg]
    """Fields by name. ``raw`` is what JSON prints instead, where that is another shape."""

    __slots__ = ("raw",)

    def __init__(self, fields: dict[str, Any], raw: Any = None) -> None:
        super().__init__(fields)
        self.raw = raw

    def get_field(self, name: str) -> Any:
        """Return a field as named, then whatever its case, then by an alias; else `MISSING`.

        Networks have other names in JSON than in Go: ``DNSEnabled`` is ``dns_enabled``.
        """
        if name in self:
            return self[name]
        lower = name.lower()
        for key, found in self.items():
            if key.lower().replace("_", "") == lower:
                return found
        other = _ALIASES.get(name, "")
        if other in self:
            return self[other]
        if name in _OBJECTS:
            return Map({}, None)
        if name == "Name" and "Propagation" in self:
            return ""  # a mount that is no volume's
        return _OPTIONAL.get(name, MISSING)


class Map(dict):  # type: ignore[type-arg]
    """A map of the user's keys; ``zero`` is the value of those that are not there."""

    __slots__ = ("zero",)

    def __init__(self, items: dict[str, Any], zero: Any = "") -> None:
        super().__init__(items)
        self.zero = zero


class Moment(str):
    """A time: RFC 3339 in JSON, in Go's form where it is printed, with the methods formats use."""

    __slots__ = ()

    def show(self) -> str:
        """The text as Go prints it: ``2026-01-31 12:00:00.5 +0000 UTC``."""
        text = self.partition("T")
        clock = text[2].rstrip("Zz")
        zone = "+0000 UTC"
        for sign in "+-":
            if sign in clock:
                clock, _, offset = clock.partition(sign)
                zone = f"{sign}{offset.replace(':', '')} {sign}{offset.replace(':', '')}"
        if "." in clock:
            clock = clock.rstrip("0").rstrip(".")
        return f"{text[0]} {clock} {zone}"

    def get_field(self, name: str) -> Any:
        """Return a method by name, or `MISSING`."""
        seconds, rest = divmod(parse_ns(self), 10**9)
        methods = {
            "Format": lambda layout: _format_time(seconds, rest, layout),
            "IsZero": lambda: not seconds,
            "Local": lambda: self,
            "String": self.show,
            "UTC": lambda: self,
            "Unix": lambda: seconds if seconds else -62135596800,
            "UnixMilli": lambda: seconds * 1000 + rest // 10**6,
            "UnixNano": lambda: seconds * 10**9 + rest,
            "Year": lambda: time.gmtime(seconds).tm_year,
        }
        return methods.get(name, MISSING)


def _format_time(seconds: int, nanoseconds: int, layout: str) -> str:
    """Lay out a time in UTC by Go's reference time, Mon Jan 2 15:04:05 2006."""
    then = time.gmtime(seconds)
    month = _GO_MONTHS[then.tm_mon - 1]
    day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[
        then.tm_wday
    ]
    hour = then.tm_hour % 12 or 12
    parts = (
        ("2006", f"{then.tm_year:04d}"), ("January", month), ("Jan", month[:3]), ("Monday", day),
        ("Mon", day[:3]), ("MST", "UTC"), ("Z07:00", "Z"), ("-07:00", "+00:00"),
        ("-0700", "+0000"), ("01", f"{then.tm_mon:02d}"), ("02", f"{then.tm_mday:02d}"),
        ("03", f"{hour:02d}"), ("04", f"{then.tm_min:02d}"), ("05", f"{then.tm_sec:02d}"),
        ("06", f"{then.tm_year % 100:02d}"), ("15", f"{then.tm_hour:02d}"),
        (".000000000", f".{nanoseconds:09d}"), (".000000", f".{nanoseconds // 1000:06d}"),
        (".000", f".{nanoseconds // 10**6:03d}"),
        (".999999999", f".{nanoseconds:09d}".rstrip("0").rstrip(".")),
        ("PM", "PM" if then.tm_hour >= 12 else "AM"), ("pm", "pm" if then.tm_hour >= 12 else "am"),
        ("_2", f"{then.tm_mday:2d}"), ("1", str(then.tm_mon)), ("2", str(then.tm_mday)),
        ("3", str(hour)), ("4", str(then.tm_min)), ("5", str(then.tm_sec)),
    )  # fmt: skip
    out, position = [], 0
    while position < len(layout):
        for known, text in parts:
            if layout.startswith(known, position):
                out.append(text)
                position += len(known)
                break
        else:
            out.append(layout[position])
            position += 1
    return "".join(out)


def wrap(value: Any, name: str = "") -> Any:
    """Give a plain value, found in the field ``name``, the shape it has in Go."""
    if isinstance(value, (Struct, Map, Moment)):
        return value
    if isinstance(value, dict):
        if name in _MAPS:
            zero: Any = [] if name in _LISTS else None if name in _OBJECTS else ""
            return Map({key: wrap(item) for key, item in value.items()}, zero)
        if name in _CHECKS:
            return Struct({key: Duration(item) if key in _SPANS else wrap(item, key)
                           for key, item in value.items()})  # fmt: skip
        return Struct({key: wrap(item, key) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [wrap(item) for item in value]
    if name in _TIMES and isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T":
        return Moment(value)
    return value


def unwrap(value: Any) -> Any:
    """Return what JSON prints for a value, the keys of maps in order."""
    if isinstance(value, Struct):
        if value.raw is not None:
            return value.raw
        return {key: unwrap(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return None if value is MISSING else value


def to_json(value: Any) -> str:
    """Return a value as Go's encoder writes it, without blanks."""
    return to_unicode(json.dumps(unwrap(value), ensure_ascii=False, separators=(",", ":")))


def is_true(value: Any) -> bool:
    """Whether a value is what ``if`` takes for true: neither zero nor empty; structs always."""
    return isinstance(value, Struct) or (value is not MISSING and bool(value))


def name_type(value: Any) -> str:
    """Return the name of a value's type as Go has it, for error messages and ``%T``."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, Moment):
        return "time.Time"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Struct):
        return "struct"
    if isinstance(value, dict):
        return "map[string]string"
    if isinstance(value, (list, tuple)):
        return "[]string" if all(isinstance(item, str) for item in value) else "[]interface {}"
    return "<nil>" if value is None else "interface {}"


def show_float(value: float) -> str:
    """Return a float as Go's ``%v`` does: the shortest digits, an exponent from 1e+06 on."""
    text = repr(value)
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[text]
    digits = len(text.partition("e")[0].replace(".0", "").replace(".", "").strip("-").strip("0"))
    mantissa, _, exponent = f"{value:.{max(0, digits - 1)}e}".partition("e")
    if -4 <= int(exponent) < 6 or not value:
        return (f"{value:f}" if "e" in text else text).rstrip("0").rstrip(".") if value else "0"
    return f"{mantissa}e{int(exponent):+03d}"


class Duration(int):
    """Nanoseconds, printed as Go does: ``1h0m0s``, ``1.5s``, ``250ms``."""

    def show(self) -> str:
        """The text."""
        if 0 < self < 10**9:
            for size, unit in ((10**6, "ms"), (10**3, "\u00b5s"), (1, "ns")):
                if self >= size:
                    return f"{int(self) / size:g}{unit}"
        minutes, rest = divmod(int(self), 60 * 10**9)
        hours, minutes = divmod(minutes, 60)
        seconds = f"{rest // 10**9}.{rest % 10**9:09d}".rstrip("0").rstrip(".") + "s"
        return (
            (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
        )


def show(value: Any) -> str:
    """Return a value as Go's ``%v`` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, (Moment, Duration)):
        return value.show()
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, Struct):
        shown = value if value.raw is None or not isinstance(value.raw, dict) else value.raw
        return "{" + " ".join(show(item) for item in shown.values() if not callable(item)) + "}"
    if isinstance(value, dict):
        inner = " ".join(f"{key}:{show(item)}" for key, item in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item) for item in value) + "]"
    return repr(value) if value is MISSING else str(value)


def make_heading(name: str, names: dict[str, str]) -> str:
    """Return a field's heading: as given for it in any case, else CreatedAt as CREATED AT."""
    lower = name.lower()
    for key, text in names.items():
        if key.lower() == lower:
            return text
    words = ""
    for place, letter in enumerate(name):
        before, after = name[place - 1 : place], name[place + 1 : place + 2]
        if letter.isupper() and place and (before.islower() or (after and after.islower())):
            words += " "
        words += letter.upper()
    return words
