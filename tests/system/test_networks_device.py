"""The WireGuard device between two hosts, before any container: made, in use, gone."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.hosts import Host, Server, ask_tcp, inside, list_inside, open_hosts

from strata import command
from strata.linux import network
from strata.network import plan, wireguard

pytestmark = [pytest.mark.root]


class End:
    """One host's end of an overlay: its keys, and an address to send from."""

    def __init__(self, host: Host, number: int, folder: str) -> None:
        self.host = host
        self.id = os.urandom(32).hex()
        self.gateway = f"10.100.{number}.1"
        self.key_path = f"{folder}/{self.id}.key"
        private = wireguard.make_private_key()
        with open(os.open(self.key_path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(private)
        self.key = wireguard.derive_public_key(private)
        self.peers: list[dict[str, Any]] = []
        host.ok("ip", "address", "add", f"{self.gateway}/32", "dev", "lo")

    @property
    def link(self) -> str:
        return plan.tunnel_name(self.id)

    def as_peer(self, endpoint: str) -> dict[str, Any]:
        return {"node": self.host.name, "public_key": self.key, "endpoint": endpoint,
                "subnets": [f"{self.gateway[:-2]}.0/24"]}  # fmt: skip

    def up(self, *, endpoint: str = "yes") -> None:
        overlay = {"ranges": ["10.100.0.0/16"], "node": self.host.name, "public_key": self.key,
                   "endpoint": endpoint, "port": 51820, "keepalive": 0,
                   "peers": self.peers}  # fmt: skip
        inside(self.host.netns, lambda: wireguard.ensure_up(
            self.id, overlay, [self.gateway], 1420, self.key_path, "strata:test"))  # fmt: skip

    def down(self) -> None:
        inside(self.host.netns, lambda: wireguard.take_down(self.id))


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with (
        tempfile.TemporaryDirectory(prefix="strata-test-", dir="/var/tmp") as folder,
        open_hosts("a", "b") as (a, b),
    ):
        made = End(a, 1, folder), End(b, 2, folder)
        made[0].peers = [made[1].as_peer(f"{b.address}:51820")]
        made[1].peers = [made[0].as_peer(f"{a.address}:51820")]
        try:
            yield made
        finally:
            for end in made:
                with contextlib.suppress(OSError):
                    end.down()


def assert_talk(a: End, b: End) -> None:
    with Server(b.host.netns, 7000):
        assert ask_tcp(a.host.netns, b.gateway, 7000, timeout=10) == a.gateway.encode()


def test_two_hosts_talk_in_both_directions(ends: tuple[End, End]) -> None:
    a, b = ends
    a.up()
    b.up()
    assert_talk(a, b)
    assert_talk(b, a)


def test_between_the_hosts_only_the_tunnel_is_seen(ends: tuple[End, End]) -> None:
    a, b = ends
    a.up()
    b.up()
    b.host.ok("nft", "-f", "-", input="table inet t { chain c { type filter hook input priority 0;"
              " iif eth0 udp dport 51820 accept; iif eth0 drop; }; }")  # fmt: skip
    assert_talk(a, b)


def test_a_host_that_cannot_be_dialled_is_answered(ends: tuple[End, End]) -> None:
    """``a`` knows no endpoint of ``b`` and learns it from the first packet."""
    a, b = ends
    a.peers = [b.as_peer("")]
    a.up()
    b.up(endpoint="")
    assert_talk(b, a)
    assert_talk(a, b)


def test_a_dropped_peer_is_neither_routed_nor_heard(ends: tuple[End, End]) -> None:
    a, b = ends
    a.up()
    b.up()
    assert_talk(a, b)
    a.peers = []
    a.up()
    assert a.link not in a.host.ok("ip", "route")
    with Server(a.host.netns, 7000):
        assert ask_tcp(b.host.netns, a.gateway, 7000, timeout=1) is None


def test_a_killed_process_is_started_again(ends: tuple[End, End]) -> None:
    a, b = ends
    a.up()
    b.up()
    running = wireguard.find_process(a.link)
    if running is None:  # the kernel's own
        inside(a.host.netns, lambda: os.system(f"ip link delete {a.link}"))
    else:
        os.kill(running[0], signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(running[0], 0)
    assert not inside(a.host.netns, lambda: network.find_link(a.link))
    a.up()
    assert_talk(a, b)


def test_nothing_is_left_when_it_is_taken_down(ends: tuple[End, End]) -> None:
    a, _ = ends
    before = a.host.describe()
    a.up()
    assert a.host.describe() != before
    a.down()
    a.down()
    assert a.host.describe() == before
    assert len(list_inside(os.stat(a.host.netns).st_ino)) == 1
    assert not os.path.exists(f"/run/wireguard/{a.link}.sock")


def test_the_private_key_is_in_no_argument_and_no_environment(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    a, _ = ends
    seen: list[str] = []
    monkeypatch.setattr(command, "observer", seen.extend)
    a.up()
    with open(a.key_path) as file:
        private = file.read()
    assert "wg" in seen
    assert private not in seen
    for pid in list_inside(os.stat(a.host.netns).st_ino):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert private.encode() not in file.read()


def test_a_device_without_its_key_says_so(ends: tuple[End, End]) -> None:
    a, _ = ends
    os.unlink(a.key_path)
    with pytest.raises(wireguard.NotFound, match="private key"):
        a.up()
    assert a.link not in a.host.list_links()
