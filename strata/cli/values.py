"""Turn the text of an option into a value: sizes, detach keys, names, environments.

Pure functions. Each raises `UsageError` with Podman's wording and a hint; what depends on the
world (the environment) is passed in. Durations and moments are in ``strata.times``, signals in
``strata.linux.signals``, mounts and security options in ``strata.cli.mounts`` and
``strata.cli.security``.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ASCII = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _ASCII | frozenset("_.-")
_SPACES = " \t"
_SIZE_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_int(text: str) -> int:
    """Read a decimal integer; raise `UsageError`."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError("not a whole number")
    digits = digits.lstrip("0") or "0"
    if len(digits) > 19 or int(digits) >= 1 << 63:
        raise UsageError("value out of range")
    return -int(digits) if text[0] == "-" else int(digits)


def parse_float(text: str) -> float:
    """Read a finite decimal number; raise `UsageError`."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    # Of infinities and NaN the difference to itself is not zero (math is one more library to load).
    if value - value != 0 or "_" in text:
        raise UsageError("not a number")
    if abs(value) >= 1e12:
        raise UsageError("value out of range")
    return value


def parse_size(text: str) -> int:
    """Read a size with binary units (``512m``, ``1g``, ``1.5GiB``); return bytes."""
    body = text.strip().lower()
    number = body.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = body[len(number) :]
    number = number.rstrip()
    if len(unit) > 1:
        unit = unit.removesuffix("b").removesuffix("i").replace("b", "?")
    digits = number.replace(".", "", 1)
    power = _SIZE_UNITS.get(unit)
    if power is None or not (digits.isascii() and digits.isdigit()) or number[0] == ".":
        raise UsageError(f"invalid size: '{text}'", hint="sizes look like 512m, 1g or 1.5g")
    whole, _, fraction = number.partition(".")
    scale = 1 << (10 * power)
    value = int(whole) * scale
    if fraction:
        value += int(fraction) * scale // 10 ** len(fraction)
    if value >= 1 << 63:
        raise UsageError(f"invalid size: '{text}' is too large")
    return value


def parse_detach_keys(text: str) -> bytes:
    """Read ``ctrl-p,ctrl-q``-like keys; return the bytes a terminal sends, none for ``""``."""
    keys = bytearray()
    for key in text.split(",") if text else ():
        if len(key) == 1 and key.isascii() and key.isprintable():
            keys.append(ord(key))
            continue
        letter = key[5:].lower()
        control = "@abcdefghijklmnopqrstuvwxyz[\\]^_".find(letter) if len(letter) == 1 else -1
        if not key.lower().startswith("ctrl-") or control < 0:
            raise UsageError(
                f'unknown detach key sequence "{text}": invalid argument',
                hint="keys are single letters or ctrl-<letter>, separated by commas",
            )
        keys.append(control)
    return bytes(keys)


def check_hostname(name: str) -> str:
    """Return a host name when the kernel takes it (at most 64 characters); raise `UsageError`."""
    if len(name) > 64 or not (_NAME.issuperset(name) and name[:1] not in ("-", ".")):
        raise UsageError(
            f'invalid hostname "{name}"', hint="use letters, digits, '.' and '-', at most 64"
        )
    return name


def split_csv(text: str) -> list[str]:
    """Split one comma-separated record; a field in double quotes may hold commas."""
    fields: list[str] = []
    field: list[str] = []
    quoted, position = False, 0
    while position < len(text):
        letter = text[position]
        if quoted and letter == '"' and text[position + 1 : position + 2] == '"':
            field.append('"')
            position += 1
        elif letter == '"' and (quoted or not field):
            quoted = not quoted
        elif letter == "," and not quoted:
            fields.append("".join(field))
            field = []
        else:
            field.append(letter)
        position += 1
    if quoted:
        raise UsageError(f"a quote is not closed in {text}")
    return [*fields, "".join(field)] if text else []


def parse_pairs(items: Iterable[str], option: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` items (``KEY`` alone has an empty value)."""
    pairs: dict[str, str] = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise UsageError(f'invalid argument "{item}" for {option}: the key is empty')
        pairs[key] = value
    return pairs


def parse_filters(items: Iterable[str]) -> dict[str, list[str]]:
    """Read ``--filter key=value`` items; values of one key are alternatives."""
    filters: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(
                f'invalid filter "{item}"', hint="filters look like KEY=VALUE, as in name=web"
            )
        filters.setdefault(key, []).append(value)
    return filters


def add_environment(into: dict[str, str], item: str, host: Mapping[str, str]) -> None:
    """Add one ``-e`` item: ``K=V``, ``K`` from the host when set there, ``K*`` all such from it."""
    key, equals, value = item.partition("=")
    name = key.lstrip(_SPACES)
    if not name or "\0" in item:
        raise UsageError(f'invalid variable: "{item}"', hint="give KEY=VALUE, KEY or PREFIX*")
    if equals:
        into[name] = value
    elif name.endswith("*"):
        prefix = name[:-1]
        into.update({known: host[known] for known in host if known.startswith(prefix)})
    elif name in host:
        into[name] = host[name]


def parse_environment(
    items: Iterable[str], files: Iterable[str], host: Mapping[str, str]
) -> list[str]:
    """Merge the texts of environment files and ``-e`` items, the latter last, to ``K=V`` items."""
    merged: dict[str, str] = {}
    for text in files:
        for line in text.splitlines():
            line = line.lstrip(_SPACES)
            if line and not line.startswith("#"):
                add_environment(merged, line, host)
    for item in items:
        add_environment(merged, item, host)
    return [f"{key}={value}" for key, value in merged.items()]


def parse_label_file(text: str) -> dict[str, str]:
    """Read a label file: one ``KEY=VALUE`` per line, ``#`` comments."""
    lines = (line.strip() for line in text.splitlines())
    return parse_pairs((line for line in lines if line and line[0] != "#"), "--label-file")


def parse_entrypoint(text: str) -> list[str]:
    """Read ``--entrypoint``: a JSON array of strings or one program; empty clears the image's."""
    if text.startswith("["):
        import json

        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [text] if text else []


def parse_add_host(text: str) -> str:
    """Check one ``--add-host NAME:IP``; return it normalised."""
    name, colon, address = text.partition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not name or not colon:
        raise UsageError(
            f'unable to parse "{text}": invalid extra host', hint="give --add-host NAME:IP"
        )
    if address != "host-gateway" and not is_address(address):
        raise UsageError(
            f'invalid IP address in add-host: "{address}"',
            hint="give --add-host NAME:IP, or NAME:host-gateway for the host's address",
        )
    for part in name.split(";"):
        check_hostname(part)
    return f"{name}:{address}"


def parse_platform(text: str) -> str:
    """Check ``OS/ARCH[/VARIANT]``; return it in lower case."""
    parts = text.lower().split("/")
    if not 2 <= len(parts) <= 3 or not all(part and _NAME.issuperset(part) for part in parts):
        raise UsageError(
            f'invalid platform "{text}"', hint="give OS/ARCH[/VARIANT] as in linux/arm64/v8"
        )
    return "/".join(parts)


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address."""
    # `ipaddress` would take longer to load than all the rest of a command line to read.
    import _socket

    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def parse_servers(texts: Iterable[str], option: str) -> list[str]:
    """Check addresses of DNS servers; `UsageError`."""
    found = list(texts)
    for text in found:
        if not is_address(text):
            raise UsageError(
                f"{text} is not an ip address", hint=f"{option} takes addresses, as in 9.9.9.9"
            )
    return found
