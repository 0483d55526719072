"""A store with an image of real databases: PostgreSQL, MariaDB, Redis and SQLite.

They are installed in a container of it, from the distribution's archive. In the virtual machine of
the OpenZFS lane, which has no network and writes slowly, the image holds nothing but users, and the
containers get the programs of the machine itself (PostgreSQL and Redis).
"""

from __future__ import annotations

import glob
import io
import os
import tarfile
from collections.abc import Iterator

import pytest

from helpers.store import POOL, Store, open_store, wait_until

DATABASES = "localhost/databases"
_PACKAGES = "redis-server postgresql mariadb-server sqlite3"
_PLACE = ("-v", "/usr:/usr:ro") if POOL else ()


@pytest.fixture(scope="session")
def database_store() -> Iterator[Store]:
    """A store that holds the image `DATABASES`; leave it as you found it. Takes a minute."""
    with open_store(size=6 << 30) as store:
        if POOL:
            _make_frame(store)
        else:
            _install(store)
        yield store


def _install(store: Store) -> None:
    # dpkg waits for the disk after each file, unless it is told not to.
    unsafe = "echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe"
    store.ok("image", "bootstrap", "debian:12", timeout=400)
    store.ok(
        "run", "--name", "build", "-e", "DEBIAN_FRONTEND=noninteractive", "debian:12", "sh",
        "-c", f"{unsafe} && apt-get update"
        f" && apt-get install -y --no-install-recommends {_PACKAGES}"
        " && ln -s /usr/lib/postgresql/15/bin/* /usr/local/bin/ && rm -rf /var/lib/apt/lists/*"
        " && install -d -o mysql -g mysql /run/mysqld",
        timeout=400,
    )  # fmt: skip
    store.ok("commit", "build", DATABASES)
    store.ok("rm", "--now", "build")


def _make_frame(store: Store) -> None:
    """An image that holds users and directories; the programs are the host's, see `_PLACE`."""
    file = f"{store.base}/databases.tar"
    with tarfile.open(file, "w") as archive:

        def add(name: str, kind: bytes, mode: int = 0o755, data: bytes = b"", to: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.size = kind, mode, to, len(data)
            archive.addfile(info, io.BytesIO(data))

        for link in ("bin", "lib", "lib64"):
            add(link, tarfile.SYMTYPE, to=f"usr/{link}")
        for name, mode in (("usr", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            add(name, tarfile.DIRTYPE, mode)
        users = ("root:x:0:", "postgres:x:100:", "redis:x:101:")
        add("etc/group", tarfile.REGTYPE, 0o644, "".join(f"{u}\n" for u in users).encode())
        lines = (f"{u}{u.split(':')[2]}::/tmp:/bin/sh\n" for u in users)
        add("etc/passwd", tarfile.REGTYPE, 0o644, "".join(lines).encode())
    [server] = glob.glob("/usr/lib/postgresql/*")
    store.ok("import", "--change", f"ENV PATH={server}/bin:/usr/bin", file, DATABASES)
    os.unlink(file)


def start_redis(store: Store, name: str, volume: str, *options: str) -> None:
    """Start a Redis on a volume and wait until it answers."""
    store.ok("run", "--rm", *_PLACE, "-v", f"{volume}:/data", DATABASES, "chown", "redis:redis",
             "/data")  # fmt: skip
    store.ok(
        "run", "-d", "--name", name, "--network", "none", "-u", "redis", *_PLACE, "-v",
        f"{volume}:/data", DATABASES, "redis-server", "--dir", "/data", "--save", "", *options,
    )  # fmt: skip
    wait_until(lambda: redis(store, name, "PING") == "PONG", "redis answers", 60)


def redis(store: Store, name: str, *words: str) -> str:
    """What ``redis-cli`` says in a container."""
    return store.strata("exec", name, "redis-cli", *words).line


def make_cluster(store: Store, volume: str) -> None:
    """Initialise a PostgreSQL cluster on a volume."""
    store.ok(
        "run", "--rm", *_PLACE, "-v", f"{volume}:/pg", DATABASES, "sh", "-c",
        "chown postgres:postgres /pg && chmod 700 /pg && "
        "setpriv --reuid postgres --regid postgres --clear-groups initdb -D /pg >/dev/null",
        timeout=120,
    )  # fmt: skip


def start_postgres(store: Store, name: str, volume: str, *options: str) -> None:
    """Start a PostgreSQL on a volume with a cluster and wait until it answers."""
    store.ok(
        "run", "-d", "--name", name, "--network", "none", "-u", "postgres", *_PLACE, "-v",
        f"{volume}:/pg", "-e", "PGHOST=/tmp", *options, DATABASES, "postgres", "-D", "/pg", "-k",
        "/tmp",
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
