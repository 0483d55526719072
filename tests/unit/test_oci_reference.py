"""Image references: Docker's short names, the distribution grammar, clear refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.oci import reference
from strata.oci.reference import InvalidReference, Reference, parse

SHA = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "name", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker://debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("docker.io/localhost/a", "docker.io/localhost/a:latest", None),
        ("docker.io/x.y/a", "docker.io/x.y/a:latest", None),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost/a/b/c:1", "localhost/a/b/c:1", "localhost/a/b/c:1"),
        ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest"),
        ("host:5000", "docker.io/library/host:5000", "host:5000"),
        ("quay.io/a/b.c__d-e---f:V_1.2-3", "quay.io/a/b.c__d-e---f:V_1.2-3", None),
        ("Host/app", "Host/app:latest", None),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest", None),
        ("[::1]:5000/app", "[::1]:5000/app:latest", None),
        ("[2001:db8::1]/app:2", "[2001:db8::1]/app:2", None),
        (f"debian@{SHA}", f"docker.io/library/debian@{SHA}", f"debian@{SHA}"),
        (f"debian:12@{SHA}", f"docker.io/library/debian:12@{SHA}", f"debian:12@{SHA}"),
        (f"host:5000/a@{SHA}", f"host:5000/a@{SHA}", None),
        (
            f"a@sha512:{'0f' * 64}",
            f"docker.io/library/a@sha512:{'0f' * 64}",
            f"a@sha512:{'0f' * 64}",
        ),
    ],
)
def test_names_are_completed(text: str, name: str, familiar: str | None) -> None:
    parsed = parse(text)
    assert parsed.name == name
    assert str(parsed) == (familiar or name)


def test_the_parts_are_told_apart() -> None:
    parsed = parse(f"host:5000/team/app:1@{SHA}")
    assert (parsed.registry, parsed.repository, parsed.tag, parsed.digest) == (
        "host:5000", "team/app", "1", SHA,
    )  # fmt: skip
    assert parsed.repository_name == "host:5000/team/app"
    assert parse(f"debian@{SHA}").tag == ""
    assert parsed.with_digest(SHA).name == f"host:5000/team/app@{SHA}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (" debian", "invalid reference format"),
        ("debian ", "invalid reference format"),
        ("Debian", "repository name must be lowercase"),
        ("docker.io/Debian:12", "repository name must be lowercase"),
        ("https://quay.io/a", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        (".a", "invalid reference format"),
        ("a.", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a._b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:-x", "invalid reference format"),
        ("a:" + "x" * 129, "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\nb", "invalid reference format"),
        ("a\0b", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("a:ä", "invalid reference format"),
        ("host:0/a", "invalid reference format"),
        ("host:99999/a", "invalid reference format"),
        ("host:/a", "invalid reference format"),
        ("host:²/a", "invalid reference format"),
        ("-h.x/a", "invalid reference format"),
        ("h..x/a", "invalid reference format"),
        ("[::1/a", "invalid reference format"),
        ("[::1]x/a", "invalid reference format"),
        ("a@sha256:abc", "invalid checksum digest length"),
        ("a@sha256:" + "G" * 64, "invalid checksum digest format"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("a@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("a@b", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("@" + SHA, "invalid reference format"),
        ("a" * 64, "64-byte hexadecimal"),
        ("x" + "/y" * 130, "must not be more than 255"),
        ("x" * 100_000, "must not be more than 255"),
    ],
)
def test_nonsense_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(InvalidReference, match=message) as caught:
        parse(text)
    error = caught.value
    assert error.hint
    assert error.exit_code == 125
    assert error.message.isprintable()
    assert len(error.message) < 500


def test_an_upper_case_name_is_corrected_in_the_hint() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse("Debian:12")
    assert "'debian:12'" in caught.value.hint


def test_a_short_name_may_be_a_local_build() -> None:
    assert reference.local_candidates("app") == [
        "localhost/app:latest",
        "docker.io/library/app:latest",
    ]
    assert reference.local_candidates("team/app:1") == [
        "localhost/team/app:1",
        "docker.io/team/app:1",
    ]
    assert reference.local_candidates("quay.io/app") == ["quay.io/app:latest"]
    assert reference.local_candidates("localhost/app") == ["localhost/app:latest"]


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("a" * 64, "a" * 64),
        ("0123456789ab", "0123456789ab"),
        ("sha256:abc", "abc"),
        ("cafe", "cafe"),
        ("", None),
        ("sha256:", None),
        ("debian", None),
        ("ABC", None),
        ("a" * 65, None),
    ],
)
def test_image_ids_are_recognised(text: str, prefix: str | None) -> None:
    assert reference.find_id_prefix(text) == prefix


_component = st.from_regex(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(
    lambda text: len(text) < 30
)
_host = st.just("docker.io") | st.from_regex(
    r"[a-z0-9]{1,8}\.[a-z0-9]{1,8}(?::[1-9][0-9]{0,3})?", fullmatch=True
)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(_host, st.lists(_component, min_size=1, max_size=4), _tag, st.sampled_from(["", SHA]))
def test_what_is_printed_parses_to_the_same(
    host: str, path: list[str], tag: str, digest: str
) -> None:
    if host == "docker.io" and len(path) == 1:
        path = ["library", *path]
    parsed = Reference(host, "/".join(path), tag, digest)
    assert parse(parsed.name) == parsed
    assert parse(parsed.familiar) == parsed


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        parsed = parse(text)
    except InvalidReference:
        return
    assert parse(str(parsed)) == parsed
    assert parse(parsed.name) == parsed
