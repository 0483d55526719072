"""The command line: run one (`strata.cli.dispatch`), and answer with text and a code.

This is the only place that turns an error into text and a code. Exit codes are Podman's: 125 when
strata itself failed, 126 and 127 when a container's command cannot run or is not found, 128+n
when signal n ended it, 130 for an interrupt; commands with codes of their own say so in their
help. Nothing is imported before it is needed: ``--version`` loads this module alone.
"""

from __future__ import annotations

import os
import sys

from strata.errors import StrataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FAILURE = 125
INTERRUPTED = 130
OUTPUT_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name); return the exit code. Never raises."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        return explain(error)


def explain(error: BaseException) -> int:
    """Print what went wrong and return its exit code."""
    if os.environ.get("STRATA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError) and _is_output_closed():
        # The reader has gone (`strata ps | head -1`); keep the interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OUTPUT_CLOSED
    from strata.cli.messages import show_error, show_text

    if isinstance(error, StrataError):
        show_error(error)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        show_text(f"{where}{error.strerror.lower()}", "set STRATA_DEBUG=1 to see where it happened")
        return FAILURE
    show_text(
        f"internal error: {type(error).__name__}: {error}",
        "run it again with STRATA_DEBUG=1 for the traceback, and report it",
    )
    return FAILURE


def _is_output_closed() -> bool:
    """Whether nobody reads standard output any more."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def _dispatch(words: list[str]) -> int:
    if words in (["--version"], ["-v"]):
        from strata import __version__

        print(f"strata version {__version__}")
        return 0
    from strata.cli.dispatch import dispatch

    return dispatch(words)
