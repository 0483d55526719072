"""Names of containers on their networks, served by aardvark-dns.

One server per store listens on the gateways of all networks that have containers. Its
configuration is a directory with one file per network: the first line holds the addresses to
listen on and the network's own upstream servers, each further line one container ::

    10.89.0.1,fd00::1 9.9.9.9
    <container id> 10.89.0.2 fd00::2 web,1f2e3d4c5b6a

The server reads it again at SIGHUP. The host has a line in every file, so that containers find it
as ``host.containers.internal``, people on the host can ask a gateway for a container's name, and
`wait_answering` can see that what was published is served. Whatever is here is volatile, as
network namespaces are. Source: aardvark-dns 1.4 to 1.14, ``src/config/mod.rs``.
"""

from __future__ import annotations

import errno
import os
import select
import time

from strata import command
from strata.errors import NotFound
from strata.linux import cgroup, locks
from strata.linux.process import find_start_time, open_pidfd, signal_pidfd, wait_gone
from strata.linux.write import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Network = Mapping[str, Any]
    #: a network's record, the container's addresses on it, its names there
    Zone = tuple[Network, Sequence[str], Sequence[str]]

#: where Debian, and where Fedora and Arch put it
PROGRAMS = ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns")
#: what the server takes off the end of a question; the search domain of its clients
SEARCH_DOMAIN = "dns.podman"
HOST_NAMES = ("host.containers.internal", "host.docker.internal")
#: the id in the host's own lines
_HOST = "host"
PORT = 53
_SIGHUP, _SIGKILL = 1, 9
#: ends the names of files whose networks get no answers from beyond (aardvark-dns 1.9 and later)
_INTERNAL = "%int"
#: upstream of those networks for servers before 1.9, which would ask the host's: the kernel refuses
#: to send anything there
_NOWHERE = "255.255.255.255"
_PID_FILE = "aardvark.pid"
#: children of this process that start a server and are not reaped yet
_starters: list[int] = []
_LOCK_LIMIT = 10.0
_ANSWER_LIMIT = 2.0


def names_of(record: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """A container's names on one network: its name, short id, host name, aliases there."""
    config = record["config"]
    names = (record["name"], record["id"][:12], config.get("hostname") or "",
             *(entry.get("aliases") or ()))  # fmt: skip
    return list(dict.fromkeys(str(name).lower().rstrip(".") for name in names if name))


def publish(
    runroot: str, container_id: str, zones: Sequence[Zone], servers: Sequence[str] = ()
) -> None:
    """Serve a container's names on all its networks that have names; replaces what was before.

    ``servers`` are its own upstream servers (``--dns``). The gateways must be on the host's
    interfaces already. `NotFound` without aardvark-dns.
    """
    folder = _folder(runroot)
    os.makedirs(folder, 0o700, exist_ok=True)
    with _lock(runroot):
        files = _read(folder)
        changed = _without(files, container_id)
        for network, addresses, names in zones:
            name = _file_name(network)
            head = make_head(network)
            lines = files.get(name, "").splitlines()
            body = [line for line in lines[1:] if not line.startswith(f"{_HOST} ")]
            host = make_line(_HOST, network_gateways(network), with_domain(HOST_NAMES))
            upstream = () if network.get("internal") else servers
            own = make_line(container_id, addresses, with_domain(names), upstream)
            changed[name] = files[name] = "\n".join([head, host, *body, own, ""])
        _write(runroot, folder, changed)
        _tell(folder, files)


def withdraw(runroot: str, container_id: str, network_ids: Iterable[str] | None = None) -> None:
    """Serve a container's names no more, on all networks or on those given. Idempotent.

    With the last container the server ends.
    """
    folder = _folder(runroot)
    if not os.path.isdir(folder):
        return
    only = None if network_ids is None else {text[:12] for text in network_ids}
    with _lock(runroot):
        files = _read(folder)
        changed = _without(files, container_id, only)
        if changed:
            _write(runroot, folder, changed)
            _tell(folder, files)


def refresh(runroot: str, network: Network) -> None:
    """Follow a change of a network's own servers. Idempotent."""
    folder = _folder(runroot)
    if not os.path.isdir(folder):
        return
    with _lock(runroot):
        files = _read(folder)
        name = _file_name(network)
        if name in files:
            _, _, rest = files[name].partition("\n")
            files[name] = f"{make_head(network)}\n{rest}"
            _write(runroot, folder, {name: files[name]})
            _tell(folder, files)


def drop(runroot: str, network_id: str) -> None:
    """Forget a network, with every line in it. Idempotent."""
    folder = _folder(runroot)
    if not os.path.isdir(folder):
        return
    with _lock(runroot):
        files = _read(folder)
        gone = {name: "" for name in files if name.startswith(network_id[:12])}
        if gone:
            for name in gone:
                del files[name]
            _write(runroot, folder, gone)
            _tell(folder, files)


def stop(runroot: str) -> None:
    """End the server and forget all names. Idempotent."""
    folder = _folder(runroot)
    if os.path.isdir(folder):
        with _lock(runroot):
            for name in os.listdir(folder):
                if name != _PID_FILE:
                    os.unlink(f"{folder}/{name}")
            _end(folder)


def find_server(runroot: str) -> int:
    """The pid of this store's server, 0 when none runs."""
    return _find(_folder(runroot))


def list_zones(runroot: str) -> dict[str, list[str]]:
    """Network id (12 digits) -> ids of the containers whose names are served there."""
    folder = _folder(runroot)
    files = _read(folder) if os.path.isdir(folder) else {}
    return {
        name.removesuffix(_INTERNAL): [
            line.partition(" ")[0] for line in text.splitlines()[1:] if not line.startswith("host ")
        ]
        for name, text in files.items()
    }


def wait_answering(zones: Sequence[Zone]) -> str:
    """Wait until every gateway answers for a container's names, at most two seconds each.

    Returns a sentence for the user when one does not, else "". Normally this is one question that
    is answered at once; the server may be starting, or reading its files.
    """
    for network, addresses, names in zones:
        gateways = network_gateways(network)
        if not gateways or not names or not addresses:
            continue
        version = 6 if ":" in addresses[0] else 4
        same = [text for text in gateways if (":" in text) == (version == 6)] or gateways
        if not _ask(same[0], names[0], version):
            return (
                f"names on the network {network['name']} do not resolve: aardvark-dns does not "
                f"answer at {same[0]} port {PORT}; does another server listen on that port?"
            )
    return ""


def _ask(gateway: str, name: str, version: int) -> bool:
    """Whether a gateway comes to answer with an address for a name."""
    # `socket` would cost a run five milliseconds of imports for these few calls.
    import _socket as socket

    question = make_question(name, version)
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    deadline = time.monotonic() + _ANSWER_LIMIT
    pause = 0.0005
    while time.monotonic() < deadline:
        asker = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            asker.settimeout(min(0.1, _ANSWER_LIMIT))
            asker.connect((gateway, PORT))
            asker.send(question)
            answer = asker.recv(4096)
            if len(answer) > 7 and answer[3] & 15 == 0 and answer[6:8] != b"\0\0":
                return True
        except TimeoutError:
            continue
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH):
                return False
        finally:
            asker.close()
        # Refused, or the old state: it is about to read its files.
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    return False


# -- pure ------------------------------------------------------------------------------------------


def network_gateways(network: Network) -> list[str]:
    """The addresses the host has on a network."""
    return [str(subnet["gateway"]) for subnet in network["subnets"] if subnet.get("gateway")]


def make_head(network: Network) -> str:
    """The first line of a network's file."""
    listen = ",".join(network_gateways(network))
    servers = ",".join(network.get("dns_servers") or ())
    if network.get("internal"):
        servers = _NOWHERE
    return f"{listen} {servers}" if servers else listen


def make_line(
    container_id: str, addresses: Sequence[str], names: Sequence[str], servers: Sequence[str] = ()
) -> str:
    """A container's line. Addresses may have a prefix length behind them."""
    plain = [address.partition("/")[0] for address in addresses]
    v4 = ",".join(address for address in plain if ":" not in address)
    v6 = ",".join(address for address in plain if ":" in address)
    line = f"{container_id} {v4} {v6} {','.join(names)}"
    return f"{line} {','.join(servers)}" if servers else line


def with_domain(names: Sequence[str]) -> list[str]:
    """The names as they are, and below the search domain.

    Servers before 1.9 take the domain off, but then look at one network of the asker alone, and
    tell capital letters from small ones.
    """
    return [*names, *(f"{name}.{SEARCH_DOMAIN}" for name in names)]


def make_question(name: str, version: int) -> bytes:
    """A DNS question for a name's address of an IP version (RFC 1035, section 4.1)."""
    kind = b"\0\x1c" if version == 6 else b"\0\x01"
    labels = b"".join(bytes((len(part),)) + part for part in name.encode().split(b".") if part)
    return b"st\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0" + kind + b"\0\x01"


def _without(
    files: dict[str, str], container_id: str, only: set[str] | None = None
) -> dict[str, str]:
    """Take a container's lines out of ``files``; return what changed, "" for what is empty now."""
    changed = {}
    for name in list(files):
        if only is not None and name.removesuffix(_INTERNAL) not in only:
            continue
        lines = files[name].splitlines()
        kept = [line for line in lines if not line.startswith(f"{container_id} ")]
        if len(kept) == len(lines):
            continue
        if all(line.startswith(f"{_HOST} ") for line in kept[1:]):
            changed[name] = ""
            del files[name]
        else:
            changed[name] = files[name] = "\n".join([*kept, ""])
    return changed


def _file_name(network: Network) -> str:
    return f"{network['id'][:12]}{_INTERNAL if network.get('internal') else ''}"


# -- the directory and the server ------------------------------------------------------------------


def _folder(runroot: str) -> str:
    return f"{runroot}/net/dns"


def _lock(runroot: str) -> locks.Lock:
    path = f"{runroot}/net/dns.lock"
    return locks.lock(path, timeout=_LOCK_LIMIT, what="what aardvark-dns serves")


def _read(folder: str) -> dict[str, str]:
    found = {}
    for name in os.listdir(folder):
        if name != _PID_FILE:
            with open(f"{folder}/{name}", encoding="ascii", errors="replace") as file:
                found[name] = file.read()
    return found


def _write(runroot: str, folder: str, changed: Mapping[str, str]) -> None:
    """Replace files, remove those without text. The server may read at any time."""
    for name, text in changed.items():
        path = f"{folder}/{name}"
        if not text:
            os.unlink(path)
            continue
        # Beside the directory: the server takes every file in it for a network.
        temporary = f"{runroot}/net/dns.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(temporary, path)


def _tell(folder: str, files: Mapping[str, str]) -> None:
    """Have the server serve what the files say: start it, let it read again, or end it."""
    if not files:
        _end(folder)
        return
    pid = _find(folder)
    if pid and _hears(pid):
        os.kill(pid, _SIGHUP)
        return
    program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        raise NotFound(
            "aardvark-dns is not installed, so names of containers cannot be served",
            hint="install the package aardvark-dns, or make the network with --disable-dns",
        )
    argv = [program, "--config", folder, "-p", str(PORT), "run"]
    # Without locks, as it outlives us. It ends when its child has read the files; the container
    # is made meanwhile.
    starter = command.spawn_detached(cgroup.outliving(argv), command.ENVIRONMENT, {})
    _starters.append(starter)
    with open(f"{folder}.starter", "w") as file:
        file.write(f"{starter} {find_start_time(starter) or 0}")


def _hears(pid: int) -> bool:
    """Whether the server will read again at SIGHUP, which ends one that has only just begun; that
    one is waited for. False when it is gone."""
    deadline = time.monotonic() + _ANSWER_LIMIT
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/status") as file:
                caught = next(line for line in file if line.startswith("SigCgt:"))
        except (OSError, StopIteration):
            return False
        if int(caught.split()[1], 16) & 1 << (_SIGHUP - 1):
            return True
        time.sleep(0.001)
    return False


def _reap() -> None:
    """Take note of starters of this process that have ended."""
    for pid in list(_starters):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                _starters.remove(pid)
        except ChildProcessError:
            _starters.remove(pid)


def _end(folder: str) -> None:
    """End the server at once. It would end by itself, but a start could come in between."""
    pid = _find(folder)
    try:
        server = open_pidfd(pid) if pid else -1
    except ProcessLookupError:
        server = -1
    if server >= 0:
        try:
            signal_pidfd(server, _SIGKILL)
            # Until its last thread has gone, not only its first: its sockets must be free.
            poll = select.poll()
            poll.register(server, select.POLLIN)
            poll.poll(int(_ANSWER_LIMIT * 1000))
        except ProcessLookupError:
            pass
        finally:
            os.close(server)
    try:
        os.unlink(f"{folder}/{_PID_FILE}")
    except FileNotFoundError:
        pass


def _find(folder: str) -> int:
    """The server's pid, 0 without one. One that is being started is waited for."""
    _reap()
    try:
        with open(f"{folder}.starter") as file:
            starter, begun = map(int, file.read().split())
        wait_gone(starter, begun, _ANSWER_LIMIT)
        os.unlink(f"{folder}.starter")
    except (OSError, ValueError):
        pass
    try:
        with open(f"{folder}/{_PID_FILE}") as file:
            pid = int(file.read().strip() or 0)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except (OSError, ValueError):
        return 0
    # The pid may belong to somebody else by now.
    return pid if os.fsencode(folder) in words else 0
