"""The test hosts of ``helpers.hosts`` are hosts: apart, joined, and gone afterwards."""

from __future__ import annotations

import os
import socket

import pytest
from helpers.hosts import Server, ask_tcp, ask_udp, list_inside, open_hosts
from helpers.store import BUSYBOX, open_store

pytestmark = [pytest.mark.root]


def test_hosts_reach_each_other_and_see_who_asks() -> None:
    with open_hosts("a", "b") as (a, b), Server(a.netns, 7000):
        assert ask_tcp(b.netns, a.address, 7000) == b.address.encode()
        assert ask_tcp(b.netns, a.address6, 7000) == b.address6.encode()
        assert ask_udp(b.netns, a.address, 7000) == b.address.encode()
        assert ask_tcp(b.netns, b.address, 7000) is None


def test_hosts_leave_neither_links_nor_processes() -> None:
    before = socket.if_nameindex()
    with open_hosts("a", "b") as hosts:
        assert all(host.list_links() == ["eth0", "lo"] for host in hosts)
        assert socket.if_nameindex() == before
        inodes = [os.stat(host.netns).st_ino for host in hosts]
        hosts[0].ok("sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
        assert len(list_inside(inodes[0])) == 2
    assert socket.if_nameindex() == before
    assert not [pid for inode in inodes for pid in list_inside(inode)]


def test_a_store_on_a_host_runs_its_commands_there() -> None:
    # A store of its own: with the host ends what a command of it left at work.
    with open_hosts("a") as (a,), open_store(netns=a.netns) as store:
        store.add_busybox()
        shown = store.ok("run", "--rm", "--network", "host", BUSYBOX, "cat", "/proc/net/dev")
    links = [line.split(":")[0].strip() for line in shown.out.splitlines() if ":" in line]
    assert links == ["lo", "eth0"]
