"""What of Podman's command line is here: every command and option, with a verdict.

The list of what Podman has is ``tools/podman-surface.txt``; the verdicts come from the tables of
this command line (there, or there with a difference) and from `strata.cli.unavailable` (not here,
why). ``docs/podman.md`` is made from both, so it cannot say more than the program does.
"""

from __future__ import annotations

from strata.cli import unavailable
from strata.cli.before import BEFORE
from strata.cli.index import find_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from strata.cli.table import Command

    #: a command's path and, of each option, its names
    Surface = list[tuple[str, list[list[str]]]]

YES, DIFFERS, ABSENT = "yes", "differs", "not here"
#: stands for the options before a command
TOP = "podman"

_HEAD = """\
# Podman's command line here

{written}
`alias podman=strata` and `alias docker=strata` are meant to go on with the day's work. This page
holds every command and option of Podman 5 against the tables of this program. *yes*: the same words
mean the same. *differs*: they work, with the difference named. *not here*: refused, with that
reason. The row `podman` holds the options before a command.

"""


def read_surface(text: str) -> Surface:
    """Read lines of ``command: -o/--option --other``."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            path, _, options = line.partition(":")
            found.append((path, [names.split("/") for names in options.split()]))
    return found


def judge_command(path: str) -> tuple[str, str]:
    """The verdict on a command and, unless it is `YES`, why; "" when nobody gave a reason."""
    command = _find(path)
    if command is None:
        return ABSENT, unavailable.find_command_reason(path)
    return (DIFFERS, command.differs) if command.differs else (YES, "")


def judge_option(path: str, names: Iterable[str]) -> tuple[str, str]:
    """The verdict on one option of a command that is here."""
    command = _find(path)
    assert command is not None
    for name in names:
        option = command.find(name)
        if option is not None:
            return (DIFFERS, option.differs) if option.differs else (YES, "")
    for name in names:
        reason = unavailable.find_option_reason("" if path == TOP else path, name)
        if reason:
            return ABSENT, reason
    return ABSENT, ""


def _find(path: str) -> Command | None:
    return BEFORE if path == TOP else find_command(path)


def render(surface: Surface, written: str) -> str:
    """The page."""
    counts = dict.fromkeys((YES, DIFFERS, ABSENT), 0)
    rows: list[str] = []
    for path, options in surface:
        verdict, why = judge_command(path)
        counts[verdict] += 1
        notes = [why] if why else []
        if verdict != ABSENT:
            notes += _note_options(path, options, counts)
        cell = "<br>".join(notes).replace("|", "\\|")
        rows.append(f"| `{path}` | {verdict} | {cell} |")
    summary = (
        f"Of {sum(counts.values())} commands, and options of commands that are here, "
        f"{counts[YES]} are the same, {counts[DIFFERS]} differ and {counts[ABSENT]} are missing.\n"
    )
    table = ["| Podman | Here | What differs or is missing |", "|---|---|---|", *rows]
    return _HEAD.format(written=written) + summary + "\n" + "\n".join(table) + "\n"


def _note_options(path: str, options: list[list[str]], counts: dict[str, int]) -> list[str]:
    """A line for each reason, with the options it holds for."""
    notes: dict[tuple[str, str], list[str]] = {}
    for names in options:
        verdict, why = judge_option(path, names)
        counts[verdict] += 1
        if verdict != YES:
            notes.setdefault((verdict, why), []).append(f"`{names[-1]}`")
    return [f"{', '.join(shown)} {verdict}: {why}" for (verdict, why), shown in notes.items()]
