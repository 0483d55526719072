"""Images in: pull, load, import, bootstrap.

All four end the same way: layers are unpacked bottom up into datasets that other images share,
then the image is registered under its names. Layers are leased while that goes on, so collection
leaves them alone; what a broken-off pull unpacked is reused by the next one.
"""

from __future__ import annotations

import contextlib
import os
import time

from strata import command, trace
from strata.engine import events, names
from strata.engine.core import Engine, Record
from strata.engine.images import layers
from strata.engine.images import verbs as images
from strata.engine.spool import Spool, download, keep
from strata.errors import ArchiveError, NetworkError, NotFound, RegistryError, UsageError
from strata.linux import locks
from strata.linux.tree import remove_path
from strata.oci import digest as digests
from strata.oci import manifest as manifests
from strata.oci import reference as references
from strata.oci.config import build_config, parse_config
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from strata.oci.manifest import Descriptor, Manifest
    from strata.store.journal import Operation

PULL_POLICIES = ("always", "missing", "never", "newer")
SUITES = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "sid": "sid",
               "latest": "bookworm", "bullseye": "bullseye", "bookworm": "bookworm",
               "trixie": "trixie"},
}  # fmt: skip


def pull(
    e: Engine, name: str, *, platform: str | None = None, authfile: str | None = None,
    creds: str | None = None, tls_verify: bool | None = None, policy: str = "always",
    retry: int | None = None, retry_delay: float | None = None, progress: Any = None,
) -> str:  # fmt: skip
    """Bring an image into the store and return its id.

    ``policy``: always, missing (only when no such image is here), newer (when the registry's
    differs), never. ``retry`` is how often more a request is made that failed in passing,
    ``retry_delay`` the seconds before the first time; each later pause is twice as long.
    """
    if policy not in PULL_POLICIES:
        raise UsageError(f"invalid pull policy {policy!r}", hint=f"one of {PULL_POLICIES}")
    if policy in ("missing", "never"):
        found = find_for(e, name, platform)
        if found is not None:
            return str(found[0]["id"])
        if policy == "never" and names.find_image(e, name) is not None:
            raise NotFound(f"{name}: the image that is here is not for {platform}")
        if policy == "never":
            raise NotFound(f"{name}: image not known", hint="`strata pull` brings it here")
    if policy == "newer":
        # As with Podman, what is here is good enough where nobody can tell of a newer one.
        here = find_for(e, name, platform)
        if here is not None:
            try:
                return pull(
                    e, name, platform=platform, authfile=authfile, creds=creds,
                    tls_verify=tls_verify, retry=retry, retry_delay=retry_delay,
                    progress=progress,
                )  # fmt: skip
            except (RegistryError, NetworkError):
                return str(here[0]["id"])
    from strata.registry.client import open_source
    from strata.registry.transport import Policy

    patience = Policy()
    if retry is not None:
        patience.attempts = retry + 1
    if retry_delay is not None:
        patience.backoff = retry_delay
    reference = references.parse(name)
    with open_source(
        reference, platform=platform, authfile=authfile, credentials=creds, tls_verify=tls_verify,
        policy=patience,
    ) as source:  # fmt: skip
        raw, media_type = source.get_manifest()
        manifest = manifests.parse_manifest(raw, media_type)
        kept = {manifest.digest, source.top_digest or manifest.digest}
        digests_kept = [reference.with_digest(digest).name for digest in sorted(kept)]
        tags = [] if reference.digest else [reference.name]
        image = _take(e, "pull", source, manifest, tags, digests_kept, progress)
    events.emit(e, events.IMAGE, "pull", id=image["id"], name=name)
    return str(image["id"])


def find_for(e: Engine, name: str, platform: str | None) -> tuple[Record, str] | None:
    """The image that is here under a name, if it is of the platform that was asked for."""
    found = names.find_image(e, name)
    if found is None or platform is None:
        return found
    wanted, image = manifests.parse_platform(platform), found[0]
    same = (image["os"], image["architecture"]) == (wanted.os, wanted.architecture)
    return found if same and wanted.variant in ("", image["variant"]) else None


def _take(
    e: Engine, verb: str, source: Any, manifest: Manifest, image_names: Sequence[str],
    kept_digests: Sequence[str], progress: Any,
) -> Record:  # fmt: skip
    """Bring one image from a source into the store."""
    config_bytes = source.get_config(manifest.config)
    config = parse_config(config_bytes)
    manifests.check_layers(manifest, config)
    chain_ids = digests.chain_ids(config.diff_ids)
    with e.begin(verb) as operation:
        records: list[Record] = []
        missing: list[Descriptor] = []
        present = [layers.lease_known(e, operation, chain_id) for chain_id in chain_ids]
        for found, descriptor in zip(present, manifest.layers, strict=True):
            if found is None:
                missing.append(descriptor)
        trace.point(f"{verb}:planned")
        with _Downloads(e, source, missing, progress) as downloads:
            parent: str | None = None
            for chain_id, diff_id, found, descriptor in zip(
                chain_ids, config.diff_ids, present, manifest.layers, strict=True
            ):
                record = found
                if record is None:
                    blob = downloads.wait(descriptor.digest)
                    trace.point(f"{verb}:downloaded")
                    record = layers.ingest(
                        e, operation, blob, media_type=descriptor.media_type, diff_id=diff_id,
                        chain_id=chain_id, parent=parent,
                    )  # fmt: skip
                records.append(record)
                parent = record["id"]
        return images.register(
            e, config=config_bytes, manifest=manifest.raw, media_type=manifest.media_type,
            layer_records=records, image_names=image_names, digests=kept_digests,
        )  # fmt: skip


class _Downloads:
    """Blobs arriving in parallel in a folder of the store, kept for resume when broken off.

    The folder is this pull's own while another pull runs, so that nobody takes away a blob that
    somebody is about to unpack; partial blobs of pulls that broke off are taken over.
    """

    def __init__(
        self, e: Engine, source: Any, descriptors: Sequence[Descriptor], progress: Any
    ) -> None:
        self._folder = f"{e.images_folder}/downloads"
        self._lock = locks.try_lock(f"{e.paths.locks}/1-downloads")
        if self._lock is None:
            self._folder += f".{os.getpid()}"
        self._source = source
        self._descriptors = descriptors
        self._progress = progress
        self._running: Any = None

    def __enter__(self) -> _Downloads:
        if self._descriptors:
            from strata.registry.download import download_all

            os.makedirs(self._folder, 0o700, exist_ok=True)
            self._running = download_all(
                self._source, self._descriptors, self._folder, progress=self._progress
            )
        return self

    def wait(self, digest: str) -> str:
        """The path of a complete, verified blob."""
        return str(self._running.wait(digest))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._running is not None:
            self._running.close()
        if self._lock is None:
            remove_path(self._folder)
            return
        if kind is None and self._descriptors:
            remove_path(self._folder)
        self._lock.release()


def load(e: Engine, path: str | None, *, progress: Any = None) -> list[str]:
    """Load images from a docker-archive, OCI archive or OCI directory; return their names."""
    from strata.archive.images import open_archive

    loaded: list[str] = []
    os.makedirs(e.spool, 0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        given: str | int = 0
        if path is not None:
            given = path
            if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
                # A pipe, as of a shell's <( ), can be read once.
                given = stack.enter_context(open(path, "rb")).fileno()
        archive = stack.enter_context(open_archive(given, spool=e.spool))
        for tags, source in archive.images:
            raw, media_type = source.get_manifest()
            manifest = manifests.parse_manifest(raw, media_type)
            full = [references.local_candidates(tag)[0] for tag in tags]
            image = _take(e, "load", source, manifest, full, (), progress)
            events.emit(e, events.IMAGE, "loadfromarchive", id=image["id"], name=path or "stdin")
            loaded += full or [str(image["id"])]
    if not loaded:
        raise ArchiveError("the archive holds no images")
    return loaded


def import_(
    e: Engine, path: str | None, reference: str | None = None, *, changes: Sequence[str] = (),
    message: str = "",
) -> str:  # fmt: skip
    """Make an image of one layer from a tar of a root file system; return its id."""
    image_names = [references.local_candidates(reference)[0]] if reference else []
    config = apply_changes({}, changes)
    remote = path is not None and "://" in path
    if path not in (None, "-") and not remote and (not os.path.exists(path) or os.path.isdir(path)):
        raise NotFound(f"no such file: {path}", hint="import reads a tar of a root file system")
    with e.begin("import") as operation, Spool(e, operation) as folder:
        if path in (None, "-"):
            tar = keep(0, f"{folder}/stdin")
        elif remote:
            tar = download(path, f"{folder}/download")
        elif os.path.isfile(path):
            tar = path
        else:
            # A pipe, as of a shell's <( ), can be read once.
            with open(path, "rb") as file:
                tar = keep(file.fileno(), f"{folder}/pipe")
        record = _layer_from_tar(e, operation, tar)
        return _register_single(e, record, image_names, config, "strata import", message)


def _layer_from_tar(e: Engine, operation: Operation, path: str) -> Record:
    """A bottom layer from a tar whose digest is known only once it was read."""
    from strata.archive.layers import hash_uncompressed

    diff_id = hash_uncompressed(path)
    return layers.ingest(
        e, operation, path, media_type="application/vnd.oci.image.layer.v1.tar",
        diff_id=diff_id, chain_id=diff_id, parent=None,
    )  # fmt: skip


def _register_single(
    e: Engine, layer: Record, image_names: Sequence[str], config: Record, created_by: str,
    message: str,
) -> str:  # fmt: skip
    created = format_time(time.time())
    step = {"created": created, "created_by": created_by}
    if message:
        step["comment"] = message
    platform = manifests.host_platform()
    document = build_config(
        architecture=platform.architecture, variant=platform.variant,
        diff_ids=[layer["diff_id"]], history=[step], created=created, config=config,
    )  # fmt: skip
    image = images.register(
        e, config=document, manifest=None, media_type="", layer_records=[layer],
        image_names=image_names,
    )  # fmt: skip
    events.emit(e, events.IMAGE, "import", id=image["id"], name=(*image_names, image["id"])[0])
    return str(image["id"])


#: Runs a program ($1…) that ends with us, with all it started, wherever a signal meets us; in the
#: folder $0 device nodes and set-user-id programs work, which the pool's own mount denies.
_BOUND = (
    "setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
    "--propagation=slave", "sh", "-c",
    'mount --bind "$0" "$0" && mount -o remount,bind,dev,suid,exec "$0" && exec "$@"',
)  # fmt: skip


def bootstrap(
    e: Engine, what: str, *, variant: str = "minbase", include: Sequence[str] = (),
    mirror: str | None = None, name: str | None = None, report: Callable[[str], None] | None = None,
) -> str:  # fmt: skip
    """Make a base image with mmdebstrap straight into a layer, without a registry; return its id.

    ``what`` is a distribution and version, such as ``debian:12``. Packages come from the host's
    own apt configuration unless ``mirror`` is given.
    """
    distribution, _, version = what.partition(":")
    suites = SUITES.get(distribution)
    suite = suites.get(version or "latest") if suites else None
    if suite is None:
        known = ", ".join(f"{d}:{v}" for d, vs in SUITES.items() for v in vs if v != "latest")
        raise UsageError(f"cannot bootstrap {what!r}", hint=f"known: {known}")
    full = references.local_candidates(name or f"{distribution}:{version or 'latest'}")[0]
    command.get_program("mmdebstrap")
    if report is not None:
        report(f"bootstrapping {full} ({suite}, {variant})")
    with e.begin("bootstrap") as operation, Spool(e, operation) as folder:
        path = f"{folder}/rootfs.tar"
        argv = ["mmdebstrap", "--quiet", f"--variant={variant}", "--mode=root",
                "--aptopt=APT::Install-Recommends false"]  # fmt: skip
        argv += [f"--include={package}" for package in include]
        argv += [suite, path, *([mirror] if mirror else [])]
        env = {**command.ENVIRONMENT, **_proxy_environment(), "TMPDIR": folder}
        command.run([*_BOUND, folder, *argv], env=env)
        layer = _layer_from_tar(e, operation, path)
        created_by = f"strata image bootstrap {what} --variant {variant}"
        config = {"Cmd": ["/bin/bash"], "Env": [f"PATH={command.ENVIRONMENT['PATH']}"]}
        return _register_single(e, layer, [full], config, created_by, "")


def _proxy_environment() -> dict[str, str]:
    wanted = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {key: os.environ[key] for key in wanted if key in os.environ}


def apply_changes(config: Record, changes: Sequence[str]) -> Record:
    """Apply ``--change`` instructions (CMD, ENTRYPOINT, ENV, …) to an image's run-time config."""
    import json

    result = {**config}
    for text in changes:
        key, _, value = text.strip().partition(" ") if " " in text else text.partition("=")
        key, value = key.upper(), value.strip()
        if key in ("CMD", "ENTRYPOINT"):
            field = "Cmd" if key == "CMD" else "Entrypoint"
            if value.startswith("["):
                try:
                    words = json.loads(value)
                except ValueError:
                    words = None
                if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
                    raise UsageError(f"invalid --change {text!r}: not a JSON list of strings")
            else:
                words = ["/bin/sh", "-c", value]
            result[field] = words
        elif key == "ENV":
            name, _, rest = value.partition("=") if "=" in value else value.partition(" ")
            kept = [item for item in result.get("Env", ()) if item.partition("=")[0] != name]
            result["Env"] = [*kept, f"{name}={rest}"]
        elif key == "LABEL":
            name, _, rest = value.partition("=")
            result["Labels"] = {**(result.get("Labels") or {}), name: rest.strip("\"'")}
        elif key in ("EXPOSE", "VOLUME"):
            field = "ExposedPorts" if key == "EXPOSE" else "Volumes"
            item = value if key == "VOLUME" or "/" in value else f"{value}/tcp"
            result[field] = {**(result.get(field) or {}), item: {}}
        elif key in ("USER", "WORKDIR", "STOPSIGNAL"):
            field = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}[key]
            result[field] = value
        else:
            raise UsageError(
                f"invalid --change {text!r}",
                hint="use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR",
            )
    return result
