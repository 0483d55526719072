"""Which cgroup hierarchy the host has, and the engine's directories in it.

Limits are set by the OCI runtime; here is only what nobody else does. Sources: cgroups(7),
Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os

ROOT = "/sys/fs/cgroup"


def get_mode() -> str:
    """``v2``, ``v1``, or ``hybrid`` (v1 controllers beside a v2 mount at ``unified``)."""
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        return "v2"
    return "hybrid" if os.path.exists(f"{ROOT}/unified/cgroup.controllers") else "v1"


def has_swap_limit(mode: str) -> bool:
    """Whether the kernel accounts swap, so that a limit on it can be set."""
    if mode == "v2":
        # The files are only below the root; a kernel without swap accounting is a v1 affair.
        return True
    return os.path.exists(f"{ROOT}/memory/memory.memsw.limit_in_bytes")


def list_directories(path: str, mode: str | None = None) -> list[str]:
    """The existing directories of the cgroup ``path`` (``/strata/ID``), one per hierarchy."""
    if (mode or get_mode()) == "v2":
        candidates = [f"{ROOT}{path}"]
    else:
        candidates = [f"{ROOT}/{name}{path}" for name in sorted(os.listdir(ROOT))
                      if not os.path.islink(f"{ROOT}/{name}")]  # fmt: skip
    return [candidate for candidate in candidates if os.path.isdir(candidate)]


def remove(path: str) -> None:
    """Remove a cgroup without processes, with the empty ones below it. Idempotent.

    One that still has processes stays.
    """
    for top in list_directories(path):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue
