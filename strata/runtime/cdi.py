"""Reading the host's specifications of devices (Container Device Interface).

Loaded when a container has such a device. A file that cannot be read as one is passed over, and
named when a device is not found.
"""

from __future__ import annotations

import os
import stat

from strata.errors import UsageError
from strata.oci import cdi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from strata.oci.cdi import Edits, Specification

#: of two files with one device that in the later directory counts
FOLDERS = ("/etc/cdi", "/var/run/cdi")
_LIMIT = 16 << 20


def resolve(wanted: Sequence[str], folders: Sequence[str] = FOLDERS) -> list[Edits]:
    """The edits for devices by their names (`strata.oci.cdi.choose`). `UsageError`."""
    found, broken = _read_all(folders)
    try:
        return cdi.choose(found, wanted)
    except UsageError as error:
        if broken:
            error.hint = f"{error.hint}; not read: {'; '.join(broken)}"
        raise


def apply(document: dict[str, Any], wanted: Sequence[str]) -> None:
    """Bring devices into a runtime spec. `UsageError`."""
    cdi.apply(document, resolve(wanted), _stat)


def list_environment(wanted: Sequence[str]) -> list[str]:
    """The variables that come with devices; none once nobody describes them any more."""
    try:
        return cdi.list_environment(resolve(wanted))
    except UsageError:
        return []


def _read_all(folders: Sequence[str]) -> tuple[list[Specification], list[str]]:
    found, broken = [], []
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path = f"{folder}/{name}"
            if not name.endswith((".json", ".yaml", ".yml")):
                continue
            try:
                found.append(cdi.Specification(_load(path), path))
            except UsageError as error:
                broken.append(error.message)
            except (OSError, ValueError) as error:
                broken.append(f"{path}: {' '.join(str(error).split())}")
    return found, broken


def _load(path: str) -> Any:
    """One document. `OSError`, ValueError."""
    with open(path, encoding="utf-8") as file:
        text = file.read(_LIMIT)
    if path.endswith(".json"):
        import json

        return json.loads(text)
    import importlib

    yaml: Any = importlib.import_module("yaml")
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _stat(path: str) -> tuple[str, int, int]:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise UsageError(
            f"stat {path}: {(error.strerror or str(error)).lower()}",
            hint="the specification of the device names it",
        ) from None
    for test, kind in ((stat.S_ISCHR, "c"), (stat.S_ISBLK, "b"), (stat.S_ISFIFO, "p")):
        if test(facts.st_mode):
            return kind, os.major(facts.st_rdev), os.minor(facts.st_rdev)
    raise UsageError(f"{path} is not a device node", hint="the specification of a device names it")
