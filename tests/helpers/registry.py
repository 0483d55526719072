"""A real registry for tests: Debian's ``docker-registry`` on the loopback, and an uploader."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from typing import Any

import zstandard

PROGRAM = "docker-registry"
USER, PASSWORD = "reader", "correct horse"
# bcrypt of the password with the cheapest cost; the registry knows no other format.
_HTPASSWD = f"{USER}:$2b$04$d5FI.fOxoJyCDRUMEKQpju40.XnR2z2DdyUUHiAl1wqtBXLa2Zdsu\n"

_OCI = "application/vnd.oci.image"
_SUFFIX = {"gzip": "+gzip", "zstd": "+zstd", "plain": ""}


def digest_of(data: bytes) -> str:
    """``sha256:hex`` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_tar(files: dict[str, bytes]) -> bytes:
    """A plain tar of regular files; a name that ends in / is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755 if name.endswith("/") else 0o644
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def compress(data: bytes, compression: str) -> bytes:
    """A layer as it is stored: ``gzip``, ``zstd`` or ``plain``."""
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(data)
    return data


class PushedImage:
    """What `RegistryServer.push_image` stored: digests and the raw documents."""

    def __init__(self, manifest: bytes, config: bytes, layers: list[dict[str, Any]]) -> None:
        self.manifest = manifest
        self.config = config
        self.layers = layers

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def id(self) -> str:
        """The image id: hex digest of the config."""
        return digest_of(self.config).partition(":")[2]


class RegistryServer:
    """A registry process with its own temporary data; use it as a context manager.

    With ``htpasswd`` it wants `USER` and `PASSWORD`; with ``tls`` (certificate and key paths) it
    speaks https.
    """

    def __init__(self, *, htpasswd: bool = False, tls: tuple[str, str] | None = None) -> None:
        self._htpasswd = htpasswd
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self.port = 0

    @property
    def address(self) -> str:
        """``localhost:PORT``: what image names start with."""
        return f"localhost:{self.port}"

    @property
    def log(self) -> str:
        """Everything the registry has written so far, one line per request."""
        with open(f"{self._folder}/log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def __enter__(self) -> RegistryServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the registry on a free port and wait until it listens."""
        self._folder = tempfile.mkdtemp(prefix="strata-registry-", dir="/var/tmp")
        try:
            self.port = _free_port()
            config = f"{self._folder}/config.json"
            with open(config, "w", encoding="utf-8") as file:
                json.dump(self._config(), file)  # JSON is YAML
            with open(f"{self._folder}/htpasswd", "w", encoding="utf-8") as file:
                file.write(_HTPASSWD)
            with open(f"{self._folder}/log", "wb") as log:
                self._process = subprocess.Popen(
                    [PROGRAM, "serve", config],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"},
                )
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the registry and remove its data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def push_image(
        self,
        name: str,
        tag: str,
        layers: list[bytes],
        config: dict[str, Any] | None = None,
        *,
        compression: str = "gzip",
        architecture: str = "amd64",
        docker: bool = False,
    ) -> PushedImage:
        """Store an image made of uncompressed tars; ``config`` is its run-time part (``Cmd``, …).

        ``docker`` writes Docker schema 2 media types (gzip layers) instead of OCI ones.
        """
        document = {
            "created": "2024-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": f"layer {number}"}
                for number in range(len(layers))
            ],
        }
        raw_config = json.dumps(document).encode()
        kind = f"{_OCI}.layer.v1.tar{_SUFFIX[compression]}"
        config_kind, manifest_kind = f"{_OCI}.config.v1+json", f"{_OCI}.manifest.v1+json"
        if docker:
            kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
            config_kind = "application/vnd.docker.container.image.v1+json"
            manifest_kind = "application/vnd.docker.distribution.manifest.v2+json"
        descriptors = []
        for layer in layers:
            blob = compress(layer, compression)
            descriptors.append({"mediaType": kind, **self.push_blob(name, blob)})
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifest_kind,
            "config": {"mediaType": config_kind, **self.push_blob(name, raw_config)},
            "layers": descriptors,
        }
        raw = json.dumps(manifest, indent=3).encode()
        self.push_manifest(name, tag, raw, manifest_kind)
        return PushedImage(raw, raw_config, descriptors)

    def push_index(self, name: str, tag: str, images: dict[str, PushedImage]) -> bytes:
        """Store an index of pushed images by platform (``linux/arm64/v8``); return its bytes."""
        entries = []
        for platform, image in images.items():
            system, architecture, *variant = platform.split("/")
            entry = {"os": system, "architecture": architecture}
            if variant:
                entry["variant"] = variant[0]
            entries.append(
                {
                    "mediaType": json.loads(image.manifest)["mediaType"],
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "platform": entry,
                }
            )
        kind = f"{_OCI}.index.v1+json"
        raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
        self.push_manifest(name, tag, raw, kind)
        return raw

    def push_blob(self, name: str, data: bytes) -> dict[str, Any]:
        """Store a blob; return the digest and size part of its descriptor."""
        digest = digest_of(data)
        status, headers, _ = self._request("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, status
        location = headers["Location"].partition(f":{self.port}")[2] or headers["Location"]
        joint = "&" if "?" in location else "?"
        status, _, body = self._request(
            "PUT",
            f"{location}{joint}digest={digest}",
            data,
            {"Content-Type": "application/octet-stream"},
        )
        assert status == 201, (status, body)
        return {"digest": digest, "size": len(data)}

    def push_manifest(self, name: str, tag: str, raw: bytes, media_type: str) -> None:
        """Store a manifest or index under a tag or digest."""
        status, _, body = self._request(
            "PUT", f"/v2/{name}/manifests/{tag}", raw, {"Content-Type": media_type}
        )
        assert status == 201, (status, body)

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        sent = {"Content-Length": str(len(body)), **(headers or {})}
        if self._htpasswd:
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        connection: http.client.HTTPConnection
        if self._tls:
            import ssl

            context = ssl.create_default_context(cafile=self._tls[0])
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=30, context=context
            )
        else:
            connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def _config(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": f"{self._folder}/data"},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        if self._htpasswd:
            document["auth"] = {
                "htpasswd": {"realm": "test", "path": f"{self._folder}/htpasswd"},
            }
        if self._tls:
            document["http"]["tls"] = {"certificate": self._tls[0], "key": self._tls[1]}
        return document

    def _wait(self) -> None:
        """Poll the port: the registry gives no other sign that it listens."""
        assert self._process is not None
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"docker-registry did not start: {self.log}") from None
                time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
