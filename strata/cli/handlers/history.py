"""The commands on what containers and volumes were."""

from __future__ import annotations

import os
import sys

from strata.cli import losses
from strata.cli.context import Context, note, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def log(context: Context, options: Options, arguments: list[str]) -> int:
    """Draw the history of a target."""
    from strata.cli.format import show_rows, write_lines
    from strata.engine.history import graph

    found = graph.read(context.engine, arguments[0], sizes=options.flag("size"))
    if options.text("format"):
        show_rows(found["Rows"], [("NAME", "Name"), ("KIND", "Kind")],
                  format=options.text("format"))  # fmt: skip
        return 0
    from strata.cli import graph as drawing

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    write_lines(drawing.draw(found, colour=colour, plain=not drawing.knows_utf8(os.environ)))
    return 0


def switch(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a branch the head."""
    from strata.cli.handlers.snapshots import show_moved
    from strata.engine.history import heads

    done = heads.switch(context.engine, *arguments, stop=not options.flag("no-stop"))
    say(f"{done['Target']} {done['Head']}")
    show_moved(done)
    return 0


def fork(context: Context, options: Options, arguments: list[str]) -> int:
    """Copy containers with their volumes, and start the copies."""
    from strata.engine.history import forks as engine_forks

    name = options.text("as")
    if not name:
        raise UsageError("the fork needs a name", hint="strata fork CONTAINER... --as NAME")
    made = engine_forks.fork(
        context.engine, arguments, name, start=not options.flag("no-start"),
        quiesce=options.text("quiesce"), report=note,
    )  # fmt: skip
    for member in made["Containers"]:
        say(member["Name"])
    return 0


def forks(context: Context, options: Options, arguments: list[str]) -> int:
    """List forks."""
    from strata.cli.format import show_rows
    from strata.engine.history import forks as engine_forks

    found = engine_forks.list_forks(context.engine)
    rows = [
        {**row, "Members": [f"{member['Name']} ({member['Status']})"
                            for member in row["Containers"]]}
        for row in found
    ]  # fmt: skip
    columns = [("FORK", "Name"), ("CONTAINERS", "Members"), ("VOLUMES", "Volumes"),
               ("NETWORKS", "Networks")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found)
    return 0


def remove_forks(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove forks."""
    from strata.engine.history import forks as engine_forks

    def find() -> list[dict[str, Any]]:
        return [row for name in arguments
                for row in engine_forks.plan_removal(context.engine, name)]  # fmt: skip

    def act(name: str) -> None:
        for gone in engine_forks.remove(context.engine, name, time=options.number("time")):
            say(gone)

    if options.flag("discard"):
        context.engine.destroys = True
    return losses.remove_each(context, options, arguments, act, find)


def branches(context: Context, options: Options, arguments: list[str]) -> int:
    """List the head and the branches of a target."""
    import time

    from strata.cli.format import ago, human_size, show_rows
    from strata.engine.history import branches as engine_branches

    found = engine_branches.list_branches(context.engine, arguments[0])
    now = time.time()
    rows = [
        {
            **row,
            "Mark": "*" if row["Head"] else "",
            "LeftSince": "" if row["Left"] is None else ago(row["Left"], now),
            "Size": "" if row["Used"] is None else human_size(row["Used"]),
        }
        for row in found
    ]
    columns = [("HEAD", "Mark"), ("BRANCH", "Name"), ("GENERATION", "Generation"),
               ("LEFT", "LeftSince"), ("SIZE", "Size"), ("SNAPSHOTS", "Snapshots")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found)
    return 0


def rename(context: Context, options: Options, arguments: list[str]) -> int:
    """Give a branch another name."""
    from strata.engine.history import branches as engine_branches

    engine_branches.rename(context.engine, *arguments)
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove branches."""
    from strata.engine.history import branches as engine_branches

    target, *wanted = arguments

    def act(name: str) -> None:
        for gone in engine_branches.remove(context.engine, target, [name], now=options.flag("now")):
            say(gone)

    return losses.remove_each(
        context, options, wanted, act,
        lambda: engine_branches.plan_removal(context.engine, target, wanted),
    )  # fmt: skip
