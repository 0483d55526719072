"""Tables of the commands on networks."""

from __future__ import annotations

from strata.cli.table import (
    DOCUMENT_FORMAT,
    NO_HEADING,
    PRUNE_FILTER,
    REMOVING,
    UNASKED,
    Command,
    Option,
)

_FORMAT = Option("--format", "string", "json, or a Go template, as in '{{.Name}}'", "FORMAT")

COMMANDS = (
    Command(
        ("network create",),
        "Create a network",
        "networks:create",
        "[NAME]",
        0,
        1,
        (
            Option("--disable-dns", "flag", "Do not resolve names of containers"),
            Option("--dns", "csv", "Name server the network's own one asks", "ADDRESS"),
            Option(
                "--driver -d", "string", "bridge, macvlan, ipvlan or wireguard", "DRIVER", "bridge"
            ),
            Option("--gateway", "list", "Address of a subnet's gateway", "ADDRESS"),
            Option("--ignore", "flag", "Do nothing when the network exists"),
            Option(
                "--interface-name", "string", "Bridge on the host, or parent of macvlan", "NAME"
            ),
            Option("--internal", "flag", "No way out of the network and none in"),
            Option(
                "--ip-range",
                "list",
                "Give out only these addresses: CIDR or FIRST-LAST",
                "RANGE",
            ),
            Option(
                "--ipam-driver",
                "string",
                "Who gives out addresses",
                "DRIVER",
                choices=("host-local", "none"),
            ),
            Option("--ipv6", "flag", "Add an IPv6 subnet"),
            Option("--join", "string", "Join the overlay of another host", "TOKEN"),
            Option("--label", "list", "Set a label", "KEY[=VALUE]"),
            Option(
                "--opt -o",
                "list",
                "Option of the driver, as in mtu=1400, vlan=5, isolate=strict, metric=200",
                "KEY=VALUE",
            ),
            Option(
                "--route",
                "list",
                "Static route of its containers",
                "DESTINATION,GATEWAY[,METRIC]",
            ),
            Option("--subnet", "list", "Subnet in CIDR form; several for several", "CIDR"),
        ),
        text="Containers of different networks reach each other only through published ports,\n"
        "unless one network was made with -o isolate=false; with -o isolate=strict not even so.\n"
        "With -d wireguard a network spans hosts. Its options are endpoint=HOST[:PORT], where\n"
        "other hosts reach this one, and port, range, node, keepalive.",
        examples=(
            "strata network create --subnet 10.90.0.0/24 --ipv6 web",
            "strata network create --internal back",
            "strata network create -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 lan",
            "strata network create -d wireguard -o endpoint=203.0.113.7 mesh",
            "strata network create -d wireguard --join TOKEN -o endpoint=203.0.113.8",
        ),
    ),
    Command(
        ("network ls", "network list"),
        "List networks",
        "networks:ls",
        options=(
            Option("--filter -f", "list", "Keep what matches, as in driver=bridge", "KEY=VALUE"),
            _FORMAT,
            NO_HEADING,
            Option("--no-trunc", "flag", "Whole ids"),
            Option("--quiet -q", "flag", "Names only"),
        ),
        text="Filters: name, id, driver, label, until, dangling.",
    ),
    Command(
        ("network inspect",),
        "Show everything about networks",
        "networks:inspect",
        "NETWORK [NETWORK...]",
        1,
        None,
        (DOCUMENT_FORMAT,),
        complete="network",
    ),
    Command(
        ("network rm", "network remove"),
        "Remove networks",
        "networks:remove",
        "NETWORK [NETWORK...]",
        1,
        None,
        (
            Option("--force -f", "flag", "Remove containers that use the network first"),
            Option("--time -t", "int", "Seconds to wait for such containers", "SECONDS"),
            *REMOVING,
        ),
        text="Exits with 1 when a network does not exist, 2 when one is in use, else 125.",
        complete="network",
    ),
    Command(
        ("network prune",),
        "Remove networks that no container uses",
        "networks:prune",
        options=(
            PRUNE_FILTER,
            UNASKED,
            *REMOVING,
        ),
        text="Filters: label, label!, until. The default network stays.",
    ),
    Command(
        ("network exists",),
        "Exit with 0 when a network exists, 1 when it does not",
        "networks:exists",
        "NETWORK",
        1,
        1,
        complete="network",
    ),
    Command(
        ("network reload",),
        "Make bridges and rules anew, for instance after the firewall was flushed",
        "networks:reload",
        "[CONTAINER...]",
        0,
        None,
        (
            Option("--all -a", "flag", "All containers, as without names"),
            Option("--latest -l", "flag", "The container made last"),
        ),
        text="Rules of all networks are written in one step, whichever containers are named.",
        complete="running",
    ),
    Command(
        ("network update",),
        "Change a network's name servers and peers",
        "networks:update",
        "NETWORK",
        1,
        1,
        (
            Option("--dns-add", "csv", "Name server to add", "ADDRESS"),
            Option("--dns-drop", "csv", "Name server to take away", "ADDRESS"),
            Option("--peer-add", "list", "Let another host into the overlay", "TOKEN"),
            Option("--peer-drop", "list", "Shut a host out of the overlay", "NODE|KEY"),
        ),
        complete="network",
    ),
    Command(
        ("network join-token",),
        "Print what another host needs to join an overlay",
        "networks:join_token",
        "NETWORK",
        1,
        1,
        text="The token names this host, its public key and endpoint, and the hosts it knows. It\n"
        "holds no secret. Each host takes the other's: the new one with network create --join,\n"
        "those that are there already with network update --peer-add.",
        examples=("strata network update --peer-add TOKEN mesh",),
        complete="network",
    ),
)
