"""Real containers for tests of the runtime room: a busybox directory as root file system, no store.

``box`` gives a `Box` in a directory of its own; whatever a test leaves running is killed and
removed with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from strata.linux.mount import MountStep
from strata.linux.process import find_start_time, is_alive, wait_gone
from strata.runtime import attach, config, host, launch
from strata.runtime.launch import Launched, LaunchPlan, Runtime

BUSYBOX = "/bin/busybox"


def _make_tree(top: str) -> None:
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "run", "root", "var/tmp"):
        os.makedirs(f"{top}/{folder}")
    os.chmod(f"{top}/tmp", 0o1777)
    shutil.copy(BUSYBOX, f"{top}/bin/busybox")
    for name in os.popen(f"{BUSYBOX} --list").read().split():
        if not os.path.exists(f"{top}/bin/{name}"):
            os.link(f"{top}/bin/busybox", f"{top}/bin/{name}")
    with open(f"{top}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/srv/app:/bin/sh\n")
    with open(f"{top}/etc/group", "w") as file:
        file.write("root:x:0:\napp:x:1000:\nextra:x:27:app\n")
    with open(f"{top}/etc/plain", "w") as file:
        file.write("no program\n")


class Container:
    """One launched container of a `Box`."""

    def __init__(self, box: Box, record: dict[str, Any], launched: Launched) -> None:
        self.box = box
        self.record = record
        self.launched = launched
        self.bundle = launched.bundle
        self.runtime = launched.runtime
        self.warnings: list[str] = []

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def log(self) -> str:
        return f"{self.bundle}.log"

    def output(self) -> str:
        """The text of the log, both streams."""
        from strata.runtime.logs import read_logs

        return b"".join(entry.text for entry in read_logs(self.log)).decode()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        self.launched.wait()
        ended = launch.find_exit(self.bundle, self.id)
        assert ended is not None
        return ended.code

    def attach(self, **options: Any) -> str:
        """Connect streams, start, and stay until the end."""
        sock = attach.connect(self.bundle)
        return attach.run(
            self.bundle, sock, self.launched.sync,
            started=lambda: launch.start(self.launched), **options,
        )  # fmt: skip

    def end(self) -> None:
        """Kill and forget it."""
        one = self.launched
        launch.kill(self.runtime, self.id, 9, pid=one.pid, pid_start=one.pid_start)
        one.wait()
        one.close()
        wait_gone(one.conmon_pid, one.conmon_start, 10)
        launch.delete(self.runtime, self.id, force=True)


class Box:
    """A directory with a root file system and the run directory of its containers."""

    def __init__(self) -> None:
        self.top = tempfile.mkdtemp(prefix=f"strata-runtime-{os.getpid()}-", dir="/var/tmp")
        self.rootfs = f"{self.top}/tree/rootfs"
        self.containers: list[Container] = []
        _make_tree(self.rootfs)

    def get_runtime(self, name: str = "crun") -> Runtime:
        return launch.get_runtime(name, f"{self.top}/run")

    def plan(
        self, argv: Sequence[str], *, mounts: Sequence[MountStep] | None = None,
        binds: Sequence[dict[str, Any]] = (), cleanup: Sequence[str] = (),
        owner: tuple[int, int] | None = None, **options: Any,
    ) -> tuple[dict[str, Any], LaunchPlan, list[str]]:  # fmt: skip
        container_id = secrets.token_hex(32)
        record = {"id": container_id, "name": "box",
                  "config": {"command": list(argv), "network": "none", **options}}  # fmt: skip
        facts = host.read_host(record["config"])
        bundle = f"{self.top}/run/c/{container_id[:12]}"
        step = launch.rootfs_step(MountStep(f"{self.top}/tree", ""), bundle)
        warnings: list[str] = []

        def make_spec(root: int) -> str:
            text, said = config.make_config(record, root, mounts=binds, host=facts, bundle=bundle,
                                            cache=f"{self.top}/run/cache")  # fmt: skip
            warnings.extend(said)
            return text

        plan = LaunchPlan(
            id=container_id, name="box", bundle=bundle,
            runtime=self.get_runtime(options.get("runtime", "crun")),
            mounts=[step] if mounts is None else mounts, make_spec=make_spec,
            log=f"k8s-file:{bundle}.log", tty=options.get("tty", False),
            stdin=options.get("stdin", False), files=config.make_files(record, facts),
            cleanup=cleanup, owner=owner,
        )  # fmt: skip
        return record, plan, warnings

    def create(self, argv: Sequence[str], **options: Any) -> Container:
        """Launch without starting."""
        record, plan, warnings = self.plan(argv, **options)
        container = Container(self, record, launch.launch(plan))
        container.warnings = warnings
        self.containers.append(container)
        return container

    def start(self, argv: Sequence[str], **options: Any) -> Container:
        """Launch and start."""
        container = self.create(argv, **options)
        launch.start(container.launched)
        return container

    def run(self, argv: Sequence[str], **options: Any) -> tuple[int, str]:
        """Exit code and output."""
        container = self.start(argv, **options)
        code = container.wait()
        return code, container.output()

    def find_processes(self) -> list[str]:
        """Command lines of processes that still have to do with this box."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    text = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if self.top in text:
                found.append(text)
        return found

    def close(self) -> None:
        for container in self.containers:
            container.end()
        shutil.rmtree(self.top)


@pytest.fixture
def box() -> Iterator[Box]:
    """A fresh `Box`."""
    made = Box()
    try:
        yield made
    finally:
        made.close()


def own_identity() -> tuple[int, int]:
    """Pid and start time of this process."""
    start = find_start_time(os.getpid())
    assert start is not None
    return os.getpid(), start


def wait_for_path(path: str, timeout: float = 10.0) -> str:
    """The text of a file another process writes, once it is there."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with open(path) as file:
                text = file.read()
        except FileNotFoundError:
            text = ""
        if text:
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


__all__ = ["Box", "Container", "box", "is_alive", "own_identity", "wait_for_path"]
