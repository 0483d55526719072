"""Registry credentials from the files Podman and Docker write (containers-auth.json(5)).

Looked up in order: an explicit file, ``REGISTRY_AUTH_FILE``, the run-time file of the user, the
containers configuration, Docker's. The first file with a matching key wins; within a file the most
specific key wins (``registry/namespace/repository`` before ``registry``). Secrets never appear in
messages or in ``repr``.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from strata import command
from strata.errors import StrataError, UsageError
from strata.oci.reference import Reference

FILE_LIMIT = 1 << 20
HELPER_TIMEOUT = 60.0

# How Docker Hub is called in auth files besides docker.io.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_ENVIRONMENT = (
    "HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "DISPLAY",
)


class AuthFileError(UsageError):
    """An auth file cannot be read or is malformed."""

    id = "auth-file"


class Credentials:
    """A user name and password, or an identity token to be exchanged for access tokens."""

    __slots__ = ("identity_token", "password", "username")

    def __init__(self, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header."""
        text = f"{self.username}:{self.password}"
        return "Basic " + base64.b64encode(text.encode("utf-8")).decode("ascii")

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


def parse_credentials(text: str) -> Credentials:
    """``USER:PASSWORD`` as given to ``--creds``; raise `UsageError`."""
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise UsageError("credentials can't be empty", hint="write them as USER:PASSWORD")
    return Credentials(username, password)


def auth_files(environ: dict[str, str] | None = None) -> list[str]:
    """The files to look into when none is named, most important first; they may be missing."""
    env = dict(os.environ) if environ is None else environ
    home = env.get("HOME") or "/root"
    runtime = env.get("XDG_RUNTIME_DIR")
    config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = env.get("DOCKER_CONFIG") or f"{home}/.docker"
    files = [f"/run/containers/{os.geteuid()}/auth.json"]
    if runtime:
        files.append(f"{runtime}/containers/auth.json")
    return [*files, f"{config}/containers/auth.json", f"{docker}/config.json"]


def find_credentials(
    reference: Reference, authfile: str | None = None, environ: dict[str, str] | None = None
) -> Credentials | None:
    """The credentials for a repository, or None.

    A file named by ``authfile`` or ``REGISTRY_AUTH_FILE`` is the only one read and must exist.
    Raises `AuthFileError` when a file is malformed or a credential helper fails.
    """
    env = dict(os.environ) if environ is None else environ
    named = authfile or env.get("REGISTRY_AUTH_FILE")
    for path in [named] if named else auth_files(env):
        document = _read(path, must_exist=bool(named))
        if document is not None:
            found = _search(document, reference, path, env)
            if found is not None:
                return found
    return None


def _read(path: str, *, must_exist: bool) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not must_exist:
            return None
        raise AuthFileError(
            f"checking authfile: stat {path}: no such file or directory",
            hint="name an existing file with --authfile or REGISTRY_AUTH_FILE",
        ) from None
    except OSError as error:
        raise AuthFileError(
            f"reading authfile {path}: {error.strerror}", hint="check its permissions"
        ) from None
    try:
        document = json.loads(raw.decode("utf-8")) if raw.strip() else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or len(raw) > FILE_LIMIT:
        raise AuthFileError(
            f"the authfile {path} is malformed",
            hint="it must be JSON with an object named auths; log in again to write a new one",
        )
    return document


def _search(
    document: dict[str, Any], reference: Reference, path: str, env: dict[str, str]
) -> Credentials | None:
    auths = document.get("auths") or {}
    helpers = document.get("credHelpers") or {}
    if not isinstance(auths, dict) or not isinstance(helpers, dict):
        raise AuthFileError(f"the authfile {path} is malformed", hint="auths must be an object")
    entries = {_key(name): entry for name, entry in reversed(auths.items())}
    for key in _keys(reference):
        helper = helpers.get(key)
        if isinstance(helper, str):
            return _ask_helper(helper, key, env)
        entry = entries.get(key)
        if isinstance(entry, dict):
            found = _decode(entry, path)
            if found is not None:
                return found
    store = document.get("credsStore")
    # Docker's default store is often configured where its program is not installed.
    if isinstance(store, str) and store and command.find_program(f"docker-credential-{store}"):
        host = reference.registry
        return _ask_helper(store, "https://index.docker.io/v1/" if host == "docker.io" else host,
                           env)  # fmt: skip
    return None


def _keys(reference: Reference) -> list[str]:
    """The keys a repository may be listed under, most specific first."""
    keys = []
    name = reference.repository_name
    while "/" in name:
        keys.append(name)
        name = name.rpartition("/")[0]
    keys.append(name)
    if name in _DOCKER_HUB:
        keys += [other for other in _DOCKER_HUB if other != name]
    return keys


def _key(name: str) -> str:
    """A key as written by Docker (``https://index.docker.io/v1/``) in its short form."""
    for scheme in ("https://", "http://"):
        if name.startswith(scheme):
            return name.removeprefix(scheme).partition("/")[0]
    return name.rstrip("/")


def _decode(entry: dict[str, Any], path: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            text = base64.b64decode(packed, validate=True).decode("utf-8")
        except ValueError:
            text = ""
        username, colon, password = text.partition(":")
        if not colon:
            raise AuthFileError(
                f"the authfile {path} holds an entry that is not base64 of USER:PASSWORD",
                hint="log in again to write a new one",
            )
        return Credentials(username, password.strip("\0"))
    user, secret = entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(secret, str) and user:
        return Credentials(user, secret)
    return None


def _ask_helper(name: str, server: str, env: dict[str, str]) -> Credentials | None:
    """Ask ``docker-credential-NAME get``; None when it knows nothing about the server."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise AuthFileError(
            f"invalid credential helper name {name[:60]!a}",
            hint="helpers are named by what follows docker-credential-",
        )
    program = f"docker-credential-{name}"
    environment = command.ENVIRONMENT | {key: env[key] for key in _HELPER_ENVIRONMENT if key in env}
    try:
        result = command.run(
            [program, "get"],
            input=server.encode("utf-8"),
            env=environment,
            check=False,
            timeout=HELPER_TIMEOUT,
        )
    except StrataError as error:
        raise AuthFileError(
            f"the credential helper {program} cannot be used: {error.message}", hint=error.hint
        ) from None
    if result.returncode != 0:
        if b"credentials not found" in result.stdout + result.stderr:
            return None
        raise AuthFileError(
            f"the credential helper {program} failed",
            hint=f"try it by hand: echo {server} | {program} get",
        )
    try:
        answer = json.loads(result.stdout)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AuthFileError(
            f"the credential helper {program} gave no credentials",
            hint=f"try it by hand: echo {server} | {program} get",
        ) from None
    if username == "<token>":
        return Credentials(identity_token=str(secret))
    return Credentials(str(username), str(secret))
