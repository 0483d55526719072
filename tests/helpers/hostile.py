"""A registry that misbehaves on request: an HTTP or HTTPS server in threads of the test."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.registry import digest_of

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; answers call `send` or write to ``wfile`` themselves."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(path)
        try:
            if answer is None:
                self.send(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}')
            else:
                answer(self)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_POST = do_GET

    @property
    def count(self) -> int:
        """How often this path was asked for, this time included."""
        return sum(path == self.path for path, _ in self.server.seen)

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; underscores in header names mean dashes, Content-Length may lie."""
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        """Close the connection after this answer."""
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answers: dict[str, Answer]
    seen: list[tuple[str, dict[str, str]]]

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what these tests are about."""


class HostileServer:
    """Use as a context manager; set ``answers[path]`` to functions that misbehave."""

    def __init__(self, tls: tuple[str, str] | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), Request)
        self._server.answers = {"/v2/": lambda request: request.send(200, b"{}")}
        self._server.seen = []
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            # The handshake happens in the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> HostileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """``localhost:PORT``."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Scheme and address."""
        return f"{self.scheme}://{self.address}"

    @property
    def answers(self) -> dict[str, Answer]:
        return self._server.answers

    @property
    def seen(self) -> list[tuple[str, dict[str, str]]]:
        """Paths (with queries) and headers of all requests so far."""
        return self._server.seen

    def requests(self, path: str) -> list[dict[str, str]]:
        """The headers of every request for a path."""
        return [headers for seen, headers in self.seen if seen.partition("?")[0] == path]

    def serve_blob(self, name: str, data: bytes) -> dict[str, Any]:
        """Serve a blob honestly; return its descriptor without a type."""
        digest = digest_of(data)
        self.answers[f"/v2/{name}/blobs/{digest}"] = lambda request: request.send(200, data)
        return {"digest": digest, "size": len(data)}

    def serve_manifest(
        self, name: str, tag: str, document: dict[str, Any] | bytes, kind: str = MANIFEST_TYPE
    ) -> bytes:
        """Serve a manifest honestly under its tag and digest; return its bytes."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        for reference in (tag, digest_of(raw)):
            self.answers[f"/v2/{name}/manifests/{reference}"] = lambda request: request.send(
                200, raw, Content_Type=kind, Docker_Content_Digest=digest_of(raw)
            )
        return raw

    def serve_image(self, name: str, tag: str, layers: list[bytes]) -> dict[str, Any]:
        """Serve an honest image of plain layers; return its manifest document."""
        config = json.dumps({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }).encode()  # fmt: skip
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, **self.serve_blob(name, config)},
            "layers": [
                {"mediaType": LAYER_TYPE, **self.serve_blob(name, layer)} for layer in layers
            ],
        }
        self.serve_manifest(name, tag, document)
        return document


def make_certificate(folder: str) -> tuple[str, str]:
    """A self-signed certificate for localhost and 127.0.0.1: paths of certificate and key."""
    certificate, key = f"{folder}/registry.crt", f"{folder}/registry.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        ],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return certificate, key
