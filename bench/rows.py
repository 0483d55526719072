"""The rows of the report: one function measures one kind of work, paired, and says its goal."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engines import Broken, Engine, Strata, ask, measure
from material import Registry, make_large_layer, make_small_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Row:
    """One line: what was done, the median of each engine in ``unit``, and the goals.

    ``goals`` are the largest allowed ratios of Strata to the named column, ``limit`` the largest
    allowed value of Strata itself.
    """

    def __init__(
        self, work: str, values: dict[str, float], *, unit: str = "ms",
        goals: dict[str, float] | None = None, limit: float | None = None, note: str = "",
        of: str = "Strata",
    ) -> None:  # fmt: skip
        self.work = work
        self.values = values
        self.unit = unit
        self.goals = goals or {}
        self.limit = limit
        self.note = note
        self.of = of

    def ratios(self) -> dict[str, float]:
        """Strata's value over each other's."""
        ours = self.values.get(self.of)
        return {
            name: ours / value
            for name, value in self.values.items()
            if ours is not None and name != self.of and value
        }

    def is_met(self) -> bool | None:
        """Whether every goal that could be compared is met; None when none could."""
        ratios = self.ratios()
        answers = [ratios[name] <= goal for name, goal in self.goals.items() if name in ratios]
        if self.limit is not None and self.of in self.values:
            answers.append(self.values[self.of] <= self.limit)
        return all(answers) if answers else None


def paired(engines: list[Engine], repeat: int, work: Callable[[Engine], float]) -> dict[str, float]:
    """The median of ``work`` per engine, run as A B C A B C so that drift hits all alike."""
    values: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for engine in engines:
        work(engine)  # once for caches
    for _ in range(repeat):
        for engine in engines:
            values[engine.name].append(work(engine))
    return {name: statistics.median(found) * 1000 for name, found in values.items()}


def measure_run(engines: list[Engine], repeat: int) -> list[Row]:
    """``run --rm`` of a program that ends at once."""
    values = paired(
        engines, repeat,
        lambda e: e.measure("run", "--rm", "--network", "none", e.image, "true").wall,
    )  # fmt: skip
    return [Row("run --rm --network none IMG true", values, goals={"Podman": 0.30, "Docker": 0.15})]


def measure_exec(engines: list[Engine], repeat: int) -> list[Row]:
    """``exec`` in a running container, and what the idle container costs."""
    for engine in engines:
        engine.ask("run", "--detach", "--name", "bench-exec", "--network", "none", engine.image,
                   "sleep", "100000")  # fmt: skip
    try:
        values = paired(engines, repeat, lambda e: e.measure("exec", "bench-exec", "true").wall)
        rows = [Row("exec CTR true", values, goals={"Podman": 0.25})]
        memory = {
            engine.name: found
            for engine in engines
            if (found := _read_monitor_memory(engine.folder)) is not None
        }
        rows.append(Row("idle container: memory of its monitor (PSS)", memory, unit="MB",
                        limit=1.5))  # fmt: skip
    finally:
        for engine in engines:
            engine.remove("bench-exec")
    return rows


def _read_monitor_memory(folder: str) -> float | None:
    """PSS in MB of the process that watches the one container below ``folder``."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                words = file.read()
            if name not in {"conmon", "containerd-shim"} or folder not in words:
                continue
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                found = re.search(r"^Pss:\s+(\d+)", file.read(), re.M)
            if found:
                return int(found.group(1)) / 1000
    return None


def measure_ps(engines: list[Engine], repeat: int, count: int) -> list[Row]:
    """``ps -a`` with many containers, which are made and removed here."""
    for engine in engines:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(
                lambda n, e=engine: e.ask("create", "--name", f"bench-{n}", "--network", "none",
                                          e.image, "true"),
                range(count),
            ))  # fmt: skip
    values = paired(engines, repeat, lambda e: e.measure("ps", "--all").wall)
    values["bare Python"] = _bare_python(repeat) * 1000
    rows = [Row(f"ps -a with {count:,} containers", values,
                goals={"Podman": 0.15, "bare Python": 5})]  # fmt: skip
    for engine in engines:
        names = [f"bench-{n}" for n in range(count)]
        for start in range(0, count, 100):
            engine.remove(*names[start : start + 100])
    return rows


def _bare_python(repeat: int) -> float:
    argv = ["/usr/bin/python3", "-IS", "-c", "pass"]
    return statistics.median(measure(argv).wall for _ in range(max(repeat, 5)))


def measure_many(engines: list[Engine], repeat: int, count: int) -> list[Row]:
    """Start many detached containers, one after another and eight at once."""
    rows = []
    for title, workers in (("serially", 1), ("8 at once", 8)):

        def start_all(engine: Engine, workers: int = workers) -> float:
            def start(number: int) -> None:
                engine.ask("run", "--detach", "--name", f"bench-{number}", "--network", "none",
                           engine.image, "sleep", "100000")  # fmt: skip

            began = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(start, range(count)))
            passed = time.perf_counter() - began
            engine.remove(*(f"bench-{n}" for n in range(count)))
            return passed

        values: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for _ in range(repeat):
            for engine in engines:
                values[engine.name].append(start_all(engine) * 1000)
        medians = {name: statistics.median(found) for name, found in values.items()}
        rows.append(Row(f"{count} detached, {title}", medians, goals={"Podman": 0.25}))
    return rows


def measure_pull(engines: list[Engine], repeat: int, registry: Registry) -> list[Row]:
    """Pull of 100 MB in 5,000 files from a registry on localhost; never seen before."""
    values: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(repeat):
        # New bytes each round: an engine may keep what it removed for a while.
        layers = [make_small_layer(), make_large_layer(number)]
        reference = registry.push("bench/large", f"v{number}", layers)
        for engine in engines:
            values[engine.name].append(engine.pull(reference).wall * 1000)
            engine.ask("rmi", "--force", reference)
    medians = {name: statistics.median(found) for name, found in values.items()}
    return [Row("pull of 100 MB / 5,000 files", medians, goals={"Podman": 0.6})]


def measure_imports(strata: Strata, repeat: int) -> list[Row]:
    """Processor time of what each command imports, in multiples of an empty interpreter."""
    strata.ask("run", "--detach", "--name", "bench-import", "--network", "none", strata.image,
               "sleep", "100000")  # fmt: skip
    commands = {
        "--version": (["--version"], 1.5),
        "run": (["run", "--rm", "--network", "none", strata.image, "true"], 3),
        "exec": (["exec", "bench-import", "true"], 3),
        "ps": (["ps", "--all"], 3),
    }
    rows = []
    try:
        for name, (words, goal) in commands.items():
            modules = list_imported(strata, words)
            with open(strata.launcher, encoding="utf-8") as file:
                paths = _read_set_up(file)
            code = "".join(paths) + f"import {', '.join(modules)}\n" if modules else "pass"
            ours, bare = [], []
            for _ in range(max(repeat, 11)):
                bare.append(measure(["/usr/bin/python3", "-IS", "-c", "pass"]).cpu)
                ours.append(measure(["/usr/bin/python3", "-IS", "-c", code]).cpu)
            values = {
                "Strata": statistics.median(ours) * 1000,
                "bare Python": statistics.median(bare) * 1000,
            }
            title = f"imports of `strata {name}` (processor)"
            note = f"{len(modules)} modules"
            rows.append(Row(title, values, goals={"bare Python": goal}, note=note))
    finally:
        strata.remove("bench-import")
    return rows


def list_imported(strata: Strata, words: list[str]) -> list[str]:
    """The modules one real command line imports, in order, as the interpreter reports them."""
    argv = ["/usr/bin/python3", "-IS", "-X", "importtime", *strata.argv(*words)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, env=strata.env)  # fmt: skip
    if done.returncode != 0:
        raise Broken(f"strata {' '.join(words)} failed under -X importtime")
    # One space: what nothing else on the list was importing. Importing these imports the rest.
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \| (\S+)$", done.stderr, re.M)
    bare = ask(["/usr/bin/python3", "-IS", "-c", "import sys; print(*sys.modules)"]).split()
    return [name for name in dict.fromkeys(names) if name not in bare and not name.startswith(".")]


def measure_waits(strata: Strata) -> list[Row]:
    """Waits for a transaction group per verb, counted as changing zfs commands under --trace.

    Needs a store of the zfs driver; the budget is the design's.
    """
    changing = re.compile(
        r"\bzfs (create|clone|snapshot|destroy|rename|promote|rollback|set|receive)\b"
    )

    def count(*words: str) -> int:
        argv = [strata.launcher, "--trace", *strata.argv(*words)[1:]]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
        if done.returncode != 0:
            raise Broken(f"strata {' '.join(words)}: {done.stderr.strip().splitlines()[-1:]}")
        return sum(bool(changing.search(line)) for line in done.stderr.splitlines())

    rows = []
    for verb, words, budget in (
        ("run", ("run", "--detach", "--name", "waits", "--network", "none", strata.image, "sleep",
                 "100000"), 1),
        ("commit", ("commit", "waits", "localhost/waits"), 3),
        ("rm", ("rm", "--force", "--time", "0", "waits"), 1),
        ("volume create", ("volume", "create", "waits"), 1),
        ("snapshot", ("snapshot", "waits@a"), 1),
        ("rollback", ("rollback", "waits@a"), 4),
        ("volume rm", ("volume", "rm", "waits"), 1),
    ):  # fmt: skip
        rows.append(Row(f"waits of {verb}", {"Strata": count(*words)}, unit="", limit=budget))
    return rows


_FILL = """
from strata.engine.volumes import making
from strata.engine.history import clones, moments
from strata.engine.core import open_engine
e = open_engine({root!r}, {runroot!r})
for number in range({datasets}):
    name = f"scale-{{number:05d}}"
    making.create(e, name)
    for moment in range({snapshots}):
        moments.take(e, [f"volume:{{name}}@s{{moment}}"])
making.create(e, "scale-past")
for moment in range({past}):
    moments.take(e, [f"volume:scale-past@s{{moment}}"])
for number in range({past} // 2):
    clones.clone(e, f"volume:scale-past@s{{2 * number}}", f"scale-copy-{{number:05d}}")
"""


def _read_set_up(launcher: Iterable[str]) -> list[str]:
    """What a launcher does before it loads Strata."""
    return [line for line in launcher if not line.startswith(("#!", "from strata.cli", "start("))]


def measure_scale(strata: Strata, repeat: int, datasets: int, snapshots: int) -> list[Row]:
    """Listing verbs on a store with thousands of datasets and snapshots.

    Beside them stands one volume with 2,000 snapshots and 1,000 clones, or in the same proportion.
    """
    past = datasets * 2 // 5
    with open(strata.launcher, encoding="utf-8") as file:
        paths = _read_set_up(file)
    code = "".join(paths) + _FILL.format(
        root=f"{strata.folder}/root", runroot=f"{strata.folder}/run", datasets=datasets,
        snapshots=snapshots // datasets, past=past,
    )  # fmt: skip
    ask(["/usr/bin/python3", "-IS", "-c", code])
    rows = []
    held = f"{datasets + past // 2:,} datasets and {snapshots + past:,} snapshots"
    for words in (["ps", "--all"], ["images"], ["volume", "ls"]):
        value = statistics.median(strata.measure(*words).wall for _ in range(max(repeat, 5)))
        rows.append(Row(f"{' '.join(words)} with {held}", {"Strata": value * 1000}, limit=300))
    for words in (["log", "scale-past"], ["snapshot", "ls", "scale-past"]):
        value = statistics.median(strata.measure(*words).wall for _ in range(max(repeat, 5)))
        verb = " ".join(words[:-1])
        title = f"{verb} of a volume with {past:,} snapshots and {past // 2:,} clones"
        rows.append(Row(title, {"Strata": value * 1000}, limit=300))
    return rows
