"""Read ``--pid``, ``--ipc``, ``--uts`` and ``--cgroupns``. Pure; `UsageError`."""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

_JOINABLE = ("container:", "ns:")
#: option -> config key, words, default
_MODES = {
    "pid": ("pid_mode", ("private", "host")),
    "ipc": ("ipc_mode", ("private", "shareable", "host", "none")),
    "uts": ("uts_mode", ("private", "host")),
    "cgroupns": ("cgroupns", ("private", "host")),
}


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add what the options say under the names of the record's config."""
    for option, (key, words) in _MODES.items():
        if options.text(option):
            described[key] = parse_mode(options.text(option), option, words)
    if described["hostname"] and described.get("uts_mode", "private") != "private":
        raise UsageError(
            "cannot set hostname when running in the host's or another's UTS namespace",
            hint="leave out --hostname or --uts",
        )


def parse_mode(text: str, option: str, words: tuple[str, ...]) -> str:
    """Check a namespace mode: one of ``words``, ``container:NAME`` or ``ns:PATH``."""
    if text in words:
        return text
    kind, colon, rest = text.partition(":")
    if f"{kind}{colon}" in _JOINABLE:
        if not rest:
            what = "path of a namespace" if kind == "ns" else "name or id of a container"
            raise UsageError(f"invalid --{option} {text!r}: must provide the {what}")
        if kind == "ns" and not rest.startswith("/"):
            raise UsageError(f"invalid --{option} {text!r}: the path must be absolute")
        return text
    raise UsageError(
        f"unrecognized namespace mode {text} passed for --{option}",
        hint=f"must be one of {', '.join(words)}, container:NAME or ns:PATH",
    )
