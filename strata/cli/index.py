"""Which table module holds each command, so that one command loads one table.

A test holds this index and the tables in step.
"""

from __future__ import annotations

from strata.cli import commands
from strata.cli.table import Command

GROUPS = {
    "container": "Manage containers",
    "image": "Manage images",
    "healthcheck": "Check the health of containers",
    "volume": "Manage volumes",
    "pool": "Other pools for volumes",
    "network": "Manage networks",
    "secret": "Manage secrets for containers",
    "branch": "Earlier heads of containers and volumes",
    "fork": "Copies of sets of containers with their volumes",
    "snapshot": "Make and manage snapshots of containers and volumes",
    "trash": "What was removed and can still come back",
    "system": "Manage the store",
}

# What `strata GROUP WORD` means when WORD is not a subcommand.
GROUP_DEFAULTS = {"snapshot": "snapshot create", "fork": "fork create"}

_CREATE = "run create"
_CONTAINER = (
    "start stop init restart pause unpause update kill rm ps logs exec attach wait commit cp "
    "rename ls list inspect exists prune cleanup"
)
_NETWORK = "create ls list inspect rm remove prune exists reload update join-token"
_VOLUME = (
    "create update ls list inspect rm prune exists profiles mount unmount reload export import"
)
_IMAGE = (
    "ls list pull load save import inspect history tag untag rm exists tree prune bootstrap mount "
    "unmount umount"
)

MODULES: dict[str, str] = {
    **dict.fromkeys(_CREATE.split(), "create"),
    **dict.fromkeys(
        "start stop init restart pause unpause update kill rm ps logs exec attach wait commit cp "
        "rename".split(),
        "containers",
    ),
    **dict.fromkeys("pull load save import images history tag untag rmi".split(), "images"),
    **{f"container {word}": "create" for word in _CREATE.split()},
    **{f"container {word}": "containers" for word in _CONTAINER.split()},
    **{f"image {word}": "images" for word in _IMAGE.split()},
    **{f"volume {word}": "volumes" for word in _VOLUME.split()},
    **{f"pool {word}": "pools" for word in "add ls list rm remove".split()},
    **{f"network {word}": "networks" for word in _NETWORK.split()},
    **{f"secret {word}": "secrets" for word in "create ls list inspect rm remove exists".split()},
    **dict.fromkeys(
        "port|container port|network connect|network disconnect".split("|"), "connecting"
    ),
    **{f"snapshot {word}": "snapshots" for word in "create ls list rm".split()},
    **dict.fromkeys(
        "diff|container diff|image diff|export|container export|mount|container mount|unmount|"
        "umount|container unmount|container umount|container clone".split("|"),
        "files",
    ),
    **dict.fromkeys(
        "events|system events|top|container top|stats|container stats|healthcheck run|"
        "container revive|system supervise".split("|"),
        "watching",
    ),
    **dict.fromkeys("container checkpoint|container restore".split("|"), "checkpoints"),
    **dict.fromkeys("rollback clone".split(), "snapshots"),
    **dict.fromkeys("log switch".split(), "history"),
    **{f"fork {word}": "history" for word in "create ls list rm".split()},
    **{f"branch {word}": "history" for word in "ls list rm rename".split()},
    "undo": "trash",
    **{
        f"system {word}": "system"
        for word in "init info df prune check rebuild reset migrate renumber".split()
    },
    **{f"trash {word}": "trash" for word in "ls list show restore empty".split()},
    **dict.fromkeys("inspect info version completion help __complete".split(), "system"),
}

TABLES = (
    "create", "containers", "watching", "files", "images", "volumes", "pools", "networks",
    "connecting",
    "secrets", "snapshots", "history", "checkpoints", "trash", "system",
)  # fmt: skip


def load_table(name: str) -> tuple[Command, ...]:
    """Import one table module and return its commands."""
    module = __import__(f"{commands.__name__}.{name}", fromlist=["COMMANDS"])
    table: tuple[Command, ...] = module.COMMANDS
    return table


def find_command(path: str) -> Command | None:
    """Return the command with this path (``run``, ``container run``), or None."""
    table = MODULES.get(path)
    if table is None:
        return None
    for command in load_table(table):
        if path in command.paths:
            return command
    return None


def list_commands() -> list[Command]:
    """Return every command of every table, in the order of the tables."""
    return [command for table in TABLES for command in load_table(table)]
