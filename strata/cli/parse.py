"""Read a command line by a command's table, the way Podman's flag library (pflag) does.

``--opt value``, ``--opt=value``, ``-o value``, ``-ovalue``, bundles of short flags (``-it``),
``--flag=false`` and ``--`` are understood. A command that is not interspersed stops at its first
argument: what follows belongs to the container and is never looked at.
"""

from __future__ import annotations

from strata.cli.table import GLOBAL_OPTIONS, Command, Option
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class Options:
    """The values of one command line, by option key, with typed access."""

    __slots__ = ("_defaults", "_values")

    def __init__(self, options: Sequence[Option] = ()) -> None:
        self._defaults = {option.key: option.default for option in options}
        self._values: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Store a value as if it had been given."""
        self._values[key] = value

    def set_default(self, key: str, value: Any) -> None:
        """Store what holds when the option is not given."""
        self._defaults[key] = value

    def get(self, key: str) -> Any:
        """Return the value, or the table's default."""
        return self._values[key] if key in self._values else self._defaults.get(key)

    def has(self, key: str) -> bool:
        """Whether the command has the option."""
        return key in self._defaults

    def given(self, key: str) -> bool:
        """Whether the option was on the command line."""
        return key in self._values

    def any_given(self, keys: frozenset[str]) -> bool:
        """Whether one of these options was on the command line."""
        return not keys.isdisjoint(self._values)

    def flag(self, key: str) -> bool:
        """Return a flag's value."""
        return bool(self.get(key))

    def tristate(self, key: str) -> bool | None:
        """Return true, false, or None when it was not given."""
        value = self.get(key)
        return None if value is None else bool(value)

    def text(self, key: str) -> str:
        """Return a string, empty when there is none."""
        value = self.get(key)
        return "" if value is None else str(value)

    def maybe(self, key: str) -> str | None:
        """Return a string, or None when there is none."""
        value = self.get(key)
        return None if value is None else str(value)

    def number(self, key: str) -> int | None:
        """Return an integer (also bytes of a size), or None when there is none."""
        value = self.get(key)
        return None if value is None else int(value)

    def real(self, key: str) -> float | None:
        """Return a float (also seconds of a duration), or None when there is none."""
        value = self.get(key)
        return None if value is None else float(value)

    def list(self, key: str) -> list[str]:
        """Return the values of a repeated option, in order."""
        return list(self.get(key) or ())

    def map(self, key: str) -> dict[str, str]:
        """Return the pairs of a repeated ``KEY=VALUE`` option."""
        return dict(self.get(key) or {})


def parse_bool(text: str) -> bool:
    """Read a boolean as Go's ``strconv.ParseBool`` does; raise `ValueError`."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse(command: Command, argv: Sequence[str]) -> tuple[Options, list[str]]:
    """Read the words after a command's name; return its options and arguments.

    Raises `UsageError` for unknown options, missing or malformed values. The number of arguments
    is checked by `check_arguments`, so that ``--help`` wins over it.
    """
    lookup = {name: option for option in GLOBAL_OPTIONS for name in option.names}
    for option in command.options:
        for name in option.names:
            lookup[name] = option
    lookup.setdefault("-h", lookup["--help"])
    options = Options(command.options)
    arguments: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            arguments += words
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            found = lookup.get(name)
            if found is None:
                found = _find_foreign(command, name, lookup)
            if equals:
                _store(command, options, found, value)
            elif found.takes_value:
                _store(command, options, found, _next(command, words, name))
            else:
                options.set(found.key, True)
        elif len(word) > 1 and word[0] == "-":
            _parse_short(command, word, words, lookup, options)
        else:
            arguments.append(word)
            if not command.interspersed:
                arguments += words
    return options, arguments


def check_arguments(command: Command, arguments: Sequence[str]) -> None:
    """Raise `UsageError` when too few or too many arguments were given."""
    count = len(arguments)
    if command.least == command.most and count != command.least:
        text = (
            f'unknown argument "{arguments[0]}" for "strata {command.name}"'
            if command.most == 0
            else f"accepts {command.least} arg(s), received {count}"
        )
    elif count < command.least:
        text = f"requires at least {command.least} arg(s), only received {count}"
    elif command.most is not None and count > command.most:
        text = f"accepts at most {command.most} arg(s), received {count}"
    else:
        return
    usage = f"strata {command.name} {command.usage}".rstrip()
    raise UsageError(text, hint=f"usage: {usage}")


def _parse_short(
    command: Command,
    word: str,
    words: Any,
    lookup: dict[str, Option],
    options: Options,
) -> None:
    """Read a bundle of short options such as ``-it``, ``-eA=1`` or ``-m 1g``."""
    position = 1
    while position < len(word):
        letter = word[position]
        found = lookup.get(f"-{letter}")
        if found is None:
            raise _unknown(
                command, f"-{letter}", f"unknown shorthand flag: {letter!r} in {word}", lookup
            )
        rest = word[position + 1 :]
        if not found.takes_value and not rest.startswith("="):
            options.set(found.key, True)
            position += 1
            continue
        if rest:
            _store(command, options, found, rest.removeprefix("="))
        else:
            _store(command, options, found, _next(command, words, f"{letter!r} in {word}"))
        return


def _find_foreign(command: Command, name: str, lookup: dict[str, Option]) -> Option:
    """One of the options that Podman takes before and behind every command. `UsageError`."""
    from strata.cli.before import find_foreign

    found = find_foreign(name)
    if found is None:
        raise _unknown(command, name, f"unknown flag: {name}", lookup)
    return found


def _next(command: Command, words: Any, name: str) -> str:
    value: str | None = next(words, None)
    if value is None:
        raise UsageError(f"flag needs an argument: {name}", hint=_see(command))
    return value


def _store(command: Command, options: Options, option: Option, text: str) -> None:
    """Convert one value by the option's kind and store or append it."""
    try:
        value = convert(options, option, text)
    except (ValueError, UsageError) as error:
        raise UsageError(
            f'invalid argument "{text}" for "{option.shown}" flag: {error}',
            hint=getattr(error, "hint", "") or _see(command),
        ) from None
    options.set(option.key, value)


def convert(options: Options, option: Option, text: str) -> Any:
    """One typed value, of a list all up to it. ValueError, `UsageError`."""
    kind = option.kind
    if option.choices and text not in option.choices:
        raise ValueError(f"must be one of {', '.join(option.choices)}")
    if kind == "string":
        return text
    if kind == "list":
        return [*options.list(option.key), text]
    if kind in ("flag", "tristate"):
        return parse_bool(text)
    from strata.cli import values

    if kind == "csv":
        return [*options.list(option.key), *values.split_csv(text)]
    if kind == "map":
        key, _, value = text.partition("=")
        if not key:
            raise ValueError("the key is empty")
        return {**options.map(option.key), key: value}
    if kind == "int":
        return values.parse_int(text)
    if kind == "float":
        return values.parse_float(text)
    if kind == "size":
        # Podman's sizes are texts, of which the empty one is none: -m "$LIMIT".
        return values.parse_size(text) if text else None
    if kind == "duration":
        from strata.times import parse_duration

        return parse_duration(text)
    raise AssertionError(f"option kind {kind!r}")


def _see(command: Command) -> str:
    return f"see '{' '.join(('strata', *command.name.split()))} --help'"


def _unknown(command: Command, name: str, text: str, lookup: dict[str, Option]) -> UsageError:
    """Say why an option is unknown: it belongs to a later version, or is nearly another one."""
    from strata.cli.unavailable import find_option_reason, suggest

    reason = find_option_reason(command.name, name)
    if not reason and name.startswith("--"):
        reason = find_option_reason("", name)
    if reason:
        return UsageError(f"{name} is not available in this version: {reason}", hint=_see(command))
    nearest = suggest(name[2:], [known[2:] for known in lookup if known.startswith("--")])
    return UsageError(text, hint=f"did you mean --{nearest}?" if nearest else _see(command))
