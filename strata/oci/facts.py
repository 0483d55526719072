"""What a runtime spec depends on besides the container: facts of the host, read elsewhere."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class HostFacts:
    """What the spec must know of the host. ``rlimits`` maps ulimit names to (soft, hard)."""

    __slots__ = (
        "bounding", "can_raise_limits", "cgroup", "devices", "given_devices", "hostname",
        "init_program", "joined", "numbers", "rlimits", "secret_env", "swap_limit",
    )  # fmt: skip

    def __init__(
        self, *, bounding: Sequence[str], cgroup: str, hostname: str, can_raise_limits: bool,
        rlimits: Mapping[str, tuple[int, int]], swap_limit: bool = True,
        devices: Sequence[Mapping[str, Any]] = (), init_program: str = "",
    ) -> None:  # fmt: skip
        self.bounding = list(bounding)
        #: ``v2``, ``v1`` or ``hybrid``
        self.cgroup = cgroup
        self.hostname = hostname
        self.can_raise_limits = can_raise_limits
        self.rlimits = dict(rlimits)
        self.swap_limit = swap_limit
        #: every device node of the host, for privileged containers: OCI ``linux.devices`` entries
        self.devices = [dict(device) for device in devices]
        #: path of catatonit, empty when not installed
        self.init_program = init_program
        #: the nodes of ``--device``: OCI entries with their ``access``
        self.given_devices: list[dict[str, Any]] = []
        #: variables from secrets, as KEY=value
        self.secret_env: list[str] = []
        #: namespaces of others that it joins: name in the spec -> path
        self.joined: dict[str, str] = {}
        #: device numbers of block devices whose I/O is limited
        self.numbers: dict[str, tuple[int, int]] = {}
