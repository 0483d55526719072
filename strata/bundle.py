"""All modules of an installed copy in one file, so that a command finds its own without searching.

A command loads some ninety modules. Looking for each in directories, and opening a file for each,
takes a quarter of the time a short command needs to start. The bundle has the compiled code of all,
behind an index. A module is taken from it as long as its source is of the same age and size, as
with ``.pyc`` files; otherwise, and without a bundle, the usual way is taken. ::

    magic number of the interpreter's byte code, 4 bytes
    size of the index, 4 bytes
    index       marshalled: module -> (position, size, is a package, source, its mtime, its size)
    code        marshalled, one after the other
"""

from __future__ import annotations

import marshal
import os
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    #: position, size, is a package, source relative to the package's parent, mtime in ns, size
    Entry = tuple[int, int, bool, str, int, int]

_NAME = "strata.bundle"


class _Finder:
    """Finds modules in one bundle, and loads them."""

    def __init__(self, parent: str, path: str, start: int, index: dict[str, Entry]) -> None:
        self._parent = parent
        self._path = path
        self._start = start
        self._index = index

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:  # fmt: skip
        entry = self._index.get(name)
        if entry is None:
            return None
        source = f"{self._parent}/{entry[3]}"
        try:
            found = os.stat(source)
        except OSError:
            return None
        if (found.st_mtime_ns, found.st_size) != entry[4:]:
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=entry[2])  # type: ignore[arg-type]
        spec.has_location = True
        if entry[2]:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: as usual."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        position, size = self._index[name][:2]
        # Opened for each: a descriptor that is kept could take a number the user hands on.
        code: CodeType = marshal.loads(_read(self._path, self._start + position, size))
        return code


def use(parent: str) -> None:
    """Take modules from the bundle in a directory that holds the package, if there is one."""
    import sys

    path = f"{parent}/{_NAME}"
    try:
        head = _read(path, 0, 8)
        if head[:4] != MAGIC_NUMBER:
            return
        size = int.from_bytes(head[4:], "little")
        index = marshal.loads(_read(path, 8, size))
    except (OSError, EOFError, ValueError, TypeError):
        return
    sys.meta_path.insert(0, _Finder(parent, path, 8 + size, index))


def write(parent: str) -> None:
    """Make the bundle of the package in ``parent``, in one step. OSError."""
    index: dict[str, Entry] = {}
    codes = []
    position = 0
    for folder, _, names in os.walk(f"{parent}/strata"):
        for file_name in sorted(names):
            if not file_name.endswith(".py"):
                continue
            path = f"{folder}/{file_name}"
            source = path.removeprefix(f"{parent}/")
            name = source.removesuffix(".py").replace("/", ".")
            with open(path, "rb") as file:
                code = marshal.dumps(compile(file.read(), path, "exec", dont_inherit=True))
                found = os.fstat(file.fileno())
            index[name.removesuffix(".__init__")] = (
                position, len(code), file_name == "__init__.py", source,
                found.st_mtime_ns, found.st_size,
            )  # fmt: skip
            codes.append(code)
            position += len(code)
    table = marshal.dumps(index)
    staging = f"{parent}/{_NAME}.{os.getpid()}"
    with open(staging, "wb") as file:
        file.write(MAGIC_NUMBER + len(table).to_bytes(4, "little") + table + b"".join(codes))
    os.rename(staging, f"{parent}/{_NAME}")


def _read(path: str, position: int, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, position)
    finally:
        os.close(fd)
