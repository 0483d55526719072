"""How errors look to people: one sentence, and one line on what to do next.

And how text that others wrote is made fit to be shown.
"""

from __future__ import annotations

import sys

from strata.errors import StrataError


def show_error(error: StrataError) -> None:
    """Print an error on standard error: ``Error: sentence`` and, when there is one, its hint."""
    show_text(error.message, error.hint)


def show_text(message: str, hint: str = "") -> None:
    """Print ``Error: message`` and a hint on standard error; control characters are shown."""
    lines = f"Error: {shorten(clean(message))}\n"
    if hint:
        lines += f"hint: {shorten(clean(hint))}\n"
    try:
        sys.stderr.write(lines)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def shorten(text: str, most: int = 1500) -> str:
    """A sentence with its middle left out when somebody gave a word of many thousand letters."""
    if len(text) <= most:
        return text
    return f"{text[: most - 300]} […] {text[-200:]} ({len(text)} characters)"


def clean(text: str) -> str:
    """Show control characters as escapes, so that foreign text cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def to_unicode(text: str) -> str:
    """Return a text with U+FFFD for bytes that were not UTF-8, as Go's encoder of JSON has it."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
