"""The commands about a container's network: its ports, and connecting it while it runs."""

from __future__ import annotations

from strata.cli.context import Context, say
from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.parse import Options


def port(context: Context, options: Options, arguments: list[str]) -> int:
    """List published ports: ``80/tcp -> 0.0.0.0:8080``, or of one port only the address."""
    from strata.engine.networks import describing

    if options.flag("all"):
        if arguments or options.flag("latest"):
            raise UsageError("--all lists every container; name none and leave --latest away")
        for record in context.engine.records.list_records("container"):
            for inside, address, number in describing.list_bindings(record):
                say(f"{record['id'][:12]}\t{inside} -> {_join(address, number)}")
        return 0
    wanted = ""
    if len(arguments) > (0 if options.flag("latest") else 1):
        from strata.cli.ports import parse_port_argument

        wanted = parse_port_argument(arguments.pop())
    record = _find(context, options, arguments)
    bindings = list(describing.list_bindings(record))
    if not wanted:
        for inside, address, number in bindings:
            say(f"{inside} -> {_join(address, number)}")
        return 0
    found = [(address, number) for inside, address, number in bindings if inside == wanted]
    if not found:
        raise NotFound(
            f'failed to find published port "{wanted}"',
            hint=f"`strata port {record['name']}` lists those there are",
        )
    for address, number in found:
        say(_join(address, number))
    return 0


def connect(context: Context, options: Options, arguments: list[str]) -> int:
    """Connect a container to one more network."""
    from strata.cli.attachments import parse_entry
    from strata.engine.names import get_container
    from strata.engine.networks import live

    network, name = arguments
    entry = parse_entry(
        network,
        ips=[text for text in (options.text("ip"), options.text("ip6")) if text],
        mac=options.text("mac-address"),
        aliases=options.list("alias"),
    )
    context.need_root()
    live.connect(context.engine, get_container(context.engine, name), entry.pop("name"), entry)
    return 0


def disconnect(context: Context, options: Options, arguments: list[str]) -> int:
    """Disconnect a container from a network."""
    from strata.engine.names import get_container
    from strata.engine.networks import live

    network, name = arguments
    context.need_root()
    live.disconnect(context.engine, get_container(context.engine, name), network)
    return 0


def _find(context: Context, options: Options, arguments: list[str]) -> dict[str, object]:
    from strata.engine.names import get_container

    if options.flag("latest"):
        if arguments:
            raise UsageError("--latest and a container's name cannot be used together")
        records = list(context.engine.records.list_records("container"))
        if not records:
            raise NotFound("no containers to take the latest of", hint="run one first")
        return max(records, key=lambda record: str(record["created"]))
    if not arguments:
        raise UsageError("you must supply a container name or id", hint="or use --latest or --all")
    return get_container(context.engine, arguments[0])


def _join(address: str, number: int) -> str:
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
