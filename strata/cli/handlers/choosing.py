"""Which containers a command line means: names, --all, --latest, --filter, --cidfile."""

from __future__ import annotations

from strata.cli import values
from strata.cli.context import Context, need_names
from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from strata.cli.parse import Options


def choose(
    context: Context, options: Options, arguments: list[str], states: tuple[str, ...] = (), *,
    ignore: bool = False, exit_code: int = 125,
) -> list[str]:  # fmt: skip
    """Return what was named, or the ids that ``--all``, ``--latest`` or ``--filter`` stand for.

    With ``--all`` or a filter only containers in ``states`` (empty: any). A filter beside names
    keeps those of them that pass it. All names are looked up before anything is done to one, as
    with Podman: a typing error among several leaves all as they are. `NotFound` has this exit
    code; ``ignore``: names that stand for nothing are left out.
    """
    names = [*arguments, *read_id_files(options)]
    filters = values.parse_filters(options.list("filter"))
    everything = options.flag("all")
    if options.flag("latest"):
        if names or everything or filters:
            raise UsageError("--latest and names, --all or --filter cannot be used together")
        return [_find_latest(context)]
    if filters and not (everything and names):
        passes = _make_filter(context, filters)
        if names:
            return [name for name in names if passes(name)]
        return _list_ids(context, states, filters)
    if not options.list("cidfile") or names:
        others = [f"--{key}" for key in ("all", "latest", "filter") if options.has(key)]
        need_names(names, all=everything, instead=" or ".join(others))
    if everything:
        return _list_ids(context, states, {})
    return _look_up(context, names, ignore=ignore, exit_code=exit_code)


def choose_one(context: Context, options: Options, arguments: list[str]) -> str:
    """Return the one container that was named, or the latest."""
    return choose(context, options, arguments)[0]


def read_id_files(options: Options) -> list[str]:
    """Return the ids in the files that ``--cidfile`` names; with ``--ignore`` one may be gone."""
    found = []
    for path in options.list("cidfile"):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                found.append(file.readline(4096).strip())
        except FileNotFoundError:
            if not options.flag("ignore"):
                raise UsageError(
                    f"reading CIDFile: open {path}: no such file or directory",
                    hint="--ignore passes over a missing file",
                ) from None
        except OSError as error:
            raise UsageError(f"reading CIDFile: open {path}: {error.strerror}") from None
    return found


def _look_up(
    context: Context, names: list[str], *, ignore: bool, exit_code: int
) -> list[str]:  # fmt: skip
    """Return the names of which there is a container."""
    from strata.engine.names import get_container

    if len(names) < 2 and not ignore:
        return names  # the verb looks it up itself
    found = []
    for name in names:
        try:
            get_container(context.engine, name)
        except NotFound as error:
            if ignore:
                continue
            error.exit_code = exit_code
            raise
        found.append(name)
    return found


def _list_ids(
    context: Context, states: tuple[str, ...], filters: dict[str, list[str]]
) -> list[str]:  # fmt: skip
    from strata.engine.containers.listing import list_containers

    rows = list_containers(context.engine, all=True, filters=filters)
    return [row["Id"] for row in rows if not states or row["State"] in states]


def _make_filter(context: Context, filters: dict[str, list[str]]) -> Callable[[str], Any]:
    from strata.engine import names

    passing = set(_list_ids(context, (), filters))
    return lambda name: names.get_container(context.engine, name)["id"] in passing


def _find_latest(context: Context) -> str:
    from strata.engine.containers.listing import list_containers

    rows = list_containers(context.engine, all=True, latest=True)
    if not rows:
        raise NotFound("no containers to operate on")
    return str(rows[0]["Id"])
