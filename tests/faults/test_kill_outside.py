"""kill -9 at every traced step of what Strata does outside its store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.kill import Scenario, kill_everywhere
from helpers.outside import open_disk, read
from helpers.store import Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

DISK = "@disk@"
PHOTOS = "@photos@"
ADOPT = ["volume", "create", "--dataset", PHOTOS, "v1"]
FORGET = ["volume", "rm", "v1"]
SCENARIOS = [
    Scenario("adopt", ADOPT, undo=[FORGET], codes=(0, 125)),
    Scenario("forget", FORGET, prepare=[ADOPT], undo=[FORGET], codes=(0, 1)),
    Scenario(
        "forget-now", ["volume", "rm", "--now", "v1"], prepare=[ADOPT], undo=[FORGET], codes=(0, 1)
    ),
    Scenario("undo", ["undo"], prepare=[ADOPT, FORGET], undo=[FORGET], codes=(0, 125)),
    Scenario(
        "rollback", ["rollback", "v1@a"], prepare=[ADOPT, ["snapshot", "v1@a"]], codes=(0, 125),
        undo=[["switch", "v1", "g1"], ["branch", "rm", "--now", "v1", "g2"],
              ["branch", "rm", "--now", "v1", "g3"], ["snapshot", "rm", "--now", "v1@a"], FORGET],
    ),
    Scenario(
        "pool-add", ["pool", "add", "p1", DISK], undo=[["pool", "rm", "p1"]], codes=(0, 125)
    ),
    Scenario(
        "pool-rm", ["pool", "rm", "p1"], prepare=[["pool", "add", "p1", DISK]],
        undo=[["pool", "rm", "p1"]], codes=(0, 125),
    ),
    Scenario(
        "create", ["volume", "create", "--pool", "p1", "v1"], codes=(0, 125),
        prepare=[["pool", "add", "p1", DISK]],
        undo=[["volume", "rm", "--now", "v1"], ["pool", "rm", "p1"]],
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """A store with a disk beside it, for all scenarios; each leaves both as they were."""
    with open_store() as store, open_disk(store) as disk:
        disk.add("photos")
        yield store


def name_dataset(words: list[str], path: str) -> list[str]:
    """A command line with the dataset's path in it."""
    places = {PHOTOS: path, DISK: path.rpartition("/")[0]}
    return [places.get(word, word) for word in words]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_anywhere_the_owners_data_stays(shared: Store, scenario: Scenario) -> None:
    path = f"{shared.base}/disk/photos"
    kill_everywhere(shared, Scenario(
        scenario.name, name_dataset(scenario.verb, path), codes=scenario.codes,
        prepare=[name_dataset(list(words), path) for words in scenario.prepare],
        undo=[list(words) for words in scenario.undo],
    ))  # fmt: skip
    assert read(f"{path}/f") == "one"
