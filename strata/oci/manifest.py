"""Manifests and indexes (OCI image-spec, Docker schema 2), read strictly from untrusted bytes.

The bytes are first-class: a digest is of what was received, so ``raw`` travels with the parsed
form and nothing that is hashed is ever written again. Not for the hot path (imports msgspec).
"""

from __future__ import annotations

import os
from typing import Annotated, Any, TypeVar

import msgspec

from strata.errors import UsageError
from strata.oci import digest as digests
from strata.oci.architecture import translate
from strata.oci.config import (
    CONFIG_LIMIT,
    LAYER_LIMIT,
    ImageConfig,
    InvalidDocument,
    build_config,
    encode,
    parse_config,
)

__all__ = [
    "CONFIG_LIMIT", "INDEX_TYPES", "LAYER_LIMIT", "MANIFEST_LIMIT", "MANIFEST_TYPES",
    "Descriptor", "ImageConfig", "Index", "InvalidDocument", "Manifest", "NoMatchingPlatform",
    "Platform", "build_config", "build_index", "build_manifest", "check_layers",
    "choose_platform", "detect_media_type", "encode", "host_platform", "parse_config",
    "parse_index", "parse_manifest", "parse_platform",
]  # fmt: skip

_T = TypeVar("_T")
_ABSENT = msgspec.Raw()

MANIFEST_LIMIT = 4 << 20
# Larger than any real layer; keeps arithmetic and progress honest.
BLOB_LIMIT = 1 << 42

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
SCHEMA1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
# Media type of a layer -> how it is compressed.
LAYER_TYPES = {
    OCI_LAYER: "none",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    DOCKER_LAYER: "none",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
}
_NONDISTRIBUTABLE = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


class NoMatchingPlatform(InvalidDocument):
    """The index has no image for the platform asked for."""

    id = "no-matching-platform"


class Platform(msgspec.Struct, frozen=True):
    """Operating system, architecture and variant in containerd's normal form.

    The variant is empty where it is the architecture's own (amd64 v1, arm64 v8).
    """

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text


class Descriptor(msgspec.Struct, frozen=True, rename={"media_type": "mediaType"}):
    """What a document says about a blob: type, digest and size in bytes.

    ``urls`` is kept for display and never fetched.
    """

    media_type: str
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=BLOB_LIMIT)]
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    @property
    def compression(self) -> str:
        """``none``, ``gzip`` or ``zstd`` for a layer, "" for anything else."""
        return LAYER_TYPES.get(self.media_type, "")


class _Manifest(msgspec.Struct, rename={"version": "schemaVersion", "media_type": "mediaType"}):
    version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str | None = None
    annotations: dict[str, str] | None = None
    # A document that is a manifest to one reader and an index to another (CVE-2021-41190).
    manifests: msgspec.Raw = _ABSENT


class _Index(msgspec.Struct, rename={"version": "schemaVersion", "media_type": "mediaType"}):
    version: int
    manifests: list[Descriptor]
    media_type: str | None = None
    annotations: dict[str, str] | None = None
    config: msgspec.Raw = _ABSENT
    layers: msgspec.Raw = _ABSENT


class _Shape(msgspec.Struct, rename={"version": "schemaVersion", "media_type": "mediaType"}):
    version: int | None = None
    media_type: str | None = None
    manifests: msgspec.Raw = _ABSENT
    config: msgspec.Raw = _ABSENT
    layers: msgspec.Raw = _ABSENT
    fsLayers: msgspec.Raw = _ABSENT


class Manifest:
    """An image manifest: ``config``, ``layers`` bottom to top, and the ``raw`` bytes."""

    __slots__ = ("annotations", "config", "layers", "media_type", "raw")

    def __init__(self, raw: bytes, media_type: str, document: _Manifest) -> None:
        self.raw = raw
        self.media_type = media_type
        self.config = document.config
        self.layers = document.layers
        self.annotations = document.annotations or {}

    @property
    def digest(self) -> str:
        """sha256 of the raw bytes."""
        return digests.of(self.raw)


class Index:
    """An image index or manifest list: ``manifests`` and the ``raw`` bytes."""

    __slots__ = ("annotations", "manifests", "media_type", "raw")

    def __init__(self, raw: bytes, media_type: str, document: _Index) -> None:
        self.raw = raw
        self.media_type = media_type
        self.manifests = document.manifests
        self.annotations = document.annotations or {}


def detect_media_type(raw: bytes, declared: str) -> str:
    """The media type of a manifest or index, from the transport's word and the document's own.

    A generic or missing declaration (``application/json``, ``text/plain``, …) is settled by the
    document. Two different answers, schema 1 and foreign types raise `InvalidDocument`.
    """
    if len(raw) > MANIFEST_LIMIT:
        raise InvalidDocument(
            f"the manifest is larger than {MANIFEST_LIMIT >> 20} MiB",
            hint="such an image cannot be used; ask its maker",
        )
    declared = declared.partition(";")[0].strip().lower()
    if declared in SCHEMA1_TYPES:
        raise _schema1()
    shape = _decode(raw, _Shape, "manifest")
    if shape.version == 1 or _is_there(shape.fsLayers):
        raise _schema1()
    inside = shape.media_type or ""
    known = MANIFEST_TYPES + INDEX_TYPES
    if declared in known:
        if inside and inside != declared:
            raise InvalidDocument(f"the manifest says it is {_show(inside)} but came as {declared}")
        return declared
    if inside:
        if inside not in known:
            raise InvalidDocument(
                f"unsupported manifest media type {_show(inside)}",
                hint="this is not a container image",
            )
        return inside
    if _is_there(shape.manifests) and (_is_there(shape.config) or _is_there(shape.layers)):
        raise _ambiguous()
    return OCI_INDEX if _is_there(shape.manifests) else OCI_MANIFEST


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest:
    """Parse and check an image manifest; raise `InvalidDocument`.

    Refuses artifacts that are not images, layers of unknown types and nondistributable layers
    (their content is only at foreign addresses, which are never fetched).
    """
    kind = detect_media_type(raw, media_type)
    if kind in INDEX_TYPES:
        raise InvalidDocument("expected an image manifest but got an index")
    document = _decode(raw, _Manifest, "manifest")
    _check_version(document.version)
    if _is_there(document.manifests):
        raise _ambiguous()
    if document.config.media_type not in CONFIG_TYPES:
        raise InvalidDocument(
            f"unsupported image-specific operation on artifact with type "
            f"{_show(document.config.media_type)}",
            hint="this is an artifact, not a container image",
        )
    if document.config.size > CONFIG_LIMIT:
        raise InvalidDocument(
            f"the image configuration is larger than {CONFIG_LIMIT >> 20} MiB",
            hint="such an image cannot be used; ask its maker",
        )
    if len(document.layers) > LAYER_LIMIT:
        raise InvalidDocument(
            f"the image has {len(document.layers)} layers, more than {LAYER_LIMIT}"
        )
    for descriptor in (document.config, *document.layers):
        _check_digest(descriptor.digest)
    for layer in document.layers:
        if layer.media_type.startswith(_NONDISTRIBUTABLE):
            raise InvalidDocument(
                f"layer {layer.digest} is nondistributable: its content is kept elsewhere",
                hint="addresses named by an image are never fetched; use an image without such "
                "layers",
            )
        if layer.media_type not in LAYER_TYPES:
            raise InvalidDocument(
                f"layer {layer.digest} has the unsupported media type {_show(layer.media_type)}",
                hint="tar layers, plain or compressed with gzip or zstd, are supported",
            )
    return Manifest(raw, kind, document)


def parse_index(raw: bytes, media_type: str = "") -> Index:
    """Parse and check an image index or Docker manifest list; raise `InvalidDocument`."""
    kind = detect_media_type(raw, media_type)
    if kind in MANIFEST_TYPES:
        raise InvalidDocument("expected an image index but got a manifest")
    document = _decode(raw, _Index, "index")
    _check_version(document.version)
    if _is_there(document.config) or _is_there(document.layers):
        raise _ambiguous()
    for descriptor in document.manifests:
        _check_digest(descriptor.digest)
    return Index(raw, kind, document)


def check_layers(manifest: Manifest, config: ImageConfig) -> None:
    """Raise `InvalidDocument` unless manifest and configuration have as many layers."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidDocument(
            f"the manifest names {len(manifest.layers)} layers "
            f"but the image configuration {len(config.diff_ids)}"
        )


def host_platform() -> Platform:
    """The platform of this machine."""
    return parse_platform(f"linux/{os.uname().machine}")


def parse_platform(text: str) -> Platform:
    """Parse ``os/arch[/variant]`` or ``arch`` and normalise it; raise `UsageError`."""
    parts = text.strip().lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(
        part.isascii() and part.translate(_JOINERS).isalnum() for part in parts
    ):
        raise UsageError(
            f"invalid platform {text[:80]!a}",
            hint="a platform is os/architecture[/variant], for example linux/arm64/v8",
        )
    if len(parts) == 1:
        # "linux" alone keeps this machine's architecture; anything else is an architecture.
        parts = [parts[0], os.uname().machine] if parts[0] == "linux" else ["linux", parts[0]]
    return _normalise(parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def choose_platform(index: Index, platform: Platform | str | None = None) -> Descriptor:
    """The entry of an index for a platform (default: this machine's).

    The exact variant wins, then lower variants that the machine can run. An entry without a
    platform is taken only if it is the only one. The result may be an index again. Raises
    `NoMatchingPlatform`.
    """
    if platform is None:
        platform = host_platform()
    elif isinstance(platform, str):
        platform = parse_platform(platform)
    entries = [entry for entry in index.manifests if entry.media_type in _CHOICES]
    by_platform: dict[Platform, Descriptor] = {}
    for entry in entries:
        found = entry.platform
        if found is not None and found.architecture:
            key = _normalise(found.os, found.architecture, found.variant)
            by_platform.setdefault(key, entry)
    for variant in _variants(platform):
        chosen = by_platform.get(Platform(platform.architecture, platform.os, variant))
        if chosen is not None:
            return chosen
    if len(entries) == 1 and (entries[0].platform is None or not entries[0].platform.architecture):
        return entries[0]
    offered = sorted(str(key) for key in by_platform if key.architecture != "unknown")
    raise NoMatchingPlatform(
        f'no image found in image index for architecture "{platform.architecture}", '
        f'variant "{platform.variant}", OS "{platform.os}"',
        hint=f"it has {_show(', '.join(offered)[:300])}" if offered else "it has no images at all",
    )


def build_manifest(
    config: Descriptor,
    layers: list[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    docker: bool = False,
) -> bytes:
    """Write a new image manifest; the same values give the same bytes."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": _describe(config),
        "layers": [_describe(layer) for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return encode(document)


def build_index(manifests: list[Descriptor], *, annotations: dict[str, str] | None = None) -> bytes:
    """Write a new OCI index."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_describe(manifest) for manifest in manifests],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return encode(document)


_CHOICES = MANIFEST_TYPES + INDEX_TYPES


def _describe(descriptor: Descriptor) -> dict[str, Any]:
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        document["annotations"] = dict(sorted(descriptor.annotations.items()))
    if descriptor.platform is not None:
        document["platform"] = {
            name: value
            for name in ("architecture", "os", "variant")
            if (value := getattr(descriptor.platform, name))
        }
    return document


def _decode(raw: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidDocument(f"malformed image {what}: {_plain(str(error))}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidDocument(f"the image {what} is not valid JSON") from None


def _is_there(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def _check_version(version: int) -> None:
    if version != 2:
        raise InvalidDocument(f"unsupported manifest schema version {version}")


def _check_digest(text: str) -> None:
    if not digests.is_valid(text):
        raise InvalidDocument(f"the manifest names an invalid digest: {_show(text)}")


def _schema1() -> InvalidDocument:
    return InvalidDocument(
        "unsupported schema version 1 image manifest",
        hint="this format was retired in 2017; push the image again with a current tool",
    )


def _ambiguous() -> InvalidDocument:
    return InvalidDocument(
        "the manifest is ambiguous: it is an image and an index at the same time",
        hint="refused because readers disagree about such documents",
    )


def _show(text: str) -> str:
    return ascii(text[:150])


_JOINERS = {ord(char): None for char in "_-."}


def _normalise(system: str, architecture: str, variant: str) -> Platform:
    system, architecture, variant = system.lower(), architecture.lower(), variant.lower()
    architecture, implied = translate(architecture)
    variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("arm64", "v8.0"), ("amd64", "v1")):
        variant = ""
    return Platform(architecture, {"": "linux", "macos": "darwin"}.get(system, system), variant)


def _variants(platform: Platform) -> list[str]:
    """The variants a machine of this platform can run, best first."""
    lowest = {"arm": 5, "arm64": 8, "amd64": 1}.get(platform.architecture)
    own = platform.variant
    if lowest is None or not own:
        return [own]
    result = [own]
    major = own.removeprefix("v").partition(".")[0]
    if major.isdigit():
        top = int(major) if "." in own else int(major) - 1
        for number in range(min(top, 9), lowest - 1, -1):
            name = _normalise(platform.os, platform.architecture, f"v{number}").variant
            if name not in result:
                result.append(name)
    return result
