"""Reading images from a registry (OCI distribution spec 1.1; Docker's registry API v2).

Everything is verified here: manifests and configurations before they are parsed, blobs while they
are written. Nothing is believed because a header says so. Blobs are fetched by digest from the
registry that was named; ``urls`` in descriptors are never fetched.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from strata.errors import DigestMismatch, RegistryError, Unauthorized
from strata.oci import digest as digests
from strata.oci import manifest as manifests
from strata.oci.manifest import Descriptor
from strata.oci.reference import Reference, parse
from strata.registry import auth
from strata.registry.auth import Credentials
from strata.registry.progress import Progress
from strata.registry.tokens import Authorizer
from strata.registry.transport import Policy, Response, Transient, Transport, WrongScheme

CHUNK = 1 << 18
# An attempt that moved at least this many bytes is not counted as a failed one.
PROGRESS = 1 << 20
ERROR_LIMIT = 64 << 10
INDEX_DEPTH = 3

_ACCEPT = ", ".join(manifests.MANIFEST_TYPES + manifests.INDEX_TYPES)


class ManifestUnknown(RegistryError):
    """The registry has no such tag, digest or repository."""

    id = "manifest-unknown"


def open_source(
    reference: Reference | str,
    *,
    platform: str | None = None,
    authfile: str | None = None,
    credentials: Credentials | tuple[str, str] | str | None = None,
    tls_verify: bool | None = None,
    progress: Progress | None = None,
    policy: Policy | None = None,
    connections: int = 4,
) -> RegistrySource:
    """Prepare to read an image; nothing is sent before the first ``get_manifest``.

    ``credentials`` (``"user:password"``, a pair or `Credentials`) win over auth files.
    ``tls_verify`` None means https, and plain http for a registry on the loopback; True means
    https only; False accepts any certificate, then plain http. ``progress`` is the default of
    ``fetch``. Raises `UsageError` subclasses.
    """
    if isinstance(reference, str):
        reference = parse(reference)
    if isinstance(credentials, str):
        credentials = auth.parse_credentials(credentials)
    elif isinstance(credentials, tuple):
        credentials = Credentials(*credentials)
    if credentials is None:
        credentials = auth.find_credentials(reference, authfile)
    chosen = manifests.parse_platform(platform) if platform else manifests.host_platform()
    transport = Transport(
        reference.registry,
        tls_verify=tls_verify,
        policy=policy or Policy(),
        connections=connections,
    )
    return RegistrySource(reference, chosen, transport, credentials, progress)


class RegistrySource:
    """An image in a registry (the ImageSource interface). ``fetch`` may run in several threads.

    After `get_manifest`: ``top_digest`` is the digest the name stands for (an index's where there
    is one), ``manifest_digest`` that of the platform's manifest.
    """

    def __init__(
        self,
        reference: Reference,
        platform: manifests.Platform,
        transport: Transport,
        credentials: Credentials | None,
        progress: Progress | None,
    ) -> None:
        self.reference = reference
        self.platform = platform
        self.top_digest = ""
        self.manifest_digest = ""
        self._transport = transport
        self._policy = transport.policy
        self._authorizer = Authorizer(transport, reference.repository, credentials)
        self._progress = progress
        self._connected = False
        self._chosen: tuple[bytes, str] | None = None

    def __enter__(self) -> RegistrySource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_manifest(self) -> tuple[bytes, str]:
        """The raw manifest of the chosen platform and its media type.

        Indexes are followed by platform. Raises `ManifestUnknown`, `Unauthorized`,
        `DigestMismatch`, `InvalidDocument` or another `RegistryError`.
        """
        if self._chosen is not None:
            return self._chosen
        reference = self.reference
        raw, kind = self._get_document(reference.digest or reference.tag, reference.digest, None)
        self.top_digest = reference.digest or digests.of(raw)
        self.manifest_digest = self.top_digest
        for _ in range(INDEX_DEPTH):
            if kind not in manifests.INDEX_TYPES:
                break
            entry = manifests.choose_platform(manifests.parse_index(raw, kind), self.platform)
            raw, kind = self._get_document(entry.digest, entry.digest, entry)
            self.manifest_digest = entry.digest
        else:
            if kind in manifests.INDEX_TYPES:
                raise manifests.InvalidDocument("the image is an index nested too deeply")
        self._chosen = raw, kind
        return self._chosen

    def get_config(self, descriptor: Descriptor) -> bytes:
        """The raw image configuration, verified."""
        what = f"reading config {descriptor.digest} of {self._name}"
        if descriptor.size > manifests.CONFIG_LIMIT:
            raise RegistryError(
                f"{what}: larger than {manifests.CONFIG_LIMIT >> 20} MiB",
                hint="such an image cannot be used; ask its maker",
            )

        def attempt() -> bytes:
            response = self._open(f"blobs/{descriptor.digest}", {}, what)
            if response.status != 200:
                raise self._refused(response, what)
            self._check_length(response, descriptor.size, what)
            raw = self._transport.read_small(response, descriptor.size, what)
            digests.check(raw, descriptor.digest, descriptor.size, "config")
            return raw

        return self._retry(attempt)

    def fetch(
        self, descriptor: Descriptor, destination: str, progress: Progress | None = None
    ) -> None:
        """Write a verified blob to a path.

        Bytes collect in ``destination.partial``, which a later call continues after reading it
        again; a finished file is trusted only after hashing it. Raises `RegistryError`,
        `DigestMismatch`, or `OSError` when the file cannot be written.
        """
        report = progress or self._progress
        _Download(self, descriptor, destination, report).run()

    def cancel(self) -> None:
        """Make running and later requests of every thread fail soon."""
        self._transport.cancel()

    def close(self) -> None:
        """Cancel what runs and close all connections."""
        self._transport.close()

    @property
    def _name(self) -> str:
        return self.reference.repository_name

    def _get_document(self, name: str, digest: str, entry: Descriptor | None) -> tuple[bytes, str]:
        what = f"reading manifest {name} in {self._name}"

        def attempt() -> tuple[bytes, str]:
            response = self._open(f"manifests/{name}", {"Accept": _ACCEPT}, what)
            if response.status != 200:
                raise self._refused(response, what)
            declared = response.headers.get("Content-Type", "")
            promised = response.headers.get("Docker-Content-Digest", "")
            raw = self._transport.read_small(response, manifests.MANIFEST_LIMIT, what)
            if digest:
                digests.check(raw, digest, entry.size if entry else None, "manifest")
            elif promised and digests.is_valid(promised):
                digests.check(raw, promised, None, "manifest")
            elif promised:
                raise DigestMismatch(
                    f"{what}: the registry names an invalid digest",
                    hint="the registry is misconfigured or dishonest",
                )
            return raw, manifests.detect_media_type(raw, declared)

        return self._retry(attempt)

    def _connect(self) -> None:
        what = f"pinging container registry {self.reference.registry}"

        def attempt() -> None:
            response = self._transport.connect()
            challenge = _challenge(response) if response.status == 401 else ""
            self._transport.release(response)
            if challenge:
                self._authorizer.answer(challenge, None)

        if not self._connected:
            try:
                self._retry(attempt)
            except WrongScheme as error:
                raise RegistryError(
                    f"{what}: {error.message.rpartition(': ')[2]}", hint=error.hint
                ) from None
            self._connected = True

    def _open(self, path: str, headers: dict[str, str], what: str) -> Response:
        """GET below the repository, answering the registry's challenge once."""
        self._connect()
        registry = self._transport.origin
        url = f"{registry}/v2/{self.reference.repository}/{path}"
        for _ in range(2):
            used = self._authorizer.header
            response, origin = self._transport.get(url, headers, used, what)
            if response.status != 401 or origin != registry:
                return response
            challenge = _challenge(response)
            if not challenge or not self._authorizer.answer(challenge, used):
                return response
            self._transport.release(response)
        response, _ = self._transport.get(url, headers, self._authorizer.header, what)
        return response

    def _retry(self, attempt: Any) -> Any:
        for number in range(self._policy.attempts):
            try:
                return attempt()
            except Transient as error:
                if number + 1 >= self._policy.attempts:
                    raise RegistryError(error.message, hint=error.hint) from None
                self._transport.pause(number, error)
        raise AssertionError("unreachable")

    def _check_length(self, response: Response, expected: int, what: str) -> None:
        declared = response.headers.get("Content-Length")
        if declared is not None and declared.strip() != str(expected):
            self._transport.release(response)
            raise DigestMismatch(
                f"{what}: the registry sends {_printable(declared, 20)} bytes, expected {expected}",
                hint="the registry is damaged or dishonest; try again or use another one",
            )

    def _refused(self, response: Response, what: str) -> RegistryError:
        """The error for an answer that is not the content; reads its body."""
        status = response.status
        try:
            raw = self._transport.read_small(response, ERROR_LIMIT, what)
        except RegistryError:
            raw = b""
        code, message = _error(raw)
        if status == 401 or code == "UNAUTHORIZED":
            return Unauthorized(
                f"{what}: unauthorized: {message or 'authentication required'}",
                hint="give credentials with --creds or --authfile; the image may also not exist",
            )
        if status == 403 or code == "DENIED":
            return Unauthorized(
                f"{what}: denied: {message or 'requested access to the resource is denied'}",
                hint="these credentials may not read the image; it may also not exist",
            )
        if status == 404:
            text = {
                "MANIFEST_UNKNOWN": "manifest unknown",
                "NAME_UNKNOWN": "name unknown: repository name not known to registry",
                "BLOB_UNKNOWN": "blob unknown to registry",
            }.get(code, message or "manifest unknown")
            return ManifestUnknown(f"{what}: {text}", hint="check the name and the tag")
        detail = f" ({message})" if message else ""
        return RegistryError(f"{what}: the registry answered {status}{detail}")


class _Download:
    """One blob on its way into a file; the file's bytes are always the hashed ones."""

    def __init__(
        self,
        source: RegistrySource,
        descriptor: Descriptor,
        destination: str,
        progress: Progress | None,
    ) -> None:
        self.source = source
        self.transport = source._transport
        self.descriptor = descriptor
        self.destination = destination
        self.partial = f"{destination}.partial"
        self.progress = progress
        self.what = f"reading blob {descriptor.digest} of {source.reference.repository_name}"
        self.etag = ""
        self.fd = -1
        self.verifier = self._new_verifier()

    def run(self) -> None:
        if self._is_complete():
            self._report()
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(self.partial, flags, 0o600)
        try:
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
        finally:
            os.close(self.fd)

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
                if failures >= self.source._policy.attempts:
                    raise RegistryError(error.message, hint=error.hint) from None
                self.transport.pause(max(0, failures - 1), error)

    def _attempt(self) -> None:
        offset = self.verifier.count
        headers: dict[str, str] = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self.etag:
                headers["If-Range"] = self.etag
        response = self.source._open(f"blobs/{self.descriptor.digest}", headers, self.what)
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
                self.source._check_length(response, size - offset, self.what)
                return
            self._restart()
            raise Transient(
                f"{self.what}: the registry resumes at the wrong place",
                hint="the registry is damaged; try again or use another one",
            )
        if response.status == 416 and offset:
            self._restart()
            raise Transient(f"{self.what}: the registry cannot resume")
        if response.status != 200:
            raise self.source._refused(response, self.what)
        self.source._check_length(response, size, self.what)
        if offset:
            self._restart()
        self.etag = etag if etag.startswith('"') and etag.isprintable() else ""

    def _copy(self, response: Response) -> None:
        policy = self.source._policy
        mark, marked = time.monotonic(), self.verifier.count
        while chunk := self.transport.read(response, CHUNK, self.what):
            self.verifier.update(chunk)
            _write_all(self.fd, chunk)
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


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


def _challenge(response: Response) -> str:
    """All WWW-Authenticate headers as one list."""
    return response.headers.get("WWW-Authenticate", "")


def _error(raw: bytes) -> tuple[str, str]:
    """Code and message of the first error of a registry's error document, made printable."""
    try:
        first = json.loads(raw.decode("utf-8"))["errors"][0]
        code, message = first.get("code"), first.get("message")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return (
        code if isinstance(code, str) else "",
        _printable(message, 200) if isinstance(message, str) else "",
    )


def _printable(text: str, limit: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:limit])
