"""Why a container could not start, where the runtime cannot know it. Loaded after a failure."""

from __future__ import annotations

import errno
import os

from strata.engine.core import ROOTFS, Engine, Record
from strata.errors import NoSpace, StrataError

_FULL = (errno.EDQUOT, errno.ENOSPC)


def explain(e: Engine, record: Record, error: StrataError) -> StrataError:
    """The error to raise for a failed start: that the container's ``size=`` is used up, if it is.

    A runtime makes mount points without looking at the reason when it fails. What is written here
    to find out has no name and is gone with its descriptor.
    """
    limit = (record.get("native") or {}).get("refquota")
    if not limit:
        return error
    try:
        fd = os.open(
            f"{e.driver.open(record['dataset'])}/{ROOTFS}",
            os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600,
        )  # fmt: skip
        try:
            os.write(fd, b"\0" * 65536)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as found:
        if found.errno in _FULL:
            return NoSpace(
                f"container {record['name']} has used up its size={limit}: no file can be made in "
                "its root file system",
                hint="the size counts what the image brings; make it anew with a larger one",
            )
    return error
