"""The texts of ``--help``, rendered from the tables."""

from __future__ import annotations

from strata.cli.index import GROUPS, list_commands
from strata.cli.table import GLOBAL_OPTIONS, Command, Option

WIDTH = 100

_INTRODUCTION = "Containers, images and volumes as datasets, with a way back.\n"


def render_top() -> str:
    """Return the help of ``strata`` itself."""
    commands = [
        (path, command.summary)
        for command in list_commands()
        if not command.hidden
        for path in command.paths
        if " " not in path
    ]
    lines = [_INTRODUCTION, "Usage:", "  strata [OPTIONS] COMMAND [ARG...]", ""]
    lines += ["Commands:", *_columns(sorted(commands)), ""]
    lines += ["Groups (strata GROUP COMMAND):", *_columns(list(GROUPS.items())), ""]
    from strata.cli.before import BEFORE

    lines += ["Options:", *_render_options(BEFORE.options), ""]
    lines += ["'strata COMMAND --help' and 'strata GROUP --help' say more."]
    return "\n".join(lines) + "\n"


def render_group(group: str) -> str:
    """Return the help of a group such as ``volume``."""
    prefix = f"{group} "
    commands = [
        (path.removeprefix(prefix), command.summary)
        for command in list_commands()
        if not command.hidden
        for path in command.paths
        if path.startswith(prefix)
    ]
    lines = [f"{GROUPS[group]}.", "", "Usage:", f"  strata {group} COMMAND [OPTIONS] [ARG...]", ""]
    lines += ["Commands:", *_columns(sorted(commands))]
    return "\n".join(lines) + "\n"


def render_command(command: Command) -> str:
    """Return the help of one command."""
    lines = [f"{command.summary}.", ""]
    if command.text:
        lines += [command.text, ""]
    words = ["strata", command.name, "[OPTIONS]" if command.options else "", command.usage]
    lines += ["Usage:", "  " + " ".join(word for word in words if word), ""]
    if len(command.paths) > 1:
        lines += ["Also:", *(f"  strata {path}" for path in command.paths[1:]), ""]
    if command.examples:
        lines += ["Examples:", *(f"  {example}" for example in command.examples), ""]
    if command.options:
        shown = sorted((o for o in command.options if not o.hidden), key=lambda o: o.key)
        lines += ["Options:", *_render_options(shown), ""]
    lines += ["Global options:", *_render_options(GLOBAL_OPTIONS)]
    return "\n".join(lines) + "\n"


def describe_option(option: Option) -> tuple[str, str]:
    """Return an option's names with its value, and its help with choices and default."""
    short = [name for name in option.names if not name.startswith("--")]
    long = [name for name in option.names if name.startswith("--")]
    names = (f"{short[0]}, " if short else "    ") + ", ".join(long)
    if option.takes_value:
        names += f" {option.metavar}"
    text = option.help
    choices = [choice for choice in option.choices if choice]
    if choices and choices != [option.default]:
        text += f": {', '.join(choices)}"
    if option.kind == "flag":
        if option.default:
            text += " (default true)"
    elif option.default not in (None, "", 0) and option.metavar != "host|none":
        shown = f"{option.default:g}s" if option.kind == "duration" else option.default
        text += f" (default {shown})"
    return names, text


def _render_options(options: tuple[Option, ...] | list[Option]) -> list[str]:
    return _columns([describe_option(option) for option in options])


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    """Lay out two columns; the right one is wrapped."""
    left = min(38, max((len(name) for name, _ in rows), default=0) + 2)
    lines: list[str] = []
    for name, text in rows:
        wrapped = _wrap(text, WIDTH - left - 2)
        if len(name) + 2 > left:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name:<{left}}{wrapped.pop(0)}")
        lines += [" " * (left + 2) + rest for rest in wrapped]
    return lines


def _wrap(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]
