"""Read ``--restart`` and the options of health checks. Pure; `UsageError` in Podman's words."""

from __future__ import annotations

import os
import stat

from strata.errors import UsageError
from strata.times import parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

_ACTIONS = ("none", "kill", "restart", "stop")
_DURATIONS = ("interval", "timeout", "start-period", "start-interval")


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add ``restart``, ``health`` (only what was given) and ``no_healthcheck``."""
    if options.text("restart"):
        described["restart"] = parse_restart(options.text("restart"))
        if described["remove"] and described["restart"]["policy"] not in ("no", "on-failure"):
            raise UsageError(
                "the --rm option conflicts with --restart, when the restartPolicy is not "
                '"", "no" or "on-failure"'
            )
    health: dict[str, Any] = {}
    for key in _DURATIONS:
        if options.given(f"health-{key}"):
            health[key.replace("-", "_")] = parse_health_duration(
                options.text(f"health-{key}"), key
            )
    if options.given("health-retries"):
        health["retries"] = options.number("health-retries") or 0
        if health["retries"] < 1:
            raise UsageError("healthcheck-retries must be greater than 0")
    if options.given("health-on-failure"):
        action = options.text("health-on-failure") or "none"
        if action not in _ACTIONS:
            raise UsageError(
                f'invalid on-failure action "{action}" for health check: supported actions are '
                f"{','.join(_ACTIONS)}"
            )
        policy = (described.get("restart") or {}).get("policy", "no")
        if action == "restart" and policy != "no":
            raise UsageError(
                "cannot set on-failure action to restart in combination with a restart policy",
                hint="--health-on-failure=kill lets the restart policy start it again",
            )
        health["on_failure"] = action
    if options.text("health-cmd"):
        health["test"] = parse_test(options.text("health-cmd"))
    if options.flag("no-healthcheck"):
        if "test" in health:
            raise UsageError("cannot specify both --no-healthcheck and --health-cmd")
        described["no_healthcheck"] = True
    for key, name in (("max-log-count", "log_count"), ("max-log-size", "log_size")):
        if options.given(f"health-{key}"):
            health[name] = options.number(f"health-{key}") or 0
            if health[name] < 0:
                raise UsageError(f"healthcheck-{key} must be 0 or greater")
    if options.given("health-log-destination"):
        health["log_to"] = parse_destination(options.text("health-log-destination"))
    startup = _read_startup(options)
    if startup:
        if described.get("no_healthcheck"):
            raise UsageError("cannot specify both --no-healthcheck and --health-startup-cmd")
        health["startup"] = startup
    described["health"] = health


def _read_startup(options: Options) -> dict[str, Any]:
    """The check that comes before the others; {} without one."""
    if not options.text("health-startup-cmd"):
        for key in ("interval", "retries", "success", "timeout"):
            if options.given(f"health-startup-{key}"):
                raise UsageError(
                    f"--health-startup-{key} says nothing without a command",
                    hint="add --health-startup-cmd",
                )
        return {}
    found: dict[str, Any] = {
        "test": parse_test(options.text("health-startup-cmd")), "interval": 30.0, "timeout": 30.0,
        "retries": options.number("health-startup-retries") or 0,
        "success": options.number("health-startup-success") or 0,
    }  # fmt: skip
    if found["test"][0] == "NONE":
        raise UsageError("the start-up health check has no command")
    for key in ("interval", "timeout"):
        if options.given(f"health-startup-{key}"):
            text = options.text(f"health-startup-{key}")
            found[key] = parse_health_duration(text, f"startup-{key}")
    for key in ("retries", "success"):
        if found[key] < 0:
            raise UsageError(f"healthcheck-startup-{key} must be 0 or greater")
    return found


def parse_destination(text: str) -> str:
    """Read where results of checks go beside the record: ``local`` (nowhere), ``events_logger``,
    or a directory that exists; its absolute path."""
    if text in ("local", "events_logger"):
        return text
    try:
        found = os.stat(text)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"HealthCheck Log '{text}' destination error: stat {text}: {why.lower()}",
            hint="local, events_logger, or a directory that exists",
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"HealthCheck Log '{text}' destination must be directory")
    return os.path.abspath(text)


def parse_restart(text: str) -> dict[str, Any]:
    """Read ``no``, ``on-failure[:RETRIES]``, ``always``, ``unless-stopped``; retries 0: no end."""
    policy, colon, count = text.partition(":")
    policy = {"never": "no", "none": "no"}.get(policy, policy)
    if policy not in ("no", "on-failure", "always", "unless-stopped"):
        raise UsageError(
            f'"{policy}" is not a valid restart policy: invalid argument',
            hint="must be one of no, on-failure[:RETRIES], always, unless-stopped",
        )
    if colon and policy != "on-failure":
        raise UsageError(
            "restart policy retries can only be specified with on-failure restart policy",
            hint="as in on-failure:3",
        )
    if colon and not (count.isascii() and count.isdigit() and len(count) < 10):
        raise UsageError("must specify restart policy retry count as a number")
    return {"policy": policy, "retries": int(count) if colon else 0}


def parse_health_duration(text: str, name: str) -> float:
    """Read a duration of a health check in seconds; an interval may be ``disable`` (0)."""
    if name.endswith("interval") and name != "start-interval" and text == "disable":
        return 0.0
    try:
        seconds = parse_duration(text)
    except UsageError:
        raise UsageError(
            f'invalid healthcheck-{name}: time: invalid duration "{text}"', hint="as in 30s or 1m"
        ) from None
    timeout = name.endswith("timeout")
    if seconds < 0 or (timeout and seconds == 0):
        least = "at least 1 second" if timeout else "0 seconds or greater"
        raise UsageError(f"healthcheck-{name} must be {least}")
    return seconds


def parse_test(text: str) -> list[str]:
    """Read ``--health-cmd``: a shell command, a JSON array, or ``none``; the OCI image's form."""
    words: list[str] = []
    if text.startswith("["):
        import json

        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            words = found
            if not words:
                raise UsageError("must define a healthcheck command for all healthchecks")
    if not words:
        first = text.split(" ", 1)[0].upper()
        if first == "NONE" and text.strip().upper() == "NONE":
            return ["NONE"]
        return ["CMD", *text.split()[1:]] if first == "CMD" else ["CMD-SHELL", text]
    keyword = words[0].upper()
    if keyword in ("CMD", "CMD-SHELL", "NONE"):
        return ["NONE"] if keyword == "NONE" else [keyword, *words[1:]]
    return ["CMD", *words] if len(words) > 1 else ["CMD-SHELL", *words]
