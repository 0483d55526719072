"""Images into archives: docker-archive, OCI archive, OCI layout directory.

Layers stream from the store: their uncompressed size is known from the layer's record, so a tar
header can be written before the first byte, and their digest uncompressed is their diff_id. The
bytes are hashed on the way out; a layer that is not what its record says breaks the archive off
with `DigestMismatch` rather than spoiling it. Compressed layers (OCI only) are spooled once,
because their digest is their file's name.

A manifest is kept byte for byte where it describes the layers as they are written (uncompressed);
otherwise a new one is made, with the configuration, and so the image id, unchanged. Output is
deterministic.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from strata.archive import tar
from strata.archive.bundle import Member, unnamed_file
from strata.errors import ArchiveError, NoSpace
from strata.linux.write import write_all
from strata.oci import digest as digests
from strata.oci import manifest as manifests
from strata.oci.manifest import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_GZIP_LEVEL = 1  # of igzip's 0-3
_GZIP_WINDOW = 31  # deflate window of 15 bits, with a gzip header whose time is 0


class SaveLayer:
    """A layer to save: its ``diff_id``, the ``size`` of its tar, and ``open`` giving the tar."""

    __slots__ = ("diff_id", "open", "size")

    def __init__(self, diff_id: str, size: int, open: Callable[[], Iterator[bytes]]) -> None:
        self.diff_id = diff_id
        self.size = size
        self.open = open


class SaveImage:
    """An image to save. ``names`` in full form (may be empty), ``config`` the raw configuration,
    ``layers`` from the bottom up, ``manifest`` the raw manifest it came with, if any."""

    __slots__ = ("config", "layers", "manifest", "names")

    def __init__(
        self, names: Sequence[str], config: bytes, layers: Sequence[SaveLayer],
        manifest: bytes | None = None,
    ) -> None:  # fmt: skip
        self.names = list(names)
        self.config = config
        self.layers = list(layers)
        self.manifest = manifest


class _TarOutput:
    """Files appended to a tar on a descriptor, each name once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._names: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        """A file of ``size`` bytes; the caller guarantees that the pieces have it."""
        self._names.add(name)
        header = tar.Header(name.encode(), tar.REGULAR, 0o644, 0, 0, size, 0)
        _write(self._fd, tar.emit(header))
        for piece in pieces:
            _write(self._fd, piece)
        _write(self._fd, tar.padding(size))

    def finish(self) -> None:
        _write(self._fd, tar.END)


class _DirectoryOutput:
    """Files in a directory, each complete or absent."""

    def __init__(self, path: str) -> None:
        self._path = path
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)

    def has(self, name: str) -> bool:
        return os.path.exists(f"{self._path}/{name}")

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        target = f"{self._path}/{name}"
        partial = f"{self._path}/.{os.path.basename(name)}.partial"
        fd = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            for piece in pieces:
                _write(fd, piece)
            os.rename(partial, target)
        except BaseException:
            os.unlink(partial)
            raise
        finally:
            os.close(fd)


def _write(fd: int, data: bytes) -> None:
    try:
        write_all(fd, data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("no space left to write the archive") from None
        raise ArchiveError(f"cannot write the archive: {error.strerror}") from None


def _verified(layer: SaveLayer) -> Iterator[bytes]:
    verifier = digests.Verifier(layer.diff_id, layer.size, "layer")
    for piece in layer.open():
        verifier.update(piece)
        yield piece
    verifier.finish()


def write_docker_archive(fd: int, images: Sequence[SaveImage]) -> None:
    """Write what ``docker load`` and ``podman load`` read. Layers are uncompressed and shared.

    Raises `DigestMismatch`, `ArchiveError`, `NoSpace`; the output is then incomplete.
    """
    output = _TarOutput(fd)
    documents = []
    for image in images:
        paths = []
        for layer in image.layers:
            path = f"{digests.parse(layer.diff_id)[1]}.tar"
            paths.append(path)
            if not output.has(path):
                output.add(path, layer.size, _verified(layer))
        name = f"{digests.parse(digests.of(image.config))[1]}.json"
        if not output.has(name):
            output.add(name, len(image.config), [image.config])
        documents.append({"Config": name, "RepoTags": image.names, "Layers": paths})
    _add_document(output, "manifest.json", documents)
    output.finish()


def write_oci_archive(
    fd: int, images: Sequence[SaveImage], *, compress: bool = False, spool: str = "/var/tmp"
) -> None:
    """Write an OCI image layout as a tar, with gzip layers when ``compress``.

    ``manifest.json`` is added, as Docker does, so that older versions can load it too.
    """
    output = _TarOutput(fd)
    documents = _write_layout(output, images, compress, spool)
    _add_document(output, "manifest.json", documents)
    output.finish()


def write_oci_dir(path: str, images: Sequence[SaveImage], *, compress: bool = False) -> None:
    """Write an OCI image layout to a new or empty directory."""
    try:
        if os.path.isdir(path) and os.listdir(path):
            raise ArchiveError(f"{path} is not empty", hint="name a new directory")
        os.makedirs(path, exist_ok=True)
        _write_layout(_DirectoryOutput(path), images, compress, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left in {path}") from None
        raise ArchiveError(f"cannot write {path}: {error.strerror}") from None


def _write_layout(
    output: _TarOutput | _DirectoryOutput, images: Sequence[SaveImage], compress: bool, spool: str
) -> list[dict[str, Any]]:
    output.add("oci-layout", len(_LAYOUT), [_LAYOUT])
    entries = []
    documents = []
    compressed: dict[str, Descriptor] = {}
    for image in images:
        layers = []
        for layer in image.layers:
            if compress:
                if layer.diff_id not in compressed:
                    compressed[layer.diff_id] = _add_compressed(output, layer, spool)
                layers.append(compressed[layer.diff_id])
            else:
                name = _blob_name(layer.diff_id)
                if not output.has(name):
                    output.add(name, layer.size, _verified(layer))
                layers.append(Descriptor(manifests.OCI_LAYER, layer.diff_id, layer.size))
        digest = _add_blob(output, image.config)
        config = Descriptor(manifests.OCI_CONFIG, digest, len(image.config))
        raw, kind = _find_kept_manifest(image, layers)
        if raw is None:
            raw, kind = manifests.build_manifest(config, layers), manifests.OCI_MANIFEST
        name = _add_blob(output, raw)
        for tag in image.names or [""]:
            notes = {_REF_NAME: tag, _CONTAINERD_NAME: tag} if tag else None
            entries.append(Descriptor(kind, name, len(raw), annotations=notes))
        documents.append({
            "Config": _blob_name(digest), "RepoTags": image.names,
            "Layers": [_blob_name(layer.digest) for layer in layers],
        })  # fmt: skip
    index = manifests.build_index(entries)
    output.add("index.json", len(index), [index])
    return documents


def _find_kept_manifest(image: SaveImage, layers: list[Descriptor]) -> tuple[bytes | None, str]:
    """The image's own manifest, if it says just what is written here."""
    if image.manifest is None:
        return None, ""
    own = manifests.parse_manifest(image.manifest)
    same = [layer.digest for layer in own.layers] == [layer.digest for layer in layers]
    if not same or own.config.digest != digests.of(image.config):
        return None, ""
    return image.manifest, own.media_type


def _blob_name(digest: str) -> str:
    algorithm, digits = digests.parse(digest)
    return f"blobs/{algorithm}/{digits}"


def _add_blob(output: _TarOutput | _DirectoryOutput, data: bytes) -> str:
    digest = digests.of(data)
    name = _blob_name(digest)
    if not output.has(name):
        output.add(name, len(data), [data])
    return digest


def _add_compressed(
    output: _TarOutput | _DirectoryOutput, layer: SaveLayer, spool: str
) -> Descriptor:
    import hashlib

    from isal import isal_zlib

    found = hashlib.sha256()
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
    size = 0
    fd = unnamed_file(spool)
    try:

        def store(data: bytes) -> None:
            nonlocal size
            size += len(data)
            found.update(data)
            _write(fd, data)

        for piece in _verified(layer):
            store(compressor.compress(piece))
        store(compressor.flush())
        digest = f"sha256:{found.hexdigest()}"
        name = _blob_name(digest)
        if not output.has(name):
            output.add(name, size, Member(name, fd, 0, size).pieces())
    finally:
        os.close(fd)
    return Descriptor(f"{manifests.OCI_LAYER}+gzip", digest, size)


def _add_document(output: _TarOutput, name: str, document: list[dict[str, Any]]) -> None:
    import json

    raw = json.dumps(document, separators=(",", ":")).encode()
    output.add(name, len(raw), [raw])
