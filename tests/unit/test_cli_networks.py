"""The command line's way to networks and ports: --network, --publish, --expose and their kin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli import attachments, ports
from strata.cli.handlers.ps import describe_ports
from strata.engine.containers.hostconfig import describe_bindings
from strata.errors import UsageError
from strata.network import ports as model


def port(container: int, host: int = 0, *, ip: str = "", protocol: str = "tcp", range: int = 1
         ) -> dict[str, Any]:  # fmt: skip
    return {"host_ip": ip, "host_port": host, "container_port": container, "protocol": protocol,
            "range": range}  # fmt: skip


# -- ports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [port(80)]),
        ("8080:80", [port(80, 8080)]),
        (":80", [port(80)]),
        ("0:80", [port(80)]),
        ("8080:80/udp", [port(80, 8080, protocol="udp")]),
        ("8080:80/UDP", [port(80, 8080, protocol="udp")]),
        ("53:53/tcp,udp", [port(53, 53), port(53, 53, protocol="udp")]),
        ("9:9/sctp", [port(9, 9, protocol="sctp")]),
        ("127.0.0.1:8080:80", [port(80, 8080, ip="127.0.0.1")]),
        ("127.0.0.1::80", [port(80, ip="127.0.0.1")]),
        ("[::1]:8080:80", [port(80, 8080, ip="::1")]),
        ("[::1]::80/udp", [port(80, ip="::1", protocol="udp")]),
        ("8000-8003:80-83", [port(80, 8000, range=4)]),
        ("80-83", [port(80, range=4)]),
        ("1:65535", [port(65535, 1)]),
    ],
)
def test_forms_of_publish(text: str, expected: list[dict[str, Any]]) -> None:
    assert ports.parse_publish(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "non-empty container port"),
        ("8080:", "non-empty container port"),
        ("a:80", '"a" is not a number'),
        ("80:b", '"b" is not a number'),
        ("80/xyz", 'unknown protocol "xyz"'),
        ("80/", 'unknown protocol ""'),
        ("70000:80", "between 1 and 65535"),
        ("80:0", "between 1 and 65535"),
        ("99999999999999999999:80", "between 1 and 65535"),
        ("8000-8003:80-82", "different lengths: 4 vs 3"),
        ("8000-8003:80", "different lengths: 4 vs 1"),
        ("83-80", "ends before it begins"),
        ("host:8080:80", 'cannot parse "host" as an IP address'),
        ("300.0.0.1:8080:80", "as an IP address"),
        ("::1:8080:80", "invalid port format"),
        ("[::1:8080:80", "invalid port format"),
        ("[::1]:80", "invalid port format"),
        ("[::1]:1:2:3", "invalid port format"),
        ("127.0.0.1:80", "invalid port format"),
        ("1-2-3:80", "is not a number"),
        ("٣:80", "is not a number"),
    ],
)
def test_other_forms_are_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[")) as caught:
        ports.parse_publish(text)
    assert caught.value.hint


def test_a_port_of_the_host_is_published_once() -> None:
    assert ports.parse_published(["8080:80", "8080:80"]) == [port(80, 8080)]
    assert len(ports.parse_published(["8080:80", "8080:80/udp", "127.0.0.1:81:80"])) == 3
    assert len(ports.parse_published(["127.0.0.1:80:80", "127.0.0.2:80:81"])) == 2
    assert len(ports.parse_published(["80", "80/udp", "81"])) == 3
    for texts in (
        ["8080:80", "8080:81"],
        ["8080:80", "127.0.0.1:8080:81"],
        ["8000-8010:80-90", "8005:1"],
        ["0.0.0.0:80:80", "127.0.0.1:80:81"],
    ):
        with pytest.raises(UsageError, match="conflicting port mappings for host port 80"):
            ports.parse_published(texts)


def test_exposed_ports() -> None:
    assert ports.parse_exposed(["80", "53/udp", "8000-8002", "80/tcp"]) == [
        "80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp",
    ]  # fmt: skip
    for text in ("", "80:80", "0", "a/tcp", "80/x"):
        with pytest.raises(UsageError):
            ports.parse_exposed([text])


def test_publishing_all_adds_what_is_exposed_and_not_published() -> None:
    given = [port(80, 8080), port(8000, 9000, range=2)]
    exposed = ["80/tcp", "80/udp", "8001/tcp", "443/tcp"]
    assert model.add_exposed(given, exposed) == [*given, port(80, protocol="udp"), port(443)]


def test_ports_are_shown_as_podman_shows_them() -> None:
    shown = describe_ports(
        [port(80, 8080), port(81, 8081, ip="::1"), port(1, 1001, ip="127.0.0.1", range=3),
         port(53, 53, protocol="udp"), port(9)], ["80/tcp", "443/tcp"],
    )  # fmt: skip
    assert shown == (
        "0.0.0.0:8080->80/tcp, [::1]:8081->81/tcp, 127.0.0.1:1001-1003->1-3/tcp, "
        "0.0.0.0:53->53/udp, 9/tcp, 443/tcp"
    )


def test_the_map_of_ports_is_that_of_docker() -> None:
    found = describe_bindings([port(80, 8080), port(80, 8081, ip="::1"), port(1, 1001, range=2)],
                           ["443/tcp", "80/tcp"])  # fmt: skip
    assert found == {
        "1/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1001"}],
        "2/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1002"}],
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"},
                   {"HostIp": "::1", "HostPort": "8081"}],
        "443/tcp": None,
    }  # fmt: skip


@given(st.text(alphabet="0123456789:[]./-,udptcx ", max_size=24))
def test_any_port_is_read_or_refused(text: str) -> None:
    try:
        found = ports.parse_publish(text)
    except UsageError:
        return
    for _, host, container, protocol in model.expand(found):
        assert 0 <= host <= 65535
        assert 1 <= container <= 65535 or text.count("-")
        assert protocol in ports.PROTOCOLS


# -- networks --------------------------------------------------------------------------------------


def entry(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "id": "", "aliases": [], "ips": [], "mac": "", "interface": "", **values}


@pytest.mark.parametrize(
    ("texts", "mode", "entries"),
    [
        ([], "bridge", [entry("strata")]),
        (["bridge"], "bridge", [entry("strata")]),
        (["private"], "bridge", [entry("strata")]),
        (["host"], "host", []),
        (["none"], "none", []),
        (["none", "none"], "none", []),
        (["container:web"], "container:web", []),
        (["ns:/run/netns/x"], "ns:/run/netns/x", []),
        (["pasta"], "pasta", []),
        (["pasta:-a,10.0.2.0"], "pasta:-a,10.0.2.0", []),
        (["front"], "bridge", [entry("front")]),
        (["front,back"], "bridge", [entry("front"), entry("back")]),
        (["front", "back"], "bridge", [entry("front"), entry("back")]),
        (["front:ip=10.89.0.9,alias=a,alias=b,mac=92-D0-C6-0A-29-33,interface_name=lan0,ip6=fd::1"],
         "bridge", [entry("front", ips=["10.89.0.9", "fd::1"], aliases=["a", "b"],
                          mac="92:d0:c6:0a:29:33", interface="lan0")]),
        (["bridge:ip=10.88.0.9"], "bridge", [entry("strata", ips=["10.88.0.9"])]),
    ],
)  # fmt: skip
def test_forms_of_network(texts: list[str], mode: str, entries: list[dict[str, Any]]) -> None:
    assert attachments.parse_networks(texts) == (mode, entries)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["slirp4netns"], "replaced by pasta"),
        (["slirp4netns:allow_host_loopback=true"], "replaced by pasta"),
        (["host", "none"], "selected mode host is not bridge"),
        (["front", "host"], "selected mode host is not bridge"),
        (["host", "front"], "selected mode host is not bridge"),
        (["container:a", "container:b"], "selected mode container:a is not bridge"),
        (["container:"], "lacks its value"),
        (["container"], "lacks its value"),
        (["ns:"], "lacks its value"),
        (["ns:relative"], "not an absolute path"),
        (["front", "front"], "given twice"),
        (["front:ip=10.0.0.300"], "not an ip address"),
        (["front:ip=fd::1"], "not an IPv4 address"),
        (["front:ip6=10.0.0.1"], "not an IPv6 address"),
        (["front:speed=9"], 'unknown option "speed"'),
        (["front:ip"], 'invalid network option "ip"'),
        (["front:"], None),
        (["front:mac=zz"], "invalid MAC address"),
        (["front:mac=01:00:5e:00:00:01"], "one for groups"),
        (["front:mac=00:00:00:00:00:00"], "it is nobody's"),
        (["front:alias=a b"], "invalid hostname"),
        (["front:interface_name=a/b"], "invalid interface name"),
        (["front:interface_name=sixteencharacters"], "invalid interface name"),
        ([""], "network names must match"),
        (["a b"], "network names must match"),
    ],
)
def test_other_networks_are_refused(texts: list[str], message: str | None) -> None:
    if message is None:
        assert attachments.parse_networks(texts)[1] == [entry("front")]
        return
    with pytest.raises(UsageError, match=message) as caught:
        attachments.parse_networks(texts)
    assert caught.value.hint


def test_options_beside_the_network() -> None:
    _, entries = attachments.parse_networks(
        ["front"], ips=["10.89.0.9", "fd::9"], mac="92:d0:c6:0a:29:33", aliases=["a"]
    )
    assert entries == [entry("front", ips=["10.89.0.9", "fd::9"], mac="92:d0:c6:0a:29:33",
                             aliases=["a"])]  # fmt: skip
    _, entries = attachments.parse_networks(["front:alias=b", "back"], aliases=["a"])
    assert [found["aliases"] for found in entries] == [["b", "a"], ["a"]]
    for values, message in (
        ({"ips": ["10.89.0.9"]}, "--ip can only be set for a single network"),
        ({"mac": "92:d0:c6:0a:29:33"}, "--mac-address can only be set for a single network"),
    ):
        with pytest.raises(UsageError, match=message):
            attachments.parse_networks(["front", "back"], **values)  # type: ignore[arg-type]
    for mode in ("host", "none", "container:a", "pasta"):
        for values in ({"ips": ["10.89.0.9"]}, {"mac": "92:d0:c6:0a:29:33"}, {"aliases": ["a"]}):
            with pytest.raises(UsageError, match="when the network mode is bridge"):
                attachments.parse_networks([mode], **values)  # type: ignore[arg-type]


@given(st.text(alphabet="ab:=,./-1 ", max_size=20))
def test_any_network_is_read_or_refused(text: str) -> None:
    try:
        mode, entries = attachments.parse_networks([text])
    except UsageError:
        return
    assert bool(entries) == (mode == "bridge")
