"""The commands on secrets."""

from __future__ import annotations

import os
import sys

from strata.cli import values
from strata.cli.context import Context, for_each, need_names, say
from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Keep a secret and print its id."""
    data = _read_value(arguments[1] if len(arguments) > 1 else "-", options.flag("env"))
    from strata.engine import secrets

    labels = values.parse_pairs(options.list("label"), "--label")
    say(
        secrets.create(
            context.engine, arguments[0], data, labels=labels, replace=options.flag("replace"),
            ignore=options.flag("ignore"),
        )
    )  # fmt: skip
    return 0


def _read_value(source: str, from_environment: bool) -> bytes:
    if from_environment:
        if source not in os.environ:
            raise UsageError(f"cannot create store secret data: environment variable {source} is "
                             "not set")  # fmt: skip
        return os.fsencode(os.environ[source])
    limit = 512_000 + 1
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError(
                "if `-` is used, data must be passed into stdin",
                hint="as in: printf value | strata secret create NAME -",
            )
        return sys.stdin.buffer.read(limit)
    try:
        with open(source, "rb") as file:
            return file.read(limit)
    except OSError as error:
        raise UsageError(f"open {source}: {(error.strerror or str(error)).lower()}") from None


def ls(context: Context, options: Options, arguments: list[str]) -> int:
    """List secrets."""
    from strata.cli.format import show_rows
    from strata.engine import secrets

    found = secrets.list_secrets(context.engine, values.parse_filters(options.list("filter")))
    if options.flag("quiet"):
        for secret in found:
            say(secret["ID"])
        return 0
    import time

    from strata.cli.format import ago

    now = time.time()
    rows = [
        {
            **secret, "Name": secret["Spec"]["Name"], "Driver": "file",
            "CreatedAt": ago(secret["CreatedAt"], now), "UpdatedAt": ago(secret["UpdatedAt"], now),
        }
        for secret in found
    ]  # fmt: skip
    columns = [("ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("CREATED", "CreatedAt"),
               ("UPDATED", "UpdatedAt")]  # fmt: skip
    show_rows(rows, columns, format=options.text("format"), raw=found,
              heading=not options.flag("noheading"))  # fmt: skip
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show what is known of secrets."""
    from strata.cli.format import show_objects
    from strata.engine import secrets

    found: list[dict[str, Any]] = []
    show = options.flag("showsecret")
    code = for_each(
        context, arguments, lambda name: found.append(secrets.inspect(context.engine, name,
                                                                      show=show)),
    )  # fmt: skip
    if options.flag("pretty"):
        for secret in found:
            for title, value in _list_facts(secret):
                say(f"{title + ':':<18} {value}")
        return code
    show_objects(found, options.maybe("format"))
    return code


def _list_facts(secret: dict[str, Any]) -> list[tuple[str, str]]:
    from strata.cli.format import go_time

    facts = [
        ("ID", secret["ID"]), ("Name", secret["Spec"]["Name"]), ("Driver", "file"),
        ("Created at", go_time(secret["CreatedAt"])), ("Updated at", go_time(secret["UpdatedAt"])),
    ]  # fmt: skip
    if "SecretData" in secret:
        facts.append(("SecretData", secret["SecretData"]))
    return facts


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove secrets and print their ids."""
    from strata.engine import secrets

    everything = options.flag("all")
    need_names(arguments, all=everything, what="secret name")
    wanted = arguments
    if everything:
        wanted = [secret["ID"] for secret in secrets.list_secrets(context.engine)]

    def act(name: str) -> None:
        try:
            if options.flag("dry-run"):
                found = secrets.get(context.engine, name)
                say(f"would remove secret {found['name']} (without a way back)")
            else:
                say(secrets.remove(context.engine, name))
        except NotFound:
            if not options.flag("ignore"):
                raise

    return for_each(context, wanted, act)


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether a secret exists."""
    from strata.engine import secrets

    return 0 if secrets.exists(context.engine, arguments[0]) else 1
