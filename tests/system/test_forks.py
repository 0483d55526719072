"""Forks: a set of containers with their volumes, copied at one moment, on networks of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.hosts import open_hosts
from helpers.store import POOL, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

IMAGE = "busybox"
SERVE = "echo $0 >/d/by; mkdir -p /www; echo $0 >/www/index.html; exec httpd -f -p 80 -h /www"


@pytest.fixture(scope="module")
def stack() -> Iterator[Store]:
    """``web`` and ``db`` on the network ``back``, sharing the volume ``data``."""
    with open_hosts("a") as (host,), open_store(netns=host.netns) as store:
        store.add_busybox()
        store.ok("network", "create", "back")
        for name, ports in (("db", ()), ("web", ("-p", "8080:80"))):
            store.ok("run", "-d", "--name", name, "--network", "back", *ports, "-v", "data:/d",
                     "--stop-timeout", "0", IMAGE, "sh", "-c", SERVE, name)  # fmt: skip
        yield store


def ask(store: Store, inside: str, name: str) -> str:
    return store.ok("exec", inside, "busybox", "wget", "-q", "-O", "-", f"http://{name}/").line


def test_a_fork_runs_beside_what_it_was_made_of(stack: Store) -> None:
    before = stack.ok("exec", "web", "cat", "/d/by").line
    done = stack.ok("fork", "web", "db", "--as", "pr1")
    assert sorted(done.out.split()) == ["pr1-db", "pr1-web"]
    # A pool of OpenZFS takes them all at once; elsewhere it is one snapshot after another.
    assert ("held still" in done.err) == (not POOL)
    stack.ok("exec", "pr1-web", "sh", "-c", "echo fork >/d/by")
    assert stack.ok("exec", "pr1-db", "cat", "/d/by").line == "fork", "they share a volume again"
    assert stack.ok("exec", "web", "cat", "/d/by").line == before
    [row] = stack.ok("fork", "ls", "--format", "json").json
    assert row["Volumes"] == ["pr1-data"]
    assert row["Networks"] == ["pr1-back"]
    assert ask(stack, "pr1-web", "db") == "db", "members know each other by their old names"
    [port] = stack.ok("port", "pr1-web").out.splitlines()
    assert not port.endswith(":8080")
    assert stack.strata("fork", "web", "--as", "pr1").rc == 125
    assert "pr1-web" in stack.ok("fork", "rm", "--dry-run", "pr1").out
    stack.ok("fork", "rm", "-t", "0", "pr1")
    assert stack.ok("fork", "ls", "--format", "json").json == []
    assert "pr1-back" not in stack.ok("network", "ls").out
    assert stack.strata("fork", "rm", "pr1").rc != 0


def test_of_two_forks_of_one_name_one_is_made_whole(stack: Store) -> None:
    running = [stack.start("fork", "web", "--as", "same") for _ in range(3)]
    codes = sorted(process.wait() for process in running)
    assert codes == [0, 125, 125]
    assert ask(stack, "same-web", "web") == "web", "the others took nothing of it along"
    assert stack.ok("system", "check", "--format", "json").json["Problems"] == []
    stack.ok("fork", "rm", "--discard", "-t", "0", "same")


def test_a_discarded_fork_leaves_nothing(stack: Store) -> None:
    stack.ok("trash", "empty", "--all", "--force")
    stack.ok("fork", "web", "--as", "gone", "--no-start")
    assert stack.ok("ps", "-a", "--filter", "name=gone-web", "--format", "{{.State}}").line in (
        "created", "Created")  # fmt: skip
    stack.ok("fork", "rm", "--discard", "gone")
    assert stack.ok("trash", "ls", "--format", "json").json == []
    names = [row["Name"] for row in stack.ok("snapshot", "ls", "--format", "json").json]
    assert not [name for name in names if name.startswith("fork-")]
    assert stack.ok("system", "check", "--format", "json").json["Problems"] == []


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(stack: Store) -> None:
    stack.ok("run", "-d", "--name", "side", "--network", "container:db", "--stop-timeout", "0",
             IMAGE, "sleep", "1000")  # fmt: skip
    refused = stack.strata("fork", "side", "--as", "pr2")
    assert refused.rc == 125
    assert "not forked" in refused.err
    assert stack.ok("fork", "ls", "--format", "json").json == []
    assert stack.strata("fork", "web").rc == 125
    assert stack.strata("fork", "nosuch", "--as", "x").rc == 125
    stack.ok("fork", "side", "db", "--as", "pr2")
    assert ask(stack, "pr2-side", "127.0.0.1") == "db"
    stack.ok("fork", "rm", "--discard", "-t", "0", "pr2")
    names = [row["Name"] for row in stack.ok("snapshot", "ls", "--format", "json").json]
    assert not [name for name in names if name.startswith("fork-")]
    stack.ok("rm", "-f", "-t", "0", "side")
