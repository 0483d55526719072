"""What ``inspect`` and ``port`` tell of a container's network, in Podman's and Docker's shape."""

from __future__ import annotations

from strata.engine.containers.hostconfig import describe_bindings
from strata.engine.core import Engine, Record
from strata.engine.networks import host
from strata.network.addresses import get_family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NONE: Record = {
    "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "",
}  # fmt: skip


def list_published(record: Record) -> list[Record]:
    """The ports a container publishes: those it has, or will have when it was never started."""
    found: list[Record] = record["state"].get("ports") or record["config"].get("ports") or []
    return found


def list_bindings(record: Record) -> Iterator[tuple[str, str, int]]:
    """(``80/tcp``, address of the host, its port) of every published port that is known."""
    for port, places in describe_bindings(list_published(record)).items():
        for place in places or ():
            if place["HostPort"]:
                yield port, place["HostIp"], int(place["HostPort"])


def make_settings(e: Engine, record: Record, *, live: bool) -> Record:
    """``NetworkSettings``: ports, and the addresses on each network while it runs. At the top
    stand those of the first."""
    config = record["config"]
    state = host.find_state(e, record["id"]) if live else None
    attached: Mapping[str, Record] = state["networks"] if state is not None else {}
    networks = {
        item["name"]: _make_endpoint(record, item, attached.get(item["name"]))
        for item in config.get("networks") or ()
    }
    if config["network"] in ("host", "none"):
        # As Docker and Podman 5 have it, so that a range over the networks finds one.
        networks[config["network"]] = {
            **_NONE, "NetworkID": config["network"], "DriverOpts": None, "IPAMConfig": None,
            "Links": None,
        }  # fmt: skip
    first = next(iter(networks.values()), _NONE)
    published = describe_bindings(list_published(record), config.get("expose") or ())
    return {
        **{key: first[key] for key in _NONE},
        "Bridge": "", "SandboxID": "", "HairpinMode": False, "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SandboxKey": state["netns"] if state is not None else "",
        "Ports": published if config["network"] not in ("host", "none") else {},
        "Networks": networks,
    }  # fmt: skip


def _make_endpoint(record: Record, item: Record, attachment: Record | None) -> Record:
    """One of ``NetworkSettings.Networks``. Without an attachment only what was asked for."""
    found = {
        **_NONE, "NetworkID": item["id"], "DriverOpts": None, "IPAMConfig": None, "Links": None,
        "Aliases": [*item["aliases"], record["id"][:12]],
    }  # fmt: skip
    if attachment is None:
        return found
    found["MacAddress"] = attachment["mac"]
    gateways = attachment["gateways"]
    for family, address, prefix, gateway in (
        (4, "IPAddress", "IPPrefixLen", "Gateway"),
        (6, "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ):
        texts = _of_family(attachment["addresses"], family)
        if texts:
            found[address], _, length = texts[0].partition("/")
            found[prefix] = int(length or 0)
            found[gateway] = next(iter(_of_family(gateways, family)), "")
        if len(texts) > 1:
            found[f"Secondary{'IP' if family == 4 else 'IPv6'}Addresses"] = [
                {"Addr": text.partition("/")[0], "PrefixLength": int(text.partition("/")[2] or 0)}
                for text in texts[1:]
            ]
    return found


def _of_family(texts: Sequence[str], family: int) -> list[str]:
    return [text for text in texts if get_family(text) == family]
