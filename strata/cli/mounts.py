"""Read ``--volume``, ``--mount`` and ``--tmpfs`` into the mounts of a container's record.

Pure but for patterns (``type=glob``): whether a host path exists is the engine's business. A mount
is ``{"type", "source", "volume", "destination", "options", "anonymous"}``, and ``"subpath"`` where
only a part is meant, with the user's options only; memory file systems become
``{destination: options}``.
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
_BIND = _COMMON | _PROPAGATION | {"bind", "rbind", "U", "idmap"}
_VOLUME = _COMMON | _PROPAGATION | {"copy", "nocopy", "U", "idmap"}
_IMAGE = _PROPAGATION | {"ro"}
_TMPFS = (
    _COMMON | _PROPAGATION | frozenset("tmpcopyup notmpcopyup noatime relatime strictatime".split())
)
_TMPFS_VALUES = frozenset("size mode uid gid nr_inodes nr_blocks".split())
_LAYER = ("upperdir", "workdir")
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
    overlay = _read_overlay(options, directory) if "O" in options else []
    if source.startswith((".", "/")) or "/" in source:
        if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
            raise UsageError(
                f'"{source}" is neither a volume\'s name nor an absolute path',
                hint=f"for a directory here, write ./{source}",
            )
        path = posixpath.normpath(posixpath.join(directory, source))
        return _mount("bind", path, destination, overlay or _check(options, _BIND))
    name = check_name(source, "volume")
    return _mount("volume", name, destination, overlay or _check(options, _VOLUME))


def _read_overlay(options: list[str], directory: str) -> list[str]:
    """The options of an overlay, its directories absolute."""
    found = []
    for option in options:
        key, equals, value = option.partition("=")
        if option in RELABEL:
            raise UsageError(
                f"invalid options \"{', '.join(options)}\", can only specify 1 'z', 'Z', or 'O' "
                "option"
            )
        if key in _LAYER and equals and value:
            option = f"{key}={posixpath.normpath(posixpath.join(directory, value))}"
        elif option not in ("O", "U"):
            raise UsageError(
                f"can't use 'O' with other options: {option}", hint="known: U, upperdir=, workdir="
            )
        found.append(option)
    if len({option.partition("=")[0] for option in found}.intersection(_LAYER)) == 1:
        raise UsageError("must set both `upperdir` and `workdir`")
    return found


def parse_mount(text: str, directory: str) -> Mount:
    """Read ``--mount type=bind|volume|tmpfs|ramfs|image|devpts|glob,source=…,destination=…``.

    A memory file system comes back with type tmpfs and its options in ``options``.
    """
    given = {"type": "volume", "source": "", "destination": "", "subpath": ""}
    options: list[str] = []
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        name = _NAMES.get(key)
        if name is not None:
            given[name] = value
        elif key not in _IGNORED:
            options.append(_read_option(field, key, value if equals else None))
    kind = given["type"]
    if kind not in _KINDS:
        if kind in ("overlay", "artifact"):
            raise _unavailable(f"a mount of type {kind}")
        raise UsageError(
            f'invalid filesystem type "{kind}"', hint=f"use type= with one of {', '.join(_KINDS)}"
        )
    if not given["destination"]:
        raise UsageError(
            f'must set volume destination in --mount "{text}"', hint="add destination=/path"
        )
    mount = _KINDS[kind](given, _destination(given["destination"]), options, directory)
    if given["subpath"]:
        if kind not in ("volume", "image"):
            raise UsageError(f'"subpath" option not supported for "{kind}" mounts')
        mount["subpath"] = check_subpath(given["subpath"])
    return mount


_NAMES = {
    "type": "type", "source": "source", "src": "source", "destination": "destination",
    "dst": "destination", "target": "destination", "subpath": "subpath",
    "volume-subpath": "subpath", "image-subpath": "subpath",
}  # fmt: skip
#: Docker's, for other systems, and what can only be "local"
_IGNORED = frozenset(("consistency",))


def _read_option(field: str, key: str, value: str | None) -> str:
    """One option of ``--mount`` as ``-v`` spells it; ``value`` None: it stands alone."""
    on = value is None or key in ("bind-propagation", "relabel", "idmap") or (
        key.startswith("tmpfs-") or key not in _SWITCHES or _truth(field, value)
    )  # fmt: skip
    if key in ("readonly", "ro", "rw"):
        return "ro" if on == (key != "rw") else "rw"
    if key == "bind-propagation":
        return value or ""
    if key == "bind-nonrecursive":
        return "bind" if on else "rbind"
    if key == "volume-nocopy":
        return "nocopy" if on else "copy"
    if key in ("tmpfs-size", "tmpfs-mode"):
        return f"{key[6:]}={value}"
    if key in ("U", "chown"):
        return "U" if on else ""
    if key == "relabel":
        if value not in ("shared", "private"):
            raise UsageError(f'invalid value "{value}" for relabel: must be shared or private')
        return "z" if value == "shared" else "Z"
    if key in ("volume-opt", "volume-label", "volume-driver"):
        if key == "volume-driver" and value == "local":
            return ""
        raise UsageError(
            f"the mount option {key!r} is not available: a mount does not configure a volume",
            hint="make it with `strata volume create` first",
        )
    return field


_SWITCHES = frozenset(("readonly", "ro", "rw", "bind-nonrecursive", "volume-nocopy", "U", "chown"))


def _make_tmpfs(given: Mount, path: str, options: list[str], directory: str) -> Mount:
    if given["source"]:
        raise UsageError(f'"source" option not supported for "{given["type"]}" mounts')
    # U: a new memory file system belongs to the container's root as it is.
    return _mount(given["type"], "", path, _check_tmpfs([o for o in options if o != "U"]))


def _make_bind(given: Mount, path: str, options: list[str], directory: str) -> Mount:
    source = given["source"]
    if not source:
        raise UsageError(f"must set source for a {given['type']} mount", hint="add source=/path")
    if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
        source = f"./{source}"
    full = posixpath.normpath(posixpath.join(directory, source))
    return _mount(given["type"], full, path, _check(options, _BIND))


def _make_volume(given: Mount, path: str, options: list[str], directory: str) -> Mount:
    source = given["source"]
    if "/" in source:
        raise UsageError(
            f'"{source}" is not the name of a volume', hint="use type=bind for a host path"
        )
    name = check_name(source, "volume") if source else ""
    return _mount("volume", name, path, _check(options, _VOLUME))


def _make_image(given: Mount, path: str, options: list[str], directory: str) -> Mount:
    if not given["source"]:
        raise UsageError(
            "must set source and destination for image volume", hint="add source=IMAGE"
        )
    written = "rw" in options
    kept = [option for option in options if option not in ("rw", "ro")]
    if written and (given["subpath"] or "ro" in options):
        raise UsageError(
            "an image mount with rw is an overlay over all of the image",
            hint="leave out rw or the other option",
        )
    checked = _check(kept, _IMAGE)
    return _mount("image", given["source"], path, ["O"] if written else ["ro", *checked])


def _make_devpts(given: Mount, path: str, options: list[str], directory: str) -> Mount:
    if given["source"]:
        raise UsageError('"source" option not supported for "devpts" mounts')
    for option in options:
        name, _, value = option.partition("=")
        if name not in ("uid", "gid", "mode", "max") or not value.isdigit():
            raise UsageError(
                f'unknown mount option "{option}": invalid mount option',
                hint="known: uid=, gid=, mode=, max=",
            )
    return _mount("devpts", "", path, options)


_KINDS = {
    "bind": _make_bind,
    "volume": _make_volume,
    "tmpfs": _make_tmpfs,
    "ramfs": _make_tmpfs,
    "image": _make_image,
    "devpts": _make_devpts,
    "glob": _make_bind,
}


def check_subpath(path: str) -> str:
    """Check a path inside a volume or an image; return it without a leading slash."""
    clean = posixpath.normpath("/" + path)
    if ".." in path.split("/") or "\0" in path or clean == "/":
        raise UsageError(f'invalid subpath "{path}": it must lie inside')
    return clean.lstrip("/")


def expand(mount: Mount) -> list[Mount]:
    """The binds that a mount of type glob stands for: each file that its pattern matches, below
    the destination. `UsageError` when there is none."""
    import glob

    found = sorted(glob.glob(mount["source"]))
    if not found:
        raise UsageError(f"no file paths matching glob {mount['source']!r}")
    return [
        _mount("bind", path, posixpath.join(mount["destination"], posixpath.basename(path)),
               list(mount["options"]))
        for path in found
    ]  # fmt: skip


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
        mount = parse_mount(text, directory)
        found += expand(mount) if mount["type"] == "glob" else [mount]
    for text in tmpfs:
        destination, options = parse_tmpfs(text)
        found.append(_mount("tmpfs", "", destination, options.split(",") if options else []))
    kept: list[Mount] = []
    for mount in found:
        destination = mount["destination"]
        if mount in kept:
            continue  # the same twice is no contradiction
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


def _check(given: list[str], allowed: frozenset[str] | set[str]) -> list[str]:
    options = [option for option in given if option]
    for option in options:
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
