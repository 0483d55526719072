"""What can be wrong with overlays: a tunnel that is gone, one too many, a key of nothing.

A tunnel's userspace process can be killed; then its link is gone while containers still count on
it. The other way round a killed command can leave a tunnel that nobody needs. Links are known as
ours by their alias, which names the store.
"""

from __future__ import annotations

import functools
import os

from strata import command
from strata.engine.core import Engine, Record
from strata.engine.networks import host, overlay
from strata.engine.system.world import Problem, World
from strata.linux import network as kernel
from strata.network import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def find(e: Engine, w: World) -> Iterator[Problem]:
    """Compare tunnels and keys with the records and what is attached."""
    overlays = {record["id"]: record for record in w.records["network"].values()
                if plan.is_overlay(record)}  # fmt: skip
    used = {attachment["id"] for _, state in host.list_states(e)
            for attachment in state["networks"].values()}  # fmt: skip
    for network_id, record in overlays.items():
        yield from _find_wrong_tunnel(e, record, network_id in used)
        if not os.path.exists(overlay.key_path(e, network_id)) and network_id not in w.busy:
            yield Problem(
                "overlay-key", f"network {record['name']}",
                "its private key is gone; remove the network, create it again and exchange tokens",
            )  # fmt: skip
    yield from _find_foreign_tunnels(e, overlays)
    removed = {entry["id"] for entry in w.trash}
    for network_id in overlay.list_keys(e):
        known = network_id in w.records["network"] or network_id in removed
        if not known and network_id not in w.busy:
            yield Problem(
                "overlay-key", f"key {network_id[:12]}", "it belongs to no network",
                functools.partial(overlay.drop_key, e, network_id),
            )  # fmt: skip


def _find_wrong_tunnel(e: Engine, record: Record, used: bool) -> Iterator[Problem]:
    if used and not host.has_tunnel(record):
        yield Problem(
            "overlay-down", f"network {record['name']}",
            "its WireGuard device is gone while containers use it",
            functools.partial(host.rebuild, e),
        )  # fmt: skip
    elif not used and host.has_tunnel(record):
        yield Problem(
            "overlay-idle", f"network {record['name']}",
            "its WireGuard device is there though no container uses it",
            functools.partial(host.close_idle_tunnels, e, [record["id"]]),
        )  # fmt: skip


def _find_foreign_tunnels(e: Engine, overlays: dict[str, Record]) -> Iterator[Problem]:
    """Tunnels of this store whose network is gone."""
    known = {plan.tunnel_name(network_id) for network_id in overlays}
    prefix = plan.tunnel_name("")
    unknown = {name for name in kernel.list_links() if name.startswith(prefix)} - known
    for name in sorted(unknown):
        shown = command.run(["ip", "link", "show", "dev", name], check=False).text.split()
        if overlay.get_alias(e) in shown:
            yield Problem(
                "overlay-idle", f"link {name}", "its network is gone",
                functools.partial(host.close_idle_tunnels, e, [name.removeprefix(prefix)]),
            )  # fmt: skip
