"""What a host can run, and that nothing is skipped behind our back.

A marker says what a test needs. Some needs are facts of the host that no installation changes
(no root, a kernel without btrfs); such a test is skipped with that reason, also in CI. Every other
skip under ``CI=true`` is a failure: a missing program there is a missing line in ``./check``.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Generator
from typing import Any

import pytest


def _is_root() -> bool:
    return os.geteuid() == 0


def _has_btrfs() -> bool:
    if os.environ.get("STRATA_TEST_POOL"):
        return _is_root()  # what these tests need is a store, and they get it there
    with open("/proc/filesystems") as file:
        known = "\tbtrfs\n" in file.read()
    return _is_root() and known and os.path.exists("/dev/loop-control")


def _has_fuse() -> bool:
    if os.environ.get("STRATA_TEST_POOL"):
        return _is_root()  # OpenZFS itself is better still
    return _is_root() and os.path.exists("/dev/fuse")


def _has_zfs_module() -> bool:
    return _is_root() and os.path.exists("/dev/zfs")


#: marker -> (can this host do it at all, what it lacks otherwise)
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (_is_root, "needs root"),
    "btrfs": (_has_btrfs, "needs root, loop devices and btrfs in the kernel"),
    "zfsfuse": (_has_fuse, "needs root and /dev/fuse"),
    "openzfs": (_has_zfs_module, "needs the OpenZFS kernel module"),
}

_IN_CI = os.environ.get("CI", "") not in {"", "0", "false"}


def _find_lack(item: pytest.Item) -> str | None:
    for marker, (is_there, lack) in NEEDS.items():
        if item.get_closest_marker(marker) is not None and not is_there():
            return lack
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this host cannot do, before any fixture tries."""
    for item in items:
        lack = _find_lack(item)
        if lack is not None:
            item.add_marker(pytest.mark.skip(reason=f"this host cannot: {lack}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """In CI a skip without a lack of the host is a failure."""
    report = yield
    if _IN_CI and report.skipped and not hasattr(report, "wasxfail") and _find_lack(item) is None:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything that can run must: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """In CI a module that skips itself as a whole is a failure."""
    report = yield
    if _IN_CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything that can run must: {report.longrepr}"
    return report


def pytest_sessionfinish() -> None:
    """Remove the cgroups that all containers share, where nothing is in them."""
    for parent in ("strata/engine", "strata", "*/strata"):
        for group in glob.glob(f"/sys/fs/cgroup/{parent}"):
            with contextlib.suppress(OSError):
                os.rmdir(group)
