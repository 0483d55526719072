"""``--dry-run`` and ``--now``, the same for every command that removes something.

What would go is an answer and goes to standard output; what goes before a question is for people.
"""

from __future__ import annotations

import sys

from strata.cli.context import Context, for_each, note, say
from strata.errors import InUse, StateImproper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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
        say(f"would {row.get('Act') or 'remove'} {describe(row)}")
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


def remove_each(
    context: Context, options: Options, wanted: Iterable[str], act: Callable[[str], object],
    find: Callable[[], Sequence[Row]],
) -> int:  # fmt: skip
    """Remove what is named with ``act``, one by one; return the exit code. ``find``: for
    ``--dry-run``."""
    try:
        if is_dry(options, find):
            return 0
    except (InUse, StateImproper) as error:
        error.exit_code = 2  # as without
        raise
    take(context, options)
    code = for_each(context, wanted, act, classify=True)
    show_way_back(context)
    return code


def prune(
    context: Context, options: Options, kind: str, warning: str,
    act: Callable[[dict[str, list[str]]], object], *, all: bool = False,
) -> int:  # fmt: skip
    """Remove with ``act``, which gets the filters, what nobody needs of a kind; return the exit
    code. Asks before."""
    from strata.cli.values import parse_filters

    filters = parse_filters(options.list("filter"))

    def find() -> list[Row]:
        from strata.engine.losses import list_prunable

        return list_prunable(context.engine, kind, filters, all=all)

    if not is_dry(options, find) and confirm(context, options, warning, find):
        act(filters)
        show_way_back(context)
    return 0


def take(context: Context, options: Options) -> None:
    """Let the command destroy what it removes when ``--now`` says so."""
    if options.flag("now"):
        context.engine.destroys = True


def show_way_back(context: Context) -> None:
    """Say at a terminal how to take a removal back."""
    e = context.engine
    if sys.stderr.isatty() and e.buried and not e.destroys:
        note(f"'strata undo {e.origin['operation']}' brings it back")
