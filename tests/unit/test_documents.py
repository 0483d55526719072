"""The documents say what the source says."""

from __future__ import annotations

import importlib.util
import os
import re
from types import ModuleType

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _load_tool(name: str) -> ModuleType:
    path = os.path.join(TOP, "tools", f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: str) -> str:
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize(
    "page", ["docs/exit-codes.md", "docs/commands.md", "docs/podman.md", "docs/volume-options.md"]
)
def test_what_the_source_knows_is_written_down(page: str) -> None:
    tool = _load_tool("write_reference")
    is_current = _read(page) == tool.render_all()[page]
    assert is_current, "run tools/write_reference.py"


def test_error_ids_are_unique() -> None:
    ids = re.findall(r"^\| `([a-z-]+)`", _read("docs/exit-codes.md"), re.M)
    assert len(ids) == len(set(ids))
    assert {"usage", "not-found", "store-missing", "in-use", "no-space"} <= set(ids)


@pytest.mark.parametrize(
    "page",
    sorted(
        ["README.md", "SCOPE.md", "STYLE.md", "CHANGELOG.md"]
        + [f"docs/{name}" for name in os.listdir(os.path.join(TOP, "docs")) if name.endswith(".md")]
    ),
)
def test_links_between_documents_lead_somewhere(page: str) -> None:
    folder = os.path.dirname(os.path.join(TOP, page))
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", _read(page)):
        if "://" not in target:
            assert os.path.exists(os.path.join(folder, target)), f"{page}: {target}"
