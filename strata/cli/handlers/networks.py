"""The commands on networks."""

from __future__ import annotations

from strata.cli import losses, values
from strata.cli.context import Context, say, show_each
from strata.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    """Create a network and print its name."""
    from strata.engine.networks import verbs

    made = verbs.create(
        context.engine,
        arguments[0] if arguments else None,
        driver=options.text("driver"),
        subnets=options.list("subnet"),
        gateways=options.list("gateway"),
        ranges=options.list("ip-range"),
        ipv6=options.flag("ipv6"),
        internal=options.flag("internal"),
        dns=not options.flag("disable-dns"),
        dns_servers=options.list("dns"),
        routes=options.list("route"),
        options=values.parse_pairs(options.list("opt"), "--opt"),
        labels=values.parse_pairs(options.list("label"), "--label"),
        interface=options.text("interface-name"),
        ipam=options.text("ipam-driver"),
        ignore=options.flag("ignore"),
        join=options.text("join"),
    )
    say(made["name"])
    return 0


def ls(context: Context, options: Options, arguments: list[str]) -> int:
    """List networks."""
    from strata.cli.format import join_pairs, show_rows
    from strata.engine.networks import verbs

    found = verbs.list_networks(context.engine, values.parse_filters(options.list("filter")))
    if options.flag("quiet"):
        for network in found:
            say(network["name"])
        return 0
    rows = [
        {
            "ID": network["id"] if options.flag("no-trunc") else network["id"][:12],
            "Name": network["name"],
            "Driver": network["driver"],
            "Labels": join_pairs(network.get("labels", {})),
            "Options": join_pairs(network.get("options", {})),
            "NetworkInterface": network["network_interface"],
            "Created": network["created"],
            "CreatedAt": network["created"],
            "Scope": "local",
            "Subnets": network["subnets"],
            "IPv6Enabled": network["ipv6_enabled"],
            "IPv6": network["ipv6_enabled"],
            "Internal": network["internal"],
            "DNSEnabled": network["dns_enabled"],
            "IPAMOptions": network["ipam_options"],
            "Routes": network.get("routes", []),
            "NetworkDNSServers": network.get("network_dns_servers", []),
        }
        for network in found
    ]
    show_rows(
        rows,
        [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver")],
        format=options.text("format"),
        raw=found,
        heading=not options.flag("noheading"),
    )
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about networks."""
    from strata.engine.networks import verbs

    return show_each(
        context, arguments, lambda name: verbs.inspect(context.engine, [name]),
        options.maybe("format"),
    )  # fmt: skip


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove networks."""
    from strata.engine.networks import removal

    force = options.flag("force")

    def find() -> list[dict[str, Any]]:
        from strata.engine.losses import list_networks

        return list_networks(context.engine, arguments, force=force)

    def act(name: str) -> None:
        for gone in removal.remove(
            context.engine, [name], force=force, time=options.number("time")
        ):  # fmt: skip
            say(gone)

    return losses.remove_each(context, options, arguments, act, find)


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove networks that no container uses."""
    from strata.engine.networks import removal

    def act(filters: dict[str, list[str]]) -> None:
        for name in removal.prune(context.engine, filters):
            say(name)

    warning = "This will remove all networks not used by at least one container."
    return losses.prune(context, options, "network", warning, act)


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether a network exists."""
    from strata.engine.networks import verbs

    return 0 if verbs.exists(context.engine, arguments[0]) else 1


def reload(context: Context, options: Options, arguments: list[str]) -> int:
    """Make bridges and rules anew; print the ids of the containers that were meant."""
    from strata.cli.handlers.choosing import choose
    from strata.engine.names import get_container
    from strata.engine.networks import verbs

    meant = arguments
    if arguments or options.flag("all") or options.flag("latest"):
        meant = choose(context, options, arguments, ("running", "paused"))
    named = [get_container(context.engine, name)["id"] for name in meant]
    verbs.reload(context.engine)
    for container_id in named:
        say(container_id)
    return 0


def update(context: Context, options: Options, arguments: list[str]) -> int:
    """Change a network's name servers and peers; print its name."""
    from strata.engine.networks import verbs

    changes = {key: options.list(key.replace("_", "-"))
               for key in ("dns_add", "dns_drop", "peer_add", "peer_drop")}  # fmt: skip
    if not any(changes.values()):
        raise UsageError("nothing to update", hint="give --dns-add, --dns-drop, --peer-add or "
                         "--peer-drop")  # fmt: skip
    say(verbs.update(context.engine, arguments[0], **changes)["name"])
    return 0


def join_token(context: Context, options: Options, arguments: list[str]) -> int:
    """Print the token with which another host joins an overlay."""
    from strata.engine.networks import overlay
    from strata.engine.networks.joining import get_network

    say(overlay.make_join_token(get_network(context.engine, arguments[0])))
    return 0
