"""The commands on pools beside the store's own."""

from __future__ import annotations

from strata.cli.context import Context, for_each, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options


def add(context: Context, options: Options, arguments: list[str]) -> int:
    """Configure a pool and print its name."""
    from strata.engine import pools

    say(pools.add(context.engine, arguments[0], arguments[1])["Name"])
    return 0


def list_(context: Context, options: Options, arguments: list[str]) -> int:
    """List pools."""
    from strata.cli.format import human_size, show_rows
    from strata.engine import pools

    found = pools.list_pools(context.engine)
    if options.flag("quiet"):
        for row in found:
            say(row["Name"])
        return 0

    def size(number: int | None) -> str:
        return "" if number is None else human_size(number)

    rows = [
        {**row, "Size": size(row["Size"]), "Free": size(row["Free"]), "_raw": row,
         "State": "missing" if row["Error"] else "there"}
        for row in found
    ]  # fmt: skip
    columns = [("POOL", "Name"), ("STATE", "State"), ("SIZE", "Size"), ("FREE", "Free"),
               ("VOLUMES", "Volumes"), ("PLACE", "Place")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found,
              heading=not options.flag("noheading"))  # fmt: skip
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Forget pools."""
    from strata.engine import pools

    def act(name: str) -> None:
        pools.remove(context.engine, name, force=options.flag("force"))
        say(name)

    return for_each(context, arguments, act)
