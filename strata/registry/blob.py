"""One blob on its way into a file: resumed, verified, written.

A blob is asked for from where its ``.partial`` file ends. Whatever the registry then does (ignores
the range, resumes elsewhere, names another version) leads to the same bytes or to an error, since
the running hash always covers exactly what is in the file.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import Protocol

from strata.errors import Busy, DigestMismatch, RegistryError
from strata.linux.write import write_all
from strata.oci import digest as digests
from strata.oci.manifest import Descriptor
from strata.registry.transport import Response, Transient, Transport, cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Called with digest, bytes so far and bytes in all, from any thread; "so far" goes back when a
    # download starts again.
    Progress = Callable[[str, int, int], None]

CHUNK = 1 << 18
# An attempt that moved at least this many bytes is not counted as a failed one.
PROGRESS = 1 << 20
# How often to look whether another command is done with the same blob, in seconds.
LOCK_POLL = 0.05


class BlobServer(Protocol):
    """What a download needs of the registry."""

    transport: Transport

    def open_blob(self, digest: str, headers: dict[str, str], what: str) -> Response:
        """GET a blob, answering challenges and following redirects; the body is unread."""

    def check_length(self, response: Response, expected: int, what: str) -> None:
        """Raise `DigestMismatch` when the answer declares another length."""

    def explain_refusal(self, response: Response, what: str) -> RegistryError:
        """The error for an answer that is not the content."""


class BlobDownload:
    """One blob on its way into a file; the file's bytes are always the hashed ones."""

    def __init__(
        self,
        server: BlobServer,
        repository: str,
        descriptor: Descriptor,
        destination: str,
        progress: Progress | None,
    ) -> None:
        self.server = server
        self.transport = server.transport
        self.descriptor = descriptor
        self.destination = destination
        self.partial = f"{destination}.partial"
        self.progress = progress
        self.what = f"reading blob {descriptor.digest} of {repository}"
        self.etag = ""
        self.fd = -1
        self.verifier = self._new_verifier()

    def run(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while not self._is_complete():
            self.fd = os.open(self.partial, flags, 0o600)
            try:
                if self._lock():
                    self._download()
                    return
            finally:
                os.close(self.fd)
        self._report()

    def _lock(self) -> bool:
        """Own the partial file; False when another command finished or removed it meanwhile.

        The lock is the kernel's and not inherited: it ends with this process. Waiting lasts as
        long as the file grows. Raises `Busy`.
        """
        size, deadline = -1, 0.0
        while True:
            now = os.fstat(self.fd).st_size
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if now != size:
                size, deadline = now, time.monotonic() + self.transport.policy.window
            elif time.monotonic() > deadline:
                raise Busy(
                    f"{self.what}: another command downloads it and makes no progress",
                    hint="wait for it to end, or stop it",
                )
            if self.transport.cancelled.wait(LOCK_POLL):
                raise cancelled()
        try:
            there = os.stat(self.partial, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.fd))

    def _download(self) -> None:
        """Bring the locked file to its end and give it its name."""
        resumed = self._rehash()
        while True:
            self._fill()
            try:
                self.verifier.finish()
                break
            except DigestMismatch:
                # What lay in the file before this call may be to blame; once.
                if not resumed:
                    os.unlink(self.partial)
                    raise
                resumed = False
                self._restart()
        os.rename(self.partial, self.destination)

    def _is_complete(self) -> bool:
        """Whether the file is there already and has the right content."""
        try:
            self.fd = os.open(self.destination, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            self._hash_file()
            self.verifier.finish()
            return True
        except DigestMismatch:
            os.unlink(self.destination)
            self.verifier = self._new_verifier()
            return False
        finally:
            os.close(self.fd)

    def _rehash(self) -> bool:
        """Take over what an earlier call left; return whether there was anything."""
        try:
            self._hash_file()
        except DigestMismatch:
            self._restart()
        return self.verifier.count > 0

    def _hash_file(self) -> None:
        while chunk := os.read(self.fd, 1 << 20):
            self.verifier.update(chunk)

    def _fill(self) -> None:
        """Request until the file has the size of the blob."""
        failures = 0
        size = self.descriptor.size
        self._report()
        while self.verifier.count < size:
            before = self.verifier.count
            try:
                self._attempt()
                continue
            except Transient as error:
                failures = 0 if self.verifier.count - before >= PROGRESS else failures + 1
                if failures >= self.transport.policy.attempts:
                    raise RegistryError(error.message, hint=error.hint) from None
                self.transport.pause(max(0, failures - 1), error)

    def _attempt(self) -> None:
        offset = self.verifier.count
        headers: dict[str, str] = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self.etag:
                headers["If-Range"] = self.etag
        response = self.server.open_blob(self.descriptor.digest, headers, self.what)
        try:
            self._accept(response, offset)
            self._copy(response)
        finally:
            self.transport.release(response)

    def _accept(self, response: Response, offset: int) -> None:
        """Check that the answer continues the file, or start the file again."""
        size = self.descriptor.size
        etag = response.headers.get("ETag", "")
        if response.status == 206 and offset:
            span = response.headers.get("Content-Range", "")
            same = not self.etag or not etag or etag == self.etag
            if same and span in (
                f"bytes {offset}-{size - 1}/{size}",
                f"bytes {offset}-{size - 1}/*",
            ):
                self.server.check_length(response, size - offset, self.what)
                return
            self._restart()
            raise Transient(
                f"{self.what}: the registry resumes at the wrong place",
                hint="the registry is damaged; try again or use another one",
            )
        if response.status == 416 and offset:
            self._restart()
            raise Transient(
                f"{self.what}: the registry cannot resume",
                hint="the registry is damaged; try again or use another one",
            )
        if response.status != 200:
            raise self.server.explain_refusal(response, self.what)
        self.server.check_length(response, size, self.what)
        if offset:
            self._restart()
        self.etag = etag if etag.startswith('"') and etag.isprintable() else ""

    def _copy(self, response: Response) -> None:
        policy = self.transport.policy
        mark, marked = time.monotonic(), self.verifier.count
        while chunk := self.transport.read(response, CHUNK, self.what):
            self.verifier.update(chunk)
            write_all(self.fd, chunk)
            self._report()
            now = time.monotonic()
            if now - mark >= policy.window:
                if self.verifier.count - marked < policy.rate * policy.window:
                    raise Transient(
                        f"{self.what}: slower than {policy.rate:g} bytes per second",
                        hint="the registry or the network is too slow; try again later",
                    )
                mark, marked = now, self.verifier.count
        if self.verifier.count < self.descriptor.size:
            raise Transient(
                f"{self.what}: the connection ended after {self.verifier.count} "
                f"of {self.descriptor.size} bytes",
                hint="the registry or the network is unreliable; what arrived is kept, try again",
            )

    def _restart(self) -> None:
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.verifier = self._new_verifier()
        self.etag = ""

    def _new_verifier(self) -> digests.Verifier:
        return digests.Verifier(self.descriptor.digest, self.descriptor.size, "blob")

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.descriptor.digest, self.verifier.count, self.descriptor.size)
