"""Reading images from a real registry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hostile import make_certificate
from helpers.registry import PASSWORD, USER, PushedImage, RegistryServer, compress, make_tar

from strata.errors import RegistryError, Unauthorized
from strata.oci import digest
from strata.oci.manifest import (
    NoMatchingPlatform,
    check_layers,
    parse_config,
    parse_manifest,
)
from strata.registry.client import ManifestUnknown, open_source
from strata.registry.download import download_all

LAYERS = [make_tar({"etc/": b"", "etc/motd": b"hello\n"}), make_tar({"data": b"x" * 300_000})]


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="module")
def private() -> Iterator[RegistryServer]:
    with RegistryServer(htpasswd=True) as server:
        server.push_image("team/app", "1", LAYERS)
        yield server


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_an_image_is_read_byte_for_byte(
    registry: RegistryServer, tmp_path: Path, compression: str, jobs: int
) -> None:
    pushed = registry.push_image("app", compression, LAYERS, {"Cmd": ["sh"]},
                                 compression=compression)  # fmt: skip
    name = f"{registry.address}/app:{compression}"
    with open_source(name, platform="linux/amd64") as source:
        raw, kind = source.get_manifest()
        manifest = parse_manifest(raw, kind)
        raw_config = source.get_config(manifest.config)
        with download_all(source, manifest.layers, str(tmp_path), jobs=jobs) as downloads:
            paths = downloads.wait_all()
    assert raw == pushed.manifest
    assert raw_config == pushed.config
    assert source.top_digest == source.manifest_digest == pushed.digest
    config = parse_config(raw_config)
    check_layers(manifest, config)
    assert config.id == pushed.id
    assert config.config == {"Cmd": ["sh"]}
    for path, layer in zip(paths, LAYERS, strict=True):
        assert Path(path).read_bytes() == compress(layer, compression)
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(path) for path in paths)


def test_docker_manifests_are_read(registry: RegistryServer) -> None:
    pushed = registry.push_image("docker", "1", LAYERS, docker=True)
    with open_source(f"{registry.address}/docker:1") as source:
        manifest = parse_manifest(*source.get_manifest())
        assert manifest.raw == pushed.manifest
        assert [layer.compression for layer in manifest.layers] == ["gzip", "gzip"]


@pytest.fixture(scope="module")
def platforms(registry: RegistryServer) -> dict[str, PushedImage]:
    images = {
        f"linux/{name}": registry.push_image(
            "multi", name.replace("/", "-"), [make_tar({name: b""})],
            architecture=name.partition("/")[0],
        )
        for name in ("amd64", "arm64/v8", "arm/v7", "arm/v6")
    }  # fmt: skip
    registry.push_index("multi", "1", images)
    return images


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("linux/amd64", "linux/amd64"), ("linux/arm64", "linux/arm64/v8"),
     ("linux/arm/v6", "linux/arm/v6"), ("linux/arm", "linux/arm/v7")],
)  # fmt: skip
def test_an_index_gives_the_image_of_the_platform(
    registry: RegistryServer, platforms: dict[str, PushedImage], wanted: str, expected: str
) -> None:
    with open_source(f"{registry.address}/multi:1", platform=wanted) as source:
        raw, _ = source.get_manifest()
    assert raw == platforms[expected].manifest
    assert source.manifest_digest == platforms[expected].digest
    assert source.top_digest != source.manifest_digest


@pytest.mark.usefixtures("platforms")
def test_a_platform_that_is_not_there_is_said(registry: RegistryServer) -> None:
    with (
        open_source(f"{registry.address}/multi:1", platform="linux/s390x") as source,
        pytest.raises(NoMatchingPlatform, match='architecture "s390x"') as caught,
    ):
        source.get_manifest()
    assert "linux/arm/v6" in caught.value.hint


def test_an_image_is_read_by_digest(registry: RegistryServer) -> None:
    pushed = registry.push_image("app", "digest", LAYERS)
    for name in (f"app@{pushed.digest}", f"app:nonsense@{pushed.digest}"):
        with open_source(f"{registry.address}/{name}") as source:
            assert source.get_manifest()[0] == pushed.manifest


@pytest.mark.parametrize("name", ["nowhere:1", "app:nowhere", f"app@{digest.of(b'')}"])
def test_what_is_not_there_is_said_in_podmans_words(registry: RegistryServer, name: str) -> None:
    registry.push_image("app", "1", LAYERS)
    with (
        open_source(f"{registry.address}/{name}") as source,
        pytest.raises(ManifestUnknown, match=r"reading manifest .* unknown") as caught,
    ):
        source.get_manifest()
    assert caught.value.exit_code == 125
    assert caught.value.hint


def test_a_login_opens_a_private_registry(private: RegistryServer, tmp_path: Path) -> None:
    with open_source(f"{private.address}/team/app:1", credentials=(USER, PASSWORD)) as source:
        manifest = parse_manifest(*source.get_manifest())
        with download_all(source, manifest.layers, str(tmp_path)) as downloads:
            assert len(downloads.wait_all()) == 2


def test_an_auth_file_opens_a_private_registry(private: RegistryServer, tmp_path: Path) -> None:
    import base64

    packed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {f"{private.address}/team": {"auth": packed}}}))
    with open_source(f"{private.address}/team/app:1", authfile=str(path)) as source:
        assert source.get_manifest()


def test_a_credential_helper_opens_a_private_registry(
    private: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strata import command

    helper = tmp_path / "docker-credential-test"
    answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {private.address}' ] || "
                      f"exit 1\necho '{answer}'\n")  # fmt: skip
    helper.chmod(0o755)
    monkeypatch.setitem(command.ENVIRONMENT, "PATH", f"{tmp_path}:{command.ENVIRONMENT['PATH']}")
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"credHelpers": {private.address: "test"}}))
    with open_source(f"{private.address}/team/app:1", authfile=str(path)) as source:
        assert source.get_manifest()


@pytest.mark.parametrize("credentials", [None, (USER, "wrong"), ("nobody", PASSWORD)])
def test_a_private_registry_stays_closed(
    private: RegistryServer, credentials: tuple[str, str] | None, tmp_path: Path
) -> None:
    empty = tmp_path / "auth.json"
    empty.write_text("{}")
    with (
        open_source(
            f"{private.address}/team/app:1", credentials=credentials, authfile=str(empty)
        ) as source,
        pytest.raises(Unauthorized, match="unauthorized: ") as caught,
    ):
        source.get_manifest()
    assert PASSWORD not in caught.value.message
    assert caught.value.hint


def test_a_registry_over_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    with RegistryServer(tls=certificate, htpasswd=True) as server:
        pushed = server.push_image("app", "1", LAYERS)
        for tls_verify in (None, True, False):
            with open_source(
                f"{server.address}/app:1", credentials=(USER, PASSWORD), tls_verify=tls_verify
            ) as source:
                assert source.get_manifest()[0] == pushed.manifest


def test_plain_http_is_the_last_resort_without_verification(registry: RegistryServer) -> None:
    pushed = registry.push_image("app", "plain-http", LAYERS)
    with open_source(f"{registry.address}/app:plain-http", tls_verify=False) as source:
        assert source.get_manifest()[0] == pushed.manifest
    with (
        open_source(f"{registry.address}/app:plain-http", tls_verify=True) as source,
        pytest.raises(RegistryError, match="server gave HTTP response to HTTPS client") as caught,
    ):
        source.get_manifest()
    assert caught.value.hint


def test_a_real_registry_resumes(registry: RegistryServer, tmp_path: Path) -> None:
    layer = make_tar({"big": os.urandom(3_000_000)})
    registry.push_image("app", "resume", [layer], compression="plain")
    with open_source(f"{registry.address}/app:resume") as source:
        [descriptor] = parse_manifest(*source.get_manifest()).layers
        path = tmp_path / "blob"
        (tmp_path / "blob.partial").write_bytes(layer[:1_000_000])
        seen: list[int] = []
        source.fetch(descriptor, str(path), lambda _digest, done, _total: seen.append(done))
    assert path.read_bytes() == layer
    assert seen[0] == 1_000_000
    assert seen[-1] == len(layer)
    assert seen == sorted(seen)


def test_connections_are_reused(registry: RegistryServer, tmp_path: Path) -> None:
    """One connection carries the ping, the manifest, the config and the layers."""
    registry.push_image("app", "reuse", LAYERS)
    with open_source(f"{registry.address}/app:reuse", connections=1) as source:
        manifest = parse_manifest(*source.get_manifest())
        source.get_config(manifest.config)
        for number, layer in enumerate(manifest.layers):
            source.fetch(layer, f"{tmp_path}/{number}")
        [pool] = source.transport._pools.values()
        [connections] = [pool.pools[key] for key in pool.pools.keys()]  # noqa: SIM118
        assert connections.num_connections == 1
        assert connections.num_requests == 5
