"""The options of ``run`` and ``create`` beyond the everyday ones: words become values."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from strata.cli import devices, health, process, resources
from strata.cli.handlers.create import _THEMES, read_options
from strata.cli.index import find_command
from strata.cli.parse import parse
from strata.engine.containers.create import OPTIONAL, plan_config
from strata.errors import UsageError
from strata.oci import systemd
from strata.oci.spec import User
from strata.runtime.accounts import make_line


def describe(*words: str, host: dict[str, str] | None = None) -> dict[str, Any]:
    command = find_command("run")
    assert command is not None
    options, arguments = parse(command, [*words, "image"])
    return read_options(options, arguments, host or {})


def plan(*words: str, **image: Any) -> dict[str, Any]:
    """The keys of a record's config that a command line adds."""
    config = plan_config({"config": {"Cmd": ["sh"], **image}}, describe(*words))
    return {key: value for key, value in config.items() if key in OPTIONAL}


def test_nothing_given_leaves_no_key() -> None:
    assert plan() == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "1g", "--memory-swap", "2g"], {"memory_swap": 2 << 30}),
        (["-m", "1g", "--memory-swap=-1"], {"memory_swap": -1}),
        (["--memory-reservation", "64m"], {"memory_reservation": 64 << 20}),
        (["--memory-swappiness", "0"], {"memory_swappiness": 0}),
        (["--memory-swappiness=-1"], {}),
        (["-c", "512", "--cpuset-cpus", "0-1", "--cpuset-mems", "0"],
         {"cpu_shares": 512, "cpuset_cpus": "0-1", "cpuset_mems": "0"}),
        (["--cpu-quota", "50000", "--cpu-period", "100000"],
         {"cpu_quota": 50000, "cpu_period": 100000}),
        (["--oom-score-adj", "0"], {"oom_score_adj": 0}),
        (["-m", "1g", "--oom-kill-disable"], {"oom_kill_disable": True}),
        (["--blkio-weight", "0"], {}),
        (["--blkio-weight-device", "/dev/sda:200"],
         {"blkio_weight_devices": [{"path": "/dev/sda", "weight": 200}]}),
        (["--device-read-bps", "/dev/sda:1mb", "--device-write-iops", "/dev/sda:10"],
         {"blkio_throttle": {"read_bps": [{"path": "/dev/sda", "rate": 1 << 20}],
                             "write_iops": [{"path": "/dev/sda", "rate": 10}]}}),
        (["--cgroups", "disabled"], {"cgroups": "disabled"}),
        (["--cgroup-parent", "team/"], {"cgroup_parent": "/team"}),
        (["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9"],
         {"sysctls": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9"}}),
        (["--device", "/dev/fuse"],
         {"devices": [{"source": "/dev/fuse", "destination": "/dev/fuse", "permissions": "rwm"}]}),
        (["--device", "/dev/sda:/dev/disk:r"],
         {"devices": [{"source": "/dev/sda", "destination": "/dev/disk", "permissions": "r"}]}),
        (["--device", "/dev/snd:rw"],
         {"devices": [{"source": "/dev/snd", "destination": "/dev/snd", "permissions": "rw"}]}),
        (["--device-cgroup-rule", "c 189:*  rwm"], {"device_rules": ["c 189:* rwm"]}),
        (["--group-add", "audio,5"], {"group_add": ["audio", "5"]}),
        (["--umask", "77"], {"umask": "0077"}),
        (["--timeout", "0"], {}),
        (["--log-opt", "max-size=1k", "--log-opt", "tag=x"], {"log_size": 1024, "log_tag": "x"}),
        (["--pid", "host", "--ipc", "container:db", "--uts", "ns:/run/x", "--cgroupns", "host"],
         {"pid_mode": "host", "ipc_mode": "container:db", "uts_mode": "ns:/run/x",
          "cgroupns": "host"}),
        (["--pid", "private", "--ipc", "shareable"], {}),
        (["--time", "host"], {}),
        (["--time", "private"], {"time_mode": "private"}),
        (["--time", "private:-60"], {"time_mode": "private:-60"}),
        (["--time", "container:db"], {"time_mode": "container:db"}),
        (["--userns", "host"], {}),
        (["--userns", ""], {}),
        (["--userns", "auto:size=3000"], {"userns": "auto:3000"}),
        (["--userns", "container:db"], {"userns": "container:db"}),
        (["--subuidname", "containers"], {"userns": "subid:containers:containers"}),
        (["--uidmap", "1000:0", "--uidmap", "0:100000:1000"],
         {"userns": "private", "uid_map": [[0, 100000, 1000], [1000, 0, 1]],
          "gid_map": [[0, 100000, 1000], [1000, 0, 1]]}),
        (["--uidmap", "0:5:9", "--gidmap", "0:7:9"],
         {"userns": "private", "uid_map": [[0, 5, 9]], "gid_map": [[0, 7, 9]]}),
        (["--restart", "no"], {}),
        (["--restart", "on-failure:3"], {"restart": {"policy": "on-failure", "retries": 3}}),
        (["--restart", "unless-stopped"], {"restart": {"policy": "unless-stopped", "retries": 0}}),
    ],
)  # fmt: skip
def test_options_become_keys_of_the_record(words: list[str], expected: dict[str, Any]) -> None:
    assert plan(*words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory-swap", "1g"], "should always set a memory limit"),
        (["-m", "1g", "--memory-swap", "1m"], "should be larger than memory limit"),
        (["-m", "1m", "--memory-reservation", "1g"], "should be larger than memory reservation"),
        (["--memory-swappiness", "101"], "valid memory swappiness range is 0-100"),
        (["--cpus", "1", "--cpu-quota", "5000"], "--cpu-quota and --cpus cannot be set together"),
        (["--cpu-period", "1"], "CPU cfs period"),
        (["--cpu-shares", "1"], "--cpu-shares"),
        (["--cpuset-cpus", "0-"], "--cpuset-cpus"),
        (["--cpuset-cpus", "3-1"], "no such range"),
        (["--oom-score-adj", "1001"], "must be in [-1000, 1000]"),
        (["--oom-kill-disable"], "dangerous"),
        (["--blkio-weight", "9"], "range of blkio weight is from 10 to 1000"),
        (["--blkio-weight-device", "/dev/sda"], "bad format"),
        (["--device-read-bps", "sda:1"], "bad format for device path"),
        (["--device-read-iops", "/dev/sda:1mb"], "invalid rate for device"),
        (["--cgroups", "x"], "invalid cgroup mode"),
        (["--cgroups", "split"], "systemd"),
        (["--cgroup-parent", "user.slice"], "did not receive a cgroupfs path"),
        (["--cgroup-parent", "/a/../.."], "invalid cgroup parent"),
        (["--cgroup-conf", "memory.high"], "KEY=VALUE"),
        (["--sysctl", "vm.swappiness=1"], "sysctl 'vm.swappiness' is not allowed"),
        (["--sysctl", "net.ipv4.ip_forward"], "must be in the form of KEY=VALUE"),
        (["--device", "fuse"], "invalid device specification"),
        (["--device", "/dev/fuse:x"], "invalid device mode"),
        (["--device", "/dev/../etc"], "invalid device specification"),
        (["--device", "vendor.com/gpu="], "invalid device specification"),
        (["--gpus", "device=0"], "invalid --gpus"),
        (["--device-cgroup-rule", "c 1"], "requires type, major:Minor"),
        (["--device-cgroup-rule", "d 1:1 r"], "invalid device type"),
        (["--group-add", "keep-groups,wheel"], "not allowed with any other --group-add"),
        (["--umask", "9"], "invalid umask string 9"),
        (["--tz", "Mars/Base"], 'unknown time zone "Mars/Base"'),
        (["--tz", "../../etc/passwd"], "unknown time zone"),
        (["--pid", "none"], "unrecognized namespace mode none"),
        (["--time", "5"], "unrecognized namespace mode 5"),
        (["--time", "private:1h"], "'1h' is no number of seconds"),
        (["--pid", "container:"], "must provide the name"),
        (["--uts", "ns:x"], "must be absolute"),
        (["--userns", "private"], "must provide at least one UID or GID mapping"),
        (["--userns", "nomap"], "only supported in rootless mode"),
        (["--userns", "keep-id:uid=5"], "only supported in rootless mode"),
        (["--userns", "auto:colour=red"], "invalid option specified"),
        (["--userns", "mine"], "unrecognized namespace mode mine"),
        (["--userns", "auto", "--uidmap", "0:1:1"], "mutually exclusive"),
        (["--subuidname", "x", "--uidmap", "0:1:1"], "exclude"),
        (["--uidmap", "0:1:0"], "no such range"),
        (["--uidmap", "0:x"], "invalid mapping"),
        (["--uidmap", "0:4294967295:9"], "no such range"),
        (["--uidmap", "0:1:5", "--uidmap", "4:9:1"], "ranges overlap at id 4"),
        (["--uts", "host", "-h", "x"], "cannot set hostname"),
        (["--timeout=-1"], "--timeout"),
        (["--log-opt", "colour=red"], 'invalid log option "colour"'),
        (["--log-opt", "max-file=many"], "max-file"),
        (["--restart", "sometimes"], '"sometimes" is not a valid restart policy'),
        (["--restart", "always:3"], "retries"),
        (["--restart", "on-failure:x"], "as a number"),
        (["--rm", "--restart", "always"], "--rm option conflicts with --restart"),
        (["--health-interval", "often"], "invalid healthcheck-interval"),
        (["--health-timeout", "0s"], "at least 1 second"),
        (["--health-retries", "0"], "greater than 0"),
        (["--health-on-failure", "cry"], "invalid on-failure action"),
        (["--health-cmd", "[]"], "must define a healthcheck command"),
        (["--health-cmd", "x", "--no-healthcheck"], "cannot specify both"),
        (["--platform", "linux/arm64", "--arch", "arm64"], "--platform option can not be"),
        (["--unsetenv", "A=1"], "--unsetenv"),
    ],
)
def test_options_that_make_no_sense(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe(*words)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curl -f http://localhost", ["CMD-SHELL", "curl -f http://localhost"]),
        ('["curl", "-f", "x"]', ["CMD", "curl", "-f", "x"]),
        ('["curl -f x"]', ["CMD-SHELL", "curl -f x"]),
        ('["CMD-SHELL", "a b"]', ["CMD-SHELL", "a b"]),
        ("CMD curl x", ["CMD", "curl", "x"]),
        ("none", ["NONE"]),
        ('["not json', ["CMD-SHELL", '["not json']),
    ],
)
def test_what_checks_the_health(text: str, expected: list[str]) -> None:
    assert health.parse_test(text) == expected


IMAGE_CHECK = {"Test": ["CMD", "ok"], "Interval": 5_000_000_000, "Retries": 7}


def test_the_health_check_is_the_images_with_what_was_given_over_it() -> None:
    assert plan(Healthcheck=IMAGE_CHECK)["health"] == {
        "test": ["CMD", "ok"], "interval": 5.0, "timeout": 30.0, "retries": 7,
        "start_period": 0.0, "start_interval": 5.0, "on_failure": "none",
    }  # fmt: skip
    own = plan("--health-cmd", "x", "--health-interval", "disable", "--health-on-failure", "kill",
               Healthcheck=IMAGE_CHECK)["health"]  # fmt: skip
    assert (own["test"], own["interval"], own["retries"], own["on_failure"]) == (
        ["CMD-SHELL", "x"], 0.0, 7, "kill",
    )  # fmt: skip


def test_no_health_check_where_none_is_wanted_or_the_images_is_damaged() -> None:
    assert plan("--no-healthcheck", Healthcheck=IMAGE_CHECK) == {}
    assert plan("--health-cmd", "none", Healthcheck=IMAGE_CHECK) == {}
    assert plan("--health-interval", "3s") == {}
    assert plan(Healthcheck={"Test": "x", "Interval": "5s"}) == {}
    assert plan(Healthcheck=["x"]) == {}


def test_the_environment_in_podmans_order() -> None:
    host = {"http_proxy": "p", "A": "of host", "B": "b"}
    assert describe(host=host)["env"] == ["http_proxy=p"]
    assert describe("--http-proxy=false", host=host)["env"] == []
    assert describe("--env-host", "-e", "A=x", host=host)["env"] == [
        "http_proxy=p", "A=of host", "B=b", "A=x",
    ]  # fmt: skip
    config = plan_config(
        {"config": {"Cmd": ["sh"], "Env": ["A=image", "B=gone"]}},
        describe("--env-merge", "A=${A}-more", "--unsetenv", "B", "--unsetenv", "PATH"),
    )
    assert config["env"] == ["A=image-more"]
    assert config["unset_env"] == ["B", "PATH"]


def test_the_platform_can_be_given_in_parts() -> None:
    assert describe("--arch", "arm64", "--variant", "v8")["platform"] == "linux/arm64/v8"
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    assert describe("--os", "linux")["platform"] == f"linux/{own}"


def test_each_theme_is_loaded_for_every_option_it_reads() -> None:
    pattern = re.compile(r'options\.\w+\(\s*"([a-z-]+)"')
    for theme, keys in _THEMES.items():
        module = importlib.import_module(f"strata.cli.{theme}")
        assert module.__file__ is not None
        read = set(pattern.findall(Path(module.__file__).read_text(encoding="utf-8")))
        assert read <= keys | {"cpus", "memory", "preserve-fds", "preserve-fd"}, theme
    command = find_command("run")
    assert command is not None
    known = {option.key for option in command.options}
    assert set().union(*_THEMES.values()) <= known


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/sbin/init"], True),
        (["/lib/systemd/systemd", "--user"], True),
        (["/bin/sh", "-c", "/usr/sbin/init"], True),
        (["systemd"], True),
        (["/bin/init"], False),
        (["/bin/sh", "-c", "echo /sbin/init"], False),
        ([], False),
    ],
)
def test_what_counts_as_systemd(argv: list[str], expected: bool) -> None:
    assert systemd.is_init(argv) == expected


def test_a_container_for_systemd_is_stopped_as_systemd_wants() -> None:
    image = {"config": {"Cmd": ["/sbin/init"]}}
    for words, expected, signal in (
        ([], True, 37), (["--systemd=false"], False, 15), (["--stop-signal", "9"], True, 9),
    ):  # fmt: skip
        config = plan_config(image, describe(*words))
        assert (config.get("systemd", False), config["stop_signal"]) == (expected, signal)
    assert plan("--systemd=always") == {"systemd": True}
    assert plan("--systemd=true") == {}
    with pytest.raises(UsageError, match="must be one of"):
        describe("--systemd", "perhaps")


def test_entries_for_passwd() -> None:
    assert plan("--passwd=false") == {"passwd": False}
    line = "$USERNAME:x:$UID:$GID:$NAME:$HOME:/bin/sh"
    assert plan("--passwd-entry", line) == {"passwd_entry": line}
    assert make_line(line, User(7, 8), "/w") == "7:x:7:8:container user:/w:/bin/sh"
    with pytest.raises(UsageError, match="more than one line"):
        describe("--group-entry", "a\nb")


def test_lists_of_cpus() -> None:
    assert resources.parse_cpu_list("0-2,5,1") == [0, 1, 2, 5]


def test_sysctls_take_slashes_too() -> None:
    assert devices.parse_sysctls(["net/ipv4/ip_forward=1"]) == {"net.ipv4.ip_forward": "1"}


def test_log_options_give_an_absolute_path() -> None:
    assert process.parse_log_options(["path=x"])["log_path"] == os.path.abspath("x")
