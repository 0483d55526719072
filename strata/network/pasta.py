"""``--network pasta``: a network through the host's own sockets, without bridge or address. Pure.

The pasta process makes an interface in the container's namespace with the host's addresses and
copies what goes through it to sockets of the host, so connections look like the host's own. It
ends by itself when the file that its namespace is pinned at goes. Source: passt(1), of March 2023
and later.
"""

from __future__ import annotations

from strata.errors import NetworkError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

#: where the container asks for names; pasta sends it on to the host's server, also one on loopback
NAMES_ADDRESS = "169.254.1.1"
_LOADED = ("Failed to send", "UNIX domain socket", "Template interface")


def make_argv(
    netns: str, pid_file: str, ports: Iterable[Mapping[str, Any]], given: Sequence[str]
) -> list[str]:
    """The words that start pasta for the namespace pinned at ``netns``.

    It goes to the background when all is set up. ``given`` are the user's own options; they replace
    the default of the same kind. `UsageError` for a protocol it does not know.
    """
    specs: dict[str, list[str]] = {"tcp": [], "udp": []}
    for port in ports:
        if port["protocol"] not in specs:
            raise UsageError(
                f"pasta cannot publish {port['protocol']} ports", hint="it knows tcp and udp"
            )
        specs[port["protocol"]].append(_make_spec(port))
    argv = ["pasta", "--config-net", "--quiet", "--netns-only", "--runas", "0",
            "--pid", pid_file]  # fmt: skip
    for option, texts in (("-t", specs["tcp"]), ("-u", specs["udp"])):
        for text in texts or (() if _has(given, option) else ("none",)):
            argv += [option, text]
    for option in ("-T", "-U"):
        if not _has(given, option):
            argv += [option, "none"]
    if not _has(given, "--dns-forward"):
        argv += ["--dns-forward", NAMES_ADDRESS]
    if "--map-gw" not in given:
        argv.append("--no-map-gw")
    argv += [word for word in given if word != "--map-gw"]
    return [*argv, "--netns", netns]


def split_options(mode: str) -> list[str]:
    """The user's options in ``pasta:-a,10.0.2.15,--map-gw``."""
    return [word for word in mode.partition(":")[2].split(",") if word]


def classify(said: str) -> NetworkError:
    """What pasta's last words mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_LOADED)]
    # Behind a wrong option it explains all of them.
    usage = next((at for at, line in enumerate(lines) if line.startswith("Usage:")), len(lines))
    lines = lines[:usage] or lines
    sentence = lines[-1].removeprefix("pasta: ") if lines else "it ended without a reason"
    hint = ""
    if "routable interface" in sentence or "External interface" in sentence:
        hint = "pasta takes over the host's default route, and the host has none"
    elif "bind" in sentence or "port" in sentence.lower():
        hint = "choose another port of the host with --publish"
    return NetworkError(f"pasta failed: {sentence}", hint=hint)


def _has(given: Sequence[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in given)


def _make_spec(port: Mapping[str, Any]) -> str:
    """``[ADDRESS/]HOST[-HOST]:PORT[-PORT]``."""
    more = port["range"] - 1
    host, own = (
        f"{port[key]}-{port[key] + more}" if more else str(port[key])
        for key in ("host_port", "container_port")
    )
    address = f"{port['host_ip']}/" if port["host_ip"] else ""
    return f"{address}{host}:{own}"
