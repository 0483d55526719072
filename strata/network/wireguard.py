"""The WireGuard device of an overlay network: made, configured, taken away, found.

The kernel's WireGuard is used where there is one. Elsewhere ``wireguard-go`` does the same in a
process over ``/dev/net/tun``; it is configured through the same ``wg`` and lives exactly as long as
its link: taking the link away ends it, and when it is killed the link is gone, with its routes. So
a link that exists works, and what is looked for is always the link.

The private key goes from its file (mode 0600) to ``wg`` through a pipe: it is never an argument,
in an environment, or in a record.
"""

from __future__ import annotations

import os
import time

from strata import command, trace
from strata.errors import CommandFailed, NotFound, StrataError
from strata.linux import cgroup, process
from strata.linux import network as kernel
from strata.network import overlay as plans
from strata.network import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.network.overlay import Overlay

USERSPACE = "wireguard-go"
_SOCKETS = "/run/wireguard"
_UNKNOWN_TYPE = (b"Unknown device type", b"Operation not supported", b"not supported")


class NoDevice(StrataError):
    """A WireGuard device cannot be made on this host."""

    id = "no-wireguard"


def make_private_key() -> str:
    """A new private key in base64: 32 random bytes, clamped as in RFC 7748, section 5."""
    import binascii

    key = bytearray(os.urandom(32))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return binascii.b2a_base64(bytes(key), newline=False).decode()


def derive_public_key(private_key: str) -> str:
    """The public key of a private one."""
    return _wg("pubkey", input=private_key).strip()


def ensure_up(
    network_id: str, overlay: Overlay, gateways: list[str], mtu: int, key_path: str, alias: str
) -> None:  # fmt: skip
    """Make the device what the record says: there, configured, up, with routes. Idempotent.

    ``gateways`` are this host's addresses in the overlay and must exist already. ``alias`` marks
    the link as ours. Raises `NoDevice`; `NotFound` when the private key is gone.
    """
    link = plan.tunnel_name(network_id)
    try:
        with open(key_path, encoding="ascii") as file:
            private_key = file.read().strip()
    except FileNotFoundError:
        raise NotFound(
            f"the private key of the overlay is missing: {key_path}",
            hint="remove the network and create it again; the other hosts need its new join token",
        ) from None
    if kernel.find_link(link) is None:
        _make(link)
    trace.point("overlay:device-made")
    endpoints = {peer["public_key"]: _resolve(peer["endpoint"]) for peer in overlay["peers"]}
    # syncconf leaves the sessions of unchanged peers alone.
    _wg("syncconf", link, "/proc/self/fd/0",
        input=plans.format_config(overlay, private_key, endpoints))  # fmt: skip
    trace.point("overlay:configured")
    _sync_links(link, overlay, gateways, mtu, alias)


def take_down(network_id: str) -> None:
    """Take the device away, and wait for the process behind it to end. Idempotent."""
    link = plan.tunnel_name(network_id)
    running = find_process(link)
    if kernel.find_link(link) is not None:
        command.run(["ip", "link", "delete", link], check=False)
    trace.point("overlay:device-gone")
    if running is not None:
        pid, start = running
        if not process.wait_gone(pid, start, 5) and process.is_alive(pid, start):
            os.kill(pid, 9)
    try:
        os.unlink(f"{_SOCKETS}/{link}.sock")  # left by a process that was killed
    except FileNotFoundError:
        pass


def find_process(link: str) -> tuple[int, int] | None:
    """Pid and start time of the userspace process of a device, if one runs."""
    wanted = ["-f", link]
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).rstrip("\0").split("\0")
        except OSError:
            continue
        if words[1:] == wanted and os.path.basename(words[0]) == USERSPACE:
            start = process.find_start_time(int(name))
            if start is not None:
                return int(name), start
    return None


def _make(link: str) -> None:
    done = command.run(["ip", "link", "add", link, "type", "wireguard"], check=False)
    if done.returncode == 0 or b"File exists" in done.stderr:
        return
    if not any(text in done.stderr for text in _UNKNOWN_TYPE):
        raise CommandFailed(["ip", "link", "add", link], done.returncode,
                            done.stderr.decode(errors="replace"))  # fmt: skip
    program = command.find_program(USERSPACE)
    if program is None:
        raise NoDevice(
            "this kernel has no WireGuard, and wireguard-go is not installed",
            hint="install the package wireguard-go, or a kernel with WireGuard",
        )
    if not os.path.exists("/dev/net/tun"):
        raise NoDevice(
            "this kernel has no WireGuard, and wireguard-go needs /dev/net/tun",
            hint="load the module tun, or use a kernel with WireGuard",
        )
    argv = cgroup.outliving([program, "-f", link])
    pid = command.spawn_detached(argv, command.ENVIRONMENT, {})
    trace.point("overlay:started")
    _wait_ready(link, pid)


def _wait_ready(link: str, pid: int) -> None:
    """Wait until the userspace process listens for its configuration."""
    import _socket

    deadline = time.monotonic() + 10
    while True:
        probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            probe.connect(f"{_SOCKETS}/{link}.sock")
            return
        except OSError:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended or time.monotonic() > deadline:
                raise NoDevice(
                    "wireguard-go does not start"
                    + (f" (exit code {os.waitstatus_to_exitcode(status)})" if ended else ""),
                    hint=f"see what it says: {USERSPACE} -f {link}",
                ) from None
            time.sleep(0.003)
        finally:
            probe.close()


def _resolve(endpoint: str) -> str:
    """Address and port an endpoint stands for now; empty when its name has no address.

    A name is asked here and not by ``wg``, which gives up the whole configuration, after half a
    minute, when one of them is unknown.
    """
    host, _, port = endpoint.rpartition(":")
    if not host or host.startswith("[") or not host.strip("0123456789."):
        return endpoint
    import socket

    try:
        address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0][4][0]
    except OSError:
        return ""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _sync_links(
    link: str, overlay: Overlay, gateways: list[str], mtu: int, alias: str
) -> None:  # fmt: skip
    """Bring the link up and make its routes exactly those to the peers' parts."""
    lines = [f"link set {link} alias {alias} mtu {mtu} up"]
    routes = plans.format_routes(link, overlay, gateways)
    wanted = {line.split()[2] for line in routes}
    for part in _list_routes(link) - wanted:
        lines.append(f"route delete {part} dev {link}")
    command.run(["ip", "-batch", "-"], input="\n".join([*lines, *routes, ""]).encode())
    trace.point("overlay:routed")


def _list_routes(link: str) -> set[str]:
    """Destinations routed to the link."""
    found = set()
    for family in ("-4", "-6"):
        done = command.run(["ip", family, "route", "show", "dev", link, "proto", "boot"],
                           check=False)  # fmt: skip
        found |= {line.split()[0] for line in done.text.splitlines() if line.strip()}
    return found


def _wg(*words: str, input: str) -> str:
    if command.find_program("wg") is None:
        raise NoDevice(
            "the program 'wg' is not installed", hint="install the package wireguard-tools"
        )
    return command.run(["wg", *words], input=input.encode()).text
