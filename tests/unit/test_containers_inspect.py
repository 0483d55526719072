"""A container's settings under the names of HostConfig and Config."""

from __future__ import annotations

from typing import Any

import pytest

from strata.engine.containers.create import DEFAULTS
from strata.engine.containers.hostconfig import describe_bindings, describe_host_config
from strata.engine.containers.inspect import name_signal


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "PidsLimit": 2048,
              "MemorySwap": 0, "MemorySwappiness": -1, "ShmSize": 65536000, "PidMode": "private",
              "IpcMode": "shareable", "UTSMode": "private", "Cgroups": "default", "Dns": []}),
        ({"restart": {"policy": "on-failure", "retries": 3}},
         {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
        ({"memory": 1 << 20}, {"Memory": 1 << 20, "MemorySwap": 2 << 20}),
        ({"memory": 1 << 20, "memory_swap": -1}, {"MemorySwap": -1}),
        ({"memory_reservation": 5, "memory_swappiness": 0},
         {"MemoryReservation": 5, "MemorySwappiness": 0}),
        ({"cpus": 1.5}, {"NanoCpus": 1_500_000_000, "CpuQuota": 150_000, "CpuPeriod": 100_000}),
        ({"cpu_quota": 20_000, "cpu_period": 50_000, "cpu_shares": 7, "cpuset_cpus": "0-1"},
         {"CpuQuota": 20_000, "CpuPeriod": 50_000, "CpuShares": 7, "CpusetCpus": "0-1"}),
        ({"pids_limit": -1}, {"PidsLimit": 0}),
        ({"blkio_throttle": {"read_bps": [{"path": "/dev/x", "rate": 9}]}, "blkio_weight": 100},
         {"BlkioDeviceReadBps": [{"Path": "/dev/x", "Rate": 9}], "BlkioWeight": 100,
          "BlkioDeviceWriteBps": []}),
        ({"devices": [{"source": "/dev/fuse", "destination": "/dev/f", "permissions": "rw"}]},
         {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f",
                       "CgroupPermissions": "rw"}]}),
        ({"pid_mode": "host", "ipc_mode": "none", "uts_mode": "container:x", "userns": "auto"},
         {"PidMode": "host", "IpcMode": "none", "UTSMode": "container:x", "UsernsMode": "auto"}),
        ({"uid_map": [[0, 165536, 65536]], "gid_map": [[0, 1, 2]]},
         {"IDMappings": {"UidMap": ["0:165536:65536"], "GidMap": ["0:1:2"]}}),
        ({"ulimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]},
         {"Ulimits": [{"Name": "RLIMIT_CORE", "Soft": 0, "Hard": -1}]}),
        ({"cgroups": "disabled", "group_add": ["audio"], "oom_score_adj": 7, "log_size": 10},
         {"Cgroups": "disabled", "GroupAdd": ["audio"], "OomScoreAdj": 7}),
        ({"no_new_privileges": True, "seccomp": "unconfined", "label_opts": ["disable"],
          "unmask": ["ALL"]},
         {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "label=disable",
                          "unmask=ALL"]}),
        ({"dns": ["1.1.1.1"], "dns_search": ["x"], "dns_option": ["ndots:2"], "publish_all": True},
         {"Dns": ["1.1.1.1"], "DnsSearch": ["x"], "DnsOptions": ["ndots:2"],
          "PublishAllPorts": True}),
        ({"mounts": [{"type": "bind", "source": "/a", "destination": "/b",
                      "options": ["ro", "rslave"]},
                     {"type": "volume", "source": "v", "destination": "/v", "options": []},
                     {"type": "tmpfs", "source": "", "destination": "/t", "options": []}]},
         {"Binds": ["/a:/b:ro,rslave,rbind", "v:/v:rw,rprivate,nosuid,nodev,rbind"]}),
        ({"tmpfs": {"/t": "size=1m"}}, {"Tmpfs": {"/t": "rw,rprivate,nosuid,nodev,tmpcopyup,"
                                                  "size=1m"}}),
    ],
)  # fmt: skip
def test_settings_have_podmans_names(given: dict[str, Any], shown: dict[str, Any]) -> None:
    found = describe_host_config({**DEFAULTS, **given})
    assert {key: found[key] for key in shown} == shown


def test_ports_by_what_they_are_inside() -> None:
    ports = [
        {"host_ip": "127.0.0.1", "host_port": 8080, "container_port": 80, "protocol": "tcp"},
        {"host_ip": "127.0.0.1", "host_port": 2000, "container_port": 53, "protocol": "udp",
         "range": 2},
    ]  # fmt: skip
    found = describe_bindings(ports, ["443/tcp", "80/tcp"])
    assert list(found) == ["80/tcp", "53/udp", "54/udp", "443/tcp"]
    assert found["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    assert found["54/udp"][0]["HostPort"] == "2001"
    assert found["443/tcp"] is None


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (2, "SIGINT"), (37, "SIGRTMIN+3")])
def test_signals_by_name(number: int, name: str) -> None:
    assert name_signal(number) == name
