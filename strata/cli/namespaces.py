"""Read the options of namespaces: ``--pid``, ``--ipc``, ``--uts``, ``--time``, ``--cgroupns``,
``--userns``, ``--uidmap``, ``--gidmap``, ``--subuidname``, ``--subgidname``. Pure; `UsageError`."""

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
    if options.text("time"):
        described["time_mode"] = parse_time_mode(options.text("time"))
    _read_users(described, options)
    if described["hostname"] and described.get("uts_mode", "private") != "private":
        raise UsageError(
            "cannot set hostname when running in the host UTS namespace: invalid configuration",
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


def parse_time_mode(text: str) -> str:
    """Check ``--time``: a mode, or ``private:SECONDS`` that its clocks since boot are ahead."""
    kind, colon, rest = text.partition(":")
    if kind != "private" or not colon:
        return parse_mode(text, "time", ("host", "private"))
    digits = rest.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 11):
        raise UsageError(
            f"invalid --time {text!r}: {rest!r} is no number of seconds",
            hint="--time private:86400 puts the clocks since boot a day ahead",
        )
    return f"private:{int(rest)}"


_MAPS = ("uidmap", "gidmap")
_NAMES = ("subuidname", "subgidname")


def _read_users(described: Description, options: Options) -> None:
    """``userns`` as a mode, and ``uid_map`` and ``gid_map`` where they are given."""
    mode = parse_userns(options.text("userns"))
    maps = {key: [parse_map(text) for text in options.list(key)] for key in _MAPS}
    named = {key: options.text(key) for key in _NAMES}
    for key, given in {**maps, **named}.items():
        if given and mode not in ("", "private"):
            raise UsageError(f"--userns and --{key} are mutually exclusive")
    if any(maps.values()) and any(named.values()):
        raise UsageError("--subuidname and --subgidname exclude --uidmap and --gidmap")
    if any(named.values()):
        first, second = named["subuidname"], named["subgidname"]
        mode = f"subid:{first or second}:{second or first}"
    elif any(maps.values()):
        mode = "private"
        described["uid_map"] = check_map(maps["uidmap"] or maps["gidmap"], "uidmap")
        described["gid_map"] = check_map(maps["gidmap"] or maps["uidmap"], "gidmap")
    elif mode == "private":
        raise UsageError(
            "must provide at least one UID or GID mapping to configure a user namespace",
            hint="add --uidmap, or use --userns auto",
        )
    described["userns"] = mode


def parse_userns(text: str) -> str:
    """Check ``--userns``; ``auto:size=N`` becomes ``auto:N``, the host's is empty."""
    kind, colon, rest = text.partition(":")
    if kind in ("", "host") and not colon:
        return ""
    if kind == "private" and not colon:
        return kind
    if kind in ("container", "ns") and rest:
        return text
    if kind == "keep-id" and not colon:
        return kind
    if kind == "keep-id":
        raise UsageError(
            "the options of keep-id are only supported in rootless mode",
            hint="--uidmap gives any map",
        )
    if kind == "nomap":
        raise UsageError("nomap is only supported in rootless mode")
    if kind == "auto":
        name, _, number = rest.partition("=")
        if not colon:
            return kind
        if name == "size" and number.isdigit() and 0 < int(number) <= 1 << 20:
            return f"auto:{int(number)}"
        raise UsageError(
            f'invalid option specified: "{rest}"', hint="--userns auto takes size=NUMBER"
        )
    raise UsageError(
        f"unrecognized namespace mode {text} passed for --userns",
        hint="must be host, auto[:size=N], keep-id, container:NAME, ns:PATH, or use --uidmap",
    )


def parse_map(text: str) -> list[int]:
    """Read ``CONTAINER:HOST[:AMOUNT]``: first id inside, first outside, how many."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(p.isascii() and p.isdigit() for p in parts):
        raise UsageError(
            f"invalid mapping {text!r}",
            hint="give CONTAINER_ID:HOST_ID:AMOUNT as in 0:100000:65536",
        )
    inside, outside, count = (*map(int, parts), 1)[:3]
    if count < 1 or max(inside, outside) + count > 1 << 32:
        raise UsageError(f"invalid mapping {text!r}: no such range of ids")
    return [inside, outside, count]


def check_map(entries: list[list[int]], option: str) -> list[list[int]]:
    """Return a map in order; `UsageError` when ranges overlap or the kernel takes no more."""
    if len(entries) > 340:
        raise UsageError(f"--{option} takes at most 340 ranges")
    for column in (0, 1):
        ordered = sorted(entries, key=lambda entry: entry[column])
        end = 0
        for entry in ordered:
            if entry[column] < end:
                raise UsageError(f"--{option}: ranges overlap at id {entry[column]}")
            end = entry[column] + entry[2]
    return sorted(entries)
