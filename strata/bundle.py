"""All modules of an installed copy in one file, so that a command finds its own without searching.

A command loads some ninety modules. Looking for each in directories, and opening a file for each,
takes a quarter of the time a short command needs to start; what the interpreter does around each
module takes another part. The bundle has the compiled code of all and says what each needs, so a
module comes together with what it needs, in one go. It is taken from the bundle as long as its
source is of the same age and size, as with ``.pyc`` files; otherwise, and without a bundle, the
usual way is taken. ::

    magic number of the interpreter's byte code, 4 bytes
    size of the head, 4 bytes
    head        marshalled: the code of this module; the index: module -> `Entry`; and where the
                standard library's own parts in C are that some module imports: name -> path
    code        for each, marshalled: its code; and the names of what must be loaded before it,
                in the order to load it

The code of this module comes first because the launcher has nothing else to find the others with.
What only readers, checkers and debuggers need is not in the code.
"""

from __future__ import annotations

import _thread
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Iterator, Sequence
    from types import CodeType, ModuleType

    #: position and size of its code, size of the names after it, whether it is a package, its
    #: source's mtime in ns and size
    Entry = tuple[int, int, int, bool, int, int]

_NAME = "strata.bundle"


class _Finder:
    """Finds modules in one bundle, and loads them."""

    def __init__(
        self, parent: str, start: int, index: dict[str, Entry], libraries: dict[str, str]
    ) -> None:
        self._parent = parent
        self._path = f"{parent}/{_NAME}"
        self._start = start
        self._index = index
        self._libraries = libraries

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:  # fmt: skip
        entry = self._index.get(name)
        if entry is None:
            return self._find_library(name) if name in self._libraries else None
        folder = f"{self._parent}/{name.replace('.', '/')}"
        source = f"{folder}/__init__.py" if entry[3] else f"{folder}.py"
        try:
            found = os.stat(source)
        except OSError:
            return None
        if found.st_mtime_ns != entry[4] or found.st_size != entry[5]:
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=entry[3])  # type: ignore[arg-type]
        spec.has_location = True
        if entry[3]:
            spec.submodule_search_locations = [folder]
        return spec

    def _find_library(self, name: str) -> ModuleSpec | None:
        path = self._libraries[name]
        if not os.path.exists(path):
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: as usual."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        before: list[tuple[ModuleSpec, CodeType]] = []
        position, size, size_of_names = self._index[module.__name__][:3]
        # Closed before anything is done: a descriptor that is kept could take a number the user
        # hands on.
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(fd, size + size_of_names, self._start + position)
            code: CodeType = marshal.loads(text)
            # Another thread could find a module that is not complete: the usual way has locks for
            # that.
            names = () if _thread._count() else marshal.loads(text[size:])
            for name in names:
                if name not in sys.modules:
                    spec = self.find_spec(name)
                    # Else it is loaded the usual way, when it is asked for.
                    if spec is not None:
                        before.append((spec, self._read(fd, name)))
        finally:
            os.close(fd)
        for spec, needed in before:
            self._load(spec, needed)
        exec(code, module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """The code of a module, for those who ask for more than to load it (runpy, pdb)."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._read(fd, name)
        finally:
            os.close(fd)

    def _read(self, fd: int, name: str) -> CodeType:
        position, size = self._index[name][:2]
        code: CodeType = marshal.loads(os.pread(fd, size, self._start + position))
        return code

    def _load(self, spec: ModuleSpec, code: CodeType) -> None:
        """Load a module as the interpreter does it, without looking for it."""
        name = spec.name
        if name in sys.modules:
            return  # by one that came before
        module = type(sys)(name)
        space = module.__dict__
        space["__spec__"] = spec
        space["__loader__"] = self
        space["__package__"] = spec.parent
        space["__file__"] = spec.origin
        if spec.submodule_search_locations is not None:
            space["__path__"] = spec.submodule_search_locations
        sys.modules[name] = module
        try:
            exec(code, space)
        except BaseException:
            del sys.modules[name]
            raise
        parent, _, last = name.rpartition(".")
        setattr(sys.modules[parent], last, module)


def use(
    parent: str, start: int, index: dict[str, Entry], libraries: dict[str, str]
) -> None:  # fmt: skip
    """Take modules from the bundle in ``parent``, the directory that holds the package.

    ``start`` is where the code of the modules begins in it. Not where tracebacks are wanted.
    """
    if "STRATA_DEBUG" not in os.environ:
        sys.meta_path.insert(0, _Finder(parent, start, index, libraries))


def write(parent: str) -> None:
    """Make the bundle of the package in ``parent``, in one step. OSError."""
    import ast
    from _frozen_importlib_external import MAGIC_NUMBER

    sources = {}
    for folder, _, names in os.walk(f"{parent}/strata"):
        for file_name in sorted(names):
            if file_name.endswith(".py"):
                source = f"{folder}/{file_name}".removeprefix(f"{parent}/")
                name = source.removesuffix(".py").replace("/", ".")
                sources[name.removesuffix(".__init__")] = source
    needs: dict[str, list[str]] = {}
    codes: dict[str, CodeType] = {}
    times: dict[str, tuple[int, int]] = {}
    imported: set[str] = set()
    for name, source in sources.items():
        with open(f"{parent}/{source}", "rb") as file:
            tree = ast.parse(file.read())
            found = os.fstat(file.fileno())
        times[name] = (found.st_mtime_ns, found.st_size)
        needs[name] = [need for need in _list_imported(tree.body) if need in sources]
        imported.update(_list_imported(ast.walk(tree)))
        codes[name] = _compile(tree, f"{parent}/{source}")
    index: dict[str, Entry] = {}
    body = []
    position = 0
    for name, source in sources.items():
        code, before = marshal.dumps(codes[name]), marshal.dumps(_order(name, needs))
        is_package = source.endswith("/__init__.py")
        index[name] = (position, len(code), len(before), is_package, *times[name])
        body += [code, before]
        position += len(code) + len(before)
    libraries = dict(_find_libraries(sorted(imported)))
    head = marshal.dumps((codes.get(__name__), index, libraries))
    staging = f"{parent}/{_NAME}.{os.getpid()}"
    with open(staging, "wb") as file:
        file.write(MAGIC_NUMBER + len(head).to_bytes(4, "little") + head + b"".join(body))
    os.rename(staging, f"{parent}/{_NAME}")


def _order(name: str, needs: dict[str, list[str]]) -> tuple[str, ...]:
    """What a module needs, and what that needs, each after what it needs itself."""
    order: dict[str, None] = {}
    seen = {name}

    def add(one: str) -> None:
        for need in needs[one]:
            if need not in seen:
                seen.add(need)
                add(need)
                order[need] = None

    add(name)
    return tuple(order)


def _compile(tree: ast.Module, path: str) -> CodeType:
    """The code of a module without what only readers, checkers and debuggers need: a third of it.

    That is docstrings, types, and the table that leads from instructions to lines. Changes the
    tree.
    """
    import __future__

    import ast

    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    tree.body = _remove_types(tree.body)
    flags = __future__.annotations.compiler_flag
    return _strip(compile(tree, path, "exec", flags, dont_inherit=True, optimize=2))


def _remove_types(body: list[ast.stmt]) -> list[ast.stmt]:
    """What a module or class does, without the types of its names and imports for types alone."""
    import ast

    kept: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            kept += node.orelse
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                kept.append(ast.copy_location(ast.Assign([node.target], node.value), node))
        else:
            # What is derived may be made of its types, as records of msgspec are.
            if isinstance(node, ast.ClassDef) and not node.bases:
                node.body = _remove_types(node.body) or [ast.copy_location(ast.Pass(), node)]
            kept.append(node)
    return kept


def _strip(code: CodeType) -> CodeType:
    """Code without the table that leads from instructions to lines, a fifth of it.

    Only tracebacks need lines, and who is shown those is not given the bundle.
    """
    constants = (_strip(item) if isinstance(item, type(code)) else item for item in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=tuple(constants))


def _find_libraries(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of the modules that are shared libraries of the standard library, and their paths."""
    from importlib.util import find_spec

    for name in names:
        spec = find_spec(name) if name in sys.stdlib_module_names else None
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader) and spec.origin:
            yield name, spec.origin


def _list_imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What those of the statements that are imports import, packages before what is in them; also
    names that are no modules."""
    import ast

    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        else:
            continue
        for name in wanted:
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                yield ".".join(parts[:count])
