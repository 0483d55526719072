"""Test hosts: network namespaces joined by a wire, so that no test touches the real host's links.

::

    with open_hosts("a", "b") as (a, b):
        store.netns = a.netns                      # the strata command now runs on host a
        store.ok("run", "--detach", "--publish", "8080:80", ...)
        assert ask_tcp(b.netns, a.address, 8080) == b"hello"

A host has a loopback, and ``eth0`` with `Host.address` and `Host.address6` on a bridge in a
namespace of its own, the wire, which answers to `WIRE` (the default gateway). Only the network
differs: mounts, processes and cgroups are the real host's. Hence ``/sys/class/net`` still shows the
real host's links, as it shows those of whoever mounted it; ``ip`` and ``/proc/net`` tell the truth.

At the end every process in one of the namespaces is killed and the links go with them, whatever
happened before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from strata.linux.syscall import call

if TYPE_CHECKING:
    from helpers.store import Store

Value = TypeVar("Value")

CLONE_NEWNET = 0x40000000
WIRE = "192.0.2.254"
"""The default gateway of every host: a place that is neither host nor container."""

_KEEP = f"""
import ctypes, os, signal
if ctypes.CDLL(None, use_errno=True).unshare({CLONE_NEWNET}):
    raise OSError(ctypes.get_errno(), "unshare")
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.write(1, b"ready")
signal.pause()
"""


class Host:
    """One network namespace, named in messages; ``netns`` is its path."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"192.0.2.{number}"
        self.address6 = f"2001:db8::{number}"
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-c", _KEEP], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.read(5) == b"ready", "no network namespace can be made here"
        self.netns = f"/proc/{self._keeper.pid}/ns/net"
        self.pid = self._keeper.pid
        self.ok("ip", "link", "set", "lo", "up")

    def run(self, *words: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program on this host to its end."""
        return run(self.netns, *words, input=input)

    def ok(self, *words: str, input: str | None = None) -> str:
        """Like `run`, and fail the test unless it ended with 0; its output."""
        done = self.run(*words, input=input)
        assert done.returncode == 0, f"{self.name}: {words}: {done.stderr or done.stdout}"
        return done.stdout

    def list_links(self) -> list[str]:
        """The names of its links."""
        return list_links(self.netns)

    def describe(self) -> dict[str, str]:
        """Links, addresses, routes and firewall as text: what a removal must bring back."""
        return {
            "links": "\n".join(self.list_links()),
            "addresses": self.ok("ip", "-brief", "address"),
            "routes": self.ok("ip", "route") + self.ok("ip", "-6", "route"),
            "nft": self.ok("nft", "list", "ruleset"),
        }

    def close(self) -> None:
        """Kill what runs in it and let it go. Idempotent."""
        if self._keeper.returncode is None:
            _kill_inside(self.netns, {self.pid})
            self._keeper.kill()
            self._keeper.wait()
            assert self._keeper.stdout is not None
            self._keeper.stdout.close()


@contextlib.contextmanager
def open_hosts(*names: str) -> Iterator[list[Host]]:
    """Hosts that can reach each other, gone when the block ends, however it ends."""
    with contextlib.ExitStack() as stack:

        def make(name: str, number: int) -> Host:
            host = Host(name, number)
            stack.callback(host.close)
            return host

        wire = make("wire", 254)
        wire.ok("ip", "-batch", "-", input="\n".join([
            "link add wire type bridge", "link set wire up",
            f"address add {WIRE}/24 dev wire", "address add 2001:db8::254/64 dev wire nodad",
        ]))  # fmt: skip
        hosts = [make(name, number) for number, name in enumerate(names, 1)]
        for host in hosts:
            plug_in(wire, host)
        yield hosts


def plug_in(wire: Host, host: Host) -> None:
    """Join a host to the wire."""
    end = f"to-{host.name}"
    wire.ok("ip", "-batch", "-", input="\n".join([
        f"link add {end} type veth peer name eth0 netns {host.pid}",
        f"link set {end} master wire up",
    ]))  # fmt: skip
    host.ok("ip", "-batch", "-", input="\n".join([
        "link set eth0 up",
        f"address add {host.address}/24 dev eth0",
        f"address add {host.address6}/64 dev eth0 nodad",
        f"route add default via {WIRE}",
        "route add default via 2001:db8::254",
    ]))  # fmt: skip


def _kill_inside(netns: str, spared: set[int]) -> None:
    """Kill every process in a network namespace, until none is left."""
    wanted = os.stat(netns)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [pid for pid in list_inside(wanted.st_ino) if pid not in spared]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def list_inside(inode: int) -> list[int]:
    """The processes in a network namespace; zombies are in none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == inode:
                    found.append(int(name))
    return found


class Attached:
    """Where a running container is: the path of its namespace and its addresses per network."""

    def __init__(self, store: Store, name: str) -> None:
        container_id = store.ok("inspect", "--format", "{{.Id}}", name).line
        self.netns = f"{store.runroot}/netns/{container_id[:12]}"
        with open(f"{store.runroot}/c/{container_id[:12]}/network.json") as file:
            networks = json.load(file)["networks"]
        self.addresses: dict[str, list[str]] = {
            network: [text.partition("/")[0] for text in found["addresses"]]
            for network, found in networks.items()
        }


# -- inside a namespace ----------------------------------------------------------------------------


def run(
    netns: str, *words: str, input: str | None = None
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a program in a network namespace to its end."""
    return subprocess.run(
        ["nsenter", f"--net={netns}", "--", *words], input=input,
        stdin=subprocess.DEVNULL if input is None else None, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def list_links(netns: str) -> list[str]:
    """The names of a namespace's links, sorted."""
    return inside(netns, lambda: sorted(name for _, name in socket.if_nameindex()))


def enter(netns: str) -> None:
    """Move the calling thread into a network namespace, for good."""
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("setns", fd, CLONE_NEWNET, what=f"setns {netns}")
    finally:
        os.close(fd)


def inside(netns: str, do: Callable[[], Value]) -> Value:
    """Call a function in a network namespace; what it raises is raised here.

    It runs in a thread of its own, since a network namespace belongs to a thread; a socket made
    there stays in that namespace and can be used anywhere.
    """
    found: list[Value] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            enter(netns)
            found.append(do())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def connect(netns: str, address: str, port: int, *, timeout: float = 2) -> socket.socket:
    """A TCP connection from inside a namespace. `OSError` as the kernel gives it."""
    return inside(netns, lambda: socket.create_connection((address, port), timeout))


def ask_tcp(
    netns: str, address: str, port: int, send: bytes = b"", *, timeout: float = 2
) -> bytes | None:  # fmt: skip
    """What a TCP server says until it closes; None when it cannot be reached."""
    try:
        with connect(netns, address, port, timeout=timeout) as stream:
            if send:
                stream.sendall(send)
            stream.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: stream.recv(65536), b""))
    except OSError:
        return None


def ask_udp(
    netns: str, address: str, port: int, send: bytes = b"?", *, timeout: float = 2
) -> bytes | None:  # fmt: skip
    """A UDP server's answer; None when none comes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with inside(netns, lambda: socket.socket(family, socket.SOCK_DGRAM)) as endpoint:
            endpoint.settimeout(timeout)
            endpoint.connect((address, port))
            endpoint.send(send)
            return endpoint.recv(65536)
    except OSError:
        return None


def wait_for_tcp(netns: str, address: str, port: int, *, seconds: float = 10) -> bytes:
    """Ask until a server answers, as one that is just starting does."""
    deadline = time.monotonic() + seconds
    while (answer := ask_tcp(netns, address, port)) is None:
        assert time.monotonic() < deadline, f"{address}:{port} did not answer in {seconds} s"
        time.sleep(0.02)
    return answer


class Server:
    """Servers on one address of a namespace that answer with who asks: ``b"192.0.2.1"``.

    So a test sees at once whether something arrived and under which source address.
    """

    def __init__(self, netns: str, port: int, *, address: str = "::") -> None:
        self._listener = inside(netns, lambda: _listen(address, port, socket.SOCK_STREAM))
        self._endpoint = inside(netns, lambda: _listen(address, port, socket.SOCK_DGRAM))
        self._threads = [threading.Thread(target=work, daemon=True)
                         for work in (self._serve_tcp, self._serve_udp)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, peer = self._listener.accept()
                with stream, contextlib.suppress(OSError):
                    stream.sendall(peer[0].removeprefix("::ffff:").encode())

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, peer = self._endpoint.recvfrom(65536)
                if peer is None:  # shut down
                    return
                with contextlib.suppress(OSError):
                    self._endpoint.sendto(peer[0].removeprefix("::ffff:").encode(), peer)

    def close(self) -> None:
        """Stop answering."""
        for endpoint in (self._listener, self._endpoint):
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)
            endpoint.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen(64)
    return made
