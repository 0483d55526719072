"""Snapshots of real databases under load: each starts healthy, and no acknowledged write is lost.

The writers print a number only after the database said that it is written. What was printed
before the snapshot command began must be in the snapshot.

In the virtual machine of the OpenZFS lane programs start slowly, so there are few of them.
"""

from __future__ import annotations

import pytest
from helpers.databases import (
    DATABASES,
    make_cluster,
    mariadb,
    redis,
    sql,
    start_mariadb,
    start_postgres,
    start_redis,
)
from helpers.store import POOL, Store, wait_until

pytestmark = [pytest.mark.btrfs, pytest.mark.network, pytest.mark.timeout(900)]

#: where the way to ask is what is tested, and where programs start slowly
FEW = 3
ROUNDS = FEW if POOL else 50

#: one session; the number comes out when the commit of its row has been answered
_WRITE_SQL = r"""
i=0
while :; do i=$((i+1)); printf 'INSERT INTO written VALUES (%d);\n\\echo %d\n' $i $i; done |
exec psql -Xq -v ON_ERROR_STOP=1 -d postgres
"""
_WRITE_REDIS = """
i=0; while :; do i=$((i+1)); [ "$(redis-cli SET key$i $i)" = OK ] && echo $i; done
"""
#: --unbuffered: each answer comes out when it has come
_WRITE_MARIADB = """
i=0
while :; do i=$((i+1)); echo "INSERT INTO test.written VALUES ($i); SELECT $i;"; done |
exec mariadb -NB --unbuffered
"""
_WRITE_SQLITE = r"""
i=0
while :; do i=$((i+1)); printf 'INSERT INTO written VALUES (%d);\n.print %d\n' $i $i; done |
exec stdbuf -oL sqlite3 -bail /data/db
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
        assert told.err == "db: postgres (by its label)\n"
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
    store, rounds = quiet_end, (ROUNDS + 1) // 2
    store.ok("volume", "create", "data")
    start_redis(store, "cache", "data", "--appendonly", appendonly)
    store.ok("exec", "-d", "cache", "sh", "-c", f"({_WRITE_REDIS}) > /tmp/acknowledged")

    wait_until(lambda: acknowledged(store, "cache") > 20, "the writer writes", 60)
    promised = []
    for number in range(rounds):
        promised.append(acknowledged(store, "cache"))
        told = store.ok("snapshot", f"data@s{number}")
        assert told.err == "cache: redis (by its program)\n"
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


def test_mariadb_under_load(quiet_end: Store) -> None:
    store, rounds = quiet_end, FEW
    start_mariadb(store, "db", "my")
    mariadb(store, "db", "CREATE DATABASE test; CREATE TABLE test.written (n int PRIMARY KEY);"
            "ALTER USER root@localhost IDENTIFIED BY 'secret'")  # fmt: skip
    store.ok("rm", "-f", "db")
    start_mariadb(store, "db", "my", "-e", "MARIADB_ROOT_PASSWORD=secret", password="secret")
    store.ok("exec", "-d", "-u", "0", "-e", "MYSQL_PWD=secret", "db", "sh", "-c",
             f"({_WRITE_MARIADB}) > /tmp/acknowledged 2>&1")  # fmt: skip

    wait_until(lambda: acknowledged(store, "db") > 50, "the writer writes", 60)
    promised = []
    for number in range(rounds):
        promised.append(acknowledged(store, "db"))
        told = store.ok("snapshot", f"my@s{number}")
        assert told.err == "db: mysql (by its program)\n"
    before = acknowledged(store, "db")
    assert before > promised[0], "there was no load"
    wait_until(lambda: acknowledged(store, "db") > before, "the lock is gone")
    store.ok("rm", "-f", "-t", "0", "db")
    for number in range(rounds):
        store.ok("clone", f"my@s{number}", f"my{number}")
        start_mariadb(store, f"db{number}", f"my{number}", password="secret")
        query = "SELECT count(*), max(n) FROM test.written"
        found = mariadb(store, f"db{number}", query, "secret").split("\t")
        assert int(found[1]) >= promised[number], f"snapshot {number} lost acknowledged rows"
        assert found[0] == found[1], f"snapshot {number} has holes"
        store.ok("rm", "-f", "-t", "0", "--now", f"db{number}")
        store.ok("volume", "rm", "--now", f"my{number}")


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_under_load(quiet_end: Store, journal: str) -> None:
    store, rounds = quiet_end, FEW
    store.ok("run", "-d", "--name", "app", "--network", "none", "-v", "lite:/data", "--label",
             "io.strata.quiesce=sqlite", DATABASES, "sleep", "1000")  # fmt: skip
    made = f"PRAGMA journal_mode={journal}; CREATE TABLE written (n INTEGER PRIMARY KEY)"
    assert store.ok("exec", "app", "sqlite3", "/data/db", made).line == journal
    store.ok("exec", "-d", "app", "sh", "-c", f"({_WRITE_SQLITE}) > /tmp/acknowledged 2>&1")

    wait_until(lambda: acknowledged(store, "app") > 50, "the writer writes", 60)
    promised = []
    for number in range(rounds):
        promised.append(acknowledged(store, "app"))
        told = store.ok("snapshot", f"lite@s{number}")
        assert told.err == "app: sqlite (by its label)\n"
    assert acknowledged(store, "app") > promised[0], "there was no load"
    store.ok("rm", "-f", "-t", "0", "app")
    for number in range(rounds):
        found = store.ok(
            "run", "--rm", "--network", "none", "--at", f"lite@s{number}", "-v", "lite:/data",
            DATABASES, "sqlite3", "-separator", " ", "/data/db",
            "PRAGMA integrity_check; SELECT count(*), max(n) FROM written",
        ).line.split()  # fmt: skip
        assert found[0] == "ok", f"snapshot {number} is damaged"
        assert int(found[2]) >= promised[number], f"snapshot {number} lost acknowledged rows"
        assert found[1] == found[2], f"snapshot {number} has holes"
