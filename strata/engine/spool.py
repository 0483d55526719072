"""Folders for what an operation reads once: archives from a pipe, trees on their way elsewhere.

They lie in the store, so there is room where the result will be, and the journal takes them away
when the operation ends in any way.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine
from strata.errors import NetworkError, UsageError
from strata.linux.tree import remove_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.store.journal import Operation

#: seconds without a byte until a download is given up
_DOWNLOAD_TIMEOUT = 60


class Spool:
    """A folder below a running operation; a context manager that gives its path."""

    __slots__ = ("_folder",)

    def __init__(self, e: Engine, operation: Operation) -> None:
        operation.plan(["unspool", operation.id])
        self._folder = f"{e.spool}/{operation.id}"
        os.makedirs(self._folder, 0o700)

    def __enter__(self) -> str:
        return self._folder

    def __exit__(self, *_: object) -> None:
        remove_path(self._folder)


def keep(fd: int, path: str) -> str:
    """Write all that comes from a descriptor to a new file, for those who look at it twice."""
    with open(path, "xb") as file:
        while chunk := os.read(fd, 1 << 20):
            file.write(chunk)
    return path


def download(url: str, path: str) -> str:
    """Fetch what a URL of http or https has into a new file. `UsageError`, `NetworkError`."""
    import http.client
    import urllib.error
    import urllib.request

    if url.partition("://")[0] not in ("http", "https"):
        raise UsageError(f"downloading {url}: only http and https", hint="or give a file's path")
    try:
        with (
            urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT) as answer,
            open(path, "xb") as file,
        ):
            while chunk := answer.read(1 << 20):
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise NetworkError(f"downloading {url}: {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise NetworkError(f"downloading {url}: {reason.lower()}") from None
    except (http.client.HTTPException, TimeoutError, ValueError) as error:
        raise NetworkError(f"downloading {url}: {error}") from None
    return path


def unpack(folder: str, fd: int) -> str:
    """Unpack a tar archive, also a compressed one, in the child that unpacks image layers.

    Returns the directory it is in, below ``folder``. Files belong to whom the archive says.
    `ArchiveError`.
    """
    from strata.archive.apply import apply_layer

    os.mkdir(f"{folder}/rootfs", 0o755)
    os.mkdir(f"{folder}/.strata", 0o700)
    apply_layer(keep(fd, f"{folder}/archive"), "", folder)
    return f"{folder}/rootfs"
