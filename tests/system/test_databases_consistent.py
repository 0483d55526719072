"""Snapshots of real databases under load: each starts healthy, and no acknowledged write is lost.

The writers print a number only after the database said that it is written. What was printed
before the snapshot command began must be in the snapshot.
"""

from __future__ import annotations

import pytest
from helpers.databases import (
    make_cluster,
    redis,
    sql,
    start_postgres,
    start_redis,
)
from helpers.store import Store, wait_until

pytestmark = [pytest.mark.btrfs, pytest.mark.network, pytest.mark.timeout(900)]

ROUNDS = 50

#: one session; the number comes out when the commit of its row has been answered
_WRITE_SQL = r"""
i=0
while :; do i=$((i+1)); printf 'INSERT INTO written VALUES (%d);\n\\echo %d\n' $i $i; done |
exec psql -h /tmp -Xq -v ON_ERROR_STOP=1 -d postgres
"""
_WRITE_REDIS = """
i=0; while :; do i=$((i+1)); [ "$(redis-cli SET key$i $i)" = OK ] && echo $i; done
"""


def acknowledged(store: Store, name: str) -> int:
    """The last number the writer in a container printed."""
    return int(store.strata("exec", name, "tail", "-n", "1", "/tmp/acknowledged").line or 0)


@pytest.fixture
def quiet_end(database_store: Store):  # type: ignore[no-untyped-def]
    """The store; afterwards nothing of the test is left in it."""
    yield database_store
    database_store.ok("rm", "-f", "-t", "0", "--now", "--all")
    database_store.ok("volume", "prune", "--all", "--force", "--now")


def test_postgres_under_load(quiet_end: Store) -> None:
    store = quiet_end
    store.ok("volume", "create", "pg")
    make_cluster(store, "pg")
    start_postgres(store, "db", "pg", "--label", "io.strata.quiesce=postgres")
    sql(store, "db", "CREATE TABLE written (n int PRIMARY KEY)")
    store.ok("exec", "-d", "db", "sh", "-c", f"({_WRITE_SQL}) > /tmp/acknowledged 2>&1")

    wait_until(lambda: acknowledged(store, "db") > 100, "the writer writes", 60)
    promised = []
    for number in range(ROUNDS):
        promised.append(acknowledged(store, "db"))
        told = store.ok("snapshot", f"pg@s{number}")
        assert "db: postgres (by its label)" in told.err
    assert promised == sorted(promised)
    assert promised[-1] > promised[0], "there was no load"
    store.ok("rm", "-f", "-t", "0", "db")
    for number in range(ROUNDS):
        store.ok("clone", f"pg@s{number}", f"pg{number}")
        start_postgres(store, f"db{number}", f"pg{number}")
        found = sql(store, f"db{number}", "SELECT count(*), max(n) FROM written").split("|")
        assert int(found[1]) >= promised[number], f"snapshot {number} lost acknowledged rows"
        assert found[0] == found[1], f"snapshot {number} has holes"
        store.ok("rm", "-f", "-t", "0", "--now", f"db{number}")
        store.ok("volume", "rm", "--now", f"pg{number}")


@pytest.mark.parametrize("appendonly", ["yes", "no"])
def test_redis_under_load(quiet_end: Store, appendonly: str) -> None:
    store, rounds = quiet_end, ROUNDS // 2
    store.ok("volume", "create", "data")
    start_redis(store, "cache", "data", "--appendonly", appendonly)
    store.ok("exec", "-d", "cache", "sh", "-c", f"({_WRITE_REDIS}) > /tmp/acknowledged")

    wait_until(lambda: acknowledged(store, "cache") > 20, "the writer writes", 60)
    promised = []
    for number in range(rounds):
        promised.append(acknowledged(store, "cache"))
        told = store.ok("snapshot", f"data@s{number}")
        assert "cache: redis (by its program)" in told.err
    assert promised[-1] > promised[0], "there was no load"
    assert redis(store, "cache", "SET", "still", "writable") == "OK"
    store.ok("rm", "-f", "-t", "0", "cache")
    for number in range(rounds):
        store.ok("clone", f"data@s{number}", f"data{number}")
        start_redis(store, f"cache{number}", f"data{number}", "--appendonly", appendonly)
        kept = redis(store, f"cache{number}", "GET", f"key{promised[number]}")
        assert kept == str(promised[number]), f"snapshot {number} lost an acknowledged write"
        assert int(redis(store, f"cache{number}", "DBSIZE")) >= promised[number]
        store.ok("rm", "-f", "-t", "0", "--now", f"cache{number}")
        store.ok("volume", "rm", "--now", f"data{number}")
