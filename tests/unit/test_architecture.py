"""The shape of the tree: who may import whom, how big, how named, and what never appears in it."""

from __future__ import annotations

import ast
import functools
import os
import re
import sys

import pytest
from helpers.heavy import NEVER_FOR_VERSION, NEVER_ON_HOT_PATH

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_PLAIN = {"errors", "jsontext", "times"}
_KERNEL = _PLAIN | {"command", "linux", "trace"}
_FORMATS = _KERNEL | {"archive", "oci", "storage"}
_PARTS = _FORMATS | {"network", "registry", "runtime", "store"}

#: room -> rooms it may import besides itself. One direction only; a new room is a line here.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "trace": set(),
    "jsontext": set(),
    "times": {"errors"},
    "command": _PLAIN | {"trace"},
    "linux": _PLAIN | {"command", "trace"},
    "oci": _PLAIN | {"linux"},
    "storage": _KERNEL,
    "archive": _KERNEL | {"oci"},
    "registry": _KERNEL | {"oci"},
    "network": _KERNEL,
    "runtime": _KERNEL | {"oci"},
    "store": _FORMATS,
    "engine": _PARTS,
    "cli": _KERNEL | {"engine", "oci"},
    "bundle": set(),
    "__init__": set(),
    "__main__": {"cli"},
}

MAX_LINES = 800

HOT_ROOMS = {"command", "errors", "linux", "storage", "store"}


class Module:
    """One source file: its dotted name, room, text and syntax tree."""

    def __init__(self, path: str) -> None:
        self.path = os.path.relpath(path, TOP)
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.tree = ast.parse(self.text, path)
        self.is_package = path.endswith("/__init__.py")
        self.name = self.path[: -len(".py")].replace("/", ".").removesuffix(".__init__")
        parts = self.path[: -len(".py")].split("/")
        self.room = parts[1]


@functools.cache
def list_modules() -> list[Module]:
    found = []
    for folder, folders, files in os.walk(os.path.join(TOP, "strata")):
        folders[:] = sorted(set(folders) - {"__pycache__"})
        found += [Module(os.path.join(folder, name)) for name in sorted(files)
                  if name.endswith(".py")]  # fmt: skip
    return found


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def list_imports(module: Module, *, at_start: bool = False) -> list[tuple[int, str]]:
    """(line, dotted module) of every import; ``at_start``: only those that run on import."""
    found: list[tuple[int, str]] = []

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Import):
                found.extend((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    up = module.name.split(".")
                    keep = len(up) - node.level + (1 if module.is_package else 0)
                    base = ".".join([*up[:keep], *([node.module] if node.module else [])])
                names = {known.name for known in list_modules()}
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    found.append((node.lineno, full if full in names else base))
            elif at_start and (
                _is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ):
                if _is_type_checking(node) and isinstance(node, ast.If):
                    visit(node.orelse)
            else:
                for field in ("body", "orelse", "finalbody"):
                    visit(getattr(node, field, []))
                for handler in getattr(node, "handlers", []):
                    visit(handler.body)
                for case in getattr(node, "cases", []):
                    visit(case.body)

    visit(module.tree.body)
    return found


def list_loaded_at_start(name: str) -> dict[str, str]:
    """Module -> who pulls it in, for everything that importing ``name`` loads of ours and beyond.

    Only the first name of foreign modules is given; what those load is not followed.
    """
    known = {module.name: module for module in list_modules()}
    loaded: dict[str, str] = {}
    todo = [(name, "")]
    while todo:
        current, source = todo.pop()
        if current.split(".")[0] != "strata":
            loaded.setdefault(current.split(".")[0], source)
            continue
        parts = current.split(".")
        for size in range(1, len(parts) + 1):
            parent = ".".join(parts[:size])
            if parent in known and parent not in loaded:
                loaded[parent] = source
                todo += [(found, parent) for _, found in list_imports(known[parent], at_start=True)]
    return loaded


def _show(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_every_room_is_in_the_import_map() -> None:
    assert {module.room for module in list_modules()} <= set(MAY_IMPORT)


def test_the_import_map_has_one_direction() -> None:
    """No room can reach itself through others."""
    for room, below in MAY_IMPORT.items():
        seen: set[str] = set()
        todo = set(below)
        while todo:
            current = todo.pop()
            seen.add(current)
            todo |= MAY_IMPORT[current] - seen
        assert room not in seen, f"{room} can import itself through others"


def test_rooms_import_only_what_lies_below_them() -> None:
    problems = []
    for module in list_modules():
        allowed = MAY_IMPORT[module.room] | {module.room, "__init__"}
        for line, name in list_imports(module):
            parts = name.split(".")
            if parts[0] != "strata":
                continue
            room = parts[1] if len(parts) > 1 else "__init__"
            if room not in allowed:
                problems.append(f"{module.path}:{line}: {module.room} may not import {room}")
    _show(problems)


def test_modules_import_each_other_without_circles() -> None:
    """Importing a module never needs that module already imported."""
    known = {module.name: module for module in list_modules()}
    edges = {
        name: {found for _, found in list_imports(module, at_start=True) if found in known} - {name}
        for name, module in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for following in sorted(edges[name]):
            visit(following, [*trail, name])
        done.add(name)

    for name in known:
        visit(name, [])


def test_only_command_runs_programs() -> None:
    pattern = re.compile(r"\bos\.(posix_spawnp?|system|popen|spawn\w+)\b|\bpty\.spawn\b")
    problems = []
    for module in list_modules():
        for line, name in list_imports(module):
            if name.split(".")[0] == "subprocess":
                problems.append(f"{module.path}:{line}: imports subprocess; use strata.command")
        if module.name == "strata.command":
            continue
        for number, text in enumerate(module.text.splitlines(), 1):
            if pattern.search(text):
                problems.append(f"{module.path}:{number}: runs a program; use strata.command")
    _show(problems)


def test_no_room_for_odds_and_ends() -> None:
    odd = {"util", "utils", "helper", "helpers", "misc", "common", "tools", "lib"}
    _show([m.path for m in list_modules() if odd & set(m.name.split("."))])


def test_modules_stay_small() -> None:
    _show([
        f"{module.path}: {lines} lines; past {MAX_LINES} it is two modules"
        for module in list_modules()
        if (lines := module.text.count("\n")) > MAX_LINES
    ])  # fmt: skip


def test_modules_explain_themselves() -> None:
    problems = []
    for module in list_modules():
        if not ast.get_docstring(module.tree):
            problems.append(f"{module.path}: no docstring")
        if (
            module.text.strip()
            and not module.is_package
            and ("from __future__ import annotations" not in module.text)
        ):
            problems.append(f"{module.path}: no `from __future__ import annotations`")
    _show(problems)


def test_public_functions_and_classes_explain_themselves() -> None:
    problems = []
    for module in list_modules():
        for node in module.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                problems.append(f"{module.path}:{node.lineno}: {node.name} has no docstring")
    _show(problems)


def test_version_loads_nothing_heavy() -> None:
    for name in ("strata.cli.main", "strata.__main__"):
        loaded = list_loaded_at_start(name)
        _show([f"{name}: {heavy} comes in through {loaded[heavy]}"
               for heavy in sorted(NEVER_FOR_VERSION & set(loaded))])  # fmt: skip


def test_hot_rooms_load_nothing_heavy() -> None:
    problems = []
    for module in list_modules():
        if module.room in HOT_ROOMS:
            problems += [
                f"{module.path}:{line}: {name} at module level is too dear for `run`"
                for line, name in list_imports(module, at_start=True)
                if name.split(".")[0] in NEVER_ON_HOT_PATH
            ]
    _show(problems)


@pytest.mark.parametrize("start", ["strata.engine.containers.verbs"])
def test_run_and_exec_load_nothing_heavy(start: str) -> None:
    """The whole closure of the container verbs."""
    loaded = list_loaded_at_start(start)
    _show([f"{start}: {heavy} comes in through {loaded[heavy]}"
           for heavy in sorted(NEVER_ON_HOT_PATH & set(loaded))])  # fmt: skip


def _list_tree() -> list[str]:
    """Files that belong to the project: everything but caches, builds and what git ignores."""
    skipped = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
               ".hypothesis", "build", "dist", "strata.egg-info"}  # fmt: skip
    found = []
    for folder, folders, files in os.walk(TOP):
        folders[:] = [name for name in folders if name not in skipped]
        found += [os.path.join(folder, name) for name in files if name not in skipped]
    return found


def test_listing_containers_loads_no_template_engine() -> None:
    """Templates, JSON and regular expressions are for those who ask for them."""
    for start in ("strata.cli.handlers.ps", "strata.engine.containers.listing",
                  "strata.cli.format"):  # fmt: skip
        loaded = set(list_loaded_at_start(start))
        assert not {name for name in loaded if name.startswith("strata.cli.template")}, start
        assert not {"re", "json", "fnmatch", "strata.engine.containers.filtering"} & loaded, start


def test_the_tree_names_no_machine_and_no_package_host() -> None:
    """Indexes and mirrors come from the host's configuration, and paths from the user."""
    dot = re.escape(".")
    forbidden = re.compile(
        "|".join([
            r"/wor" r"k/", r"/roo" r"t/\.\w", r"/hom" r"e/\w",
            rf"\b(deb|security|ftp|snapshot){dot}debian{dot}org",
            rf"\bpypi{dot}(org|python{dot}org)", rf"pythonhosted{dot}org",
            rf"registry{dot}npmjs", rf"proxy{dot}golang{dot}org", rf"\bcrates{dot}io",
        ])
    )  # fmt: skip
    problems = []
    for path in _list_tree():
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if match := forbidden.search(line):
                problems.append(f"{os.path.relpath(path, TOP)}:{number}: {match.group()}")
    _show(problems)


def test_python_is_new_enough() -> None:
    assert sys.version_info >= (3, 11)
