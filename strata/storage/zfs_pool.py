"""ZFS pools."""

from __future__ import annotations


def list_kernel_pools() -> list[str]:
    """Pools of the kernel's ZFS; none without the module."""
    return []
