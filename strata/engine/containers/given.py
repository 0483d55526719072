"""Giving a container its secrets: files below /run/secrets or elsewhere, and variables."""

from __future__ import annotations

from strata.engine import secrets
from strata.engine.core import Engine, Record
from strata.runtime.ownership import map_owner
from strata.runtime.secret_files import SecretFile, SecretsStep

#: where secrets with a plain name are
FOLDER = "/run/secrets"


def make_environment(e: Engine, record: Record) -> list[str]:
    """The variables that a container's processes get from secrets."""
    wanted = [item for item in record["config"]["secrets"] if item["type"] == "env"]
    if not wanted:
        return []
    values = secrets.read_for(e, record)
    return [
        f"{item['target'] or item['name']}=" + values[item["name"]].decode(errors="surrogateescape")
        for item in wanted
    ]


def make_mounts(e: Engine, record: Record, bundle: str) -> tuple[list[Record], list[SecretsStep]]:
    """The mounts that show a container its secrets, and what must be mounted for them."""
    wanted = [item for item in record["config"]["secrets"] if item["type"] == "mount"]
    if not wanted:
        return [], []
    values = secrets.read_for(e, record)
    found: list[SecretFile] = []
    mounts: dict[str, Record] = {}
    for number, item in enumerate(wanted):
        target = item["target"] or item["name"]
        inside = not target.startswith("/")
        name = f"run/{target}" if inside else f"at/{number}"
        data = values[item["name"]]
        owner = map_owner(record["config"], item["uid"], item["gid"])
        found.append(SecretFile(name, data, item["mode"], *owner))
        destination = FOLDER if inside else target
        source = f"{bundle}/secrets/run" if inside else f"{bundle}/secrets/{name}"
        mounts[destination] = {
            "type": "bind", "source": source, "destination": destination,
            "options": ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"],
        }  # fmt: skip
    return list(mounts.values()), [SecretsStep(f"{bundle}/secrets", found)]
