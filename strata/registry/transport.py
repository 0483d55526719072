"""HTTP to one registry: TLS policy, choice of scheme, redirects, timeouts, plain error sentences.

https always. Plain http is spoken only to a registry on the loopback, or to one for which the
user switched verification off. Redirects are followed by hand, at most five: never from https to
http, and ``Authorization`` stays behind when scheme, host or port changes. Addresses in messages
lose their query, which may hold signatures.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError

from strata import __version__
from strata.errors import RegistryError

REDIRECT_LIMIT = 5
DRAIN_LIMIT = 64 << 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")

Response = urllib3.BaseHTTPResponse


class Policy:
    """Deadlines and retries, in seconds and bytes.

    ``read`` is the longest silence, ``small`` the longest time for a manifest or token, and
    ``rate`` (bytes per second, judged every ``window``) what a blob must not stay below.
    """

    __slots__ = (
        "attempts", "backoff", "backoff_cap", "connect", "rate", "read", "retry_after_cap",
        "small", "window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        connect: float = 15.0,
        read: float = 60.0,
        small: float = 90.0,
        window: float = 60.0,
        rate: float = 1024.0,
        attempts: int = 5,
        backoff: float = 0.5,
        backoff_cap: float = 8.0,
        retry_after_cap: float = 60.0,
    ) -> None:
        self.connect = connect
        self.read = read
        self.small = small
        self.window = window
        self.rate = rate
        self.attempts = attempts
        self.backoff = backoff
        self.backoff_cap = backoff_cap
        self.retry_after_cap = retry_after_cap


class Transient(RegistryError):
    """A failure that may pass: worth another attempt. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unreachable(RegistryError):
    """Nothing answers at the address: no retry, the name is likely wrong."""

    id = "registry-unreachable"


class WrongScheme(RegistryError):
    """The other side does not speak TLS, or does not speak without it."""


class Origin:
    """Scheme, host and port of a URL: who gets credentials. Raises `RegistryError`."""

    __slots__ = ("host", "port", "scheme")

    def __init__(self, url: str) -> None:
        # The parser of the HTTP library itself: if ours read another host out of the same text,
        # credentials would go where nobody looked.
        try:
            parts = urllib3.util.parse_url(url)
        except (HTTPError, ValueError):
            parts = urllib3.util.Url()
        host = (parts.host or "").strip("[]")
        clean = url.isprintable() and "\\" not in url and " " not in url
        if parts.scheme not in ("http", "https") or not host or not clean:
            raise RegistryError(
                f"the registry names an invalid address {_redact(url)}",
                hint="the registry is misconfigured or dishonest",
            )
        self.scheme = parts.scheme
        self.host = host.lower()
        self.port = parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine by name or address."""
        return is_loopback(self.host)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1; names that merely resolve there do not count."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Transport:
    """Connections for the pull of one image; usable from several threads."""

    def __init__(
        self, registry: str, *, tls_verify: bool | None, policy: Policy, connections: int = 4
    ) -> None:
        self.registry = registry
        self.policy = policy
        self.connections = connections
        self.cancelled = threading.Event()
        self._verify = tls_verify
        self._host = {"docker.io": "registry-1.docker.io"}.get(registry, registry)
        self._pools: dict[Origin, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._active: set[Response] = set()
        # The connection on which each thread waits for the head of an answer.
        self._waiting: dict[int, Any] = {}
        # Set by connect().
        self.origin = Origin(f"https://{self._host}")

    def connect(self) -> Response:
        """Find the scheme by asking for ``/v2/``; return the answer, body unread."""
        loopback = self.origin.loopback
        schemes = ["https"]
        if self._verify is False:
            schemes = ["https", "http"]
        elif self._verify is None and loopback:
            # Nobody is between us and the loopback, and a TLS greeting makes simple servers hang.
            schemes = ["http", "https"]
        what = f"pinging container registry {self.registry}"
        failures: list[RegistryError] = []
        for scheme in schemes:
            self.origin = Origin(f"{scheme}://{self._host}")
            try:
                response = self._send("GET", f"{self.origin}/v2/", {}, None, what)
            except (WrongScheme, Unreachable, Transient) as error:
                failures.append(error)
                continue
            if scheme == "http" and response.status == 400 and len(schemes) > 1 and loopback:
                self.release(response)
                failures.append(
                    WrongScheme(
                        f"{what}: the registry does not speak plain http", hint="check its port"
                    )
                )
                continue
            return response
        raise failures[0] if not isinstance(failures[0], WrongScheme) else failures[-1]

    def get(
        self, url: str, headers: dict[str, str], authorization: str | None, what: str
    ) -> tuple[Response, Origin]:
        """GET with redirects; return the final answer, body unread, and who gave it."""
        origin = Origin(url)
        for _ in range(REDIRECT_LIMIT + 1):
            response = self._send("GET", url, headers, authorization, what)
            if response.status not in _REDIRECTS:
                return response, origin
            location = response.headers.get("Location", "")
            self.drain(response)
            if not location:
                raise RegistryError(
                    f"{what}: redirected without an address", hint="the registry is misconfigured"
                )
            try:
                target_url = urljoin(url, location)
            except ValueError:
                target_url = ""
            target = Origin(target_url)
            if origin.scheme == "https" and target.scheme != "https":
                raise RegistryError(
                    f"{what}: refusing a redirect from https to plain http at {target.host}",
                    hint="the registry is misconfigured or dishonest",
                )
            if target != origin:
                authorization = None
            url, origin = target_url, target
        raise RegistryError(
            f"{what}: stopped after {REDIRECT_LIMIT} redirects",
            hint="the registry is misconfigured; try again later or use another one",
        )

    def post(self, url: str, headers: dict[str, str], body: bytes, what: str) -> Response:
        """POST without following redirects; the body is unread."""
        return self._send("POST", url, headers, None, what, body)

    def read_small(self, response: Response, limit: int, what: str) -> bytes:
        """The body of a small answer; raise `RegistryError` past ``limit`` bytes or the deadline.

        The connection goes back to its pool.
        """
        declared = response.headers.get("Content-Length", "")
        if _is_number(declared) and int(declared[:20]) > limit:
            self.release(response)
            raise _too_large(what, limit)
        deadline = time.monotonic() + self.policy.small
        chunks: list[bytes] = []
        count = 0
        try:
            while chunk := self.read(response, 65536, what):
                count += len(chunk)
                if count > limit:
                    raise _too_large(what, limit)
                if time.monotonic() > deadline:
                    raise Transient(
                        f"{what}: no complete answer within {self.policy.small:g} s",
                        hint="the registry or the network is too slow; try again later",
                    )
                chunks.append(chunk)
        finally:
            self.release(response)
        if _is_number(declared) and int(declared[:20]) != count:
            raise Transient(
                f"{what}: the connection ended after {count} of {declared} bytes",
                hint="check the network and try again",
            )
        return b"".join(chunks)

    def read(self, response: Response, amount: int, what: str) -> bytes:
        """What has arrived of a body, up to ``amount`` bytes; b"" at the end."""
        if self.cancelled.is_set():
            raise cancelled()
        try:
            return response.read1(amount, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            if self.cancelled.is_set():
                raise cancelled() from None
            raise self._explain(error, what) from None

    def release(self, response: Response) -> None:
        """Give up an answer; its connection is used again only if the body was read."""
        with self._lock:
            self._active.discard(response)
        try:
            # The read marks the end of a body that was read to its last byte.
            if getattr(response, "length_remaining", None) != 0 or response.read(1):
                response.close()
            response.release_conn()
        except (HTTPError, OSError):
            pass

    def drain(self, response: Response) -> None:
        """Give up an answer whose body nobody needs, keeping its connection if that is cheap."""
        remaining = getattr(response, "length_remaining", None)
        if isinstance(remaining, int) and remaining <= DRAIN_LIMIT:
            try:
                self.read_small(response, DRAIN_LIMIT, "reading an answer")
            except RegistryError:
                pass
        else:
            self.release(response)

    def cancel(self) -> None:
        """Make every thread that uses this transport fail soon, also one that is reading."""
        self.cancelled.set()
        with self._lock:
            active = list(self._active)
            waiting = list(self._waiting)
        for thread in waiting:
            self._interrupt(thread)
        for response in active:
            try:
                response.shutdown()
            except (HTTPError, OSError, ValueError, RuntimeError):
                pass

    def close(self) -> None:
        """Close all connections."""
        self.cancel()
        for pool in self._pools.values():
            pool.clear()

    def pause(self, attempt: int, error: Transient) -> None:
        """Wait before attempt number ``attempt`` + 1, or until cancelled."""
        import random

        delay = min(self.policy.backoff * 2**attempt, self.policy.backoff_cap)
        delay *= 0.75 + random.random() / 2
        if error.retry_after is not None:
            delay = min(max(delay, error.retry_after), self.policy.retry_after_cap)
        if self.cancelled.wait(delay):
            raise cancelled()

    def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        authorization: str | None,
        what: str,
        body: bytes | None = None,
    ) -> Response:
        if self.cancelled.is_set():
            raise cancelled()
        sent = {
            "User-Agent": f"strata/{__version__}",
            # Bodies are hashed as they come; nobody may compress them on the way.
            "Accept-Encoding": "identity",
            **headers,
        }
        if authorization is not None:
            sent["Authorization"] = authorization
        pool = self._pool(Origin(url))
        # A read timeout is about silence. This is about servers that never finish their headers.
        alarm = threading.Timer(self.policy.small, self._interrupt, (threading.get_ident(),))
        alarm.daemon = True
        alarm.start()
        try:
            response = pool.request(
                method, url, headers=sent, body=body, redirect=False, retries=False,
                preload_content=False, decode_content=False,
            )  # fmt: skip
        except (HTTPError, OSError, ValueError) as error:
            raise self._explain(error, what) from None
        finally:
            alarm.cancel()
            with self._lock:
                self._waiting.pop(threading.get_ident(), None)
        with self._lock:
            self._active.add(response)
        if response.status in (408, 425, 429) or response.status >= 500:
            status, wait = response.status, _retry_after(response.headers.get("Retry-After"))
            self.release(response)
            text = {429: "too many requests", 503: "service unavailable"}.get(status, "")
            raise Transient(
                f"{what}: the registry answered {status}{f' ({text})' if text else ''}",
                hint="the registry is busy or broken; try again later",
                retry_after=wait,
            )
        return response

    def _pool(self, origin: Origin) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = self._make_pool(origin)
            return pool

    def _make_pool(self, origin: Origin) -> urllib3.PoolManager:
        manager: urllib3.PoolManager
        options: dict[str, Any] = {
            "maxsize": self.connections,
            "timeout": urllib3.Timeout(connect=self.policy.connect, read=self.policy.read),
        }
        if origin.scheme == "https":
            # Switching verification off is about the registry, not about whom it points to.
            insecure = self._verify is False and origin == self.origin
            if insecure:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            options["ssl_context"] = _tls_context(origin, insecure=insecure)
        proxy = _find_proxy(origin)
        if proxy:
            user = urllib3.util.parse_url(proxy)
            auth = urllib3.make_headers(proxy_basic_auth=user.auth) if user.auth else None
            bare = user._replace(auth=None).url
            manager = urllib3.ProxyManager(bare, proxy_headers=auth, **options)
        else:
            manager = urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = {
            "http": self._watch(urllib3.HTTPConnectionPool),
            "https": self._watch(urllib3.HTTPSConnectionPool),
        }
        return manager

    def _watch(self, pool: type[Any]) -> type[Any]:
        """A pool whose connections tell which thread waits on them, so that it can be freed."""
        transport, base = self, pool.ConnectionCls

        def request(self: Any, *arguments: Any, **options: Any) -> None:
            with transport._lock:
                transport._waiting[threading.get_ident()] = self
            base.request(self, *arguments, **options)

        connection = type(base.__name__, (base,), {"request": request})
        return type(pool.__name__, (pool,), {"ConnectionCls": connection})

    def _interrupt(self, thread: int) -> None:
        """End the wait of a thread for the head of an answer."""
        with self._lock:
            sock = getattr(self._waiting.get(thread), "sock", None)
        try:
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _explain(self, error: Exception, what: str) -> RegistryError:
        """One sentence for a failure of the connection; the original may hold secrets."""
        if self.cancelled.is_set():
            return cancelled()
        kind = urllib3.exceptions
        cause: BaseException = error
        if isinstance(error, kind.ProxyError) and error.original_error is not None:
            cause = error.original_error
        if isinstance(cause, kind.SSLError):
            return self._explain_tls(cause, what)
        if isinstance(cause, kind.NameResolutionError):
            return Unreachable(f"{what}: no such host", hint="check the name of the registry")
        if isinstance(cause, kind.ConnectTimeoutError) and not isinstance(
            cause, kind.NewConnectionError
        ):
            return Transient(f"{what}: connection timed out", hint="check the network")
        if isinstance(cause, kind.NewConnectionError):
            return Unreachable(
                f"{what}: {_system_error(cause)}",
                hint="check the name of the registry and its port",
            )
        if isinstance(cause, (kind.ReadTimeoutError, TimeoutError)):
            return Transient(
                f"{what}: no data for {self.policy.read:g} s",
                hint="the registry or the network is too slow; try again later",
            )
        if isinstance(cause, (kind.LocationParseError, kind.LocationValueError)):
            return RegistryError(
                f"{what}: the registry names an invalid address",
                hint="the registry is misconfigured or dishonest",
            )
        return Transient(f"{what}: the connection was lost", hint="check the network and try again")

    def _explain_tls(self, error: BaseException, what: str) -> RegistryError:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
            return RegistryError(
                f"{what}: tls: failed to verify certificate: {reason or 'unknown authority'}",
                hint=f"install its CA as {_CERTIFICATES[0]}/{self._host}/ca.crt, "
                "or use --tls-verify=false",
            )
        wrong = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER")
        if any(word in text for word in wrong):
            return WrongScheme(
                f"{what}: http: server gave HTTP response to HTTPS client",
                hint="only https is used beyond this machine; --tls-verify=false allows plain http",
            )
        return Transient(f"{what}: the TLS connection failed", hint="check the network")


def cancelled() -> RegistryError:
    """The error of a thread whose work nobody needs any more."""
    return RegistryError("the download was cancelled", hint="start it again; it continues")


def _too_large(what: str, limit: int) -> RegistryError:
    return RegistryError(
        f"{what}: the answer is larger than {limit} bytes",
        hint="the registry is misconfigured or dishonest",
    )


def _system_error(error: BaseException) -> str:
    """``connection refused`` from urllib3's "Failed to establish a new connection: [Errno …]"."""
    text = str(error).rpartition("] ")[2] or "connection failed"
    return text.lower() if text.isascii() else "connection failed"


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header: a number or an HTTP date."""
    if not value:
        return None
    if _is_number(value.strip()):
        return float(value.strip()[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _is_number(text: str) -> bool:
    # isdigit alone takes superscripts, which int() does not.
    return text.isascii() and text.isdigit()


def _redact(url: str) -> str:
    """An address for a message: no user, no query, bounded."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    if "@" in rest.partition("/")[0]:
        rest = rest.partition("@")[2]
    return ascii((scheme + separator + rest)[:150])


def _find_proxy(origin: Origin) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    if origin.loopback:
        return None
    proxies = getproxies()
    if not proxies or proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    return proxies.get(origin.scheme)


def _tls_context(origin: Origin, *, insecure: bool) -> Any:
    """TLS settings with the host's own certificates (containers-certs.d(5))."""
    import ssl

    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    names = [f"{origin.host}:{origin.port}"]
    if origin.port == 443:
        names.append(origin.host)
    for folder in (f"{base}/{name}" for base in _CERTIFICATES for name in names):
        try:
            files = sorted(os.listdir(folder))
        except OSError:
            continue
        try:
            for name in files:
                if name.endswith(".crt"):
                    context.load_verify_locations(f"{folder}/{name}")
                elif name.endswith(".cert"):
                    context.load_cert_chain(f"{folder}/{name}", f"{folder}/{name[:-5]}.key")
        except (OSError, ssl.SSLError):
            raise RegistryError(
                f"a certificate in {folder} cannot be read", hint="remove or repair it"
            ) from None
    return context
