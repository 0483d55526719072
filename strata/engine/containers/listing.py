"""``ps``: containers from records alone, without touching a dataset.

With many containers most of the time would go into reading records that did not change, so the
rows are kept in a summary beside the sockets: each with the inode and modification time of the
record file it came from. A record is replaced, never edited, so these two say whether the row is
current. The summary is a cache; without it the answer is the same.
"""

from __future__ import annotations

import marshal
import os

from strata.engine.core import Engine, Record
from strata.errors import NoSpace, RecordError
from strata.store import files, lifecycle
from strata.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from strata.engine.filters import Filters

_VERSION = 4


def make_row(record: Record) -> Record:
    """What ``ps`` tells of a container, with the status its record has."""
    config, state = record["config"], record["state"]
    return {
        "Id": record["id"],
        "Names": [record["name"]],
        "Image": record["image_name"],
        "ImageID": record["image"],
        "Command": [*config["entrypoint"], *config["command"]],
        "Created": parse_time(record["created"]),
        "CreatedAt": record["created"],
        "StartedAt": parse_time(state["started"]),
        "ExitedAt": parse_time(state["finished"]),
        "ExitCode": state["exit_code"],
        "Pid": state["pid"],
        "State": state["status"],
        "Labels": config["labels"],
        "Mounts": [*(item["destination"] for item in config["mounts"]), *config["tmpfs"]],
        "MountPairs": [[item["source"], item["destination"]] for item in config["mounts"]],
        "Volumes": [item["source"] for item in config["mounts"] if item.get("volume")],
        "Networks": name_networks(config),
        "NetworkMode": config["network"],
        "Ports": state.get("ports") or config.get("ports") or [],
        "ExposedPorts": config.get("expose") or [],
        "AutoRemove": config["remove"],
        "Restarts": state.get("restarts", 0),
        "RestartPolicy": (config.get("restart") or {}).get("policy", "no"),
        "Health": get_health(record),
        "Size": None,
        "Dataset": record["dataset"],
        "_start": state["pid_start"],
        "_boot": state.get("boot_id", ""),
    }


def name_networks(config: Record) -> list[str]:
    """The names of the networks a container is connected to; none with a mode such as host."""
    return [str(item["name"]) for item in config.get("networks") or ()]


def get_health(record: Record) -> str:
    """What the health check last found (starting, healthy, unhealthy), or "" without one."""
    if not (record["config"].get("health") or {}).get("test"):
        return ""
    known = record["state"].get("health")
    return str(known.get("status") or "starting") if isinstance(known, dict) else "starting"


def read_rows(e: Engine) -> list[Record]:
    """A row for every container, unordered, with ``State`` as it is by the facts."""
    summary = f"{e.paths.runroot}/ps.summary"
    try:
        version, known = marshal.loads(files.read_bytes(summary, limit=256 << 20))
        if version != (_VERSION, e.config.id):
            known = {}
    except (OSError, ValueError, EOFError, TypeError):
        known = {}
    rows: dict[str, tuple[int, int, Record]] = {}
    changed = False
    folder = f"{e.records.folder}/containers"
    with os.scandir(folder) as entries:
        for entry in entries:
            if not files.is_record(entry.name):
                continue
            try:
                stat = entry.stat(follow_symlinks=False)
                stamp = (stat.st_ino, stat.st_mtime_ns)
                old = known.get(entry.name)
                if old is not None and old[:2] == stamp:
                    rows[entry.name] = old
                    continue
                record = e.records.find("container", entry.name[:-5])
            except (FileNotFoundError, RecordError):
                continue
            if record is not None:
                rows[entry.name] = (*stamp, make_row(record))
                changed = True
    if changed or len(rows) != len(known):
        try:
            files.write_bytes(
                summary, marshal.dumps(((_VERSION, e.config.id), rows)), durable=False
            )
        except (OSError, NoSpace):
            pass
    return [_derive(dict(row)) for _, _, row in rows.values()]


def _derive(row: Record) -> Record:
    """The row with the status by the facts."""
    if row["State"] in lifecycle.LIVE and not lifecycle.is_alive(
        {"pid": row["Pid"], "pid_start": row["_start"], "boot_id": row["_boot"]}
    ):
        row["State"] = lifecycle.EXITED
    if row["State"] not in lifecycle.LIVE:
        row["Pid"] = 0
    del row["_start"], row["_boot"]
    return row


def list_containers(
    e: Engine, *, all: bool = False, filters: Filters | None = None,
    last: int | None = None, latest: bool = False, size: bool = False,
) -> list[Record]:  # fmt: skip
    """Containers for ``ps``, newest first; only live ones unless ``all`` or a status filter."""
    rows = list(filter(make_row_filter(e, filters), read_rows(e)))
    limit = 1 if latest else last
    if not (all or limit or "status" in (filters or ())):
        rows = [row for row in rows if row["State"] in lifecycle.LIVE]
    rows.sort(key=lambda row: float(row["Created"]), reverse=True)
    if limit:
        rows = rows[:limit]
    if size:
        from strata.engine.containers.sizes import measure

        for row in rows:
            record = e.records.find("container", row["Id"])
            own, whole = measure(e, record) if record is not None else (0, 0)
            row["Size"] = {"rwSize": own, "rootFsSize": whole}
    return rows


def make_row_filter(e: Engine, filters: Filters | None) -> Callable[[Record], bool]:
    """Whether a row passes ``ps``-style filters; for ``until`` it is when it was created."""
    if not filters:
        return lambda row: True
    from strata.engine.containers.filtering import make_container_filter

    return make_container_filter(e, filters)


def read_row_namespaces(row: Record) -> Record:
    """The namespaces of a row's process under Podman's names: inode numbers, "" without any."""
    from strata.engine.containers.life import read_namespaces

    found = read_namespaces(row["Pid"]) if row["Pid"] else {}
    return {name: found.get(kind, "") for name, kind in _NAMESPACES}


_NAMESPACES = (
    ("MNT", "mnt"), ("Cgroup", "cgroup"), ("IPC", "ipc"), ("NET", "net"), ("PIDNS", "pid"),
    ("UTS", "uts"), ("User", "user"),
)  # fmt: skip
