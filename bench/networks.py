"""A place for the bridges of three engines: a network namespace, and the rows measured in it.

The engines make links, rules and sysctls for a container on a bridge. Here they do so in a network
namespace of the benchmark, so nothing of the host's own network is touched. Podman 5 comes from
``bench/install-podman5`` and runs in that directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engines import QUIET, Broken, Engine, Podman, ask
from rows import Row, paired

if TYPE_CHECKING:
    from engines import Sample, Strata

CLONE_NEWNET = 0x40000000
PODMAN5 = "/var/cache/strata-bench/podman5"
NETWORK = "benchnet"


class ChrootPodman(Podman):
    """The Podman of Debian 13, in its own directory, with this benchmark's state."""

    name = "Podman 5"

    def __init__(self, folder: str, place: str = PODMAN5) -> None:
        super().__init__(folder)
        self.place = place

    def start(self) -> None:
        if not os.path.exists(f"{self.place}/usr/bin/podman"):
            raise Broken("Podman 5 is not installed (bench/install-podman5)")
        super().start()
        # This is the benchmark's own mount namespace: all of it goes with it. What is a root must
        # be a mount, or Podman cannot unpack.
        ask(["mount", "--bind", self.place, self.place])
        for name in ("proc", "sys", "dev"):
            ask(["mount", "--rbind", f"/{name}", f"{self.place}/{name}"])
        ask(["mount", "-t", "tmpfs", "tmpfs", f"{self.place}/run"])
        os.makedirs(f"{self.place}{self.folder}")
        ask(["mount", "--rbind", self.folder, f"{self.place}{self.folder}"])

    def argv(self, *words: str) -> list[str]:
        return ["chroot", self.place, *super().argv(*words)]

    def load(self, archive: str) -> None:
        # It sees its own folder alone.
        inside = f"{self.folder}/image.tar"
        ask(["cp", "--reflink=auto", archive, inside])
        super().load(inside)

    def stop(self) -> None:
        super().stop()
        subprocess.run(["umount", "--recursive", "--lazy", self.place], check=False, **QUIET,
                       stderr=subprocess.DEVNULL)  # fmt: skip
        with contextlib.suppress(OSError):
            os.rmdir(f"{self.place}{self.folder}")
            os.rmdir(f"{self.place}{os.path.dirname(self.folder)}")


@contextlib.contextmanager
def in_own_network() -> Iterator[Callable[[], object]]:
    """This process, and what it starts, in a new network namespace with a loopback and a link.

    Gives a function that enters it again after another one was entered.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    own = -1
    try:
        if libc.unshare(CLONE_NEWNET):
            raise Broken(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        ask(["ip", "link", "set", "lo", "up"])
        # What a host has: an address, and a default route that rules and name servers follow.
        ask(["ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1"])
        ask(["ip", "address", "add", "198.51.100.2/24", "dev", "bench0"])
        ask(["ip", "link", "set", "bench0", "up"])
        ask(["ip", "link", "set", "bench1", "up"])
        ask(["ip", "route", "add", "default", "via", "198.51.100.1"])
        yield lambda: libc.setns(own, CLONE_NEWNET)
    finally:
        libc.setns(home, CLONE_NEWNET)
        for descriptor in (home, own):
            if descriptor >= 0:
                os.close(descriptor)


def _run_on_bridge(engine: Engine) -> Sample:
    return engine.measure("run", "--rm", "--network", NETWORK, "--publish", "18080:80",
                          engine.image, "true")  # fmt: skip


def measure_networks(engines: list[Engine], repeat: int) -> list[Row]:
    """``run --rm`` on a bridge with names and a published port, and how it grows."""
    with contextlib.ExitStack() as stack:
        # One for each: two Podmans would give their bridges one name and one range.
        enter = {engine.name: stack.enter_context(in_own_network()) for engine in engines
                 if engine.name != "Docker"}  # its daemon here runs without networks  # fmt: skip
        ready: list[Engine] = []
        try:
            for engine in engines:
                if engine.name in enter:
                    enter[engine.name]()
                    engine.ask("network", "create", NETWORK)
                    ready.append(engine)

            def measure(engine: Engine) -> float:
                enter[engine.name]()
                return _run_on_bridge(engine).wall

            values = paired(ready, repeat, measure)
            return [Row("run --rm on a bridge with DNS and a published port", values,
                        goals={"Podman": 0.20, "Podman 5": 1.0})]  # fmt: skip
        finally:
            for engine in ready:
                enter[engine.name]()
                with contextlib.suppress(Broken):
                    engine.ask("network", "rm", "--force", NETWORK)


def measure_growth(strata: Strata, repeat: int, count: int) -> list[Row]:
    """What the same costs beside one container on the network, and beside many.

    One container is measured before the many are there and after they have gone, so that a machine
    that grows slower or faster meanwhile does so for both.
    """
    names = [f"bench-{number}" for number in range(count)]
    few, many = "1 container", f"{count} containers"
    samples: dict[str, list[float]] = {few: [], many: []}

    def start(name: str, port: int) -> None:
        strata.ask("run", "--detach", "--name", name, "--network", NETWORK,
                   "--publish", f"{port}:80", strata.image, "sleep", "100000")  # fmt: skip

    def sample(title: str) -> None:
        samples[title] += [_run_on_bridge(strata).wall for _ in range(repeat + 1)][1:]

    with in_own_network():
        strata.ask("network", "create", NETWORK)
        try:
            start(names[0], 20000)
            sample(few)
            for number, name in enumerate(names[1:], 1):
                start(name, 20000 + number)
            sample(many)
            sample(many)
            strata.ask("rm", "--force", "--time", "0", *names[1:])
            sample(few)
        finally:
            with contextlib.suppress(Broken):
                strata.ask("rm", "--all", "--force", "--time", "0")
                strata.ask("network", "rm", "--force", NETWORK)
    found = {title: statistics.median(values) * 1000 for title, values in samples.items()}
    return [Row(f"run --rm on a bridge, {count} containers there", found, of=many,
                goals={few: 1.2})]  # fmt: skip
