"""Secrets: small files that containers get without an image, a record or a command line knowing.

    records/secrets/<id>.json              name, labels, times and the value
    records/secrets/containers/<id>.json   copies for one container: {name: value}

Folders 0700, files 0600, values in base64. A container gets a copy when it is made, as with
Podman: a secret that is replaced or removed later changes nothing for it. Copies end with their
container and are never in the trash.
"""

from __future__ import annotations

import os
import time

from strata.engine import events
from strata.engine.core import Engine, Record
from strata.engine.filters import make_filter
from strata.errors import AlreadyExists, NotFound, UsageError
from strata.linux import locks
from strata.linux.tree import remove_file
from strata.store import files
from strata.store.records import new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.engine.filters import Filters

SIZE_LIMIT = 512_000
_ID_DIGITS = 24
_NAME_LIMIT = 253


def create(
    e: Engine, name: str, data: bytes, *, labels: Mapping[str, str] | None = None,
    replace: bool = False, ignore: bool = False,
) -> str:  # fmt: skip
    """Keep a secret; return its id. `AlreadyExists` unless ``replace`` or ``ignore``."""
    if not name or len(name) > _NAME_LIMIT or set("=/,\0") & set(name):
        raise UsageError(
            f"secret name {name!r} can not include '=', '/', ',', or the NULL ('\\0') and be "
            f"between 1 and {_NAME_LIMIT} characters: invalid secret name"
        )
    if not 0 < len(data) < SIZE_LIMIT:
        raise UsageError(f"secret data must be larger than 0 and less than {SIZE_LIMIT} bytes")
    folder = _make_folder(e)
    with locks.lock(f"{e.paths.locks}/4-secrets", what="the secrets"):
        old = _find_named(e, name)
        if old is not None and ignore:
            return str(old["id"])
        if old is not None and not replace:
            raise AlreadyExists(f"{name}: secret name in use", hint="--replace replaces it")
        now = format_time(time.time())
        secret: Record = {
            "schema": 1, "kind": "secret", "id": new_id(_ID_DIGITS), "name": name, "created": now,
            "updated": now, "labels": dict(labels or {}), "data": _encode(data),
        }  # fmt: skip
        # First the new one: a crash between leaves two, of which the later counts.
        files.write_json(f"{folder}/{secret['id']}.json", secret)
        if old is not None:
            os.unlink(f"{folder}/{old['id']}.json")
            _emit(e, "remove", old)
    _emit(e, "create", secret)
    return str(secret["id"])


def _emit(e: Engine, status: str, secret: Record) -> None:
    events.emit(e, events.SECRET, status, id=secret["id"], name=secret["name"],
                attributes=secret["labels"])  # fmt: skip


def list_secrets(e: Engine, filters: Filters | None = None) -> list[Record]:
    """Secrets by name, in Podman's shape, without their values."""
    passes = make_filter("secret", filters, {
        "name": lambda secret, value: value in secret["name"],
        "id": lambda secret, value: str(secret["id"]).startswith(value),
    })  # fmt: skip
    return [_describe(secret) for secret in _read_all(e) if passes(secret)]


def inspect(e: Engine, name: str, *, show: bool = False) -> Record:
    """What ``secret inspect`` prints; with the value only when asked to ``show`` it."""
    secret = get(e, name)
    found = _describe(secret)
    if show:
        found["SecretData"] = read_value(secret).decode(errors="surrogateescape")
    return found


def exists(e: Engine, name: str) -> bool:
    """Whether there is such a secret."""
    try:
        get(e, name)
    except NotFound:
        return False
    return True


def remove(e: Engine, name: str) -> str:
    """Remove a secret; return its id. Containers made with it keep their copies."""
    with locks.lock(f"{e.paths.locks}/4-secrets", what="the secrets"):
        secret = get(e, name)
        os.unlink(f"{_make_folder(e)}/{secret['id']}.json")
    _emit(e, "remove", secret)
    return str(secret["id"])


def get(e: Engine, text: str) -> Record:
    """The secret a user means by name, id or prefix of one. `NotFound`."""
    named = _find_named(e, text)
    if named is not None:
        return named
    matches = [secret for secret in _read_all(e) if text and secret["id"].startswith(text)]
    if len(matches) > 1:
        raise UsageError(f"more than one secret has an id that starts with {text!r}")
    if not matches:
        raise NotFound(
            f'no secret with name or id "{text}": no such secret',
            hint="`strata secret ls` lists them",
        )
    return matches[0]


def read_value(secret: Record) -> bytes:
    """The value of a secret."""
    import binascii

    return binascii.a2b_base64(str(secret["data"]))


def copy_for(e: Engine, container_id: str, wanted: Sequence[Record]) -> None:
    """Keep the values of the secrets that a new container is to have. `NotFound`."""
    values = {item["name"]: get(e, item["name"])["data"] for item in wanted}
    folder = f"{_make_folder(e)}/containers"
    os.makedirs(folder, 0o700, exist_ok=True)
    files.write_json(f"{folder}/{container_id}.json", {"schema": 1, "values": values})


def read_for(e: Engine, record: Record) -> dict[str, bytes]:
    """The values that a container has: name -> value."""
    import binascii

    path = f"{e.records.folder}/secrets/containers/{record['id']}.json"
    try:
        values = files.read_json(path)["values"]
    except FileNotFoundError:
        raise NotFound(
            f"the secrets of container {record['name']} are gone",
            hint="they end when a container is removed; make it anew",
        ) from None
    return {name: binascii.a2b_base64(value) for name, value in values.items()}


def forget_for(e: Engine, container_id: str) -> None:
    """Remove a container's copies. Idempotent."""
    remove_file(f"{e.records.folder}/secrets/containers/{container_id}.json")


def _make_folder(e: Engine) -> str:
    folder = f"{e.records.folder}/secrets"
    os.makedirs(folder, 0o700, exist_ok=True)
    return folder


def _encode(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()


def _read_all(e: Engine) -> list[Record]:
    folder = _make_folder(e)
    found = []
    for name in os.listdir(folder):
        if files.is_record(name):
            try:
                found.append(files.read_json(f"{folder}/{name}"))
            except FileNotFoundError:
                continue  # removed meanwhile
    found.sort(key=lambda secret: (secret["name"], secret["created"]))
    return found


def _find_named(e: Engine, name: str) -> Record | None:
    named = [secret for secret in _read_all(e) if secret["name"] == name]
    return named[-1] if named else None


def _describe(secret: Record) -> Record:
    return {
        "ID": secret["id"],
        "CreatedAt": secret["created"],
        "UpdatedAt": secret["updated"],
        "Spec": {
            "Name": secret["name"],
            "Driver": {"Name": "file", "Options": {}},
            "Labels": secret["labels"],
        },
    }
