"""``inspect``: every key Podman has, with its type; several objects, mixed kinds, missing ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.hosts import open_hosts
from helpers.store import BUSYBOX, Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.btrfs]

#: what ``podman inspect`` (4.3) of a container prints, and what Podman 5 added
CONTAINER = {
    "": "AppArmorProfile Args BoundingCaps Config ConmonPidFile Created Dependencies Driver "
    "EffectiveCaps ExecIDs GraphDriver HostConfig HostnamePath HostsPath Id Image ImageDigest "
    "ImageName IsInfra IsService MountLabel Mounts Name Namespace NetworkSettings OCIConfigPath "
    "OCIRuntime Path PidFile Pod ProcessLabel ResolvConfPath RestartCount Rootfs State StaticDir "
    "KubeExitCodePropagation lockNumber UseImageHosts UseImageHostname",
    "Config": "Annotations AttachStderr AttachStdin AttachStdout Cmd CreateCommand Domainname "
    "Entrypoint Env HealthLogDestination HealthcheckMaxLogCount HealthcheckMaxLogSize "
    "HealthcheckOnFailureAction Hostname Image Labels OnBuild OpenStdin Passwd "
    "StdinOnce StopSignal StopTimeout Timeout Tty Umask User Volumes WorkingDir sdNotifyMode",
    "GraphDriver": "Data Name",
    "HostConfig": "AutoRemove Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps "
    "BlkioDeviceWriteIOps BlkioWeight BlkioWeightDevice CapAdd CapDrop Cgroup CgroupConf "
    "CgroupManager CgroupMode CgroupParent Cgroups ConsoleSize ContainerIDFile CpuCount "
    "CpuPercent CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus "
    "CpusetMems Devices DiskQuota Dns DnsOptions DnsSearch ExtraHosts GroupAdd "
    "IOMaximumBandwidth IOMaximumIOps IpcMode Isolation KernelMemory Links LogConfig Memory "
    "MemoryReservation MemorySwap MemorySwappiness NanoCpus NetworkMode OomKillDisable "
    "OomScoreAdj PidMode PidsLimit PortBindings Privileged PublishAllPorts ReadonlyRootfs "
    "RestartPolicy Runtime SecurityOpt ShmSize Tmpfs UTSMode Ulimits UsernsMode VolumeDriver "
    "VolumesFrom AutoRemoveImage Annotations HostsFile",
    "HostConfig.LogConfig": "Config Path Size Tag Type",
    "HostConfig.RestartPolicy": "MaximumRetryCount Name",
    "HostConfig.Ulimits.0": "Hard Name Soft",
    "Mounts.0": "Destination Driver Mode Name Options Propagation RW Source Type",
    "Mounts.1": "Destination Driver Mode Options Propagation RW Source Type",
    "NetworkSettings": "Bridge EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen "
    "HairpinMode IPAddress IPPrefixLen IPv6Gateway LinkLocalIPv6Address LinkLocalIPv6PrefixLen "
    "MacAddress Ports SandboxID SandboxKey",
    "State": "CheckpointedAt Dead Error ExitCode FinishedAt OOMKilled OciVersion Paused Pid "
    "Restarting RestoredAt Running StartedAt Status ConmonPid CgroupPath",
}
IMAGE = (
    "Id Digest RepoTags RepoDigests Parent Comment Created Config Version Author Architecture Os "
    "Size VirtualSize GraphDriver RootFS Labels Annotations ManifestType User History NamesHistory"
)
VOLUME = "Name Driver Mountpoint CreatedAt Labels Scope Options MountCount"


@pytest.fixture(scope="module")
def shelf() -> Iterator[Store]:
    """A running container with something of everything, and one that never ran."""
    with open_store() as store:
        store.add_busybox()
        store.ok("run", "-d", "--name", "web", "--network", "none", "--memory", "64m", "--cpus",
                 "0.5", "-v", "data:/data2", "-v", "/tmp:/t:ro", "--tmpfs", "/scratch:size=1m",
                 "-l", "app=web", "-e", "A=1", "--ulimit", "nofile=100:200",
                 "--cap-drop", "KILL", "--stop-signal", "INT", "--pids-limit", "50", BUSYBOX,
                 "sleep", "1000")  # fmt: skip
        store.ok("create", "--name", "idle", BUSYBOX, "true")
        yield store
        store.strata("rm", "-f", "-t", "0", "web")


def dig(value: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        value = value[int(part)] if part.isdigit() else value[part]
    return value


def test_a_container_has_every_key(shelf: Store) -> None:
    [found] = shelf.ok("inspect", "web").json
    missing = {path: set(keys.split()) - set(dig(found, path)) for path, keys in CONTAINER.items()}
    assert not {path: keys for path, keys in missing.items() if keys}


def test_a_container_is_described_as_it_was_asked_for(shelf: Store) -> None:
    [found] = shelf.ok("container", "inspect", "web").json
    host, config = found["HostConfig"], found["Config"]
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 128 << 20)
    assert (host["NanoCpus"], host["CpuQuota"], host["CpuPeriod"]) == (500_000_000, 50_000, 100_000)
    assert host["Binds"] == [
        "data:/data2:rw,rprivate,nosuid,nodev,rbind", "/tmp:/t:ro,rprivate,rbind",
    ]  # fmt: skip
    assert host["Tmpfs"] == {"/scratch": "rw,rprivate,nosuid,nodev,tmpcopyup,size=1048576"}
    assert host["Ulimits"] == [{"Name": "RLIMIT_NOFILE", "Soft": 100, "Hard": 200}]
    assert (host["PidsLimit"], host["NetworkMode"]) == (50, "none")
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert (config["Cmd"], config["StopSignal"]) == (["sleep", "1000"], "SIGINT")
    assert config["Labels"] == {"app": "web"}
    assert "A=1" in config["Env"]
    volume, bind = found["Mounts"]
    assert (volume["Type"], volume["Name"], volume["RW"]) == ("volume", "data", True)
    assert volume["Source"].endswith("/volumes/data/_data")
    assert (bind["Type"], bind["Source"], bind["RW"]) == ("bind", "/tmp", False)
    assert "CAP_KILL" not in found["EffectiveCaps"]
    assert set(found["EffectiveCaps"]) <= set(found["BoundingCaps"])


def test_what_holds_is_read_from_the_kernel(shelf: Store) -> None:
    [found] = shelf.ok("inspect", "web").json
    state, limits = found["State"], found["EffectiveLimits"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("running", True, False)
    assert os.path.exists(f"/proc/{state['Pid']}")
    assert os.path.exists(f"/proc/{state['ConmonPid']}")
    assert found["Id"] in state["CgroupPath"]
    assert limits["Memory"] == 64 << 20
    assert limits["Pids"] == 50
    assert {"Name": "RLIMIT_NOFILE", "Soft": 100, "Hard": 200} in limits["Ulimits"]
    assert found["Namespaces"]["pid"] != os.readlink("/proc/self/ns/pid").strip("pid:[]")


def test_a_container_that_never_ran_says_so(shelf: Store) -> None:
    [found] = shelf.ok("inspect", "idle").json
    assert found["State"]["Status"] == "created"
    assert found["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert not {"Health", "ConmonPid", "CgroupPath"} & set(found["State"])
    assert not {"SizeRw", "SizeRootFs"} & set(found)


def test_sizes_are_those_of_the_files_a_container_made(shelf: Store) -> None:
    shelf.ok("exec", "web", "sh", "-c", "head -c 100000 /dev/zero >/root/big; rm -f /data/seed")
    own, whole = shelf.ok(
        "inspect", "--size", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "web"
    ).out.split()
    assert 100_000 <= int(own) < 110_000
    assert int(whole) > 2_000_000
    line = shelf.ok("ps", "--size", "--filter", "name=web", "--format", "{{.Size}}").line
    assert line.startswith("100kB (virtual 2.")
    assert shelf.ok("inspect", "--size", "-f", "{{.SizeRw}}", "idle").line == "0"


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("{{.State.Status}} {{.State.Running}}", "running true"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ('{{index .Config.Labels "app"}} {{.Config.Labels.app}}', "web web"),
        ("{{range .Mounts}}{{.Type}}:{{.Destination}} {{end}}", "volume:/data2 bind:/t "),
        ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{else}}no ports{{end}}", "no ports"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}|", "|"),
        ("{{json .Config.Cmd}}", '["sleep","1000"]'),
        ("{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}", "no 0"),
        ("{{.Name}} {{slice .ImageName 0 9}}", "web localhost"),
        ("{{.State.FinishedAt}}", "0001-01-01 00:00:00 +0000 UTC"),
        ("{{.GraphDriver.Name}} {{len .GraphDriver.Data}}", "btrfs 1"),
    ],
)
def test_what_scripts_ask(shelf: Store, format: str, line: str) -> None:
    assert shelf.ok("inspect", "-f", format, "web").line == line


def test_namespaces_have_podmans_names(shelf: Store) -> None:
    fields = ("CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS")
    format = " ".join(f"{{{{.{field}}}}}" for field in fields)
    found = shelf.ok("ps", "--filter", "name=web", "--format", format).line.split()
    assert len(found) == len(fields)
    assert all(number.isdigit() for number in found)


def test_a_mode_without_networks_stands_for_one(busybox_store: Store) -> None:
    """As with Docker and Podman 5: scripts take the first name."""
    for mode in ("none", "host"):
        busybox_store.ok("create", "--name", mode, "--network", mode, BUSYBOX)
        format = (
            "{{range $name, $it := .NetworkSettings.Networks}}{{$name}}{{$it.IPAddress}}{{end}}"
        )
        assert busybox_store.ok("inspect", "--format", format, mode).line == mode
        busybox_store.ok("rm", mode)


def test_an_image_and_a_volume_have_every_key(shelf: Store) -> None:
    [image] = shelf.ok("inspect", "busybox").json
    assert not set(IMAGE.split()) - set(image)
    assert image["RepoTags"] == ["localhost/busybox:latest"]
    assert image["RootFS"]["Type"] == "layers"
    assert len(image["RootFS"]["Layers"]) == 1
    assert shelf.ok("image", "inspect", "busybox").json == [image]
    [volume] = shelf.ok("inspect", "data").json
    assert not set(VOLUME.split()) - set(volume)
    assert (volume["Driver"], volume["Scope"], volume["MountCount"]) == ("local", "local", 1)
    line = shelf.ok("volume", "inspect", "-f", "{{.CreatedAt.Year}} {{.Options}}", "data").line
    assert line.split()[0].startswith("20")
    assert line.split()[1] == "map[]"


def test_several_of_different_kinds(shelf: Store) -> None:
    found = shelf.ok("inspect", "idle", "busybox", "data").json
    assert [item.get("Name", "image") for item in found] == ["idle", "image", "data"]
    only = shelf.ok("inspect", "--type", "image", "busybox", "-f", "{{.Os}}")
    assert only.line == "linux"


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (("inspect", "nope"), "[]\n", 'no such object: "nope"'),
        (("inspect", "-f", "{{.Name}}", "nope", "idle"), "idle\n", 'no such object: "nope"'),
        (("container", "inspect", "nope"), "[]\n", "no such container"),
        (("image", "inspect", "nope"), "[]\n", "nope: image not known"),
        (("volume", "inspect", "nope"), "[]\n", "no such volume"),
        (("inspect", "--type", "image", "idle"), "[]\n", "idle: image not known"),
        (("inspect", "--type", "house", "idle"), "", "must be one of"),
        (("inspect",), "", "no names or ids specified"),
        (("inspect", "-f", "{{.Nope}}", "idle"), "", "can't evaluate field Nope"),
        (("inspect", "-f", "{{range}}", "idle"), "", "missing value for range"),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(
    shelf: Store, words: tuple[str, ...], out: str, err: str
) -> None:
    outcome = shelf.strata(*words)
    assert (outcome.rc, outcome.out) == (125, out)
    assert err in outcome.err.splitlines()[0]


def test_ports_and_addresses_are_listed_and_inspected() -> None:
    """On a host of its own: what scripts ask of a container on a network."""
    with open_hosts("a") as (host,), open_store(netns=host.netns) as store:
        store.add_busybox()
        store.ok("network", "create", "shop")
        store.ok("run", "-d", "--name", "web", "--network", "shop", "-p", "8080:80", "--expose",
                 "443", BUSYBOX, "sleep", "1000")  # fmt: skip
        store.ok("run", "-d", "--name", "other", BUSYBOX, "sleep", "1000")
        try:
            line = store.ok("ps", "-f", "name=web", "--format", "{{.Ports}}|{{.Networks}}").line
            assert line == "0.0.0.0:8080->80/tcp, 443/tcp|shop"
            [row] = store.ok("ps", "-f", "network=shop", "--format", "json").json
            assert row["Ports"][0]["host_port"] == 8080
            assert row["ExposedPorts"] == {"443": ["tcp"]}
            for name in ("podman", "bridge", "strata"):
                listed = store.ok("ps", "-f", f"network={name}", "--format", "{{.Names}}").line
                assert listed == "other"
            line = store.ok(
                "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}} "
                "{{.NetworkSettings.Networks.shop.Gateway}} "
                '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}} '
                "{{range $p, $c := .HostConfig.PortBindings}}{{$p}}{{end}}", "web",
            ).line  # fmt: skip
            assert line == "10.89.0.2 10.89.0.1 8080 80/tcp"
        finally:
            store.ok("rm", "--all", "--force", "--time", "0")


def test_the_environment_is_what_the_process_has_but_for_secrets(busybox_store: Store) -> None:
    store = busybox_store
    store.ok("secret", "create", "hidden", "-", input="nobody sees this")
    words = ["create", "--name", "envs", "-t", "-e", "A=1", "--secret", "hidden,type=env,target=S",
             "-h", "here", "busybox", "env"]  # fmt: skip
    store.ok(*words)
    [before] = store.ok("inspect", "envs").json
    assert "A=1" in before["Config"]["Env"]
    assert before["Config"]["CreateCommand"][0] == "strata"
    assert before["Config"]["CreateCommand"][-len(words) + 1 :] == words[1:]
    shown = store.ok("start", "-a", "envs").out.split()
    [after] = store.ok("inspect", "envs").json
    assert {"A=1", "HOME=/root", "HOSTNAME=here", "TERM=xterm"} <= set(after["Config"]["Env"])
    assert set(shown) - set(after["Config"]["Env"]) == {"S=nobody", "sees", "this"}
    store.ok("rm", "envs")
    store.ok("secret", "rm", "hidden")
    out = store.ok("events", "--stream=false", "--filter", "type=secret", "--format",
                   "{{.Status}} {{.Name}}").out  # fmt: skip
    assert out.splitlines()[-2:] == ["create hidden", "remove hidden"]
