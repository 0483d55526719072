"""Tables of the commands about a container's network: port, network connect and disconnect."""

from __future__ import annotations

from strata.cli.table import Command, Option

COMMANDS = (
    Command(
        ("port", "container port"),
        "List the ports that a container publishes on the host",
        "connecting:port",
        "[CONTAINER [PORT[/PROTOCOL]]]",
        0,
        2,
        (
            Option("--all -a", "flag", "Of all containers"),
            Option("--latest -l", "flag", "Of the container created last"),
        ),
        examples=("strata port web", "strata port web 80/tcp"),
        complete="container",
    ),
    Command(
        ("network connect",),
        "Connect a container to one more network",
        "connecting:connect",
        "NETWORK CONTAINER",
        2,
        2,
        (
            Option("--alias", "list", "Another name of the container on that network", "NAME"),
            Option("--ip", "string", "IPv4 address on that network", "IPV4"),
            Option("--ip6", "string", "IPv6 address on that network", "IPV6"),
            Option("--mac-address", "string", "Hardware address on that network", "MAC"),
        ),
        text="A running container gets the interface at once, and is found by its names there.",
        examples=("strata network connect --alias db back postgres",),
        complete="network",
    ),
    Command(
        ("network disconnect",),
        "Disconnect a container from a network",
        "connecting:disconnect",
        "NETWORK CONTAINER",
        2,
        2,
        (Option("--force -f", "flag", "Accepted as in Podman; disconnecting needs no force"),),
        examples=("strata network disconnect back postgres",),
        complete="network",
    ),
)
