"""``stats``: what running containers use, as rows whose rates need two samples.

Of the first sample of a container the CPU share is the mean since its start, as Podman shows it;
of every later one that since the sample before.
"""

from __future__ import annotations

import os

from strata.engine.core import Engine, Record
from strata.runtime.stats import Sample, take_sample
from strata.store import lifecycle
from strata.times import parse_ns


class Meter:
    """Remembers the sample before, by container id."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: dict[str, Sample] = {}

    def measure(self, e: Engine, record: Record) -> Record:
        """A row of one container; one that does not run has zeros and ``Live`` false."""
        live = lifecycle.derive(record) in lifecycle.LIVE
        sample = take_sample(int(record["state"]["pid"])) if live else Sample()
        before = self._before.get(record["id"]) if live else None
        started = parse_ns(record["state"]["started"]) if live else sample.taken_ns
        self._before[record["id"]] = sample
        return make_row(record, sample, before, started, live=live)


def make_row(
    record: Record, sample: Sample, before: Sample | None, started_ns: int, *, live: bool
) -> Record:  # fmt: skip
    """The numbers of a row, percents of one CPU. Pure."""
    average = _percent(sample.cpu_ns, sample.taken_ns - started_ns)
    share = average
    if before is not None:
        share = _percent(sample.cpu_ns - before.cpu_ns, sample.taken_ns - before.taken_ns)
    received = sum(pair[0] for pair in sample.networks.values())
    sent = sum(pair[1] for pair in sample.networks.values())
    return {
        "Id": record["id"], "Name": record["name"], "Live": live,
        "CPUNano": sample.cpu_ns, "CPU": share, "AvgCPU": average,
        "SystemNano": sample.taken_ns, "UpTime": max(0, sample.taken_ns - started_ns),
        "Memory": sample.memory, "MemLimit": sample.memory_limit,
        "MemPerc": _percent(sample.memory, sample.memory_limit),
        "NetInput": received, "NetOutput": sent,
        "Network": {name: {"RxBytes": pair[0], "TxBytes": pair[1]}
                    for name, pair in sample.networks.items()},
        "BlockInput": sample.block_read, "BlockOutput": sample.block_written,
        "PIDs": sample.pids, "PerCPU": os.cpu_count() or 1,
    }  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole > 0 else 0.0
