"""A store on the test pool, driven through the command line, and an image of one program."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zfs_tools import zfs

IMAGE = "localhost/busybox:1"

TOP = Path(__file__).resolve().parents[2]


class Store:
    """A store on the test pool and the command line bound to it."""

    def __init__(self, pool: str, folder: Path) -> None:
        self.pool = pool
        self.dataset = f"{pool}/strata"
        self.folder = folder

    def argv(self, *words: str) -> list[str]:
        """The command line of a verb; it works in the checkout only."""
        return [sys.executable, "-m", "strata", "--root", str(self.folder / "root"),
                "--runroot", str(self.folder / "run"), *words]  # fmt: skip

    def call(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = self.argv(*words)
        # Output goes to files, so that nothing a container keeps open delays the answer.
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            done = subprocess.run(
                argv, cwd=TOP, input=stdin, stdout=out, stderr=err, text=True, check=False,
                timeout=120,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(argv, done.returncode, out.read(), err.read())

    def __call__(self, *words: str, stdin: str = "") -> str:
        done = self.call(*words, stdin=stdin)
        assert done.returncode == 0, f"strata {' '.join(words)}: {done.returncode}\n{done.stderr}"
        return done.stdout.rstrip("\n")

    def count_waits(self, *words: str) -> int:
        """Run a verb and count the transaction groups its changes went into, collection aside.

        Collection (``destroy``) runs detached, so nobody waits for it.
        """
        before = self._list_history()
        self(*words)
        new = self._list_history()[len(before) :]
        for line in new:
            print(" ".join(words[:2]), line)
        return len({line.split()[1] for line in new if line.split()[2] != "destroy"})

    def _list_history(self) -> list[str]:
        text = zfs("history", "-i", self.pool.partition("/")[0], program="zpool")
        return [line for line in text.splitlines() if "[txg:" in line]

    def list_datasets(self, below: str) -> dict[str, str]:
        """Names directly below a part of the store -> origin."""
        text = zfs("list", "-Hp", "-d1", "-t", "filesystem", "-o", "name,origin",
                   f"{self.dataset}/{below}")  # fmt: skip
        rows = [line.split("\t") for line in text.splitlines()]
        return {name: origin for name, origin in rows if name != f"{self.dataset}/{below}"}


def make_busybox_tar(path: Path) -> None:
    """A root file system of one static program."""
    program = shutil.which("busybox")
    assert program is not None
    with tarfile.open(path, "w") as archive:
        for name in ("bin", "etc", "tmp", "data"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        archive.add(program, "bin/busybox")
        for name in (
            "sh",
            "cat",
            "echo",
            "hostname",
            "nslookup",
            "seq",
            "sleep",
            "sync",
            "tail",
            "true",
        ):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)


@contextmanager
def make_store(pool: str) -> Iterator[Store]:
    """A store without images, and the tar of one beside it; all is gone afterwards.

    Below /run, because the paths of sockets must be short.
    """
    folder = Path(f"/run/strata-life-{uuid.uuid4().hex[:6]}")
    folder.mkdir()
    store = Store(pool, folder)
    try:
        store("system", "init", "--driver", "zfs", "--pool", pool)
        make_busybox_tar(folder / "busybox.tar")
        yield store
    finally:
        store.call("system", "reset", "--force", "--now")
        shutil.rmtree(folder, ignore_errors=True)
