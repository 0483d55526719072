"""Read ``--secret`` of ``run`` and ``create``. Pure; `UsageError` in Podman's words."""

from __future__ import annotations

import posixpath

from strata.cli.values import split_csv
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

_MODE = 0o444
_HINT = "as in --secret NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=0400]"


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add what the options say under the names of the record's config."""
    found = [parse_secret(text) for text in options.list("secret")]
    targets = [(item["type"], item["target"] or item["name"]) for item in found]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"the secret target {target[1]!r} is given twice: parsing secret")
    described["secrets"] = found


def parse_secret(text: str) -> dict[str, Any]:
    """Read ``NAME[,OPTION…]``: ``{"name", "type", "target", "uid", "gid", "mode"}``."""
    item: dict[str, Any] = {
        "name": "", "type": "mount", "target": "", "uid": 0, "gid": 0, "mode": _MODE,
    }  # fmt: skip
    only_mount = False
    for number, field in enumerate(split_csv(text)):
        key, equals, value = field.partition("=")
        if number == 0 and not equals:
            item["name"] = field
        elif not equals or not value:
            raise UsageError(f"option {field} must be in form option=value: parsing secret",
                             hint=_HINT)  # fmt: skip
        elif key in ("source", "src"):
            item["name"] = value
        elif key == "type":
            if value not in ("mount", "env"):
                raise UsageError(f"type {value} is invalid: parsing secret", hint=_HINT)
            item["type"] = value
        elif key in ("target", "dst", "destination"):
            item["target"] = value
        elif key in ("uid", "gid", "mode"):
            only_mount = True
            item[key] = _parse_number(key, value)
        else:
            raise UsageError(f"option {field} invalid: parsing secret", hint=_HINT)
    if not item["name"]:
        raise UsageError(f"no secret source found in {text!r}: parsing secret", hint=_HINT)
    if item["type"] == "env" and only_mount:
        raise UsageError(
            "UID, GID, Mode options cannot be set with secret type env: parsing secret"
        )
    if item["type"] == "mount" and item["target"]:
        item["target"] = _check_target(item["target"])
    if item["type"] == "env" and "=" in item["target"]:
        raise UsageError(f"invalid variable name {item['target']!r}: parsing secret")
    return item


def _parse_number(key: str, value: str) -> int:
    digits = "01234567" if key == "mode" else "0123456789"
    limit = 0o7777 if key == "mode" else 2**32 - 2
    number = int(value, 8 if key == "mode" else 10) if set(value) <= set(digits) else -1
    if not 0 <= number <= limit:
        what = "octal mode" if key == "mode" else key
        raise UsageError(f"{key} {value} invalid: not an {what}: parsing secret", hint=_HINT)
    return number


def _check_target(target: str) -> str:
    clean = posixpath.normpath(target)
    if ".." in target.split("/") or "\0" in target or clean in ("/", "."):
        raise UsageError(f"invalid secret target {target!r}: parsing secret")
    return "/" + clean.lstrip("/") if target.startswith("/") else clean
