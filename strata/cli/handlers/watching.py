"""The commands that watch: events, stats, top."""

from __future__ import annotations

import sys
import time

from strata.cli import values
from strata.cli.context import Context
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
    from strata.engine import events as log

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
    if format == "json":
        import json

        return lambda event: json.dumps(describe_event(event), ensure_ascii=False)
    if format:
        from strata.cli.template import Template

        template = Template(format)
        return lambda event: template.render(_name_fields(event, full))
    return lambda event: describe_line(event, full=full)


def describe_event(event: Row) -> Row:
    """Return an event as ``--format json`` prints it: Podman's keys, empty ones left out."""
    found: Row = {
        "ContainerExitCode": event.get("exit_code"), "ID": event["id"], "Image": event["image"],
        "Name": event["name"], "Network": event.get("network"), "Status": event["status"],
        "Type": event["type"], "HealthStatus": event.get("health"),
        "HealthFailingStreak": event.get("streak"), "Error": event.get("error"),
        "PodID": event.get("pod"),
    }  # fmt: skip
    kept = {key: value for key, value in found.items() if value not in (None, "")}
    return {
        **kept, "time": event["time"] // 10**9, "timeNano": event["time"],
        "Attributes": event["attributes"],
    }  # fmt: skip


def _name_fields(event: Row, full: bool) -> Row:
    """Every field that a template may name."""
    empty = {"ContainerExitCode": 0, "ID": "", "Image": "", "Name": "", "Network": "",
             "HealthStatus": "", "HealthFailingStreak": 0, "Error": "", "PodID": ""}  # fmt: skip
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
        details += [f"{key}={value}" for key, value in sorted(event["attributes"].items())]
        return clean(f"{start} {object_id} ({', '.join(details)})")
    if kind == "network" and event.get("network"):
        return clean(f"{start} {object_id} (container={object_id}, name={event['network']})")
    if kind == "image":
        return clean(f"{start} {object_id} {name}")
    return clean(f"{start} {name}".rstrip())
