"""Names on networks, asked by real resolvers in containers on a test host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from helpers.hosts import Host, open_hosts
from helpers.names import NameServer, resolve
from helpers.networked import clear
from helpers.store import BUSYBOX, Store, wait_until

from strata.linux.read import read_verbatim
from strata.network import dns, files

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

SLEEP = (BUSYBOX, "sleep", "100000")
QUICK = ("--stop-timeout", "0")


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    """A test host whose own name servers know nothing, and say so at once."""
    with open_hosts("a") as (made,), contextlib.ExitStack() as stack:
        for address in dict.fromkeys(files.parse_resolv(read_verbatim(files.RESOLV))[0]):
            if ":" not in address and not address.startswith("127."):
                made.ok("ip", "address", "add", f"{address}/32", "dev", "lo")
            if ":" not in address:
                stack.enter_context(NameServer(made.netns, address, ""))
        yield [made]


@pytest.fixture
def host(hosts: list[Host]) -> Host:
    return hosts[0]


@pytest.fixture
def store(hosted_store: Store) -> Iterator[Store]:
    yield hosted_store
    clear(hosted_store)
    wait_for_end(hosted_store)


def wait_for_end(store: Store) -> None:
    """Wait until nothing is served; ``run --rm`` lets go of its networks in the background."""
    wait_until(lambda: dns.find_server(store.runroot) == 0, "the end of the name server")


def read_answer(text: str) -> list[str]:
    """The addresses in what busybox's nslookup prints."""
    _, _, answer = text.partition("Name:")
    return sorted(line.split()[-1] for line in answer.splitlines() if line.startswith("Address"))


def ask(store: Store, container: str, name: str) -> list[str]:
    """Addresses of a name, asked in a running container as its own programs ask."""
    return read_answer(store.strata("exec", container, "busybox", "nslookup", name).out)


def start(store: Store, name: str, *options: str) -> None:
    store.ok("run", "-d", "--name", name, *QUICK, *options, *SLEEP)


def address_of(store: Store, name: str, network: str = "strata") -> str:
    line = f"{{{{(index .NetworkSettings.Networks {network!r}).IPAddress}}}}".replace("'", '"')
    return store.ok("inspect", "--format", line, name).line


def test_a_container_is_found_by_name_id_host_name_and_aliases(store: Store) -> None:
    start(store, "db", "--network-alias", "postgres", "--hostname", "dbhost")
    start(store, "web", "--network-alias", "postgres")
    db, web = address_of(store, "db"), address_of(store, "web")
    short = store.ok("inspect", "--format", "{{.Id}}", "db").line[:12]
    for name in ("db", "DB", short, "dbhost", "db.dns.podman"):
        assert ask(store, "web", name) == [db], name
    assert ask(store, "web", "postgres") == sorted([db, web])
    assert ask(store, "web", "nobody") == []
    assert ask(store, "web", "host.containers.internal") == ["10.88.0.1"]
    store.ok("stop", "db")
    wait_until(lambda: ask(store, "web", "postgres") == [web], "the ended one forgotten")


def test_a_process_finds_itself_and_those_before_it_at_its_first_question(store: Store) -> None:
    for number in range(4):
        start(store, f"peer{number}")
        out = store.ok("run", "--rm", "--name", "me", BUSYBOX, "sh", "-c",
                       f"busybox nslookup peer{number} && busybox nslookup me").out  # fmt: skip
        assert read_answer(out), out


def test_names_are_known_on_shared_networks_only(store: Store, host: Host) -> None:
    for name in ("front", "back"):
        store.ok("network", "create", name)
    start(store, "web", "--network", "front")
    start(store, "app", "--network", "front:alias=api", "--network", "back:alias=store")
    start(store, "db", "--network", "back")
    assert ask(store, "web", "app") == [address_of(store, "app", "front")]
    assert ask(store, "web", "api") == [address_of(store, "app", "front")]
    assert ask(store, "db", "app") == [address_of(store, "app", "back")]
    assert ask(store, "web", "db") == []
    assert ask(store, "web", "store") == []
    assert ask(store, "db", "api") == []
    assert ask(store, "app", "db") == [address_of(store, "db", "back")]
    # The host may ask each gateway.
    gateway = store.ok("network", "inspect", "back").json[0]["subnets"][0]["gateway"]
    assert resolve(host.netns, gateway, "db") == [address_of(store, "db", "back")]


def test_names_follow_a_rename_and_live_connections(store: Store) -> None:
    store.ok("network", "create", "back")
    start(store, "web", "--network", "back")
    start(store, "old")
    store.ok("network", "connect", "--alias", "db", "back", "old")
    connected = address_of(store, "old", "back")
    wait_until(lambda: ask(store, "web", "db") == [connected], "the alias")
    assert ask(store, "web", "old") == [connected]
    assert "nameserver 10.88.0.1" in store.ok("exec", "old", "cat", "/etc/resolv.conf").out
    assert f"{connected}\t" in store.ok("exec", "old", "cat", "/etc/hosts").out
    store.ok("rename", "old", "new")
    wait_until(lambda: ask(store, "web", "new") == [connected], "the new name")
    assert ask(store, "web", "old") == []
    store.ok("network", "disconnect", "back", "new")
    wait_until(lambda: ask(store, "web", "new") == [], "the disconnected one forgotten")
    assert connected not in store.ok("exec", "new", "cat", "/etc/hosts").out


def test_what_is_no_container_is_asked_beyond(store: Store, host: Host) -> None:
    for number in (1, 2, 3):
        host.ok("ip", "address", "add", f"198.51.100.{number}/32", "dev", "lo")
    with (
        NameServer(host.netns, "198.51.100.1", "203.0.113.1"),
        NameServer(host.netns, "198.51.100.2", "203.0.113.2"),
        NameServer(host.netns, "198.51.100.3", "203.0.113.3"),
    ):
        store.ok("network", "create", "--dns", "198.51.100.1", "front")
        start(store, "plain", "--network", "front")
        start(store, "own", "--network", "front", "--dns", "198.51.100.2")
        assert "203.0.113.1" in ask(store, "plain", "example.org")
        assert "203.0.113.2" in ask(store, "own", "example.org")
        assert ask(store, "own", "plain") == [address_of(store, "plain", "front")]
        store.ok("network", "update", "--dns-add", "198.51.100.3", "--dns-drop", "198.51.100.1",
                 "front")  # fmt: skip
        wait_until(lambda: "203.0.113.3" in ask(store, "plain", "example.org"), "the new server")


def test_networks_without_names_leave_the_hosts_servers(store: Store) -> None:
    store.ok("network", "create", "--disable-dns", "bare")
    out = store.ok("run", "--rm", "--network", "bare", "--name", "x", BUSYBOX, "cat",
                   "/etc/resolv.conf").out  # fmt: skip
    assert "dns.podman" not in out
    assert "nameserver" in out
    assert "nameserver 127." not in out
    given = store.ok("run", "--rm", "--network", "bare", "--dns", "192.0.2.9", "--dns-search",
                     "example.org", "--dns-option", "ndots:3", BUSYBOX, "cat",
                     "/etc/resolv.conf").out  # fmt: skip
    assert given == "search example.org\nnameserver 192.0.2.9\noptions ndots:3\n"
    assert dns.find_server(store.runroot) == 0


def test_internal_networks_have_names(store: Store) -> None:
    store.ok("network", "create", "--internal", "inner")
    start(store, "db", "--network", "inner")
    start(store, "web", "--network", "inner")
    assert ask(store, "web", "db") == [address_of(store, "db", "inner")]


def test_internal_networks_ask_nobody_beyond(store: Store, host: Host) -> None:
    """Questions would carry out what the network is to keep in, whoever they are sent to."""
    host.ok("ip", "address", "replace", "198.51.100.1/32", "dev", "lo")
    host.ok("ip", "address", "replace", "198.51.100.2/32", "dev", "lo")
    with (
        NameServer(host.netns, "198.51.100.1", "203.0.113.1"),
        NameServer(host.netns, "198.51.100.2", "203.0.113.2"),
    ):
        store.ok("network", "create", "--internal", "--dns", "198.51.100.1", "inner")
        store.ok("network", "create", "--dns", "198.51.100.1", "outer")
        start(store, "web", "--network", "inner", "--dns", "198.51.100.2")
        start(store, "both", "--network", "inner", "--network", "outer")
        assert ask(store, "web", "example.org") == []
        store.ok("network", "update", "--dns-add", "198.51.100.2", "inner")
        assert ask(store, "web", "example.org") == []
        assert ask(store, "web", "web") == [address_of(store, "web", "inner")]
        assert "203.0.113.1" in ask(store, "both", "example.org"), "it has a way out"
        assert ask(store, "both", "web") == [address_of(store, "web", "inner")]


def test_names_have_addresses_of_both_kinds(store: Store) -> None:
    store.ok("network", "create", "--ipv6", "dual")
    start(store, "db", "--network", "dual")
    out = store.ok("run", "--rm", "--network", "dual", BUSYBOX, "busybox", "nslookup", "db").out
    found = read_answer(out)
    assert address_of(store, "db", "dual") in found
    assert any(":" in address for address in found), out


def test_a_server_that_was_killed_is_there_again_with_the_next_start(store: Store) -> None:
    start(store, "db")
    os.kill(dns.find_server(store.runroot), 9)
    wait_until(lambda: dns.find_server(store.runroot) == 0, "the server gone")
    start(store, "web")
    assert ask(store, "web", "db") == [address_of(store, "db")]
    os.kill(dns.find_server(store.runroot), 9)
    wait_until(lambda: dns.find_server(store.runroot) == 0, "the server gone")
    store.ok("network", "reload", "web")
    wait_until(lambda: ask(store, "web", "db") == [address_of(store, "db")], "names again")


def test_the_check_finds_names_of_what_does_not_run_and_a_server_that_died(store: Store) -> None:
    start(store, "db")
    assert store.ok("system", "check").rc == 0
    os.kill(dns.find_server(store.runroot), 9)
    wait_until(lambda: dns.find_server(store.runroot) == 0, "the server gone")
    found = store.strata("system", "check", "--format", "json").json["Problems"]
    assert [problem["Id"] for problem in found] == ["name-server-gone"]
    store.ok("system", "check", "--repair")
    assert ask(store, "db", "db") == [address_of(store, "db")]
    (file,) = [name for name in os.listdir(f"{store.runroot}/net/dns") if name != "aardvark.pid"]
    with open(f"{store.runroot}/net/dns/{file}", "a") as lines:
        lines.write(f"{'ab' * 32} 10.88.0.99  ghost\n")
    found = store.strata("system", "check", "--format", "json").json["Problems"]
    assert [problem["Id"] for problem in found] == ["name-stale"]
    store.ok("system", "check", "--repair")
    assert ask(store, "db", "ghost") == []
    store.ok("system", "check")


def test_another_server_on_the_port_is_told(store: Store, host: Host) -> None:
    store.ok("run", "--rm", BUSYBOX, "true")  # the bridge is there from now on
    wait_for_end(store)
    with NameServer(host.netns, "10.88.0.1", ""):
        outcome = store.ok("run", "--rm", BUSYBOX, "true")
    assert "names on the network strata do not resolve" in outcome.err


# -- files -----------------------------------------------------------------------------------------


def cat(store: Store, *options: str, path: str = "/etc/hosts") -> str:
    return str(store.ok("run", "--rm", *options, BUSYBOX, "cat", path).out)


def test_the_host_can_be_named_and_reached_by_name(store: Store) -> None:
    text = cat(store, "--add-host", "here;there:host-gateway", "--name", "web")
    assert "10.88.0.1\there there\n" in text
    assert "10.88.0.1\thost.containers.internal host.docker.internal\n" in text
    assert "127.0.0.1\there\n" in cat(store, "--add-host", "here:host-gateway", "--network", "host")
    outcome = store.strata("run", "--rm", "--add-host", "x:host-gateway", "--network", "none",
                           BUSYBOX, "true")  # fmt: skip
    assert outcome.rc == 125
    assert "no way to the host" in outcome.err


def test_the_hosts_file_can_begin_elsewhere_or_be_the_images(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("hosts") / "hosts"
    base.write_text("203.0.113.7 seven\n")
    text = cat(store, "--hosts-file", str(base), "--name", "web")
    assert "203.0.113.7\tseven\n" in text
    assert " web\n" in text
    bare = cat(store, "--hosts-file", "none", "--name", "web")
    assert "seven" not in bare
    assert " web\n" in bare
    store.ok("run", "--name", "made", BUSYBOX, "sh", "-c", "umount /etc/hosts; true")
    outcome = store.strata("run", "--rm", "--no-hosts", BUSYBOX, "cat", "/etc/hosts")
    assert outcome.rc != 0, "the image has none"
    outcome = store.strata("run", "--rm", "--no-hosts", "--add-host", "a:1.2.3.4", BUSYBOX, "true")
    assert outcome.rc == 125
    assert "--no-hosts" in outcome.err
    outcome = store.strata("run", "--rm", "--hosts-file", "/nowhere", BUSYBOX, "true")
    assert outcome.rc == 125
    assert "/nowhere: no such file" in outcome.err


def test_the_images_hosts_file_can_be_the_base(store: Store) -> None:
    store.ok("run", "--name", "made", "--no-hosts", BUSYBOX, "sh", "-c",
             "echo 203.0.113.8 eight >/etc/hosts")  # fmt: skip
    store.ok("commit", "-q", "made", "localhost/hosts")
    for options, expected in (((), False), (("--hosts-file", "image"), True)):
        text = store.ok("run", "--rm", *options, "localhost/hosts", "cat", "/etc/hosts").out
        assert ("203.0.113.8\teight" in text) is expected
    store.ok("rmi", "--force", "localhost/hosts")


def test_the_host_name_and_its_file(store: Store) -> None:
    assert cat(store, "--hostname", "box", path="/etc/hostname") == "box\n"
    assert store.strata("run", "--rm", "--no-hostname", BUSYBOX, "cat", "/etc/hostname").rc != 0
    assert store.strata("run", "--rm", "--dns", "none", BUSYBOX, "cat", "/etc/resolv.conf").rc != 0
    for options in (["--dns", "example.org"], ["--dns", "9.9.9.9", "--network", "none"]):
        outcome = store.strata("run", "--rm", *options, BUSYBOX, "true")
        assert outcome.rc == 125
        assert "--dns" in outcome.err
