"""Removed networks lie in the trash and come back with what they had, or say who has it now."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.hosts import Attached, Host, wait_for_tcp
from helpers.networked import clear
from helpers.store import BUSYBOX, Store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEPER = ("--stop-signal", "KILL", BUSYBOX, "sleep", "10000")
SERVER = ("--stop-signal", "KILL", BUSYBOX, "httpd", "-f", "-p", "80")


@pytest.fixture
def store(hosted_store: Store) -> Iterator[Store]:
    """A store without containers, networks and trash, before and after."""
    try:
        yield hosted_store
    finally:
        clear(hosted_store)
        hosted_store.strata("trash", "empty", "--all", "--force")


def inspect(store: Store, name: str) -> dict[str, Any]:
    [found] = store.ok("network", "inspect", name).json
    found.pop("containers")
    return dict(found)


def list_trash(store: Store) -> list[tuple[str, str]]:
    rows = store.ok("trash", "ls", "--format", "json").json
    return sorted((row["Kind"], row["Name"]) for row in rows)


def test_undo_brings_a_network_back_as_it_was(store: Store, hosts: list[Host]) -> None:
    store.ok(
        "network",
        "create",
        "--subnet",
        "10.77.5.0/24",
        "--ipv6",
        "--interface-name",
        "br77",
        "--label",
        "a=b",
        "--dns",
        "192.0.2.254",
        "--route",
        "10.9.0.0/16,10.77.5.9",
        "x",
    )
    before = inspect(store, "x")
    store.ok("run", "--rm", "--network", "x", BUSYBOX, "true")
    assert store.ok("network", "rm", "x").line == "x"
    assert "br77" not in hosts[0].list_links()
    assert store.strata("network", "exists", "x").rc == 1
    assert list_trash(store) == [("network", "x")]
    assert store.ok("system", "check").out == ""
    assert store.ok("undo", "--dry-run").line == "would bring back network x"
    assert store.ok("undo").line == "network x"
    assert inspect(store, "x") == before
    assert list_trash(store) == []
    store.ok("run", "--detach", "--name", "c", "--network", "x:ip=10.77.5.30", *SERVER)
    wait_for_tcp(hosts[0].netns, "10.77.5.30", 80)
    assert store.ok("system", "check").out == ""


def test_what_goes_is_said_before_and_nothing_goes_yet(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.5.0/24", "x")
    store.ok("create", "--name", "c", "--network", "x", *SLEEPER)
    store.ok("network", "create", "--subnet", "10.77.6.0/24", "free")
    assert store.strata("network", "rm", "--dry-run", "x").rc == 2
    assert store.ok("network", "rm", "--dry-run", "--force", "x").out.splitlines() == [
        "would remove container c", "would remove network x (with subnet 10.77.5.0/24)",
    ]  # fmt: skip
    free = "would remove network free (with subnet 10.77.6.0/24)"
    assert store.ok("network", "prune", "--dry-run").out.splitlines() == [free]
    planned = store.ok("system", "prune", "--dry-run").out.splitlines()
    assert free in planned
    assert "would remove network x (with subnet 10.77.5.0/24)" in planned, "its container goes too"
    assert store.strata("network", "rm", "--dry-run", "none-such").rc == 1
    assert "strata" in store.ok("network", "ls", "-q").out.split(), "listing makes it"
    assert "cannot be removed" in store.strata("network", "rm", "--dry-run", "strata").err
    assert {"x", "free"} <= set(store.ok("network", "ls", "-q").out.split())
    assert list_trash(store) == []


def test_by_force_containers_go_along_and_come_back_connected(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.5.0/24", "x")
    store.ok("network", "create", "y")
    store.ok("run", "--detach", "--name", "c", "--network", "x:ip=10.77.5.30,alias=www",
             "--network", "y", *SLEEPER)  # fmt: skip
    store.ok("network", "rm", "--force", "--time", "0", "x")
    assert list_trash(store) == [("container", "c"), ("network", "x")]
    assert store.ok("undo").out.splitlines() == ["network x", "container c"]
    store.ok("start", "c")
    assert Attached(store, "c").addresses["x"] == ["10.77.5.30"]
    assert set(Attached(store, "c").addresses) == {"x", "y"}


@pytest.mark.parametrize("words", [["network", "rm"], ["network", "prune", "--force"],
                                   ["system", "prune", "--force"]], ids=" ".join)  # fmt: skip
def test_now_destroys_at_once(store: Store, words: list[str]) -> None:
    store.ok("network", "create", "x")
    store.ok(*words, "--now", *(["x"] if "rm" in words else []))
    assert store.strata("network", "exists", "x").rc == 1
    assert list_trash(store) == []


@pytest.mark.parametrize("words", [["network", "prune"], ["system", "prune"]], ids=" ".join)
def test_what_a_prune_took_comes_back(store: Store, words: list[str]) -> None:
    store.ok("network", "create", "x")
    store.ok("network", "create", "y")
    assert store.strata(*words).rc == 125, "it asks, and there is no terminal"
    store.ok(*words, "--force")
    assert list_trash(store) == [("network", "x"), ("network", "y")]
    store.ok("undo")
    assert {"x", "y"} <= set(store.ok("network", "ls", "-q").out.split())


def test_the_trash_can_be_emptied_of_networks(store: Store) -> None:
    store.ok("network", "create", "x")
    store.ok("network", "rm", "x")
    assert "network x" in store.ok("trash", "empty", "--dry-run", "x").line
    store.ok("trash", "empty", "--force", "x")
    assert list_trash(store) == []
    assert store.strata("undo").rc == 125


def test_its_name_taken_it_comes_back_beside_the_new_one(store: Store) -> None:
    store.ok("network", "create", "x")
    old = inspect(store, "x")
    store.ok("create", "--name", "c", "--network", "x", *SLEEPER)
    store.ok("network", "rm", "--force", "x")
    store.ok("network", "create", "x")
    new = inspect(store, "x")
    assert new["subnets"] != old["subnets"], "a removed network's subnet is the last to be given"
    assert new["network_interface"] != old["network_interface"]
    done = store.ok("undo")
    assert done.out.splitlines() == ["network x-restored", "container c"]
    assert "it is called x-restored now" in done.err
    assert inspect(store, "x-restored") == {**old, "name": "x-restored"}
    store.ok("start", "c")
    assert list(Attached(store, "c").addresses) == ["x-restored"]
    store.ok("network", "rm", "--force", "--time", "0", "x-restored")
    refused = store.strata("trash", "restore", "--name", "x", "x-restored")
    assert refused.rc == 125
    store.ok("trash", "restore", "--name", "back", "x-restored")
    assert inspect(store, "back")["subnets"] == old["subnets"]
    store.ok("trash", "restore", "c")
    assert store.ok(
        "inspect", "--format", "{{json .NetworkSettings.Networks}}", "c"
    ).json.keys() == {"back"}


def test_a_subnet_that_is_taken_is_said_and_changed_only_when_asked(store: Store) -> None:
    store.ok("network", "create", "--subnet", "10.77.5.0/24", "--route", "10.9.0.0/16,10.77.5.9",
             "x")  # fmt: skip
    store.ok("create", "--name", "c", "--network", "x:ip=10.77.5.30", *SLEEPER)
    store.ok("network", "rm", "--force", "x")
    store.ok("network", "create", "--subnet", "10.77.0.0/16", "other")
    refused = store.strata("trash", "restore", "x")
    assert refused.rc == 125
    assert "its subnet 10.77.5.0/24 is taken by network other" in refused.err
    assert "--renumber" in refused.err
    undone = store.strata("undo")
    assert undone.rc == 125
    assert undone.out.splitlines() == ["container c"], "one that cannot come back keeps no other"
    assert "its network x is not there" in undone.err
    assert store.strata("start", "c").rc == 125
    done = store.ok("trash", "restore", "--renumber", "x")
    assert "as 10.77.5.0/24 is taken; without its route to 10.9.0.0/16" in done.err
    assert "c: requested static ip 10.77.5.30 not in any subnet" in done.err
    assert not inspect(store, "x")["subnets"][0]["subnet"].startswith("10.77.")
    store.ok("run", "--rm", "--network", "x", BUSYBOX, "true")
    assert store.strata("trash", "restore", "--renumber", "x").rc == 125


def test_a_subnet_the_host_took_is_said(store: Store, hosts: list[Host]) -> None:
    store.ok("network", "create", "--subnet", "10.77.5.0/24", "x")
    store.ok("network", "rm", "x")
    hosts[0].ok("ip", "route", "add", "10.77.5.128/25", "dev", "eth0")
    try:
        refused = store.strata("trash", "restore", "x")
        assert refused.rc == 125
        assert "taken by the host, which has a route to 10.77.5.128/25" in refused.err
    finally:
        hosts[0].ok("ip", "route", "del", "10.77.5.128/25", "dev", "eth0")
    store.ok("trash", "restore", "x")


def test_a_bridge_that_is_taken_is_said_with_who_has_it(store: Store, hosts: list[Host]) -> None:
    host = hosts[0]
    store.ok("network", "create", "--interface-name", "br77", "x")
    store.ok("network", "rm", "x")
    store.ok("network", "create", "--interface-name", "br77", "other")
    refused = store.strata("network", "create", "--interface-name", "br77", "third")
    assert refused.rc == 125
    assert "the bridge name br77 is already used by network other" in refused.err
    refused = store.strata("trash", "restore", "x")
    assert refused.rc == 125
    assert "the bridge name br77 is already used by network other" in refused.err
    store.ok("network", "rm", "--now", "other")
    host.ok("ip", "link", "add", "br77", "type", "veth")
    try:
        refused = store.strata("trash", "restore", "x")
        assert refused.rc == 125
        assert "br77" in refused.err
        assert "its bridge is strata" in store.ok("trash", "restore", "--renumber", "x").err
    finally:
        host.ok("ip", "link", "del", "br77")
    assert inspect(store, "x")["network_interface"].startswith("strata")


def test_only_networks_are_renumbered(store: Store) -> None:
    store.ok("create", "--name", "c", BUSYBOX, "true")
    store.ok("rm", "c")
    refused = store.strata("trash", "restore", "--renumber", "c")
    assert refused.rc == 125
    assert "--renumber is for networks" in refused.err


def test_an_overlay_keeps_its_key_until_the_trash_is_emptied(store: Store) -> None:
    store.ok("network", "create", "-d", "wireguard", "-o", "node=here", "mesh")
    before = inspect(store, "mesh")
    folder = f"{store.pool}/records/keys"
    [key] = os.listdir(folder)
    with open(f"{folder}/{key}") as file:
        secret = file.read().strip()
    store.ok("network", "rm", "mesh")
    kept = os.stat(f"{folder}/{key}")
    assert (stat.S_IMODE(kept.st_mode), kept.st_uid) == (0o600, 0)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert secret not in store.ok("trash", "show", "mesh").out
    assert store.ok("system", "check").out == ""
    store.ok("network", "create", "-d", "wireguard", "other")
    refused = store.strata("undo")
    assert refused.rc == 125
    assert "the overlay other listens on its port 51820" in refused.err
    store.ok("network", "rm", "--now", "other")
    store.ok("network", "create", "--subnet", "10.100.9.0/24", "small")
    refused = store.strata("trash", "restore", "--renumber", "mesh")
    assert refused.rc == 125
    assert "its subnet 10.100.0.0/16 is taken by network small" in refused.err
    store.ok("network", "rm", "--now", "small")
    store.ok("undo")
    assert inspect(store, "mesh") == before
    with open(f"{folder}/{key}") as file:
        assert file.read().strip() == secret
    store.ok("network", "rm", "mesh")
    store.ok("trash", "empty", "--force", "mesh")
    assert os.listdir(folder) == []
    store.ok("network", "create", "-d", "wireguard", "mesh")
    store.ok("network", "rm", "--now", "mesh")
    assert os.listdir(folder) == []


def test_an_overlay_whose_key_was_destroyed_does_not_come_back(store: Store) -> None:
    store.ok("network", "create", "-d", "wireguard", "mesh")
    store.ok("network", "rm", "mesh")
    [key] = os.listdir(f"{store.pool}/records/keys")
    os.unlink(f"{store.pool}/records/keys/{key}")
    refused = store.strata("undo")
    assert refused.rc == 125
    assert "its private key was destroyed" in refused.err
    assert list_trash(store) == []


def test_a_rebuild_finds_an_overlay_in_the_trash_only_with_its_key(store: Store) -> None:
    store.ok("network", "create", "-d", "wireguard", "mesh")
    before = inspect(store, "mesh")
    store.ok("network", "rm", "mesh")
    entries = f"{store.pool}/records/trash"
    for name in os.listdir(entries):
        os.unlink(f"{entries}/{name}")
    assert "nothing says when the removed network may go" in store.strata("system", "check").out
    store.ok("system", "rebuild")
    store.ok("undo")
    assert inspect(store, "mesh") == before
    store.ok("network", "rm", "mesh")
    store.engine().driver.destroy_recursive("records")
    store.ok("system", "rebuild")
    assert list_trash(store) == []
    assert store.ok("system", "check").out == ""


def test_undoing_the_removal_of_a_fork_brings_its_networks_back(store: Store) -> None:
    store.ok("network", "create", "back")
    store.ok("create", "--name", "one", "--network", "back", *SLEEPER)
    store.ok("create", "--name", "two", "--network", "back", *SLEEPER)
    store.ok("fork", "one", "two", "--as", "pr1")
    before = inspect(store, "pr1-back")
    planned = store.ok("fork", "rm", "--dry-run", "pr1").out
    assert "would remove network pr1-back" in planned
    store.ok("fork", "rm", "--time", "0", "pr1")
    assert ("network", "pr1-back") in list_trash(store)
    store.ok("undo")
    assert inspect(store, "pr1-back") == before
    store.ok("start", "pr1-one", "pr1-two")
    addresses = [Attached(store, name).addresses for name in ("pr1-one", "pr1-two")]
    assert [list(found) for found in addresses] == [["pr1-back"], ["pr1-back"]]
    assert store.ok("exec", "pr1-one", "busybox", "nslookup", "two").rc == 0
    store.ok("fork", "rm", "--now", "--time", "0", "pr1")
    assert list_trash(store) == []
