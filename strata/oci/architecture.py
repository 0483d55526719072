"""What machines are called: the words of uname(2) and of people, as the OCI and Go say them.

Apart from the documents, whose reader takes long to import.
"""

from __future__ import annotations

import os

#: what uname and people say -> (architecture, variant)
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v7"),
    "loongarch64": ("loong64", ""),
}


def translate(word: str) -> tuple[str, str]:
    """Architecture and variant; a word that is known to nobody stays, without a variant."""
    return _ARCHITECTURES.get(word, (word, ""))


def find_host() -> tuple[str, str]:
    """Architecture and variant of this machine."""
    return translate(os.uname().machine)
