"""What is measured with: a tiny image, one of 100 MB in 5,000 files, and a registry to pull from.

Made here from the host's static busybox and random bytes, so no registry is needed and every
engine gets the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import random
import subprocess
import tarfile
import time

BUSYBOX = "/bin/busybox"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_small_layer() -> bytes:
    """A tar with busybox and the few names the benchmarks call."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        with open(BUSYBOX, "rb") as file:
            data = file.read()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
        for name in ("sh", "true", "sleep", "cat"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def make_large_layer(seed: int, size: int = 100_000_000, files: int = 5_000) -> bytes:
    """A tar of ``files`` files, together ``size`` bytes, as compressible as program files are."""
    source = random.Random(seed)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(files):
            if number % 100 == 0:
                entry = tarfile.TarInfo(f"data/{number // 100:03d}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            length = size // files
            half = source.randbytes(length // 2)
            entry = tarfile.TarInfo(f"data/{number // 100:03d}/{number:05d}")
            entry.size, entry.mode, entry.mtime = length, 0o644, 1_700_000_000
            tar.addfile(entry, io.BytesIO(half + bytes(length - len(half))))
    return buffer.getvalue()


def _config(layers: list[bytes]) -> bytes:
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in layers],
    }).encode()  # fmt: skip


def write_docker_archive(path: str, name: str, layers: list[bytes]) -> None:
    """Write what ``load`` of every engine reads."""
    config = _config(layers)
    files = {f"{hashlib.sha256(config).hexdigest()}.json": config}
    files |= {f"{hashlib.sha256(layer).hexdigest()}.tar": layer for layer in layers}
    names = list(files)
    files["manifest.json"] = json.dumps(
        [{"Config": names[0], "RepoTags": [name], "Layers": names[1:]}]
    ).encode()
    with tarfile.open(path, "w") as tar:
        for file_name, data in files.items():
            entry = tarfile.TarInfo(file_name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


class Registry:
    """Debian's docker-registry on a port of localhost, with a folder of its own."""

    def __init__(self, folder: str, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        os.makedirs(self.folder)
        with open(f"{self.folder}/config.yml", "w", encoding="utf-8") as file:
            file.write(
                "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\n"
                f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
            )
        with open(f"{self.folder}/log", "wb") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", f"{self.folder}/config.yml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                self._request("GET", "/v2/")
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def _request(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        response.read()
        if response.status >= 400:
            raise OSError(f"{method} {path}: {response.status}")
        return response

    def push(self, repository: str, tag: str, layers: list[bytes]) -> str:
        """Store an image of gzip layers; return the reference to pull it by."""
        config = _config(layers)
        blobs = [config, *(gzip.compress(layer, 6, mtime=0) for layer in layers)]
        for blob in blobs:
            started = self._request("POST", f"/v2/{repository}/blobs/uploads/")
            place = started.headers["Location"].split(f":{self.port}", 1)[-1]
            mark = "&" if "?" in place else "?"
            self._request("PUT", f"{place}{mark}digest={_digest(blob)}", blob,
                          "application/octet-stream")  # fmt: skip
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                       "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(blob), "digest": _digest(blob)} for blob in blobs[1:]],
        }  # fmt: skip
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(),
                      kind)  # fmt: skip
        return f"localhost:{self.port}/{repository}:{tag}"
