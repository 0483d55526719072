"""The grammar of Go's text/template: a text becomes nodes, or an error that says where.

Source: the documentation of Go's packages text/template and text/template/parse (1.23). Nodes are
tuples whose first item is their kind:

    ("text", text)
    ("show", pipe)
    ("if" | "with" | "range", pipe, nodes, nodes of the else part)
    ("template", name, pipe or None)
    ("break",) ("continue",)

A pipe is (names of variables, whether they are declared rather than set, commands); a command is a
list of operands; an operand is one of

    ("value", constant) ("dot",) ("field", names) ("variable", name, names)
    ("function", name) ("pipe", pipe) ("chain", operand, names)
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    Node = tuple[Any, ...]
    Operand = tuple[Any, ...]
    Pipe = tuple[list[str], bool, list[list[Operand]]]
    #: kind, text, line, whether it touches what comes before
    Token = tuple[str, str, int, bool]

_SPACE = " \t\r\n"
_TRIM = frozenset(f"-{space}" for space in _SPACE)
_KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "nil", "range",
                       "template", "with"))  # fmt: skip
_DIGITS = "0123456789"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
            "\\": "\\", "'": "'", '"': '"'}  # fmt: skip
_OCTAL = {"x": 2, "u": 4, "U": 8}
_DEEPEST = 100


def parse(name: str, text: str, functions: Collection[str]) -> dict[str, list[Node]]:
    """Return the nodes of every template in ``text``; the text itself goes by ``name``."""
    parser = _Parser(name, text, functions)
    try:
        nodes, end = parser.parse_list(("$",), ())
    except RecursionError:
        raise parser.fail("it is nested too deeply") from None
    if end:
        raise parser.fail(f"unexpected {{{{{end}}}}}")
    return {name: nodes, **parser.templates}


class _Parser:
    """One text on its way to nodes."""

    def __init__(self, name: str, text: str, functions: Collection[str]) -> None:
        self.name = name
        self.functions = functions
        self.templates: dict[str, list[Node]] = {}
        self._line = 1
        #: texts, and actions as lists of tokens
        self._pieces = self._split(text)
        self._next = 0
        self._tokens: list[Token] = []
        self._at = 0
        self._depth = 0
        self._loops = 0

    def fail(self, why: str) -> UsageError:
        """The error for what is at the present line."""
        return UsageError(f"template: {self.name}:{self._line}: {why}",
                          hint="formats are Go templates, as in '{{.ID}}'")  # fmt: skip

    # -- from characters to tokens ---------------------------------------------------------------

    def _split(self, text: str) -> list[str | list[Token]]:
        pieces: list[str | list[Token]] = []
        position, trim = 0, False
        while True:
            start = text.find("{{", position)
            before = text[position:] if start < 0 else text[position:start]
            if trim:
                before = before.lstrip(_SPACE)
            if start < 0:
                return [*pieces, before] if before else pieces
            self._line += text.count("\n", position, start)
            position = start + 2
            if text[position : position + 2] in _TRIM:
                before = before.rstrip(_SPACE)
                position += 2
            if before:
                pieces.append(before)
            if text.startswith("/*", position):
                position, trim = self._skip_comment(text, position)
                continue
            tokens, position, trim = self._scan(text, position)
            pieces.append(tokens)

    def _skip_comment(self, text: str, position: int) -> tuple[int, bool]:
        end = text.find("*/", position)
        if end < 0:
            raise self.fail("unclosed comment")
        self._line += text.count("\n", position, end)
        end += 2
        if text.startswith("}}", end):
            return end + 2, False
        if text[end : end + 1] and text[end] in _SPACE and text.startswith("-}}", end + 1):
            return end + 4, True
        raise self.fail("comment ends before closing delimiter")

    def _scan(self, text: str, position: int) -> tuple[list[Token], int, bool]:
        """Read the tokens of one action; return them, where it ends, and whether it trims."""
        tokens: list[Token] = []
        glued = False
        opened = 0
        while True:
            if text.startswith("}}", position):
                if opened:
                    raise self.fail("unclosed left paren")
                return tokens, position + 2, False
            letter = text[position : position + 1]
            if not letter:
                raise self.fail("unclosed action")
            if letter in _SPACE:
                if text.startswith("-}}", position + 1):
                    if opened:
                        raise self.fail("unclosed left paren")
                    return tokens, position + 4, True
                self._line += letter == "\n"
                position += 1
                glued = False
                continue
            kind, word = self._scan_token(text, position)
            opened += (word == "(" and kind == "mark") - (word == ")" and kind == "mark")
            if opened < 0:
                raise self.fail("unexpected right paren")
            tokens.append((kind, word, self._line, glued))
            position += len(word)
            glued = True

    def _scan_token(self, text: str, position: int) -> tuple[str, str]:
        letter = text[position]
        if text.startswith(":=", position):
            return "mark", ":="
        if letter in "()|,=":
            return "mark", letter
        if letter in "\"'":
            return ("string" if letter == '"' else "char"), self._scan_quoted(text, position)
        if letter == "`":
            end = text.find("`", position + 1)
            if end < 0:
                raise self.fail("unterminated raw quoted string")
            return "raw", text[position : end + 1]
        end = position + 1
        following = text[end : end + 1]
        if letter in _DIGITS or (letter in "+-." and following in _DIGITS and following) or (
            letter in "+-" and following == "."
        ):  # fmt: skip
            while text[end : end + 1].isalnum() or text[end : end + 1] in ("_", ".") or (
                text[end : end + 1] in ("+", "-") and text[end - 1] in "eEpP"
            ):  # fmt: skip
                end += 1
            return "number", text[position:end]
        if letter in ".$" or letter == "_" or letter.isalpha():
            while text[end : end + 1] == "_" or text[end : end + 1].isalnum():
                end += 1
            word = text[position:end]
            if letter == ".":
                return ("field" if len(word) > 1 else "dot"), word
            return ("variable" if letter == "$" else "word"), word
        raise self.fail(f"unexpected {letter!r} in command")

    def _scan_quoted(self, text: str, position: int) -> str:
        quote, end = text[position], position + 1
        while text[end : end + 1] not in (quote, "", "\n"):
            end += 2 if text[end] == "\\" else 1
        if text[end : end + 1] != quote:
            what = "quoted string" if quote == '"' else "character constant"
            raise self.fail(f"unterminated {what}")
        return text[position : end + 1]

    # -- from tokens to nodes --------------------------------------------------------------------

    def parse_list(
        self, variables: tuple[str, ...], stop: tuple[str, ...]
    ) -> tuple[list[Node], str]:
        """Read nodes up to an action in ``stop``, whose word is returned ("" at the end)."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.fail("it is nested too deeply")
        nodes: list[Node] = []
        known = list(variables)
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            self._next += 1
            if isinstance(piece, str):
                nodes.append(("text", piece))
                continue
            self._tokens, self._at = piece, 0
            if not piece:
                raise self.fail("missing value for command")
            self._line = piece[0][2]
            word = piece[0][1] if piece[0][0] == "word" else ""
            if word in ("end", "else"):
                self._at = 1
                if word not in stop:
                    raise self.fail(f"unexpected {{{{{word}}}}}")
                if word == "end":
                    self._expect_end("end")
                self._depth -= 1
                return nodes, word
            node = self._parse_action(word, known)
            if node is not None:
                nodes.append(node)
        if stop:
            raise self.fail("unexpected EOF: {{end}} is missing")
        self._depth -= 1
        return nodes, ""

    def _parse_action(self, word: str, known: list[str]) -> Node | None:
        if word in ("if", "with", "range"):
            self._at = 1
            return self._parse_block(word, known)
        if word in ("break", "continue"):
            self._at = 1
            self._expect_end(word)
            if not self._loops:
                raise self.fail(f"{{{{{word}}}}} outside {{{{range}}}}")
            return (word,)
        if word in ("define", "block", "template"):
            self._at = 1
            return self._parse_template(word, known)
        pipe = self._parse_pipe("command", known)
        self._expect_end("command")
        return ("show", pipe)

    def _parse_block(self, word: str, known: list[str]) -> Node:
        inner = list(known)
        pipe = self._parse_pipe(word, inner)
        self._expect_end(word)
        self._loops += word == "range"
        body, end = self.parse_list(tuple(inner), ("end", "else"))
        self._loops -= word == "range"
        other: list[Node] = []
        if end == "else":
            following = self._tokens[1][1] if len(self._tokens) > 1 else ""
            if following and following == {"if": "if", "with": "with"}.get(word):
                # {{else if}} is {{else}}{{if}} with one {{end}} for both.
                self._at = 2
                other = [self._parse_block(following, list(inner))]
            else:
                self._expect_end("else")
                other, _ = self.parse_list(tuple(inner), ("end",))
        return (word, pipe, body, other)

    def _parse_template(self, word: str, known: list[str]) -> Node | None:
        kind, text = self._peek()
        if kind not in ("string", "raw"):
            raise self.fail(f"unexpected {text or '<end>'!r} in {word} clause")
        self._at += 1
        name = self._unquote(text)
        pipe: Pipe | None = None
        if word != "define" and self._peek()[0]:
            pipe = self._parse_pipe(f"{word} clause", known)
        elif word == "block":
            raise self.fail("missing value for block clause")
        self._expect_end(f"{word} clause")
        if word != "template":
            loops, self._loops = self._loops, 0
            body, _ = self.parse_list(("$",), ("end",))
            self._loops = loops
            self.templates[name] = body
        return None if word == "define" else ("template", name, pipe)

    def _parse_pipe(self, context: str, known: list[str]) -> Pipe:
        names, declares = self._parse_variables(context, known)
        commands: list[list[Operand]] = []
        while True:
            commands.append(self._parse_command(context, known))
            if len(commands) > 1 and commands[-1][0][0] in ("value", "dot"):
                raise self.fail(f"non executable command in pipeline stage {len(commands)}")
            if self._peek() != ("mark", "|"):
                break
            self._at += 1
        if declares:
            known.extend(names)
        return names, declares, commands

    def _parse_variables(self, context: str, known: list[str]) -> tuple[list[str], bool]:
        begin, names = self._at, []
        while self._peek()[0] == "variable":
            names.append(self._peek()[1])
            self._at += 1
            mark = self._peek()
            if mark in (("mark", ":="), ("mark", "=")):
                self._at += 1
                if len(names) > (2 if context == "range" else 1):
                    raise self.fail(f"too many declarations in {context}")
                if mark[1] == "=":
                    for name in names:
                        self._check_variable(name, known)
                return names, mark[1] == ":="
            if mark != ("mark", ",") or context != "range":
                break
            self._at += 1
        self._at = begin
        return [], False

    def _check_variable(self, name: str, known: list[str]) -> None:
        if name not in known:
            raise self.fail(f'undefined variable "{name}"')

    def _parse_command(self, context: str, known: list[str]) -> list[Operand]:
        operands: list[Operand] = []
        while self._peek()[0] and self._peek() not in (("mark", "|"), ("mark", ")")):
            if operands and self._tokens[self._at][3]:
                raise self.fail(f"unexpected {self._peek()[1]!r} in operand")
            operands.append(self._parse_operand(known))
        if not operands:
            missing = self._peek() != ("mark", "|") and context != "command"
            raise self.fail(f"missing value for {context if missing else 'command'}")
        return operands

    def _parse_operand(self, known: list[str]) -> Operand:
        kind, text = self._peek()
        self._at += 1
        operand: Operand
        if kind == "dot":
            operand = ("dot",)
        elif kind == "field":
            operand = ("field", [text[1:]])
        elif kind == "variable":
            self._check_variable(text, known)
            operand = ("variable", text, [])
        elif kind in ("string", "raw", "char"):
            found = self._unquote(text)
            operand = ("value", ord(found) if kind == "char" and len(found) == 1 else found)
        elif kind == "number":
            operand = ("value", self._number(text))
        elif (kind, text) == ("mark", "("):
            operand = ("pipe", self._parse_pipe("parenthesized pipeline", known))
            self._at += 1
        elif kind == "word":
            operand = self._word(text)
        else:
            raise self.fail(f"unexpected {text!r} in operand")
        return self._parse_chain(operand)

    def _word(self, text: str) -> Operand:
        if text in ("true", "false", "nil"):
            return ("value", {"true": True, "false": False, "nil": None}[text])
        if text in _KEYWORDS:
            raise self.fail(f"unexpected <{text}> in operand")
        if text not in self.functions:
            raise self.fail(f'function "{text}" not defined')
        return ("function", text)

    def _parse_chain(self, operand: Operand) -> Operand:
        names: list[str] = []
        while self._peek()[0] in ("field", "dot") and self._tokens[self._at][3]:
            kind, text = self._peek()
            if kind == "dot" or operand[0] in ("value", "dot", "function"):
                raise self.fail(f"unexpected {text!r} after term")
            names.append(text[1:])
            self._at += 1
        if not names:
            return operand
        if operand[0] == "field":
            return ("field", [*operand[1], *names])
        if operand[0] == "variable":
            return ("variable", operand[1], names)
        return ("chain", operand, names)

    def _peek(self) -> tuple[str, str]:
        if self._at < len(self._tokens):
            return self._tokens[self._at][:2]
        return "", ""

    def _expect_end(self, context: str) -> None:
        kind, text = self._peek()
        if kind:
            raise self.fail(f"unexpected {text!r} in {context}")

    def _number(self, text: str) -> int | float:
        body = text.replace("_", "")
        try:
            if body.lstrip("+-").isdigit() and body.lstrip("+-").startswith("0"):
                return int(body, 8)
            return int(body, 0)
        except ValueError:
            pass
        try:
            value = float.fromhex(body) if "p" in body.lower() else float(body)
        except (ValueError, OverflowError):
            raise self.fail(f'bad number syntax: "{text}"') from None
        if value - value != 0:
            raise self.fail(f'bad number syntax: "{text}"')
        return int(value) if value == int(value) and abs(value) < 1 << 53 else value

    def _unquote(self, text: str) -> str:
        if text[0] == "`":
            return text[1:-1]
        body, out, position = text[1:-1], [], 0
        while position < len(body):
            letter = body[position]
            position += 1
            if letter != "\\":
                out.append(letter)
                continue
            letter = body[position : position + 1]
            position += 1
            if letter in _ESCAPES and letter:
                out.append(_ESCAPES[letter])
                continue
            size = _OCTAL.get(letter, 0)
            digits = body[position : position + size] if size else body[position - 1 : position + 2]
            try:
                out.append(chr(int(digits, 16 if size else 8)))
            except (ValueError, OverflowError):
                raise self.fail(f"bad string {text}: invalid syntax") from None
            position += size if size else 2
        return "".join(out)
