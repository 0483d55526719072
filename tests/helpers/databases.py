"""A store with an image of real databases, PostgreSQL and Redis, installed in a container of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.store import Store, open_store, wait_until

DATABASES = "localhost/databases"
_PACKAGES = "redis-server postgresql"


@pytest.fixture(scope="session")
def database_store() -> Iterator[Store]:
    """A store that holds the image `DATABASES`; leave it as you found it. Takes a minute."""
    with open_store(size=6 << 30) as store:
        store.ok("image", "bootstrap", "debian:12", timeout=400)
        store.ok(
            "run", "--name", "build", "-e", "DEBIAN_FRONTEND=noninteractive", "debian:12", "sh",
            "-c", f"apt-get update && apt-get install -y --no-install-recommends {_PACKAGES}"
            " && ln -s /usr/lib/postgresql/15/bin/* /usr/local/bin/ && rm -rf /var/lib/apt/lists/*",
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
        *options, DATABASES, "postgres", "-D", "/pg", "-k", "/tmp",
    )  # fmt: skip
    wait_until(lambda: sql(store, name, "SELECT 1") == "1", "postgres answers", 60)


def sql(store: Store, name: str, query: str) -> str:
    """What ``psql`` says to a query in a container."""
    return store.strata("exec", name, "psql", "-h", "/tmp", "-XAtq", "-d", "postgres", "-c",
                        query).line  # fmt: skip
