"""The effects on links and rules: ``ip -batch``, ``nft -f``, settings of the kernel.

Every program reads its whole text from a file in memory, so several can be under way at once
without anybody feeding them. What they say when they fail is interpreted here, one function each.
"""

from __future__ import annotations

import os

from strata import command
from strata.errors import CommandFailed, NetworkError, StrataError
from strata.linux import network as kernel
from strata.network.addresses import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IP = ("ip", "-batch", "-")
NFT = ("nft", "-f", "-")

#: what every namespace of a container is given: ping without privileges, as with Podman, and
#: addresses that can be used at once, as nobody else can have them
_SETTINGS = {"ipv4/ping_group_range": "0 0", "ipv6/conf/default/accept_dad": "0"}


class Running:
    """A program under way. `finish` waits and raises its failure."""

    __slots__ = ("_errors", "_pid", "_text", "argv")

    def __init__(self, argv: tuple[str, ...], pid: int, errors: int, text: str) -> None:
        self.argv = argv
        self._pid = pid
        self._errors = errors
        self._text = text

    def finish(self) -> None:
        """Wait for the end. `NetworkError` with what went wrong in which line. Idempotent."""
        if self._pid <= 0:
            return
        chunks = []
        while chunk := os.read(self._errors, 65536):
            chunks.append(chunk)
        os.close(self._errors)
        code = command.wait(self._pid)
        self._pid = 0
        if code != 0:
            result = command.Result(code, b"", b"".join(chunks))
            raise classify(self.argv, result, self._text)

    def abandon(self) -> None:
        """Wait for the end and do not care. Never fails."""
        try:
            self.finish()
        except StrataError:
            return


def start(argv: tuple[str, ...], text: str) -> Running:
    """Start `IP` or `NFT` on a text."""
    source = _memory(text)
    errors, write = os.pipe()
    try:
        pid = command.spawn(argv, stdin=source, stderr=write)
    except BaseException:
        os.close(errors)
        raise
    finally:
        os.close(source)
        os.close(write)
    return Running(argv, pid, errors, text)


def run(argv: tuple[str, ...], text: str) -> None:
    """Run `IP` or `NFT` on a text to its end; an empty text needs no program. `NetworkError`."""
    if text:
        start(argv, text).finish()


class Waiting:
    """``ip`` that has loaded and waits for its lines."""

    __slots__ = ("_errors", "_feed", "_pid")

    def __init__(self) -> None:
        """It waits in this namespace."""
        source, self._feed = os.pipe()
        self._errors, write = os.pipe()
        try:
            self._pid = command.spawn(IP, stdin=source, stderr=write)
        except BaseException:
            os.close(self._feed)
            os.close(self._errors)
            raise
        finally:
            os.close(source)
            os.close(write)

    def feed(self, text: str) -> Running:
        """Give it the lines and let it work."""
        try:
            data = memoryview(text.encode())
            while data:
                data = data[os.write(self._feed, data) :]
        except BrokenPipeError:
            pass  # it has failed already; `finish` says how
        os.close(self._feed)
        return Running(IP, self._pid, self._errors, text)


class Inside(Waiting):
    """``ip`` in a container's namespace, waiting for its lines."""

    __slots__ = ()

    def __init__(self, path: str, *, make: bool) -> None:
        """``make``: the namespace is new, and pinned at ``path``. `NetworkError`."""
        source, self._feed = os.pipe()
        self._errors, write = os.pipe()
        try:
            self._pid = kernel.spawn_in_network(
                path, IP, make=make, stdin=source, stderr=write,
                settings=_SETTINGS if make else None,
            )  # fmt: skip
        except OSError as error:
            os.close(self._feed)
            os.close(self._errors)
            raise NetworkError(
                f"the network namespace {path} cannot be {'made' if make else 'entered'}: "
                f"{error.strerror or error}"
            ) from error
        finally:
            os.close(source)
            os.close(write)


def _memory(text: str) -> int:
    """A file in memory that holds the text, read from its begin."""
    fd = os.memfd_create("strata", os.MFD_CLOEXEC)
    data = memoryview(text.encode())
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def classify(argv: tuple[str, ...], result: command.Result, text: str) -> StrataError:
    """What a failure of ``ip`` or ``nft`` means."""
    said = result.stderr.decode(errors="replace")
    low = said.lower()
    if "operation not supported" in low or "unknown device type" in low:
        return NetworkError(
            f"this kernel cannot do what the network needs: {_shorten(said, text)}",
            hint="it lacks the driver for that kind of link, or nftables",
        )
    if "operation not permitted" in low:
        return NetworkError(
            f"no permission to change links and rules: {_shorten(said, text)}",
            hint="networks need root with CAP_NET_ADMIN in this network namespace",
        )
    if result.returncode > 0:
        return NetworkError(f"{argv[0]}: {_shorten(said, text)}")
    return CommandFailed(list(argv), result.returncode, said)


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
    path = f"/proc/sys/net/{name}"
    try:
        with open(path) as file:
            if file.read().strip() == value:
                return
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        key = f"net.{name.replace('/', '.')}"
        raise NetworkError(
            f"cannot set {key} to {value}: {error.strerror}",
            hint=f"`sysctl -w {key}={value}` on the host, or use --network host",
        ) from error


def find_default_link() -> str | None:
    """The link of this namespace's default route for IPv4."""
    for line in _read_lines("/proc/net/route")[1:]:
        words = line.split()
        if words[1] == words[7] == "00000000":
            return words[0]
    return None


def check_bridge(name: str) -> None:
    """Refuse a link of this namespace that is no bridge. `NetworkError`."""
    words = ["ip", "-oneline", "link", "show", "dev", name, "type", "bridge"]
    if not command.run(words, check=False).stdout.strip():
        raise NetworkError(
            f"interface {name} is there already and is no bridge",
            hint="name a bridge, or what is not there yet: `strata network create "
            "--interface-name`",
        )


def check_parent(
    driver: str, options: Mapping[str, str], subnets: Sequence[object], ipam: str
) -> str:  # fmt: skip
    """The link of the host a macvlan or ipvlan network hangs on, if the kernel can do that.

    `UsageError`, `NotFound` for a parent that is not there, `NetworkError`.
    """
    from strata.network import direct

    parent = direct.check(driver, options, subnets, ipam, kernel.list_links(), find_default_link())
    # Asked where it leaves nothing behind: a namespace that ends with the question. The kernel
    # refuses any child of a loopback, but first it looks for the kind of link.
    done = command.run(["unshare", "--net", "ip", "link", "add", "link", "lo", "name", "probe",
                        "type", driver], check=False)  # fmt: skip
    if b"Unknown device type" in done.stderr:
        raise NetworkError(
            f"this kernel has no {driver} links",
            hint=f"load the module (modprobe {driver}), or use another driver",
        )
    return parent


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
