"""Read ``--volume``, ``--mount`` and ``--tmpfs`` into the mounts of a container's record.

Pure: whether a host path exists is the engine's business. A mount is
``{"type", "source", "volume", "destination", "options", "anonymous"}`` with the user's options
only; memory file systems become ``{destination: options}``.
"""

from __future__ import annotations

import posixpath

from strata.cli.values import parse_size, split_csv
from strata.engine.names import check_name
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Mount = dict[str, Any]

_COMMON = frozenset("rw ro exec noexec suid nosuid dev nodev".split())
_PROPAGATION = frozenset(
    "private rprivate shared rshared slave rslave unbindable runbindable".split()
)
_BIND = _COMMON | _PROPAGATION | {"bind", "rbind"}
_VOLUME = _COMMON | _PROPAGATION | {"copy", "nocopy"}
_TMPFS = (
    _COMMON | _PROPAGATION | frozenset("tmpcopyup notmpcopyup noatime relatime strictatime".split())
)
_TMPFS_VALUES = frozenset("size mode uid gid nr_inodes nr_blocks".split())
_LATER = {
    "O": "overlays over a host directory",
    "U": "changing the owner of a source",
    "idmap": "id-mapped mounts",
}
# SELinux relabelling; the caller decides by the host whether it means anything.
RELABEL = frozenset("zZ")
_CONFLICTS = (("rw", "ro"), ("exec", "noexec"), ("suid", "nosuid"), ("dev", "nodev"),
              ("copy", "nocopy"), ("z", "Z"))  # fmt: skip


def parse_volume(text: str, directory: str) -> Mount:
    """Read ``-v [SOURCE:]DESTINATION[:OPTIONS]``; ``directory`` resolves ``./`` and ``../``.

    A source with a slash or a leading dot is a host path, otherwise a volume's name; without a
    source the volume is anonymous.
    """
    parts = text.split(":")
    if len(parts) > 3 or not text:
        raise UsageError(
            f'incorrect volume format "{text}", should be [host-dir:]ctr-dir[:option]',
            hint="give a volume's name or an absolute path, then the path in the container",
        )
    if len(parts) == 1:
        return _mount("volume", "", _destination(parts[0]), [])
    source, destination = parts[0], _destination(parts[1])
    if not source:
        raise UsageError(f'incorrect volume format "{text}": host directory cannot be empty')
    options = [option for option in parts[2].split(",") if option] if len(parts) == 3 else []
    if source.startswith((".", "/")) or "/" in source:
        if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
            raise UsageError(
                f'"{source}" is neither a volume\'s name nor an absolute path',
                hint=f"for a directory here, write ./{source}",
            )
        path = posixpath.normpath(posixpath.join(directory, source))
        return _mount("bind", path, destination, _check(options, _BIND))
    return _mount("volume", check_name(source, "volume"), destination, _check(options, _VOLUME))


def parse_mount(text: str, directory: str) -> Mount:
    """Read ``--mount type=bind|volume|tmpfs,source=…,destination=…[,option…]``.

    A memory file system comes back with type tmpfs and its options in ``options``.
    """
    kind, source, destination = "volume", "", ""
    options: list[str] = []
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if key == "type":
            kind = value
        elif key in ("source", "src"):
            source = value
        elif key in ("destination", "dst", "target"):
            destination = value
        elif key in ("readonly", "ro", "rw"):
            truth = _truth(field, value) if equals else True
            options.append("ro" if truth == (key != "rw") else "rw")
        elif key == "bind-propagation":
            options.append(value)
        elif key == "bind-nonrecursive":
            options.append("bind" if not equals or _truth(field, value) else "rbind")
        elif key == "volume-nocopy":
            options.append("nocopy" if not equals or _truth(field, value) else "copy")
        elif key in ("tmpfs-size", "tmpfs-mode"):
            options.append(f"{key[6:]}={value}")
        elif key in ("relabel", "U", "chown", "idmap", "subpath", "volume-opt", "volume-label"):
            raise _unavailable(f"the mount option {key!r}")
        else:
            options.append(field)
    if kind not in ("bind", "volume", "tmpfs"):
        if kind in ("image", "glob", "devpts", "ramfs", "overlay"):
            raise _unavailable(f"a mount of type {kind}")
        raise UsageError(
            f'invalid filesystem type "{kind}"', hint="use type=bind, type=volume or type=tmpfs"
        )
    if not destination:
        raise UsageError(
            f'must set volume destination in --mount "{text}"', hint="add destination=/path"
        )
    path = _destination(destination)
    if kind == "tmpfs":
        if source:
            raise UsageError('"source" option not supported for "tmpfs" mounts')
        return _mount("tmpfs", "", path, _check_tmpfs(options))
    if kind == "bind":
        if not source:
            raise UsageError("must set source for a bind mount", hint="add source=/path")
        if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
            source = f"./{source}"
        full = posixpath.normpath(posixpath.join(directory, source))
        return _mount("bind", full, path, _check(options, _BIND))
    if "/" in source:
        raise UsageError(
            f'"{source}" is not the name of a volume', hint="use type=bind for a host path"
        )
    name = check_name(source, "volume") if source else ""
    return _mount("volume", name, path, _check(options, _VOLUME))


def parse_tmpfs(text: str) -> tuple[str, str]:
    """Read ``--tmpfs DESTINATION[:OPTIONS]``; return the destination and checked options."""
    destination, _, options = text.partition(":")
    chosen = [option for option in options.split(",") if option]
    return _destination(destination), ",".join(_check_tmpfs(chosen))


def combine(
    volumes: Iterable[str], mounts: Iterable[str], tmpfs: Iterable[str], directory: str
) -> tuple[list[Mount], dict[str, str]]:
    """Read all three options; return mounts and memory file systems, each destination once."""
    found: list[Mount] = [parse_volume(text, directory) for text in volumes]
    memory: dict[str, str] = {}
    seen: set[str] = set()
    for text in mounts:
        found.append(parse_mount(text, directory))
    for text in tmpfs:
        destination, options = parse_tmpfs(text)
        found.append(_mount("tmpfs", "", destination, options.split(",") if options else []))
    kept: list[Mount] = []
    for mount in found:
        destination = mount["destination"]
        if destination in seen:
            raise UsageError(
                f"{destination}: duplicate mount destination",
                hint="mount each path of the container once",
            )
        seen.add(destination)
        if mount["type"] == "tmpfs":
            memory[destination] = ",".join(mount["options"])
        else:
            kept.append(mount)
    return kept, memory


def _mount(kind: str, source: str, destination: str, options: list[str]) -> Mount:
    return {
        "type": kind,
        "source": source,
        "volume": "",
        "destination": destination,
        "options": options,
        "anonymous": kind == "volume" and not source,
    }


def _destination(path: str) -> str:
    if not path.startswith("/"):
        raise UsageError(
            f'invalid container path "{path}", must be an absolute path',
            hint="the path in the container starts with /",
        )
    clean = posixpath.normpath(path)
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise UsageError('invalid container path "/": the root cannot be a mount')
    if "\0" in clean:
        raise UsageError("invalid container path: it holds a NUL byte")
    return clean


def _check(options: list[str], allowed: frozenset[str] | set[str]) -> list[str]:
    for option in options:
        name = option.partition("=")[0]
        if name in _LATER:
            raise _unavailable(_LATER[name])
        if option not in allowed and option not in RELABEL:
            raise UsageError(
                f'unknown mount option "{option}": invalid mount option',
                hint=f"known: {', '.join(sorted(allowed))}",
            )
    _check_conflicts(options)
    if len(_PROPAGATION.intersection(options)) > 1:
        raise UsageError("invalid options: cannot pass more than one propagation mode")
    return options


def _check_tmpfs(options: list[str]) -> list[str]:
    checked = []
    for option in options:
        name, equals, value = option.partition("=")
        if equals and name == "size":
            if not value.endswith("%"):
                value = str(parse_size(value))
            option = f"size={value}"
        elif equals and name == "mode":
            if not value or not set(value) <= set("01234567"):
                raise UsageError(f'invalid tmpfs mode "{value}"', hint="the mode is octal: 1777")
        elif equals and name in _TMPFS_VALUES:
            pass
        elif option not in _TMPFS:
            known = sorted(_TMPFS - _PROPAGATION | {f"{name}=" for name in _TMPFS_VALUES})
            raise UsageError(
                f'unknown mount option "{option}": invalid mount option',
                hint=f"known: {', '.join(known)}",
            )
        checked.append(option)
    _check_conflicts(checked)
    return checked


def _check_conflicts(options: list[str]) -> None:
    for first, second in _CONFLICTS:
        if first in options and second in options:
            raise UsageError(f"invalid options: cannot pass both {first!r} and {second!r}")


def _truth(field: str, value: str) -> bool:
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise UsageError(f'invalid mount option "{field}": neither true nor false')


def _unavailable(what: str) -> UsageError:
    return UsageError(f"{what} is not available in this version")
