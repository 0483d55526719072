"""Why a container could not start, where the runtime cannot know it. Loaded after a failure."""

from __future__ import annotations

import os

from strata.engine import limits
from strata.engine.core import ROOTFS, Engine, Record
from strata.errors import NoSpace, StrataError


def explain(e: Engine, record: Record, error: StrataError) -> StrataError:
    """The error to raise for a failed start: that the container is full, if it is.

    A runtime makes mount points without looking at the reason when it fails. What is written here
    to find out has no name and is gone with its descriptor.
    """
    if not limits.is_limited(record):
        return error
    try:
        with limits.Explained(e, record):
            fd = os.open(
                f"{e.driver.open(record['dataset'])}/{ROOTFS}",
                os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600,
            )  # fmt: skip
            try:
                os.write(fd, b"\0" * 65536)
                os.fsync(fd)
            finally:
                os.close(fd)
    except NoSpace as full:
        return full
    except (OSError, StrataError):
        pass  # it was something else
    return error
