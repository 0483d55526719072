"""containers.conf, the configuration that Podman's users have: which files count, what they say.

In Podman's order (containers.conf(5)), later files over earlier ones, key by key::

    /usr/share/containers/containers.conf
    /etc/containers/containers.conf
    /etc/containers/containers.conf.d/*.conf     in the order of their names
    $CONTAINERS_CONF                             instead of all of the above
    $CONTAINERS_CONF_OVERRIDE                    over whatever was read

What was parsed is kept beside the volatile state until a file changes, because reading TOML costs
as much as a third of a ``run``.
"""

from __future__ import annotations

import os

from strata import jsontext
from strata.errors import RecordError, UsageError
from strata.store.files import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    #: ``table.key`` -> [value, file it came from]
    Settings = dict[str, list[Any]]

FILES = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
FOLDER = "/etc/containers/containers.conf.d"
CACHE = "containers.conf.json"


def list_files(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The configuration files that are there, the weakest first."""
    given = environment.get("CONTAINERS_CONF")
    if given:
        found = [given]
    else:
        found = [path for path in FILES if os.path.exists(path)]
        try:
            names = sorted(name for name in os.listdir(FOLDER) if name.endswith(".conf"))
        except OSError:
            names = []
        found += [f"{FOLDER}/{name}" for name in names]
    override = environment.get("CONTAINERS_CONF_OVERRIDE")
    return [*found, override] if override else found


def load(runroot: str, environment: Mapping[str, str] = os.environ) -> Settings:
    """Every key that is set, with its value and its file.

    `UsageError` when a file cannot be read or is not TOML.
    """
    files = list_files(environment)
    if not files:
        return {}
    stamps = [_stamp(path) for path in files]
    cache = f"{runroot}/{CACHE}"
    try:
        kept = read_json(cache)
    except (OSError, RecordError):
        kept = {}
    settings: Settings = kept.get("settings", {})
    if kept.get("stamps") == stamps:
        return settings
    settings = {}
    for path in files:
        settings.update(_read(path))
    _keep(cache, {"stamps": stamps, "settings": settings})
    return settings


def _keep(cache: str, document: dict[str, Any]) -> None:
    """Keep what was parsed. Not as records are written: losing it, or a part of it, costs nothing,
    and no operation depends on it."""
    temporary = f"{cache}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(jsontext.dumps(document))
        os.rename(temporary, cache)
    except (OSError, TypeError):
        # Parsed again the next time: no room, or a value like a date, which JSON lacks.
        try:
            os.unlink(temporary)
        except OSError:
            return


def _stamp(path: str) -> list[Any]:
    """What changes when a file does."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or '').lower()}") from None
    return [path, found.st_ino, found.st_size, found.st_mtime_ns]


def _read(path: str) -> Settings:
    import tomllib

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        said = (error.strerror or "").lower()
        raise UsageError(f"cannot read {path}: {said}", hint="see containers.conf(5)") from None
    except ValueError as error:  # no TOML, or not even UTF-8
        raise UsageError(f"cannot read {path}: {error}", hint="see containers.conf(5)") from None
    return {
        f"{table}.{key}": [value, path]
        for table, content in tables.items()
        if isinstance(content, dict)
        for key, value in content.items()
        if not isinstance(value, dict)
    }
