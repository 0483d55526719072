"""``--dry-run`` and ``--now``, the same for every command that removes something.

What would go is an answer and goes to standard output; what goes before a question is for people.
"""

from __future__ import annotations

import sys

from strata.cli.context import Context, note, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from strata.cli.parse import Options

    Row = dict[str, Any]


def describe(row: Row) -> str:
    """One line about what goes: ``volume data (12 MB, with the snapshots a, b)``."""
    from strata.cli.format import human_size

    details = [] if row["Size"] is None else [human_size(row["Size"])]
    along = list(row.get("With") or ())
    if row["Snapshots"]:
        plural = "s" if len(row["Snapshots"]) > 1 else ""
        shown = row["Snapshots"][:10]
        more = f" and {len(row['Snapshots']) - 10} more" if len(row["Snapshots"]) > 10 else ""
        along.append(f"the snapshot{plural} {', '.join(shown)}{more}")
    if along:
        details.append(f"with {' and '.join(along)}")
    return f"{row['Kind']} {row['Name'] or row['Id'][:12]}" + (
        f" ({', '.join(details)})" if details else ""
    )


def is_dry(options: Options, find: Callable[[], Sequence[Row]]) -> bool:
    """With ``--dry-run``: print what would go, and nothing goes."""
    if not options.flag("dry-run"):
        return False
    for row in find():
        say(f"would remove {describe(row)}")
    return True


def confirm(
    context: Context, options: Options, warning: str, find: Callable[[], Sequence[Row]]
) -> bool:  # fmt: skip
    """Ask, after listing what would go; without a terminal only ``--force`` is a yes."""
    if not options.flag("force") and sys.stdin.isatty():
        for row in find():
            note(f"  {describe(row)}")
    if not context.confirm(warning, force=options.flag("force")):
        return False
    take(context, options)
    return True


def take(context: Context, options: Options) -> None:
    """Let the command destroy what it removes when ``--now`` says so."""
    if options.flag("now"):
        context.engine.destroys = True


def show_way_back(context: Context) -> None:
    """Say at a terminal how to take a removal back."""
    e = context.engine
    if sys.stderr.isatty() and e.buried and not e.destroys:
        note(f"'strata undo {e.origin['operation']}' brings it back")
