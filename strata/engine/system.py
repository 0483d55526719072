"""The store as a whole: making it, describing it, removing it.

A store appears and disappears with ``store.json``, which is written last and removed last. So a
killed ``init`` is completed by the next one, and a killed ``reset`` by the next ``reset``.
"""

from __future__ import annotations

import os

from strata.engine.core import Record, get_roots
from strata.storage import setup
from strata.storage.driver import Driver
from strata.store.paths import Paths
from strata.store.records import Records


def init(
    root: str | None = None, runroot: str | None = None, *, driver: str | None = None,
    pool: str | None = None, file: str | None = None, size: int | None = None,
) -> Record:  # fmt: skip
    """Make the store and return where it is.

    ``size`` is in bytes. `AlreadyExists` when there is one. What a killed run left is taken over.
    """
    root, runroot = get_roots(root, runroot)
    config = setup.initialize(
        os.path.abspath(root), driver=driver, pool=pool, file=file, size=size, furnish=_furnish
    )
    Paths(root, runroot).ensure_runroot()
    return {
        "Driver": config.driver, "Root": config.root,
        "Pool": config.dataset or config.pool or "", "File": config.file or "",
        "Size": config.size,
    }  # fmt: skip


def _furnish(driver: Driver) -> None:
    """What every store holds before it is announced: the directories of its records."""
    Records(driver.open("records")).ensure_layout()
