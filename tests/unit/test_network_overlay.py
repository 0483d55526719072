"""WireGuard overlays as plans: parts, peers, tokens, configuration, routes."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import AlreadyExists, UsageError
from strata.network import overlay


def make_key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def make_peer(number: int, endpoint: str = "192.0.2.2:51820") -> dict[str, Any]:
    return {"node": f"host{number}", "public_key": make_key(number), "endpoint": endpoint,
            "subnets": [f"10.100.{number}.0/24"]}  # fmt: skip


def make_overlay(*peers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    mine = {"node": "host0", "public_key": make_key(0), "endpoint": "192.0.2.1:51820"}
    return {"ranges": ["10.100.0.0/16"], **mine, "port": 51820, "keepalive": 0,
            "peers": list(peers), **fields}  # fmt: skip


def make_token(content: object) -> str:
    data = json.dumps(content).encode()
    body = zlib.crc32(data).to_bytes(4, "big") + data
    return overlay.TOKEN_PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def content(**fields: Any) -> dict[str, Any]:
    return {"name": "mesh", "ranges": ["10.100.0.0/16"], "mtu": 1420, "peers": [make_peer(1)],
            **fields}  # fmt: skip


@pytest.mark.parametrize(
    ("given_text", "endpoint"),
    [
        ("192.0.2.1", "192.0.2.1:51820"),
        ("192.0.2.1:7", "192.0.2.1:7"),
        ("host.example", "host.example:51820"),
        ("[2001:DB8::1]:99", "[2001:db8::1]:99"),
        ("[2001:db8::1]", "[2001:db8::1]:51820"),
        ("2001:db8::1", "[2001:db8::1]:51820"),
    ],
)
def test_an_endpoint_gets_its_port(given_text: str, endpoint: str) -> None:
    assert overlay.parse_endpoint(given_text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", ":1", "host:", "host:0", "host:65536", "host:1x", "a b", "[::1", "[::1]x", "x:y:z", "a\nb",
     "-host", "[host]:1"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        overlay.parse_endpoint(text)


def test_the_first_host_takes_the_first_part_and_others_look_from_elsewhere() -> None:
    assert overlay.choose_parts(["10.100.0.0/16"], []) == ["10.100.0.0/24"]
    assert overlay.choose_parts(["10.100.0.0/16"], [], bytes(7) + b"\x09") == ["10.100.9.0/24"]


@given(st.sets(st.integers(0, 255), max_size=255), st.binary(min_size=8, max_size=32))
def test_a_chosen_part_is_free(taken: set[int], seed: bytes) -> None:
    used = [f"10.100.{number}.0/24" for number in taken]
    (part,) = overlay.choose_parts(["10.100.0.0/16"], used, seed)
    assert part not in used
    overlay.check_parts(["10.100.0.0/16"], [part])


def test_a_full_overlay_is_said() -> None:
    with pytest.raises(UsageError, match="no host's part"):
        overlay.choose_parts(["10.9.0.0/23"], ["10.9.0.0/24", "10.9.1.128/25"])


def test_parts_of_both_families_are_chosen() -> None:
    ranges = ["10.100.0.0/16", "fd12:3456:789a::/48"]
    parts = overlay.choose_parts(ranges, ["10.100.0.0/24", "fd12:3456:789a::/64"])
    assert parts == ["10.100.1.0/24", "fd12:3456:789a:1::/64"]


def test_a_range_too_wide_or_too_narrow_is_refused() -> None:
    for text in ("0.0.0.0/0", "10.0.0.0/7", "10.1.1.0/25", "::/0", "10.100.0.1/16", "x"):
        with pytest.raises(UsageError):
            overlay.parse_overlay_range(text)


def test_the_range_of_a_given_part_holds_256_such_parts() -> None:
    assert overlay.find_range_of("10.44.7.0/24") == "10.44.0.0/16"
    assert overlay.find_range_of("fd00:1:2:3::/64") == "fd00:1:2::/56"


def test_a_token_tells_another_host_about_this_one_and_its_peers() -> None:
    token = overlay.make_token("mesh", make_overlay(make_peer(1)), ["10.100.0.0/24"], 1380)
    read = overlay.parse_token(f" {token[:40]}\n{token[40:]} \n")
    assert read["name"] == "mesh"
    assert read["ranges"] == ["10.100.0.0/16"]
    assert read["mtu"] == 1380
    assert [peer["node"] for peer in read["peers"]] == ["host0", "host1"]
    assert read["peers"][0]["subnets"] == ["10.100.0.0/24"]


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_a_token_without_its_end_is_damaged(cut: int) -> None:
    token = overlay.make_token("mesh", make_overlay(), ["10.100.0.0/24"], 1420)
    with pytest.raises(UsageError, match="damaged"):
        overlay.parse_token(token[:-cut])


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    for candidate in (text, overlay.TOKEN_PREFIX + text):
        with pytest.raises(UsageError):
            overlay.parse_token(candidate)


@pytest.mark.parametrize(
    "bad",
    [
        content(ranges=["0.0.0.0/0"]),
        content(ranges=[]),
        content(mtu=1),
        content(peers=[]),
        content(peers=[{**make_peer(1), "subnets": ["192.168.0.0/16"]}]),
        content(peers=[{**make_peer(1), "public_key": "short"}]),
        content(peers=[{**make_peer(1), "endpoint": "a\nPrivateKey = x"}]),
        content(peers=[{**make_peer(1), "node": "x\ny"}]),
        {"name": "mesh"},
        [1],
        "text",
    ],
)
def test_a_token_that_asks_too_much_is_refused(bad: object) -> None:
    with pytest.raises(UsageError):
        overlay.parse_token(make_token(bad))


def test_a_peer_may_not_take_a_part_that_is_in_use() -> None:
    mine = make_overlay(make_peer(1))
    overlay.check_peer(mine, ["10.100.0.0/24"], make_peer(2))
    overlay.check_peer(mine, ["10.100.0.0/24"], {**make_peer(1), "endpoint": "192.0.2.9:1"})
    with pytest.raises(AlreadyExists, match="this host"):
        overlay.check_peer(mine, ["10.100.2.0/24"], make_peer(2))
    with pytest.raises(AlreadyExists, match="peer host1"):
        overlay.check_peer(mine, [], {**make_peer(2), "subnets": ["10.100.1.128/25"]})
    with pytest.raises(UsageError, match="this very host"):
        overlay.check_peer(mine, [], make_peer(0))
    with pytest.raises(UsageError, match="not in the overlay"):
        overlay.check_peer(mine, [], {**make_peer(2), "subnets": ["10.200.1.0/24"]})


def test_no_two_hosts_of_an_overlay_have_one_name() -> None:
    mine = make_overlay(make_peer(1))
    for number, name, said in ((2, mine["node"], "both called"), (2, "host1", "host1 is there")):
        with pytest.raises(AlreadyExists, match=said) as caught:
            overlay.check_peer(mine, ["10.100.0.0/24"], {**make_peer(number), "node": name})
        assert "-o node=NAME" in caught.value.hint
    overlay.check_peer(mine, ["10.100.0.0/24"], {**make_peer(1), "endpoint": "192.0.2.9:1"})


def test_peers_are_added_changed_and_dropped_by_name_or_key() -> None:
    one = overlay.with_peer(make_overlay(), make_peer(1))
    two = overlay.with_peer(one, make_peer(2))
    moved = overlay.with_peer(two, {**make_peer(1), "endpoint": "192.0.2.9:1"})
    assert [peer["endpoint"] for peer in moved["peers"]] == ["192.0.2.2:51820", "192.0.2.9:1"]
    assert overlay.without_peer(two, "host1")["peers"] == [make_peer(2)]
    assert overlay.without_peer(two, make_key(2))["peers"] == [make_peer(1)]
    with pytest.raises(UsageError) as caught:
        overlay.without_peer(two, "host3")
    assert "host1, host2" in caught.value.hint


def test_two_peers_of_one_name_are_told_apart_by_key() -> None:
    twins = make_overlay(make_peer(1), {**make_peer(2), "node": "host1"})
    with pytest.raises(UsageError, match="several"):
        overlay.without_peer(twins, "host1")
    assert overlay.without_peer(twins, make_key(1))["peers"][0]["public_key"] == make_key(2)


def test_the_configuration_of_the_device() -> None:
    text = overlay.format_config(
        make_overlay(make_peer(1), make_peer(2, "")), "SECRET", {make_key(1): "192.0.2.2:51820"}
    )
    assert text == (
        "[Interface]\nPrivateKey = SECRET\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {make_key(1)}\nAllowedIPs = 10.100.1.0/24\n"
        "Endpoint = 192.0.2.2:51820\n"
        f"[Peer]\nPublicKey = {make_key(2)}\nAllowedIPs = 10.100.2.0/24\n"
    )


def test_a_host_that_nobody_can_dial_keeps_its_connections_open() -> None:
    text = overlay.format_config(
        make_overlay(make_peer(1), endpoint=""), "SECRET", {make_key(1): "192.0.2.2:51820"}
    )
    assert "PersistentKeepalive = 25\n" in text


def test_routes_have_the_source_that_peers_accept() -> None:
    both = {**make_peer(1), "subnets": ["10.100.1.0/24", "fd00:1::/64"]}
    mine = make_overlay(both)
    assert overlay.format_routes("swg1", mine, ["10.100.0.1", "fd00::1"]) == [
        "route replace 10.100.1.0/24 dev swg1 src 10.100.0.1",
        "route replace fd00:1::/64 dev swg1 src fd00::1",
    ]
    assert overlay.format_routes("swg1", mine, ["10.100.0.1"]) == [
        "route replace 10.100.1.0/24 dev swg1 src 10.100.0.1"
    ]
