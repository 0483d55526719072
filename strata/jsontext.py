"""JSON without the ``json`` package.

The package's parts written in C do all the work; around them it loads ``re`` and with it a fifth
of the time ``run`` has for loading anything. Both directions behave like the package's own
functions, and where the parts in C are missing the package is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_json: Any
try:
    import _json as _native

    _json = _native
except ImportError:  # another Python
    _json = None

_SPACE = " \t\n\r"
_CONSTANTS = {
    "-Infinity": float("-inf"),
    "Infinity": float("inf"),
    "NaN": float("nan"),
}


class _Context:
    """What the scanner asks for, as in ``json.JSONDecoder``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__
    memo: dict[str, str] = {}


_scan: Callable[[str, int], tuple[Any, int]] | None = None


def loads(data: str | bytes) -> Any:
    """The value a JSON document stands for. ``ValueError`` for anything else, also for bytes that
    are not UTF-8; ``RecursionError`` when it is nested too deeply."""
    global _scan
    text = data if isinstance(data, str) else data.decode()
    if _json is None:
        import json

        return json.loads(text)
    if _scan is None:
        _scan = _json.make_scanner(_Context)
    begin = 0
    while begin < len(text) and text[begin] in _SPACE:
        begin += 1
    try:
        value, end = _scan(text, begin)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at {stop.value}") from None
    except SystemError:
        # The scanner raises its errors with a class of the package that nobody has loaded.
        raise ValueError("malformed JSON") from None
    if text[end:].strip(_SPACE):
        raise ValueError(f"more than one JSON value, the second at {end}")
    return value


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def dumps(value: object) -> str:
    """The shortest JSON for a value of dicts with text keys, lists, texts, numbers, bools, None.

    ASCII only. Raises ``TypeError`` for other types, ``ValueError`` for cycles.
    """
    if _json is None:
        import json

        return json.dumps(value, separators=(",", ":"))
    quote = _json.encode_basestring_ascii
    encode = _json.make_encoder({}, _refuse, quote, None, ":", ",", False, False, True)
    return "".join(encode(value, 0))


def dumps_foreign(value: object) -> str:
    """As `dumps`, for a reader that is not Python: U+FFFD for each byte that was not UTF-8, which
    we carry as half a surrogate pair and C libraries would take for three bytes of their own."""
    text = dumps(value)
    return dumps(_replace(value)) if "\\udc" in text else text


def _replace(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_replace(key): _replace(item) for key, item in value.items()}
    return [_replace(item) for item in value] if isinstance(value, list | tuple) else value
