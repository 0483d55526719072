"""``cp`` with a tar archive on a pipe, in either direction.

Both go through a directory of the operation's own: coming in, the archive is unpacked there by the
confined child that unpacks image layers, and only then copied into the container as ``cp`` copies;
going out, what was copied there is written as an archive. So a pipe can do nothing that a
directory could not, and a broken archive leaves the container as it was.
"""

from __future__ import annotations

from strata import trace
from strata.engine.containers.copy import copy
from strata.engine.core import Engine
from strata.engine.spool import Spool, unpack
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def copy_in(e: Engine, destination: str, fd: int, *, overwrite: bool = False) -> None:
    """Unpack a tar archive, also a compressed one, into a directory of a container.

    Files belong to whom the archive says. `ArchiveError`.
    """
    _check(destination)
    with e.begin("cp-in") as operation, Spool(e, operation) as folder:
        tree = unpack(folder, fd)
        trace.point("cp-in:unpacked")
        copy(e, f"{tree}/.", destination, archive=False, overwrite=overwrite, existing=True)


def copy_out(e: Engine, source: str, write: Callable[[bytes], object]) -> None:
    """Write a file or tree of a container as a tar archive."""
    from strata.archive.diff import export_tree

    _check(source)
    with e.begin("cp-out") as operation, Spool(e, operation) as folder:
        copy(e, source, folder, archive=False)
        trace.point("cp-out:copied")
        export_tree(folder, write)


def _check(text: str) -> None:
    name, colon, _ = text.partition(":")
    if not colon or "/" in name or not name:
        raise UsageError("one of the two must be in a container", hint="write it as CONTAINER:PATH")
