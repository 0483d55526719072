"""The rows about datasets: verbs against the size of the data, and against the bare commands."""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from engines import Strata, measure
from rows import Row

PYTHON = ["/usr/bin/python3", "-IS", "-c", "pass"]


def measure_sizes(strata: Strata, repeat: int, sizes: dict[str, int]) -> list[Row]:
    """Snapshot, clone, rollback and fork, which may not depend on how much data there is.

    The forked container has the volume and is not started: starting is measured elsewhere.
    """
    volumes = {title: f"bench-{title.replace(' ', '').lower()}" for title in sizes}
    for title, size in sizes.items():
        name = volumes[title]
        strata.ask("volume", "create", name)
        _fill(f"{_find_place(strata, name)}/data", size)
        strata.ask("create", "--name", name, "--network", "none", "--volume", f"{name}:/data",
                   strata.image, "true")  # fmt: skip
    os.sync()
    samples: dict[tuple[str, str], list[float]] = {}
    for number in range(repeat + 1):
        # Every other round begins with the other size, as what is done first pays for both.
        titles = list(sizes) if number % 2 else list(sizes)[::-1]
        for verb in ("snapshot", "clone", "rollback", "fork"):
            for title in titles:
                took = strata.measure(*_get_words(verb, volumes[title], number)).wall * 1000
                if number:  # the first round is for caches
                    samples.setdefault((verb, title), []).append(took)
    for title in sizes:
        name = volumes[title]
        for number in range(repeat + 1):
            strata.ask("fork", "rm", "--discard", "--now", f"{name}-f{number}")
        strata.ask("rm", "--now", name)
        strata.ask("volume", "rm", "--now", name, *(f"{name}-c{n}" for n in range(repeat + 1)))
    rows = []
    for verb in ("snapshot", "clone", "rollback", "fork"):
        small, large = (statistics.median(samples[verb, title]) for title in ("10 MB", "10 GB"))
        what = "of a container with a volume" if verb == "fork" else "of a volume"
        rows.append(Row(
            f"{verb} {what}", {"10 MB": small, "10 GB": large}, of="10 GB",
            goals={"10 MB": max(1.1, (small + 5) / small)},
            note="goal: 10 GB at most 1.1 × 10 MB, or 5 ms more",
        ))  # fmt: skip
    return rows


def _get_words(verb: str, name: str, number: int) -> tuple[str, ...]:
    snapshot = f"volume:{name}@s{number}"
    words = {
        "snapshot": ("snapshot", snapshot),
        "clone": ("clone", snapshot, f"{name}-c{number}"),
        "rollback": ("rollback", snapshot),
        "fork": ("fork", name, "--as", f"{name}-f{number}", "--no-start"),
    }
    return words[verb]


def _find_place(strata: Strata, volume: str) -> str:
    return strata.ask("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip()


def _fill(path: str, size: int) -> None:
    """Write random bytes, so that compression cannot help, and bring them to the disk."""
    block = os.urandom(1 << 24)
    with open(path, "wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[start % 4096 :][: size - start])
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_bare(strata: Strata, repeat: int) -> list[Row]:
    """Snapshot, clone and rollback through Strata, each against the storage commands that do it by
    hand plus a bare interpreter."""
    pool = f"{strata.folder}/root/pool"
    if strata.driver != "btrfs" or not os.path.isdir(pool):
        return []
    name = "bench-bare"
    strata.ask("volume", "create", name)
    place = _find_place(strata, name)
    own = f"{pool}/bench-bare"
    os.makedirs(own)
    values: dict[str, tuple[list[float], list[float]]] = {}
    try:
        for number in range(repeat + 1):
            frozen, copy = f"{own}/s{number}", f"{own}/c{number}"
            for verb, commands in (
                ("snapshot", [["btrfs", "subvolume", "snapshot", "-r", place, frozen]]),
                ("clone", [["btrfs", "subvolume", "snapshot", frozen, copy]]),
                ("rollback", [["btrfs", "subvolume", "snapshot", frozen, f"{copy}-new"],
                              ["mv", "-T", copy, f"{copy}-old"],
                              ["mv", "-T", f"{copy}-new", copy]]),
            ):  # fmt: skip
                ours = strata.measure(*_get_words(verb, name, number)).wall
                bare = sum(measure(argv).wall for argv in commands) + measure(PYTHON).wall
                if number:
                    found = values.setdefault(verb, ([], []))
                    found[0].append(ours)
                    found[1].append(bare)
            # By number: the heads change.
            place = _find_place(strata, name)
    finally:
        made = sorted(os.listdir(own))
        subprocess.run(["btrfs", "subvolume", "delete", *(f"{own}/{entry}" for entry in made)],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        os.rmdir(own)
        strata.ask("volume", "rm", "--force", "--now", name,
                   *(f"{name}-c{number}" for number in range(repeat + 1)))  # fmt: skip
    return [
        Row(
            f"{verb} against its bare commands and an empty interpreter",
            {"Strata": statistics.median(ours) * 1000,
             "bare commands": statistics.median(bare) * 1000},
            goals={"bare commands": 1.5},
        )
        for verb, (ours, bare) in values.items()
    ]  # fmt: skip


def measure_processes(strata: Strata, repeat: int) -> list[Row]:
    """How many processes each verb starts, itself included.

    The kernel counts them for the whole machine, so the least of several rounds is taken; what a
    verb leaves to a detached process is waited for and counted.
    """
    name = "bench-processes"
    verbs = {
        "volume create": (("volume", "create", name), 1),
        "snapshot": (("snapshot", f"volume:{name}@s"), 1),
        "clone": (("clone", f"volume:{name}@s", f"{name}-c"), 1),
        "rollback": (("rollback", f"volume:{name}@s"), 1),
        "create": (("create", "--name", name, "--network", "none", "--volume", f"{name}:/data",
                    strata.image, "sleep", "1000"), 1),
        "fork --no-start": (("fork", name, "--as", f"{name}-f", "--no-start"), 1),
        "start": (("start", name), 8),
        "exec": (("exec", name, "true"), 5),
        "ps": (("ps", "--all"), 1),
    }  # fmt: skip
    counts: dict[str, list[int]] = {verb: [] for verb in verbs}
    for _ in range(max(7, repeat)):
        for verb, (words, _) in verbs.items():
            before = _read_started()
            strata.measure(*words)
            _wait_quiet(strata)
            counts[verb].append(_read_started() - before)
        strata.ask("fork", "rm", "--discard", "--now", f"{name}-f")
        strata.ask("rm", "--force", "--time", "0", "--now", name)
        strata.ask("volume", "rm", "--now", name, f"{name}-c")
        _wait_quiet(strata)
    return [
        Row(f"processes of {verb}", {"Strata": min(counts[verb])}, unit="", limit=limit)
        for verb, (_, limit) in verbs.items()
    ]


def _read_started() -> int:
    """How many tasks the kernel has started since it booted (proc_stat(5))."""
    with open("/proc/stat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("processes "))


def _wait_quiet(strata: Strata) -> None:
    """Wait until no detached process of Strata's is at work on the store any more."""
    needle = f"--root\0{strata.folder}/root".encode()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = False
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read()
            except OSError:
                continue
            found = found or (needle in words and b"conmon" not in words)
        if not found:
            return
        time.sleep(0.02)
