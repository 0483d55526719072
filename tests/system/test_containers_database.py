"""The main job on real input: a real database, destroyed and brought back."""

from __future__ import annotations

import pytest
from helpers.store import Store, open_store, wait_until

pytestmark = [pytest.mark.btrfs, pytest.mark.network, pytest.mark.timeout(600)]


def test_a_database_comes_back_after_its_data_was_destroyed() -> None:
    with open_store(size=3 << 30) as store:
        store.ok("image", "bootstrap", "debian:12", timeout=400)
        store.ok(
            "run", "--name", "build", "-e", "DEBIAN_FRONTEND=noninteractive", "debian:12", "sh",
            "-c", "apt-get update && apt-get install -y --no-install-recommends redis-server",
            timeout=300,
        )  # fmt: skip
        store.ok("commit", "-c", 'CMD ["redis-server","--dir","/data","--port","16399",'
                 '"--appendonly","yes","--appendfsync","always"]', "-c", "USER redis",
                 "build", "localhost/redis")  # fmt: skip
        store.ok("rm", "build")
        store.ok("volume", "create", "data")
        store.ok("run", "--rm", "-u", "root", "-v", "data:/data", "localhost/redis", "chown",
                 "redis:redis", "/data")  # fmt: skip
        store.ok("run", "-d", "--name", "db", "--network", "none", "-v", "data:/data",
                 "localhost/redis")  # fmt: skip
        _wait_answer(store)
        _redis(store, "MSET", *[word for n in range(1000) for word in (f"key{n}", f"value{n}")])
        assert _redis(store, "DBSIZE") == "1000"
        store.ok("snapshot", "data@good")
        _redis(store, "FLUSHALL")
        _redis(store, "SET", "only", "this")
        assert _redis(store, "DBSIZE") == "1"
        restarted = store.ok("rollback", "data@good")
        assert "db" in restarted.out + restarted.err
        _wait_answer(store)
        assert _redis(store, "DBSIZE") == "1000"
        assert _redis(store, "GET", "key999") == "value999"
        store.ok("stop", "db")
        assert store.ok("wait", "db").line == "0", "it shut down by its own will"
        store.ok("start", "db")
        _wait_answer(store)
        assert _redis(store, "GET", "key0") == "value0"
        store.ok("rm", "-f", "db")
        store.ok("system", "check")


def _redis(store: Store, *words: str) -> str:
    return store.ok("exec", "db", "redis-cli", "-p", "16399", *words).line


def _wait_answer(store: Store) -> None:
    argv = ("exec", "db", "redis-cli", "-p", "16399", "PING")
    wait_until(lambda: store.strata(*argv).out == "PONG\n", "the database answers", 60)
