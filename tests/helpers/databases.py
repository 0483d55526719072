"""A store with an image of real databases, installed in a container of it: PostgreSQL, MariaDB,
Redis and SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.store import Store, open_store, wait_until

DATABASES = "localhost/databases"
_PACKAGES = "redis-server postgresql mariadb-server sqlite3"


@pytest.fixture(scope="session")
def database_store() -> Iterator[Store]:
    """A store that holds the image `DATABASES`; leave it as you found it. Takes a minute."""
    with open_store(size=6 << 30) as store:
        store.ok("image", "bootstrap", "debian:12", timeout=400)
        store.ok(
            "run", "--name", "build", "-e", "DEBIAN_FRONTEND=noninteractive", "debian:12", "sh",
            "-c", f"apt-get update && apt-get install -y --no-install-recommends {_PACKAGES}"
            " && ln -s /usr/lib/postgresql/15/bin/* /usr/local/bin/ && rm -rf /var/lib/apt/lists/*"
            " && install -d -o mysql -g mysql /run/mysqld",
            timeout=400,
        )  # fmt: skip
        store.ok("commit", "build", DATABASES)
        store.ok("rm", "--now", "build")
        yield store


def start_redis(store: Store, name: str, volume: str, *options: str) -> None:
    """Start a Redis on a volume and wait until it answers."""
    store.ok("run", "--rm", "-v", f"{volume}:/data", DATABASES, "chown", "redis:redis", "/data")
    store.ok(
        "run", "-d", "--name", name, "--network", "none", "-u", "redis", "-v", f"{volume}:/data",
        DATABASES, "redis-server", "--dir", "/data", "--save", "", *options,
    )  # fmt: skip
    wait_until(lambda: redis(store, name, "PING") == "PONG", "redis answers", 60)


def redis(store: Store, name: str, *words: str) -> str:
    """What ``redis-cli`` says in a container."""
    return store.strata("exec", name, "redis-cli", *words).line


def make_cluster(store: Store, volume: str) -> None:
    """Initialise a PostgreSQL cluster on a volume."""
    store.ok(
        "run", "--rm", "-v", f"{volume}:/pg", DATABASES, "sh", "-c",
        "chown postgres:postgres /pg && chmod 700 /pg && "
        "setpriv --reuid postgres --regid postgres --clear-groups initdb -D /pg >/dev/null",
        timeout=120,
    )  # fmt: skip


def start_postgres(store: Store, name: str, volume: str, *options: str) -> None:
    """Start a PostgreSQL on a volume with a cluster and wait until it answers."""
    store.ok(
        "run", "-d", "--name", name, "--network", "none", "-u", "postgres", "-v", f"{volume}:/pg",
        "-e", "PGHOST=/tmp", *options, DATABASES, "postgres", "-D", "/pg", "-k", "/tmp",
    )  # fmt: skip
    wait_until(lambda: sql(store, name, "SELECT 1") == "1", "postgres answers", 60)


def sql(store: Store, name: str, query: str) -> str:
    """What ``psql`` says to a query in a container."""
    return store.strata("exec", name, "psql", "-XAtq", "-d", "postgres", "-c",
                        query).line  # fmt: skip


def start_mariadb(store: Store, name: str, volume: str, *options: str, password: str = "") -> None:
    """Start a MariaDB on a volume, which gets the image's tables when it is new, and wait until it
    answers. Without a password it knows root by the socket."""
    store.ok(
        "run", "-d", "--name", name, "--network", "none", "-u", "mysql", "-v",
        f"{volume}:/var/lib/mysql", *options, DATABASES, "mariadbd",
    )  # fmt: skip
    wait_until(lambda: mariadb(store, name, "SELECT 1", password) == "1", "mariadb answers", 60)


def mariadb(store: Store, name: str, query: str, password: str = "") -> str:
    """What MariaDB's client says to a query in a container, asked by root."""
    return store.strata("exec", "-u", "0", "-e", f"MYSQL_PWD={password}", name, "mariadb", "-NBe",
                        query).line  # fmt: skip
