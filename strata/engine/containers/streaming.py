"""``cp`` with a tar archive on a pipe, in either direction.

Both go through a directory of the operation's own: coming in, the archive is unpacked there by the
confined child that unpacks image layers, and only then copied into the container as ``cp`` copies;
going out, what was copied there is written as an archive. So a pipe can do nothing that a
directory could not, and a broken archive leaves the container as it was.
"""

from __future__ import annotations

import os

from strata import trace
from strata.engine.containers.copy import copy
from strata.engine.core import Engine
from strata.errors import UsageError
from strata.linux.tree import remove_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def _spooled(e: Engine, verb: str) -> AbstractContextManager[str]:
    """A directory that is gone at the end, also after a crash."""
    from contextlib import contextmanager

    @contextmanager
    def make() -> Iterator[str]:
        with e.begin(verb) as operation:
            operation.plan(["unspool", operation.id])
            folder = f"{e.spool}/{operation.id}"
            os.makedirs(folder, 0o700)
            try:
                yield folder
            finally:
                remove_path(folder)

    return make()


def copy_in(e: Engine, destination: str, fd: int, *, overwrite: bool = False) -> None:
    """Unpack a tar archive, also a compressed one, into a directory of a container.

    Files belong to whom the archive says. `ArchiveError`.
    """
    from strata.archive.apply import apply_layer

    _check(destination)
    with _spooled(e, "cp-in") as folder:
        os.mkdir(f"{folder}/rootfs", 0o755)
        os.mkdir(f"{folder}/.strata", 0o700)
        _keep(fd, f"{folder}/archive")
        apply_layer(f"{folder}/archive", "", folder)
        trace.point("cp-in:unpacked")
        copy(e, f"{folder}/rootfs/.", destination, archive=False, overwrite=overwrite,
             existing=True)  # fmt: skip


def _keep(fd: int, path: str) -> None:
    """Write all that comes from a descriptor to a new file: unpacking looks at it twice."""
    with open(path, "xb") as file:
        while chunk := os.read(fd, 1 << 20):
            file.write(chunk)


def copy_out(e: Engine, source: str, write: Callable[[bytes], object]) -> None:
    """Write a file or tree of a container as a tar archive."""
    from strata.archive.diff import export_tree

    _check(source)
    with _spooled(e, "cp-out") as folder:
        copy(e, source, folder, archive=False)
        trace.point("cp-out:copied")
        export_tree(folder, write)


def _check(text: str) -> None:
    name, colon, _ = text.partition(":")
    if not colon or "/" in name or not name:
        raise UsageError("one of the two must be in a container", hint="write it as CONTAINER:PATH")
