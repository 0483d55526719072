"""Networks under load and after disasters: many at once, changes under traffic, lost state."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers.hosts import Attached, Host, Server, ask_tcp, connect, inside, open_hosts
from helpers.networked import Place
from helpers.store import BUSYBOX, Store, list_processes, open_store, wait_until

from strata.linux import mount

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--stop-signal", "KILL", BUSYBOX, "sleep", "10000")


def get_address(store: Store, name: str, network: str) -> str:
    return Attached(store, name).addresses[network][0]


def list_state(store: Store) -> list[str]:
    """What is written down of leases, ports and namespaces."""
    found = []
    for top in (f"{store.runroot}/net/leases", f"{store.runroot}/net/ports",
                f"{store.runroot}/netns"):  # fmt: skip
        for folder, _, names in os.walk(top):
            found += [f"{folder}/{name}" for name in names if not name.startswith(".")]
    return found


def test_fifty_containers_at_once_on_one_network(place: Place) -> None:
    store, a, b = place
    store.ok("network", "create", "many")
    names = [f"c{number}" for number in range(50)]
    links = len(a.list_links())

    def start(number: int) -> None:
        store.ok("run", "--detach", "--name", names[number], "--network", "many",
                 "--publish", f"{9000 + number}:80", *SLEEPER)  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(50)))
    attached = [Attached(store, name) for name in names]
    addresses = [one.addresses["many"][0] for one in attached]
    assert len(set(addresses)) == 50
    assert len(a.list_links()) == links + 51
    # Neighbours see each other, and each published port leads to its own container.
    netns = [one.netns for one in attached]
    with contextlib.ExitStack() as stack:
        for number in (0, 24, 49):
            stack.enter_context(Server(netns[number], 80))
            assert ask_tcp(netns[10], addresses[number], 80) == addresses[10].encode()
            assert ask_tcp(b.netns, a.address, 9000 + number) == b.address.encode()
        assert ask_tcp(b.netns, a.address, 9001, timeout=0.4) is None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.ok("rm", "--force", "--time", "0", name), names))
    assert list_state(store) == []
    wait_until(lambda: len(a.list_links()) <= links + 1, "the links are gone")
    assert "9000" not in a.ok("nft", "list", "ruleset")


def test_a_connection_survives_changes_of_other_networks(
    place: Place,
) -> None:
    """Connect and disconnect a running container while data flows over its first network."""
    store, _, _ = place
    for name in ("one", "two"):
        store.ok("network", "create", name)
    store.ok("run", "--detach", "--name", "left", "--network", "one", *SLEEPER)
    store.ok("run", "--detach", "--name", "right", "--network", "one", *SLEEPER)
    left, right = Attached(store, "left").netns, Attached(store, "right").netns
    address = get_address(store, "right", "one")
    listener = inside(right, lambda: socket.create_server(("", 5000)))
    with listener, connect(left, address, 5000, timeout=30) as stream:
        peer, _ = listener.accept()
        peer.settimeout(30)
        stop = threading.Event()
        echoed = []

        def echo() -> None:
            while not stop.is_set():
                stream.sendall(b"x" * 1000)
                got = 0
                while got < 1000:
                    got += len(peer.recv(1000))
                echoed.append(got)

        thread = threading.Thread(target=echo)
        thread.start()
        try:
            for _ in range(5):
                store.ok("network", "connect", "two", "left")
                assert get_address(store, "left", "two")
                before = len(echoed)
                store.ok("network", "disconnect", "two", "left")
                wait_until(lambda n=before: len(echoed) > n, "data flows on")  # type: ignore[misc]
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        peer.close()
    assert "two" not in Attached(store, "left").addresses


def end_everything(store: Store) -> None:
    """What the end of power does to containers: every process dies at once, nobody is told."""
    while pids := list_processes(store):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def test_after_a_reboot_networks_come_back_with_their_containers() -> None:
    """The state below /run is gone and the host has only its own links again."""
    with contextlib.ExitStack() as stack:
        a, b = stack.enter_context(open_hosts("a", "b"))
        store = stack.enter_context(open_store(netns=a.netns))
        store.add_busybox()
        store.ok("network", "create", "--subnet", "10.89.77.0/24", "net")
        run = ("run", "--detach", "--name", "web", "--network", "net", "--ip", "10.89.77.9")
        store.ok(*run, "--publish", "8080:80", *SLEEPER)
        end_everything(store)
        for entry in mount.list_mounts():
            if entry.target.startswith(f"{store.runroot}/"):
                mount.unmount(entry.target, lazy=True)
        shutil.rmtree(store.runroot)
        store.netns = b.netns  # the same host, born anew
        assert store.ok("ps", "--all", "--format", "{{.Status}}").line.startswith("Exited")
        store.ok("system", "check", "--repair")
        assert store.ok("system", "check", "--format", "json").json["Problems"] == []
        store.ok("start", "web")
        with Server(Attached(store, "web").netns, 80):
            assert ask_tcp(a.netns, b.address, 8080) == a.address.encode()
        assert get_address(store, "web", "net") == "10.89.77.9"


FOREIGN = """
table inet firewalld {
  set allowed { type ipv4_addr; elements = { 198.51.100.7, 198.51.100.9 }; }
  chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
    ct state established,related accept
    ip saddr @allowed tcp dport 22 accept comment "by hand"
  }
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } counter packets 7 bytes 420 accept
  }
}
table ip nat {
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
    ip saddr 198.51.100.0/24 masquerade
  }
}
table ip strata-other {
  chain forward { type filter hook forward priority 5; policy accept; }
}
"""


def list_foreign(host: Host) -> str:
    """The foreign tables, with the handles by which other programs know their rules."""
    return "".join(
        host.ok("nft", "--handle", "--stateless", "list", "table", *table.split())
        for table in ("inet firewalld", "ip nat", "ip strata-other")
    )


def test_foreign_tables_stay_as_they_are(place: Place) -> None:
    store, a, _ = place
    a.ok("nft", "-f", "-", input=FOREIGN)
    try:
        before = list_foreign(a)
        store.ok("network", "create", "net")
        store.ok("run", "--detach", "--name", "web", "--network", "net", "--publish", "8080:80",
                 *SLEEPER)  # fmt: skip
        assert list_foreign(a) == before
        store.ok("network", "reload", "web")
        store.ok("rm", "--force", "--time", "0", "web")
        store.ok("network", "rm", "net")
        assert list_foreign(a) == before
    finally:
        for table in ("inet firewalld", "ip nat", "ip strata-other"):
            a.run("nft", "delete", "table", *table.split())


def test_a_table_that_somebody_flushed_comes_back_with_reload(
    place: Place,
) -> None:
    """As ``nft flush ruleset`` or a restart of firewalld does it."""
    store, a, b = place
    store.ok("network", "create", "net")
    store.ok("run", "--detach", "--name", "web", "--network", "net", "--publish", "8080:80",
             *SLEEPER)  # fmt: skip
    with Server(Attached(store, "web").netns, 80):
        a.ok("nft", "flush", "ruleset")
        assert ask_tcp(b.netns, a.address, 8080, timeout=0.4) is None
        said = store.ok("network", "reload", "--all").line
        assert said == store.ok("inspect", "--format", "{{.Id}}", "web").line
        assert store.ok("network", "reload", "--latest").line == said
        assert ask_tcp(b.netns, a.address, 8080) == b.address.encode()


def test_a_static_address_in_use_names_its_holder(place: Place) -> None:
    store, _, _ = place
    store.ok("network", "create", "--subnet", "10.89.88.0/24", "net")
    options: tuple[Any, ...] = ("run", "--detach", "--network", "net", "--ip", "10.89.88.5")
    store.ok(*options, "--name", "first", *SLEEPER)
    refused = store.strata(*options, "--name", "second", *SLEEPER)
    assert refused.rc == 125
    assert "first" in refused.err
    store.ok("rm", "--force", "--time", "0", "first")
    store.ok("start", "second") if store.strata("container", "exists", "second").rc == 0 else (
        store.ok(*options, "--name", "second", *SLEEPER)
    )
    assert get_address(store, "second", "net") == "10.89.88.5"
