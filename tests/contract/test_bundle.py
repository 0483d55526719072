"""Modules from one file: which are taken from it, and when the usual way is taken instead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import strata.bundle
from strata.cli.launcher import render_launcher

PYTHON = "/usr/bin/python3"
_LIST = """
import json
from strata.parts import one, two
names = ["strata.parts", "strata.parts.one", "strata.parts.two"]
print(json.dumps({name: [type(sys.modules[name].__loader__).__name__, sys.modules[name].__file__,
                         getattr(sys.modules[name], "VALUE", 0)] for name in names}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory with a small package of the name."""
    parts = tmp_path / "strata" / "parts"
    parts.mkdir(parents=True)
    for path in (tmp_path / "strata" / "__init__.py", parts / "__init__.py"):
        path.write_text("")
    (parts / "one.py").write_text("VALUE = 1\n")
    (parts / "two.py").write_text("from strata.parts import one\nVALUE = one.VALUE + 1\n")
    shutil.copy(strata.bundle.__file__, tmp_path / "strata" / "bundle.py")
    return tmp_path


def load(package: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(run(package, _LIST))
    return found


def test_modules_come_from_the_bundle_and_know_their_source(package: Path) -> None:
    strata.bundle.write(str(package))
    assert load(package) == {
        "strata.parts": ["_Finder", f"{package}/strata/parts/__init__.py", 0],
        "strata.parts.one": ["_Finder", f"{package}/strata/parts/one.py", 1],
        "strata.parts.two": ["_Finder", f"{package}/strata/parts/two.py", 2],
    }
    assert sorted(os.listdir(package)) == ["strata", "strata.bundle"]


def test_a_source_that_changed_counts_more_than_the_bundle(package: Path) -> None:
    strata.bundle.write(str(package))
    (package / "strata" / "parts" / "one.py").write_text("VALUE = 10\n")
    found = load(package)
    assert found["strata.parts.one"][::2] == ["SourceFileLoader", 10]
    assert found["strata.parts.two"][::2] == ["_Finder", 11]


@pytest.mark.parametrize("damage", ["absent", "other-interpreter", "short", "no-index"])
def test_without_a_good_bundle_modules_are_found_as_usual(package: Path, damage: str) -> None:
    strata.bundle.write(str(package))
    path = package / "strata.bundle"
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"other-interpreter": b"xxxx" + whole[4:], "short": whole[:6],
                          "no-index": whole[:8] + bytes(40)}[damage])  # fmt: skip
    assert load(package)["strata.parts.two"][::2] == ["SourceFileLoader", 2]


def run(package: Path, code: str, **env: str) -> str:
    """What a program prints that takes its modules from the bundle."""
    start, _, _ = render_launcher(PYTHON, str(package), "/site").partition("from strata.cli")
    done = subprocess.run([PYTHON, "-ISB", "-c", start + code], capture_output=True, text=True,
                          check=True, env={**os.environ, **env})  # fmt: skip
    return done.stdout


_WRITE_DOWN = "import builtins\nbuiltins.order = [*getattr(builtins, 'order', ()), __name__]\n"


@pytest.mark.parametrize("threads", [0, 1])
def test_what_a_module_needs_is_loaded_once_and_before_it(package: Path, threads: int) -> None:
    parts = package / "strata" / "parts"
    (parts / "one.py").write_text(_WRITE_DOWN)
    (parts / "two.py").write_text(f"from strata.parts import one\n{_WRITE_DOWN}")
    (parts / "three.py").write_text(
        f"from strata.parts import two\nimport strata.parts.one\n{_WRITE_DOWN}"
    )
    strata.bundle.write(str(package))
    waiting = (
        "import _thread\nheld = _thread.allocate_lock()\nheld.acquire()\n"
        "_thread.start_new_thread(held.acquire, ())\nwhile not _thread._count(): pass\n"
    )
    code = (
        "import strata.parts.three\nimport strata.parts.two, strata.parts.one\n"
        "print(order, strata.parts.one.__spec__.name)\n"
    )
    assert run(package, (waiting if threads else "") + code) == (
        "['strata.parts.one', 'strata.parts.two', 'strata.parts.three'] strata.parts.one\n"
    )


def test_what_cannot_be_loaded_is_not_left_half_loaded(package: Path) -> None:
    parts = package / "strata" / "parts"
    (parts / "one.py").write_text("raise ValueError('no')\n")
    strata.bundle.write(str(package))
    code = (
        "for _ in range(2):\n try:\n  import strata.parts.two\n"
        " except ValueError as error:\n  print(error)\n"
        "print([name for name in sys.modules if name.startswith('strata.parts.')])\n"
    )
    assert run(package, code) == "no\nno\n[]\n"


def test_who_wants_tracebacks_gets_modules_with_lines(package: Path) -> None:
    strata.bundle.write(str(package))
    code = "import strata.parts.one as m; print(type(m.__loader__).__name__)"
    assert run(package, code) == "_Finder\n"
    assert run(package, code, STRATA_DEBUG="1") == "SourceFileLoader\n"


def test_libraries_are_not_searched_for(package: Path) -> None:
    one = package / "strata" / "parts" / "one.py"
    one.write_text("def read():\n    import _ctypes\n    return _ctypes\n")
    strata.bundle.write(str(package))
    code = (
        "import sys\nfrom strata.parts.one import read\nsearched = set(sys.path_importer_cache)\n"
        "module = read()\n"
        "print(module.sizeof.__name__, module.__file__ == module.__spec__.origin,\n"
        "      set(sys.path_importer_cache) - searched)\n"
    )
    assert run(package, code) == "sizeof True set()\n"
    bundle = package / "strata.bundle"
    bundle.write_bytes(bundle.read_bytes().replace(b"lib-dynload/_ctypes", b"lib-dynload/_nowher"))
    assert run(package, code).startswith("sizeof True {")


_SHOW = """
import importlib, json, os
top = os.path.dirname(strata.__file__)
names = sorted(
    os.path.relpath(f"{folder}/{name}", os.path.dirname(top))[:-3].replace("/", ".")
    for folder, _, files in os.walk(top) for name in files
    if name.endswith(".py") and not name.startswith("__")
)
classes = {}
for name in names:
    module = importlib.import_module(name)
    for key, value in sorted(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            kept = set(vars(value)) - {"__annotations__", "__doc__"}
            classes[f"{name}.{key}"] = [sorted(kept), getattr(value, "__struct_fields__", ())]
print(json.dumps([len(names), classes]))
"""


def test_all_modules_are_the_same_from_the_bundle(tmp_path: Path) -> None:
    """All can be loaded, and have what they have without it: types that do something are kept."""
    shutil.copytree(os.path.dirname(strata.bundle.__file__), tmp_path / "strata",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    site = sysconfig.get_path("purelib")
    code = f"import sys; sys.path.append({site!r}); import strata\n{_SHOW}"
    usual = run(tmp_path, code)
    strata.bundle.write(str(tmp_path))
    bundled = run(tmp_path, code)
    number, classes = json.loads(bundled)
    assert number > 250
    assert classes["strata.oci.manifest.Platform"][1]
    assert bundled == usual
