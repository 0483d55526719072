"""One container's life on OpenZFS in the kernel, through the command line alone.

The tests of this module are one story, told in order on one store: the story is the claim.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store, get_busybox_tar, open_store
from zfs_tools import elsewhere, list_datasets, zfs

from strata.linux import mount

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module")
def store(pool: str) -> Iterator[Store]:
    """Not made yet: the story begins and ends with that."""
    with open_store(make=False) as made:
        yield made
        made.strata("system", "reset", "--force", "--now")  # where the story broke off


def test_init_makes_the_store_on_the_pool(store: Store, pool: str) -> None:
    store.ok("system", "init", "--driver", "zfs", "--pool", pool)
    assert store.dataset == f"{pool}/strata"
    source = zfs("get", "-H", "-o", "source", "strata:store", store.dataset)
    assert source == "local"
    answer = zfs("get", "-H", "-o", "value", "canmount,atime,xattr,acltype", store.dataset)
    # OpenZFS 2.3 calls xattr=sa "on".
    assert answer.splitlines() in (["noauto", "off", word, "posix"] for word in ("sa", "on"))


def test_an_imported_image_is_one_layer_dataset(store: Store) -> None:
    store.ok("import", get_busybox_tar(), BUSYBOX)
    layers = list_datasets(store, "layers")
    assert list(layers.values()) == ["-"]
    assert "localhost/busybox" in store.ok("images").out


def test_run_prints_and_returns_what_the_container_did(store: Store) -> None:
    done = store.strata("run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "echo hi; exit 7")
    assert (done.out, done.rc) == ("hi\n", 7), repr(done)


def test_a_detached_container_is_a_clone_of_its_layer(store: Store) -> None:
    store.ok("volume", "create", "-o", "recordsize=16K", "data")
    store.ok("run", "-d", "--name", "web", "--network", "none", "-v", "data:/data",
           "--stop-timeout", "1", BUSYBOX, "sleep", "100000")  # fmt: skip
    (layer,) = list_datasets(store, "layers")
    webs = {n: o for n, o in list_datasets(store, "containers").items() if "/web." in n}
    assert list(webs.values()) == [f"{layer}@layer"]
    volumes = list(list_datasets(store, "volumes/_"))
    assert zfs("get", "-Hp", "-o", "value", "recordsize", volumes[0]) == "16384"
    assert "web" in store.ok("ps", "--format", "{{.Names}}").out.split()


def test_exec_snapshot_and_rollback_of_volume_and_container(store: Store) -> None:
    store.ok("exec", "web", "sh", "-c", "echo one >/data/f; echo one >/f")
    store.ok("snapshot", "data@a")
    store.ok("snapshot", "web@a")
    store.ok("exec", "web", "sh", "-c", "echo two >/data/f; echo two >/f")
    store.ok("rollback", "data@a")
    assert store.ok("exec", "web", "cat", "/data/f", "/f").line == "one\ntwo"
    store.ok("rollback", "web@a")
    assert store.ok("exec", "web", "cat", "/data/f", "/f").line == "one\none"


def test_commit_makes_an_image_of_a_running_container(store: Store) -> None:
    store.ok("commit", "web", "localhost/web:2")
    shown = store.ok("run", "--rm", "--network", "none", "localhost/web:2", "cat", "/f").line
    assert shown == "one"


def test_removal_while_a_foreign_namespace_holds_everything(store: Store) -> None:
    """`rm` succeeds, names are free at once, data lies in the trash until the holder ends."""
    (name,) = [n for n in list_datasets(store, "containers") if "/web." in n and _is_head(n)]
    (volume,) = [n for n in list_datasets(store, "volumes/_") if _is_head(n)]
    one, two = Path(store.base, "one"), Path(store.base, "two")
    one.mkdir()
    two.mkdir()

    def enter() -> None:
        mount.mount(name, str(one), "zfs")
        mount.mount(volume, str(two), "zfs")

    with elsewhere(enter) as pid:
        store.ok("rm", "-f", "web")
        store.ok("volume", "rm", "data")
        assert "web" not in store.ok("ps", "-a", "--format", "{{.Names}}").out.split()
        assert not [n for n in list_datasets(store, "containers") if "/web." in n and n == name]
        # Free at once.
        store.ok("volume", "create", "data")
        store.ok("create", "--name", "web", "--network", "none", BUSYBOX, "true")
        # The holder is not disturbed: its files are in the trash, by rename.
        sources = {e.target: e.source for e in mount.list_mounts(pid)}
        assert sources[str(one)].startswith(f"{store.dataset}/trash/")
        assert sources[str(two)].startswith(f"{store.dataset}/trash/")
        assert Path(f"/proc/{pid}/root{two}/f").read_text() == "one\n"
    store.ok("rm", "web")


def test_what_nobody_may_want_back_is_destroyed_once_its_holder_ends(store: Store) -> None:
    store.ok("run", "-d", "--rm", "--name", "brief", "--network", "none", "--stop-timeout", "1",
           BUSYBOX, "sleep", "100000")  # fmt: skip
    # One that is removed with its end has no identity of its own, and need not.
    assert store.strata("system", "check").rc == 0
    (name,) = [n for n in list_datasets(store, "containers") if "/brief." in n]
    guid = zfs("get", "-Hp", "-o", "value", "guid", name)
    held = Path(store.base, "held")
    held.mkdir()
    with elsewhere(lambda: mount.mount(name, str(held), "zfs")):
        store.ok("stop", "brief")
        # The container's own end removes it, a little after stop has seen it end.
        deadline = time.monotonic() + 60
        while store.strata("container", "exists", "brief").rc == 0:
            assert time.monotonic() < deadline, "a --rm container was not removed"
        store.ok("run", "--name", "brief", "--network", "none", BUSYBOX, "true")
        assert guid in _list_guids(store)
    store.ok("container", "prune", "-f")
    assert guid not in _list_guids(store)


def test_each_verb_waits_for_few_transaction_groups(store: Store) -> None:
    """Every change of datasets waits for the pool to write; what waits is in the pool's history.

    Identity given to create or clone is a second group, so a new dataset counts two, unless its
    identity may come later, with another change, or not at all.
    """
    store.ok("volume", "create", "counted-data")
    store.ok("run", "-d", "--name", "counted", "--network", "none", "--stop-timeout", "1",
           "-v", "counted-data:/data", BUSYBOX, "sleep", "100000")  # fmt: skip
    budgets = {
        ("run", "--rm", "--network", "none", BUSYBOX, "true"): 1,
        ("create", "--name", "brief2", "--network", "none", BUSYBOX, "true"): 2,
        ("rm", "brief2"): 1,
        ("volume", "create", "another"): 2,
        ("volume", "rm", "another"): 1,
        ("exec", "counted", "true"): 0,
        ("snapshot", "counted@one"): 1,
        ("rollback", "counted@one"): 4,
        ("commit", "counted", "localhost/counted:1"): 3,
        ("ps", "-a"): 0,
    }
    found = {words: count_waits(store, *words) for words in budgets}
    print(found)
    assert {w: n for w, n in found.items() if n > budgets[w]} == {}
    store.ok("rm", "-f", "counted")


def test_the_store_is_whole_at_the_end(store: Store) -> None:
    store.ok("system", "check")


def test_reset_leaves_nothing_on_the_pool(store: Store, pool: str) -> None:
    dataset = store.dataset
    store.ok("system", "reset", "--force", "--now")
    assert dataset not in zfs("list", "-H", "-o", "name", "-d", "1", pool).splitlines()
    assert not os.path.exists(f"{store.root}/store.json")


def count_waits(store: Store, *words: str) -> int:
    """Run a verb and count the transaction groups its changes went into, collection aside.

    Collection (``destroy``) runs detached, so nobody waits for it.
    """
    pool = store.dataset.partition("/")[0]

    def list_history() -> list[str]:
        text = zfs("history", "-i", pool, program="zpool")
        return [line for line in text.splitlines() if "[txg:" in line]

    before = list_history()
    store.ok(*words)
    new = list_history()[len(before) :]
    for line in new:
        print(" ".join(words[:2]), line)
    return len({line.split()[1] for line in new if line.split()[2] != "destroy"})


def _is_head(name: str) -> bool:
    """The newest generation; older heads of a rollback stay beside it as branches."""
    parent = name.rpartition("/")[0]
    stem = name.rpartition("/")[2].partition(".")[0]
    text = zfs("list", "-Hp", "-d1", "-t", "filesystem", "-o", "name,strata:generation", parent)
    generations = {
        other: int(value)
        for other, value in (line.split("\t") for line in text.splitlines())
        if other.rpartition("/")[2].partition(".")[0] == stem and value.isdecimal()
    }
    return generations[name] == max(generations.values())


def _list_guids(store: Store) -> set[str]:
    return set(zfs("list", "-Hp", "-r", "-o", "guid", store.dataset).splitlines())
