"""The program a process is to run: found in the container's root as the runtime will find it."""

from __future__ import annotations

import os

from strata.linux.resolve import open_in_root
from strata.runtime.launch import classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

#: as much of a program as is read ahead, in bytes
_AHEAD = 4 << 20


def check(root: int, process: Mapping[str, Any]) -> None:
    """`RuntimeFailure` 127 when the program is absent, 126 when it is not executable, in the
    runtime's words. ``root`` is a descriptor of the root directory, ``process`` OCI's."""
    name = process["args"][0]
    denied = False
    for fd, is_program in _find(root, process):
        if fd >= 0:
            os.close(fd)
        if is_program:
            return
        denied = True
    if denied:
        raise classify("crun", f"open executable {name!r}: Permission denied")
    raise classify("crun", f"executable file `{name}` not found in $PATH")


def read_ahead(root: int, process: Mapping[str, Any]) -> None:
    """Have the kernel begin to read the program; it is still started when that fails.

    A container's file system may be a fresh clone, and what other clones have in memory does not
    count for it: then the start would wait for the disk.
    """
    for fd, is_program in _find(root, process):
        if fd < 0:
            continue
        try:
            if is_program:
                _read_ahead(fd)
                return
        except OSError:
            return
        finally:
            os.close(fd)


def _read_ahead(found: int) -> None:
    fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, _AHEAD, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(fd)


def _find(root: int, process: Mapping[str, Any]) -> Iterator[tuple[int, bool]]:
    """What there is where the program may be: a descriptor that only names it, -1 where that is
    denied, and whether it is a regular file that somebody may execute."""
    name = process["args"][0]
    if "/" in name:
        candidates = [name if name.startswith("/") else f"{process['cwd']}/{name}"]
    else:
        path = ""
        for item in process["env"]:
            if item.startswith("PATH="):
                path = item[5:]
        candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")]
    for candidate in candidates:
        try:
            fd = open_in_root(root, candidate, os.O_PATH)
        except PermissionError:
            yield -1, False
        except OSError:
            continue
        else:
            mode = os.fstat(fd).st_mode
            yield fd, mode & 0o170000 == 0o100000 and bool(mode & 0o111)
