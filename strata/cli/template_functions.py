"""The functions of Go templates: Go's own and those Podman adds (join, json, pad, truncate …)."""

from __future__ import annotations

from strata.cli.template_values import (
    MISSING,
    Map,
    Moment,
    Struct,
    is_true,
    name_type,
    show,
    show_float,
    to_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WIDEST = 10_000


class TemplateError(Exception):
    """What a function has against its arguments."""


def _bytes(text: str) -> bytes:
    """A text's bytes, also when they were not UTF-8 to begin with."""
    return text.encode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, Moment):
        return value
    if value is MISSING:
        return ""
    raise TemplateError(f"wrong type for value; expected string; got {name_type(value)}")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TemplateError(f"wrong type for value; expected int; got {name_type(value)}")
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or value is MISSING:
            raise TemplateError("index of untyped nil")
        if isinstance(value, (Map, Struct)):
            if isinstance(value, Struct):
                found = value.get_field(_text(key))
                if found is MISSING:
                    raise TemplateError(f"can't index item of type struct by {key!r}")
                value = found
            else:
                value = value.get(_text(key), value.zero)
            continue
        if not isinstance(value, (str, list, tuple)):
            raise TemplateError(f"can't index item of type {name_type(value)}")
        if isinstance(key, bool) or not isinstance(key, int):
            raise TemplateError(f"cannot index slice/array with type {name_type(key)}")
        if not 0 <= key < len(value):
            raise TemplateError(f"index out of range: {key}")
        value = ord(value[key]) if isinstance(value, str) else value[key]
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise TemplateError(f"can't slice item of type {name_type(value)}")
    if len(bounds) > 3:
        raise TemplateError(f"too many slice indexes: {len(bounds)}")
    places = [_integer(bound) for bound in bounds]
    for place in places:
        if not 0 <= place <= len(value):
            raise TemplateError(f"index out of range: {place}")
    first, last = [*places, *(0, len(value))[len(places[:2]) :]][:2]
    if first > last:
        raise TemplateError(f"invalid slice index: {first} > {last}")
    return value[first:last]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(_bytes(value))
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, Struct):
        return len(value)
    raise TemplateError(
        "len of nil pointer" if value in (None, MISSING) else f"len of type {name_type(value)}"
    )


def _join(values: Any, between: Any) -> str:
    if values is None or values is MISSING:
        return ""
    if not isinstance(values, (list, tuple)):
        raise TemplateError(f"wrong type for value; expected []string; got {name_type(values)}")
    return _text(between).join(show(value) for value in values)


def _is_same(first: Any, second: Any) -> bool:
    for value in (first, second):
        if value is None or value is MISSING:
            return first in (None, MISSING) and second in (None, MISSING)
    kinds = [
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool)
        else "string" if isinstance(value, str) else name_type(value)
        for value in (first, second)
    ]  # fmt: skip
    if kinds[0] != kinds[1]:
        raise TemplateError("incompatible types for comparison")
    if isinstance(first, (dict, list, tuple)):
        raise TemplateError(f"non-comparable type {name_type(first)}")
    return bool(first == second)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_is_same(first, other) for other in others)


def _is_less(first: Any, second: Any) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    numbers = isinstance(first, (int, float)) and isinstance(second, (int, float))
    if numbers and not isinstance(first, bool) and not isinstance(second, bool):
        return bool(first < second)
    if type(first) is type(second):
        raise TemplateError("invalid type for comparison")
    raise TemplateError("incompatible types for comparison")


def _show_argument(value: Any) -> str:
    """A value as functions print it: to them a missing key is nil."""
    return "<nil>" if value is MISSING else show(value)


def _print(*values: Any) -> str:
    out = ""
    for number, value in enumerate(values):
        texts = isinstance(value, str) or isinstance(values[number - 1], str)
        out += ("" if number == 0 or texts else " ") + _show_argument(value)
    return out


def _pad(text: Any, before: Any, after: Any) -> str:
    source = _text(text)
    sizes = [min(_integer(before), _WIDEST), min(_integer(after), _WIDEST)]
    return " " * sizes[0] + source + " " * sizes[1] if source else source


def _truncate(text: Any, size: Any) -> str:
    source, most = _text(text), _integer(size)
    return source if most < 0 else source[:most]


def _title(text: Any) -> str:
    out, inside = [], False
    for letter in _text(text):
        out.append(letter if inside else letter.upper())
        inside = letter.isalnum() or letter in "_'"
    return "".join(out)


_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026",
       "=": "\\u003D"}  # fmt: skip


def _js(*values: Any) -> str:
    return "".join(
        _JS.get(letter) or (letter if letter >= " " else f"\\u{ord(letter):04X}")
        for letter in _print(*values)
    )


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_bytes(_print(*values)))


# -- printf ----------------------------------------------------------------------------------------


def _printf(format: Any, *values: Any) -> str:
    """Lay out values by a format of Go's package fmt; what does not fit is said in the text."""
    text, out, position, used = _text(format), [], 0, 0
    while position < len(text):
        start = text.find("%", position)
        if start < 0:
            out.append(text[position:])
            break
        out.append(text[position:start])
        position = start + 1
        flags = text[
            position : position + len(text[position:]) - len(text[position:].lstrip("-+# 0"))
        ]
        position += len(flags)
        sizes: list[int | None] = []
        for mark in ("", "."):
            if mark and not text.startswith(".", position):
                sizes.append(None)
                continue
            position += len(mark)
            if text.startswith("*", position):
                position += 1
                given = values[used] if used < len(values) else 0
                used += 1
                sizes.append(given if isinstance(given, int) else None)
                continue
            digits = text[position : position + 4]
            digits = digits[: len(digits) - len(digits.lstrip("0123456789"))]
            position += len(digits)
            sizes.append(int(digits) if digits else 0 if mark else None)
        verb = text[position : position + 1]
        position += 1
        if not verb:
            out.append("%!(NOVERB)")
        elif verb == "%":
            out.append("%")
        elif used >= len(values):
            out.append(f"%!{verb}(MISSING)")
        else:
            value = None if values[used] is MISSING else values[used]
            out.append(_convert(verb, flags, sizes[0], sizes[1], value))
            used += 1
    if used < len(values):
        extra = ", ".join(f"{name_type(value)}={show(value)}" for value in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _convert(verb: str, flags: str, width: int | None, precision: int | None, value: Any) -> str:
    text = _convert_bare(verb, flags, precision, value)
    if text is None:
        return f"%!{verb}({name_type(value)}={show(value)})"
    if width is None:
        return text
    width = min(abs(width), _WIDEST)
    if "-" in flags:
        return text.ljust(width)
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if "0" in flags and numeric and verb not in "cqTt":
        sign = text[:1] if text[:1] in ("+", "-") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _convert_bare(verb: str, flags: str, precision: int | None, value: Any) -> str | None:
    """Return a value by a verb without its width; None when they do not go together."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    plus = "+" if "+" in flags and isinstance(value, (int, float)) else ""
    if verb == "T":
        return name_type(value)
    if verb == "v":
        if is_int:
            return f"{value:{plus}d}"
        if isinstance(value, str) and "#" in flags:
            return _quote(value)
        return show(value) if precision is None else show(value)[:precision]
    if verb == "t":
        return show(value) if isinstance(value, bool) else None
    if isinstance(value, (list, tuple)) and verb in "sqdxX":
        parts = [_convert(verb, flags, None, precision, item) for item in value]
        return "[" + " ".join(parts) + "]"
    if is_int:
        return _convert_int(verb, flags, plus, value)
    if isinstance(value, float):
        return _convert_float(verb, plus, precision, value)
    if isinstance(value, bool) or value is None:
        return None
    text = show(value)
    if verb == "s":
        return text if precision is None else text[:precision]
    if verb == "q":
        return _quote(text)
    if verb in "xX":
        return _bytes(text).hex() if verb == "x" else _bytes(text).hex().upper()
    return None


def _quote(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False).replace("\\/", "/")


def _convert_int(verb: str, flags: str, plus: str, value: int) -> str | None:
    base = "#" if "#" in flags else ""
    if verb in "dboxX":
        text = f"{value:{plus}{base if verb in 'xX' else ''}{verb}}"
        return f"0{text}" if verb == "o" and base else text
    if verb in "cqU" and 0 <= value <= 0x10FFFF:
        return {"c": chr(value), "q": f"'{chr(value)}'", "U": f"U+{value:04X}"}[verb]
    return None


def _convert_float(verb: str, plus: str, precision: int | None, value: float) -> str | None:
    if verb in "eEfFgG":
        if verb in "gG" and precision is None:
            return plus * (value >= 0) + show_float(value)
        return f"{value:{plus}.{6 if precision is None else min(precision, 500)}{verb}}"
    return None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _eq,
    "ge": lambda a, b: not _is_less(a, b),
    "gt": lambda a, b: not _is_less(a, b) and not _is_same(a, b),
    "html": lambda *values: "".join(_HTML.get(letter, letter) for letter in _print(*values)),
    "index": _index,
    "join": _join,
    "js": _js,
    "json": to_json,
    "le": lambda a, b: _is_less(a, b) or _is_same(a, b),
    "len": _length,
    "lower": lambda text: _text(text).lower(),
    "lt": _is_less,
    "ne": lambda a, b: not _is_same(a, b),
    "not": lambda value: not is_true(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(_show_argument, values)) + "\n",
    "slice": _slice,
    "split": lambda text, between: (
        _text(text).split(_text(between)) if _text(between) else list(_text(text))
    ),
    "title": _title,
    "truncate": _truncate,
    "upper": lambda text: _text(text).upper(),
    "urlquery": _urlquery,
}

#: evaluated by the template itself, which stops at the first argument that decides
LAZY = frozenset(("and", "or"))
