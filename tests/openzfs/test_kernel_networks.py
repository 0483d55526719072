"""What this lane's kernel has and many development machines lack: its own WireGuard, and ipvlan.

The same as ``tests/system/test_networks_device.py`` and ``test_networks_direct.py`` show elsewhere,
as far as it depends on the kernel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.hosts import Host, Server, ask_tcp, inside, open_hosts
from helpers.store import BUSYBOX, Store

from strata.network import plan, wireguard

pytestmark = pytest.mark.openzfs


def load(module: str, kind: str) -> None:
    """The machine loads what is asked for by name only where a helper of the kernel is."""
    os.system(f"modprobe {module} 2>/dev/null")
    assert kind in Path("/proc/modules").read_text()


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    with open_hosts("a", "b") as made:
        yield made


def test_two_hosts_talk_through_the_kernels_own_wireguard(
    hosts: list[Host], tmp_path: Path
) -> None:  # fmt: skip
    load("wireguard", "wireguard")
    keys = [wireguard.make_private_key() for _ in hosts]
    publics = [wireguard.derive_public_key(key) for key in keys]
    ids = [os.urandom(32).hex() for _ in hosts]

    def open_tunnel(me: int) -> None:
        other = 1 - me
        (tmp_path / ids[me]).write_text(keys[me])
        peer: dict[str, Any] = {
            "node": hosts[other].name, "public_key": publics[other],
            "endpoint": f"{hosts[other].address}:51820", "subnets": [f"10.100.{other}.0/24"],
        }  # fmt: skip
        overlay = {"port": 51820, "keepalive": 0, "endpoint": "yes", "peers": [peer]}
        inside(hosts[me].netns, lambda: wireguard.ensure_up(
            ids[me], overlay, [f"10.100.{me}.1"], 1420, str(tmp_path / ids[me]), "strata:test",
        ))  # fmt: skip

    try:
        for me, host in enumerate(hosts):
            host.ok("ip", "address", "add", f"10.100.{me}.1/32", "dev", "lo")
            open_tunnel(me)
            link = plan.tunnel_name(ids[me])
            assert "wireguard" in host.ok("ip", "-details", "link", "show", link)
            assert wireguard.find_process(link) is None
        for me in (0, 1):
            with Server(hosts[1 - me].netns, 7000):
                answer = ask_tcp(hosts[me].netns, f"10.100.{1 - me}.1", 7000, timeout=20)
            assert answer == f"10.100.{me}.1".encode()
    finally:
        for me, host in enumerate(hosts):
            inside(host.netns, lambda number=me: wireguard.take_down(ids[number]))  # type: ignore[misc]
            assert host.list_links() == ["eth0", "lo"]


def test_an_ipvlan_container_is_on_the_wire(store: Store, hosts: list[Host]) -> None:
    """The machine itself is the container's host; its parent is a link to host ``a``."""
    load("ipvlan", "ipvlan")
    other = hosts[0]
    os.system(f"ip link add v0 type veth peer name v1 netns {other.pid} && ip link set v0 up")
    try:
        other.ok("ip", "address", "add", "198.51.100.1/24", "dev", "v1")
        other.ok("ip", "link", "set", "v1", "up")
        store.ok("network", "create", "-d", "ipvlan", "-o", "parent=v0", "--subnet",
               "198.51.100.0/24", "--gateway", "198.51.100.1", "lan")  # fmt: skip
        store.ok("run", "-d", "--name", "c", "--network", "lan", "--stop-signal", "KILL", BUSYBOX,
               "sleep", "100000")  # fmt: skip
        short = store.ok("inspect", "--format", "{{.Id}}", "c").line[:12]
        state = json.loads(Path(store.runroot, "c", short, "network.json").read_text())
        address = state["networks"]["lan"]["addresses"][0].partition("/")[0]
        netns = f"{store.runroot}/netns/{short}"
        with Server(netns, 80):
            assert ask_tcp(other.netns, address, 80, timeout=20) == b"198.51.100.1"
        with Server(other.netns, 81):
            assert ask_tcp(netns, "198.51.100.1", 81, timeout=20) == address.encode()
    finally:
        store.strata("rm", "-f", "c")
        store.strata("network", "rm", "lan")
        os.system("ip link delete v0")
