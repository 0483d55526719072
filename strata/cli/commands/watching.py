"""Tables of the commands that watch: events, stats, top."""

from __future__ import annotations

from strata.cli.table import Command, Option

_FORMAT = Option("--format", "string", "json, or a Go template", "FORMAT")
_LATEST = Option("--latest -l", "flag", "The container created last")
_NO_TRUNC = Option("--no-trunc", "flag", "Do not shorten ids")

COMMANDS = (
    Command(
        ("events", "system events"),
        "Show what happened, and go on as more happens",
        "watching:events",
        options=(
            Option("--filter -f", "list", "Keep what matches, as in event=died", "KEY=VALUE"),
            _FORMAT,
            Option("--no-trunc", "flag", "Do not shorten ids", default=True),
            Option("--since", "string", "Events since a time, or a duration ago", "TIME"),
            Option(
                "--stream", "flag", "Go on with new events; false: end after the old", default=True
            ),
            Option("--until", "string", "Watch until a time, or for a duration", "TIME"),
        ),
        text=(
            "Without --since only new events are shown, unless --stream=false.\n"
            "Filters: container, event, image, label, network, pod, snapshot, type, volume."
        ),
        examples=(
            "strata events --since 10m --filter event=died",
            "strata events --stream=false --format json",
        ),
    ),
)
