"""Reading images from a registry (OCI distribution spec 1.1; Docker's registry API v2).

Everything is verified here: manifests and configurations before they are parsed, blobs while they
are written. Nothing is believed because a header says so. Blobs are fetched by digest from the
registry that was named; ``urls`` in descriptors are never fetched.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TypeVar

from strata.errors import DigestMismatch, RegistryError, Unauthorized
from strata.oci import digest as digests
from strata.oci import manifest as manifests
from strata.oci.manifest import Descriptor
from strata.oci.reference import Reference, parse
from strata.registry import auth
from strata.registry.auth import Credentials
from strata.registry.blob import BlobDownload
from strata.registry.tokens import Authorizer
from strata.registry.transport import Policy, Response, Transient, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.registry.blob import Progress

_T = TypeVar("_T")

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
        self.transport = transport
        self._authorizer = Authorizer(transport, reference.repository, credentials)
        self._progress = progress
        self._connected = False
        self._connecting = threading.Lock()
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
            response = self.open_blob(descriptor.digest, {}, what)
            if response.status != 200:
                raise self.explain_refusal(response, what)
            self.check_length(response, descriptor.size, what)
            raw = self.transport.read_small(response, descriptor.size, what)
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
        BlobDownload(self, self._name, descriptor, destination, report).run()

    def cancel(self) -> None:
        """Make running and later requests of every thread fail soon."""
        self.transport.cancel()

    def close(self) -> None:
        """Cancel what runs and close all connections."""
        self.transport.close()

    def open_blob(self, digest: str, headers: dict[str, str], what: str) -> Response:
        """GET a blob, answering challenges and following redirects; the body is unread."""
        return self._open(f"blobs/{digest}", headers, what)

    def check_length(self, response: Response, expected: int, what: str) -> None:
        """Raise `DigestMismatch` when the answer declares another length."""
        declared = response.headers.get("Content-Length")
        if declared is not None and declared.strip() != str(expected):
            self.transport.release(response)
            raise DigestMismatch(
                f"{what}: the registry sends {_printable(declared, 20)} bytes, expected {expected}",
                hint="the registry is damaged or dishonest; try again or use another one",
            )

    def explain_refusal(self, response: Response, what: str) -> RegistryError:
        """The error for an answer that is not the content; reads its body."""
        status = response.status
        try:
            raw = self.transport.read_small(response, ERROR_LIMIT, what)
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
        return RegistryError(
            f"{what}: the registry answered {status}{detail}",
            hint="this may not be a registry, or it is broken; check the name",
        )

    @property
    def _name(self) -> str:
        return self.reference.repository_name

    def _get_document(self, name: str, digest: str, entry: Descriptor | None) -> tuple[bytes, str]:
        what = f"reading manifest {name} in {self._name}"

        def attempt() -> tuple[bytes, str]:
            response = self._open(f"manifests/{name}", {"Accept": _ACCEPT}, what)
            if response.status != 200:
                raise self.explain_refusal(response, what)
            declared = response.headers.get("Content-Type", "")
            promised = response.headers.get("Docker-Content-Digest", "")
            raw = self.transport.read_small(response, manifests.MANIFEST_LIMIT, what)
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
        """Find the scheme and answer the first challenge, once for all threads."""

        def attempt() -> None:
            response = self.transport.connect()
            challenge = _challenge(response) if response.status == 401 else ""
            self.transport.drain(response)
            if challenge:
                self._authorizer.answer(challenge, None)

        with self._connecting:
            if not self._connected:
                self._retry(attempt)
                self._connected = True

    def _open(self, path: str, headers: dict[str, str], what: str) -> Response:
        """GET below the repository, answering the registry's challenge once."""
        self._connect()
        registry = self.transport.origin
        url = f"{registry}/v2/{self.reference.repository}/{path}"
        for _ in range(2):
            used = self._authorizer.header
            response, origin = self.transport.get(url, headers, used, what)
            if response.status != 401 or origin != registry:
                return response
            challenge = _challenge(response)
            if not challenge or not self._authorizer.answer(challenge, used):
                return response
            self.transport.drain(response)
        response, _ = self.transport.get(url, headers, self._authorizer.header, what)
        return response

    def _retry(self, attempt: Callable[[], _T]) -> _T:
        for number in range(self.transport.policy.attempts):
            try:
                return attempt()
            except Transient as error:
                if number + 1 >= self.transport.policy.attempts:
                    raise RegistryError(error.message, hint=error.hint) from None
                self.transport.pause(number, error)
        raise AssertionError("unreachable")


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
