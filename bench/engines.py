"""The three engines under measurement: Strata, Podman and Docker, each in a folder of its own.

Nothing of the host's own engines is used or touched: own state directories, sockets and
configuration, and every process started here is ended by its pid. Run inside the private mount
namespace that ``bench/run`` makes.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import resource
import shutil
import signal
import subprocess
import time

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}


class Broken(Exception):
    """An engine does not work on this host; the text says why."""


class Sample:
    """One measured command: wall and processor seconds (with its waited children)."""

    __slots__ = ("cpu", "wall")

    def __init__(self, wall: float, cpu: float) -> None:
        self.wall = wall
        self.cpu = cpu


def measure(argv: list[str], env: dict[str, str] | None = None) -> Sample:
    """Run a program to its end and measure it; raise `Broken` when it fails."""
    null = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    started = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, env or dict(os.environ), file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        raise Broken(f"{' '.join(argv)} ended with {code}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def ask(argv: list[str], env: dict[str, str] | None = None) -> str:
    """Run a program and return its output; raise `Broken` with its last words when it fails."""
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-2:] or [f"exit code {done.returncode}"]
        raise Broken(f"{argv[0]} … {' '.join(argv[5:9])}: {' '.join(words)}")
    return done.stdout


class Engine:
    """What the three have in common. Options that all of them know are spelled the same."""

    name = ""
    image = "localhost/bench:latest"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.env = dict(os.environ)
        # What ends with the boot lies in memory, as below /run.
        os.makedirs(f"{folder}/run", mode=0o700)
        ask(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", f"{folder}/run"])

    def start(self) -> None:
        """Make it ready; raises `Broken`."""

    def stop(self) -> None:
        """End what runs and remove what it left."""

    def argv(self, *words: str) -> list[str]:
        """The command line of one command."""
        raise NotImplementedError

    def measure(self, *words: str) -> Sample:
        """Measure one command."""
        return measure(self.argv(*words), self.env)

    def ask(self, *words: str) -> str:
        """The output of one command."""
        return ask(self.argv(*words), self.env)

    def load(self, archive: str) -> None:
        """Load the common image."""
        self.ask("load", "--input", archive)

    def remove(self, *names: str) -> None:
        """Remove containers, killing what runs."""
        self.ask("rm", "--force", "--time", "0", *names)

    def pull(self, reference: str) -> Sample:
        """Pull from a registry on localhost without TLS."""
        return self.measure("pull", "--quiet", reference)

    def version(self) -> str:
        """For the report."""
        return self.ask("--version").strip().splitlines()[0]


class Strata(Engine):
    """This checkout, started as an installed one is."""

    name = "Strata"

    def __init__(self, folder: str, launcher: str, *, driver: str = "btrfs", size: str) -> None:
        super().__init__(folder)
        self.launcher = launcher
        self.driver = driver
        self.size = size

    def argv(self, *words: str) -> list[str]:
        return [self.launcher, "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run",
                *words]  # fmt: skip

    def start(self) -> None:
        self.ask("system", "init", "--driver", self.driver, "--file", f"{self.folder}/pool",
                 "--size", self.size)  # fmt: skip

    def pull(self, reference: str) -> Sample:
        return self.measure("pull", "--quiet", "--tls-verify=false", reference)

    def stop(self) -> None:
        if os.path.exists(f"{self.folder}/root/store.json"):
            subprocess.run(
                self.argv("rm", "--all", "--force", "--time", "0"), env=self.env, **QUIET
            )
            subprocess.run(self.argv("system", "reset", "--force", "--now"), env=self.env, **QUIET)


class Podman(Engine):
    """Debian's podman with crun, overlay and its own root."""

    name = "Podman"

    def start(self) -> None:
        program = shutil.which("podman")
        if program is None:
            raise Broken("podman is not installed (bench/install-rivals)")
        # Its defaults raise limits, which a host without CAP_SYS_RESOURCE refuses.
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1024)
        with open(f"{self.folder}/containers.conf", "w", encoding="utf-8") as file:
            file.write(
                f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=1024:1024"]\n'
                f'[network]\nnetwork_backend = "netavark"\n'
                f'network_config_dir = "{self.folder}/networks"\n'
            )
        self.env["CONTAINERS_CONF"] = f"{self.folder}/containers.conf"
        self.env["CONTAINERS_STORAGE_CONF"] = f"{self.folder}/storage.conf"
        with open(f"{self.folder}/storage.conf", "w", encoding="utf-8") as file:
            file.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/root"\n'
                       f'runroot = "{self.folder}/run"\n')  # fmt: skip

    def argv(self, *words: str) -> list[str]:
        return [
            "podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run",
            "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
            "--events-backend", "file", "--runtime", "crun", *words,
        ]  # fmt: skip

    def pull(self, reference: str) -> Sample:
        return self.measure("pull", "--quiet", "--tls-verify=false", reference)

    def stop(self) -> None:
        for words in (("rm", "--all", "--force", "--time", "0"), ("rmi", "--all", "--force")):
            subprocess.run(self.argv(*words), env=self.env, stderr=subprocess.DEVNULL, **QUIET)
        # It leaves empty groups behind; one that somebody uses cannot be removed.
        for name in ("libpod_parent/conmon", "libpod_parent"):
            for place in glob.glob(f"/sys/fs/cgroup/{name}") + glob.glob(
                f"/sys/fs/cgroup/*/{name}"
            ):
                with contextlib.suppress(OSError):
                    os.rmdir(place)


class Docker(Engine):
    """Debian's docker.io: a daemon of our own on a socket of our own, without networks."""

    name = "Docker"
    image = "bench:latest"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = "/usr/sbin/dockerd"
        if not os.path.exists(program) or not os.path.exists("/usr/bin/docker"):
            raise Broken("docker.io is not installed (bench/install-rivals)")
        with open(f"{self.folder}/log", "wb") as log:
            self.daemon = subprocess.Popen(
                [
                    program, "--data-root", f"{self.folder}/root",
                    "--exec-root", f"{self.folder}/run/exec", "--pidfile", f"{self.folder}/pid",
                    "--host", f"unix://{self.folder}/socket", "--bridge", "none",
                    "--iptables=false", "--storage-driver", "overlay2",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while subprocess.run(self.argv("info"), stderr=subprocess.DEVNULL, **QUIET).returncode:
            if time.monotonic() > deadline or self.daemon.poll() is not None:
                self.stop()
                raise Broken("dockerd does not start on this host")
            time.sleep(0.1)

    def argv(self, *words: str) -> list[str]:
        return ["/usr/bin/docker", "--host", f"unix://{self.folder}/socket", *words]

    def load(self, archive: str) -> None:
        super().load(archive)
        self.ask("tag", "localhost/bench:latest", self.image)

    def remove(self, *names: str) -> None:
        self.ask("rm", "--force", *names)

    def version(self) -> str:
        return "dockerd " + self.ask("info", "--format", "{{.ServerVersion}}").strip()

    def stop(self) -> None:
        if self.daemon is None:
            return
        listed = subprocess.run(self.argv("ps", "-aq"), capture_output=True, text=True)
        if listed.stdout.split():
            subprocess.run(self.argv("rm", "--force", *listed.stdout.split()),
                           stderr=subprocess.DEVNULL, **QUIET)  # fmt: skip
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        self.daemon = None


def list_native(engine: Strata, noun: str) -> list[dict[str, object]]:
    """The JSON of a listing verb of Strata."""
    value = json.loads(engine.ask(*noun.split(), "--format", "json") or "[]")
    assert isinstance(value, list)
    return value
