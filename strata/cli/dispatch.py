"""From a command line to its handler: options before the command, the command, its options.

Its imports are what every command needs; what one needs is imported when it is known.
"""

from __future__ import annotations

from strata.cli import handlers
from strata.cli.context import Context
from strata.cli.index import GROUP_DEFAULTS, GROUPS, find_command
from strata.cli.parse import Options, check_arguments, parse
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.table import Command

#: commands with options whose defaults containers.conf may change
_CONFIGURED = frozenset(("run", "create", "exec", "attach", "start"))

#: options before a command that change its own (`strata.cli.before`)
_BEFORE = frozenset(("config", "debug", "log-level", "remote", "runtime"))


def dispatch(words: list[str]) -> int:
    """Run one command line; return the exit code. Raises what goes wrong."""
    settings, words = _parse_before(words)
    if settings.flag("version"):
        from strata import __version__

        print(f"strata version {__version__}")
        return 0
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
    loaded = __import__(f"{handlers.__name__}.{module}", fromlist=[function])
    code: int = getattr(loaded, function)(context, options, arguments)
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
    if words and words[0][:1] != "-":
        return Options(), words
    from strata.cli.before import BEFORE

    return parse(BEFORE, words)


def _resolve(words: list[str]) -> tuple[Command | None, list[str]]:
    """Find the command that the first words name; return it with the words after its name.

    None when the help of a group was printed instead.
    """
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
    from strata.cli.index import MODULES
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
