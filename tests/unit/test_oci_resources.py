"""Limits and devices in the runtime spec."""

from __future__ import annotations

from typing import Any

from strata.oci import spec
from strata.oci.facts import HostFacts
from strata.oci.spec import User


def build(**config: Any) -> dict[str, Any]:
    host = HostFacts(bounding=["CAP_KILL"], cgroup="v1", hostname="h", can_raise_limits=False,
                     rlimits={})  # fmt: skip
    host.given_devices = config.pop("given", [])
    host.numbers = {"/dev/sda": (8, 0)}
    joined = config.pop("joined", {})
    record = {"id": "f" * 64, "name": "x", "config": {"command": ["true"], "network": "none",
                                                      **config}}  # fmt: skip
    host.joined = joined
    document, _ = spec.build_spec(record, user=User(0, 0), mounts=[], host=host, bundle="/b")
    return document


def test_limits_beyond_the_everyday() -> None:
    document = build(
        memory=1 << 20, memory_swap=-1, memory_reservation=5, memory_swappiness=0,
        oom_kill_disable=True, cpus=1.0, cpu_shares=9, cpuset_cpus="0", cpuset_mems="0",
        oom_score_adj=0, sysctls={"net.a": "1"}, cgroup_parent="/team",
        cgroup_conf={"memory.high": "1"}, blkio_weight=10,
        blkio_throttle={"read_bps": [{"path": "/dev/sda", "rate": 7}]},
    )  # fmt: skip
    assert document["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 2048},
        "memory": {"limit": 1 << 20, "swap": -1, "reservation": 5, "swappiness": 0,
                   "disableOOMKiller": True},
        "cpu": {"quota": 100_000, "period": 100_000, "shares": 9, "cpus": "0", "mems": "0"},
        "blockIO": {"weight": 10,
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
        "unified": {"memory.high": "1"},
    }  # fmt: skip
    assert document["process"]["oomScoreAdj"] == 0
    assert document["linux"]["sysctl"] == {"net.a": "1"}
    assert document["linux"]["cgroupsPath"] == "/team/" + "f" * 64


def test_devices_are_made_and_allowed_in_order() -> None:
    node = {"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 0o660, "uid": 0,
            "gid": 0}  # fmt: skip
    linux = build(given=[{**node, "access": "r"}], device_rules=["b *:3 rw", "a *:* m"],
                  devices=[{}])["linux"]  # fmt: skip
    assert linux["devices"] == [node]
    assert linux["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 2, "access": "r"},
        {"allow": True, "type": "b", "minor": 3, "access": "rw"},
        {"allow": True, "type": "a", "access": "m"},
    ]


def test_without_a_cgroup_nothing_is_limited() -> None:
    linux = build(cgroups="disabled")["linux"]
    assert "cgroupsPath" not in linux
    assert linux["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}


def test_the_process_has_its_mask_and_environment() -> None:
    document = build(umask="0077", unset_env=["*"], env=["A=1"], group_add=["keep-groups"])
    assert document["process"]["user"]["umask"] == 0o077
    assert document["process"]["env"] == ["HOSTNAME=ffffffffffff", "A=1"]
    assert document["annotations"]["run.oci.keep_original_groups"] == "1"
    assert "PATH" not in dict(e.split("=", 1) for e in build(unset_env=["PATH"])["process"]["env"])


def test_a_time_zone_is_a_file_over_the_images() -> None:
    found = [m for m in build(timezone="local")["mounts"] if m["destination"] == "/etc/localtime"]
    assert [m["source"] for m in found] == ["/b/localtime"]


def test_namespaces_of_others() -> None:
    document = build(pid_mode="container:x", ipc_mode="host", uts_mode="host", cgroupns="private",
                     joined={"pid": "/proc/7/ns/pid"})  # fmt: skip
    assert document["linux"]["namespaces"] == [
        {"type": "pid", "path": "/proc/7/ns/pid"}, {"type": "mount"}, {"type": "network"},
        {"type": "cgroup"},
    ]  # fmt: skip
    assert "hostname" not in document
    assert "HOSTNAME=h" in document["process"]["env"]
    places = {mount["destination"]: mount for mount in document["mounts"]}
    assert places["/dev/shm"]["source"] == "/dev/shm"
    joined = build(ipc_mode="container:x", joined={"ipc": "/proc/7/ns/ipc"})
    places = {mount["destination"]: mount for mount in joined["mounts"]}
    assert places["/dev/shm"]["source"] == "/b/shm"
    none = build(ipc_mode="none")
    assert {"type": "ipc"} in none["linux"]["namespaces"]
    assert "/dev/shm" not in [mount["destination"] for mount in none["mounts"]]


def test_a_user_namespace_has_its_maps_and_terminals_their_group_if_it_is_mapped() -> None:
    document = build(userns="private", uid_map=[[0, 7, 3]], gid_map=[[0, 8, 3]])
    assert {"type": "user"} in document["linux"]["namespaces"]
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 7, "size": 3}]
    assert document["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 8, "size": 3}]
    options = {m["destination"]: m["options"] for m in document["mounts"]}
    assert "gid=5" not in options["/dev/pts"]
    wide = build(userns="container:x", uid_map=[[0, 7, 9]], gid_map=[[0, 8, 9]],
                 joined={"user": "/proc/7/ns/user"})  # fmt: skip
    assert {"type": "user", "path": "/proc/7/ns/user"} in wide["linux"]["namespaces"]
    assert "uidMappings" not in wide["linux"]
    assert "gid=5" in {m["destination"]: m["options"] for m in wide["mounts"]}["/dev/pts"]


def test_systemd_finds_empty_places_and_its_own_cgroup() -> None:
    document = build(systemd=True, tmpfs={"/run": "size=1m"})
    found = {mount["destination"]: mount for mount in document["mounts"]}
    assert "size=1m" in found["/run"]["options"]
    for place in ("/run/lock", "/tmp", "/var/log/journal"):
        assert found[place]["type"] == "tmpfs"
    assert found["/sys/fs/cgroup/systemd"]["source"] == f"/sys/fs/cgroup/systemd/strata/{'f' * 64}"
    assert f"container_uuid={'f' * 32}" in document["process"]["env"]
    places = list(found)
    assert places.index("/run") < places.index("/run/lock")
