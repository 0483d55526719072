"""A throw-away store, made and used through the real command line.

It is on btrfs, in a pool file; on a host where STRATA_TEST_POOL names a pool of OpenZFS (in the
virtual machine, see tests/openzfs), it is a dataset there.

In a test module::

    def test_something(store: Store) -> None:
        store.ok("volume", "create", "data")
        assert "data" in store.ok("volume", "ls").out

``store`` and ``busybox_store`` are fixtures (see the ``conftest.py`` of the lanes). Whatever a
test leaves behind, also when it fails or is interrupted: processes, mounts, loop devices, cgroups
and files of the store are gone at its end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from helpers import installed
from strata.engine.core import Engine, open_engine
from strata.engine.system import verbs as system
from strata.linux import loop, mount, process

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SIZE = 512 << 20
BUSYBOX = "localhost/busybox:latest"
POOL = os.environ.get("STRATA_TEST_POOL", "")
_BASE = "/var/tmp"
_APPLETS = (
    "sh cat cp echo env false grep head hostname id kill ln ls mkdir mount mv ps pwd rm rmdir sed "
    "sleep stat sync tail tar test touch tr trap true tty umount uname wc yes dd date stty seq "
    "sort nproc httpd nc cut wget nslookup whoami readlink find chmod chown df"
).split()


class Outcome:
    """How a command line ended: ``rc``, and ``out`` and ``err`` as text."""

    def __init__(self, argv: Sequence[str], rc: int, out: str, err: str) -> None:
        self.argv = list(argv)
        self.rc = rc
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """Standard output as a JSON document."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """Standard output without the last line's end."""
        return self.out.rstrip("\n")

    def __repr__(self) -> str:
        return f"{' '.join(self.argv)} -> {self.rc}\nout: {self.out}\nerr: {self.err}"


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = 60 if POOL else 15
) -> None:  # fmt: skip
    """Poll for what gives no sign when it happens, such as the end of a foreign process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Store:
    """One store of its own under ``base``; ``root`` and ``runroot`` lie inside.

    ``networks``: its command lines run where links may be made, that is in a network namespace of
    the test's. Without, containers whose test does not say otherwise share the host's network, so
    that no test makes bridges on the machine it runs on. ``netns`` is the path of that namespace
    (see ``helpers.hosts``); empty: the one this process is in.
    """

    def __init__(self, base: str, *, networks: bool = False, netns: str = "") -> None:
        self.base = base
        self.networks = networks or bool(netns)
        self.netns = netns
        self.root = f"{base}/root"
        self.runroot = f"{base}/run"
        self._parent = ""

    @property
    def pool(self) -> str:
        """Where the pool of a btrfs store is mounted."""
        return f"{self.root}/pool"

    @property
    def dataset(self) -> str:
        """The root dataset of a store of ZFS; "" with btrfs or without a store."""
        try:
            with open(f"{self.root}/store.json") as file:
                return json.load(file)["dataset"] or ""
        except FileNotFoundError:
            return ""

    def words(self, *args: str) -> list[str]:
        """The words of a command line against this store, without the program."""
        chosen = args if self.networks else keep_off_links(args)
        return ["--root", self.root, "--runroot", self.runroot, *chosen]

    def argv(self, *args: str) -> list[str]:
        """The words that run a command line against this store, with the program as installed.

        In the virtual machine it is the checkout's: making a copy would take long there.
        """
        place = ["nsenter", f"--net={self.netns}", "--"] if self.netns else []
        program = [sys.executable, "-m", "strata"] if POOL else [installed.find_launcher()]
        return [*place, *program, *self.words(*args)]

    def strata(
        self, *args: str, input: str | bytes | None = None, env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Outcome:  # fmt: skip
        """Run the real command line to its end.

        Where programs start slowly, in the virtual machine, in a fork of this process.
        """
        data = input.encode() if isinstance(input, str) else input
        if POOL:
            from helpers import kill

            return kill.run(self, *args, input=data or b"", env=env)
        done = subprocess.run(
            self.argv(*args), input=data, stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True, timeout=timeout, check=False, cwd=TOP,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        return Outcome(args, done.returncode, done.stdout.decode(errors="replace"),
                       done.stderr.decode(errors="replace"))  # fmt: skip

    def ok(self, *args: str, **options: Any) -> Outcome:
        """Like `strata`, and fail the test unless it ended with 0."""
        outcome = self.strata(*args, **options)
        assert outcome.rc == 0, repr(outcome)
        return outcome

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command line; the caller waits for it, `close` kills it otherwise."""
        return subprocess.Popen(self.argv(*args), cwd=TOP, **options)

    def wait_for_log(self, name: str, text: str) -> None:
        """Wait until a container has written a line, by following its log."""
        with self.start("logs", "-f", name, stdout=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            try:
                if any(line.rstrip(b"\n") == text.encode() for line in follower.stdout):
                    return
            finally:
                follower.kill()
        raise AssertionError(f"{name} ended without saying {text!r}")

    def engine(self) -> Engine:
        """The opened store in this process."""
        return open_engine(self.root, self.runroot)

    def make(self, driver: str = "", *, size: int = SIZE, pool: str = POOL) -> Store:
        """Make the store itself: as a dataset of ``pool``, or in a pool file."""
        os.makedirs(self.root, exist_ok=True)
        if pool and not driver:
            self._parent = f"{pool}/test-{uuid.uuid4().hex[:8]}"
            run_zfs("create", "-o", "mountpoint=none", self._parent)
            system.init(self.root, self.runroot, driver="zfs", pool=self._parent)
            return self
        driver = driver or "btrfs"
        file = f"{self.root}/pool.{driver}"
        system.init(self.root, self.runroot, driver=driver, file=file, size=size)
        return self

    def add_busybox(self, name: str = BUSYBOX) -> str:
        """Import an image with a shell and the usual tools; return its id."""
        return self.ok("import", "--change", "CMD /bin/sh", get_busybox_tar(), name).line

    def close(self) -> None:
        """Take away everything: processes, mounts, loop devices, cgroups, files. Idempotent."""
        _kill_all(self)
        kill_zfs_daemon(self.root)
        _unmount_all(self.base)
        if self._parent:
            _destroy_dataset(self._parent)
            self._parent = ""
        _release_loops(self.base)
        _remove_cgroups(self)
        shutil.rmtree(self.base, ignore_errors=True)


def keep_off_links(args: Sequence[str]) -> list[str]:
    """A command line with ``--network=host`` put in where it makes a container and names none.

    One that names a bridge fails the test: it would be made on the machine the tests run on.
    """
    words = list(args)
    at = 1 if words[:1] == ["container"] else 0
    if words[at : at + 1] not in (["run"], ["create"]):
        return words
    chosen = [
        word.partition("=")[2] or after
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word.partition("=")[0] in ("--network", "--net")
    ]
    if not chosen:
        words.insert(at + 1, "--network=host")
    for mode in chosen:
        name = mode.partition(":")[0]
        harmless = name in ("host", "none", "container", "ns", "slirp4netns", "")
        assert harmless, f"--network {mode} needs a store with a netns (helpers.hosts)"
    return words


@contextlib.contextmanager
def open_store(
    *, size: int = SIZE, make: bool = True, networks: bool = False, netns: str = "",
    pool: str = POOL,
) -> Iterator[Store]:  # fmt: skip
    """A store that is gone when the block ends, however it ends."""
    base = tempfile.mkdtemp(prefix="strata-test-", dir=_BASE)
    store = Store(base, networks=networks, netns=netns)
    try:
        yield store.make(size=size, pool=pool) if make else store
    finally:
        store.close()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store."""
    with open_store() as made:
        yield made


@pytest.fixture(scope="session")
def busybox_store() -> Iterator[Store]:
    """A store for the whole run that holds the image `BUSYBOX`; leave it as you found it."""
    with open_store() as made:
        made.add_busybox()
        yield made


# -- an image without a network --------------------------------------------------------------------

BUSYBOX_TAR = f"{_BASE}/strata-busybox-{os.getpid()}.tar"
"""Where `get_busybox_tar` puts it."""


def make_busybox_tar() -> bytes:
    """The tar of a root file system of Debian's static busybox. The same bytes every time."""
    program = shutil.which("busybox")
    assert program, "busybox-static is not installed"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:

        def add(name: str, kind: bytes, mode: int = 0o755, data: bytes = b"", to: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.size = kind, mode, to, len(data)
            archive.addfile(info, io.BytesIO(data))

        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "var", "data"):
            add(folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755)
        with open(program, "rb") as file:
            add("bin/busybox", tarfile.REGTYPE, data=file.read())
        for applet in _APPLETS:
            add(f"bin/{applet}", tarfile.SYMTYPE, to="busybox")
        add("etc/passwd", tarfile.REGTYPE, 0o644,
            b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")  # fmt: skip
        add("etc/group", tarfile.REGTYPE, 0o644, b"root:x:0:\nuser:x:1000:\nstaff:x:50:user\n")
        add("data/seed", tarfile.REGTYPE, 0o640, b"from the image\n")
    return out.getvalue()


def get_busybox_tar() -> str:
    """The path of that tar, made once per run and removed at its end."""
    if not os.path.exists(BUSYBOX_TAR):
        import atexit

        with open(BUSYBOX_TAR, "wb") as file:
            file.write(make_busybox_tar())
        atexit.register(lambda: os.path.exists(BUSYBOX_TAR) and os.unlink(BUSYBOX_TAR))
    return BUSYBOX_TAR


# -- taking away -----------------------------------------------------------------------------------


def list_processes(store: Store) -> list[int]:
    """Processes of a store: named by their arguments, or with their root on its pool."""
    pool = mount.find_mount(store.pool)
    source = pool.source if pool else store.dataset
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                named = os.fsencode(store.base) in file.read()
        except OSError:
            continue
        if named or (source and _has_root_on(name, source)):
            found.append(int(name))
    return found


def _has_root_on(pid: str, source: str) -> bool:
    return any(
        entry.target == "/" and (entry.source == source or entry.source.startswith(f"{source}/"))
        for entry in mount.list_mounts(pid)
    )


def _kill_all(store: Store) -> None:
    """Kill until none is left: one may just be starting another."""
    deadline = time.monotonic() + 10
    while pids := list_processes(store):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def kill_zfs_daemon(root: str) -> None:
    """Kill the zfs-fuse daemon a store started, if it did; nothing in its words names the store."""
    try:
        with open(f"{root}/zfs-fuse.pid") as file:
            pid, start = (int(field) for field in file.read().split())
    except (OSError, ValueError):
        return
    if process.is_alive(pid, start):
        os.kill(pid, signal.SIGKILL)


def list_store_mounts(base: str) -> list[str]:
    """Mounts below a store's directory in this namespace, topmost last."""
    return [m.target for m in mount.list_mounts() if m.target.startswith(f"{base}/")]


def list_loops(base: str) -> list[str]:
    """Loop devices over files below a store's directory, also over removed ones."""
    found = []
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file") as file:
                if file.read().startswith(f"{base}/"):
                    found.append(f"/dev/{name}")
        except OSError:
            continue
    return found


def _unmount_all(base: str) -> None:
    while targets := list_store_mounts(base):
        for target in reversed(targets):
            with contextlib.suppress(OSError):
                mount.unmount(target, lazy=True)


def run_zfs(*words: str, input: bytes | None = None) -> str:
    """Run ``zfs``; its output."""
    done = subprocess.run(["zfs", *words], input=input, capture_output=True, check=False)
    assert done.returncode == 0, (words, done.stderr.decode(errors="replace"))
    return done.stdout.decode().rstrip("\n")


def _destroy_dataset(name: str) -> None:
    """The kernel lets go of what was unmounted a little later."""
    deadline = time.monotonic() + 60
    while True:
        try:
            run_zfs("destroy", "-R", "-f", name)
            return
        except AssertionError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _release_loops(base: str) -> None:
    for device in list_loops(base):
        with contextlib.suppress(OSError):
            loop.release(device)


def _remove_cgroups(store: Store) -> None:
    """Cgroups that carry the id of one of this store's containers."""
    bundles = f"{store.runroot}/c"
    ids = os.listdir(bundles) if os.path.isdir(bundles) else []
    if not ids:
        return
    for folder, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if any(short in os.path.basename(folder) for short in ids):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
