"""Measure Strata beside Podman and Docker and print a table; start it with ``bench/run``.

Every comparison is paired: each round runs the same work on every engine in turn, and the table
gives medians. It never fails because something is slow: misses are shown, not asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import TYPE_CHECKING

import material
import networks
import rows as measures
import storage
from engines import Broken, Docker, Engine, Podman, Strata, ask

if TYPE_CHECKING:
    from collections.abc import Callable

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GROUPS = ("imports", "run", "exec", "ps", "many", "pull", "snapshots", "waits", "networks",
          "scale")  # fmt: skip


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP",
                        help=f"what to measure: {', '.join(GROUPS)} (all)")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=11, help="rounds per comparison (11)")
    parser.add_argument("--containers", type=int, default=1000, help="how many ps lists (1000)")
    parser.add_argument("--many", type=int, default=100, help="how many to start (100)")
    parser.add_argument("--neighbours", type=int, default=200,
                        help="containers beside which a run is measured (200)")  # fmt: skip
    parser.add_argument("--datasets", type=int, default=5000, help="how many for scale (5000)")
    parser.add_argument("--quick", action="store_true", help="few rounds and small numbers")
    parser.add_argument("--alone", action="store_true", help="without Podman and Docker")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}")
    options.groups = options.groups or list(GROUPS)
    if options.quick:
        options.repeat, options.containers, options.many, options.datasets = 3, 50, 16, 100
        options.neighbours = 20
    return options


def find_port() -> int:
    """A free port of localhost."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def format_table(found: list[measures.Row]) -> str:
    """The report's table, misses included."""
    lines = ["| Work | Measured | Ratio | Goal | |", "|---|---|---|---|---|"]
    for row in found:
        digits = 2 if row.unit == "MB" else 0 if not row.unit else 1
        unit = f" {row.unit}" if row.unit else ""
        values = ", ".join(f"{name} {value:.{digits}f}{unit}" for name, value in row.values.items())
        ratios = ", ".join(f"{ratio:.2f} × {name}" for name, ratio in row.ratios().items())
        goals = [f"≤ {goal:.2f} × {name}" for name, goal in row.goals.items()]
        if row.limit is not None:
            goals.append(f"≤ {row.limit:g}{unit}")
        met = {True: "met", False: "**missed**", None: "not compared"}[row.is_met()]
        goal = row.note if row.note.startswith("goal: ") else ", ".join(goals)
        work = row.work if row.note.startswith("goal: ") or not row.note else (
            f"{row.work} ({row.note})"
        )  # fmt: skip
        lines.append(f"| {work} | {values} | {ratios} | {goal.removeprefix('goal: ')} | {met} |")
    return "\n".join(lines) + "\n"


def describe_host(engines: list[Engine]) -> str:
    """What the numbers were measured on."""
    with open("/etc/os-release", encoding="utf-8") as file:
        names = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) // 1024
    lines = [
        f"{names.get('PRETTY_NAME', '').strip(chr(34))}, Linux {platform.release()}, "
        f"{os.cpu_count()} processors, {memory // 1024} GiB of memory, "
        f"Python {platform.python_version()}; load when it began: {os.getloadavg()[0]:.1f}.",
        "",
        *(f"- {engine.name}: {engine.version()}" for engine in engines),
    ]
    return "\n".join(lines) + "\n"


def measure_all(options: argparse.Namespace, folder: str) -> str:
    """Set everything up, measure the groups asked for, return the report."""
    launcher = f"{folder}/strata"
    ask([f"{TOP}/tools/as_installed.py", folder, sysconfig.get_path("purelib")])
    strata = Strata(f"{folder}/s", launcher, size="40g")
    engines: list[Engine] = [strata]
    if not options.alone:
        engines += [Podman(f"{folder}/p"), Docker(f"{folder}/d")]
    newer: list[Engine] = []
    if "networks" in options.groups and not options.alone:
        newer.append(networks.ChrootPodman(f"{folder}/p5"))
    found: list[measures.Row] = []
    remarks: list[str] = []
    material.write_docker_archive(
        f"{folder}/image.tar", "localhost/bench:latest", [material.make_small_layer()]
    )
    with contextlib.ExitStack() as stack:
        working = start_engines(engines, folder, stack, remarks)
        if strata not in working:
            raise Broken(remarks[0])
        newer = start_engines(newer, folder, stack, remarks)
        text = describe_host([*working, *newer])
        registry = None
        if "pull" in options.groups:
            registry = material.Registry(f"{folder}/registry", find_port())
            registry.start()
            stack.callback(registry.stop)
        few = max(1, options.repeat // 4)
        work: dict[str, Callable[[], list[measures.Row]]] = {
            "imports": lambda: measures.measure_imports(strata, options.repeat),
            "run": lambda: measures.measure_run(working, options.repeat),
            "exec": lambda: measures.measure_exec(working, options.repeat),
            "ps": lambda: measures.measure_ps(working, options.repeat, options.containers),
            "many": lambda: measures.measure_many(working, few, options.many),
            "snapshots": lambda: [
                *storage.measure_bare(strata, options.repeat),
                *storage.measure_processes(strata, options.repeat),
                *storage.measure_sizes(
                    strata, options.repeat, {"10 MB": 10_000_000, "10 GB": 10_000_000_000}
                ),
            ],
            "scale": lambda: measures.measure_scale(
                strata, options.repeat, options.datasets, options.datasets * 4
            ),
            "networks": lambda: [
                *networks.measure_networks([*working, *newer], options.repeat),
                *networks.measure_growth(strata, options.repeat, options.neighbours),
            ],
            "waits": lambda: measure_waits(folder, launcher, f"{folder}/image.tar"),
        }
        if registry is not None:
            work["pull"] = lambda: measures.measure_pull(working, few, registry)
        for group in options.groups:
            print(f"measuring {group} …", file=sys.stderr, end=" ", flush=True)
            started = time.monotonic()
            try:
                found += work[group]()
            except (Broken, OSError) as error:
                remarks.append(f"{group} could not be measured: {error}")
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        missed = [row.work for row in found if row.is_met() is False]
    text += "\n" + format_table(found)
    text += f"\n{sum(row.is_met() is True for row in found)} goals met, {len(missed)} missed"
    text += ("".join(f"\n- missed: {work}" for work in missed)) + "\n"
    if remarks:
        text += "\n" + "".join(f"- {remark}\n" for remark in remarks)
    return text


def start_engines(
    engines: list[Engine], folder: str, stack: contextlib.ExitStack, remarks: list[str]
) -> list[Engine]:
    """Start each engine and load the small image; one that does not work is left out and named."""
    archive = f"{folder}/image.tar"
    working = []
    for engine in engines:
        try:
            stack.callback(engine.stop)
            engine.start()
            engine.load(archive)
            engine.ask("run", "--rm", "--network", "none", engine.image, "true")
        except Broken as error:
            remarks.append(f"{engine.name} is not compared: {error}")
            engine.stop()
        else:
            working.append(engine)
    return working


def measure_waits(folder: str, launcher: str, archive: str) -> list[measures.Row]:
    """Count on a second store, of the zfs driver (zfs-fuse where the kernel has none)."""
    if shutil.which("zfs") is None:
        raise Broken("no zfs command here (apt-get install zfs-fuse)")
    strata = Strata(f"{folder}/z", launcher, driver="zfs", size="1g")
    try:
        strata.start()
        strata.load(archive)
        return measures.measure_waits(strata)
    finally:
        strata.stop()


def main() -> int:
    """Measure and print."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="strata-bench-", dir="/var/tmp")
    began = time.monotonic()
    try:
        text = measure_all(options, folder)
    except Broken as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        for place in ("s/root", *(f"{name}/run" for name in ("s", "p", "d", "p5", "z"))):
            words = ["umount", "--recursive", "--lazy", "--quiet", f"{folder}/{place}"]
            subprocess.run(words, check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - began) / 60
    day = time.strftime("%Y-%m-%d")
    text += f"\nMeasured {day} with {options.repeat} rounds in {minutes:.0f} minutes.\n"
    print(text)
    if options.write:
        with open(f"{TOP}/bench/RESULTS.md", "w", encoding="utf-8") as file:
            file.write(
                "# Measured\n\nWritten by `bench/run --write`; medians of paired rounds.\n\n"
            )
            file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
