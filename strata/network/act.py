"""The effects on links and rules: messages to the kernel, ``ip -batch``, ``nft -f``, settings.

What comes with every container is asked of the kernel directly, as loading a program takes longer
than that; what happens once per network is text for a program. What either says when it fails is
interpreted here, one function each.
"""

from __future__ import annotations

import errno
import os

from strata import command
from strata.errors import CommandFailed, NetworkError, StrataError
from strata.linux import netlink
from strata.linux import network as kernel
from strata.network.addresses import Subnet, pack_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.network.nft import Port
    from strata.network.plan import Change

IP = ("ip", "-batch", "-")
NFT = ("nft", "-f", "-")

#: what every namespace of a container is given: ping without privileges, as with Podman, and
#: addresses that can be used at once, as nobody else can have them
_SETTINGS = {"ipv4/ping_group_range": "0 0", "ipv6/conf/default/accept_dad": "0"}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def run(argv: tuple[str, ...], text: str) -> None:
    """Run `IP` or `NFT` on a text; an empty one needs no program. `NetworkError`."""
    if text:
        command.run(argv, input=text.encode(),
                    classify=lambda result: classify(argv, result, text))  # fmt: skip


# -- asked of the kernel ---------------------------------------------------------------------------


def make_inside(pin: str) -> netlink.Channel:
    """Make a container's namespace, pinned at a file that is there; the channel into it.
    `NetworkError`."""
    try:
        return kernel.open_inside(pin, make=True, settings=_SETTINGS)
    except OSError as error:
        raise NetworkError(
            f"the network namespace {pin} cannot be made: {error.strerror or error}"
        ) from error


def open_inside(pin: str) -> netlink.Channel:
    """The channel into a container's namespace that is there. `NetworkError`."""
    try:
        return kernel.open_inside(pin, make=False)
    except OSError as error:
        raise NetworkError(
            f"the network namespace {pin} cannot be entered: {error.strerror or error}"
        ) from error


def make_links(changes: Sequence[Change], netns: str) -> None:
    """Make a container's links as `strata.network.plan.host_side` says, with one end in the
    namespace at ``netns``. `NetworkError`."""
    if not changes:
        return
    try:
        target = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkError(
            f"the network namespace {netns} cannot be entered: {error.strerror}"
        ) from error
    try:
        with netlink.Channel(netlink.ROUTE) as channel:
            change_links(channel, changes, target)
    finally:
        os.close(target)


def change_links(channel: netlink.Channel, changes: Sequence[Change], netns: int = -1) -> None:
    """Make changes of links in a channel's namespace, in this order; new links reach into the
    namespace of the descriptor ``netns``. `NetworkError`."""
    indexes: dict[str, int] = {}
    messages: list[netlink.Message] = []
    try:
        for change in changes:
            messages.append(_encode(channel, change, indexes, netns))
    except netlink.Refused as refused:
        raise _refuse(refused, changes[len(messages)]) from refused
    try:
        channel.change(messages)
    except netlink.Refused as refused:
        raise _refuse(refused, changes[refused.position]) from refused


def _encode(
    channel: netlink.Channel, change: Change, indexes: dict[str, int], netns: int
) -> netlink.Message:  # fmt: skip
    verb, words = change

    def find(name: str) -> int:
        if name not in indexes:
            indexes[name] = netlink.find_link(channel, name)
        return indexes[name]

    mac = bytes.fromhex(words.get("mac", "").replace(":", ""))
    if verb == "veth":
        return netlink.add_veth(words["name"], find(words["master"]), netns, words["peer"], mac,
                                words["mtu"])  # fmt: skip
    if verb == "port":
        return netlink.set_port(words["name"], hairpin=words["hairpin"], isolated=words["isolated"])
    if verb == "child":
        return netlink.add_child(words["driver"], words["mode"], words["name"],
                                 find(words["parent"]), netns, mac, words["mtu"])  # fmt: skip
    if verb == "up":
        return netlink.set_up(find(words["link"]))
    if verb == "address":
        address, _, prefix = words["address"].partition("/")
        return netlink.add_address(find(words["link"]), pack_address(address), int(prefix))
    gateway = pack_address(words["via"]) if words["via"] else b""
    to, _, prefix = words["destination"].partition("/")
    destination = pack_address(to) if to else bytes(len(gateway))
    return netlink.add_route(destination, int(prefix or 0), gateway, words["metric"],
                             find(words["link"]) if words["link"] else 0)  # fmt: skip


def _refuse(error: netlink.Refused, change: Change) -> NetworkError:
    verb, words = change
    what = " ".join([verb, *(f"{key} {value}" for key, value in words.items() if value)])
    said = f"{error.strerror} ({what})"
    if verb == "route" and words["destination"] and not words["link"]:
        return NetworkError(
            f"the route to {words['destination']} by {words['via']} cannot be made: {said}",
            hint="its gateway must be on a network of the container, and no other network may "
            "have a route there of the same metric",
        )
    if error.errno == errno.EOPNOTSUPP:
        return _lacks(said)
    return _forbidden(said) if error.errno == errno.EPERM else NetworkError(said)


def change_ports(table: str, ports: Sequence[Port], *, add: bool) -> None:
    """Publish ports, or take published ones back (their keys are enough): all or none. OSError
    when one is not as expected, or the table is not there."""
    elements = [(name, [_pack(word) for word in key], [_pack(word) for word in value])
                for name, key, value in ports]  # fmt: skip
    if not elements:
        return
    with netlink.Channel(netlink.NETFILTER) as channel:
        channel.change_at_once(netlink.change_elements(table, elements, add=add))
        if not add:
            channel.leave()


def _pack(word: str) -> bytes:
    """A protocol, a port or an address, as tables hold it."""
    if word in _PROTOCOLS:
        return bytes([_PROTOCOLS[word]])
    return int(word).to_bytes(2, "big") if word.isdecimal() else pack_address(word)


# -- texts for programs ----------------------------------------------------------------------------


def classify(argv: tuple[str, ...], result: command.Result, text: str) -> StrataError:
    """What a failure of ``ip`` or ``nft`` means."""
    said = result.stderr.decode(errors="replace")
    low = said.lower()
    if "operation not supported" in low or "unknown device type" in low:
        return _lacks(_shorten(said, text))
    if "operation not permitted" in low:
        return _forbidden(_shorten(said, text))
    if result.returncode > 0:
        return NetworkError(f"{argv[0]}: {_shorten(said, text)}")
    return CommandFailed(list(argv), result.returncode, said)


def _lacks(said: str) -> NetworkError:
    return NetworkError(
        f"this kernel cannot do what the network needs: {said}",
        hint="it lacks the driver for that kind of link, or nftables",
    )


def _forbidden(said: str) -> NetworkError:
    return NetworkError(
        f"no permission to change links and rules: {said}",
        hint="networks need root with CAP_NET_ADMIN in this network namespace",
    )


def _shorten(said: str, text: str) -> str:
    """The tool's sentence, and with ``ip`` the line it is about: ``Command failed -:3``."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    sentence = lines[0].rpartition("Error: ")[2].rstrip(".") if lines else "no reason given"
    number = said.rpartition("Command failed -:")[2].strip()
    batch = text.splitlines()
    if number.isdigit() and 0 < int(number) <= len(batch):
        return f"{sentence} ({batch[int(number) - 1].strip()})"
    return sentence


# -- settings of this namespace --------------------------------------------------------------------


def ensure_setting(name: str, value: str) -> None:
    """Set a value below /proc/sys/net unless it is so already. `NetworkError`."""
    try:
        if has_setting(name, value):
            return
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)
    except OSError as error:
        key = f"net.{name.replace('/', '.')}"
        raise NetworkError(
            f"cannot set {key} to {value}: {error.strerror}",
            hint=f"`sysctl -w {key}={value}` on the host, or use --network host",
        ) from error


def has_setting(name: str, value: str) -> bool:
    """Whether a value below /proc/sys/net is there and this one."""
    return _read_lines(f"/proc/sys/net/{name}") == [value]


def find_default_link() -> str | None:
    """The link of this namespace's default route for IPv4."""
    for line in _read_lines("/proc/net/route")[1:]:
        words = line.split()
        if words[1] == words[7] == "00000000":
            return words[0]
    return None


def check_bridge(name: str) -> str:
    """The alias of a bridge of this namespace, "" for none. `NetworkError` for another link."""
    words = ["ip", "-oneline", "link", "show", "dev", name, "type", "bridge"]
    said = command.run(words, check=False).text.split()
    if not said:
        raise NetworkError(
            f"interface {name} is there already and is no bridge",
            hint="name a bridge, or what is not there yet: `strata network create "
            "--interface-name`",
        )
    return said[said.index("alias") + 1] if "alias" in said else ""


def check_parent(
    driver: str, options: Mapping[str, str], subnets: Sequence[object], ipam: str
) -> str:  # fmt: skip
    """The link of the host a macvlan or ipvlan network hangs on, if the kernel can do that.

    `UsageError`, `NotFound` for a parent that is not there, `NetworkError`.
    """
    from strata.network import direct

    parent = direct.check(driver, options, subnets, ipam, kernel.list_links(), find_default_link())
    # The kernel refuses any child of a loopback, but first it looks for the kind of link.
    if b"Unknown device type" in _try_link("link", "lo", "name", "probe", "type", driver):
        raise NetworkError(
            f"this kernel has no {driver} links",
            hint=f"load the module (modprobe {driver}), or use another driver",
        )
    return parent


def check_vlan() -> None:
    """Whether bridges of this kernel know VLANs. `NetworkError`."""
    said = _try_link("name", "probe", "type", "bridge", "vlan_filtering", "1")
    if b"not supported" in said:
        raise NetworkError(
            "the bridges of this kernel have no VLANs",
            hint="it was made without CONFIG_BRIDGE_VLAN_FILTERING; leave -o vlan away",
        )


def _try_link(*words: str) -> bytes:
    """What ``ip`` says when it makes a link where it leaves nothing behind: in a namespace that
    ends with the question."""
    return command.run(["unshare", "--net", "ip", "link", "add", *words], check=False).stderr


def list_host_subnets(*, besides: str = "") -> list[Subnet]:
    """The prefixes this namespace has routes to, default routes and those of one link aside."""
    found = []
    for line in _read_lines("/proc/net/route")[1:]:
        words = line.split()
        destination = int.from_bytes(bytes.fromhex(words[1]), "little")
        prefix = bin(int(words[7], 16)).count("1")
        if prefix and words[0] != besides:
            found.append(Subnet(4, destination, prefix))
    for line in _read_lines("/proc/net/ipv6_route"):
        words = line.split()
        prefix = int(words[1], 16)
        if prefix and words[-1] != besides:
            found.append(Subnet(6, int(words[0], 16), prefix))
    return found


def _read_lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
