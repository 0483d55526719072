"""``save``: images into an archive that other engines load."""

from __future__ import annotations

import os

from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from strata.archive.saving import SaveImage, SaveLayer

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


def save_images(
    e: Engine, which: Sequence[str], output: str | None, *, format: str = "docker-archive",
    compress: bool = False,
) -> None:  # fmt: skip
    """Write images to a file, a directory, or (``output`` None) to standard output.

    A file appears only when it is complete.
    """
    from strata.archive import saving

    chosen: dict[str, tuple[Record, list[str]]] = {}
    for text in which:
        image, name = names.get_image(e, text)
        kept = chosen.setdefault(image["id"], (image, []))[1]
        if name and "@" not in name and name not in kept:
            kept.append(name)
    documents = [_describe(e, image, kept) for image, kept in chosen.values()]
    with e.begin("save", keep=[layer for image, _ in chosen.values() for layer in image["layers"]]):
        if format == "oci-dir":
            if output is None:
                raise UsageError("saving a directory needs --output", hint="name a directory")
            saving.write_oci_dir(output, documents, compress=compress)
            return
        if format == "oci-archive":

            def write(fd: int) -> None:
                saving.write_oci_archive(fd, documents, compress=compress)

        elif format == "docker-archive":

            def write(fd: int) -> None:
                saving.write_docker_archive(fd, documents)

        else:
            raise UsageError(f"unknown format {format!r}", hint=f"one of {', '.join(FORMATS)}")
        _to_file(output, write)
    for image, kept in chosen.values():
        events.emit(e, events.IMAGE, "save", id=image["id"], name=", ".join(kept) or image["id"])


def _describe(e: Engine, image: Record, image_names: Sequence[str]) -> SaveImage:
    from strata.archive.saving import SaveImage

    return SaveImage(
        image_names,
        images.read_config(e, image["id"]),
        [_layer(e, e.records.get("layer", layer_id)) for layer_id in image["layers"]],
        images.read_manifest(e, image["id"]),
    )


def _layer(e: Engine, record: Record) -> SaveLayer:
    from strata.archive.saving import SaveLayer

    def read() -> Iterator[bytes]:
        return layers.read_tar(e, record)

    return SaveLayer(record["diff_id"], record["size"], read)


def _to_file(output: str | None, write: Callable[[int], None]) -> None:
    if output is None:
        write(1)
        return
    partial = f"{output}.partial.{os.getpid()}"
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None
    try:
        write(fd)
        os.rename(partial, output)
    except BaseException:
        os.unlink(partial)
        raise
    finally:
        os.close(fd)
