"""Answering a registry's challenge: Basic, or Bearer tokens (distribution spec, token auth).

Who gets the credentials is decided here. Only a challenge of the registry itself counts, never
one met after a redirect. Over https the realm must be https as well; a realm over plain http is
asked only for a registry that is itself spoken to over plain http, and it gets credentials only
when both are on this machine.
"""

from __future__ import annotations

import json
import threading
from urllib.parse import urlencode

from strata.errors import RegistryError, Unauthorized
from strata.registry.auth import Credentials
from strata.registry.transport import Origin, Transport

TOKEN_LIMIT = 256 << 10
CHALLENGE_LIMIT = 8 << 10

_TOKEN_CHARS = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


def parse_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """Parse ``WWW-Authenticate`` (RFC 9110, 11.6.1) into lower-case schemes and parameters.

    Lenient about nothing: what does not parse ends the list.
    """
    challenges: list[tuple[str, dict[str, str]]] = []
    text, position = header[:CHALLENGE_LIMIT], 0
    while position < len(text):
        position = _skip(text, position, " \t,")
        word, position = _word(text, position)
        if not word:
            break
        after = _skip(text, position, " \t")
        if after < len(text) and text[after] == "=" and challenges:
            value, position = _value(text, _skip(text, after + 1, " \t"))
            if value is None:
                break
            challenges[-1][1].setdefault(word.lower(), value)
        else:
            challenges.append((word.lower(), {}))
    return challenges


class Authorizer:
    """Authorization headers for one repository, shared by the threads of a pull."""

    def __init__(
        self, transport: Transport, repository: str, credentials: Credentials | None
    ) -> None:
        self._transport = transport
        self._scope = f"repository:{repository}:pull"
        self._credentials = credentials
        self._lock = threading.Lock()
        self._header: str | None = None

    @property
    def header(self) -> str | None:
        """The header to send now, or None before a challenge."""
        return self._header

    def answer(self, challenge: str, used: str | None) -> bool:
        """Get a new header for a challenge of the registry; False when there is nothing to try.

        ``used`` is the header that was refused: if another thread has replaced it meanwhile, the
        new one is taken. Raises `Unauthorized` or `RegistryError`.
        """
        with self._lock:
            if self._header != used:
                return True
            schemes = parse_challenges(challenge)
            bearer = next((params for name, params in schemes if name == "bearer"), None)
            if bearer is not None:
                header = f"Bearer {self._fetch_token(bearer)}"
            elif any(name == "basic" for name, _ in schemes) and self._can_use_basic():
                assert self._credentials is not None
                header = self._credentials.basic
            else:
                return False
            if header == used:
                return False
            self._header = header
            return True

    def _can_use_basic(self) -> bool:
        if self._credentials is None or not self._credentials.username:
            return False
        self._require_private(self._transport.origin)
        return True

    def _require_private(self, origin: Origin) -> None:
        """Credentials travel over https, or on the loopback of a loopback registry."""
        registry = self._transport.origin
        if origin.scheme == "https" or (origin.loopback and registry.loopback):
            return
        raise RegistryError(
            f"refusing to send credentials to {origin.host} over plain http",
            hint="use https for a registry that needs a login",
        )

    def _fetch_token(self, params: dict[str, str]) -> str:
        registry = self._transport.origin
        realm = params.get("realm", "")
        try:
            target = Origin(realm)
        except RegistryError:
            raise RegistryError(
                "the registry's challenge names no valid token server",
                hint="the registry is misconfigured or dishonest",
            ) from None
        if target.scheme == "http" and (
            registry.scheme == "https" or (target.loopback and not registry.loopback)
        ):
            raise RegistryError(
                f"refusing the token server {target.host}: it is not reached over https",
                hint="the registry is misconfigured or dishonest",
            )
        what = f"requesting a token for {self._transport.registry} from {target.host}"
        query = [("service", params["service"])] if params.get("service") else []
        query.append(("scope", self._scope))
        credentials = self._credentials
        if credentials is not None and credentials.identity_token:
            self._require_private(target)
            raw = self._exchange(realm, query, credentials.identity_token, what)
        else:
            authorization = None
            if credentials is not None and credentials.username:
                self._require_private(target)
                query.append(("account", credentials.username))
                authorization = credentials.basic
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
            response, _ = self._transport.get(url, {}, authorization, what)
            status = response.status
            raw = self._transport.read_small(response, TOKEN_LIMIT, what)
            self._check(status, what)
        return _read_token(raw, what)

    def _exchange(self, realm: str, query: list[tuple[str, str]], secret: str, what: str) -> bytes:
        """Trade an identity token for an access token (OAuth 2 refresh grant)."""
        form = [
            *query, ("grant_type", "refresh_token"), ("client_id", "strata"),
            ("refresh_token", secret),
        ]  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        response = self._transport.post(realm, headers, urlencode(form).encode("ascii"), what)
        status = response.status
        raw = self._transport.read_small(response, TOKEN_LIMIT, what)
        self._check(status, what)
        return raw

    def _check(self, status: int, what: str) -> None:
        if status in (401, 403):
            known = self._credentials is not None
            raise Unauthorized(
                f"{what}: unauthorized: "
                + ("incorrect username or password" if known else "authentication required"),
                hint="check the credentials" if known else
                "give credentials with --creds or --authfile",
            )  # fmt: skip
        if status != 200:
            raise RegistryError(
                f"{what}: the token server answered {status}",
                hint="the registry is misconfigured or broken; try again later",
            )


def _read_token(raw: bytes, what: str) -> str:
    try:
        document = json.loads(raw.decode("utf-8"))
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    # A token becomes a header: printable ASCII without blanks, or it could add others.
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or (
        " " in token
    ):  # fmt: skip
        raise RegistryError(
            f"{what}: the answer holds no usable token",
            hint="the registry is misconfigured or dishonest",
        )
    return token


def _skip(text: str, position: int, chars: str) -> int:
    while position < len(text) and text[position] in chars:
        position += 1
    return position


def _word(text: str, position: int) -> tuple[str, int]:
    start = position
    while position < len(text) and text[position] in _TOKEN_CHARS:
        position += 1
    return text[start:position], position


def _value(text: str, position: int) -> tuple[str | None, int]:
    """A token or a quoted string; None when neither is there."""
    if position >= len(text) or text[position] != '"':
        word, position = _word(text, position)
        return word or None, position
    position += 1
    chars: list[str] = []
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        chars.append(text[position : position + 1])
        position += 1
    if position >= len(text):
        return None, position
    return "".join(chars), position + 1
