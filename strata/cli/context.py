"""What a handler works with: the store of this command line and ways to answer."""

from __future__ import annotations

import os
import sys

from strata.errors import InUse, NotFound, StateImproper, StrataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from strata.engine.core import Engine


class Context:
    """One command line's store, opened when first needed, and its standard streams."""

    __slots__ = ("_engine", "root", "runroot", "words")

    def __init__(
        self, root: str | None, runroot: str | None, *, trace: bool = False,
        words: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.root = root
        self.runroot = runroot
        #: the command line, as the trash shows it
        self.words = list(words)
        self._engine: Engine | None = None
        if trace:
            from strata import command

            command.observer = _show_program

    @property
    def engine(self) -> Engine:
        """The opened store. Raises `StoreMissing` when there is none."""
        if self._engine is None:
            self.need_root()
            from strata.engine.core import open_engine

            self._engine = open_engine(self.root, self.runroot)
            self._engine.words = self.words
            if os.path.isdir(f"{self._engine.paths.runroot}/watch"):
                from strata.engine.containers.supervising import ensure

                ensure(self._engine)
        return self._engine

    def need_root(self) -> None:
        """Raise an error when this is not root."""
        if os.geteuid() != 0:
            raise StrataError(
                "strata needs root: datasets and mounts belong to it",
                hint="run it with sudo; containers of ordinary users are not available yet",
            )

    def expect_start(self) -> None:
        """Hide a wait of the kernel's, where a process is to be started in a container: called
        before anything that takes time."""
        if os.geteuid() == 0:
            from strata.linux import cgroup

            cgroup.warm_up()

    def confirm(self, warning: str, *, force: bool) -> bool:
        """Ask before something is removed. The answer may come through a pipe, as from ``yes``;
        where there is none, only ``--force`` is a yes."""
        if force:
            return True
        sys.stderr.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline() if sys.stdin else ""
        if not answer:
            sys.stderr.write("\n")
            raise UsageError(
                "this asks before it removes, and there was no answer", hint="add --force"
            )
        return answer.strip().lower() in ("y", "yes")


def say(text: str) -> None:
    """Print one line of the answer on standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print one line for people on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def show_each(
    context: Context, names: Iterable[str], inspect: Callable[[str], Iterable[object]],
    format: str | None,
) -> int:  # fmt: skip
    """Print what ``inspect`` says of every name, in one document; a code as of `for_each`."""
    from strata.cli.format import show_objects

    found: list[object] = []
    code = for_each(context, names, lambda name: found.extend(inspect(name)))
    show_objects(found, format)
    return code


def for_each(
    context: Context,
    names: Iterable[str],
    act: Callable[[str], object],
    *,
    classify: bool = False,
) -> int:
    """Open the store, call ``act`` for every name, print errors as they come; return a code.

    With ``classify`` as Podman's removing verbs have it: 1 when some did not exist, 2 when some
    were in use or in the wrong state, 125 for anything else. The gravest wins.
    """
    from strata.cli.messages import show_error

    # A missing store is one error, not one for every name.
    _ = context.engine
    code = 0
    for name in names:
        try:
            act(name)
        except StrataError as error:
            show_error(error)
            found = error.exit_code
            if classify and isinstance(error, NotFound):
                found = 1
            elif classify and isinstance(error, (InUse, StateImproper)):
                found = 2
            code = max(code, found)
    return code


def need_names(
    names: Sequence[str], *, all: bool = False, what: str = "name or id", instead: str = "--all"
) -> None:
    """Raise `UsageError` unless names or ``--all`` were given, and not both. ``instead``: what
    stands for names."""
    if all and names:
        raise UsageError("--all and names cannot be used together", hint="leave one of them out")
    if not all and not names:
        raise UsageError(
            f"you must provide at least one {what}", hint=f"or give {instead}" if instead else ""
        )


def _show_program(argv: Sequence[str]) -> None:
    from strata.cli.messages import clean

    note("+ " + " ".join(quote(clean(word)) for word in argv))


def quote(word: str) -> str:
    """A word as a shell would need it."""
    plain = word and not set(word) & set(" \t\n'\"\\$`;&|<>()*?[]{}!#~")
    return word if plain else "'" + word.replace("'", "'\\''") + "'"
