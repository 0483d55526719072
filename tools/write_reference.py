#!/usr/bin/python3 -IB
"""Write the pages under docs/ that the source already knows: tools/write_reference.py

- ``docs/exit-codes.md`` from the error classes (read as syntax trees),
- ``docs/commands.md`` from the tables of the command line,
- ``docs/podman.md`` from the same tables and the list of what Podman has,
- ``docs/volume-options.md`` from the table of native properties and profiles.

``--check`` writes nothing and exits 1 when a page is not what would be written.
"""

import ast
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TOP)

WRITTEN = "*Written by `tools/write_reference.py` from the source; edit that, not this page.*\n"

EXIT_CODES = f"""\
# Exit codes and error ids

{WRITTEN}
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


def render_exit_codes(classes: list[Found]) -> str:
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
    return EXIT_CODES + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


LIMITS = """
## Limits

| What may be | counts its data | counts its image | counts its snapshots | on btrfs |
|---|---|---|---|---|
| `size=10G` | yes | no | no | yes |
| `refquota=10G` | yes | yes | no | yes |
| `quota=10G` | yes | no | yes | refused |

`size` is the one to use: what a container may add to its image, or what a volume may hold. It is
the same after a rollback, on a clone and a fork, and when what was removed comes back. Inside, a
write past a limit fails with EDQUOT (`Disk quota exceeded`); a full pool is ENOSPC. What Strata
itself writes there (`cp`, `volume import`, filling a volume from its image) fails with one line
that names the limit and how to raise it. A limit below what is held already is refused; `=none`
ends one. `volume inspect` (`Limits`), `inspect` (`StorageLimits`) and `system df -v` show limits
and use; `system check` finds one that was taken away by hand, and `--repair` sets it again.

`reservation` and `refreservation` keep space of the pool free for the head; a branch that a
rollback leaves behind gives its reservation back.

On btrfs limits need quota groups, which cost every write and removal of the whole pool, the more
the more clones share data: 30 times a clone of an image and 40 new files took 10 to 20 times as
long with them. So they are on only while some dataset, removed ones in the trash included, has a
limit. What a container puts in a subvolume that it makes itself (`btrfs subvolume create`) is not
counted.
"""


def render_volume_options() -> str:
    """Native properties users may set, and profiles, with what each driver makes of them."""
    from strata.storage import properties

    lines = [
        "# Options and profiles of volumes", "", WRITTEN,
        "`strata volume create -o NAME=VALUE` sets a native property of the volume's dataset,",
        "`--storage-opt NAME=VALUE` one of a container's. Everything not listed is refused: where",
        "a dataset appears and who may share or unlock it is for the engine and the pool's owner.",
        "Both can be changed later: `strata volume update -o …`, `strata update --storage-opt …`.",
        "",
        "| Property | Meaning | Values | On btrfs |", "|---|---|---|---|",
    ]  # fmt: skip
    forms = {"recordsize": "512 to 16M, a power of two", "compression": ", ".join(
        properties.COMPRESSION) + ", gzip-1…9, zstd-1…19, zstd-fast-N"}  # fmt: skip
    for name, entry in properties.PROPERTIES.items():
        values = ", ".join(entry.values) or forms.get(name, "a size such as 10G, or none")
        _, notes = properties.fit(
            {name: "zstd" if name == "compression" else entry.values[0] if entry.values else "1"},
            properties.BTRFS, optional={name},
        )  # fmt: skip
        there = f"refused: {notes[0].partition(': ')[2]}" if notes else "yes"
        lines.append(f"| `{name}` | {_cell(entry.meaning)} | {_cell(values)} | {_cell(there)} |")
    lines += ["", *LIMITS.strip().splitlines()]
    lines += [
        "", "## Profiles", "",
        "`strata volume create --profile NAME` starts from a row of this table; `-o` overrides it.",
        "What a driver cannot honour is left out and said. Defaults to measure against, no truths.",
        "",
        "| Profile | Properties | Why |", "|---|---|---|",
    ]  # fmt: skip
    for profile in properties.PROFILES.values():
        shown = ", ".join(f"{name}={value}" for name, value in profile.properties.items())
        lines.append(f"| `{profile.name}` | {shown} | {_cell(profile.reason)} |")
    return "\n".join(lines) + "\n"


def render_all() -> dict[str, str]:
    """Path below the tree -> text."""
    from strata.cli import podman, reference

    with open(os.path.join(TOP, "tools/podman-surface.txt"), encoding="utf-8") as file:
        surface = podman.read_surface(file.read())
    return {
        "docs/exit-codes.md": render_exit_codes(list_classes(os.path.join(TOP, "strata"))),
        "docs/commands.md": reference.render(),
        "docs/podman.md": podman.render(surface, WRITTEN),
        "docs/volume-options.md": render_volume_options(),
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    stale = []
    for page, text in render_all().items():
        path = os.path.join(TOP, page)
        found = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found = file.read()
        if found == text:
            continue
        stale.append(page)
        if arguments != ["--check"]:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            print(f"wrote {page}")
    if stale and arguments == ["--check"]:
        print(f"not current: {', '.join(stale)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
