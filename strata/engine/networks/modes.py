"""The network of one container that starts, whichever mode it was made with, and its names.

Connecting to bridges is `attach`; here are the namespaces of others (``container:``, ``ns:``),
pasta's, and what every container with a network of its own gets: its names served, and its files
about names.
"""

from __future__ import annotations

import os

from strata import command, trace
from strata.engine.core import Engine, Record
from strata.engine.networks import attach, host
from strata.errors import NotFound, StateImproper, StrataError, UsageError
from strata.linux import cgroup, process
from strata.linux import network as kernel
from strata.linux.read import read_verbatim
from strata.linux.write import write_all
from strata.network import act, dns, files, pasta, plan
from strata.store import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.network.dns import Zone

#: the mode's word in front of its value
CONTAINER, PATH, PASTA = "container", "ns", "pasta"
_PASTA_LIMIT = 20.0


class Joined:
    """A container's network while it starts: the namespace's path, its state, its names."""

    __slots__ = ("netns", "state", "zones")

    def __init__(self, netns: str, state: Record | None = None, zones: list[Zone] | None = None):
        self.netns = netns
        #: as it is written down; None when the namespace is somebody else's
        self.state = state
        self.zones = zones or []


def settle(e: Engine, config: Record) -> None:
    """Check a mode that is no bridge when a container is made. `NotFound`, `UsageError`."""
    kind, _, value = config["network"].partition(":")
    if kind == CONTAINER:
        from strata.engine.names import get_container

        other = get_container(e, value)
        config["network"] = f"{CONTAINER}:{other['id']}"
        config["requires"] = [*dict.fromkeys([*config.get("requires", ()), other["id"]])]
    elif kind == PATH:
        _check_path(value)


def join(e: Engine, record: Record) -> Joined:
    """Make or find the namespace of a container that is about to start, and serve its names."""
    config = record["config"]
    kind, _, value = config["network"].partition(":")
    if kind == CONTAINER:
        return Joined(_find_other(e, value))
    if kind == PATH:
        _check_path(value)
        return Joined(value)
    if kind == PASTA:
        return _join_pasta(e, record)
    zones: list[Zone] = []

    def announce(state: Record) -> None:
        zones.extend(list_zones(e, record, state))
        serve(e, record, zones)

    try:
        attached = attach.attach(e, record, announce)
    except BaseException:
        leave(e, record)
        raise
    return Joined(attached.netns, attached.state, zones)


def leave(e: Engine, record: Record) -> None:
    """Give back what a container that does not run holds of networks. Idempotent."""
    dns.withdraw(e.paths.runroot, record["id"])
    state = host.find_state(e, record["id"])
    attach.detach(e, record)
    if state is not None and state["mode"] == PASTA:
        _end_pasta(e, record)


# -- names -----------------------------------------------------------------------------------------


def list_zones(e: Engine, record: Record, state: Record) -> list[Zone]:
    """The networks of a container on which its names are served."""
    zones: list[Zone] = []
    for attachment in state["networks"].values():
        network = e.records.find("network", attachment["id"])
        if network is not None and network["dns"] and plan.is_bridge(network):
            zones.append((network, attachment["addresses"], dns.names_of(record, attachment)))
    return zones


def serve(e: Engine, record: Record, zones: list[Zone]) -> None:
    """Serve a container's names on these networks and no others."""
    runroot = e.paths.runroot
    if zones:
        dns.publish(runroot, record["id"], zones, record["config"].get("dns") or ())
    else:
        dns.withdraw(runroot, record["id"])
    trace.point("names:served")


def follow(e: Engine, record: Record) -> None:
    """Follow a change of a running container's name or networks: names and files. The caller has
    the container's lock."""
    state = host.find_state(e, record["id"])
    if state is None or record["config"]["network"] != "bridge":
        return
    zones = list_zones(e, record, state)
    serve(e, record, zones)
    hostname = record["config"]["hostname"] or record["id"][:12]
    bundle = e.paths.bundle(record["id"])
    for name, text in make_files(e, record, Joined("", state, zones), hostname).items():
        if os.path.exists(f"{bundle}/{name}"):
            write_file(f"{bundle}/{name}", text)


def make_files(
    e: Engine, record: Record, joined: Joined | None, hostname: str, *, image_hosts: str = ""
) -> dict[str, str]:  # fmt: skip
    """The texts of hosts, resolv.conf and hostname, name -> text. `UsageError`."""
    config = record["config"]
    kind, _, value = config["network"].partition(":")
    if kind == CONTAINER:
        # They share their addresses, so they share what is known of them.
        bundle = e.paths.bundle(value)
        shared = {name: read_verbatim(f"{bundle}/{name}") for name in ("hosts", "resolv.conf")}
        return {**shared, "hostname": f"{hostname}\n"}
    state = joined.state if joined is not None else None
    if state is not None:
        networks = {name: {**attachment, **_describe(e, attachment["id"])}
                    for name, attachment in state["networks"].items()}  # fmt: skip
        state = {**state, "networks": networks}
    return files.make(config, record["name"], hostname, state, image_hosts=image_hosts)


def write_file(path: str, text: str) -> None:
    """Write a file of a bundle in place: a running container sees that very file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        write_all(fd, text.encode(errors="surrogateescape"))
    finally:
        os.close(fd)


def _describe(e: Engine, network_id: str) -> Record:
    """What the files about names depend on: the host's addresses on a network, and who answers."""
    network = e.records.find("network", network_id)
    if network is None or not plan.is_managed(network):
        return {"host": [], "dns": False, "internal": bool(network and network["internal"])}
    return {"host": dns.network_gateways(network), "dns": network["dns"],
            "internal": network["internal"]}  # fmt: skip


# -- namespaces of others --------------------------------------------------------------------------


def _find_other(e: Engine, container_id: str) -> str:
    """The network namespace of a running container."""
    other = e.records.find("container", container_id)
    if other is None:
        raise NotFound(
            f"the container {container_id[:12]} whose network is to be joined is gone",
            hint="make this container anew",
        )
    if lifecycle.derive(other) not in lifecycle.LIVE:
        raise StateImproper(
            f"cannot join the network of container {other['name']}: it is not running",
            hint=f"`strata start {other['name']}` starts it",
        )
    pin = e.paths.netns(container_id)
    if kernel.is_pinned(pin):
        return pin
    return f"/proc/{other['state']['pid']}/ns/net"


def _check_path(path: str) -> None:
    """Refuse what is no network namespace; the runtime would be less clear. `UsageError`."""
    hint = "`ip netns add NAME` makes one at /run/netns/NAME"
    try:
        here, other = os.stat("/proc/self/ns/net"), os.stat(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"the network namespace {path}: {reason}", hint=hint) from None
    if here.st_dev != other.st_dev:
        raise UsageError(f"{path} is not a network namespace", hint=hint)


# -- pasta -----------------------------------------------------------------------------------------


def _join_pasta(e: Engine, record: Record) -> Joined:
    """Make a namespace and let pasta connect it."""
    from strata.engine.networks import publish

    attach.detach(e, record)
    config = record["config"]
    pin = e.paths.netns(record["id"])
    attach.make_sign(pin)
    trace.point("pasta:begun")
    try:
        ports = publish.take(e, record["id"], config["ports"], ["any", "any"], "")
        state: Record = {"netns": pin, "mode": PASTA, "networks": {}, "ports": ports,
                         "targets": ["", ""], "dns": [pasta.NAMES_ADDRESS]}  # fmt: skip
        argv = pasta.make_argv(
            pin, _pasta_pid(e, record), ports, pasta.split_options(config["network"])
        )
        attach.write_state(e, record, state)
        trace.point("pasta:recorded")
        with act.make_inside(pin) as inside:
            act.change_links(inside, [("up", {"link": "lo"})])
        trace.point("pasta:namespace-made")
        # Its own standard input must not be a terminal or pipe of ours, or it waits for that.
        _run_pasta(argv)
    except BaseException:
        leave(e, record)
        raise
    trace.point("pasta:running")
    return Joined(pin, state)


def _run_pasta(argv: list[str]) -> None:
    """Run pasta until it has gone to the background; without locks, as it outlives us."""
    errors, write = os.pipe()
    try:
        pid = command.spawn(
            cgroup.outliving(argv), stderr=write, keep_locks=False, new_session=True
        )
    except BaseException:
        os.close(errors)
        raise
    finally:
        os.close(write)
    try:
        code = command.wait(pid)
        # The daemon keeps the other end: what is there is all there is to read.
        os.set_blocking(errors, False)
        try:
            said = os.read(errors, 65536)
        except BlockingIOError:
            said = b""
    finally:
        os.close(errors)
    if code != 0:
        raise pasta.classify(said.decode(errors="replace"))


def _pasta_pid(e: Engine, record: Record) -> str:
    return f"{e.paths.bundle(record['id'])}/pasta.pid"


def _end_pasta(e: Engine, record: Record) -> None:
    """End pasta, which would end by itself when it sees that its namespace is gone."""
    path = _pasta_pid(e, record)
    try:
        with open(path) as file:
            pid = int(file.read().strip() or 0)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        start = process.find_start_time(pid)
        if start is not None and os.fsencode(e.paths.netns(record["id"])) in words:
            os.kill(pid, 15)
            process.wait_gone(pid, start, _PASTA_LIMIT)
        os.unlink(path)
    except (OSError, ValueError, StrataError):
        return
