"""The Container Device Interface: what vendors' specifications change in a runtime spec. Pure.

A specification is a file of the host's administrator. It names devices of one kind
(``vendor.com/class``) and says for each which nodes, mounts, variables, groups and hooks a
container with it gets; what it says of the kind as a whole goes to each container that has one of
them. Source: the specification of the CNCF's tag runtime, versions 0.3 to 0.8, and its library.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Edits = dict[str, Any]

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_UNKNOWN = ("intelRdt", "netDevices")


def is_name(text: str) -> bool:
    """Whether a text is ``vendor.com/class=name``."""
    kind, equals, name = text.partition("=")
    vendor, slash, group = kind.partition("/")
    return bool(
        equals and slash and vendor and group and name
        and vendor[0].isalpha() and group[0].isalpha() and name[0].isalnum()
        and (_WORD | {"."}).issuperset(vendor) and _WORD.issuperset(group)
        and (_WORD | {".", ":"}).issuperset(name)
    )  # fmt: skip


class Specification:
    """One file: its kind, the edits of the kind, and those of each device by name."""

    __slots__ = ("devices", "edits", "kind", "path")

    def __init__(self, document: Any, path: str) -> None:
        """`UsageError` for a document that is no specification."""
        self.path = path
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise UsageError(f"{path}: not a specification of devices: it has no kind")
        self.kind: str = document["kind"]
        self.edits: Edits = _read_edits(document.get("containerEdits"), path)
        self.devices: dict[str, Edits] = {}
        listed = document.get("devices")
        for device in listed if isinstance(listed, list) else ():
            name = device.get("name") if isinstance(device, dict) else None
            if not isinstance(name, str) or not is_name(f"{self.kind}={name}"):
                raise UsageError(f"{path}: not the name of a device: {self.kind}={name}")
            self.devices[name] = _read_edits(device.get("containerEdits"), path)


def _read_edits(value: Any, path: str) -> Edits:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path}: containerEdits is not an object")
    for key in ("deviceNodes", "mounts", "hooks"):
        items = value.get(key) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UsageError(f"{path}: {key} is not a list of objects")
    return value


def choose(found: Iterable[Specification], wanted: Iterable[str]) -> list[Edits]:
    """The edits for the wanted devices in order; those of a file as a whole come once, before.

    Of several files with one device the last counts. `UsageError` for devices nobody describes.
    """
    known = {f"{spec.kind}={name}": spec for spec in found for name in spec.devices}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise UsageError(
            f"unresolvable CDI devices {', '.join(missing)}",
            hint=f"known: {', '.join(sorted(known))}" if known else
            "specifications of devices are *.json and *.yaml in /etc/cdi and /var/run/cdi",
        )  # fmt: skip
    chosen: list[Edits] = []
    seen: set[str] = set()
    for name in dict.fromkeys(wanted):
        spec = known[name]
        edits = spec.devices[name.partition("=")[2]]
        for part in (edits, spec.edits):
            for key in _UNKNOWN:
                if part.get(key):
                    raise UsageError(f"{spec.path}: {key} of {name} is not available here")
        if spec.path not in seen:
            seen.add(spec.path)
            chosen.append(spec.edits)
        chosen.append(edits)
    return chosen


def list_environment(edits: Iterable[Edits]) -> list[str]:
    """The variables, ``NAME=value``."""
    return [str(text) for part in edits for text in part.get("env") or ()]


def apply(document: dict[str, Any], edits: Iterable[Edits], stat: Callable[[str], Any]) -> None:
    """Change a runtime spec in place. ``stat(path)`` gives type, major, minor of a host's node."""
    process, linux = document["process"], document["linux"]
    for part in edits:
        names = {text.partition("=")[0] for text in list_environment([part])}
        kept = [text for text in process["env"] if text.partition("=")[0] not in names]
        process["env"] = [*kept, *list_environment([part])]
        for node in part.get("deviceNodes") or ():
            _add_node(process, linux, node, stat)
        for item in part.get("mounts") or ():
            _add_mount(document, item)
        for item in part.get("hooks") or ():
            _add_hook(document, item)
        groups = [int(number) for number in part.get("additionalGids") or () if int(number)]
        if groups:
            known = process["user"].setdefault("additionalGids", [])
            known += [number for number in groups if number not in known]
    document["mounts"].sort(key=lambda mount: str(mount["destination"]).rstrip("/").count("/"))


def _add_node(
    process: dict[str, Any], linux: dict[str, Any], node: Edits, stat: Callable[[str], Any]
) -> None:
    path = str(node.get("path") or "")
    if not path.startswith("/"):
        raise UsageError(f"not the path of a device node: {path!r}")
    kind, major, minor = node.get("type"), node.get("major"), node.get("minor")
    if not kind or not (major or minor):
        kind, major, minor = stat(str(node.get("hostPath") or path))
    entry = {"path": path, "type": kind, "major": int(major or 0), "minor": int(minor or 0)}
    if node.get("fileMode"):
        entry["fileMode"] = int(node["fileMode"])
    for key in ("uid", "gid"):
        owner = node.get(key)
        if owner is None:
            owner = process["user"].get(key) or None
        if owner is not None:
            entry[key] = int(owner)
    others = [known for known in linux.get("devices") or () if known["path"] != path]
    linux["devices"] = [*others, entry]
    if kind in ("b", "c"):
        linux.setdefault("resources", {}).setdefault("devices", []).append({
            "allow": True, "type": kind, "major": entry["major"], "minor": entry["minor"],
            "access": str(node.get("permissions") or "rwm"),
        })  # fmt: skip


def _add_mount(document: dict[str, Any], item: Edits) -> None:
    source, target = str(item.get("hostPath") or ""), str(item.get("containerPath") or "")
    if not source or not target.startswith("/"):
        raise UsageError(f"not a mount: {source!r} at {target!r}")
    options = [str(option) for option in item.get("options") or ()]
    kind = str(item.get("type") or "")
    if not kind and not {"bind", "rbind"} & set(options):
        options.append("bind")
    others = [mount for mount in document["mounts"] if mount["destination"] != target]
    made = {"destination": target, "source": source, "type": kind or "bind", "options": options}
    document["mounts"] = [*others, made]


def _add_hook(document: dict[str, Any], item: Edits) -> None:
    name, path = item.get("hookName"), str(item.get("path") or "")
    if name not in _HOOKS or not path.startswith("/"):
        raise UsageError(f"not a hook: {name!r} with the program {path!r}")
    hook: dict[str, Any] = {"path": path}
    for key in ("args", "env"):
        if item.get(key):
            hook[key] = [str(word) for word in item[key]]
    if item.get("timeout"):
        hook["timeout"] = int(item["timeout"])
    document.setdefault("hooks", {}).setdefault(name, []).append(hook)
