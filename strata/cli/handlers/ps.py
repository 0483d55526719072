"""``ps``: containers as Podman lists them."""

from __future__ import annotations

import time

from strata.cli import values
from strata.cli.context import Context, say
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from strata.cli.parse import Options

    Row = dict[str, Any]

_COMMAND_WIDTH = 17
#: what Go's JSON says for a time that never was
_NEVER = -62135596800

_COLUMNS = [
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"),
    ("CREATED", "CreatedHuman"), ("STATUS", "Status"), ("PORTS", "Ports"), ("NAMES", "Names"),
]  # fmt: skip
_POD_COLUMNS = [("POD ID", "Pod"), ("PODNAME", "PodName")]
_NAMESPACE_COLUMNS = [
    ("CONTAINER ID", "ID"), ("NAMES", "Names"), ("PID", "Pid"), ("CGROUPNS", "Cgroup"),
    ("IPC", "IPC"), ("MNT", "MNT"), ("NET", "NET"), ("PIDNS", "PIDNS"), ("USERNS", "User"),
    ("UTS", "UTS"),
]  # fmt: skip
#: headings of fields that only ``table`` formats show
_HEADINGS = [
    *((text, f"*{key}") for text, key in (*_POD_COLUMNS, *_NAMESPACE_COLUMNS[2:])),
    ("SIZE", "*Size"), ("CIDFILE", "*CIDFile"), ("COMMAND", "*Command"),
]  # fmt: skip


def ps(context: Context, options: Options, arguments: list[str]) -> int:
    """List containers."""
    filters = values.parse_filters(options.list("filter"))
    _check(options)
    format = options.text("format")
    interval = options.number("watch") or 0
    while True:
        if interval:
            say("\033[2J\033[H")
        _show(context, options, filters, format)
        if not interval:
            return 0
        import sys

        sys.stdout.flush()
        time.sleep(interval)


def _check(options: Options) -> None:
    last, quiet = options.number("last"), options.flag("quiet")
    if last is not None and last >= 0 and options.flag("latest"):
        raise UsageError("last and latest are mutually exclusive")
    if quiet and (options.flag("size") or options.flag("namespace")):
        raise UsageError("quiet conflicts with size and namespace")
    if options.flag("size") and options.flag("namespace"):
        raise UsageError("size and namespace options conflict")
    if options.number("watch") and options.flag("latest"):
        raise UsageError("the watch and latest flags cannot be used together")


def _show(context: Context, options: Options, filters: dict[str, list[str]], format: str) -> None:
    from strata.engine.containers.listing import list_containers, read_row_namespaces

    last, order = options.number("last"), options.text("sort")
    templated = options.given("format")
    rows = list_containers(
        context.engine,
        all=options.flag("all"),
        filters=filters,
        last=last if last and last > 0 else None,
        latest=options.flag("latest"),
        size=options.flag("size") or order == "size" or (templated and ".Size" in format),
    )
    rows.reverse()  # the oldest first; what is equal by another order stays so
    rows.sort(key=_ORDERS[order])
    full = options.flag("no-trunc")
    if options.flag("quiet") and not templated:
        for row in rows:
            say(row["Id"] if full else row["Id"][:12])
        return
    if options.flag("namespace") or templated:
        for row in rows:
            row["Namespaces"] = read_row_namespaces(row)
    now = time.time()
    if not templated:
        shown = [describe_row(row, now, full=full) for row in rows]
    else:
        shown = [describe_fields(row, now, full=full) for row in rows]
    columns = _NAMESPACE_COLUMNS if options.flag("namespace") else list(_COLUMNS)
    if not options.flag("namespace"):
        columns += _POD_COLUMNS if options.flag("pod") else []
        columns += [("SIZE", "Size")] if options.flag("size") else []
    from strata.cli.format import show_rows

    show_rows(
        shown,
        [*columns, *_HEADINGS],
        format=format,
        raw=[row["_raw"] for row in shown] if templated else None,
        heading=not options.flag("noheading"),
        name="ps",
    )


_ORDERS: dict[str, Callable[[Row], Any]] = {
    "command": lambda row: row["Command"],
    "created": lambda row: row["Created"],
    "id": lambda row: row["Id"],
    "image": lambda row: row["Image"],
    "names": lambda row: row["Names"][0],
    "runningfor": lambda row: row["Created"],
    "size": lambda row: (row["Size"] or {}).get("rootFsSize", 0),
    "status": lambda row: row["State"],
}


def describe_row(row: Row, now: float, *, full: bool) -> Row:
    """Return the columns of ``ps`` for a row."""
    from strata.cli.format import ago, short_size

    command = " ".join(row["Command"])
    if not full and len(command) > _COMMAND_WIDTH:
        command = f"{command[:_COMMAND_WIDTH]}..."
    size = row.get("Size")
    return {
        "ID": row["Id"] if full else row["Id"][:12],
        "Image": row["Image"],
        "Command": command,
        "CreatedHuman": ago(row["Created"], now),
        "Status": describe_status(row, now),
        "Ports": describe_ports(row["Ports"], row["ExposedPorts"]),
        "Names": row["Names"][0],
        "Pod": "",
        "PodName": "",
        "Size": f"{short_size(size['rwSize'])} (virtual {short_size(size['rootFsSize'])})"
        if size
        else "",
        "Pid": row["Pid"],
        **(row.get("Namespaces") or {}),
    }


def describe_fields(row: Row, now: float, *, full: bool) -> Row:
    """Return a row under all of Podman's field names, with its JSON as ``_raw``."""
    from strata.cli.format import go_time

    shown = describe_row(row, now, full=full)
    raw = make_json(row, now)
    labels = row["Labels"]
    return {
        **raw,
        **shown,
        "_raw": raw,
        "ImageID": row["ImageID"] if full else row["ImageID"][:12],
        "Created": go_time(row["CreatedAt"]),
        "CreatedAt": go_time(row["CreatedAt"]),
        "CGROUPNS": shown.get("Cgroup", ""),
        "USERNS": shown.get("User", ""),
        "RunningFor": shown["CreatedHuman"],
        "Networks": ",".join(row["Networks"]),
        "Restarts": str(row["Restarts"]),
        "Label": lambda key: labels.get(key, ""),
        "LocalVolumes": str(len(row["Volumes"])),
        "Dataset": row["Dataset"],
    }


def make_json(row: Row, now: float) -> Row:
    """Return a row as ``podman ps --format json`` has it."""
    from strata.cli.format import ago

    started, ended = int(row["StartedAt"]), int(row["ExitedAt"])
    return {
        "AutoRemove": row["AutoRemove"],
        "CIDFile": row.get("CIDFile", ""),
        "Command": row["Command"],
        "CreatedAt": ago(row["Created"], now),
        "Exited": row["State"] == "exited",
        "ExitedAt": ended or _NEVER,
        "ExitCode": row["ExitCode"],
        "ExposedPorts": _by_number(row["ExposedPorts"]) or None,
        "Id": row["Id"],
        "Image": row["Image"],
        "ImageID": row["ImageID"],
        "IsInfra": False,
        "Labels": row["Labels"],
        "Mounts": row["Mounts"],
        "Names": row["Names"],
        "Namespaces": {key: found for key, found in row["Namespaces"].items() if found},
        "Networks": row["Networks"],
        "Pid": row["Pid"],
        "Pod": "",
        "PodName": "",
        "Ports": row["Ports"] or None,
        "Restarts": row["Restarts"],
        "Size": row["Size"],
        "StartedAt": started or _NEVER,
        "State": row["State"],
        "Status": describe_status(row, now),
        "Created": int(row["Created"]),
    }


def _by_number(exposed: Iterable[str]) -> dict[str, list[str]]:
    """Return exposed ports as Podman's JSON has them: ``{"443": ["tcp"]}``."""
    found: dict[str, list[str]] = {}
    for item in exposed:
        number, _, protocol = item.partition("/")
        found.setdefault(number, []).append(protocol or "tcp")
    return found


def describe_status(row: Row, now: float) -> str:
    """Return a container's status in words: Up 2 minutes (healthy), Exited (0) 3 hours ago."""
    from strata.cli.format import ago, human_duration, to_seconds

    state = row["State"]
    health = f" ({row['Health']})" if row.get("Health") and state in ("running", "paused") else ""
    if state == "running":
        since = to_seconds(row["StartedAt"])
        text = f"Up {human_duration(max(0.0, now - since))}" if since else "Up"
        return text + health
    if state == "exited":
        return f"Exited ({row['ExitCode']}) {ago(row['ExitedAt'], now)}".rstrip()
    return str(state).capitalize() + health


def describe_ports(ports: Sequence[Row], exposed: Iterable[str] = ()) -> str:
    """Return port mappings as ``0.0.0.0:8080->80/tcp``, after them what is only exposed."""
    texts, published = [], set()
    for port in ports:
        address = port.get("host_ip") or "0.0.0.0"
        address = f"[{address}]" if ":" in address else address
        first, inside, count = port["host_port"], port["container_port"], port.get("range") or 1
        protocol = port.get("protocol") or "tcp"
        more, more_inside = "", ""
        if count > 1:
            more, more_inside = f"-{first + count - 1}", f"-{inside + count - 1}"
        # A port of the engine's choice is not known before the first start.
        outside = f"{address}:{first}{more}->" if first else ""
        texts.append(f"{outside}{inside}{more_inside}/{protocol}")
        published |= {f"{inside + number}/{protocol}" for number in range(count)}
    for item in exposed:
        text = item if "/" in item else f"{item}/tcp"
        if text not in published:
            texts.append(text)
    return ", ".join(texts)
