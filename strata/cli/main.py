"""The command line: find the command, read its options, call its handler, answer with a code.

This is the only place that turns an error into text and a code. Exit codes are Podman's: 125 when
strata itself failed, 126 and 127 when a container's command cannot run or is not found, 128+n
when signal n ended it, 130 for an interrupt; commands with codes of their own say so in their
help. Nothing is imported before it is needed: ``--version`` loads this module alone.
"""

from __future__ import annotations

import os
import sys

from strata.errors import StrataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata.cli.context import Context
    from strata.cli.parse import Options
    from strata.cli.table import Command

FAILURE = 125
INTERRUPTED = 130
OUTPUT_CLOSED = 141

#: commands with options whose defaults containers.conf may change
_CONFIGURED = frozenset(("run", "create", "exec", "attach", "start"))

#: options before a command that change its own (`strata.cli.before`)
_BEFORE = frozenset(("config", "debug", "log-level", "remote", "runtime"))


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
    from strata.cli.parse import check_arguments, parse

    settings, words = _parse_before(words)
    if settings.flag("version"):
        return _dispatch(["--version"])
    if settings.flag("help") or not words:
        from strata.cli.help import render_top

        if settings.flag("help"):
            print(render_top(), end="")
            return 0
        raise UsageError("missing command 'strata COMMAND'", hint="see 'strata --help'")
    command, rest = _resolve(words)
    if command is None:
        return 0
    options, arguments = parse(command, rest)
    if options.flag("help"):
        from strata.cli.help import render_command

        print(render_command(command), end="")
        return 0
    check_arguments(command, arguments)
    if settings.any_given(_BEFORE) or options.any_given(_BEFORE):
        from strata.cli.before import apply

        apply(command, settings, options)
    from strata.cli.context import Context

    context = Context(
        options.maybe("root") or settings.maybe("root"),
        options.maybe("runroot") or settings.maybe("runroot"),
        trace=options.flag("trace") or settings.flag("trace"),
        # The words of a command that takes an environment may hold a password.
        words=[*command.name.split(), *(rest if command.find("--env") is None else ())],
    )
    if command.name in _CONFIGURED:
        _apply_defaults(command, options, context)
    module, _, function = command.handler.partition(":")
    handlers = __import__(f"strata.cli.handlers.{module}", fromlist=[function])
    code: int = getattr(handlers, function)(context, options, arguments)
    return code


def _apply_defaults(command: Command, options: Options, context: Context) -> None:
    """Read containers.conf, where there is one."""
    from strata.engine import settings
    from strata.engine.core import get_roots

    _, runroot = get_roots(context.root, context.runroot)
    found = settings.load(runroot)
    if found:
        from strata.cli import defaults

        defaults.apply(command, options, found)


def _parse_before(words: list[str]) -> tuple[Options, list[str]]:
    """Read the options before the command; return them and the words from it on."""
    from strata.cli.parse import Options, parse

    if words and words[0][:1] != "-":
        return Options(), words
    from strata.cli.before import BEFORE

    return parse(BEFORE, words)


def _resolve(words: list[str]) -> tuple[Command | None, list[str]]:
    """Find the command that the first words name; return it with the words after its name.

    None when the help of a group was printed instead.
    """
    from strata.cli.index import GROUP_DEFAULTS, GROUPS, find_command

    word, rest = words[0], words[1:]
    path = word
    if word in GROUPS:
        if not rest or rest[0] in ("--help", "-h"):
            if not rest:
                raise UsageError(
                    f"missing command 'strata {word} COMMAND'", hint=f"see 'strata {word} --help'"
                )
            from strata.cli.help import render_group

            print(render_group(word), end="")
            return None, []
        path, rest = f"{word} {rest[0]}", rest[1:]
    command = find_command(path)
    if (
        command is None
        and word in GROUP_DEFAULTS
        and (word == "fork" or "@" in path or f"{word} -" in path)
    ):
        command, rest = find_command(GROUP_DEFAULTS[word]), words[1:]
    if command is None:
        raise _unknown_command(path)
    return command, rest


def _unknown_command(path: str) -> UsageError:
    from strata.cli.index import GROUPS, MODULES
    from strata.cli.unavailable import find_command_reason, suggest

    group, _, word = path.rpartition(" ")
    reason = find_command_reason(path)
    if reason:
        return UsageError(
            f"'strata {path}' is not available in this version: {reason}",
            hint="'strata --help' lists what there is",
        )
    prefix = f"{group} " if group else ""
    known = [name.removeprefix(prefix) for name in MODULES if name.startswith(prefix)]
    known = [name for name in known if " " not in name] + ([] if group else list(GROUPS))
    nearest = suggest(word, known)
    hint = f"try 'strata {prefix}--help'"
    if nearest:
        hint = f"did you mean 'strata {prefix}{nearest}'?"
    elif group == "snapshot":
        hint = f"a snapshot is called TARGET@NAME, as in 'strata snapshot {word}@before-upgrade'"
    return UsageError(f"unrecognized command 'strata {path}'", hint=hint)
