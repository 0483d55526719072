"""The runtime spec and what it is made of: golden values and the rules behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strata.errors import UsageError
from strata.oci import capabilities, spec
from strata.oci.facts import HostFacts
from strata.oci.spec import User

ID = "0123456789abcdef" * 4


def make_record(**config: Any) -> dict[str, Any]:
    return {"id": ID, "name": "web", "config": {"command": ["true"], "network": "none", **config}}


def make_host(**facts: Any) -> HostFacts:
    values: dict[str, Any] = {
        "bounding": capabilities.NAMES, "cgroup": "v2", "hostname": "host",
        "can_raise_limits": True, "rlimits": {"nofile": (1024, 4096), "nproc": (100, 200)},
    }  # fmt: skip
    return HostFacts(**{**values, **facts})


def build(
    record: dict[str, Any], *, user: User | None = None, mounts: Any = (), **facts: Any
) -> tuple[dict[str, Any], list[str]]:
    return spec.build_spec(
        record, user=user or User(0, 0, (), "/root"), mounts=mounts, host=make_host(**facts),
        bundle="/b",
    )  # fmt: skip


def mount_at(document: dict[str, Any], destination: str) -> dict[str, Any]:
    found = [mount for mount in document["mounts"] if mount["destination"] == destination]
    assert len(found) == 1, destination
    return dict(found[0])


GOLDEN = """
{"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":0,"gid":0,"umask":18},
"args":["true"],"env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
"container=strata","HOSTNAME=0123456789ab","HOME=/root"],"cwd":"/","capabilities":{
"bounding":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL",
"CAP_NET_BIND_SERVICE","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"],
"effective":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL",
"CAP_NET_BIND_SERVICE","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"],
"permitted":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL",
"CAP_NET_BIND_SERVICE","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"],
"inheritable":[],"ambient":[]},"noNewPrivileges":false,"rlimits":[
{"type":"RLIMIT_NOFILE","soft":1048576,"hard":1048576},
{"type":"RLIMIT_NPROC","soft":4194304,"hard":4194304}]},
"root":{"path":"rootfs","readonly":false},"hostname":"0123456789ab","mounts":[
{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","noexec","strictatime",
"mode=755","size=65536k"]},
{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},
{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec",
"newinstance","ptmxmode=0666","mode=0620","gid=5"]},
{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec",
"nodev"]},
{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev",
"mode=1777","size=65536000"]},
{"destination":"/etc/hostname","type":"bind","source":"/b/hostname","options":["bind","rprivate"]},
{"destination":"/etc/hosts","type":"bind","source":"/b/hosts","options":["bind","rprivate"]},
{"destination":"/etc/resolv.conf","type":"bind","source":"/b/resolv.conf","options":["bind",
"rprivate"]},
{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["rprivate","nosuid",
"noexec","nodev","relatime","ro"]}],
"annotations":{"io.container.manager":"strata","org.opencontainers.image.stopSignal":"15"},
"linux":{"cgroupsPath":"/strata/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network"},
{"type":"cgroup"}],"resources":{"devices":[{"allow":false,"access":"rwm"}],
"pids":{"limit":2048}},"rootfsPropagation":"private","maskedPaths":["/proc/acpi","/proc/kcore",
"/proc/keys","/proc/latency_stats","/proc/sched_debug","/proc/scsi","/proc/timer_list",
"/proc/timer_stats","/sys/dev/block","/sys/devices/virtual/powercap","/sys/firmware",
"/sys/fs/selinux"],"readonlyPaths":["/proc/asound","/proc/bus","/proc/fs","/proc/irq","/proc/sys",
"/proc/sysrq-trigger"]}}
"""


def test_the_plain_container_has_podmans_defaults() -> None:
    document, warnings = build(make_record())
    assert document == json.loads(GOLDEN)
    assert warnings == []


def test_privileged_lifts_every_wall_but_the_namespaces() -> None:
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    document, _ = build(make_record(privileged=True), devices=[device])
    linux = document["linux"]
    assert document["process"]["capabilities"]["bounding"] == sorted(capabilities.NAMES)
    assert "maskedPaths" not in linux
    assert "readonlyPaths" not in linux
    assert linux["devices"] == [device]
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount_at(document, "/sys")["options"]
    assert "rw" in mount_at(document, "/sys/fs/cgroup")["options"]
    assert {"type": "pid"} in linux["namespaces"]
    assert spec.wants_seccomp({"privileged": True}) is None


def test_privileged_never_gets_more_than_the_host_has() -> None:
    document, _ = build(make_record(privileged=True), bounding=["CAP_CHOWN", "CAP_KILL"])
    assert document["process"]["capabilities"]["bounding"] == ["CAP_CHOWN", "CAP_KILL"]


def test_another_user_holds_only_capabilities_asked_for_by_name() -> None:
    document, _ = build(make_record(cap_add=["net_raw"]), user=User(1000, 1000, [27], "/people/u"))
    sets = document["process"]["capabilities"]
    assert "CAP_CHOWN" in sets["bounding"]
    for name in ("effective", "permitted", "inheritable", "ambient"):
        assert sets[name] == ["CAP_NET_RAW"]
    assert document["process"]["user"] == {
        "uid": 1000, "gid": 1000, "umask": 0o022, "additionalGids": [27],
    }  # fmt: skip
    assert "HOME=/people/u" in document["process"]["env"]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], ["all"], []),
        (["chown"], ["ALL"], ["CAP_CHOWN"]),
        ([], [name for name in capabilities.DEFAULT if name != "CAP_KILL"], ["CAP_KILL"]),
        (["ALL"], ["CAP_SYS_ADMIN"], sorted(set(capabilities.NAMES) - {"CAP_SYS_ADMIN"})),
    ],
)
def test_capabilities_are_added_and_dropped(
    add: list[str], drop: list[str], expected: list[str]
) -> None:
    assert capabilities.resolve(add, drop, capabilities.NAMES) == expected


@pytest.mark.parametrize(
    ("add", "drop"), [(["ALL"], ["ALL"]), (["KILL"], ["cap_kill"]), (["FLY"], []), ([], ["FLY"])]
)
def test_contradictions_and_unknown_capabilities_are_refused(
    add: list[str], drop: list[str]
) -> None:
    with pytest.raises(UsageError):
        capabilities.resolve(add, drop, capabilities.NAMES)


def test_masks_and_names_are_inverse() -> None:
    assert capabilities.from_mask(capabilities.to_mask(capabilities.NAMES)) == list(
        capabilities.NAMES
    )
    assert capabilities.to_mask(["CAP_CHOWN", "CAP_KILL"]) == 0b100001


def test_a_read_only_root_keeps_temporary_places_writable() -> None:
    document, _ = build(make_record(read_only=True))
    assert document["root"]["readonly"]
    for path in ("/run", "/tmp", "/var/tmp"):
        assert mount_at(document, path)["type"] == "tmpfs"
    assert "ro" in mount_at(document, "/etc/hosts")["options"]
    without, _ = build(make_record(read_only=True, read_only_tmpfs=False))
    assert "/tmp" not in [mount["destination"] for mount in without["mounts"]]


def test_what_the_user_mounts_replaces_a_default_and_parents_come_first() -> None:
    document, _ = build(
        make_record(tmpfs={"/cache": "size=1m,noexec"}),
        mounts=[
            {"type": "bind", "source": "/x", "destination": "/data/deep/er", "options": ["ro"]},
            {"type": "bind", "source": "/y", "destination": "/data//./", "options": ["rshared"]},
            {"type": "tmpfs", "source": "", "destination": "/dev/shm", "options": ["size=2m"]},
            {"type": "bind", "source": "/h", "destination": "/etc/hosts", "options": []},
        ],
    )  # fmt: skip
    places = [mount["destination"] for mount in document["mounts"]]
    assert places.index("/data") < places.index("/data/deep/er")
    assert len(places) == len(set(places))
    assert mount_at(document, "/data")["options"] == ["rbind", "rshared"]
    assert mount_at(document, "/data/deep/er")["options"] == ["rbind", "ro", "rprivate"]
    assert mount_at(document, "/etc/hosts")["source"] == "/h"
    assert "size=2m" in mount_at(document, "/dev/shm")["options"]
    assert mount_at(document, "/cache")["options"][-2:] == ["size=1m", "noexec"]


@pytest.mark.parametrize("path", ["/", "/a/..", "relative", "//"])
def test_mounting_over_the_root_or_a_relative_path_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        build(make_record(tmpfs={path: ""}))


def test_limits_become_resources() -> None:
    document, warnings = build(make_record(memory=1 << 20, cpus=0.5, pids_limit=7))
    assert document["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 7},
        "memory": {"limit": 1 << 20, "swap": 2 << 20}, "cpu": {"quota": 50_000, "period": 100_000},
    }  # fmt: skip
    assert warnings == []
    document, warnings = build(make_record(memory=1 << 20, pids_limit=0), swap_limit=False)
    assert document["linux"]["resources"]["memory"] == {"limit": 1 << 20}
    assert "pids" not in document["linux"]["resources"]
    assert len(warnings) == 1


def test_ulimits_are_lowered_with_a_warning_where_they_cannot_be_raised() -> None:
    wanted = [{"type": "nofile", "soft": 9000, "hard": 9000}]
    document, warnings = build(make_record(ulimits=wanted), can_raise_limits=False)
    assert document["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}]
    assert "4096" in warnings[0]
    document, warnings = build(make_record(ulimits=wanted))
    assert {"type": "RLIMIT_NOFILE", "soft": 9000, "hard": 9000} in document["process"]["rlimits"]
    assert warnings == []


@pytest.mark.parametrize(
    "item",
    [{"type": "wings", "soft": 1, "hard": 1}, {"type": "core", "soft": -1, "hard": 0}],
)
def test_nonsense_ulimits_are_refused(item: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(make_record(ulimits=[item]))


def test_networks_and_cgroup_versions_choose_namespaces_and_host_name() -> None:
    document, _ = build(make_record(network="host"), cgroup="v1")
    kinds = [item["type"] for item in document["linux"]["namespaces"]]
    assert kinds == ["pid", "ipc", "uts", "mount"]
    assert document["hostname"] == "host"
    document, _ = build(make_record(network="host", hostname="own"))
    assert document["hostname"] == "own"


def test_unmasking_takes_all_a_path_or_a_pattern() -> None:
    document, _ = build(make_record(unmask=["/proc/kcore:/sys/*"], mask=["/secret"]))
    masked = document["linux"]["maskedPaths"]
    assert "/proc/kcore" not in masked
    assert "/sys/firmware" not in masked
    assert {"/proc/keys", "/secret"} <= set(masked)
    document, _ = build(make_record(unmask=["all"]))
    assert document["linux"]["maskedPaths"] == []
    assert document["linux"]["readonlyPaths"] == []


def test_init_wraps_the_command() -> None:
    document, _ = build(make_record(init=True), init_program="/usr/bin/catatonit")
    assert document["process"]["args"] == ["/run/strata-init", "--", "true"]
    assert mount_at(document, "/run/strata-init")["source"] == "/usr/bin/catatonit"
    with pytest.raises(UsageError):
        build(make_record(init=True))


def test_the_containers_environment_wins_and_a_terminal_sets_term() -> None:
    document, _ = build(make_record(tty=True, env=["PATH=/x", "A=1", "A=2", "HOME=/h"]))
    env = document["process"]["env"]
    assert "PATH=/x" in env
    assert "A=2" in env
    assert "A=1" not in env
    assert "TERM=xterm" in env
    assert "HOME=/h" in env


def test_no_command_is_podmans_sentence() -> None:
    with pytest.raises(UsageError, match="no command or entrypoint provided"):
        build(make_record(command=[]))


def test_hosts_file_has_added_entries_first_and_own_names() -> None:
    record = make_record(add_hosts=["db:10.0.0.1", "six:fd00::1"])
    text = spec.hosts_text(record, "h", "")
    assert text.splitlines()[:2] == ["10.0.0.1\tdb", "fd00::1\tsix"]
    assert text.endswith("127.0.1.1\th web\n")
    shared = make_record(network="host", add_hosts=[])
    assert spec.hosts_text(shared, "h", "1.2.3.4 x\n") == "1.2.3.4 x\n"
    with pytest.raises(UsageError):
        spec.hosts_text(make_record(add_hosts=["nonsense"]), "h", "")
