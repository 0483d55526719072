"""Read security and resource options: ``--security-opt``, ``--ulimit``, ``--storage-opt``.

Pure functions; each raises `UsageError` with Podman's wording.
"""

from __future__ import annotations

from strata.cli.parse import parse_bool
from strata.errors import UsageError
from strata.oci.spec import ULIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

UNLIMITED = (1 << 64) - 1


def parse_ulimit(text: str) -> dict[str, Any]:
    """Read ``NAME=SOFT[:HARD]``, -1 for no limit; return the OCI form."""
    name, equals, value = text.partition("=")
    name = name.lower().removeprefix("rlimit_")
    if not equals or not value:
        raise UsageError(
            f"invalid ulimit argument: {text}", hint="give NAME=SOFT[:HARD] as in nofile=1024:2048"
        )
    if name not in ULIMITS:
        raise UsageError(
            f"invalid ulimit type: {name}", hint=f"one of {', '.join(sorted(ULIMITS))}"
        )
    soft_text, colon, hard_text = value.partition(":")
    soft = _limit(text, soft_text)
    hard = _limit(text, hard_text) if colon else soft
    if soft > hard:
        raise UsageError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft_text} > {hard_text}"
        )
    return {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}


def parse_ulimits(items: Iterable[str]) -> list[dict[str, Any]]:
    """Read every ``--ulimit``, the last of a kind wins; ``host`` stands for this host's limits."""
    limits: dict[str, dict[str, Any]] = {}
    for text in items:
        for item in list_host_limits() if text == "host" else [parse_ulimit(text)]:
            limits[item["type"]] = item
    return list(limits.values())


def list_host_limits() -> list[dict[str, Any]]:
    """The limits of this process in the OCI form."""
    import resource

    found = []
    for name in sorted(ULIMITS):
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, hard = (UNLIMITED if n < 0 else n for n in resource.getrlimit(number))
            found.append({"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard})
    return found


def parse_security(items: Iterable[str]) -> dict[str, Any]:
    """Read every ``--security-opt``; return the keys of the record's config they set."""
    found: dict[str, Any] = {
        "no_new_privileges": False,
        "seccomp": "",
        "apparmor": "",
        "label_opts": [],
        "mask": [],
        "unmask": [],
    }
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            key, equals, value = item.partition(":")
        if key == "no-new-privileges":
            try:
                found["no_new_privileges"] = parse_bool(value) if equals else True
            except ValueError as error:
                raise UsageError(f"invalid --security-opt {item}: {error}") from None
        elif key in ("seccomp", "apparmor") and value:
            found[key] = value
        elif key == "label" and value:
            if value != "disable":
                raise UsageError(
                    f'--security-opt "{item}" is not available in this version',
                    hint="processes get no SELinux label of their own; label=disable is accepted",
                )
            found["label_opts"].append(value)
        elif key in ("mask", "unmask") and value:
            found[key] += ["ALL"] if value.upper() == "ALL" and key == "unmask" else _paths(value)
        elif key == "proc-opts" and value:
            found.setdefault("proc_opts", []).extend(_proc_options(value))
        elif item == "systempaths=unconfined":
            found["unmask"].append("ALL")
        else:
            raise UsageError(
                f'invalid --security-opt: "{item}"',
                hint="known: no-new-privileges, seccomp=, apparmor=, label=, mask=, unmask=, "
                "proc-opts=",
            )
    return found


def parse_storage(items: Iterable[str]) -> dict[str, str]:
    """Read every ``--storage-opt NAME=VALUE``; return native properties as they were written."""
    from strata.engine.limits import check_options

    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise UsageError(f'invalid storage option "{item}"', hint="write it as size=10G")
        found[key] = value
    check_options(found)
    return found


def _proc_options(value: str) -> list[str]:
    """The mount options of proc(5)."""
    options = value.split(",")
    for option in options:
        name, equals, _ = option.partition("=")
        if not equals or name not in ("hidepid", "gid", "subset"):
            raise UsageError(f'invalid option "{option}" in --security-opt proc-opts=',
                             hint="hidepid=, gid= and subset=")  # fmt: skip
    return options


def _paths(value: str) -> list[str]:
    paths = value.split(":")
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f'invalid path "{path}" in --security-opt: must be absolute')
    return paths


def _limit(text: str, value: str) -> int:
    if value in ("-1", "unlimited"):
        return UNLIMITED
    if not (value.isascii() and value.isdigit()) or int(value) > UNLIMITED:
        raise UsageError(f"invalid ulimit argument: {text}", hint="limits are numbers or -1")
    return int(value)


def read_capabilities(described: Description, options: Options) -> None:
    """``--cap-add`` and ``--cap-drop``, over the set that containers.conf gives all containers.

    That set is said as what is added to, and dropped from, the one that all have without it.
    """
    from strata.oci.capabilities import DEFAULT, normalise

    add = normalise(filter(None, options.list("cap-add")))
    drop = normalise(filter(None, options.list("cap-drop")))
    whole = described["privileged"] or "ALL" in add or "ALL" in drop
    if options.given("default-capabilities") and not whole:
        base = normalise(options.list("default-capabilities"))
        less = [name for name in DEFAULT if name not in base and name not in add]
        add += [name for name in base if name not in (*DEFAULT, *drop, *add)]
        drop += [name for name in less if name not in drop]
    described["cap_add"], described["cap_drop"] = add, drop
