"""Layers made by hand: entries as bytes, trees to apply them to, and what must not change."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from strata.archive import tar
from strata.archive.apply import Applied, apply_layer

MTIME = 1_600_000_000_000_000_000


def entry(name: str | bytes, body: bytes = b"", kind: int = tar.REGULAR, **fields: Any) -> bytes:
    """One entry with its body and padding; ``fields`` are attributes of the header."""
    raw = name.encode() if isinstance(name, str) else name
    default = 0o755 if kind == tar.DIRECTORY else 0o644
    header = tar.Header(raw, kind, default, 0, 0, len(body), MTIME)
    for key, value in fields.items():
        setattr(header, key, value.encode() if isinstance(value, str) else value)
    return tar.emit(header) + body + tar.padding(len(body))


def folder(name: str, **fields: Any) -> bytes:
    return entry(name, kind=tar.DIRECTORY, **fields)


def symlink(name: str, target: str) -> bytes:
    return entry(name, kind=tar.SYMLINK, linkname=target, mode=0o777)


def hardlink(name: str, target: str, **fields: Any) -> bytes:
    return entry(name, kind=tar.HARDLINK, linkname=target, **fields)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + tar.END


def patch(header: bytes, offset: int, data: bytes) -> bytes:
    """Overwrite bytes of a header block and set its checksum right again."""
    block = bytearray(header[:512])
    block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + header[512:]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Workshop:
    """A tree to unpack into, and beside it a directory that must stay as it is."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tree = f"{path}/tree"
        self.root = f"{path}/tree/rootfs"
        self.outside = f"{path}/outside"
        os.makedirs(self.root)
        os.makedirs(self.outside)
        with open(f"{self.outside}/secret", "w") as file:
            file.write("untouched")
        self._before = self._look()

    def _look(self) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for place, folders, files in os.walk(self.path):
            if place == self.path:
                folders[:] = sorted(set(folders) - {"tree", "copy", "blob"})
                files = sorted(set(files) - {"blob"})
            for name in [*folders, *files]:
                info = os.lstat(f"{place}/{name}")
                found.append((place, name, info.st_mode, info.st_uid, info.st_nlink, info.st_size,
                              info.st_mtime_ns, info.st_ino))  # fmt: skip
        return found

    def assert_outside_is_untouched(self) -> None:
        assert self._look() == self._before
        with open(f"{self.outside}/secret") as file:
            assert file.read() == "untouched"

    def apply(self, data: bytes, *, tree: str | None = None, **options: Any) -> Applied:
        blob = f"{self.path}/blob"
        with open(blob, "wb") as file:
            file.write(data)
        return apply_layer(blob, "application/octet-stream", tree or self.tree, **options)

    def copy(self) -> str:
        """A clone of the tree, which becomes what further layers build on."""
        target = f"{self.path}/copy"
        shutil.copytree(self.tree, target, symlinks=True)
        return target

    def read(self, name: str) -> bytes:
        with open(f"{self.root}/{name}", "rb") as file:
            return file.read()

    def stat(self, name: str) -> os.stat_result:
        return os.lstat(f"{self.root}/{name}")

    def names(self, name: str = "") -> list[str]:
        return sorted(os.listdir(f"{self.root}/{name}"))

    def kind(self, name: str) -> int:
        return stat.S_IFMT(self.stat(name).st_mode)


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """A `Workshop` on a real file system, removed at the end."""
    path = tempfile.mkdtemp(prefix="strata-archive-", dir="/var/tmp")
    try:
        yield Workshop(path)
    finally:
        shutil.rmtree(path)
