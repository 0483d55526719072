"""The mounts of a container's runtime spec. Pure.

A file system of the kernel, a generated file, a memory file system or something of the user's at
each destination; what the user gave replaces a default.
"""

from __future__ import annotations

from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts

INIT_PATH = "/run/strata-init"
SHM_SIZE = 65_536_000

#: what ``--read-only`` leaves writable, as Podman's --read-only-tmpfs
_READ_ONLY_TMPFS = ("/run", "/tmp", "/var/tmp")
_TMPFS_OPTIONS = ("rprivate", "nosuid", "nodev", "tmpcopyup")
#: written into the bundle before each start and bound over the image's files
GENERATED_FILES = ("hostname", "hosts", "resolv.conf")
#: what in a container's config leaves the image's file as it is
_NOT_GENERATED = {"hostname": "no_hostname", "hosts": "no_hosts", "resolv.conf": "no_resolv"}


def build_mounts(
    config: Mapping[str, Any], extra: Sequence[Mapping[str, Any]], host: HostFacts, bundle: str
) -> list[dict[str, Any]]:
    """The ``mounts`` of a runtime spec: Podman's defaults, then what the container asks for, each
    destination once and parents first. ``extra`` as `strata.oci.spec.build_spec` takes it."""
    privileged = bool(config.get("privileged"))
    access = "rw" if privileged else "ro"
    made: dict[str, dict[str, Any]] = {}

    def add(destination: str, kind: str, source: str, *options: str) -> None:
        made[destination] = {
            "destination": destination, "type": kind, "source": source, "options": list(options),
        }  # fmt: skip

    add("/proc", "proc", "proc", "nosuid", "noexec", "nodev", *(config.get("proc_opts") or ()))
    add("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k")
    add("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access)
    add("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
        "mode=0620", "gid=5")  # fmt: skip
    add("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    add("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777",
        f"size={config.get('shm_size') or SHM_SIZE}")  # fmt: skip
    add("/sys/fs/cgroup", "cgroup", "cgroup", "rprivate", "nosuid", "noexec", "nodev",
        "relatime", access)  # fmt: skip
    generated = [name for name in GENERATED_FILES if not config.get(_NOT_GENERATED[name])]
    for name in generated:
        for top in ("", *(config.get("chroot_dirs") or ())):
            add(f"{top}/etc/{name}", "bind", f"{bundle}/{name}", "bind", "rprivate")
    if config.get("timezone"):
        add("/etc/localtime", "bind", f"{bundle}/localtime", "bind", "rprivate", "ro")
    if config.get("read_only"):
        for path in _READ_ONLY_TMPFS if config.get("read_only_tmpfs", True) else ():
            add(path, "tmpfs", "tmpfs", *_TMPFS_OPTIONS, "rw", "mode=1777" if "tmp" in path
                else "mode=755")  # fmt: skip
        # The generated files stay readable; nothing on a read-only root may be changed.
        for name in generated:
            for top in ("", *(config.get("chroot_dirs") or ())):
                made[f"{top}/etc/{name}"]["options"].append("ro")
    for path, options in (config.get("tmpfs") or {}).items():
        given = [option for option in str(options).split(",") if option]
        add(_clean(path), "tmpfs", "tmpfs", *_join_tmpfs(given))
    for mount in extra:
        path = _clean(str(mount["destination"]))
        options = [str(option) for option in mount.get("options") or ()]
        if mount["type"] == "tmpfs":
            add(path, "tmpfs", "tmpfs", *_join_tmpfs(options))
            continue
        if mount["type"] == "ramfs":
            add(path, "ramfs", "ramfs", "rprivate", "nosuid", "nodev", *options)
            continue
        if mount["type"] == "devpts":
            add(path, "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
                *options)  # fmt: skip
            continue
        if not any(option in ("bind", "rbind") for option in options):
            options.insert(0, "rbind")
        if not any(option.lstrip("r") in ("private", "shared", "slave") for option in options):
            options.append("rprivate")
        add(path, "bind", str(mount["source"]), *options)
    if config.get("init") and host.init_program:
        add(INIT_PATH, "bind", host.init_program, "bind", "rprivate", "ro")
    return sorted(made.values(), key=lambda mount: mount["destination"].count("/"))


def _join_tmpfs(given: Sequence[str]) -> list[str]:
    """The options of a memory file system: the defaults but for those that are contradicted."""
    kept = [option for option in _TMPFS_OPTIONS if f"no{option}" not in given]
    return [*kept, *(option for option in given if option != "notmpcopyup")]


def _clean(path: str) -> str:
    """An absolute destination without ``.``, ``..`` and doubled slashes; `UsageError`."""
    if not path.startswith("/"):
        raise UsageError(f"invalid container path {path!r}, must be an absolute path")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise UsageError("invalid container path: the root file system cannot be mounted over")
    return "/" + "/".join(parts)
