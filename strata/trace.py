"""Named points between the steps of an operation.

``point`` does nothing unless a hook is installed. The fault tests install one that kills the
process at a chosen point, or lets a second actor move first; that is how every promise about
crashes and races is driven without sleeping. Points are named ``verb:step``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

hook: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Mark that the step before ``name`` is complete and the next has not begun."""
    if hook is not None:
        hook(name)
