"""Images in archives: open any of the known forms, and write them (`strata.archive.saving`).

Known forms, told by what is inside: ``oci-layout`` and ``index.json`` (OCI image layout, as a tar
or a directory; Docker 25 and later save this, with a ``manifest.json`` beside), else
``manifest.json`` (docker-archive; Docker and Podman). A docker-archive has no manifest in the
sense of a registry, so one is made up whose layers are the files as they lie there.

Everything is verified against a digest before it is used. What an index names must be in the
same archive and have the size it says; addresses are never fetched. Sources: OCI image-spec
image-layout.md; moby image/tarexport; containers/image docker/archive.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from strata.archive.bundle import UNKNOWN, UNKNOWN_HINT, Bundle, Member, open_bundle
from strata.archive.inflate import detect
from strata.archive.saving import (
    SaveImage,
    SaveLayer,
    write_docker_archive,
    write_oci_archive,
    write_oci_dir,
)
from strata.errors import ArchiveError, DigestMismatch
from strata.linux.write import write_all
from strata.oci import digest as digests
from strata.oci import manifest as manifests
from strata.oci.manifest import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str, int, int], None]

__all__ = [
    "Archive", "ArchiveSource", "SaveImage", "SaveLayer", "open_archive", "write_docker_archive",
    "write_oci_archive", "write_oci_dir",
]  # fmt: skip

_INDEX_DEPTH = 4
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


class ArchiveSource:
    """One image of an archive, with the interface of a registry's image.

    ``reference`` is the first of its names, "" when it has none.
    """

    def __init__(self, bundle: Bundle, reference: str) -> None:
        self.bundle = bundle
        self.reference = reference
        self._stopped = threading.Event()

    def get_manifest(self) -> tuple[bytes, str]:
        """The raw manifest of the chosen platform and its media type."""
        raise NotImplementedError

    def find_blob(self, digest: str) -> Member:
        """Where a blob lies; `ArchiveError` when it is not in the archive."""
        raise NotImplementedError

    def get_config(self, descriptor: Descriptor) -> bytes:
        """The raw image configuration, verified."""
        return self.read_blob(descriptor, manifests.CONFIG_LIMIT, "config")

    def read_blob(self, descriptor: Descriptor, limit: int, what: str) -> bytes:
        """A small blob, verified."""
        member = self._locate(descriptor)
        raw = member.read(limit)
        digests.check(raw, descriptor.digest, descriptor.size, what)
        return raw

    def _locate(self, descriptor: Descriptor) -> Member:
        digests.parse(descriptor.digest)
        member = self.find_blob(descriptor.digest)
        if member.size != descriptor.size:
            raise DigestMismatch(
                f"blob {descriptor.digest} has {member.size} bytes, expected {descriptor.size}",
                hint="the archive is damaged or dishonest; save it again",
            )
        return member

    def fetch(
        self, descriptor: Descriptor, destination: str, progress: Progress | None = None
    ) -> None:
        """Write a verified blob to a path. Raises `DigestMismatch`, `ArchiveError`, `OSError`."""
        member = self._locate(descriptor)
        verifier = digests.Verifier(descriptor.digest, descriptor.size, "blob")
        partial = f"{destination}.partial"
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(partial, flags, 0o600)
        try:
            for piece in member.pieces():
                if self._stopped.is_set():
                    raise ArchiveError("loading was cancelled")
                verifier.update(piece)
                write_all(fd, piece)
                if progress is not None:
                    progress(descriptor.digest, verifier.count, descriptor.size)
            verifier.finish()
            os.rename(partial, destination)
        except BaseException:
            os.unlink(partial)
            raise
        finally:
            os.close(fd)

    def cancel(self) -> None:
        """Make running fetches of other threads fail soon."""
        self._stopped.set()


class _LayoutSource(ArchiveSource):
    """An image of an OCI layout, named by a descriptor of a manifest or index."""

    def __init__(
        self, bundle: Bundle, reference: str, choices: list[Descriptor], platform: str | None
    ) -> None:
        super().__init__(bundle, reference)
        self._choices = choices
        self._platform = platform
        self._chosen: tuple[bytes, str] | None = None

    def find_blob(self, digest: str) -> Member:
        algorithm, digits = digests.parse(digest)
        return self.bundle.get(f"blobs/{algorithm}/{digits}")

    def get_manifest(self) -> tuple[bytes, str]:
        if self._chosen is None:
            entry = self._choices[0]
            if len(self._choices) > 1:
                index = manifests.parse_index(manifests.build_index(self._choices))
                entry = manifests.choose_platform(index, self._platform)
            for _ in range(_INDEX_DEPTH):
                raw = self.read_blob(entry, manifests.MANIFEST_LIMIT, "manifest")
                kind = manifests.detect_media_type(raw, entry.media_type)
                if kind not in manifests.INDEX_TYPES:
                    self._chosen = raw, kind
                    break
                index = manifests.parse_index(raw, kind)
                entry = manifests.choose_platform(index, self._platform)
            else:
                raise ArchiveError("the image in the archive is an index nested too deeply")
        return self._chosen


class _DockerSource(ArchiveSource):
    """An image of a docker-archive: a configuration and layer files."""

    def __init__(self, bundle: Bundle, reference: str, config: str, layers: list[str]) -> None:
        super().__init__(bundle, reference)
        self._config = config
        self._layers = layers
        self._blobs: dict[str, Member] = {}
        self._chosen: tuple[bytes, str] | None = None

    def find_blob(self, digest: str) -> Member:
        self.get_manifest()
        member = self._blobs.get(digest)
        if member is None:
            raise ArchiveError(f"blob {digest} is not in the archive")
        return member

    def get_manifest(self) -> tuple[bytes, str]:
        if self._chosen is None:
            member = self.bundle.get(self._config)
            raw = member.read(manifests.CONFIG_LIMIT)
            config = manifests.parse_config(raw)
            if len(self._layers) != len(config.diff_ids):
                raise ArchiveError(
                    f"the archive names {len(self._layers)} layers "
                    f"but the image configuration {len(config.diff_ids)}",
                    hint="the archive is damaged; save it again",
                )
            name = digests.of(raw)
            self._blobs[name] = member
            layers = [
                self._describe(self.bundle.get(path), diff_id)
                for path, diff_id in zip(self._layers, config.diff_ids, strict=True)
            ]
            described = Descriptor(manifests.DOCKER_CONFIG, name, len(raw))
            document = manifests.build_manifest(described, layers, docker=True)
            self._chosen = document, manifests.DOCKER_MANIFEST
        return self._chosen

    def _describe(self, member: Member, diff_id: str) -> Descriptor:
        """A layer file as a blob. Uncompressed, its digest is its diff_id: verified by `fetch`."""
        kind = detect(member.head())
        digest = diff_id
        if kind:
            import hashlib

            found = hashlib.sha256()
            for piece in member.pieces():
                found.update(piece)
            digest = f"sha256:{found.hexdigest()}"
        self._blobs[digest] = member
        suffix = f".{kind}" if kind in ("gzip", "zstd") else ""
        return Descriptor(manifests.DOCKER_LAYER + suffix, digest, member.size)


class Archive:
    """An open archive: ``images`` is a list of (names, source). A context manager."""

    def __init__(
        self, bundle: Bundle, images: list[tuple[list[str], ArchiveSource]], form: str
    ) -> None:
        self._bundle = bundle
        self.images = images
        #: ``oci`` or ``docker``
        self.format = form

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the use of the archive and all its sources."""
        self._bundle.close()


def open_archive(
    source: str | int, *, spool: str = "/var/tmp", platform: str | None = None
) -> Archive:
    """Open an image archive: a path, or a descriptor such as standard input.

    ``spool`` is a directory for what cannot be read in place. Names are as written in the archive.
    Raises `NotFound`, `ArchiveError`, `InvalidDocument`, `NoSpace`.
    """
    bundle = open_bundle(source, spool)
    try:
        entries = _read_docker_manifest(bundle)
        if bundle.find("oci-layout") is not None or (
            entries is None and bundle.find("index.json") is not None
        ):
            return Archive(bundle, _open_layout(bundle, entries or [], platform), "oci")
        if entries is None:
            raise ArchiveError(UNKNOWN, hint=UNKNOWN_HINT)
        images: list[tuple[list[str], ArchiveSource]] = [
            (tags, _DockerSource(bundle, tags[0] if tags else "", config, layers))
            for tags, config, layers in entries
        ]
        return Archive(bundle, images, "docker")
    except BaseException:
        bundle.close()
        raise


def _load_json(member: Member) -> Any:
    try:
        return json.loads(member.read(manifests.MANIFEST_LIMIT).decode("utf-8"))
    except (ValueError, RecursionError):
        raise ArchiveError(f"{member.name!a} in the archive is not valid JSON") from None


def _read_docker_manifest(bundle: Bundle) -> list[tuple[list[str], str, list[str]]] | None:
    """(names, path of the configuration, paths of the layers) of each image; None without one."""
    member = bundle.find("manifest.json")
    if member is None:
        return None
    document = _load_json(member)
    malformed = ArchiveError(
        "manifest.json in the archive is malformed", hint="the archive is damaged; save it again"
    )
    if not isinstance(document, list):
        # An OCI manifest under this name is what `skopeo copy dir:` leaves; it is not an archive.
        raise malformed
    entries = []
    for item in document:
        if not isinstance(item, dict):
            raise malformed
        config, layers, tags = item.get("Config"), item.get("Layers"), item.get("RepoTags")
        layers, tags = layers or [], tags or []
        if (
            not isinstance(config, str)
            or not _is_texts(layers)
            or not _is_texts(tags)
            or len(layers) > manifests.LAYER_LIMIT
        ):
            raise malformed
        entries.append((tags, config, layers))
    return entries


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _open_layout(
    bundle: Bundle, entries: list[tuple[list[str], str, list[str]]], platform: str | None
) -> list[tuple[list[str], ArchiveSource]]:
    layout = bundle.find("oci-layout")
    if layout is not None:
        document = _load_json(layout)
        version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
        if not isinstance(version, str) or not version.startswith("1."):
            raise ArchiveError("the archive has an unknown version of the OCI image layout")
    raw = bundle.get("index.json").read(manifests.MANIFEST_LIMIT)
    index = manifests.parse_index(raw)
    # Names per image: descriptors of one name are one image for several platforms; several names
    # of one manifest are one image.
    groups: dict[str, list[Descriptor]] = {}
    for entry in index.manifests:
        if entry.media_type not in manifests.MANIFEST_TYPES + manifests.INDEX_TYPES:
            continue
        name = _name_of(entry)
        key = name or (f"<{entry.digest}>" if entry.platform is None else "<platforms>")
        group = groups.setdefault(key, [])
        if entry.digest not in (other.digest for other in group):
            group.append(entry)
    images: dict[tuple[str, ...], tuple[list[str], ArchiveSource]] = {}
    for key, group in groups.items():
        names = [] if key.startswith("<") else [key]
        identity = tuple(entry.digest for entry in group)
        if identity in images:
            images[identity][0].extend(names)
            continue
        # Without platforms nothing tells them apart but their digest.
        if len(group) > 1 and any(entry.platform is None for entry in group):
            for entry in group:
                single = _LayoutSource(bundle, "", [entry], platform)
                images[(entry.digest,)] = ([], single)
            continue
        images[identity] = (names, _LayoutSource(bundle, key if names else "", group, platform))
    found = list(images.values())
    _add_docker_names(found, entries)
    return found


def _name_of(entry: Descriptor) -> str:
    notes = entry.annotations or {}
    name = notes.get(_CONTAINERD_NAME) or notes.get(_REF_NAME) or ""
    # The specification allows a bare tag as the name of a reference; that names no image.
    return name if "/" in name or ":" in name else ""


def _add_docker_names(
    images: list[tuple[list[str], ArchiveSource]],
    entries: list[tuple[list[str], str, list[str]]],
) -> None:
    """Docker 25 and later leave the names in ``manifest.json`` beside the layout."""
    tags = {config: names for names, config, _ in entries if names}
    if not tags:
        return
    for names, source in images:
        if names:
            continue
        manifest = manifests.parse_manifest(*source.get_manifest())
        algorithm, digits = digests.parse(manifest.config.digest)
        names.extend(tags.get(f"blobs/{algorithm}/{digits}", ()))
        source.reference = names[0] if names else ""
