"""Registries that lie, loop, leak or stall: one clear error, no secret spilled, nothing left."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.hostile import LAYER_TYPE, HostileServer, Request, make_certificate
from helpers.registry import digest_of

from strata.errors import Busy, DigestMismatch, RegistryError, StrataError, Unauthorized
from strata.oci.manifest import Descriptor, InvalidDocument, parse_manifest
from strata.registry.auth import Credentials
from strata.registry.client import ManifestUnknown, RegistrySource, open_source
from strata.registry.download import download_all
from strata.registry.transport import Policy

SECRET = "do-not-tell-anyone"
DATA = bytes(range(256)) * 1024
BLOB = Descriptor(LAYER_TYPE, digest_of(DATA), len(DATA))
BLOB_PATH = f"/v2/app/blobs/{BLOB.digest}"

# Failing attempts must not make the tests slow; what is waited for stays the same.
FAST = {"backoff": 0.001, "retry_after_cap": 0.01, "attempts": 3}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as hostile:
        yield hostile


@pytest.fixture
def other() -> Iterator[HostileServer]:
    """Somebody else's server."""
    with HostileServer() as hostile:
        yield hostile


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(str(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def tls(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """An https registry whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    with HostileServer(certificate) as hostile:
        yield hostile


def source(server: HostileServer, *, login: bool = False, **options: Any) -> RegistrySource:
    policy = Policy(**(FAST | options))
    return open_source(
        f"{server.address}/app:1",
        platform="linux/amd64",
        credentials=("user", SECRET) if login else None,
        tls_verify=True if server.scheme == "https" else None,
        policy=policy,
    )


def fetch(server: HostileServer, folder: Path, **options: Any) -> Path:
    path = folder / "blob"
    with source(server, **options) as image:
        image.fetch(BLOB, str(path))
    return path


def assert_one_line(error: StrataError) -> None:
    for text in (error.message, error.hint):
        assert text.isprintable(), text
        assert SECRET not in text
        assert len(text) < 500
    assert error.hint


# Bodies


@pytest.mark.parametrize("lie", [len(DATA) + 1, len(DATA) - 1, 0, 1 << 60])
def test_a_wrong_content_length_is_refused(server: HostileServer, tmp_path: Path, lie: int) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(
        200, DATA, Content_Length=str(lie), Connection="close"
    )
    with pytest.raises(DigestMismatch) as caught:
        fetch(server, tmp_path)
    assert_one_line(caught.value)
    assert not (tmp_path / "blob").exists()
    assert len(server.requests(BLOB_PATH)) == 1


def test_an_endless_body_ends_at_the_declared_size(server: HostileServer, tmp_path: Path) -> None:
    def endless(request: Request) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        while True:
            request.wfile.write(DATA)

    server.answers[BLOB_PATH] = endless
    with pytest.raises(DigestMismatch, match="longer than its size"):
        fetch(server, tmp_path)
    assert not (tmp_path / "blob").exists()


def test_other_content_of_the_right_length_is_refused_and_removed(
    server: HostileServer, tmp_path: Path
) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(200, b"x" * len(DATA))
    with pytest.raises(DigestMismatch, match="does not match its digest") as caught:
        fetch(server, tmp_path)
    assert_one_line(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_is_not_the_one_named_is_refused(server: HostileServer) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(200, b"x" * len(DATA))
    with source(server) as image, pytest.raises(DigestMismatch):
        image.get_config(BLOB)


@pytest.mark.parametrize("length", ["\xb2", "-5", "abc", "1" * 5000, "4, 5", "+4"])
def test_a_nonsense_content_length_is_one_error(server: HostileServer, length: str) -> None:
    server.answers["/v2/app/manifests/1"] = lambda request: request.send(
        200, b"{}", Content_Length=length, Connection="close"
    )
    with source(server, read=0.5) as image, pytest.raises(RegistryError) as caught:
        parse_manifest(*image.get_manifest())
    assert_one_line(caught.value)


# Resuming


def cut(request: Request, upto: int, **headers: str) -> None:
    """Promise the whole blob, send a part, hang up."""
    request.send(200, DATA[:upto], Content_Length=str(len(DATA)), **headers)
    request.hang_up()


def serve_range(request: Request, **headers: str) -> None:
    start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
    span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    request.send(206, DATA[start:], **({"Content_Range": span} | headers))


def test_a_cut_connection_is_resumed_where_it_ended(server: HostileServer, tmp_path: Path) -> None:
    server.answers[BLOB_PATH] = lambda request: (
        serve_range(request) if "Range" in request.headers else cut(request, 100_000)
    )
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert [headers.get("Range") for headers in server.requests(BLOB_PATH)] == [
        None, "bytes=100000-",
    ]  # fmt: skip


def test_a_download_that_was_given_up_is_continued_by_the_next_command(
    server: HostileServer, tmp_path: Path
) -> None:
    server.answers[BLOB_PATH] = lambda request: (
        request.send(503) if "Range" in request.headers else cut(request, 100_000)
    )
    with pytest.raises(RegistryError):
        fetch(server, tmp_path)
    assert (tmp_path / "blob.partial").stat().st_size == 100_000
    server.answers[BLOB_PATH] = serve_range
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert not (tmp_path / "blob.partial").exists()


def test_a_server_that_ignores_ranges_starts_again(server: HostileServer, tmp_path: Path) -> None:
    server.answers[BLOB_PATH] = lambda request: (
        request.send(200, DATA) if "Range" in request.headers else cut(request, 100_000)
    )
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_range_of_another_version_is_not_glued_on(server: HostileServer, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        if "Range" in request.headers:
            serve_range(request, ETag='"new"')
        elif request.count == 1:
            cut(request, 100_000, ETag='"old"')
        else:
            request.send(200, DATA, ETag='"new"')

    server.answers[BLOB_PATH] = answer
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert server.requests(BLOB_PATH)[1]["If-Range"] == '"old"'


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 5-262143/262144", "nonsense", ""])
def test_a_range_at_the_wrong_place_is_not_used(
    server: HostileServer, tmp_path: Path, span: str
) -> None:
    def answer(request: Request) -> None:
        if "Range" in request.headers:
            serve_range(request, Content_Range=span)
        elif request.count == 1:
            cut(request, 100_000)
        else:
            request.send(200, DATA)

    server.answers[BLOB_PATH] = answer
    assert fetch(server, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("junk", [b"junk" * 100, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_junk_in_the_partial_file_does_no_harm(
    server: HostileServer, tmp_path: Path, junk: bytes
) -> None:
    (tmp_path / "blob.partial").write_bytes(junk)
    server.answers[BLOB_PATH] = lambda request: (
        serve_range(request) if "Range" in request.headers else request.send(200, DATA)
    )
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_damaged_finished_file_is_fetched_again(server: HostileServer, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * len(DATA))
    server.answers[BLOB_PATH] = lambda request: request.send(200, DATA)
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_planted_symlink_is_not_followed(server: HostileServer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "blob.partial").symlink_to(victim)
    server.answers[BLOB_PATH] = lambda request: request.send(200, DATA)
    with pytest.raises(OSError):
        fetch(server, tmp_path)
    assert victim.read_bytes() == b"precious"


def test_two_commands_share_one_download(server: HostileServer, tmp_path: Path) -> None:
    """The second waits for the first, even when the first has to start again."""
    arrived, go = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        if request.count == 1:
            arrived.set()
            go.wait(30)
            cut(request, 100_000)
        elif request.count == 2:
            serve_range(request, Content_Range="nonsense")
        else:
            request.send(200, DATA)

    server.answers[BLOB_PATH] = answer
    errors: list[BaseException] = []

    def pull() -> None:
        try:
            fetch(server, tmp_path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=pull) for _ in range(3)]
    threads[0].start()
    arrived.wait(30)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(server.requests(BLOB_PATH)) == 3
    assert (tmp_path / "blob").read_bytes() == DATA
    assert os.listdir(tmp_path) == ["blob"]


def test_a_download_of_another_command_that_stands_still_is_said(
    server: HostileServer, tmp_path: Path
) -> None:
    with open(tmp_path / "blob.partial", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another command downloads it") as caught:
            fetch(server, tmp_path, window=0.1)
    assert_one_line(caught.value)


# Retries and time


def test_a_busy_registry_is_asked_again(server: HostileServer, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        if request.count == 1:
            request.send(429, Retry_After="3600")  # capped by the policy
        elif request.count == 2:
            request.send(502)
        else:
            request.send(200, DATA)

    server.answers[BLOB_PATH] = answer
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_registry_that_stays_broken_is_given_up(server: HostileServer) -> None:
    server.answers["/v2/app/manifests/1"] = lambda request: request.send(500)
    with source(server) as image, pytest.raises(RegistryError, match="answered 500") as caught:
        image.get_manifest()
    assert_one_line(caught.value)
    assert len(server.requests("/v2/app/manifests/1")) == 3


def test_a_registry_that_hangs_up_is_given_up(server: HostileServer) -> None:
    server.answers["/v2/app/manifests/1"] = lambda request: request.hang_up()
    with source(server) as image, pytest.raises(RegistryError, match="connection") as caught:
        image.get_manifest()
    assert_one_line(caught.value)


def test_a_silent_registry_is_given_up(server: HostileServer, tmp_path: Path) -> None:
    done = threading.Event()
    server.answers[BLOB_PATH] = lambda _: done.wait(30) and None
    try:
        with pytest.raises(RegistryError, match="no data for") as caught:
            fetch(server, tmp_path, read=0.05)
    finally:
        done.set()
    assert_one_line(caught.value)


def test_a_trickle_is_given_up(server: HostileServer, tmp_path: Path) -> None:
    done = threading.Event()

    def trickle(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        while not done.wait(0.01):
            request.wfile.write(b"x")

    server.answers[BLOB_PATH] = trickle
    try:
        with pytest.raises(RegistryError, match="slower than") as caught:
            fetch(server, tmp_path, window=0.1, rate=1e6)
    finally:
        done.set()
    assert_one_line(caught.value)


@pytest.mark.parametrize("line", [b"X-Header: x\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
def test_an_answer_without_an_end_of_headers_is_given_up(
    server: HostileServer, line: bytes
) -> None:
    done = threading.Event()

    def drip(request: Request) -> None:
        if line.startswith(b"X"):
            request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.01):
            request.wfile.write(line)

    server.answers["/v2/app/manifests/1"] = drip
    try:
        with source(server, small=0.2, attempts=1) as image, pytest.raises(RegistryError) as caught:
            image.get_manifest()
    finally:
        done.set()
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    "head",
    [b"nonsense\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n",
     b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n", b"\0" * 100,
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
     b"HTTP/1.1 206 OK\r\nContent-Length: 2\r\n\r\n{}",
     b"HTTP/1.1 204 OK\r\n\r\n", b"HTTP/1.1 418 OK\r\nContent-Length: 0\r\n\r\n"],
)  # fmt: skip
def test_nonsense_instead_of_http_is_one_error(server: HostileServer, head: bytes) -> None:
    def answer(request: Request) -> None:
        request.wfile.write(head)
        request.hang_up()

    server.answers["/v2/app/manifests/1"] = answer
    with source(server) as image, pytest.raises(RegistryError) as caught:
        parse_manifest(*image.get_manifest())
    assert_one_line(caught.value)


def test_leaving_does_not_wait_for_a_silent_registry(server: HostileServer, tmp_path: Path) -> None:
    started, done = threading.Event(), threading.Event()

    def hold(_: Request) -> None:
        started.set()
        done.wait(60)

    server.answers[BLOB_PATH] = hold
    with source(server) as image, download_all(image, [BLOB], str(tmp_path)) as downloads:
        started.wait(30)
        begin = time.monotonic()
        downloads.close()
        assert time.monotonic() - begin < 30  # the silence alone may last 60 s
        assert not any(thread.is_alive() for thread in downloads._threads)
    done.set()


def test_the_first_error_stops_the_other_downloads(server: HostileServer, tmp_path: Path) -> None:
    done, started = threading.Event(), threading.Event()
    slow = Descriptor(LAYER_TYPE, digest_of(b"slow"), 4)

    def stall(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "4")
        request.end_headers()
        request.wfile.flush()
        started.set()
        done.wait(60)

    def refuse(request: Request) -> None:
        started.wait(60)
        request.send(200, b"x" * len(DATA))

    server.answers[f"/v2/app/blobs/{slow.digest}"] = stall
    server.answers[BLOB_PATH] = refuse
    try:
        with (
            source(server, read=50) as image,
            download_all(image, [slow, BLOB], str(tmp_path)) as downloads,
            pytest.raises(DigestMismatch),
        ):
            downloads.wait(slow.digest)
        assert not done.is_set()
    finally:
        done.set()


# Redirects


def test_redirects_are_followed_to_the_blob(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(
        307, Location=f"{other.url}/store?signature=abc"
    )
    other.answers["/store"] = lambda request: request.send(200, DATA)
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_redirect_loop_ends(server: HostileServer, tmp_path: Path) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(302, Location=BLOB_PATH)
    with pytest.raises(RegistryError, match="stopped after 5 redirects") as caught:
        fetch(server, tmp_path)
    assert_one_line(caught.value)
    assert len(server.requests(BLOB_PATH)) == 6  # the first, and five redirects


@pytest.mark.parametrize(
    "place",
    ["file:///etc/shadow", "ftp://localhost/x", "http://", "http://h:99999999/", "http://[x/", ""],
)
def test_a_redirect_to_nonsense_is_refused(
    server: HostileServer, tmp_path: Path, place: str
) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(302, Location=place)
    with pytest.raises(RegistryError):
        fetch(server, tmp_path)


def want_basic(request: Request) -> bool:
    if "Authorization" in request.headers:
        return True
    request.send(401, WWW_Authenticate='Basic realm="r"')
    return False


def test_credentials_stay_behind_on_a_redirect_to_another_port(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    server.answers[BLOB_PATH] = lambda request: (
        (want_basic(request) and request.send(307, Location=f"{other.url}/store")) or None
    )
    other.answers["/store"] = lambda request: request.send(200, DATA)
    fetch(server, tmp_path, login=True)
    assert "Authorization" in server.requests(BLOB_PATH)[-1]
    assert [headers for headers in other.requests("/store") if "Authorization" in headers] == []


def test_a_challenge_after_a_redirect_gets_nothing(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(307, Location=f"{other.url}/store")
    for path in ("/store", "/token"):
        other.answers[path] = lambda request: request.send(
            401, WWW_Authenticate=f'Basic realm="r", Bearer realm="{other.url}/token"'
        )
    with pytest.raises(Unauthorized) as caught:
        fetch(server, tmp_path, login=True)
    assert_one_line(caught.value)
    assert len(other.seen) == 1
    assert all("Authorization" not in headers for _, headers in server.seen + other.seen)


def test_https_is_never_left_by_a_redirect(
    tls: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    tls.answers[BLOB_PATH] = lambda request: request.send(307, Location=f"{other.url}/store")
    with pytest.raises(RegistryError, match="refusing a redirect from https") as caught:
        fetch(tls, tmp_path)
    assert_one_line(caught.value)
    assert other.seen == []


# Tokens


def challenge(realm: str) -> str:
    return f'Bearer realm="{realm}",service="s",scope="repository:other/secret:pull,push"'


def want_bearer(server: HostileServer, realm: str) -> None:
    """Make the registry ask for a token of a realm."""

    def answer(request: Request) -> None:
        if request.headers.get("Authorization") == "Bearer good":
            request.send(200, DATA)
        else:
            request.send(401, WWW_Authenticate=challenge(realm))

    server.answers[BLOB_PATH] = answer
    server.answers["/v2/"] = lambda request: request.send(401, WWW_Authenticate=challenge(realm))


def test_a_token_is_asked_for_this_repository_only(server: HostileServer, tmp_path: Path) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(200, b'{"token":"good"}')
    fetch(server, tmp_path, login=True)
    asked = [path for path, _ in server.seen if path.startswith("/token")]
    assert asked == ["/token?service=s&scope=repository%3Aapp%3Apull&account=user"]
    assert server.requests("/token")[0]["Authorization"].startswith("Basic ")


def test_an_expired_token_is_renewed(server: HostileServer, tmp_path: Path) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(
        200, b'{"access_token":"old"}' if len(server.requests("/token")) == 1 else
        b'{"access_token":"good"}',
    )  # fmt: skip
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_plain_realm_of_an_https_registry_is_never_asked(
    tls: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    want_bearer(tls, f"{other.url}/token")
    for login in (True, False):
        with pytest.raises(RegistryError, match="not reached over https") as caught:
            fetch(tls, tmp_path, login=login)
        assert_one_line(caught.value)
    assert other.seen == []


def test_the_token_servers_redirect_takes_no_credentials_along(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(307, Location=f"{other.url}/elsewhere")
    other.answers["/elsewhere"] = lambda request: request.send(200, b'{"token":"good"}')
    fetch(server, tmp_path, login=True)
    assert all("Authorization" not in headers for _, headers in other.seen)


def test_an_identity_token_is_exchanged_and_kept_out_of_addresses(
    server: HostileServer, tmp_path: Path
) -> None:
    bodies: list[bytes] = []

    def exchange(request: Request) -> None:
        bodies.append(request.rfile.read(int(request.headers["Content-Length"])))
        request.send(200, b'{"access_token":"good"}')

    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = exchange
    image = open_source(f"{server.address}/app:1", credentials=Credentials(identity_token=SECRET))
    with image:
        image.fetch(BLOB, str(tmp_path / "blob"))
    assert b"grant_type=refresh_token" in bodies[0]
    assert SECRET.encode() in bodies[0]
    assert all(SECRET not in f"{path}{headers}" for path, headers in server.seen)


def test_an_identity_token_does_not_follow_a_redirect(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(
        307, Location=f"{other.url}/token", Connection="close"
    )
    image = open_source(f"{server.address}/app:1", credentials=Credentials(identity_token=SECRET))
    with image, pytest.raises(RegistryError) as caught:
        image.fetch(BLOB, str(tmp_path / "blob"))
    assert_one_line(caught.value)
    assert other.seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[]", b"{}", b"null", b'{"token":5}', b'{"token":""}', b"\xff",
        b'{"token":"a\\r\\nX-Evil: 1"}', b'{"token":"a b"}', b'{"token":"\xc3\xa4"}',
        b"[" * 200_000, b'{"token":"' + b"a" * (1 << 20) + b'"}',
    ],
)  # fmt: skip
def test_nonsense_from_the_token_server_is_one_error(
    server: HostileServer, tmp_path: Path, body: bytes
) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(200, body)
    with pytest.raises(RegistryError) as caught:
        fetch(server, tmp_path, login=True)
    assert_one_line(caught.value)
    assert all("X-Evil" not in headers for _, headers in server.seen)


@pytest.mark.parametrize("realm", ["", "/token", "file:///etc/passwd", "http://", "gopher://x"])
def test_a_nonsense_realm_is_refused(server: HostileServer, tmp_path: Path, realm: str) -> None:
    want_bearer(server, realm)
    with pytest.raises(RegistryError, match="no valid token server") as caught:
        fetch(server, tmp_path, login=True)
    assert_one_line(caught.value)


def test_wrong_credentials_are_said_without_naming_them(
    server: HostileServer, tmp_path: Path
) -> None:
    want_bearer(server, f"{server.url}/token")
    server.answers["/token"] = lambda request: request.send(401)
    with pytest.raises(Unauthorized, match="incorrect username or password") as caught:
        fetch(server, tmp_path, login=True)
    assert_one_line(caught.value)
    assert SECRET not in repr(caught.getrepr(style="long"))


def test_credentials_are_not_sent_over_plain_http_beyond_this_machine(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that plays a registry with another name, as a network attacker would."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answers["http://registry.test:5000/v2/"] = lambda request: request.send(
        401, WWW_Authenticate='Basic realm="r"'
    )
    image = open_source(
        "registry.test:5000/app:1",
        credentials=("user", SECRET),
        tls_verify=False,
        policy=Policy(**FAST),
    )
    with image, pytest.raises(RegistryError, match="refusing to send credentials") as caught:
        image.get_manifest()
    assert_one_line(caught.value)
    assert server.seen
    assert all("Authorization" not in headers for _, headers in server.seen)


# Transport security


def test_an_unknown_certificate_is_refused(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with HostileServer(certificate) as server, source(server) as image:
        with pytest.raises(RegistryError, match="failed to verify certificate") as caught:
            image.get_manifest()
        assert_one_line(caught.value)
        assert server.seen == []


def test_an_unknown_certificate_is_accepted_when_asked(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with HostileServer(certificate) as server:
        server.serve_image("app", "1", [DATA])
        with open_source(
            f"{server.address}/app:1", platform="linux/amd64", tls_verify=False
        ) as image:
            assert image.get_manifest()


def test_a_loopback_registry_may_speak_https(tls: HostileServer) -> None:
    tls.serve_image("app", "1", [DATA])
    with open_source(f"{tls.address}/app:1", platform="linux/amd64") as image:
        assert image.get_manifest()


def test_plain_http_is_not_spoken_when_verification_is_demanded(server: HostileServer) -> None:
    with (
        open_source(
            f"{server.address}/app:1", tls_verify=True, policy=Policy(**FAST, connect=0.2, read=0.2)
        ) as image,
        pytest.raises(RegistryError),
    ):
        image.get_manifest()
    assert all(not path.startswith("/v2/") for path, _ in server.seen)


# Manifests


def test_a_manifest_that_denies_its_digest_header_is_refused(server: HostileServer) -> None:
    raw = json.dumps(server.serve_image("app", "1", [DATA])).encode()
    for promised in (digest_of(b"other"), "sha256:nonsense"):
        server.answers["/v2/app/manifests/1"] = lambda request, promised=promised: request.send(
            200, raw, Docker_Content_Digest=promised
        )
        with source(server) as image, pytest.raises(DigestMismatch):
            image.get_manifest()


def test_a_manifest_asked_for_by_digest_is_verified(server: HostileServer) -> None:
    wanted = digest_of(b"wanted")
    server.answers[f"/v2/app/manifests/{wanted}"] = lambda request: request.send(
        200, b"{}", Docker_Content_Digest=wanted
    )
    with open_source(f"{server.address}/app@{wanted}") as image, pytest.raises(DigestMismatch):
        image.get_manifest()


def test_an_index_entry_is_verified(server: HostileServer) -> None:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 2,
        "digest": digest_of(b"wanted"),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    server.serve_manifest("app", "1", {"schemaVersion": 2, "manifests": [entry]},
                          "application/vnd.oci.image.index.v1+json")  # fmt: skip
    server.answers[f"/v2/app/manifests/{entry['digest']}"] = lambda request: request.send(
        200, b"{}"
    )
    with source(server) as image, pytest.raises(DigestMismatch):
        image.get_manifest()


def test_an_index_of_indexes_ends(server: HostileServer) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode()
    for _ in range(6):
        entry = {"mediaType": kind, "digest": digest_of(raw), "size": len(raw)}
        server.serve_manifest("app", "0", raw, kind)
        raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
    server.serve_manifest("app", "1", raw, kind)
    with source(server) as image, pytest.raises(InvalidDocument, match="nested"):
        image.get_manifest()


@pytest.mark.parametrize("honest", [True, False])
def test_a_huge_manifest_is_refused(server: HostileServer, honest: bool) -> None:
    def answer(request: Request) -> None:
        request.send_response(200)
        if honest:
            request.send_header("Content-Length", str(1 << 40))
        request.send_header("Connection", "close")
        request.end_headers()
        while True:
            request.wfile.write(b" " * 65536)

    server.answers["/v2/app/manifests/1"] = answer
    with source(server) as image, pytest.raises(RegistryError, match="larger than") as caught:
        image.get_manifest()
    assert_one_line(caught.value)


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[]", b"[" * 100_000, b"\xff", b"{}", b"null"])
def test_a_nonsense_manifest_is_refused(server: HostileServer, raw: bytes) -> None:
    server.serve_manifest("app", "1", raw)
    with source(server) as image, pytest.raises(RegistryError) as caught:
        parse_manifest(*image.get_manifest())
    assert_one_line(caught.value)


def test_urls_in_descriptors_are_never_fetched(
    server: HostileServer, other: HostileServer, tmp_path: Path
) -> None:
    other.answers["/layer"] = lambda request: request.send(200, DATA)
    layer = Descriptor(LAYER_TYPE, BLOB.digest, BLOB.size, urls=[f"{other.url}/layer"])
    with source(server) as image, pytest.raises(ManifestUnknown):
        image.fetch(layer, str(tmp_path / "blob"))
    assert other.seen == []


def test_error_texts_of_a_registry_are_tamed(server: HostileServer) -> None:
    message = "\x1b[2J" + "boo\r\n" * 1000
    body = json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode()
    server.answers["/v2/app/manifests/1"] = lambda request: request.send(403, body)
    with source(server) as image, pytest.raises(Unauthorized, match="denied: ") as caught:
        image.get_manifest()
    assert_one_line(caught.value)


def test_files_are_private(server: HostileServer, tmp_path: Path) -> None:
    server.answers[BLOB_PATH] = lambda request: request.send(200, DATA)
    assert os.stat(fetch(server, tmp_path)).st_mode & 0o777 == 0o600
