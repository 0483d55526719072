"""The pure parts of talking to a registry: challenges, origins, waiting times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import RegistryError
from strata.oci import digest
from strata.oci.manifest import Descriptor
from strata.registry import transport
from strata.registry.download import download_all
from strata.registry.tokens import parse_challenges
from strata.registry.transport import Origin, is_loopback


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a.test/token",service="s",scope="repository:x:pull,push"',
            [("bearer", {"realm": "https://a.test/token", "service": "s",
                         "scope": "repository:x:pull,push"})],
        ),
        ("Bearer realm=x , service = y", [("bearer", {"realm": "x", "service": "y"})]),
        ('Basic realm="b", Bearer realm="t"', [("basic", {"realm": "b"}),
                                               ("bearer", {"realm": "t"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        ("BEARER Realm=x", [("bearer", {"realm": "x"})]),
        ("Bearer realm=x,realm=y", [("bearer", {"realm": "x"})]),
        ('Bearer realm="open', [("bearer", {})]),
        ("Negotiate abc==", [("negotiate", {})]),
        ("=", []),
        (",,,", []),
    ],
)  # fmt: skip
def test_challenges_are_parsed(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == expected


@given(st.text(max_size=100))
def test_any_challenge_is_parsed_without_an_error(header: str) -> None:
    parse_challenges(header)


def test_origins_are_equal_when_credentials_may_be_shared() -> None:
    assert Origin("https://a.test/x") == Origin("https://A.TEST:443/y?z")
    assert Origin("http://a.test") == Origin("http://a.test:80/")
    for other in ("http://a.test", "https://a.test:444", "https://b.test", "https://a.test.b"):
        assert Origin("https://a.test") != Origin(other)
    # What looks like a host may be a user name.
    assert Origin("https://a.test@evil.test/").host == "evil.test"
    assert Origin("https://a.test:443@evil.test/").host == "evil.test"


@pytest.mark.parametrize(
    "url",
    ["", "a.test", "//a.test", "ftp://a.test", "https://", "https:///x", "https://a.test:x/",
     "https://a.test:99999/", "https://[::1", "https://a.test/\r\nX: y", "https://a.test/\x1b",
     "https://evil.test\\@a.test/", "http://evil.test\\@localhost/", "https://a.test/ b"],
)  # fmt: skip
def test_nonsense_addresses_are_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="invalid address") as caught:
        Origin(url)
    assert caught.value.message.isprintable()


def test_addresses_in_messages_hold_no_secrets() -> None:
    with pytest.raises(RegistryError) as caught:
        Origin("https://user:secret1@a.test:x/path?signature=secret2#secret3")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("::1", True), ("127.0.0.1.evil.test", False), ("localhost.evil.test", False),
        ("10.0.0.1", False), ("0.0.0.0", False), ("127", False), ("127.1", False),
        ("::ffff:1.2.3.4", False), ("a.test", False), ("", False),
    ],
)  # fmt: skip
def test_only_real_loopbacks_count(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", None), ("5", 5.0), (" 7 ", 7.0), ("-3", None), ("x", None),
     ("²", None), ("9" * 400, 999999999.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)  # fmt: skip
def test_waiting_times_are_read(value: str | None, expected: float | None) -> None:
    assert transport._retry_after(value) == expected


class Memory:
    """A source with its blobs in memory."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs
        self.fetched: list[str] = []

    def fetch(self, descriptor: Descriptor, destination: str, progress: object = None) -> None:
        self.fetched.append(descriptor.digest)
        with open(destination, "wb") as file:
            file.write(self.blobs[descriptor.digest])


def test_downloads_are_named_by_digest_and_made_once(tmp_path: object) -> None:
    blobs = {digest.of(data): data for data in (b"a", b"bb", b"ccc")}
    descriptors = [Descriptor("", name, len(data)) for name, data in blobs.items()]
    source = Memory(blobs)
    with download_all(source, descriptors * 2, str(tmp_path), jobs=2) as downloads:
        paths = downloads.wait_all()
        assert paths == [f"{tmp_path}/{name[7:]}" for name in blobs]
        for name, data in blobs.items():
            with open(downloads.wait(name), "rb") as file:
                assert file.read() == data
    assert sorted(source.fetched) == sorted(blobs)


def test_no_layers_are_no_downloads(tmp_path: object) -> None:
    with download_all(Memory({}), [], str(tmp_path)) as downloads:
        assert downloads.wait_all() == []


def test_an_error_reaches_whoever_waits(tmp_path: object) -> None:
    missing = Descriptor("", digest.of(b"x"), 1)
    with download_all(Memory({}), [missing], str(tmp_path)) as downloads, pytest.raises(KeyError):
        downloads.wait(missing.digest)


@given(
    st.text(
        st.sampled_from("ab.:/\\@[]?#%12 -_\t\n\r;&=") | st.characters(max_codepoint=300),
        max_size=25,
    )
)
def test_an_origin_is_where_the_library_connects_to(tail: str) -> None:
    import urllib3

    url = f"https://{tail}"
    try:
        origin = Origin(url)
    except RegistryError:
        return
    pool = urllib3.PoolManager().connection_from_url(url)
    assert (origin.host, origin.port) == (pool.host.strip("[]").lower(), pool.port)
