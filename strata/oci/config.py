"""Image configurations (OCI image-spec, config.md; Docker's are the same document).

Read with plain json and checked by hand, because starting a container reads one. What comes from
outside is untrusted: every field the engine uses is type-checked here, unknown fields are kept in
the raw bytes only. The image id is the digest of those bytes, so they are never written again.
"""

from __future__ import annotations

import json

from strata.errors import RegistryError
from strata.oci import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

CONFIG_LIMIT = 8 << 20
LAYER_LIMIT = 1000

_HINT = "the image is damaged or was not made by an image builder; pull or build it again"

_LISTS = ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell")
_STRINGS = ("User", "WorkingDir", "StopSignal", "Hostname", "Domainname")
_SETS = ("ExposedPorts", "Volumes")

# The order of the Go structure, so that documents look like everyone else's.
_ORDER = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "Shell", "Healthcheck", "OnBuild", "ArgsEscaped",
)  # fmt: skip


class InvalidDocument(RegistryError):
    """A manifest, index or configuration is malformed, too large or not a container image's."""

    id = "invalid-document"

    def __init__(self, message: str, *, hint: str = _HINT) -> None:
        super().__init__(message, hint=hint)


class ImageConfig:
    """What the engine uses of an image configuration; ``raw`` is the document itself.

    ``config`` holds the run-time defaults under Docker's names (``Env``, ``Cmd``, ``Labels``, …);
    fields that were absent or null are absent here, and a command written as one string is a list.
    ``history`` entries are dicts with at most created, created_by, author, comment, empty_layer.
    ``diff_ids`` go from the bottom up.
    """

    __slots__ = (
        "architecture", "author", "config", "created", "diff_ids", "history", "os", "raw",
        "variant",
    )  # fmt: skip

    def __init__(self, raw: bytes, document: Mapping[str, Any]) -> None:
        self.raw = raw
        self.architecture = _text(document, "architecture")
        self.os = _text(document, "os")
        self.variant = _text(document, "variant")
        self.created = _text(document, "created")
        self.author = _text(document, "author")
        self.diff_ids = _diff_ids(document.get("rootfs"))
        self.history = _history(document.get("history"))
        self.config = _defaults(document.get("config"))

    @property
    def id(self) -> str:
        """The image id: 64 hexadecimal digits."""
        return digests.of(self.raw).removeprefix("sha256:")

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]`` as written in the document."""
        parts = [self.os or "linux", self.architecture]
        return "/".join([*parts, self.variant] if self.variant else parts)


def parse_config(raw: bytes) -> ImageConfig:
    """Parse and check an image configuration; raise `InvalidDocument`."""
    if len(raw) > CONFIG_LIMIT:
        raise InvalidDocument(
            f"the image configuration is larger than {CONFIG_LIMIT >> 20} MiB",
            hint="such an image cannot be used; ask its maker",
        )
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InvalidDocument("the image configuration is not valid JSON") from None
    if not isinstance(document, dict):
        raise InvalidDocument("the image configuration is not a JSON object")
    config = ImageConfig(raw, document)
    if config.os not in ("", "linux"):
        raise InvalidDocument(
            f"the image is for the operating system {config.os[:40]!a}, not linux",
            hint="only Linux images can be used; choose another with --platform",
        )
    layers = [entry for entry in config.history if not entry.get("empty_layer")]
    if config.history and len(layers) != len(config.diff_ids):
        raise InvalidDocument(
            f"the image configuration names {len(config.diff_ids)} layers "
            f"but its history {len(layers)}"
        )
    return config


def build_config(
    *,
    architecture: str,
    diff_ids: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    created: str,
    config: Mapping[str, Any] | None = None,
    variant: str = "",
    author: str = "",
    os: str = "linux",
) -> bytes:
    """Write a new image configuration; the same values give the same bytes.

    ``created`` is RFC 3339. Empty fields are left out, keys of ``config`` and of sets and labels
    are put in order. The result is checked by `parse_config`.
    """
    document: dict[str, Any] = {"created": created}
    if author:
        document["author"] = author
    document |= {"architecture": architecture, "os": os}
    if variant:
        document["variant"] = variant
    document["config"] = _ordered(config or {})
    document["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    names = ("created", "created_by", "author", "comment", "empty_layer")
    document["history"] = [
        {name: entry[name] for name in names if entry.get(name)} for entry in history
    ]
    raw = encode(document)
    parse_config(raw)
    return raw


def encode(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document we write: compact UTF-8 JSON in the order given."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _ordered(config: Mapping[str, Any]) -> dict[str, Any]:
    names = [*_ORDER, *sorted(set(config) - set(_ORDER))]
    result: dict[str, Any] = {}
    for name in names:
        value = config.get(name)
        if value in (None, "", [], {}) and not isinstance(value, bool):
            continue
        result[name] = dict(sorted(value.items())) if isinstance(value, dict) else value
    return result


def _defaults(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    config = {name: item for name, item in _object(value, "config").items() if item is not None}
    for name in _LISTS:
        if name not in config:
            continue
        items = config[name]
        if isinstance(items, str) and name in ("Entrypoint", "Cmd"):
            config[name] = items = [items]
        if not isinstance(items, list) or not all(map(_is_text, items)):
            raise InvalidDocument(f"config.{name} of the image is not a list of strings")
    for name in _STRINGS:
        if name in config and not _is_text(config[name]):
            raise InvalidDocument(f"config.{name} of the image is not a string")
    for name in _SETS:
        if name in config:
            _object(config[name], f"config.{name}")
    labels = _object(config.get("Labels", {}), "config.Labels")
    if not all(map(_is_text, labels.values())):
        raise InvalidDocument("config.Labels of the image holds something that is not a string")
    return config


def _diff_ids(value: object) -> list[str]:
    rootfs = _object(value, "rootfs")
    if rootfs.get("type", "layers") != "layers":
        raise InvalidDocument("rootfs.type of the image configuration is not 'layers'")
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list):
        raise InvalidDocument("rootfs.diff_ids of the image configuration is not a list")
    if len(diff_ids) > LAYER_LIMIT:
        raise InvalidDocument(f"the image has {len(diff_ids)} layers, more than {LAYER_LIMIT}")
    for diff_id in diff_ids:
        if not isinstance(diff_id, str) or not digests.is_valid(diff_id):
            raise InvalidDocument(f"the image has an invalid diff_id: {ascii(diff_id)[:150]}")
    return diff_ids


def _history(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidDocument("the history of the image configuration is not a list")
    result = []
    for item in value:
        entry = _object(item, "history")
        kept: dict[str, Any] = {
            name: text
            for name in ("created", "created_by", "author", "comment")
            if (text := _text(entry, name))
        }
        empty = entry.get("empty_layer")
        if empty not in (None, True, False):
            raise InvalidDocument("history.empty_layer of the image is not true or false")
        if empty:
            kept["empty_layer"] = True
        result.append(kept)
    return result


def _object(value: object, name: str) -> dict[str, Any]:
    """A JSON object whose keys hold no NUL byte."""
    if not isinstance(value, dict) or not all(map(_is_text, value)):
        raise InvalidDocument(f"{name} of the image configuration is not an object")
    return value


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not _is_text(value):
        raise InvalidDocument(f"{name} of the image configuration is not a string")
    return str(value)


def _is_text(value: object) -> bool:
    """A string that can be an argument, a variable or UTF-8: no NUL, no lone surrogate."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
