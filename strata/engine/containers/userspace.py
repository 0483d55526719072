"""User namespaces: which ids a container has on the host, and mounts that show them.

The container's root file system and its volumes keep the ids that the container sees on the disk;
idmapped mounts translate. So snapshots, clones and commits know nothing of it, and a volume can be
shared between containers with different maps.
"""

from __future__ import annotations

import os

from strata.engine import names
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.images import layers
from strata.errors import UsageError
from strata.linux import locks
from strata.linux.idmap import IdmappedStep
from strata.runtime import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.linux.mount import MountStep

#: whose subordinate ids ``auto`` uses, as with Podman
_OWNER = "containers"
_AUTO_LEAST = 1024
_AUTO_MOST = 65536
_NEED = "give it ids in /etc/subuid and /etc/subgid, as in containers:2147483647:2147483648"


def resolve(e: Engine, config: Record, image: Record) -> locks.Lock | None:
    """Turn what was asked for into maps. The lock, if any, is to be held until the container's
    record is saved: ids for ``auto`` are taken by no one else meanwhile. `UsageError`."""
    mode, _, rest = config["userns"].partition(":")
    held = None
    if mode == "container":
        _copy(e, config, names.get_container(e, rest))
    elif mode == "ns":
        _read_maps(config, rest)
    elif mode == "keep-id":
        for name in ("uid", "gid"):
            config[f"{name}_map"] = _read_map(f"/proc/self/{name}_map")
    elif mode == "subid":
        user, _, group = rest.partition(":")
        config["uid_map"] = _stack(read_ranges("/etc/subuid", user))
        config["gid_map"] = _stack(read_ranges("/etc/subgid", group))
    elif mode == "auto":
        held = locks.lock(f"{e.paths.locks}/4-userns", what="the ids of user namespaces")
        try:
            _allocate(e, config, image, int(rest or 0))
        except BaseException:
            held.release()
            raise
    if "userns" in config and not e.driver.facts.idmap:
        if held is not None:
            held.release()
        raise UsageError(
            f"a user namespace is not possible on this store: {e.driver.name} here has no idmapped "
            "mounts", hint="leave out --userns, --uidmap and --gidmap"
        )  # fmt: skip
    return held


def _copy(e: Engine, config: Record, other: Record) -> None:
    if "userns" not in other["config"]:
        del config["userns"]
        return
    config["userns"] = f"container:{other['id']}"
    for key in ("uid_map", "gid_map"):
        config[key] = other["config"][key]


def _read_map(path: str) -> list[list[int]]:
    try:
        with open(path) as file:
            return [list(map(int, line.split())) for line in file]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _read_maps(config: Record, path: str) -> None:
    parts = path.split("/")
    if parts[:2] != ["", "proc"] or parts[3:] != ["ns", "user"]:
        raise UsageError(
            f"the maps of the user namespace {path} cannot be read",
            hint="name it by a process: ns:/proc/PID/ns/user",
        )
    for name in ("uid", "gid"):
        config[f"{name}_map"] = _read_map(f"/proc/{parts[2]}/{name}_map")


def read_ranges(path: str, user: str) -> list[tuple[int, int]]:
    """The subordinate ids of a user: (first, count). subuid(5). `UsageError` when it has none."""
    found = []
    try:
        with open(path) as file:
            for line in file:
                name, _, numbers = line.strip().partition(":")
                first, _, count = numbers.partition(":")
                if name == user and first.isdigit() and count.isdigit():
                    found.append((int(first), int(count)))
    except FileNotFoundError:
        pass
    if not found:
        raise UsageError(f'no ranges found for user "{user}" in {path}', hint=_NEED)
    return found


def _stack(ranges: list[tuple[int, int]]) -> list[list[int]]:
    """Ranges of the host one after the other from id 0 inside."""
    found, inside = [], 0
    for first, count in ranges:
        found.append([inside, first, count])
        inside += count
    return found


def _allocate(e: Engine, config: Record, image: Record, size: int) -> None:
    """Ids that no other container has."""
    size = size or _measure(e, image, config)
    taken = [
        entry
        for record in e.records.list_records("container")
        for entry in record["config"].get("uid_map", ())
    ]
    for name, path in (("uid", "/etc/subuid"), ("gid", "/etc/subgid")):
        first = find_free(read_ranges(path, _OWNER), taken, size)
        if first is None:
            raise UsageError(
                f"could not find enough available IDs: {size} in a row are not left of those of "
                f'"{_OWNER}" in {path}', hint="remove containers, or give it more"
            )  # fmt: skip
        config[f"{name}_map"] = [[0, first, size]]


def find_free(ranges: list[tuple[int, int]], taken: list[list[int]], size: int) -> int | None:
    """The first id of ``size`` in a row that lie in one of the ranges and are not taken. Pure."""
    for first, count in ranges:
        at = first
        for _, begin, length in sorted(taken, key=lambda entry: entry[1]):
            if begin < at + size and at < begin + length:
                at = begin + length
        if at + size <= first + count:
            return at
    return None


def _measure(e: Engine, image: Record, config: Record) -> int:
    """How many ids the image's own users and groups need."""
    most = _AUTO_LEAST - 1
    base = layers.find_base(e, image["layers"][-1] if image["layers"] else "")
    if base is not None:
        root = os.open(f"{e.driver.open(base['dataset'])}/{ROOTFS}", os.O_PATH | os.O_DIRECTORY)
        try:
            for file in ("etc/passwd", "etc/group"):
                for line in users.read_in_root(root, file).splitlines():
                    for field in line.split(":")[2:4]:
                        if field.isdigit() and int(field) < _AUTO_MOST - 2:
                            most = max(most, int(field))
        finally:
            os.close(root)
    for field in config["user"].split(":"):
        if field.isdigit() and int(field) < _AUTO_MOST:
            most = max(most, int(field))
    return most + 1


def map_step(config: Record, step: MountStep, *, way: str = "") -> MountStep:
    """The step with the owners as the container's user namespace maps them; ``way``: the bundle,
    which its users must reach."""
    return IdmappedStep(step, config["uid_map"], config["gid_map"], way=way)
