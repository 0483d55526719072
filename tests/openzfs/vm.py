"""The machine of the OpenZFS lane: one QEMU process without hardware virtualisation.

Disks: ``vda`` the read-only root, ``vdb`` the job (a bare tar archive), ``vdc`` an empty disk with
two partitions, for pools. The second serial port carries the conversation with ``strata-job``: it
says ``ready``, hears ``go …``, says ``exit N``. Both job and pool are unlinked files, and QEMU dies
with the process that started it, so nothing is left behind however a run ends.

`freeze` boots once, waits for ``ready`` and writes the memory to a file; `run` continues there.
That is possible because the root disk never changes and neither of the other disks has been read
by then.

As a program: ``vm.py freeze DIRECTORY`` (holding vmlinuz, initrd, root.ext4 and cmdline, what the
kernel is told beside its console).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

MEMORY_MB = 2048
JOB_SIZE = 128 << 20
POOL_SIZE = 16 << 30
_APPEND = "console=ttyS0 quiet loglevel=3 panic=-1 nokaslr mitigations=off"
#: the saved memory, beside vmlinuz, initrd, root.ext4 and cmdline
MEMORY = "memory.zst"


class MachineError(Exception):
    """The machine did not start, died or was too late."""


class TooLate(MachineError):
    """The deadline passed."""


class Machine:
    """A running QEMU. ``console`` is a descriptor for its first serial port's output."""

    def __init__(
        self, image: str, *, job: int, pool: int, console: int | None, terminal: bool = False,
        resume: bool = False,
    ) -> None:  # fmt: skip
        control, control_far = socket.socketpair()
        monitor, monitor_far = socket.socketpair()
        with open(f"{image}/cmdline") as file:
            append = f"{_APPEND} {file.read().strip()}"
        argv = [
            # no process survives its owner
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            # Without -cx16 the guest crashes under QEMU 7.2.
            "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16",
            "-smp", "2", "-m", str(MEMORY_MB), "-no-reboot",
            "-kernel", f"{image}/vmlinuz", "-initrd", f"{image}/initrd", "-append", append,
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", f"socket,id=control,fd={control_far.fileno()}",
            "-serial", "chardev:control",
            "-chardev", f"socket,id=monitor,fd={monitor_far.fileno()}",
            "-mon", "chardev=monitor,mode=control",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip
        disks = (
            (f"{image}/root.ext4", "on"),
            (f"/proc/self/fd/{job}", "on"),
            (f"/proc/self/fd/{pool}", "off"),
        )
        for number, (path, readonly) in enumerate(disks):
            argv += [
                "-drive",
                f"if=none,id=d{number},file={path},format=raw,read-only={readonly},cache=unsafe,"
                "discard=unmap,detect-zeroes=unmap",
                "-device", f"virtio-blk-pci,drive=d{number}",
            ]  # fmt: skip
        if resume:
            argv += ["-incoming", f"exec:zstd -dcq '{image}/{MEMORY}'"]
        self.process = subprocess.Popen(
            argv,
            stdin=None if terminal else subprocess.DEVNULL,
            stdout=console,
            pass_fds=(job, pool, control_far.fileno(), monitor_far.fileno()),
        )
        control_far.close()
        monitor_far.close()
        self._control = control
        self._monitor = monitor
        self._heard = b""
        self._events = b""

    def __enter__(self) -> Machine:
        self._command("qmp_capabilities")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._control.close()
        self._monitor.close()

    def _line(self, source: socket.socket, pending: bytes, deadline: float) -> tuple[bytes, bytes]:
        while b"\n" not in pending:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([source], [], [], max(0.0, left))
            if not ready:
                raise TooLate("the machine did not answer before the deadline")
            try:
                data = source.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise MachineError(f"the machine ended early (qemu: {self.process.wait()})")
            pending += data
        line, _, rest = pending.partition(b"\n")
        return line, rest

    def hear(self, deadline: float) -> str:
        """The next line from strata-job; ``deadline`` in seconds of the monotonic clock."""
        line, self._heard = self._line(self._control, self._heard, deadline)
        return line.decode(errors="replace").strip()

    def say(self, text: str) -> None:
        """Send a line to strata-job."""
        self._control.sendall(text.encode() + b"\n")

    def _message(self, deadline: float) -> dict[str, object]:
        line, self._events = self._line(self._monitor, self._events, deadline)
        answer: dict[str, object] = json.loads(line)
        return answer

    def _command(self, name: str, **arguments: object) -> dict[str, object]:
        """Run one monitor command; events that arrive meanwhile are dropped."""
        deadline = time.monotonic() + 120
        request = {"execute": name, "arguments": arguments}
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._message(deadline)
            if "error" in message:
                raise MachineError(f"qemu: {name}: {message['error']}")
            if "return" in message:
                answer = message["return"]
                return answer if isinstance(answer, dict) else {}

    def resume(self, deadline: float) -> None:
        """Wait until the saved memory is loaded, and let the processors run."""
        while self._command("query-status").get("status") == "inmigrate":
            if time.monotonic() > deadline:
                raise TooLate("the saved state did not load in time")
            time.sleep(0.05)
        self._command("cont")

    def quit(self) -> None:
        """End QEMU, which gives a terminal back as it found it."""
        self._monitor.sendall(b'{"execute": "quit"}\n')
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            pass

    def save(self, path: str, deadline: float) -> None:
        """Write the machine's memory to ``path``; it does not run afterwards."""
        self._command("stop")
        self._command("migrate-set-parameters", **{"max-bandwidth": 4 << 30})
        self._command("migrate", uri=f"exec:zstd -q -3 -T0 -f -o '{path}'")
        while (status := self._command("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise MachineError("the machine's state could not be saved")
            if time.monotonic() > deadline:
                raise TooLate("saving the state took too long")
            time.sleep(0.2)


def make_disk(size: int, *, partitions: int = 0) -> int:
    """Open an empty sparse file without a name; the descriptor is the caller's.

    With ``partitions`` the disk is divided into that many equal ones (at most four): given a bare
    disk, zpool makes its own and waits half a minute for a udev that the machine does not have.
    """
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        file.truncate(size)
        if partitions:
            length = size // 512 // partitions
            table = b""
            for number in range(partitions):
                first = number * length + (0 if number else 2048)
                table += struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xBF, b"\xff" * 3, first,
                                     (number + 1) * length - first)  # fmt: skip
            file.write(bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa")
            file.flush()
        return os.dup(file.fileno())


def make_job(file: IO[bytes]) -> int:
    """Turn an unnamed tar archive into the job disk; closes ``file``."""
    with file:
        if os.fstat(file.fileno()).st_size > JOB_SIZE:
            raise MachineError(f"the job is larger than {JOB_SIZE >> 20} MiB")
        file.truncate(JOB_SIZE)
        return os.dup(file.fileno())


def freeze(image: str, *, timeout: float = 900) -> None:
    """Boot until ready and save the memory in ``image``, with the console's text beside it."""
    path = f"{image}/{MEMORY}"
    deadline = time.monotonic() + timeout
    job, pool = make_disk(JOB_SIZE), make_disk(POOL_SIZE, partitions=2)
    with open(f"{path}.log", "wb") as log:
        machine = Machine(image, job=job, pool=pool, console=log.fileno())
    os.close(job)
    os.close(pool)
    with machine:
        word = machine.hear(deadline)
        if word != "ready":
            raise MachineError(f"expected ready, heard {word!r}")
        machine.save(path, deadline)


def run(
    image: str, job: int, *, timeout: float, shell: bool = False, console: int | None = None
) -> int:
    """Continue the saved machine in ``image`` with a job disk (closed here); return the job's
    exit status. The console goes to ``console``, by default standard output."""
    deadline = time.monotonic() + timeout
    pool = make_disk(POOL_SIZE, partitions=2)
    machine = Machine(image, job=job, pool=pool, console=console, terminal=shell, resume=True)
    os.close(job)
    os.close(pool)
    with machine:
        machine.resume(min(deadline, time.monotonic() + 180))
        size = shutil.get_terminal_size()
        mode = "shell" if shell else "batch"
        machine.say(f"go {int(time.time())} {mode} {size.columns} {size.lines}")
        words = machine.hear(deadline).split()
        if len(words) != 2 or words[0] != "exit":
            raise MachineError(f"expected an exit status, heard {words!r}")
        # The console was drained before the status was told: nothing is cut off.
        machine.quit()
        return int(words[1])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "freeze":
        sys.exit("usage: vm.py freeze DIRECTORY")
    try:
        freeze(sys.argv[2])
    except MachineError as error:
        sys.exit(f"vm.py: {error}")
