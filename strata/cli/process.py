"""Read the options of ``run`` and ``create`` about the process and its surroundings.

Environment beyond ``-e``, groups, umask, time zone, time limit, pid files, the log, requirements.
`UsageError` in Podman's words.
"""

from __future__ import annotations

import os

from strata.cli.values import parse_pairs, parse_size
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.cli.parse import Options

    Description = dict[str, Any]

#: /usr/share/zoneinfo, as zic(8) installs it
ZONES = "/usr/share/zoneinfo"
_MOST_PRESERVED = 1024
_STREAMS = ("stdin", "stdout", "stderr")
_FILE_ONLY = frozenset(("log_path", "log_size"))
_NOT_NEEDED = {
    "kernel-memory": "The --kernel-memory flag is no longer supported. This flag is a noop",
}


def read(described: Description, options: Options, host: Mapping[str, str]) -> None:
    """Add what the options say under the names of the record's config."""
    if options.list("group-add"):
        described["group_add"] = parse_groups(options.list("group-add"))
    if options.text("umask"):
        described["umask"] = parse_umask(options.text("umask"))
    if options.text("tz"):
        described["timezone"] = parse_zone(options.text("tz"))
    timeout = options.number("timeout") or 0
    if timeout < 0:
        raise UsageError("invalid --timeout: must be 0 (no limit) or more seconds")
    described["timeout"] = timeout
    for key in ("init-path", "pidfile", "conmon-pidfile"):
        if options.text(key):
            described[key.replace("-", "_")] = os.path.abspath(options.text(key))
    if options.list("log-opt"):
        described.update(parse_log_options(options.list("log-opt")))
        driver = described["log_driver"]
        if driver not in ("k8s-file", "json-file") and not _FILE_ONLY.isdisjoint(
            key for key, value in described.items() if value
        ):
            os.write(2, f"WARN: the log driver {driver} keeps no file\n".encode())
            described["log_path"] = ""
    if options.given("attach"):
        described["attach"] = parse_attach(options.list("attach"), described["log_driver"])
    described["requires"] = options.list("requires")
    if options.text("systemd"):
        described["systemd"] = parse_systemd(options.text("systemd"))
    described["passwd"] = options.flag("passwd")
    for key in ("passwd-entry", "group-entry"):
        if "\n" in options.text(key).strip("\n"):
            raise UsageError(f"invalid --{key}: it is more than one line")
        described[key.replace("-", "_")] = options.text(key).strip("\n")
    if options.text("personality"):
        described["personality"] = options.text("personality").upper()
        if described["personality"] not in ("LINUX", "LINUX32"):
            raise UsageError(
                f"invalid --personality {options.text('personality')}", hint="LINUX or LINUX32"
            )
    described["shm_size_systemd"] = options.number("shm-size-systemd") or 0
    described["chroot_dirs"] = [parse_chroot(text) for text in options.list("chrootdirs")]
    described["creds"] = options.maybe("creds")
    described["retry"] = options.number("retry")
    if (described["retry"] or 0) < 0:
        raise UsageError("invalid --retry: must be 0 or more")
    if options.given("retry-delay"):
        described["retry_delay"] = options.real("retry-delay")
    described["remove_image"] = options.flag("rmi")
    if options.list("hostuser"):
        described["host_users"] = [find_host_user(text) for text in options.list("hostuser")]
    for key, sentence in _NOT_NEEDED.items():
        if options.given(key):
            os.write(2, f"WARN: {sentence}\n".encode())
    if any(options.given(key) for key in ("platform", "os", "arch", "variant")):
        described["platform"] = read_platform(options)
    _read_environment(described, options)


def _read_environment(described: Description, options: Options) -> None:
    described["unset_env"] = ["*"] if options.flag("unsetenv-all") else options.list("unsetenv")
    for name in described["unset_env"]:
        if not name or "=" in name:
            raise UsageError(f'invalid variable name "{name}" for --unsetenv')
    described["env_merge"] = [
        f"{key}={value}"
        for key, value in parse_pairs(options.list("env-merge"), "--env-merge").items()
    ]


def read_platform(options: Options) -> str | None:
    """The platform of ``--platform``, or of ``--os``, ``--arch`` and ``--variant``; None: ours."""
    from strata.cli.values import parse_platform

    parts = [options.text(key) for key in ("os", "arch", "variant")]
    whole = options.text("platform")
    if not any(parts):
        return parse_platform(whole) if whole else None
    if whole:
        raise UsageError("--platform option can not be specified with --arch or --os")
    if not parts[1]:
        from strata.oci import architecture

        parts[1], variant = architecture.find_host()
        parts[2] = parts[2] or variant
    return parse_platform("/".join([parts[0] or "linux", parts[1], *filter(None, parts[2:])]))


def read_preserved(options: Options) -> list[int]:
    """The descriptors that ``run`` hands on: ``--preserve-fds`` counts from 3, ``--preserve-fd``
    names them. `UsageError` when one is not open."""
    count, named = options.number("preserve-fds") or 0, options.list("preserve-fd")
    if count and named:
        raise UsageError("cannot specify both --preserve-fds and --preserve-fd")
    if not 0 <= count <= _MOST_PRESERVED:
        raise UsageError(f"invalid --preserve-fds: must be 0 to {_MOST_PRESERVED}")
    numbers = list(range(3, 3 + count))
    for text in named:
        if not text.isdigit() or not 3 <= int(text) < _MOST_PRESERVED:
            raise UsageError(f"unable to parse fd: {text!r}", hint="give numbers from 3 on")
        numbers.append(int(text))
    for number in numbers:
        try:
            # Ours are all closed on exec; what the caller left open is not.
            known = os.get_inheritable(number)
        except OSError:
            known = False
        if not known:
            raise UsageError(
                f"file descriptor {number} is not available - the preserve-fds option requires "
                "that file descriptors must be passed"
            )
    return numbers


def parse_groups(items: list[str]) -> list[str]:
    """Check ``--group-add``; ``keep-groups`` stands alone."""
    if "keep-groups" in items and len(items) > 1:
        raise UsageError(
            "the '--group-add keep-groups' option is not allowed with any other --group-add options"
        )
    if not all(items):
        raise UsageError("invalid --group-add: the group's name is empty")
    return items


def find_host_user(text: str) -> dict[str, Any]:
    """A user of the host by name or number, for a line in the container's passwd."""
    import pwd

    try:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else -1
        found = pwd.getpwuid(number) if number >= 0 else pwd.getpwnam(text)
    except (KeyError, ValueError, OverflowError):
        raise UsageError(
            f"user: unknown user {text}", hint="--hostuser takes a name or number of the host"
        ) from None
    return {"name": found.pw_name, "uid": found.pw_uid, "gid": found.pw_gid,
            "gecos": found.pw_gecos.split(",")[0], "home": found.pw_dir}  # fmt: skip


def parse_attach(items: list[str], driver: str) -> list[str]:
    """Read ``--attach``: which of stdout and stderr to show. Standard input is --interactive's."""
    if not items:
        raise UsageError("must provide at least one stream to attach to")
    if driver.startswith("passthrough"):
        raise UsageError(f"cannot specify --attach with --log-driver={driver}")
    names = [item.lower() for item in items]
    for name, item in zip(names, items, strict=True):
        if name not in _STREAMS:
            raise UsageError(
                f'invalid stream "{item}" for --attach - must be one of stdin, stdout, or stderr'
            )
    return [name for name in dict.fromkeys(names) if name != "stdin"]


def parse_chroot(text: str) -> str:
    """Check one directory of ``--chrootdirs``; return it without a slash at its end."""
    if not text.startswith("/") or ".." in text.split("/") or not text.strip("/"):
        raise UsageError(
            f'invalid chroot directory "{text}"', hint="give an absolute path in the container"
        )
    return os.path.normpath("/" + text.strip("/"))


def parse_umask(text: str) -> str:
    """Check an octal mask of one to four digits."""
    if not 1 <= len(text) <= 4 or not set(text) <= set("01234567"):
        raise UsageError(
            f"invalid umask string {text}: invalid argument", hint="give octal digits as in 0027"
        )
    return text.rjust(4, "0")


def parse_zone(text: str) -> str:
    """Check ``--tz``: ``local`` or a name of the host's time zone database."""
    if text == "local":
        return text
    if ".." in text.split("/") or text.startswith("/") or not os.path.isfile(f"{ZONES}/{text}"):
        raise UsageError(
            f'finding timezone: unknown time zone "{text}"',
            hint="names as in Europe/Berlin, or local; the host's package tzdata has them",
        )
    return text


def parse_systemd(text: str) -> str:
    """Check ``--systemd``: ``true`` (when the command is an init), ``always`` or ``false``."""
    low = text.lower()
    if low == "always":
        return low
    if low in ("true", "t", "1"):
        return "true"
    if low in ("false", "f", "0"):
        return "false"
    raise UsageError('--systemd values must be one of "true, false, always": invalid configuration')


def parse_log_options(items: list[str]) -> dict[str, Any]:
    """Read ``path=``, ``max-size=``, ``tag=``; what only other drivers need is refused."""
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not value:
            raise UsageError(f'invalid log option "{item}"', hint="give KEY=VALUE")
        if key == "path":
            found["log_path"] = os.path.abspath(value)
        elif key == "max-size":
            found["log_size"] = parse_size(value) if value != "-1" else 0
        elif key == "tag":
            found["log_tag"] = value
        elif key == "max-file":
            if not value.isdigit():
                raise UsageError(f'invalid log option "{item}"', hint="give a number of files")
            os.write(2, b"WARN: of a log one file is kept; max-file has no effect\n")
        else:
            raise UsageError(f'invalid log option "{key}"', hint="known: path=, max-size=, tag=")
    return found
