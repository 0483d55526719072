"""One container's life on OpenZFS in the kernel, through the command line alone.

The tests of this module are one story, told in order on one store: programs start slowly in the
lane's machine, and the story is the claim. The image is busybox in a tar.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm_store import Store, make_store
from zfs_tools import elsewhere, zfs

from strata.linux import mount

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module")
def strata(pool: str) -> Iterator[Store]:
    with make_store(pool) as store:
        yield store


def test_init_made_the_store_on_the_pool(strata: Store) -> None:
    source = zfs("get", "-H", "-o", "source", "strata:store", strata.dataset)
    assert source == "local"
    answer = zfs("get", "-H", "-o", "value", "canmount,atime,xattr,acltype", strata.dataset)
    # OpenZFS 2.3 calls xattr=sa "on".
    assert answer.splitlines() in (["noauto", "off", word, "posix"] for word in ("sa", "on"))


def test_an_imported_image_is_one_layer_dataset(strata: Store) -> None:
    strata("import", str(strata.folder / "busybox.tar"), "localhost/busybox:1")
    layers = strata.list_datasets("layers")
    assert list(layers.values()) == ["-"]
    assert "localhost/busybox" in strata("images")


def test_run_prints_and_returns_what_the_container_did(strata: Store) -> None:
    done = strata.call(
        "run", "--rm", "--network", "none", "localhost/busybox:1", "sh", "-c", "echo hi; exit 7"
    )
    assert (done.stdout, done.returncode) == ("hi\n", 7), done.stderr


def test_a_detached_container_is_a_clone_of_its_layer(strata: Store) -> None:
    strata("volume", "create", "-o", "recordsize=16K", "data")
    strata("run", "-d", "--name", "web", "--network", "none", "-v", "data:/data",
           "--stop-timeout", "1", "localhost/busybox:1", "sleep", "100000")  # fmt: skip
    (layer,) = strata.list_datasets("layers")
    webs = {n: o for n, o in strata.list_datasets("containers").items() if "/web." in n}
    assert list(webs.values()) == [f"{layer}@layer"]
    volumes = list(strata.list_datasets("volumes/_"))
    assert zfs("get", "-Hp", "-o", "value", "recordsize", volumes[0]) == "16384"
    assert "web" in strata("ps", "--format", "{{.Names}}").split()


def test_exec_snapshot_and_rollback_of_volume_and_container(strata: Store) -> None:
    strata("exec", "web", "sh", "-c", "echo one >/data/f; echo one >/f")
    strata("snapshot", "data@a")
    strata("snapshot", "web@a")
    strata("exec", "web", "sh", "-c", "echo two >/data/f; echo two >/f")
    strata("rollback", "data@a")
    assert strata("exec", "web", "cat", "/data/f", "/f") == "one\ntwo"
    strata("rollback", "web@a")
    assert strata("exec", "web", "cat", "/data/f", "/f") == "one\none"


def test_commit_makes_an_image_of_a_running_container(strata: Store) -> None:
    strata("commit", "web", "localhost/web:2")
    shown = strata("run", "--rm", "--network", "none", "localhost/web:2", "cat", "/f")
    assert shown == "one"


def test_removal_while_a_foreign_namespace_holds_everything(strata: Store) -> None:
    """`rm` succeeds, names are free at once, data lies in the trash until the holder ends."""
    (name,) = [n for n in strata.list_datasets("containers") if "/web." in n and _is_head(n)]
    (volume,) = [n for n in strata.list_datasets("volumes/_") if _is_head(n)]
    one, two = strata.folder / "one", strata.folder / "two"
    one.mkdir()
    two.mkdir()

    def enter() -> None:
        mount.mount(name, str(one), "zfs")
        mount.mount(volume, str(two), "zfs")

    with elsewhere(enter) as pid:
        strata("rm", "-f", "web")
        strata("volume", "rm", "data")
        assert "web" not in strata("ps", "-a", "--format", "{{.Names}}").split()
        assert not [n for n in strata.list_datasets("containers") if "/web." in n and n == name]
        # Free at once.
        strata("volume", "create", "data")
        strata("create", "--name", "web", "--network", "none", "localhost/busybox:1", "true")
        # The holder is not disturbed: its files are in the trash, by rename.
        sources = {e.target: e.source for e in mount.list_mounts(pid)}
        assert sources[str(one)].startswith(f"{strata.dataset}/trash/")
        assert sources[str(two)].startswith(f"{strata.dataset}/trash/")
        assert Path(f"/proc/{pid}/root{two}/f").read_text() == "one\n"
    strata("rm", "web")


def test_what_nobody_may_want_back_is_destroyed_once_its_holder_ends(strata: Store) -> None:
    strata("run", "-d", "--rm", "--name", "brief", "--network", "none", "--stop-timeout", "1",
           "localhost/busybox:1", "sleep", "100000")  # fmt: skip
    # One that is removed with its end has no identity of its own, and need not.
    assert strata.call("system", "check").returncode == 0
    (name,) = [n for n in strata.list_datasets("containers") if "/brief." in n]
    guid = zfs("get", "-Hp", "-o", "value", "guid", name)
    held = strata.folder / "held"
    held.mkdir()
    with elsewhere(lambda: mount.mount(name, str(held), "zfs")):
        strata("stop", "brief")
        # The container's own end removes it, a little after stop has seen it end.
        deadline = time.monotonic() + 60
        while strata.call("container", "exists", "brief").returncode == 0:
            assert time.monotonic() < deadline, "a --rm container was not removed"
        strata("run", "--name", "brief", "--network", "none", "localhost/busybox:1", "true")
        assert guid in _list_guids(strata)
    strata("container", "prune", "-f")
    assert guid not in _list_guids(strata)


def test_each_verb_waits_for_few_transaction_groups(strata: Store) -> None:
    """Every change of datasets waits for the pool to write; what waits is in the pool's history.

    Identity given to create or clone is a second group, so a new dataset counts two, unless its
    identity may come later, with another change, or not at all.
    """
    image = "localhost/busybox:1"
    strata("volume", "create", "counted-data")
    strata("run", "-d", "--name", "counted", "--network", "none", "--stop-timeout", "1",
           "-v", "counted-data:/data", image, "sleep", "100000")  # fmt: skip
    budgets = {
        ("run", "--rm", "--network", "none", image, "true"): 1,
        ("create", "--name", "brief2", "--network", "none", image, "true"): 2,
        ("rm", "brief2"): 1,
        ("volume", "create", "another"): 2,
        ("volume", "rm", "another"): 1,
        ("exec", "counted", "true"): 0,
        ("snapshot", "counted@one"): 1,
        ("rollback", "counted@one"): 4,
        ("commit", "counted", "localhost/counted:1"): 3,
        ("ps", "-a"): 0,
    }
    found = {words: strata.count_waits(*words) for words in budgets}
    print(found)
    assert {w: n for w, n in found.items() if n > budgets[w]} == {}
    strata("rm", "-f", "counted")


def test_the_store_is_whole_at_the_end(strata: Store) -> None:
    done = strata.call("system", "check")
    assert done.returncode == 0, done.stdout + done.stderr


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


def _list_guids(strata: Store) -> set[str]:
    return set(zfs("list", "-Hp", "-r", "-o", "guid", strata.dataset).splitlines())
