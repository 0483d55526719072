"""Text files of the host, where one that cannot be read says nothing."""

from __future__ import annotations

_LARGEST = 1 << 20


def read_text(path: str) -> str:
    """A text file to look at, "" when it cannot be read. What is no text is replaced."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def read_verbatim(path: str) -> str:
    """A text file to be written elsewhere, "" when it cannot be read: its first MiB, what is no
    text as surrogates."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""
