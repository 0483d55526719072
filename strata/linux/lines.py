"""Reading a file that others append lines to, and that may be renamed away meanwhile."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 16


class LineReader:
    """Lines of one file, as far as they are complete."""

    __slots__ = ("_fd", "_identity", "_rest")

    def __init__(self, path: str) -> None:
        """Open it. OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        facts = os.fstat(self._fd)
        self._identity = (facts.st_dev, facts.st_ino)
        self._rest = b""

    def seek(self, offset: int) -> None:
        """Go on at a byte where a line begins."""
        os.lseek(self._fd, offset, os.SEEK_SET)

    def read(self) -> Iterator[bytes]:
        """Lines without their ends, from where the last call stopped."""
        while chunk := os.read(self._fd, _BLOCK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines

    def is_current(self, path: str) -> bool:
        """Whether the file is still the one at ``path``."""
        try:
            facts = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (facts.st_dev, facts.st_ino) == self._identity

    def close(self) -> None:
        """Close it, once."""
        os.close(self._fd)
