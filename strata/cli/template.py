"""Go templates for ``--format``: the part of text/template that formats use.

Fields (``.State.Status``), variables, ``if``/``else``/``range``/``with``, pipelines, trimming
dashes and the functions below are understood; anything else is an error that says so. Field names
are matched as written, then whatever their case, because Go's names and JSON's differ. A key
missing from a map of the user's (labels, options) is ``<no value>``; any other is an error.
"""

from __future__ import annotations

import json
import re

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scope = dict[str, Any]

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<field>\.[A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*)
    | (?P<variable>\$[A-Za-z_]?\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<assign>:=|=)
    | (?P<dot>\.)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<mark>[|(),])
    )""",
    re.VERBOSE,
)
_USER_MAPS = frozenset(("labels", "annotations", "options", "data", "sysctls", "env", "networks"))
_NO_VALUE = "<no value>"


class _Missing:
    """What a key missing from a user's map evaluates to."""

    def __str__(self) -> str:
        return _NO_VALUE

    def __bool__(self) -> bool:
        return False


_MISSING = _Missing()


class _Heading:
    """A stand-in row whose every field is its own heading."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names


class Template:
    """A parsed format. Raises `UsageError` when it cannot be understood."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces = _split(text)
        self._nodes, left = self._parse(0, ())
        if left < len(self._pieces):
            raise self._error("unexpected {{end}} or {{else}}")

    def render(self, data: Any) -> str:
        """Return the text for one object."""
        return "".join(self._walk(self._nodes, data, {"$": data}))

    def render_heading(self, names: dict[str, str]) -> str:
        """Return the line of headings: each field replaced by its name in ``names``."""
        heading = _Heading(names)
        return "".join(self._walk(self._nodes, heading, {"$": heading}))

    def _error(self, why: str) -> UsageError:
        return UsageError(f"template: {why} in {self._text!r}", hint="formats are Go templates")

    def _parse(self, position: int, stop: tuple[str, ...]) -> tuple[list[Any], int]:
        """Parse pieces until an action named in ``stop``; return nodes and where it stopped."""
        nodes: list[Any] = []
        while position < len(self._pieces):
            is_action, text = self._pieces[position]
            if not is_action:
                nodes.append(text)
                position += 1
                continue
            word = text.split(None, 1)[0] if text.split() else ""
            if word in ("end", "else"):
                if word not in stop:
                    break
                return nodes, position
            if word in ("if", "range", "with"):
                node, position = self._parse_block(word, text[len(word) :], position + 1)
                nodes.append(node)
                continue
            if not word:
                raise self._error("missing value for command")
            if not text.startswith("/*"):
                nodes.append(("show", self._tokens(text)))
            position += 1
        if "end" in stop:
            raise self._error("unexpected end: {{end}} is missing")
        return nodes, position

    def _parse_block(self, word: str, head: str, position: int) -> tuple[Any, int]:
        body, position = self._parse(position, ("end", "else"))
        text = self._pieces[position][1].split(None, 1)
        other: list[Any] = []
        if text[0] == "else":
            rest = text[1] if len(text) > 1 else ""
            if rest.startswith("if"):
                node, position = self._parse_block("if", rest[2:], position + 1)
                return (word, self._tokens(head), body, [node]), position
            other, position = self._parse(position + 1, ("end",))
        return (word, self._tokens(head), body, other), position + 1

    def _tokens(self, text: str) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None or match.lastgroup is None:
                raise self._error(f"unexpected {stripped[position:].strip()[:20]!r}")
            tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()
        return tokens

    def _walk(self, nodes: list[Any], dot: Any, scope: Scope) -> list[str]:
        out: list[str] = []
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif node[0] == "show":
                names, value = self._evaluate(node[1], dot, scope)
                if not names:
                    out.append(_show(value))
            else:
                out += self._walk_block(node, dot, scope)
        return out

    def _walk_block(self, node: Any, dot: Any, scope: Scope) -> list[str]:
        word, tokens, body, other = node
        inner = dict(scope)
        names, value = self._evaluate(tokens, dot, inner)
        if isinstance(value, _Heading):
            return []
        if word == "range":
            pairs = _pairs(value)
            if pairs is None:
                raise self._error(f"range cannot iterate over {_show(value)}")
            out: list[str] = []
            for key, item in pairs:
                for name, bound in zip(names[-2:], (key, item)[-len(names) :], strict=False):
                    inner[name] = bound
                out += self._walk(body, item, inner)
            return out if pairs else self._walk(other, dot, inner)
        if not _truth(value):
            return self._walk(other, dot, inner)
        return self._walk(body, value if word == "with" else dot, inner)

    def _evaluate(
        self, tokens: list[tuple[str, str]], dot: Any, scope: Scope
    ) -> tuple[list[str], Any]:
        """Evaluate a pipeline; assigned variables are returned by name and put in scope."""
        names: list[str] = []
        marks = [i for i, (kind, _) in enumerate(tokens) if kind == "assign"]
        if marks:
            names = [text for kind, text in tokens[: marks[0]] if kind == "variable"]
            tokens = tokens[marks[0] + 1 :]
        value, left = self._pipeline(tokens, 0, dot, scope)
        if left != len(tokens):
            raise self._error(f"unexpected {tokens[left][1]!r}")
        if len(names) == 1:
            scope[names[0]] = value
        return names, value

    def _pipeline(
        self, tokens: list[tuple[str, str]], position: int, dot: Any, scope: Scope
    ) -> tuple[Any, int]:
        piped: list[Any] = []
        while True:
            value, position = self._command(tokens, position, dot, scope, piped)
            if position < len(tokens) and tokens[position] == ("mark", "|"):
                piped = [value]
                position += 1
                continue
            return value, position

    def _command(
        self, tokens: list[tuple[str, str]], position: int, dot: Any, scope: Scope, piped: list[Any]
    ) -> tuple[Any, int]:
        if position >= len(tokens):
            raise self._error("missing value for command")
        kind, text = tokens[position]
        if kind == "word" and text not in ("true", "false", "nil"):
            function = FUNCTIONS.get(text)
            if function is None:
                raise self._error(f'function "{text}" not defined')
            arguments: list[Any] = []
            position += 1
            while position < len(tokens) and tokens[position] not in (("mark", "|"), ("mark", ")")):
                value, position = self._operand(tokens, position, dot, scope)
                arguments.append(value)
            arguments += piped
            for value in arguments:
                if isinstance(value, _Heading):
                    return value, position
                if isinstance(value, _HeadingText):
                    return value, position
            try:
                return function(*arguments), position
            except UsageError:
                raise
            except Exception as error:
                raise self._error(f"error calling {text}: {error}") from None
        value, position = self._operand(tokens, position, dot, scope)
        if piped:
            raise self._error("a value cannot take what is piped to it")
        return value, position

    def _operand(
        self, tokens: list[tuple[str, str]], position: int, dot: Any, scope: Scope
    ) -> tuple[Any, int]:
        kind, text = tokens[position]
        position += 1
        if kind == "string":
            try:
                return (text[1:-1] if text[0] == "`" else json.loads(text)), position
            except ValueError:
                raise self._error(f"bad string {text}") from None
        if kind == "number":
            return (float(text) if "." in text else int(text)), position
        if kind == "dot":
            return dot, position
        if kind == "field":
            return self._field(dot, text[1:].split(".")), position
        if kind == "variable":
            name, *path = text.split(".")
            if name not in scope:
                raise self._error(f'undefined variable "{name}"')
            return self._field(scope[name], path), position
        if kind == "word" and text in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[text], position
        if kind == "mark" and text == "(":
            value, position = self._pipeline(tokens, position, dot, scope)
            if position >= len(tokens) or tokens[position][1] != ")":
                raise self._error("unclosed left paren")
            return value, position + 1
        if kind == "word" and text in FUNCTIONS:
            return FUNCTIONS[text](), position
        raise self._error(f"unexpected {text!r}")

    def _field(self, value: Any, path: list[str]) -> Any:
        parent = ""
        for name in path:
            if isinstance(value, _Heading):
                return _HeadingText(value.names.get(path[-1], path[-1].upper()))
            if value is _MISSING or value is None:
                return _MISSING
            if not isinstance(value, dict):
                raise self._error(f"can't evaluate field {name} in {_show(value)[:40]!r}")
            found = _find(value, name)
            if found is _MISSING and parent.lower() not in _USER_MAPS:
                known = ", ".join(sorted(str(key) for key in value)[:40])
                raise UsageError(
                    f"template: can't evaluate field {name}: there is no such field",
                    hint=f"fields: {known}",
                )
            value, parent = found, name
        return value


class _HeadingText(str):
    """A heading that functions pass through unchanged."""

    __slots__ = ()


def _split(text: str) -> list[tuple[bool, str]]:
    """Split into texts and actions, with the blanks that trimming dashes remove gone."""
    pieces: list[tuple[bool, str]] = []
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        if trim:
            before = before.lstrip()
        if match.group(1):
            before = before.rstrip()
        if before:
            pieces.append((False, before))
        pieces.append((True, match.group(2).strip()))
        position, trim = match.end(), bool(match.group(3))
    rest = text[position:]
    if "{{" in rest:
        raise UsageError(f"template: unclosed action in {text!r}")
    rest = rest.lstrip() if trim else rest
    return [*pieces, (False, rest)] if rest else pieces


def _find(value: dict[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    for key, found in value.items():
        if isinstance(key, str) and key.lower() == name.lower():
            return found
    return _MISSING


def _truth(value: Any) -> bool:
    return bool(value)


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    if value is None or value is _MISSING:
        return []
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return None


def _show(value: Any) -> str:
    """Return a value as Go's ``%v`` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = " ".join(f"{key}:{_show(item)}" for key, item in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_show(item) for item in value) + "]"
    return str(value)


def _json(value: Any) -> str:
    return json.dumps(None if value is _MISSING else value, ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, _MISSING)
        elif value is None or value is _MISSING:
            return _MISSING
        else:
            value = value[key]
    return value


def _printf(format: str, *values: Any) -> str:
    converted = [value if isinstance(value, (int, float)) else _show(value) for value in values]
    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)v", r"%\1s", format) % tuple(converted)


def _eq(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not _truth(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if _truth(value)), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "or": _or,
    "not": lambda value: not _truth(value),
    "eq": _eq,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "index": _index,
    "join": lambda values, between: between.join(_show(value) for value in values or ()),
    "json": _json,
    "len": lambda value: len(value or ()),
    "lower": lambda text: str(text).lower(),
    "print": lambda *values: " ".join(_show(value) for value in values),
    "printf": _printf,
    "println": lambda *values: " ".join(_show(value) for value in values) + "\n",
    "slice": lambda value, first=0, last=None: value[first:last],
    "split": lambda text, between: str(text).split(between),
    "title": lambda text: str(text).title(),
    "truncate": lambda text, size: str(text)[:size],
    "upper": lambda text: str(text).upper(),
}
