"""The files about names in a container: /etc/hosts, /etc/resolv.conf, /etc/hostname. Mostly pure.

They are written into the bundle before each start and bound over the image's, in the form Podman 5
gives them. A container in the host's network gets the host's own; one in a network of its own gets
no server that listens on the host's loopback, because there it would be its own.
Source: containers/common ``libnetwork/etchosts`` and ``libnetwork/resolvconf``.
"""

from __future__ import annotations

from strata.errors import UsageError
from strata.linux.read import read_verbatim
from strata.network.dns import HOST_NAMES, SEARCH_DOMAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    State = Mapping[str, Any]

HOSTS = "/etc/hosts"
RESOLV = "/etc/resolv.conf"
#: where systemd-resolved writes the servers behind its own 127.0.0.53
_RESOLVED = "/run/systemd/resolve/resolv.conf"
#: what a container gets when the host names no server that it could reach, as Podman and Docker do
DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")
_LOCALHOST = ("127.0.0.1", "::1")


def make(
    config: Mapping[str, Any], name: str, hostname: str, state: State | None,
    *, read: Callable[[str], str] | None = None, image_hosts: str = "",
) -> dict[str, str]:  # fmt: skip
    """The texts of ``hosts``, ``resolv.conf`` and ``hostname`` for one start of a container.

    ``state`` is how it is attached (None: to nothing, or to the host); each of its networks says
    with ``host`` which addresses the host has there, and with ``dns`` whether names are served at
    them. ``read`` gives the text of
    one of the host's files, "" without; ``image_hosts`` the image's /etc/hosts, for
    ``--hosts-file image``. `UsageError` for an entry that cannot be.
    """
    read = read or read_verbatim
    mode = str(config.get("network") or "")
    shared = mode == "host"
    base = _base_hosts(config, read, image_hosts)
    own = [] if shared else _own_lines(state, hostname, name)
    host = "127.0.0.1" if shared else host_address(state)
    return {
        "hosts": make_hosts(base, config.get("add_hosts") or (), own, host),
        "resolv.conf": _make_resolv(config, state, read),
        "hostname": f"{hostname}\n",
    }


def host_address(state: State | None) -> str:
    """Where a container reaches the host, "" when nowhere: a gateway, or what pasta maps."""
    if state is None:
        return ""
    if state.get("host_address"):
        return str(state["host_address"])
    for network in state["networks"].values():
        for address in network["host"]:
            return str(address)
    return ""


def make_hosts(
    base: str, extra: Iterable[str], own: Iterable[tuple[str, Sequence[str]]], host: str
) -> str:
    """The text of /etc/hosts. A name that was given goes before one of the base file.

    ``extra`` are ``--add-host`` values (``NAME[;NAME]:ADDRESS``, the address may be
    ``host-gateway``), ``own`` the container's addresses with its names, ``host`` the host's
    address or "".
    """
    lines: list[tuple[str, list[str]]] = []
    taken: set[tuple[str, int]] = set()

    def add(address: str, names: Iterable[str]) -> None:
        version = 6 if ":" in address else 4
        fresh = [name for name in dict.fromkeys(names) if (name, version) not in taken]
        if fresh:
            taken.update((name, version) for name in fresh)
            lines.append((address, fresh))

    given = [_parse_extra(text, host) for text in extra]
    for address, wanted in given:
        add(address, wanted)
        taken.update((name, 0) for name in wanted)
    if host:
        # Whoever names the host otherwise means that, whatever the version of its address.
        explicit = {name for _, names in given for name in names}
        add(host, [name for name in HOST_NAMES if name not in explicit])
    for address, names in own:
        # On each network, so not once per name.
        fresh = [name for name in dict.fromkeys(names) if name and (name, 0) not in taken]
        taken.update((name, 6 if ":" in address else 4) for name in fresh)
        if fresh:
            lines.append((address, fresh))
    known = {name for name, _ in taken}
    for address, names in _parse_hosts(base):
        add(address, [name for name in names if name == "localhost" or name not in known])
    for address in _LOCALHOST:
        add(address, ["localhost"])
    return "".join(f"{address}\t{' '.join(names)}\n" for address, names in lines)


def make_resolv(servers: Iterable[str], search: Iterable[str], options: Iterable[str]) -> str:
    """The text of resolv.conf(5)."""
    lines = []
    domains = [domain for domain in dict.fromkeys(search) if domain]
    if domains and "." not in domains:
        lines.append(f"search {' '.join(domains)}")
    lines += [f"nameserver {server}" for server in dict.fromkeys(servers)]
    chosen = list(dict.fromkeys(options))
    if chosen:
        lines.append(f"options {' '.join(chosen)}")
    return "".join(f"{line}\n" for line in lines)


def parse_resolv(text: str) -> tuple[list[str], list[str], list[str]]:
    """Servers, search domains and options of a resolv.conf(5); the last ``search`` counts."""
    servers, search, options = [], [], []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return servers, search, options


def _base_hosts(config: Mapping[str, Any], read: Callable[[str], str], image_hosts: str) -> str:
    choice = config.get("hosts_file") or HOSTS
    if choice == "none":
        return ""
    if choice == "image":
        return image_hosts
    return read(str(choice))


def _own_lines(state: State | None, hostname: str, name: str) -> list[tuple[str, list[str]]]:
    """The container's own addresses; without any its name means itself."""
    addresses = [
        str(address).partition("/")[0]
        for network in (state["networks"].values() if state else ())
        for address in network["addresses"]
    ]
    return [(address, [hostname, name]) for address in addresses or ["127.0.1.1"]]


def _make_resolv(config: Mapping[str, Any], state: State | None, read: Callable[[str], str]) -> str:
    given = [list(config.get(key) or ()) for key in ("dns", "dns_search", "dns_option")]
    if config.get("network") == "none":
        return make_resolv(*given)
    text = read(RESOLV)
    servers, search, options = parse_resolv(text)
    if config.get("network") == "host":
        if not any(given):
            return text
        return make_resolv(given[0] or servers, given[1] or search, given[2] or options)
    networks = list(state["networks"].values()) if state else []
    named = [network for network in networks if network.get("dns")]
    own = [str(address) for network in named for address in network["host"]]
    closed = bool(networks) and all(network.get("internal") for network in networks)
    if own:
        # The container's own servers are the upstream of this one.
        chosen = own
        # Not every version says at once that it asks nobody else.
        options = [*options, "timeout:1"] if closed else options
    elif closed:
        chosen = given[0]
    else:
        chosen = given[0] or list((state or {}).get("dns") or ()) or _reachable(servers, read)
    domains = given[1] or [*([SEARCH_DOMAIN] if own else ()), *search]
    return make_resolv(chosen, domains, given[2] or options)


def _reachable(servers: Sequence[str], read: Callable[[str], str]) -> list[str]:
    """Those of the host's servers that a network namespace of its own can reach."""
    found = [server for server in servers if not _is_loopback(server)]
    if not found:
        beyond, _, _ = parse_resolv(read(_RESOLVED))
        found = [server for server in beyond if not _is_loopback(server)]
    return found or list(DEFAULT_SERVERS)


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server in ("::1", "0.0.0.0", "::")


def _parse_extra(text: str, host: str) -> tuple[str, list[str]]:
    names, separator, address = text.partition(":")
    if not separator or not address or not names:
        raise UsageError(f"invalid host entry {text!r}, must be NAME:ADDRESS")
    if address == "host-gateway":
        if not host:
            raise UsageError(
                f"unable to replace {address!r} of host entry {text!r}: the container has no way "
                "to the host",
                hint="give it a network, or the address itself",
            )
        address = host
    return address, [name for name in names.split(";") if name]


def _parse_hosts(text: str) -> list[tuple[str, list[str]]]:
    lines = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1:
            lines.append((words[0], words[1:]))
    return lines
