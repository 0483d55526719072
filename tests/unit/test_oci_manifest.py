"""Manifests, indexes and configurations from strangers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import UsageError
from strata.oci import digest, manifest
from strata.oci.manifest import Descriptor, InvalidDocument, NoMatchingPlatform, Platform

A, B, C = (digest.of(name) for name in (b"a", b"b", b"c"))


def image(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": {"mediaType": manifest.OCI_CONFIG, "digest": A, "size": 10},
        "layers": [{"mediaType": f"{manifest.OCI_LAYER}+gzip", "digest": B, "size": 20}],
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def encode(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()


def layer(**changes: Any) -> dict[str, Any]:
    return {"mediaType": f"{manifest.OCI_LAYER}+gzip", "digest": B, "size": 20} | changes


def test_a_manifest_keeps_its_bytes() -> None:
    raw = encode(image(annotations={"a": "b"}))
    parsed = manifest.parse_manifest(raw, manifest.OCI_MANIFEST)
    assert parsed.raw is raw
    assert parsed.digest == digest.of(raw)
    assert parsed.config.digest == A
    assert [entry.digest for entry in parsed.layers] == [B]
    assert parsed.annotations == {"a": "b"}


@pytest.mark.parametrize(("kind", "compression"), manifest.LAYER_TYPES.items())
def test_known_layers_are_accepted(kind: str, compression: str) -> None:
    parsed = manifest.parse_manifest(encode(image(layers=[layer(mediaType=kind)])))
    assert parsed.layers[0].compression == compression


@pytest.mark.parametrize(
    "declared",
    ["", "application/json", "text/plain; charset=utf-8", "application/octet-stream",
     manifest.OCI_MANIFEST, f"{manifest.OCI_MANIFEST}; charset=utf-8"],
)  # fmt: skip
def test_a_generic_transport_type_is_settled_by_the_document(declared: str) -> None:
    assert manifest.detect_media_type(encode(image()), declared) == manifest.OCI_MANIFEST


def test_a_document_without_type_is_told_by_its_shape() -> None:
    assert manifest.detect_media_type(encode(image(mediaType=...)), "") == manifest.OCI_MANIFEST
    index = {"schemaVersion": 2, "manifests": []}
    assert manifest.detect_media_type(encode(index), "") == manifest.OCI_INDEX


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (image(schemaVersion=3), "schema version 3"),
        (image(schemaVersion=1), "schema version 1"),
        ({"schemaVersion": 1, "fsLayers": []}, "schema version 1"),
        (image(mediaType="application/vnd.oci.artifact"), "unsupported manifest media type"),
        (image(mediaType=..., manifests=[]), "ambiguous"),
        (image(manifests=[]), "ambiguous"),
        (image(config=...), "malformed"),
        (image(layers=...), "malformed"),
        (image(layers=None), "malformed"),
        (image(layers={}), "malformed"),
        (image(layers=[layer()] * 1001), "1001 layers"),
        (image(layers=[layer(size=-1)]), "malformed"),
        (image(layers=[layer(size=1 << 70)]), "malformed"),
        (image(layers=[layer(size="20")]), "malformed"),
        (image(layers=[layer(size=1.5)]), "malformed"),
        (image(layers=[layer(digest="nonsense")]), "invalid digest"),
        (image(layers=[layer(digest="sha256:../../../etc/passwd")]), "invalid digest"),
        (image(layers=[layer(mediaType="application/zip")]), "unsupported media type"),
        (image(layers=[layer(mediaType="\x1b[2J")]), "unsupported media type"),
        (image(config={"mediaType": manifest.OCI_CONFIG, "digest": A, "size": 9 << 20}), "8 MiB"),
        (image(config={"mediaType": "application/vnd.helm", "digest": A, "size": 1}), "artifact"),
        (image(annotations={"a": 5}), "malformed"),
        ([], "malformed"),
        ("x", "malformed"),
        (None, "malformed"),
    ],
)
def test_bad_manifests_are_refused(document: object, message: str) -> None:
    with pytest.raises(InvalidDocument, match=message) as caught:
        manifest.parse_manifest(encode(document))
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "kind",
    ["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
     "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"],
)  # fmt: skip
def test_layers_kept_elsewhere_are_refused(kind: str) -> None:
    document = image(layers=[layer(mediaType=kind, urls=["https://example.test/x"])])
    with pytest.raises(InvalidDocument, match="nondistributable") as caught:
        manifest.parse_manifest(encode(document))
    assert "never fetched" in caught.value.hint


def test_the_transport_and_the_document_must_agree() -> None:
    with pytest.raises(InvalidDocument, match="but came as"):
        manifest.parse_manifest(encode(image()), manifest.DOCKER_MANIFEST)


@pytest.mark.parametrize("kind", manifest.SCHEMA1_TYPES)
def test_schema_one_is_refused_by_its_type(kind: str) -> None:
    with pytest.raises(InvalidDocument, match="schema version 1") as caught:
        manifest.parse_manifest(b"{}", kind)
    assert "push the image again" in caught.value.hint


def test_large_documents_are_refused_unread() -> None:
    with pytest.raises(InvalidDocument, match="4 MiB"):
        manifest.parse_manifest(b" " * ((4 << 20) + 1))
    with pytest.raises(InvalidDocument, match="8 MiB"):
        manifest.parse_config(b" " * ((8 << 20) + 1))


def is_read_or_refused(parse: Callable[[bytes], object], raw: bytes) -> bool:
    try:
        parse(raw)
    except InvalidDocument as error:
        return error.message.isprintable() and error.hint.isprintable()
    return True


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_an_invalid_document(raw: bytes) -> None:
    for parse in (manifest.parse_manifest, manifest.parse_index, manifest.parse_config):
        assert is_read_or_refused(parse, raw)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size",
             "rootfs", "diff_ids", "history", "type", "Env", "Labels", "os", "platform"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(_json)
def test_any_json_is_a_document_or_an_invalid_document(document: object) -> None:
    raw = json.dumps(document).encode()
    for parse in (manifest.parse_manifest, manifest.parse_index, manifest.parse_config):
        assert is_read_or_refused(parse, raw)


# Indexes and platforms


def index(*platforms: str, **changes: Any) -> manifest.Index:
    entries: list[dict[str, Any]] = []
    for number, text in enumerate(platforms):
        entry = layer(mediaType=manifest.OCI_MANIFEST, digest=digest.of(b"%d" % number))
        if text:
            names = ("os", "architecture", "variant")
            entry["platform"] = dict(zip(names, text.split("/"), strict=False))
        entries.append(entry | changes)
    return manifest.parse_index(encode({"schemaVersion": 2, "manifests": entries}))


def chosen(found: Descriptor) -> int:
    return [digest.of(b"%d" % number) for number in range(10)].index(found.digest)


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        (["linux/arm64/v8", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm64/v8", "linux/amd64"], "linux/arm64", 0),
        (["linux/arm64", "linux/amd64"], "linux/arm64/v8", 0),
        (["linux/aarch64", "linux/x86_64"], "amd64", 1),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm", "linux/arm/v6"], "linux/arm/v7", 0),
        (["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6", 0),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64", 0),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64/v3", 0),
        (["linux/amd64/v2", "linux/amd64"], "linux/amd64/v3", 0),
        (["linux/amd64/v4", "linux/amd64"], "linux/amd64/v3", 1),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0),
        (["linux/s390x", "linux/i686"], "linux/386", 1),
        ([""], "linux/amd64", 0),
    ],
)
def test_the_platform_is_chosen(offered: list[str], wanted: str, expected: int) -> None:
    assert chosen(manifest.choose_platform(index(*offered), wanted)) == expected


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (["linux/arm64"], "linux/amd64"),
        (["linux/amd64/v3"], "linux/amd64"),
        (["linux/arm/v7"], "linux/arm/v6"),
        (["windows/amd64"], "linux/amd64"),
        (["", ""], "linux/amd64"),
        ([], "linux/amd64"),
    ],
)
def test_no_other_platform_is_taken_instead(offered: list[str], wanted: str) -> None:
    with pytest.raises(NoMatchingPlatform, match="no image found in image index") as caught:
        manifest.choose_platform(index(*offered), wanted)
    assert caught.value.hint


def test_entries_that_are_not_images_are_not_chosen() -> None:
    strange = index("linux/amd64", mediaType="application/vnd.wasm")
    with pytest.raises(NoMatchingPlatform):
        manifest.choose_platform(strange, "linux/amd64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/arm64/v8", Platform("arm64", "linux")),
        ("linux/arm64/8", Platform("arm64", "linux")),
        ("linux/aarch64", Platform("arm64", "linux")),
        ("linux/arm", Platform("arm", "linux", "v7")),
        ("linux/armhf", Platform("arm", "linux", "v7")),
        ("linux/armel", Platform("arm", "linux", "v6")),
        ("Linux/AMD64", Platform("amd64", "linux")),
        ("linux/amd64/v1", Platform("amd64", "linux")),
        ("x86_64", Platform("amd64", "linux")),
        ("linux/ppc64le", Platform("ppc64le", "linux")),
    ],
)
def test_platforms_are_normalised(text: str, expected: Platform) -> None:
    assert manifest.parse_platform(text) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/ä", "a//b"])
def test_nonsense_platforms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid platform") as caught:
        manifest.parse_platform(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "document",
    [{"schemaVersion": 2, "manifests": [], "config": {}, "mediaType": manifest.OCI_INDEX},
     {"schemaVersion": 2, "manifests": [], "layers": [], "mediaType": manifest.OCI_INDEX},
     {"schemaVersion": 2, "manifests": {}},
     {"schemaVersion": 2, "manifests": [layer(digest="x")]},
     image()],
)  # fmt: skip
def test_bad_indexes_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        manifest.parse_index(encode(document))


# Configurations


def config(**changes: Any) -> dict[str, Any]:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None},
        "rootfs": {"type": "layers", "diff_ids": [A, B]},
        "history": [
            {"created_by": "one"},
            {"created_by": "env", "empty_layer": True},
            {"created_by": "two", "empty_layer": False},
        ],
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def test_a_config_is_read() -> None:
    raw = encode(config(variant="v2"))
    parsed = manifest.parse_config(raw)
    assert parsed.raw is raw
    assert parsed.id == digest.of(raw)[7:]
    assert parsed.diff_ids == [A, B]
    assert parsed.config == {"Env": ["A=b"], "Cmd": ["sh"]}
    assert parsed.platform == "linux/amd64/v2"
    assert [entry.get("empty_layer", False) for entry in parsed.history] == [False, True, False]


@pytest.mark.parametrize("empty", [..., None, []])
def test_a_config_may_have_no_history(empty: object) -> None:
    assert manifest.parse_config(encode(config(history=empty))).history == []


def test_a_command_written_as_one_string_is_a_list() -> None:
    assert manifest.parse_config(encode(config(config={"Cmd": "sh"}))).config["Cmd"] == ["sh"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rootfs": ...}, "rootfs"),
        ({"rootfs": []}, "rootfs"),
        ({"rootfs": {"type": "other", "diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"diff_ids": ["x"]}, "history": []}, "invalid diff_id"),
        ({"rootfs": {"diff_ids": [5]}, "history": []}, "invalid diff_id"),
        ({"rootfs": {"diff_ids": [A] * 1001}, "history": []}, "1001 layers"),
        ({"rootfs": {"type": "layers", "diff_ids": [A]}}, "names 1 layers but its history 2"),
        ({"history": {}}, "history"),
        ({"history": ["x"]}, "history"),
        ({"history": [{"empty_layer": "yes"}]}, "empty_layer"),
        ({"os": "windows"}, "operating system 'windows'"),
        ({"os": 5}, "os of the image"),
        ({"config": []}, "config of the image"),
        ({"config": {"Env": "A=b"}}, "config.Env"),
        ({"config": {"Env": [5]}}, "config.Env"),
        ({"config": {"Env": ["A=\0"]}}, "config.Env"),
        ({"config": {"Cmd": ["\ud800"]}}, "config.Cmd"),
        ({"config": {"User": 0}}, "config.User"),
        ({"config": {"WorkingDir": "/a\0b"}}, "config.WorkingDir"),
        ({"config": {"Volumes": ["/data"]}}, "config.Volumes"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels"),
        ({"config": {"ExposedPorts": "80"}}, "config.ExposedPorts"),
    ],
)
def test_bad_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument, match=message) as caught:
        manifest.parse_config(encode(config(**changes)))
    assert caught.value.hint


def test_manifest_and_config_must_have_as_many_layers() -> None:
    parsed = manifest.parse_config(encode(config()))
    with pytest.raises(InvalidDocument, match="names 1 layers but the image configuration 2"):
        manifest.check_layers(manifest.parse_manifest(encode(image())), parsed)
    manifest.check_layers(manifest.parse_manifest(encode(image(layers=[layer(), layer()]))), parsed)


# Writing


def test_written_documents_are_deterministic_and_read_back() -> None:
    def write(labels: dict[str, str]) -> bytes:
        return manifest.build_config(
            architecture="amd64",
            diff_ids=[A],
            history=[{"created_by": "x", "empty_layer": False}],
            created="2024-01-01T00:00:00Z",
            config={"Labels": labels, "Cmd": ["ä"], "Env": [], "User": ""},
        )

    raw = write({"b": "2", "a": "1"})
    assert raw == write({"a": "1", "b": "2"})
    assert (
        raw
        == (
            '{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux",'
            '"config":{"Cmd":["ä"],"Labels":{"a":"1","b":"2"}},'
            f'"rootfs":{{"type":"layers","diff_ids":["{A}"]}},'
            '"history":[{"created_by":"x"}]}'
        ).encode()
    )
    assert manifest.parse_config(raw).config == {"Cmd": ["ä"], "Labels": {"a": "1", "b": "2"}}


@pytest.mark.parametrize("docker", [False, True])
def test_written_manifests_read_back(docker: bool) -> None:
    kinds = (manifest.DOCKER_CONFIG, f"{manifest.DOCKER_LAYER}.gzip") if docker else (
        manifest.OCI_CONFIG, f"{manifest.OCI_LAYER}+zstd"
    )  # fmt: skip
    raw = manifest.build_manifest(
        Descriptor(kinds[0], A, 1), [Descriptor(kinds[1], B, 2)], docker=docker
    )
    parsed = manifest.parse_manifest(raw)
    assert (parsed.config.media_type, parsed.layers[0].media_type) == kinds
    assert parsed.layers[0].size == 2


def test_written_indexes_read_back() -> None:
    entry = Descriptor(manifest.OCI_MANIFEST, A, 1, platform=Platform("arm", "linux", "v7"),
                       annotations={"org.opencontainers.image.ref.name": "x"})  # fmt: skip
    parsed = manifest.parse_index(manifest.build_index([entry]))
    assert parsed.manifests == [entry]


def test_an_inconsistent_config_is_not_written() -> None:
    with pytest.raises(InvalidDocument):
        manifest.build_config(
            architecture="amd64", diff_ids=[A, B], history=[{"created_by": "x"}], created=""
        )
