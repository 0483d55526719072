"""kill -9 at every traced step of what Strata does outside its store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.apart import apart
from helpers.kill import Scenario, kill_at, kill_everywhere, list_points
from helpers.outside import destroy_pool, open_disk, read, run
from helpers.store import Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

LOOKS = (["diff", "photos@a"], ["diff", "photos@a", "photos@b"], ["mount", "photos@a"],
         ["diff", "inside@a"])  # fmt: skip

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


@pytest.mark.zfsfuse
def test_a_killed_look_leaves_no_clone_of_what_it_looked_at() -> None:
    """zfs-fuse shows a snapshot by a clone beside it, in the owner's pool."""

    def act(store: Store) -> None:
        with open(f"{store.base}/tank", "wb") as file:
            file.truncate(200 << 20)
        tank = f"tank{os.getpid()}"
        run("zpool", "create", "-o", "cachefile=none", "-m", f"{store.base}/mnt", tank,
            f"{store.base}/tank")  # fmt: skip
        run("zfs", "create", f"{tank}/photos")
        store.ok("volume", "create", "--dataset", f"{tank}/photos", "photos")
        store.ok("volume", "create", "inside")
        store.ok("snapshot", "photos@a", "inside@a")
        store.ok("snapshot", "photos@b")
        listing = ("zfs", "list", "-H", "-o", "name", "-t", "filesystem,snapshot")
        before = run(*listing)
        for verb in LOOKS:
            points = list_points(store, *verb)
            store.strata("unmount", "--all")
            for number in range(len(points)):
                where = f"{verb} at {number}, {kill_at(store, number, *verb)}"
                store.strata("unmount", "--all")
                if number % 2:
                    store.ok("system", "check", "--repair")
                else:
                    store.ok("volume", "create", "another")
                    store.ok("volume", "rm", "--now", "another")
                assert run(*listing) == before, where
                store.ok(*verb)
                store.strata("unmount", "--all")
        store.ok("system", "reset", "--force", "--now")
        destroy_pool(tank)

    apart(act)
