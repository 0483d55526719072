"""Keys of containers.conf become defaults of options, and never more than that."""

from __future__ import annotations

from typing import Any

import pytest

from strata.cli import defaults
from strata.cli.handlers.create import read_options
from strata.cli.index import find_command, list_commands
from strata.cli.parse import Options, parse
from strata.errors import UsageError
from strata.oci.capabilities import DEFAULT

FILE = "/etc/containers/containers.conf"
CAPABILITIES = [name.removeprefix("CAP_") for name in DEFAULT]


def read(line: list[str], **settings: Any) -> Options:
    """The options of a ``run`` under settings, ``containers_init=True`` for one of them."""
    command = find_command("run")
    assert command is not None
    options, _ = parse(command, [*line, "image"])
    named = {key.replace("_", ".", 1): [value, FILE] for key, value in settings.items()}
    defaults.apply(command, options, named)
    return options


def test_a_setting_is_the_default_of_its_option() -> None:
    options = read([], containers_init=True, containers_pids_limit=77, engine_runtime="runc")
    assert (options.flag("init"), options.number("pids-limit")) == (True, 77)
    assert options.text("runtime") == "runc"


def test_the_detach_keys_of_a_file_are_not_typed() -> None:
    options = read([], engine_detach_keys="ctrl-q")
    assert options.text("detach-keys") == "ctrl-q"
    assert not options.given("detach-keys")


def test_what_is_typed_wins() -> None:
    options = read(["--init=false", "--runtime", "crun"], containers_init=True,
                   engine_runtime="runc")  # fmt: skip
    assert not options.flag("init")
    assert options.text("runtime") == "crun"


def test_lists_come_before_what_is_typed() -> None:
    options = read(["-v", "b:/b"], containers_volumes=["a:/a"])
    assert options.list("volume") == ["a:/a", "b:/b"]


def test_a_typed_network_replaces_the_files() -> None:
    assert read([], containers_netns="host").list("network") == ["host"]
    assert read(["--network", "a", "--network", "b"], containers_netns="host").list("network") == [
        "a",
        "b",
    ]


def test_servers_of_a_file_do_not_disturb_a_network_without_any() -> None:
    settings: dict[str, Any] = {"containers_dns_servers": ["9.9.9.9"],
                                "containers_dns_searches": ["lan"]}  # fmt: skip
    described = read_options(read([], **settings), ["image"], {})
    assert (described["dns"], described["dns_search"]) == (["9.9.9.9"], ["lan"])
    described = read_options(read(["--network", "none"], **settings), ["image"], {})
    assert (described["dns"], described["dns_search"]) == ([], [])
    with pytest.raises(UsageError, match="--dns and the network mode: none"):
        read_options(read(["--network", "none", "--dns", "1.1.1.1"], **settings), ["image"], {})


def test_sizes_are_read_like_typed_ones() -> None:
    assert read([], containers_shm_size="2m").number("shm-size") == 2 << 20


@pytest.mark.parametrize("value", ["A=1", 5, [5]])
def test_variables_are_a_list_of_strings(value: object) -> None:
    with pytest.raises(UsageError, match=f"{FILE}: containers.env: must be a list of strings"):
        read([], containers_env=value)


def test_variables_stay_below_the_images() -> None:
    options = read(["-e", "B=2"], containers_env=["A=1"])
    assert options.list("env") == ["B=2"]
    assert options.list("default-env") == ["A=1"]


def test_foreign_and_empty_keys_change_nothing() -> None:
    options = read([], containers_volumes=[], engine_runtime="", engine_no_such_key="x")
    assert options.list("volume") == []
    assert options.maybe("runtime") is None


@pytest.mark.parametrize("settings", [{"containers_pids_limit": "many"},
                                      {"engine_pull_policy": "sometimes"},
                                      {"containers_init": "maybe"}])  # fmt: skip
def test_a_senseless_value_names_file_and_key(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        read([], **settings)
    assert FILE in caught.value.message
    assert next(iter(settings)).replace("_", ".", 1) in caught.value.message


def test_every_setting_names_an_option_that_some_command_has() -> None:
    keys = {option.key for command in list_commands() for option in command.options}
    assert set(defaults.KEYS.values()) <= keys | AWAITED


#: options of later pages
AWAITED = set(
    "cgroupns cgroups device dns dns-option dns-search env-host http-proxy init-path ipc no-hosts "
    "oom-score-adj pid tz umask userns uts".split()
)


def describe(line: list[str], **settings: Any) -> dict[str, Any]:
    return read_options(read(line, **settings), ["image"], {})


@pytest.mark.parametrize(
    ("line", "base", "add", "drop"),
    [
        ([], ["CHOWN", "NET_RAW"], {"NET_RAW"}, {*CAPABILITIES} - {"CHOWN"}),
        ([], [], set(), {*CAPABILITIES}),
        (["--cap-add", "kill", "--cap-drop", "net_raw"], ["CHOWN", "NET_RAW", "SYSLOG"],
         {"KILL", "SYSLOG"}, {*CAPABILITIES, "NET_RAW"} - {"CHOWN", "KILL"}),
        (["--cap-drop", "all", "--cap-add", "KILL"], ["NET_RAW"], {"KILL"}, {"ALL"}),
        (["--cap-add", "all"], ["NET_RAW"], {"ALL"}, set()),
        (["--privileged"], ["NET_RAW"], set(), set()),
        ([], [f"CAP_{name}" for name in reversed(CAPABILITIES)], set(), set()),
    ],
)  # fmt: skip
def test_the_files_capabilities_are_below_what_is_typed(
    line: list[str], base: list[str], add: set[str], drop: set[str]
) -> None:
    found = describe(line, containers_default_capabilities=base)
    assert {name.removeprefix("CAP_") for name in found["cap_add"]} == add
    assert {name.removeprefix("CAP_") for name in found["cap_drop"]} == drop


def test_the_files_kernel_parameters_are_for_namespaces_of_the_containers_own() -> None:
    items = ["net.ipv4.ping_group_range=0 0", "net.core.somaxconn=99", "kernel.msgmax=9"]
    both = {"net.core.somaxconn": "99", "kernel.msgmax": "9"}
    assert describe([], containers_default_sysctls=items)["sysctls"] == both
    typed = describe(["--sysctl", "kernel.msgmax=7"], containers_default_sysctls=items)
    assert typed["sysctls"] == {**both, "kernel.msgmax": "7"}
    shared = describe(["--network", "host", "--ipc", "host"], containers_default_sysctls=items)
    assert not shared.get("sysctls")
    assert not describe([], containers_default_sysctls=items[:1]).get("sysctls")


def test_lists_of_a_file_are_lists() -> None:
    with pytest.raises(UsageError, match="default_capabilities: must be a list of strings"):
        read([], containers_default_capabilities="KILL")
