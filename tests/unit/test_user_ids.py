"""Ids of user namespaces: maps, subordinate ids and finding some that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata.engine.containers.userspace import find_free, read_ranges
from strata.errors import UsageError
from strata.linux.idmap import IdmappedStep, format_map, map_id
from strata.linux.mount import MountStep
from strata.runtime.ownership import map_owner

MAP = [[0, 100000, 1000], [1000, 0, 1]]


def test_ids_are_mapped_or_not() -> None:
    assert [map_id(MAP, number) for number in (0, 999, 1000, 1001)] == [100000, 100999, 0, None]
    assert format_map(MAP, " ", "\n") == "0 100000 1000\n1000 0 1"
    assert map_owner({}, 5, 6) == (5, 6)
    assert map_owner({"uid_map": MAP, "gid_map": MAP}, 5, 6) == (100005, 100006)
    with pytest.raises(UsageError, match="has no id on the host"):
        map_owner({"uid_map": MAP, "gid_map": MAP}, 5, 5000)


def test_a_step_says_what_it_maps() -> None:
    step = IdmappedStep(MountStep("/a", "/b"), MAP, MAP)
    assert step.target == "/b"
    assert step.describe().endswith("with users 0 100000 1000, 1000 0 1")


@pytest.mark.parametrize(
    ("taken", "size", "expected"),
    [
        ([], 10, 100),
        ([[0, 100, 10]], 10, 110),
        ([[0, 100, 10], [0, 115, 10]], 5, 110),
        ([[0, 100, 10], [0, 115, 10]], 6, 125),
        ([[0, 95, 10]], 10, 105),
        ([[0, 100, 100]], 10, 500),
        ([], 1000, None),
    ],
)
def test_free_ids_are_found(taken: list[list[int]], size: int, expected: int | None) -> None:
    assert find_free([(100, 50), (500, 20)], taken, size) == expected


def test_subordinate_ids_of_a_user(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("other:1:2\ncontainers:100:5\nbroken\ncontainers:x:5\ncontainers:900:6\n")
    assert read_ranges(str(file), "containers") == [(100, 5), (900, 6)]
    with pytest.raises(UsageError, match="no ranges found for user"):
        read_ranges(str(file), "nobody")
    with pytest.raises(UsageError, match="no ranges found for user"):
        read_ranges(f"{tmp_path}/none", "x")
