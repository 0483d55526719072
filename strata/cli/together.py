"""The same for several objects at once, where each is a matter of waiting.

A child of this process for each: the engine is made for one verb at a time, and a child's locks
and journal are its own.
"""

from __future__ import annotations

import os
import sys

from strata.cli import main
from strata.cli.context import Context, for_each, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AT_ONCE = 32


def for_each_at_once(
    context: Context, names: Sequence[str], act: Callable[[str], object]
) -> int:  # fmt: skip
    """As `for_each`, at the same time; prints the names that went well, in their order."""
    _ = context.engine
    sys.stdout.flush()
    code = 0
    running: list[tuple[int, str]] = []
    left = list(names)
    while left or running:
        while left and len(running) < _AT_ONCE:
            name = left.pop(0)
            running.append((_fork(context, name, act), name))
        pid, name = running.pop(0)
        found = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if found:
            code = max(code, found if found > 0 else 128 - found)
        else:
            say(name)
    return code


def _fork(context: Context, name: str, act: Callable[[str], object]) -> int:
    child = os.fork()
    if child:
        return child
    code = main.FAILURE
    try:
        try:
            code = for_each(context, [name], act)
        except KeyboardInterrupt:
            code = main.INTERRUPTED
        except BaseException as error:
            code = main.explain(error)
        sys.stdout.flush()
    finally:
        os._exit(code)
