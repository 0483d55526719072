"""The commands on what was removed: undo, and the trash."""

from __future__ import annotations

import time

from strata.cli import losses
from strata.cli.context import Context, note, say
from strata.errors import NotFound, StoreMissing, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from strata.cli.parse import Options


def undo(context: Context, options: Options, arguments: list[str]) -> int:
    """Bring back what a command removed."""
    from strata.cli.format import ago
    from strata.engine.history import restoring

    try:
        _ = context.engine
    except StoreMissing as error:
        return _undo_reset(context, options, error)
    try:
        operation = restoring.choose_operation(context.engine, arguments[0] if arguments else None)
    except NotFound as error:
        if not arguments and _list_aside(context):
            error.hint = "a store that was removed here is kept: `strata system reset` and then " \
                "`strata undo` bring it in place of this one"  # fmt: skip
        raise
    done = operation["Command"] or operation["Verb"]
    note(f"{operation['Operation']}: strata {done}, {ago(operation['Removed'], time.time())}")
    if options.flag("dry-run"):
        for row in operation["Objects"]:
            say(f"would bring back {row['Kind']} {row['Name']}")
        return 0
    found = restoring.undo(context.engine, operation)
    for row in found["Restored"]:
        _show_restored(row)
    for row in found["Failed"]:
        text = row["Error"]
        if "cannot come back" not in text:
            text = f"{row['Kind']} {row['Name']} did not come back: {text}"
        _show_failure(text, row["Hint"])
    return 125 if found["Failed"] else 0


def _undo_reset(context: Context, options: Options, missing: StoreMissing) -> int:
    """There is no store: bring back the one that a reset set aside, if it did."""
    from strata.cli.format import ago
    from strata.engine.core import get_roots
    from strata.engine.system import aside

    root, _ = get_roots(context.root, context.runroot)
    entries = _list_aside(context)
    if not entries:
        raise missing
    note(f"strata system reset, {ago(entries[0]['removed'], time.time())}")
    if options.flag("dry-run"):
        say(f"would bring back the store {entries[0]['place']}")
        return 0
    aside.bring_back(root)
    say(f"store {root}")
    return 0


def _list_aside(context: Context) -> list[dict[str, Any]]:
    """Stores that were removed here and are kept, the newest first."""
    from strata.engine.core import get_roots
    from strata.engine.system import aside

    return aside.list_entries(get_roots(context.root, context.runroot)[0])


def _show_restored(row: dict[str, Any]) -> None:
    say(f"{row['Kind']} {row['Name']}")
    for text in row["Notes"]:
        note(f"{row['Name']}: {text}")


def _show_failure(message: str, hint: str) -> None:
    from strata.cli.messages import show_text

    show_text(message, hint)


def _row(row: dict[str, Any], now: float, *, full: bool) -> dict[str, Any]:
    from strata.cli.format import ago, human_duration, human_size

    command = row["Command"]
    return {
        **row,
        "ID": row["Id"] if full else row["Id"][:12],
        "Command": command if full or len(command) <= 30 else f"{command[:27]}...",
        "RemovedSince": ago(row["Removed"], now),
        "Left": human_duration(max(0.0, row["Due"] - now)),
        "Size": "" if row["Size"] is None else human_size(row["Size"]),
        "Snapshots": ", ".join(row["Snapshots"]),
    }


def list_(context: Context, options: Options, arguments: list[str]) -> int:
    """List what is in the trash."""
    from strata.cli.format import show_rows
    from strata.engine.system import emptying

    found = emptying.list_trash(context.engine)
    now = time.time()
    show_rows(
        [_row(row, now, full=options.flag("no-trunc")) for row in found],
        [("ID", "ID"), ("KIND", "Kind"), ("NAME", "Name"), ("REMOVED", "RemovedSince"),
         ("KEPT FOR", "Left"), ("SIZE", "Size"), ("OPERATION", "Operation"),
         ("COMMAND", "Command"), ("SNAPSHOTS", "Snapshots")],
        format=options.text("format"),
        raw=found,
        heading=True,
    )  # fmt: skip
    return 0


def show(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about removed objects."""
    from strata.cli.format import show_objects
    from strata.engine.system import emptying

    show_objects(emptying.show(context.engine, arguments), options.maybe("format"))
    return 0


def restore(context: Context, options: Options, arguments: list[str]) -> int:
    """Bring back removed objects one by one."""
    from strata.cli.context import for_each
    from strata.engine.history import restoring

    name = options.maybe("name")
    if name is not None and len(arguments) > 1:
        raise UsageError("--name is for one object", hint="restore them one after the other")

    def act(text: str) -> None:
        [chosen] = restoring.choose_entries(context.engine, [text])
        if options.flag("dry-run"):
            row = restoring.describe(context.engine, chosen)
            say(f"would bring back {row['Kind']} {row['Name']}")
            return
        _show_restored(restoring.restore(
            context.engine, chosen, name=name, renumber=options.flag("renumber")
        ))  # fmt: skip

    return for_each(context, arguments, act)


def empty(context: Context, options: Options, arguments: list[str]) -> int:
    """Destroy what is in the trash before its time."""
    from strata.cli.handlers.containers import show_pruned
    from strata.engine.system import emptying

    everything, free = options.flag("all"), options.number("free")
    older = options.real("older-than")
    ways = [bool(arguments), everything, free is not None, older is not None]
    if sum(ways) != 1:
        raise UsageError(
            "give names, or one of --all, --older-than and --free" if sum(ways) else
            "you must provide at least one name or id",
            hint="`strata trash ls` lists what is there",
        )  # fmt: skip
    rows = emptying.choose(
        context.engine, arguments, all=everything or free is not None, older_than=older
    )
    if free is not None:
        rows.reverse()
        rows = emptying.limit(context.engine, rows, free)
    if not rows:
        return 0
    if options.flag("dry-run"):
        for row in rows:
            say(f"would destroy {_describe(row)}")
        return 0
    _list(rows)
    if not context.confirm("This destroys the above for good.", force=options.flag("force")):
        return 1
    show_pruned(emptying.empty(context.engine, rows, until=free))
    return 0


def _list(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        note(_describe(row))


def _describe(row: dict[str, Any]) -> str:
    from strata.cli.format import ago

    return f"{losses.describe(row)}, removed {ago(row['Removed'], time.time())}"
