"""The shape of the command tables: what a command and an option are.

A table is plain data. Help, parsing, completion and the reference read it, so a command is
described once. Kinds of options and the value each leaves behind:

    flag      bool                    ``--rm``, ``--rm=false``
    tristate  bool, None: not given   ``--tls-verify``
    string    str                     ``--name web``
    int       int                     ``--tail 10``
    float     float                   ``--cpus 1.5``
    size      int, bytes              ``--memory 512m``
    duration  float, seconds          ``--interval 250ms``
    list      list of str             ``-e A=1 -e B=2``
    csv       list of str, split at , ``--cap-add A,B``
    map       dict                    ``--label a=1 --label b``

The default is the value when the option is not given; None means "leave it to the image or the
engine". Lists and maps start empty.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option:
    """One option: ``names`` like ``-e --env`` (the first long one is its key), kind and text.

    ``differs`` says in what it is not what Podman's users expect (see `strata.cli.podman`).
    """

    __slots__ = ("choices", "complete", "default", "differs", "help", "hidden", "key", "kind",
                 "metavar", "names")  # fmt: skip

    def __init__(
        self,
        names: str,
        kind: str,
        help: str,
        metavar: str = "",
        default: Any = None,
        choices: tuple[str, ...] = (),
        complete: str = "",
        hidden: bool = False,
        differs: str = "",
    ) -> None:
        self.names = names.split()
        self.key = next(name for name in self.names if name.startswith("--"))[2:]
        self.kind = kind
        self.help = help
        self.metavar = metavar
        self.default = False if kind == "flag" and default is None else default
        self.choices = choices
        self.complete = complete
        self.hidden = hidden
        self.differs = differs

    @property
    def takes_value(self) -> bool:
        """Whether the option needs a value (flags take one only as ``--flag=value``)."""
        return self.kind not in ("flag", "tristate")

    @property
    def shown(self) -> str:
        """The option as errors name it: ``-m, --memory``."""
        short = [name for name in self.names if not name.startswith("--")]
        return ", ".join([*short[:1], f"--{self.key}"])


class Command:
    """One command: ``paths`` it answers to (the first is its own), its words, options, handler.

    ``usage`` names the arguments, of which ``least`` to ``most`` (None: any number) must be given.
    ``handler`` is ``module:function`` below ``strata.cli.handlers`` and imported only to run it.
    With ``interspersed`` false everything after the first argument belongs to the container.
    ``complete`` says what the arguments are: container, running, image, volume, object, file.
    ``differs``: as for an option.
    """

    __slots__ = ("complete", "differs", "examples", "handler", "hidden", "interspersed", "least",
                 "most", "options", "paths", "summary", "text", "usage")  # fmt: skip

    def __init__(
        self,
        paths: tuple[str, ...],
        summary: str,
        handler: str,
        usage: str = "",
        least: int = 0,
        most: int | None = 0,
        options: tuple[Option, ...] = (),
        text: str = "",
        examples: tuple[str, ...] = (),
        interspersed: bool = True,
        complete: str = "",
        hidden: bool = False,
        differs: str = "",
    ) -> None:
        self.paths = paths
        self.summary = summary
        self.handler = handler
        self.usage = usage
        self.least = least
        self.most = most
        self.options = options
        self.text = text
        self.examples = examples
        self.interspersed = interspersed
        self.complete = complete
        self.hidden = hidden
        self.differs = differs

    @property
    def name(self) -> str:
        """The command's own path, as in ``container create``."""
        return self.paths[0]

    def find(self, name: str) -> Option | None:
        """Return the option with this name (``-e`` or ``--env``), or None."""
        for option in self.options:
            if name in option.names:
                return option
        return None


#: what many commands have
DOCUMENT_FORMAT = Option("--format -f", "string", "json, or a Go template", "FORMAT")
FORMAT = Option("--format", "string", "json, or a Go template", "FORMAT")
UNASKED = Option("--force -f", "flag", "Do not ask")
LATEST = Option("--latest -l", "flag", "The container created last")
NO_HEADING = Option("--noheading -n", "flag", "Leave out the heading")
PRUNE_FILTER = Option("--filter", "list", "Remove only what matches, as in label=old", "KEY=VALUE")

#: what every removing command has
DRY_RUN = Option("--dry-run", "flag", "Only print what would go")
REMOVING = (
    DRY_RUN,
    Option("--now", "flag", "Destroy it at once, without a way back"),
)

GLOBAL_OPTIONS = (
    Option("--root", "string", "Directory of the store's state (STRATA_ROOT)", "PATH",
           complete="dir"),
    Option("--runroot", "string", "Directory of volatile state (STRATA_RUNROOT)", "PATH",
           complete="dir"),
    Option("--trace", "flag", "Print every program that is run, on standard error"),
    Option("--help", "flag", "Print the help of a command"),
)  # fmt: skip
