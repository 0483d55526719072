"""What an OCI runtime's complaint means, where the user can do something about it.

Loaded only to explain an error. The texts are those of crun 1.8 to 1.21 and runc 1.1; one that is
not known is passed on as it is (`strata.runtime.launch.classify`).
"""

from __future__ import annotations

import re

from strata.errors import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    #: sentence and hint
    Meaning = tuple[str, str]


def _sysctl(match: re.Match[str]) -> Meaning:
    name = match["path"].strip("/").replace("/", ".")
    if "no such file" in match.string.lower():
        return (f"sysctl '{name}' is not known in the container's namespaces",
                "names are as below /proc/sys, as in net.ipv4.ip_forward")  # fmt: skip
    return (f"sysctl '{name}' does not take that value", "see /proc/sys for what it has here")


def _mount(match: re.Match[str]) -> Meaning:
    place = "/" + match["target"].lstrip("/")
    return (f"cannot mount {match['source']} at {place}: one is a directory, the other is not",
            "mount a file over a file, a directory over a directory")  # fmt: skip


def _plain(sentence: str, hint: str) -> Callable[[re.Match[str]], Meaning]:
    def tell(match: re.Match[str]) -> Meaning:
        found = {key: value for key, value in match.groupdict().items() if value}
        return sentence.format(**found), hint.format(**found)

    return tell


_KNOWN: tuple[tuple[str, Callable[[re.Match[str]], Meaning]], ...] = (
    (r"memory limit could be too low|unable to set memory limit",
     _plain("the memory limit is too low for the container to start",
            "--memory 6m is about the least; most programs need more")),
    (r"(?:open|write(?: to)?) `?/proc/sys/(?P<path>[^:`]+)`?: (?:no such file|invalid argument|"
     r"permission denied|read-only)", _sysctl),
    (r"mount(?:ing)? [`\"](?P<source>[^`\"]+)[`\"] to (?:rootfs at )?[`\"](?P<target>[^`\"]+)[`\"]"
     r".*not a directory", _mount),
    (r"(?:chdir|init: mkdir) [`\"]?(?P<path>/[^`\":]*)[`\"]?\)?.*: not a directory",
     _plain('workdir "{path}" exists in the container, but is not a directory',
            "--workdir names a directory")),
    (r"too many open files",
     _plain("the limit of open files is too low for the container to start",
            "raise nofile of --ulimit; the runtime itself needs about twenty")),
    (r"apparmor is not (?:initialized|enabled)",
     _plain("AppArmor is not active on this host", "leave out --security-opt apparmor=")),
    (r"writing file [`\"](?P<file>[^`\"/]+)[`\"]: (?:invalid argument|numerical result)",
     _plain("the kernel refuses the limit for {file}", "give a value it takes; see cgroups(7)")),
    (r"cannot setns [`\"](?P<path>[^`\"]+)[`\"]: invalid argument",
     _plain("{path} is not a namespace of the kind that was asked for",
            "name the right file below /proc/PID/ns")),
    (r"[`\"](?P<path>[^`\"]{100}).*file name too long",
     _plain("a path has a name of more than 255 bytes: {path}…", "choose a shorter one")),
)  # fmt: skip


def explain(text: str) -> RuntimeFailure | None:
    """A complaint in words that help, or None."""
    for pattern, tell in _KNOWN:
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            sentence, hint = tell(match)
            return RuntimeFailure(sentence, hint=hint)
    return None
