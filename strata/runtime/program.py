"""The program a process is to run: found in the container's root as the runtime will find it."""

from __future__ import annotations

import os

from strata.errors import RuntimeFailure
from strata.linux.resolve import open_in_root
from strata.runtime.launch import classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: as much of a program as is read ahead, in bytes
_AHEAD = 4 << 20


def find(root: int, process: Mapping[str, Any]) -> int:
    """A descriptor that only names the program; ``root`` is one of the root directory.

    `RuntimeFailure` 127 when the program is absent, 126 when it is not executable, in the
    runtime's words.
    """
    name = process["args"][0]
    if "/" in name:
        candidates = [name if name.startswith("/") else f"{process['cwd']}/{name}"]
    else:
        path = ""
        for item in process["env"]:
            if item.startswith("PATH="):
                path = item[5:]
        candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")]
    denied = False
    for candidate in candidates:
        try:
            fd = open_in_root(root, candidate, os.O_PATH)
        except PermissionError:
            denied = True
            continue
        except OSError:
            continue
        mode = os.fstat(fd).st_mode
        if mode & 0o170000 == 0o100000 and mode & 0o111:
            return fd
        os.close(fd)
        denied = True
    if denied:
        raise classify("crun", f"open executable {name!r}: Permission denied")
    raise classify("crun", f"executable file `{name}` not found in $PATH")


def read_ahead(root: int, process: Mapping[str, Any]) -> None:
    """Have the kernel begin to read the program; what is wrong with it the runtime will say.

    A container's file system may be a fresh clone, and what other clones have in memory does not
    count for it: then the start would wait for the disk.
    """
    try:
        found = find(root, process)
    except RuntimeFailure:
        return
    try:
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    finally:
        os.close(found)
    try:
        os.posix_fadvise(fd, 0, _AHEAD, os.POSIX_FADV_WILLNEED)
    except OSError:
        return
    finally:
        os.close(fd)
