"""Manual pages from the tables: ``strata.1`` and one page for every command.

``python -m strata.cli.man DIRECTORY`` writes them; `./quickstart` does so for the host. The macros
are those of man(7), which groff and mandoc both read.
"""

from __future__ import annotations

import os
import sys

from strata import __version__
from strata.cli.before import BEFORE
from strata.cli.help import describe_option
from strata.cli.index import GROUPS, list_commands
from strata.cli.table import GLOBAL_OPTIONS, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_EXIT = """\
125 when strata itself failed, 126 when a container's command cannot run, 127 when it is not found,
128+n when signal n ended it, 130 after an interrupt; else the code of the container's process."""

_ENVIRONMENT = (
    ("STRATA_ROOT, STRATA_RUNROOT", "Stand for --root and --runroot."),
    ("STRATA_DEBUG", "When set, an error comes with its traceback."),
    ("CONTAINERS_CONF, CONTAINERS_CONF_OVERRIDE",
     "A containers.conf(5) to read instead of, or over, those of the host."),
    ("REGISTRY_AUTH_FILE", "Where registry credentials are."),
)  # fmt: skip


def render_pages() -> dict[str, str]:
    """File name -> text, for every page."""
    commands = [command for command in list_commands() if not command.hidden]
    pages = {"strata.1": _render_top(commands)}
    for command in commands:
        pages[page_name(command.name)] = _render_command(command)
        for path in command.paths[1:]:
            pages[page_name(path)] = f".so man1/{page_name(command.name)}\n"
    return pages


def page_name(path: str) -> str:
    """The file of a command's page: ``volume create`` is ``strata-volume-create.1``."""
    return f"strata-{path.replace(' ', '-')}.1"


def escape(text: str) -> str:
    """Text as roff takes it: no line of it is a request, no character an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


def _head(title: str, summary: str) -> list[str]:
    return [
        f'.TH {escape(title.upper())} 1 "" "strata {__version__}" "strata"',
        ".SH NAME", f"{escape(title)} \\- {escape(summary)}",
    ]  # fmt: skip


def _render_top(commands: list[Command]) -> str:
    lines = _head("strata", "containers, images and volumes as datasets, with a way back")
    lines += [".SH SYNOPSIS", ".B strata", escape("[OPTIONS] COMMAND [ARG...]")]
    lines += [".SH COMMANDS"]
    for command in sorted(commands, key=lambda command: command.name):
        title = escape(f"strata-{command.name.replace(' ', '-')}")
        lines += [".TP", f"\\fB{title}\\fR(1)", escape(command.summary)]
    lines += [".SH GROUPS"]
    for group, summary in GROUPS.items():
        lines += [".TP", f"\\fBstrata {escape(group)}\\fR", escape(summary)]
    lines += [*_options("OPTIONS", BEFORE.options), ".SH EXIT STATUS", escape(_EXIT)]
    lines += [".SH ENVIRONMENT"]
    for name, meaning in _ENVIRONMENT:
        lines += [".TP", f"\\fB{escape(name)}\\fR", escape(meaning)]
    return "\n".join(lines) + "\n"


def _render_command(command: Command) -> str:
    lines = _head(f"strata-{command.name.replace(' ', '-')}", command.summary)
    lines.append(".SH SYNOPSIS")
    for path in command.paths:
        words = ["[OPTIONS]" if command.options else "", command.usage]
        shown = escape(" ".join(word for word in words if word))
        lines += [f"\\fBstrata {escape(path)}\\fR {shown}".rstrip(), ".br"]
    lines.pop()
    if command.text:
        lines += [".SH DESCRIPTION", escape(command.text)]
    if command.options:
        shown_options = [option for option in command.options if not option.hidden]
        lines += _options("OPTIONS", sorted(shown_options, key=lambda option: option.key))
    lines += _options("GLOBAL OPTIONS", GLOBAL_OPTIONS)
    if command.examples:
        lines += [".SH EXAMPLES", ".nf", *(escape(example) for example in command.examples), ".fi"]
    lines += [".SH EXIT STATUS", escape(_EXIT), ".SH SEE ALSO", "\\fBstrata\\fR(1)"]
    return "\n".join(lines) + "\n"


def _options(title: str, options: Iterable[Option]) -> list[str]:
    lines = [f".SH {title}"]
    for option in options:
        names, text = describe_option(option)
        lines += [".TP", f"\\fB{escape(names.strip())}\\fR", escape(text)]
    return lines


def write_pages(folder: str) -> int:
    """Write all pages below ``folder``, a ``man1``; return their number. Stale ones go."""
    os.makedirs(folder, exist_ok=True)
    pages = render_pages()
    for name in os.listdir(folder):
        if name.startswith("strata") and name not in pages:
            os.unlink(f"{folder}/{name}")
    for name, text in pages.items():
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    return len(pages)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m strata.cli.man DIRECTORY")
    write_pages(sys.argv[1])
