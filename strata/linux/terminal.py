"""The controlling terminal of a foreground command: size and raw mode. termios(3), ioctl_tty(2)."""

from __future__ import annotations

import _struct as struct
import errno
import fcntl
import os
import termios

_SIZE = struct.Struct("HHHH")


def find_size(fd: int) -> tuple[int, int] | None:
    """Rows and columns of a terminal; None when ``fd`` is not one or it has no size."""
    try:
        rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * _SIZE.size))
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def set_size(fd: int, rows: int, columns: int) -> None:
    """Give a terminal a size; its foreground processes get SIGWINCH when it is another one."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


def _put_back(fd: int, modes: list[object] | None) -> None:
    """Set what was found before. A terminal that was hung up meanwhile has nothing to restore."""
    if modes is None:
        return
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)  # type: ignore[arg-type]
    except termios.error as error:
        if error.args[0] not in (errno.EIO, errno.ENOTTY):
            raise


class RawMode:
    """A context in which the terminal passes every byte on and changes none.

    Without effect when ``fd`` is not a terminal. What was set before comes back at the end, also
    after an error; what was typed meanwhile is kept.
    """

    __slots__ = ("_before", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._before: list[object] | None = None

    def __enter__(self) -> RawMode:
        if not os.isatty(self.fd):
            return self
        self._before = termios.tcgetattr(self.fd)
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
                     | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG
                     | termios.IEXTEN)  # fmt: skip
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        _put_back(self.fd, self._before)
        self._before = None
