"""What containers are told about names: the files in /etc, and the name server's lines."""

from __future__ import annotations

from typing import Any

import pytest

from strata.errors import UsageError
from strata.network import dns, files

ID = "4f1c" * 16
NETWORK = {
    "id": "9a" * 32, "name": "front", "internal": False, "dns": True, "dns_servers": [],
    "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"},
                {"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}],
}  # fmt: skip


def make_state(**changes: Any) -> dict[str, Any]:
    entry = {"addresses": ["10.89.0.2/24", "fd00:1::2/64"], "host": ["10.89.0.1", "fd00:1::1"],
             "dns": True, "internal": False, **changes}  # fmt: skip
    return {"mode": "bridge", "networks": {"front": entry}}


def make(config: dict[str, Any], state: Any = None, **host: str) -> dict[str, str]:
    texts = {"/etc/hosts": "", "/etc/resolv.conf": "", **host}
    read = lambda path: texts.get(path, "")  # noqa: E731
    return files.make(config, "web", "box", state, read=read)


# -- hosts -----------------------------------------------------------------------------------------


def test_a_container_finds_itself_the_host_and_what_the_host_knows() -> None:
    hosts = "127.0.0.1 localhost\n127.0.1.1 bigbox # me\n::1 localhost ip6-localhost\n"
    text = make({"network": "bridge"}, make_state(), **{"/etc/hosts": hosts})["hosts"]
    assert text == (
        "10.89.0.1\thost.containers.internal host.docker.internal\n"
        "10.89.0.2\tbox web\n"
        "fd00:1::2\tbox web\n"
        "127.0.0.1\tlocalhost\n"
        "127.0.1.1\tbigbox\n"
        "::1\tlocalhost ip6-localhost\n"
    )


def test_a_container_on_two_networks_has_an_address_on_each() -> None:
    state = make_state()
    state["networks"]["back"] = {**state["networks"]["front"], "addresses": ["10.89.1.2/24"],
                                 "host": ["10.89.1.1"]}  # fmt: skip
    text = make({"network": "bridge"}, state)["hosts"]
    assert "10.89.0.2\tbox web\n" in text
    assert "10.89.1.2\tbox web\n" in text
    text = make({"network": "bridge", "add_hosts": ["web:1.2.3.4"]}, state)["hosts"]
    assert text.startswith("1.2.3.4\tweb\n")
    assert "10.89.1.2\tbox\n" in text


def test_given_entries_go_before_those_of_the_host() -> None:
    text = make(
        {"network": "bridge", "add_hosts": ["db;store:10.9.9.9", "host.docker.internal:1.2.3.4"]},
        make_state(), **{"/etc/hosts": "10.1.1.1 db other\n"},
    )["hosts"]  # fmt: skip
    assert text.startswith("10.9.9.9\tdb store\n1.2.3.4\thost.docker.internal\n")
    assert "10.89.0.1\thost.containers.internal\n" in text
    assert "10.1.1.1\tother\n" in text


def test_host_gateway_is_the_hosts_address() -> None:
    config = {"network": "bridge", "add_hosts": ["me:host-gateway"]}
    assert make(config, make_state())["hosts"].startswith("10.89.0.1\tme\n")
    assert make({**config, "network": "host"})["hosts"].startswith("127.0.0.1\tme\n")
    with pytest.raises(UsageError, match="no way to the host"):
        make({**config, "network": "none"})


def test_without_a_network_the_names_are_its_own() -> None:
    text = make({"network": "none"})["hosts"]
    assert text == "127.0.1.1\tbox web\n127.0.0.1\tlocalhost\n::1\tlocalhost\n"


def test_the_base_can_be_left_out_or_another_file() -> None:
    host = {"/etc/hosts": "10.1.1.1 a\n", "/other": "10.2.2.2 b\n"}
    bare = make({"network": "none", "hosts_file": "none"}, **host)["hosts"]
    assert "10.1.1.1" not in bare
    other = make({"network": "none", "hosts_file": "/other"}, **host)["hosts"]
    assert "10.2.2.2\tb\n" in other
    assert "10.1.1.1" not in other


@pytest.mark.parametrize("entry", ["nonsense", ":1.2.3.4", "a:"])
def test_entries_without_name_or_address_are_refused(entry: str) -> None:
    with pytest.raises(UsageError, match="NAME:ADDRESS"):
        make({"network": "none", "add_hosts": [entry]})


# -- resolv.conf -----------------------------------------------------------------------------------

RESOLV = "domain old\nsearch example.org lan # here\nnameserver 192.0.2.53\noptions edns0\n"


def resolv(config: dict[str, Any], state: Any = None, text: str = RESOLV, **more: str) -> str:
    return make(config, state, **{"/etc/resolv.conf": text}, **more)["resolv.conf"]


def test_names_come_from_the_gateways() -> None:
    assert resolv({"network": "bridge"}, make_state()) == (
        "search dns.podman example.org lan\n"
        "nameserver 10.89.0.1\nnameserver fd00:1::1\n"
        "options edns0\n"
    )


def test_own_servers_are_behind_the_gateway_and_own_domains_alone() -> None:
    config = {"network": "bridge", "dns": ["9.9.9.9"], "dns_search": ["corp"],
              "dns_option": ["ndots:2"]}  # fmt: skip
    text = resolv(config, make_state())
    assert text == ("search corp\nnameserver 10.89.0.1\nnameserver fd00:1::1\noptions ndots:2\n")
    assert "search" not in resolv({"network": "bridge", "dns_search": ["."]}, make_state())


def test_without_names_on_the_network_the_servers_of_the_host_or_the_given_count() -> None:
    state = make_state(dns=False)
    assert "nameserver 192.0.2.53\n" in resolv({"network": "bridge"}, state)
    assert "dns.podman" not in resolv({"network": "bridge"}, state)
    given = resolv({"network": "bridge", "dns": ["9.9.9.9"]}, state)
    assert "9.9.9.9" in given
    assert "192.0.2.53" not in given


def test_servers_on_the_hosts_loopback_are_not_the_containers() -> None:
    state = make_state(dns=False)
    local = "nameserver 127.0.0.53\nnameserver ::1\n"
    behind = {"/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.7\n"}
    assert "nameserver 192.0.2.7\n" in resolv({"network": "bridge"}, state, local, **behind)
    assert "nameserver 8.8.8.8\n" in resolv({"network": "bridge"}, state, local)
    both = resolv({"network": "bridge"}, state, local + "nameserver 192.0.2.9\n")
    assert "127.0.0.53" not in both
    assert "192.0.2.9" in both


def test_the_hosts_network_has_the_hosts_file_unless_asked_otherwise() -> None:
    assert resolv({"network": "host"}) == RESOLV
    asked = resolv({"network": "host", "dns": ["127.0.0.1"]})
    assert asked == "search example.org lan\nnameserver 127.0.0.1\noptions edns0\n"


def test_no_network_has_no_servers() -> None:
    assert resolv({"network": "none"}) == ""


def test_an_internal_network_does_not_wait_long_for_what_it_does_not_know() -> None:
    state = make_state(internal=True)
    text = resolv({"network": "bridge"}, state)
    assert text.endswith("nameserver fd00:1::1\noptions edns0 timeout:1\n")
    given = resolv({"network": "bridge", "dns_option": ["ndots:3"]}, state)
    assert given.endswith("options ndots:3\n")


def test_an_internal_network_without_names_names_no_server() -> None:
    assert "nameserver" not in resolv({"network": "bridge"}, make_state(dns=False, internal=True))


# -- the name server's lines -----------------------------------------------------------------------


def test_lines_of_the_name_server() -> None:
    assert dns.make_head(NETWORK) == "10.89.0.1,fd00:1::1"
    assert dns.make_head({**NETWORK, "dns_servers": ["9.9.9.9", "::9"]}) == (
        "10.89.0.1,fd00:1::1 9.9.9.9,::9"
    )
    asks_nobody = dns.make_head({**NETWORK, "internal": True, "dns_servers": ["9.9.9.9"]})
    assert asks_nobody == "10.89.0.1,fd00:1::1 255.255.255.255"
    line = dns.make_line(ID, ["10.89.0.2/24", "fd00:1::2"], ["web", "w"])
    assert line == f"{ID} 10.89.0.2 fd00:1::2 web,w"
    assert dns.make_line("x", ["10.89.0.2"], ["a"], ["1.1.1.1"]) == "x 10.89.0.2  a 1.1.1.1"


def test_a_container_is_known_by_name_id_host_name_and_aliases() -> None:
    record = {"id": ID, "name": "Web", "config": {"hostname": "box."}}
    assert dns.names_of(record, {"aliases": ["www", "web"]}) == ["web", ID[:12], "box", "www"]


def test_a_question_is_one_of_the_protocol() -> None:
    assert dns.make_question("a.bc", 4)[12:] == b"\1a\2bc\0\0\1\0\1"
    assert dns.make_question("a", 6).endswith(b"\0\0\x1c\0\1")
