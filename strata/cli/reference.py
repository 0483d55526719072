"""The reference of all commands, in Markdown, from the tables.

``python -m strata.cli.reference`` prints it; ``docs/commands.md`` is its output and a test keeps
it so.
"""

from __future__ import annotations

import sys

from strata.cli.before import FOREIGN_OPTIONS
from strata.cli.help import describe_option
from strata.cli.index import GROUPS, list_commands
from strata.cli.table import GLOBAL_OPTIONS, Command, Option

_HEAD = """\
# Commands

Names, options and exit codes are Podman's wherever both have a verb. Lists and maps are given by
repeating the option. Sizes are binary (`512m`, `1g`), durations are Go's (`10s`, `1h30m`).

Exit codes: 125 when strata itself failed, 126 when a container's command cannot run, 127 when it
is not found, 128+n when signal n ended it, 130 for an interrupt; else the container's own code.
Commands with codes of their own say so.

Environment: `STRATA_ROOT` and `STRATA_RUNROOT` stand for `--root` and `--runroot`;
`STRATA_DEBUG=1` prints the traceback of an error.
"""

_FOREIGN = """\
Those of Podman and Docker, before or behind a command (behind it in their long form):
"""


def render() -> str:
    """Return the reference."""
    commands = [command for command in list_commands() if not command.hidden]
    top = [command for command in commands if " " not in command.name]
    parts = [_HEAD, "## Options of every command\n", _options(GLOBAL_OPTIONS)]
    parts += [_FOREIGN, _options(FOREIGN_OPTIONS)]
    parts += [_command(command) for command in sorted(top, key=lambda c: c.name)]
    for group, summary in GROUPS.items():
        links, own = [], []
        for command in commands:
            for path in command.paths:
                if path == command.name and path.startswith(f"{group} "):
                    own.append(_command(command, level=3))
                elif path.startswith(f"{group} ") and " " not in command.name:
                    links.append(
                        f"- `strata {path}` is [strata {command.name}](#strata-{command.name})"
                    )
        parts.append(f"## strata {group}\n\n{summary}.\n")
        parts += [*links, ""] if links else []
        parts += own
    return "\n".join(parts).rstrip() + "\n"


def _command(command: Command, level: int = 2) -> str:
    words = ["strata", command.name, "[OPTIONS]" if command.options else "", command.usage]
    lines = [f"{'#' * level} strata {command.name}", "", f"{command.summary}.", ""]
    lines += ["```", " ".join(word for word in words if word), "```", ""]
    others = [f"`strata {path}`" for path in command.paths[1:]]
    if others:
        lines += [f"Also {', '.join(others)}.", ""]
    if command.text:
        lines += [command.text, ""]
    if command.options:
        lines.append(_options(command.options))
    if command.examples:
        lines += ["```", *command.examples, "```", ""]
    return "\n".join(lines)


def _options(options: tuple[Option, ...]) -> str:
    lines = ["| Option | Meaning |", "|---|---|"]
    for option in options:
        names, text = describe_option(option)
        cells = (f"`{names.strip()}`".replace("|", "\\|"), text.replace("|", "\\|"))
        lines.append(f"| {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(render())
