"""Auth files: which are read, which entry wins, and what is never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from strata.errors import UsageError
from strata.oci.reference import parse
from strata.registry import auth
from strata.registry.auth import AuthFileError, Credentials, find_credentials

SECRET = "do-not-tell-anyone"


def entry(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def user_for(name: str, authfile: str) -> str | None:
    found = find_credentials(parse(name), authfile, {})
    return found.username if found else None


def test_the_most_specific_key_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {
        "quay.io": entry("registry"),
        "quay.io/team": entry("team"),
        "quay.io/team/app": entry("app"),
    }})  # fmt: skip
    assert user_for("quay.io/team/app:1", path) == "app"
    assert user_for("quay.io/team/other", path) == "team"
    assert user_for("quay.io/team/app/deep", path) == "app"
    assert user_for("quay.io/teams/x", path) == "registry"
    assert user_for("quay.io.evil.test/team/app", path) is None
    assert user_for("quay.io:444/team/app", path) is None


@pytest.mark.parametrize(
    "key",
    ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"],
)
def test_docker_hub_is_known_by_all_its_names(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": {key: entry("hub")}})
    assert user_for("debian", path) == "hub"
    assert user_for("quay.io/debian", path) is None


def test_a_key_may_be_an_address(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"https://host:5000/v2/": entry("u")}})
    assert user_for("host:5000/app", path) == "u"


def test_passwords_may_hold_colons_and_beyond_ascii(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"a.b": entry("ü", "p:ä:")}})
    found = find_credentials(parse("a.b/x"), path, {})
    assert found is not None
    assert (found.username, found.password) == ("ü", "p:ä:")
    assert base64.b64decode(found.basic.removeprefix("Basic ")).decode() == "ü:p:ä:"


def test_identity_tokens_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"a.b": {"auth": "", "identitytoken": SECRET}}})
    found = find_credentials(parse("a.b/x"), path, {})
    assert found is not None
    assert found.identity_token == SECRET


def test_the_places_are_searched_in_order(tmp_path: Path) -> None:
    env = {
        "HOME": f"{tmp_path}/home",
        "XDG_RUNTIME_DIR": f"{tmp_path}/run",
        "DOCKER_CONFIG": f"{tmp_path}/docker",
    }
    files = auth.auth_files(env)[1:]
    assert files == [
        f"{tmp_path}/run/containers/auth.json",
        f"{tmp_path}/home/.config/containers/auth.json",
        f"{tmp_path}/docker/config.json",
    ]
    for number, path in reversed(list(enumerate(files))):
        write(Path(path), {"auths": {"first.test": entry(f"file{number}")}})
        found = find_credentials(parse("first.test/x"), None, env)
        assert found is not None
        assert found.username == f"file{number}"


def test_a_file_without_the_key_does_not_hide_the_next(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": f"{tmp_path}/run"}
    write(tmp_path / "run/containers/auth.json", {"auths": {"x.y": entry("no")}})
    write(tmp_path / ".docker/config.json", {"auths": {"a.b": entry("yes")}})
    found = find_credentials(parse("a.b/c"), None, env)
    assert found is not None
    assert found.username == "yes"


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": f"{tmp_path}/named.json"}
    write(tmp_path / ".docker/config.json", {"auths": {"a.b": entry("yes")}})
    write(tmp_path / "named.json", {})
    assert find_credentials(parse("a.b/c"), None, env) is None
    with pytest.raises(AuthFileError, match="no such file"):
        find_credentials(parse("a.b/c"), f"{tmp_path}/missing.json", env)


@pytest.mark.parametrize(
    "document",
    [
        SECRET, "[]", '{"auths": [1]}', '{"auths": {"a.b": {"auth": "!' + SECRET + '"}}}',
        '{"auths": {"a.b": {"auth": "bm9jb2xvbg=="}}}', "[" * 100_000,
        '{"auths": {}, "credHelpers": 5}', '{"credHelpers": {"a.b": "../../bin/sh"}}',
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_and_not_shown(tmp_path: Path, document: str) -> None:
    path = write(tmp_path / "auth.json", document)
    with pytest.raises(AuthFileError) as caught:
        find_credentials(parse("a.b/x"), path, {})
    assert SECRET not in caught.value.message + caught.value.hint


def test_a_missing_helper_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"credHelpers": {"a.b": "no-such-helper"}})
    with pytest.raises(AuthFileError, match="docker-credential-no-such-helper"):
        find_credentials(parse("a.b/x"), path, {})


def test_credentials_do_not_show_their_secret() -> None:
    given = auth.parse_credentials(f"user:{SECRET}:x")
    assert (given.username, given.password) == ("user", f"{SECRET}:x")
    assert SECRET not in repr(given) + str(given)
    assert SECRET not in repr(Credentials(identity_token=SECRET))
    for text in ("", "user", ":password"):
        with pytest.raises(UsageError):
            auth.parse_credentials(text)
