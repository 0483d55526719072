"""The options that stand before the command: ours, and those Podman and Docker have there.

Podman takes its own behind the command as well, so `strata.cli.parse` looks here for an option
that a command does not have. Those that are refused are in `strata.cli.unavailable`.
"""

from __future__ import annotations

from strata.cli.table import GLOBAL_OPTIONS, Command, Option
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options

_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
_REMOTE = "there is no remote client"

#: Podman's and Docker's
FOREIGN_OPTIONS = (
    Option(
        "--cgroup-manager",
        "string",
        "Accepted: groups are made by the OCI runtime",
        "MANAGER",
        choices=("cgroupfs",),
        differs="systemd is refused: cgroups are not managed by systemd",
    ),
    Option(
        "--config",
        "string",
        "Directory with a config.json of registry credentials",
        "PATH",
        complete="dir",
    ),
    Option("--context", "string", "Accepted: default, this host", "NAME", choices=("default",)),
    Option("--debug -D", "flag", "As --trace"),
    Option(
        "--events-backend",
        "string",
        "Accepted: events are kept in the store",
        "BACKEND",
        choices=("file", "journald", "none"),
        differs="events are always kept in the store",
    ),
    Option(
        "--log-level -l",
        "string",
        "trace and debug: as --trace; others are accepted",
        "LEVEL",
        choices=_LEVELS,
        differs="debug and trace show the programs that are run",
    ),
    Option(
        "--remote -r",
        "flag",
        "Accepted when false",
        differs=f"only --remote=false: {_REMOTE}",
    ),
    Option("--runtime", "string", "OCI runtime of run and create: crun, runc or a path", "RUNTIME"),
    Option("--syslog", "flag", "Accepted: nothing is logged but errors, on standard error"),
)

BEFORE = Command(
    ("",),
    "",
    "",
    "COMMAND",
    options=(
        *GLOBAL_OPTIONS,
        Option("--version -v", "flag", "Print the version"),
        *FOREIGN_OPTIONS,
    ),
    interspersed=False,
)


def find_foreign(name: str) -> Option | None:
    """One of Podman's or Docker's options by its long name."""
    for option in FOREIGN_OPTIONS:
        if name in option.names and name.startswith("--"):
            return option
    return None


def apply(command: Command, settings: Options, options: Options) -> None:
    """Let what stood before a command (``settings``) or behind it change its ``options``."""
    for key in ("remote", "log-level", "debug", "runtime", "config"):
        if settings.given(key) and not options.given(key):
            options.set(key, settings.get(key))
    if options.flag("remote") and command.find("--remote") is None:
        raise UsageError(f"--remote is not available in this version: {_REMOTE}",
                         hint="run strata on the host of the containers")  # fmt: skip
    if options.flag("debug") or options.text("log-level") in ("trace", "debug"):
        options.set("trace", True)
    if options.given("config") and command.find("--authfile") and not options.given("authfile"):
        options.set("authfile", f"{options.text('config')}/config.json")
