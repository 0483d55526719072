"""Counters of both cgroup versions and of a network namespace, from their files' texts."""

from __future__ import annotations

from strata.engine.containers.processes import go_duration
from strata.runtime import stats


def test_interfaces_but_the_loopback_are_counted() -> None:
    text = (
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"
        "    lo:     500   5 0 0 0 0 0 0   500 5 0 0 0 0 0 0\n"
        "  eth0:    1200  10 0 0 0 0 0 0    90 2 0 0 0 0 0 0\n"
    )
    assert stats.parse_net_dev(text) == {"eth0": (1200, 90)}


def test_block_counters_of_both_versions_are_summed_over_devices() -> None:
    v1 = "8:0 Read 100\n8:0 Write 20\n8:0 Sync 1\n8:16 Read 5\nTotal 125\n"
    v2 = "8:0 rbytes=100 wbytes=20 rios=3\n8:16 rbytes=5 wbytes=0\n"
    assert stats.parse_io_v1(v1) == stats.parse_io_v2(v2) == (105, 20)


def test_key_value_lines_are_read_and_others_passed_over() -> None:
    assert stats.parse_pairs("usage_usec 12\nnonsense\nx y\n") == {"usage_usec": 12}


def test_durations_look_as_go_prints_them() -> None:
    shown = [go_duration(value) for value in (0, 0.25, 1.5, 61, 3723, 90061)]
    assert shown == ["0s", "250ms", "1.5s", "1m1s", "1h2m3s", "25h1m1s"]
