"""Go templates for ``--format``: Go's text/template with Podman's functions.

Fields, maps, variables, pipelines, ``if``/``else if``/``with``/``range``/``break``/``continue``,
``define``/``template``/``block``, comments and trimming dashes mean what they mean in Go; the
grammar is in `template_parse`, the values in `template_values`, the functions in
`template_functions`. What is more lenient than Go: the case of a field's letters does not matter,
and whole numbers compare with fractions.
"""

from __future__ import annotations

from strata.cli.template_functions import FUNCTIONS, LAZY, TemplateError
from strata.cli.template_parse import parse
from strata.cli.template_values import (
    MISSING,
    Moment,
    Struct,
    is_true,
    make_heading,
    name_type,
    show,
    wrap,
)  # fmt: skip
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.template_parse import Node, Operand, Pipe

    Scope = list[tuple[str, Any]]

_NAMES = frozenset(FUNCTIONS) | LAZY
_DEEPEST = 100


class _Heading:
    """A stand-in row whose every field is its own heading."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names


class _HeadingText(str):
    """A heading, which functions pass through unchanged."""

    __slots__ = ()


class _Break(Exception):
    """``{{break}}``; ``again`` for ``{{continue}}``."""

    def __init__(self, *, again: bool) -> None:
        self.again = again


class Template:
    """A parsed format. Raises `UsageError` when it cannot be understood, or not be rendered."""

    def __init__(self, text: str, name: str = "format") -> None:
        self._name = name
        self._templates = parse(name, text, _NAMES)
        self._depth = 0

    def render(self, data: Any) -> str:
        """Return the text for one object, plain or already wrapped."""
        return self._run(wrap(data))

    def render_heading(self, names: dict[str, str]) -> str:
        """Return the line of headings: each field replaced by its name in ``names``."""
        return self._run(_Heading(names))

    def _run(self, data: Any) -> str:
        try:
            return self._execute(self._name, data)
        except RecursionError:
            raise self._fail("it is nested too deeply") from None

    def _fail(self, why: str) -> UsageError:
        return UsageError(f"template: {self._name}: {why}")

    def _execute(self, name: str, data: Any) -> str:
        nodes = self._templates.get(name)
        if nodes is None:
            raise self._fail(f'template "{name}" not defined')
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fail("exceeded maximum template depth")
        out: list[str] = []
        self._walk(nodes, data, [("$", data)], out)
        self._depth -= 1
        return "".join(out)

    # -- nodes -----------------------------------------------------------------------------------

    def _walk(self, nodes: list[Node], dot: Any, scope: Scope, out: list[str]) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                out.append(node[1])
            elif kind == "show":
                value = self._pipe(node[1], dot, scope)
                if not node[1][0]:
                    out.append(self._show(value))
            elif kind == "template":
                data = self._pipe(node[2], dot, scope) if node[2] else None
                out.append(self._execute(node[1], data))
            elif kind in ("break", "continue"):
                raise _Break(again=kind == "continue")
            else:
                height = len(scope)
                if kind == "range":
                    self._range(node, dot, scope, out)
                else:
                    value = self._pipe(node[1], dot, scope)
                    if is_true(value):
                        self._walk(node[2], value if kind == "with" else dot, scope, out)
                    else:
                        self._walk(node[3], dot, scope, out)
                del scope[height:]

    def _show(self, value: Any) -> str:
        if isinstance(value, _Heading):
            raise self._fail("a table needs fields, as in 'table {{.ID}}'")
        return show(value)

    def _range(self, node: Node, dot: Any, scope: Scope, out: list[str]) -> None:
        _, (names, declares, commands), body, other = node
        value = self._pipe(([], False, commands), dot, scope)
        if isinstance(value, (_Heading, _HeadingText)):
            out.append("" if isinstance(value, _Heading) else value)
            return
        pairs = self._pairs(value)
        if not pairs:
            self._walk(other, dot, scope, out)
            return
        for key, item in pairs:
            height = len(scope)
            for name, bound in zip(names, (key, item)[-len(names) :] if names else (), strict=True):
                self._bind(name, bound, scope, declares=declares)
            try:
                self._walk(body, item, scope, out)
            except _Break as stop:
                if not stop.again:
                    del scope[height:]
                    return
            del scope[height:]

    def _pairs(self, value: Any) -> list[tuple[Any, Any]]:
        if value is None or value is MISSING:
            return []
        if isinstance(value, dict) and not isinstance(value, Struct):
            return sorted(value.items())
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool) and value <= 1_000_000:
            return [(number, number) for number in range(value)]
        shown = name_type(value) if isinstance(value, Struct) else show(value)
        raise self._fail(f"range can't iterate over {shown}")

    def _bind(self, name: str, value: Any, scope: Scope, *, declares: bool) -> None:
        if declares:
            scope.append((name, value))
            return
        for place in range(len(scope) - 1, -1, -1):
            if scope[place][0] == name:
                scope[place] = (name, value)
                return

    # -- pipelines -------------------------------------------------------------------------------

    def _pipe(self, pipe: Pipe, dot: Any, scope: Scope) -> Any:
        names, declares, commands = pipe
        piped: list[Any] = []
        for command in commands:
            piped = [self._command(command, dot, scope, piped)]
        for name in names:
            self._bind(name, piped[0], scope, declares=declares)
        return piped[0]

    def _command(self, command: list[Operand], dot: Any, scope: Scope, piped: list[Any]) -> Any:
        first, *rest = command
        if first[0] == "function":
            return self._call(first[1], rest, dot, scope, piped)
        if not rest and not piped:
            if first == ("value", None):
                raise self._fail("nil is not a command")
            return self._operand(first, dot, scope)
        if first[0] not in ("field", "variable", "chain"):
            raise self._fail(f"can't give argument to non-function {self._describe(first)}")
        arguments = [self._operand(operand, dot, scope) for operand in rest] + piped
        return self._operand(first, dot, scope, arguments)

    def _describe(self, operand: Operand) -> str:
        return show(operand[1]) if operand[0] == "value" else operand[0]

    def _call(
        self, name: str, operands: list[Operand], dot: Any, scope: Scope, piped: list[Any]
    ) -> Any:
        if name in LAZY:
            value: Any = None
            if not operands and not piped:
                raise self._fail(f"wrong number of args for {name}: want at least 1 got 0")
            for operand in [*operands, *(("value", item) for item in piped)]:
                value = self._operand(operand, dot, scope)
                if is_true(value) == (name == "or"):
                    break
            return value
        arguments = [self._operand(operand, dot, scope) for operand in operands] + piped
        for value in arguments:
            if isinstance(value, (_Heading, _HeadingText)):
                return value
        try:
            return FUNCTIONS[name](*arguments)
        except TemplateError as error:
            raise self._fail(f"error calling {name}: {error}") from None
        except TypeError:
            raise self._fail(f"wrong number of args for {name}: got {len(arguments)}") from None
        except (ValueError, OverflowError, MemoryError) as error:
            raise self._fail(f"error calling {name}: {error}") from None

    def _operand(
        self, operand: Operand, dot: Any, scope: Scope, arguments: list[Any] | None = None
    ) -> Any:
        kind = operand[0]
        if kind == "value":
            return operand[1]
        if kind == "dot":
            return dot
        if kind == "field":
            return self._fields(dot, operand[1], arguments)
        if kind == "variable":
            for name, value in reversed(scope):
                if name == operand[1]:
                    return self._fields(value, operand[2], arguments)
            raise self._fail(f'undefined variable "{operand[1]}"')
        if kind == "pipe":
            return self._pipe(operand[1], dot, scope)
        if kind == "function":
            return self._call(operand[1], [], dot, scope, [])
        return self._fields(self._operand(operand[1], dot, scope), operand[2], arguments)

    def _fields(self, value: Any, names: list[str], arguments: list[Any] | None) -> Any:
        for place, name in enumerate(names, 1):
            if isinstance(value, _Heading):
                return _HeadingText(value.names.get(name) or make_heading(name, value.names))
            if isinstance(value, _HeadingText):
                value = _HeadingText(make_heading(name, {}))
                continue
            value = self._field(value, name)
            if callable(value):
                given = (arguments or []) if place == len(names) else []
                try:
                    return value(*given)
                except TypeError:
                    raise self._fail(f"wrong number of args for {name}") from None
        if arguments:
            shown = f".{'.'.join(names)}" if names else show(value)
            raise self._fail(f"{shown} has arguments but cannot be invoked as function")
        return value

    def _field(self, value: Any, name: str) -> Any:
        if isinstance(value, (Struct, Moment)):
            found = value.get_field(name)
            if found is not MISSING:
                return found
            hint = ""
            if isinstance(value, Struct):
                known = [key for key in value if not key.startswith("_")]
                hint = f"fields: {', '.join(sorted(known)[:60])}"
            raise UsageError(
                f"template: {self._name}: can't evaluate field {name} in type {name_type(value)}",
                hint=hint,
            )
        if isinstance(value, dict):
            return value.get(name, MISSING)
        if value is None or value is MISSING:
            if value is MISSING:
                return MISSING
            raise self._fail(f"nil pointer evaluating field {name}")
        raise self._fail(f"can't evaluate field {name} in type {name_type(value)}")
