"""Joining record, image and host into the text of config.json."""

from __future__ import annotations

import os

from strata import jsontext
from strata.errors import RuntimeFailure, UsageError
from strata.linux.read import read_verbatim
from strata.linux.resolve import open_in_root
from strata.oci import seccomp, spec
from strata.runtime import program, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.oci.facts import HostFacts


def make_config(
    record: Mapping[str, Any], root: int, *, mounts: Sequence[Mapping[str, Any]],
    host: HostFacts, bundle: str, cache: str, network_path: str = "",
) -> tuple[str, list[str]]:  # fmt: skip
    """The text of config.json and warnings. ``root`` is a descriptor of the image's root
    directory, ``cache`` a directory for translated filters. `UsageError`, `RuntimeFailure`."""
    config = record["config"]
    groups = [name for name in config.get("group_add") or () if name != "keep-groups"]
    if config.get("host_users"):
        from strata.runtime import accounts

        accounts.add_host_users(root, config, [str(mount["destination"]) for mount in mounts])
    user = users.resolve(root, config.get("user") or "", tuple(groups))
    if user.uid and not user.login and config.get("passwd", True):
        from strata.runtime import accounts

        accounts.ensure_listed(root, config, user)
    for mount in mounts:
        if mount.get("chown"):
            from strata.runtime import ownership

            owner = user.uid, user.gid
            if not mount.get("idmapped"):
                owner = ownership.map_owner(config, *owner)
            ownership.give(mount["chown"], *owner)
    if config.get("uid_map"):
        from strata.runtime import ownership

        ownership.give_files(config, bundle, ("hostname", "hosts", "resolv.conf"))
    ensure_workdir(root, config.get("workdir") or "/", user.uid, user.gid)
    document, warnings = spec.build_spec(
        record, user=user, mounts=mounts, host=host, bundle=bundle, network_path=network_path
    )
    program.read_ahead(root, document["process"])
    if config.get("personality"):
        document["linux"]["personality"] = {"domain": config["personality"]}
    if config.get("cdi"):
        from strata.runtime import cdi

        cdi.apply(document, config["cdi"])
    filter_text = ""
    choice = spec.wants_seccomp(config)
    if choice is not None:
        path = seccomp.find_profile(choice)
        if path is None:
            warnings.append("no seccomp profile is installed; system calls are not filtered")
        else:
            caps = document["process"]["capabilities"]["bounding"]
            made = seccomp.get_filter(cache, path, caps)
            filter_text = made.text
            if made.bpf and os.path.basename(config.get("runtime") or "crun").startswith("crun"):
                # crun(1): used instead of the section, which stays for one that does not know it.
                document["annotations"]["run.oci.seccomp_bpf_data"] = made.bpf
    return _join(document, filter_text), warnings


def _join(document: dict[str, Any], filter_text: str) -> str:
    """The text of a spec, with the filter as its ``linux.seccomp`` (empty: without).

    The filter is cached text, larger than all the rest, and not parsed again. It is appended to
    the object it belongs to, never put in place of a word that an argument could hold too.
    """
    if not filter_text:
        return jsontext.dumps_foreign(document)
    rest = {key: value for key, value in document.items() if key != "linux"}
    head = jsontext.dumps_foreign(rest)[:-1]
    linux = jsontext.dumps_foreign(document["linux"])[:-1]
    return f'{head},"linux":{linux},"seccomp":{filter_text}}}}}'


def make_files(record: Mapping[str, Any], host: HostFacts) -> dict[str, str]:
    """The generated files of the bundle: hostname, hosts, resolv.conf. `UsageError`."""
    hostname = spec.container_hostname(record, host.hostname)
    shared = record["config"].get("network") == "host"
    files = {
        "hostname": f"{hostname}\n",
        "hosts": spec.hosts_text(record, hostname, read_verbatim("/etc/hosts") if shared else ""),
        "resolv.conf": read_verbatim("/etc/resolv.conf") if shared else "",
    }
    zone = record["config"].get("timezone")
    if zone:
        files["localtime"] = _read_zone(zone)
    return files


def _read_zone(zone: str) -> str:
    """The host's description of a time zone, bytes as surrogates. `UsageError` when it has none."""
    path = "/etc/localtime" if zone == "local" else f"/usr/share/zoneinfo/{zone}"
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode(errors="surrogateescape")
    except OSError:
        raise UsageError(
            f'finding timezone: unknown time zone "{zone}"', hint="the host's tzdata lacks it"
        ) from None


def read_image(root: int, path: str) -> str:
    """A text file of the image whose root directory is ``root``, "" when it has none."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY)
    except OSError:
        return ""
    with open(fd, errors="surrogateescape") as file:
        return file.read(1 << 20)


def ensure_workdir(root: int, path: str, uid: int, gid: int) -> None:
    """Make the working directory when the image lacks it, as Podman does. Idempotent.

    `RuntimeFailure` when something in its way is no directory.
    """
    here = ""
    for part in [part for part in path.split("/") if part not in ("", ".")]:
        try:
            parent = open_in_root(root, here or "/", os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(part, 0o755, dir_fd=parent)
                os.chown(part, uid, gid, dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                pass
            finally:
                os.close(parent)
        except OSError as error:
            raise RuntimeFailure(
                f"workdir {path!r} cannot be made in the container: {error.strerror}",
                hint="choose another with --workdir",
            ) from error
        here = f"{here}/{part}"
