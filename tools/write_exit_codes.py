#!/usr/bin/python3 -I
"""Write docs/exit-codes.md from the error classes in the source: tools/write_exit_codes.py

Reads the syntax trees, so nothing is imported. ``--check`` writes nothing and exits 1 when the
page is not what would be written.
"""

import ast
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = "docs/exit-codes.md"

HEAD = """\
# Exit codes and error ids

*Written by `tools/write_exit_codes.py` from the error classes; edit those, not this page.*

| Code | Meaning |
|---|---|
| 0 | done |
| 1 | the answer to a question is no (`exists`), or what `system check` looked for was found |
| 125 | Strata itself failed; the table below says in which ways |
| 126 | the container's command was found and cannot be run |
| 127 | the container's command was not found |
| 128 + n | the container's process was ended by signal n (137 is KILL, 143 is TERM) |
| other | what the container's process returned, for `run`, `start --attach`, `exec` and `attach` |

An error is one line on standard error, `Error: ` and a sentence, and mostly a second one that says
what to do next. The id is stable: scripts may rely on it, and not on the sentence.

| Id | Is a | Code | Meaning |
|---|---|---|---|
"""


class Found:
    """One error class as the source has it."""

    def __init__(self, node: ast.ClassDef) -> None:
        self.name = node.name
        self.bases = [ast.unparse(base).split(".")[-1] for base in node.bases]
        self.meaning = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        self.id = ""
        self.code = ""
        for entry in node.body:
            if not isinstance(entry, ast.Assign | ast.AnnAssign) or entry.value is None:
                continue
            target = entry.targets[0] if isinstance(entry, ast.Assign) else entry.target
            if ast.unparse(target) == "id":
                self.id = str(ast.literal_eval(entry.value))
            elif ast.unparse(target) == "exit_code":
                self.code = ast.unparse(entry.value)


def list_classes(folder: str) -> list[Found]:
    """Every class of the source below ``folder``, in the order of paths and lines."""
    found: list[Found] = []
    paths = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".py")
    )
    paths.sort(key=lambda path: not path.endswith("/errors.py"))
    for path in paths:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read(), path)
        found += [Found(node) for node in tree.body if isinstance(node, ast.ClassDef)]
    return found


def render(classes: list[Found]) -> str:
    """The page: `StrataError` and what descends from it, parents before children."""
    errors: dict[str, Found] = {}
    rows: list[str] = []

    def add(parent: str) -> None:
        for entry in classes:
            if parent not in entry.bases or entry.name in errors:
                continue
            above = errors[parent]
            # A subclass without an id of its own is the same error to a script.
            own = entry.id and entry.id != above.id
            entry.id = entry.id or above.id
            entry.code = entry.code or above.code
            errors[entry.name] = entry
            if own:
                meaning = entry.meaning.replace("|", "\\|").replace("``", "`")
                above_id = f"`{above.id}`" if parent != "StrataError" else ""
                rows.append(f"| `{entry.id}` | {above_id} | {entry.code} | {meaning} |")
            add(entry.name)

    base = next(entry for entry in classes if entry.name == "StrataError")
    errors[base.name] = base
    add(base.name)
    return HEAD + "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    text = render(list_classes(os.path.join(TOP, "strata")))
    path = os.path.join(TOP, PAGE)
    if arguments == ["--check"]:
        with open(path, encoding="utf-8") as file:
            return 0 if file.read() == text else 1
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
