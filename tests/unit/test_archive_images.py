"""Image archives written and read back: names, manifests, layers, bytes that must not change."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.layers import archive, digest_of, entry, symlink

from strata.archive.images import (
    SaveImage,
    SaveLayer,
    open_archive,
    write_docker_archive,
    write_oci_archive,
    write_oci_dir,
)
from strata.errors import ArchiveError, DigestMismatch, NotFound
from strata.oci import manifest as manifests

Write = Callable[[Path, list[SaveImage]], Path]


def make_layer(number: int, claim: bytes | None = None) -> SaveLayer:
    data = archive(entry(f"file{number}", b"%d" % number * 5000))

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(data), 4000):
            yield data[at : at + 4000]

    return SaveLayer(digest_of(claim or data), len(data), pieces)


def make_image(names: list[str], *layers: SaveLayer) -> SaveImage:
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": names},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }).encode()  # fmt: skip
    return SaveImage(names, config, layers)


def write_docker(path: Path, images: list[SaveImage]) -> Path:
    with open(path / "out", "wb") as file:
        write_docker_archive(file.fileno(), images)
    return path / "out"


def write_oci(path: Path, images: list[SaveImage]) -> Path:
    with open(path / "out", "wb") as file:
        write_oci_archive(file.fileno(), images)
    return path / "out"


def write_compressed(path: Path, images: list[SaveImage]) -> Path:
    with open(path / "out", "wb") as file:
        write_oci_archive(file.fileno(), images, compress=True, spool=str(path))
    return path / "out"


def write_directory(path: Path, images: list[SaveImage]) -> Path:
    write_oci_dir(str(path / "out"), images)
    return path / "out"


def write_compressed_directory(path: Path, images: list[SaveImage]) -> Path:
    write_oci_dir(str(path / "out"), images, compress=True)
    return path / "out"


FORMS: list[Write] = [
    write_docker, write_oci, write_compressed, write_directory, write_compressed_directory,
]  # fmt: skip


def read_images(source: str | int, spool: Path, **options: Any) -> list[tuple[Any, ...]]:
    """(names, image id, uncompressed layers) of each image, everything fetched and verified."""
    found = []
    with open_archive(source, spool=str(spool), **options) as opened:
        for names, image in opened.images:
            manifest = manifests.parse_manifest(*image.get_manifest())
            config = manifests.parse_config(image.get_config(manifest.config))
            manifests.check_layers(manifest, config)
            layers = []
            for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
                told: list[int] = []

                def tell(_: str, done: int, __: int, told: list[int] = told) -> None:
                    told.append(done)

                image.fetch(descriptor, str(spool / "blob"), tell)
                data = (spool / "blob").read_bytes()
                assert told[-1] == len(data) == descriptor.size
                assert digest_of(data) == descriptor.digest
                data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                assert digest_of(data) == diff_id
                layers.append(diff_id)
            found.append((names, config.id, layers))
    assert not (spool / "blob.partial").exists()
    return found


@pytest.mark.parametrize("write", FORMS)
def test_images_come_back_with_names_and_layers(tmp_path: Path, write: Write) -> None:
    shared, one, two = (make_layer(number) for number in range(3))
    images = [
        make_image(["docker.io/library/a:1", "localhost/b:2"], shared, one, shared),
        make_image(["localhost/c:latest"], shared, two),
    ]
    found = read_images(str(write(tmp_path, images)), tmp_path)
    assert found == [
        (image.names, hashlib.sha256(image.config).hexdigest(),
         [layer.diff_id for layer in image.layers])
        for image in images
    ]  # fmt: skip


@pytest.mark.parametrize("write", FORMS)
def test_the_same_image_gives_the_same_archive(tmp_path: Path, write: Write) -> None:
    digests = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        out = write(tmp_path / name, [make_image(["a:1"], make_layer(1))])
        files = [out] if out.is_file() else sorted(out.rglob("*"))
        digests.append([digest_of(file.read_bytes()) for file in files if file.is_file()])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("write", FORMS)
def test_a_layer_that_changed_on_disk_is_not_saved(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DigestMismatch):
        write(tmp_path, [make_image(["a:1"], make_layer(1, claim=b"other"))])


def test_a_manifest_that_describes_the_layers_is_kept(tmp_path: Path) -> None:
    image = make_image(["a:1"], make_layer(1))
    with open_archive(str(write_oci(tmp_path, [image]))) as opened:
        raw, _ = opened.images[0][1].get_manifest()
    own = json.dumps({**json.loads(raw), "annotations": {"by": "somebody"}}, indent=3).encode()
    kept = SaveImage(image.names, image.config, image.layers, own)
    with open_archive(str(write_oci(tmp_path, [kept]))) as opened:
        assert opened.images[0][1].get_manifest()[0] == own
    with open_archive(str(write_compressed(tmp_path, [kept]))) as opened:
        assert opened.images[0][1].get_manifest()[0] != own


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_an_archive_may_come_through_a_pipe(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    import threading

    image = make_image(["a:1"], make_layer(1))
    data = pack(write_docker(tmp_path, [image]).read_bytes())
    read_fd, write_fd = os.pipe()
    with open(write_fd, "wb") as feed:
        thread = threading.Thread(target=lambda: (feed.write(data), feed.close()))
        thread.start()
        try:
            assert read_images(read_fd, tmp_path)[0][0] == ["a:1"]
        finally:
            thread.join()
            os.close(read_fd)


def test_a_docker_archive_with_compressed_layers_is_read(tmp_path: Path) -> None:
    image = make_image(["a:1"], make_layer(1))
    layer = gzip.compress(b"".join(image.layers[0].open()))
    document = [{"Config": "c.json", "RepoTags": None, "Layers": ["x/layer.tar"]}]
    data = archive(entry("c.json", image.config), entry("x/layer.tar", layer),
                   entry("manifest.json", json.dumps(document).encode()))  # fmt: skip
    (tmp_path / "in").write_bytes(data)
    assert read_images(str(tmp_path / "in"), tmp_path)[0][0] == []


def test_names_of_docker_beside_a_layout_are_found(tmp_path: Path) -> None:
    """Docker 25 and later: a layout without names, and manifest.json."""
    source = io.BytesIO(write_oci(tmp_path, [make_image(["a:1"], make_layer(1))]).read_bytes())
    out = io.BytesIO()
    with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name == "index.json":
                index = json.loads(data)
                del index["manifests"][0]["annotations"]
                data = json.dumps(index).encode()
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    (tmp_path / "in").write_bytes(out.getvalue())
    assert read_images(str(tmp_path / "in"), tmp_path)[0][0] == ["a:1"]


def test_the_platform_is_chosen_from_an_index(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    images = {name: make_image([name], make_layer(number))
              for number, name in enumerate(["amd64", "arm64"])}  # fmt: skip
    write_oci_dir(str(folder), list(images.values()))
    index = json.loads((folder / "index.json").read_bytes())
    for descriptor, name in zip(index["manifests"], images, strict=True):
        descriptor["platform"] = {"os": "linux", "architecture": name}
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": "localhost/multi:1"}
    (folder / "index.json").write_text(json.dumps(index))
    for name, image in images.items():
        found = read_images(str(folder), tmp_path, platform=f"linux/{name}")
        assert [(names, image_id) for names, image_id, _ in found] == [
            (["localhost/multi:1"], hashlib.sha256(image.config).hexdigest())
        ]


def test_a_bare_tag_is_no_name(tmp_path: Path) -> None:
    write_oci_dir(str(tmp_path / "out"), [make_image(["latest"], make_layer(1))])
    with open_archive(str(tmp_path / "out")) as opened:
        assert opened.images[0][0] == []


def test_what_is_not_there_or_not_an_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or directory"):
        open_archive(str(tmp_path / "nothing"))
    (tmp_path / "text").write_bytes(b"hello world\n" * 100)
    with pytest.raises(ArchiveError, match="payload does not match"):
        open_archive(str(tmp_path / "text"))
    with pytest.raises(ArchiveError, match="payload does not match"):
        open_archive(str(tmp_path))
    (tmp_path / "links").write_bytes(archive(symlink("manifest.json", "index.json")))
    with pytest.raises(ArchiveError, match="payload does not match"):
        open_archive(str(tmp_path / "links"))
    with pytest.raises(ArchiveError, match="not empty"):
        write_oci_dir(str(tmp_path), [])


def test_descriptors_are_closed(tmp_path: Path) -> None:
    path = write_docker(tmp_path, [make_image(["a:1"], make_layer(1))])
    before = len(os.listdir("/proc/self/fd"))
    for source in (str(path), str(tmp_path / "out")):
        read_images(source, tmp_path)
        (tmp_path / "bad").write_bytes(path.read_bytes()[:1500])
        with pytest.raises(ArchiveError):
            open_archive(str(tmp_path / "bad"))
    assert len(os.listdir("/proc/self/fd")) == before
