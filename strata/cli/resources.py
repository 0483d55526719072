"""Read the options of ``run`` and ``create`` that limit resources beyond the everyday ones.

Pure; each raises `UsageError` in Podman's words. Whether the host's cgroups can hold a limit is
checked by the engine before anything is made.
"""

from __future__ import annotations

from strata.cli.values import parse_size
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

_SHARES_LEAST = 2
_CGROUPS = ("enabled", "disabled", "no-conmon", "split")


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add what the options say under the names of the record's config."""
    for key in ("memory-reservation", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime",
                "cpu-shares"):  # fmt: skip
        if options.given(key):
            described[key.replace("-", "_")] = options.number(key) or None
    _read_memory(described, options)
    _read_cpus(described, options)
    _read_blkio(described, options)
    if options.given("oom-score-adj"):
        score = options.number("oom-score-adj") or 0
        if not -1000 <= score <= 1000:
            raise UsageError(f"invalid value {score} for --oom-score-adj: must be in [-1000, 1000]")
        described["oom_score_adj"] = score
    described["oom_kill_disable"] = options.flag("oom-kill-disable")
    if described["oom_kill_disable"] and not described["memory"]:
        raise UsageError(
            "disabling the OOM killer without a memory limit is dangerous", hint="add --memory"
        )
    if options.text("cgroups"):
        described["cgroups"] = parse_cgroups(options.text("cgroups"))
    if options.text("cgroup-parent"):
        described["cgroup_parent"] = parse_cgroup_parent(options.text("cgroup-parent"))
    if options.list("cgroup-conf"):
        described["cgroup_conf"] = _parse_conf(options.list("cgroup-conf"))


def _read_memory(described: Description, options: Options) -> None:
    memory = described["memory"]
    if options.text("memory-swap"):
        swap = described["memory_swap"] = parse_swap(options.text("memory-swap"))
        if not memory:
            raise UsageError(
                "you should always set a memory limit when using a memoryswap limit",
                hint="add --memory",
            )
        if 0 <= swap < memory:
            raise UsageError("minimum memory-swap limit should be larger than memory limit")
    reservation = described.get("memory_reservation")
    if reservation and memory and reservation > memory:
        raise UsageError("minimum memory limit should be larger than memory reservation limit")
    swappiness = options.number("memory-swappiness")
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise UsageError(f"invalid value: {swappiness}, valid memory swappiness range is 0-100")
        described["memory_swappiness"] = swappiness


def parse_swap(text: str) -> int:
    """Read ``--memory-swap``: bytes of memory and swap together, -1 for no limit."""
    return -1 if text.strip() == "-1" else parse_size(text)


def _read_cpus(described: Description, options: Options) -> None:
    for key in ("cpu-period", "cpu-quota"):
        if described["cpus"] and options.number(key):
            raise UsageError(f"--{key} and --cpus cannot be set together")
    period = described.get("cpu_period")
    if period is not None and not 1000 <= period <= 1_000_000:
        raise UsageError("CPU cfs period cannot be less than 1ms or more than 1s")
    quota = described.get("cpu_quota")
    if quota is not None and quota != -1 and quota < 1000:
        raise UsageError("CPU cfs quota cannot be less than 1ms")
    shares = described.get("cpu_shares")
    if shares is not None and shares < _SHARES_LEAST:
        raise UsageError(
            f"invalid value {shares} for --cpu-shares: must be {_SHARES_LEAST} or more"
        )
    for key in ("cpuset-cpus", "cpuset-mems"):
        if options.text(key):
            parse_cpu_list(options.text(key), key)
            described[key.replace("-", "_")] = options.text(key)


def parse_cpu_list(text: str, option: str = "cpuset-cpus") -> list[int]:
    """Read a list like ``0-3,5``; the numbers in it."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(part) > 12:
            raise UsageError(
                f'invalid value "{text}" for --{option}', hint="give numbers and ranges: 0-3,5"
            )
        low, high = int(first), int(last or first)
        if high < low or high > 1 << 16:
            raise UsageError(f'invalid value "{text}" for --{option}: no such range "{part}"')
        found.update(range(low, high + 1))
    return sorted(found)


def _read_blkio(described: Description, options: Options) -> None:
    if options.text("blkio-weight"):
        described["blkio_weight"] = _parse_weight(options.text("blkio-weight")) or None
    weights = [_split_weight(text) for text in options.list("blkio-weight-device")]
    if weights:
        described["blkio_weight_devices"] = weights
    throttle = {}
    for kind in ("read-bps", "write-bps", "read-iops", "write-iops"):
        found = [parse_rate(text, kind) for text in options.list(f"device-{kind}")]
        if found:
            throttle[kind.replace("-", "_")] = found
    if throttle:
        described["blkio_throttle"] = throttle


def _parse_weight(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"invalid value for blkio-weight: {text}")
    weight = int(text)
    if weight and not 10 <= weight <= 1000:
        raise UsageError("range of blkio weight is from 10 to 1000")
    return weight


def _split_weight(text: str) -> dict[str, Any]:
    path, colon, weight = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise UsageError(f"bad format: {text}", hint="give DEVICE:WEIGHT as in /dev/sda:200")
    if not weight.isdigit() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise UsageError(f"invalid weight for device: {text}")
    return {"path": path, "weight": int(weight)}


def parse_rate(text: str, kind: str) -> dict[str, Any]:
    """Read ``DEVICE:RATE``; a rate in bytes may have a unit. ``{"path", "rate"}``."""
    path, colon, rate = text.rpartition(":")
    if not colon:
        raise UsageError(f"bad format: {text}", hint="give DEVICE:RATE as in /dev/sda:1mb")
    if not path.startswith("/dev/"):
        raise UsageError(f"bad format for device path: {text}")
    try:
        value = parse_size(rate) if kind.endswith("bps") else int(rate)
    except (UsageError, ValueError):
        value = -1
    if value < 0:
        raise UsageError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>"
            + ("[<unit>]. Unit is optional and can be kb, mb, or gb" if "bps" in kind else "")
        )
    return {"path": path, "rate": value}


def parse_cgroups(text: str) -> str:
    """Check ``--cgroups``."""
    if text not in _CGROUPS:
        raise UsageError(
            f'invalid cgroup mode "{text}"', hint=f"must be one of {', '.join(_CGROUPS)}"
        )
    if text == "split":
        raise UsageError(
            "--cgroups=split is not available: the engine does not manage cgroups with systemd",
            hint="--cgroup-parent chooses the parent of the container's cgroup",
        )
    return text


def parse_cgroup_parent(text: str) -> str:
    """Check ``--cgroup-parent``: a path below the root of the cgroups; return it absolute."""
    if text.endswith(".slice"):
        raise UsageError(
            f"did not receive a cgroupfs path as cgroup parent: {text}",
            hint="slices are systemd's; give a path as in /team",
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in text:
        raise UsageError(f'invalid cgroup parent "{text}"', hint="give a path as in /team")
    return "/" + "/".join(parts)


def _parse_conf(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key or "/" in key:
            raise UsageError(
                f"--cgroup-conf must be formatted KEY=VALUE: {item}", hint="as in memory.high=1G"
            )
        found[key] = value
    return found
