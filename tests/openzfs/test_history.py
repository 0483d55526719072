"""What the time machine owes to OpenZFS: one transaction group for a set, and hands at work.

The verbs themselves are told in ``tests/system``, parts of which this lane runs too (see ``full``).
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator

import pytest
from helpers.store import BUSYBOX, Outcome, Store, open_store, wait_until
from zfs_tools import zfs

pytestmark = pytest.mark.openzfs

#: appends the same numbers to two volumes, one after the other
WRITER = "i=0; while :; do i=$((i+1)); echo $i >> /a/n; echo $i >> /b/n; done"


@pytest.fixture(scope="module")
def store(pool: str) -> Iterator[Store]:
    """A store with a container ``writer`` that writes to ``left`` and ``right`` in turn."""
    with open_store(pool=pool) as made:
        made.add_busybox()
        made.ok("run", "-d", "--name", "writer", "--network", "none", "--stop-timeout", "0",
                "-v", "left:/a", "-v", "right:/b", BUSYBOX, "sh", "-c", WRITER)  # fmt: skip
        wait_until(lambda: count(f"{made.root}/volumes/right/_data"), "the writer writes", 60)
        yield made


def count(folder: str) -> int:
    """How many numbers there are."""
    try:
        with open(f"{folder}/n") as file:
            return len(file.read().split())
    except FileNotFoundError:
        return 0


def get_dataset(store: Store, kind: str, name: str) -> str:
    """The full name of a head's dataset, which no mount of Strata's holds any more."""
    e = store.engine()
    record = e.records.get(kind, e.records.resolve(kind, name))
    return f"{e.config.dataset}/{record['dataset']}"


def list_moments(store: Store, prefix: str) -> dict[str, str]:
    """Snapshots whose name begins so, by dataset -> the transaction group that made them."""
    text = zfs("list", "-Hp", "-r", "-t", "snapshot", "-o", "name,createtxg", store.dataset)
    rows = [line.split("\t") for line in text.splitlines()]
    return {name: txg for name, txg in rows if name.partition("@")[2].startswith(prefix)}


def read_pair(store: Store, moment: str) -> tuple[int, int]:
    """How many numbers each of two snapshots of one moment holds."""
    found = []
    for name in ("left", "right"):
        path = store.ok("mount", f"{name}@{moment}").line
        found.append(count(path))
    store.ok("unmount", "--all")
    return found[0], found[1]


def test_a_set_is_of_one_transaction_group(store: Store) -> None:
    """The container and both volumes; nothing has to stand still for it."""
    told = store.ok("snapshot", "--volumes", "writer@set")
    assert "held still" not in told.err
    found = list_moments(store, "set")
    assert len(found) == 3
    assert len(set(found.values())) == 1, found
    left, right = read_pair(store, "set")
    assert left - right in (0, 1)
    assert left > 0


def test_a_held_set_is_of_one_transaction_group_too(store: Store) -> None:
    """What is frozen goes on afterwards."""
    store.ok("snapshot", "--quiesce", "freeze", "left@frozen", "right@frozen")
    found = list_moments(store, "frozen")
    assert len(found) == 2
    assert len(set(found.values())) == 1, found
    before = count(f"{store.root}/volumes/right/_data")
    wait_until(lambda: count(f"{store.root}/volumes/right/_data") > before, "it goes on", 30)


def test_a_fork_is_of_one_transaction_group(store: Store) -> None:
    store.ok("fork", "writer", "--as", "pr", "--no-start")
    found = list_moments(store, "fork-")
    assert len(found) == 3
    assert len(set(found.values())) == 1, found
    for name in ("pr-left", "pr-right"):
        store.ok("snapshot", f"{name}@made")
    left, right = (count(store.ok("mount", f"pr-{name}@made").line) for name in ("left", "right"))
    assert left - right in (0, 1)
    store.ok("unmount", "--all")
    store.ok("fork", "rm", "--discard", "pr")
    assert list_moments(store, "fork-") == {}


class Hands:
    """Somebody who goes on with ``zfs`` on a volume's datasets until told to stop."""

    def __init__(self, full: str) -> None:
        self.full = full
        self.done: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Hands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _try(self, verb: str, *words: str, into: tuple[str, ...] = ()) -> None:
        """What is busy or gone just now is the hands' loss, not Strata's."""
        with contextlib.suppress(AssertionError):
            if into:
                stream = subprocess.run(["zfs", verb, *words], capture_output=True, check=False)
                done = subprocess.run(["zfs", *into], input=stream.stdout, capture_output=True,
                                      check=False)  # fmt: skip
                assert done.returncode == 0
                verb = into[0]
            else:
                zfs(verb, *words)
            self.done[verb] = self.done.get(verb, 0) + 1

    def _work(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            self._try("snapshot", f"{self.full}@hand{number}")
            self._try("rename", "-u", self.full, f"{self.full}-away")
            self._try("rename", "-u", f"{self.full}-away", self.full)
            self._try("rollback", "-r", f"{self.full}@hand{number}")
            self._try("send", f"{self.full}@hand{number}", into=("receive", f"{self.full}-copy"))
            self._try("destroy", "-r", f"{self.full}-copy")
            self._try("destroy", f"{self.full}@hand{number}")


def test_hands_on_the_datasets_while_strata_works(store: Store) -> None:
    """A verb may be refused for what is happening, in a line; nothing breaks, nothing is lost."""
    store.ok("volume", "create", "data")
    store.ok("run", "--rm", "--network", "none", "-v", "data:/d", BUSYBOX, "sh", "-c",
             "echo kept >/d/f")  # fmt: skip
    store.ok("snapshot", "data@first")
    found: list[Outcome] = []
    with Hands(get_dataset(store, "volume", "data")) as hands:
        for words in (
            ("snapshot", "data@s1"), ("log", "data"), ("rollback", "data@first"),
            ("clone", "data@first", "copy"), ("snapshot", "data@s2"), ("volume", "ls"),
        ):  # fmt: skip
            found.append(store.strata(*words))
    assert {"snapshot", "rename", "receive", "destroy"} <= set(hands.done), hands.done
    for outcome in found:
        assert outcome.rc in (0, 125), repr(outcome)
        assert "Traceback" not in outcome.err, repr(outcome)
        assert outcome.rc == 0 or outcome.err.startswith("Error: "), repr(outcome)
    assert [o for o in found if o.rc == 0 and o.argv[0] in ("snapshot", "rollback", "clone")]
    for words in (("ps", "-a"), ("log", "data"), ("snapshot", "data@last")):
        store.ok(*words)
    store.ok("system", "check", "--repair")
    assert store.ok("run", "--rm", "--network", "none", "-v", "data:/d", BUSYBOX, "cat",
                    "/d/f").line == "kept"  # fmt: skip
    assert store.ok("system", "check", "--format", "json").json["Problems"] == []
