"""The commands that watch: events, stats, top."""

from __future__ import annotations

import sys
import time

from strata.cli import values
from strata.cli.context import Context, say
from strata.cli.handlers.choosing import choose
from strata.errors import UsageError
from strata.times import parse_duration, parse_moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options

    Row = dict[str, Any]


def events(context: Context, options: Options, arguments: list[str]) -> int:
    """Print events as they are found, each line at once."""
    from strata.cli.format import normalise
    from strata.engine import event_log as log

    format = normalise(options.text("format"))
    now = time.time()
    since = parse_moment(options.text("since"), now) if options.given("since") else None
    until = _parse_until(options.text("until"), now) if options.given("until") else None
    follow = options.flag("stream") and not (until is not None and until <= now)
    if since is None and follow:
        since = now
    passes = log.make_event_filter(values.parse_filters(options.list("filter")))
    render = _make_renderer(format, full=options.flag("no-trunc"))
    for event in log.read(context.engine, since=since, until=until, follow=follow, passes=passes):
        sys.stdout.write(f"{render(event)}\n")
        sys.stdout.flush()
    return 0


def _parse_until(text: str, now: float) -> float:
    """A moment, or a duration from now on: until when to watch, as Podman reads it."""
    try:
        return now + parse_duration(text) if not text.isdigit() else float(text)
    except UsageError:
        return parse_moment(text, now)


def _make_renderer(format: str, *, full: bool) -> Any:
    from strata.cli.format import JSON_LINES, lay_out, to_json_line

    if format in ("json", JSON_LINES):
        return lambda event: to_json_line(describe_event(event))
    if format:
        from strata.cli.template import Template

        template = Template(lay_out(format, table=False), "events")
        return lambda event: template.render(_name_fields(event, full)).removesuffix("\n")
    return lambda event: describe_line(event, full=full)


def describe_event(event: Row) -> Row:
    """Return an event as ``--format json`` prints it: Podman's keys, empty ones left out."""
    found: Row = {
        "ContainerExitCode": event.get("exit_code"), "ID": event["id"], "Image": event["image"],
        "Name": event["name"], "Network": event.get("network"), "Status": event["status"],
        "Type": event["type"], "HealthStatus": event.get("health"),
        "HealthFailingStreak": event.get("streak"), "HealthLog": event.get("check"),
        "Error": event.get("error"), "PodID": event.get("pod"),
    }  # fmt: skip
    kept = {key: value for key, value in found.items() if value not in (None, "")}
    return {
        **kept, "time": event["time"] // 10**9, "timeNano": event["time"],
        "Attributes": event["attributes"],
    }  # fmt: skip


def _name_fields(event: Row, full: bool) -> Row:
    """Every field that a template may name."""
    empty = {"ContainerExitCode": 0, "ID": "", "Image": "", "Name": "", "Network": "",
             "HealthStatus": "", "HealthFailingStreak": 0, "HealthLog": "",
             "Error": "", "PodID": ""}  # fmt: skip
    fields = {**empty, **describe_event(event)}
    if not full:
        fields["ID"] = fields["ID"][:12]
    fields["TimeNano"] = fields.pop("timeNano")
    del fields["time"]
    return {**fields, "Time": show_time(event["time"]), "ToHumanReadable": describe_line(event)}


def show_time(nanoseconds: int) -> str:
    """Return a moment as Go prints it, in local time: 2026-01-31 12:00:00.5 +0100 CET."""
    local = time.localtime(nanoseconds // 10**9)
    fraction = f"{nanoseconds % 10**9:09d}".rstrip("0")
    point = f".{fraction}" if fraction else ""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}{point} {time.strftime('%z %Z', local)}"


def describe_line(event: Row, *, full: bool = True) -> str:
    """Return an event as one line for people, as Podman words it."""
    from strata.cli.messages import clean

    kind, name = event["type"], event["name"]
    object_id = event["id"] if full else event["id"][:12]
    start = f"{show_time(event['time'])} {kind} {event['status']}"
    if kind in ("container", "pod"):
        details = [f"image={event['image']}", f"name={name}"]
        if event.get("pod"):
            details.append(f"pod_id={event['pod']}")
        if event.get("health"):
            details.append(f"health_status={event['health']}")
            details.append(f"health_failing_streak={event.get('streak', 0)}")
        if event.get("check"):
            details.append(f"health_log={event['check']}")
        details += [f"{key}={value}" for key, value in sorted(event["attributes"].items())]
        return clean(f"{start} {object_id} ({', '.join(details)})")
    if kind == "network" and event.get("network"):
        return clean(f"{start} {object_id} (container={object_id}, name={event['network']})")
    if kind == "image":
        return clean(f"{start} {object_id} {name}")
    return clean(f"{start} {name}".rstrip())


# -- top -------------------------------------------------------------------------------------------


def top(context: Context, options: Options, arguments: list[str]) -> int:
    """Show the processes of a container."""
    words = list(arguments)
    if options.flag("latest"):
        [name] = choose(context, options, [])
    elif words:
        name = words.pop(0)
    else:
        raise UsageError("you must provide the name or id of a running container")
    from strata.engine.containers import processes

    if processes.are_for_ps(words):
        # As Podman and Docker take them: options of the container's own ps, as in `top web aux`.
        from strata.engine.containers import verbs as containers

        processes.get_running(context.engine, name)
        return containers.exec(context.engine, name, ["ps", *words])
    from strata.cli.format import render_table, write_lines

    heading, *rows = processes.top(context.engine, name, words)
    write_lines(render_table(heading, rows))
    return 0


# -- stats -----------------------------------------------------------------------------------------

_COLUMNS = (
    ("ID", "ID"), ("NAME", "Name"), ("CPU %", "CPUPerc"), ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"), ("NET IO", "NetIO"), ("BLOCK IO", "BlockIO"), ("PIDS", "PIDS"),
    ("CPU TIME", "CPUTime"), ("AVG CPU %", "AvgCPU"),
)  # fmt: skip
_CLEAR = "\33[2J\33[H"


def stats(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what containers use, until interrupted or, with --no-stream, once."""
    from strata.cli.format import normalise, show_rows
    from strata.engine.containers.statistics import Meter

    format = normalise(options.text("format"))
    seconds = options.number("interval") or 0
    if seconds < 1:
        raise UsageError("invalid interval, must be a positive number greater zero")
    if options.flag("all") and (arguments or options.flag("latest")):
        raise UsageError("--all, --latest and containers cannot be used together")
    meter = Meter()
    once = options.flag("no-stream")
    clears = not (once or options.flag("no-reset") or format) and sys.stdout.isatty()
    while True:
        records = _list_measured(context, options, arguments)
        rows = [meter.measure(context.engine, record) for record in records]
        if clears:
            sys.stdout.write(_CLEAR)
        shown = [_describe_use(row, full=options.flag("no-trunc")) for row in rows]
        raw = [_describe_use_json(row) for row in shown]
        show_rows(shown, _COLUMNS, format=format, raw=raw)
        sys.stdout.flush()
        if once:
            return 0
        time.sleep(seconds)


def _list_measured(context: Context, options: Options, arguments: list[str]) -> list[Row]:
    """The records of the containers that are named, or of all (that run)."""
    from strata.engine.containers.listing import list_containers
    from strata.engine.names import get_container

    e = context.engine
    if arguments or options.flag("latest"):
        chosen = choose(context, options, arguments)
        return [get_container(e, name) for name in chosen]
    rows = list_containers(e, all=options.flag("all"))
    found = [e.records.find("container", row["Id"]) for row in rows]
    return [record for record in found if record is not None]


def _describe_use(row: Row, *, full: bool) -> Row:
    """A row of ``stats`` with Podman's field names in their human form."""
    from strata.engine.containers.processes import go_duration

    percents = {key: f"{row[key]:.2f}%" for key in ("CPU", "AvgCPU", "MemPerc")}
    live = row["Live"]
    return {
        **row,
        "ID": row["Id"] if full else row["Id"][:12],
        "ContainerID": row["Id"],
        "Container": row["Id"] if full else row["Id"][:12],
        "CPU": percents["CPU"] if live else "--",
        "CPUPerc": percents["CPU"] if live else "--",
        "AvgCPU": percents["AvgCPU"] if live else "--",
        "CPUTime": go_duration(row["CPUNano"] / 1e9),
        "MemPerc": percents["MemPerc"] if live else "--",
        "MemUsage": _pair(row["Memory"], row["MemLimit"]) if live else "-- / --",
        "MemUsageBytes": f"{_binary(row['Memory'])} / {_binary(row['MemLimit'])}",
        "NetIO": _pair(row["NetInput"], row["NetOutput"]) if live else "-- / --",
        "BlockIO": _pair(row["BlockInput"], row["BlockOutput"]) if live else "-- / --",
        "PIDS": str(row["PIDs"]) if live else "--",
        "Up": go_duration(row["UpTime"] / 1e9),
        "UpTime": go_duration(row["UpTime"] / 1e9),
        "Duration": row["UpTime"],
    }


def _describe_use_json(row: Row) -> Row:
    """The keys of Podman's ``stats --format json``."""
    return {
        "id": row["Id"][:12], "name": row["Name"], "cpu_time": row["CPUTime"],
        "cpu_percent": row["CPU"], "avg_cpu": row["AvgCPU"], "mem_usage": row["MemUsage"],
        "mem_percent": row["MemPerc"], "net_io": row["NetIO"], "block_io": row["BlockIO"],
        "pids": row["PIDS"],
    }  # fmt: skip


def _binary(size: float) -> str:
    """Bytes with four digits and binary units: 580KiB."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g}{units[0]}"


def _pair(one: float, other: float) -> str:
    from strata.cli.format import short_size

    return f"{short_size(one, 4)} / {short_size(other, 4)}"


# -- health and the supervisor ---------------------------------------------------------------------


def run_health_check(context: Context, options: Options, arguments: list[str]) -> int:
    """Run a container's health check once."""
    from strata.engine.containers.health import run_check
    from strata.engine.names import get_container

    healthy, status = run_check(context.engine, get_container(context.engine, arguments[0]))
    if healthy:
        return 0
    say("starting" if status == "starting" else "unhealthy")
    return 1


def revive(context: Context, options: Options, arguments: list[str]) -> int:
    """Start a container again after its end, as its restart policy says."""
    from strata.engine.containers.supervising import revive as start_again

    start_again(context.engine, arguments[0])
    return 0


def supervise(context: Context, options: Options, arguments: list[str]) -> int:
    """Watch containers until none needs it."""
    # Not through the context, which sees to it that a supervisor runs.
    from strata.engine.core import open_engine
    from strata.engine.system.supervisor import supervise as watch

    context.need_root()
    watch(open_engine(context.root, context.runroot))
    return 0
