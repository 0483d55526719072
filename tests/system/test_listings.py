"""What the listings answer: fields, filters, order, and refusals, as podman-ps(1) has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store, open_store

from strata import __version__

pytestmark = [pytest.mark.root, pytest.mark.btrfs]


@pytest.fixture(scope="module")
def shelf() -> Iterator[Store]:
    """Three containers: two never started, one that ended with 3."""
    with open_store() as store:
        store.add_busybox()
        store.ok("create", "--name", "first", "-l", "tier=front", "-v", "data:/d", "-v", "/tmp:/t",
                 BUSYBOX, "echo", "a rather long command")  # fmt: skip
        store.strata("run", "--name", "second", "-l", "tier=back", BUSYBOX, "sh", "-c", "exit 3")
        store.ok("create", "--name", "third-one", BUSYBOX, "true")
        store.ok("commit", "-c", "LABEL stage=test", "second", "localhost:5000/team/app:v2")
        store.ok("volume", "create", "-l", "tier=front", "named")
        yield store


def names(store: Store, *filters: str) -> list[str]:
    words = [word for item in filters for word in ("--filter", item)]
    return store.ok("ps", "-a", "--format", "{{.Names}}", *words).out.split()


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["first", "second", "third-one"]),
        (("name=ir",), ["first", "third-one"]),
        (("name=^first$", "name=sec"), ["first", "second"]),
        (("name=d$",), ["second"]),
        (("label=tier",), ["first", "second"]),
        (("label=tier=front",), ["first"]),
        (("label!=tier",), ["third-one"]),
        (("label=ti*=back",), ["second"]),
        (("status=exited",), ["second"]),
        (("status=stopped", "status=created"), ["first", "second", "third-one"]),
        (("status=paused",), []),
        (("exited=3",), ["second"]),
        (("exited=0",), []),
        (("ancestor=busybox",), ["first", "second", "third-one"]),
        (("ancestor=nobody",), []),
        (("before=second",), ["first"]),
        (("since=second",), ["third-one"]),
        (("volume=data",), ["first"]),
        (("volume=/t",), ["first"]),
        (("volume=data:/d",), ["first"]),
        (("volume=/tmp:/d",), []),
        (("network=host",), ["first", "second", "third-one"]),
        (("health=healthy",), []),
        (("restart-policy=no",), ["first", "second", "third-one"]),
        (("command=^(sh|true)$",), ["second", "third-one"]),
        (("until=1h",), []),
        (("pod=any",), []),
        (("label=tier", "name=first"), ["first"]),
    ],
)
def test_filters_choose(shelf: Store, filters: tuple[str, ...], found: list[str]) -> None:
    assert names(shelf, *filters) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--filter", "color=red"), '"color" is an invalid container filter'),
        (("--filter", "name"), 'invalid filter "name"'),
        (("--filter", "status=asleep"), "unknown container state: asleep"),
        (("--filter", "exited=x"), 'exited code out of range "x"'),
        (("--filter", "before=nobody"), "no container with name or ID 'nobody' found"),
        (("--filter", "until=yesterday"), 'failed to parse "yesterday"'),
        (("--filter", "restart-policy=maybe"), "maybe invalid restart policy"),
        (("--sort", "colour"), 'invalid argument "colour"'),
        (("--last", "1", "--latest"), "last and latest are mutually exclusive"),
        (("--quiet", "--size"), "quiet conflicts with size and namespace"),
        (("--size", "--ns"), "size and namespace options conflict"),
        (("--format", "{{.Colour}}"), "can't evaluate field Colour"),
        (("--format", "{{.ID"), "unclosed action"),
        (("--format", "wide"), 'unknown format "wide"'),
    ],
)
def test_what_ps_refuses(shelf: Store, words: tuple[str, ...], message: str) -> None:
    outcome = shelf.strata("ps", "-a", *words)
    assert (outcome.rc, outcome.out) == (125, "")
    assert message in outcome.err.splitlines()[0]


def test_the_last_ones_and_the_order(shelf: Store) -> None:
    def listed(*words: str) -> list[str]:
        return shelf.ok("ps", "--format", "{{.Names}}", *words).out.split()

    assert listed() == []
    assert listed("-n", "2") == ["second", "third-one"]
    assert listed("-l") == ["third-one"]
    assert listed("-a", "--sort", "names") == ["first", "second", "third-one"]
    assert listed("-a", "--sort", "command") == ["first", "second", "third-one"]
    assert listed("-a", "--sort", "status") == ["first", "third-one", "second"]
    assert listed("-a", "--sort", "size")


def test_tables(shelf: Store) -> None:
    lines = shelf.ok("ps", "-a").out.splitlines()
    assert [part.strip() for part in lines[0].split("  ") if part] == [
        "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES",
    ]  # fmt: skip
    assert "echo a rather lon..." in lines[1]
    assert "Exited (3) " in lines[2]
    bare = shelf.ok("ps", "-a", "--noheading").out.splitlines()
    assert [line.split()[0] for line in bare] == [line.split()[0] for line in lines[1:]]
    assert "echo a rather long command" in shelf.ok("ps", "-a", "--no-trunc").out
    assert shelf.ok("ps", "-a", "--ns").out.split()[:11] == [
        "CONTAINER", "ID", "NAMES", "PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS",
        "UTS",
    ]  # fmt: skip
    assert shelf.ok("ps", "-a", "--pod").out.splitlines()[0].endswith("POD ID      PODNAME")
    assert "virtual" in shelf.ok("ps", "-a", "--size").out
    assert shelf.ok("ps", "-a", "--external", "--sync", "-q").out.split() == [
        row["Id"][:12] for row in shelf.ok("ps", "-a", "--format", "json").json
    ]


def test_docker_style_formats(shelf: Store) -> None:
    table = shelf.ok("ps", "-a", "--format", r"table {{.Names}}\t{{.State}}\t{{.RunningFor}}")
    assert table.out.splitlines()[0].split() == ["NAMES", "STATE", "RUNNING", "FOR"]
    line = shelf.ok("ps", "-a", "-f", "name=first", "--format",
                    '{{.Label "tier"}} {{json .Names}} {{.LocalVolumes}}').line  # fmt: skip
    assert line == 'front "first" 1'
    for line in shelf.ok("ps", "-a", "--format", "{{.|json}}").out.splitlines():
        assert json.loads(line)["State"] in ("created", "exited")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["busybox", "app"]),
        (("reference=busybox",), ["busybox"]),
        (("reference=*/app",), ["app"]),
        (("reference=localhost:5000/team/app:v2",), ["app"]),
        (("reference=app:v*",), ["app"]),
        (("reference!=app:v*",), ["busybox"]),
        (("reference=ap",), []),
        (("label=stage",), ["app"]),
        (("label!=stage",), ["busybox"]),
        (("before=localhost:5000/team/app:v2",), ["busybox"]),
        (("since=busybox",), ["app"]),
        (("containers=true",), ["busybox"]),
        (("containers=false",), ["app"]),
        (("dangling=true",), []),
        (("dangling=false", "readonly=false", "manifest=false"), ["busybox", "app"]),
        (("readonly=true",), []),
        (("intermediate=false",), ["busybox", "app"]),
        (("until=1h",), []),
    ],
)
def test_filters_choose_images(shelf: Store, filters: tuple[str, ...], found: list[str]) -> None:
    words = [word for item in filters for word in ("--filter", item)]
    out = shelf.ok("images", "--format", "{{.Repository}}", "--sort", "size", *words).out.split()
    assert sorted(name.rpartition("/")[2] for name in out) == sorted(found)


def test_images_have_podmans_fields(shelf: Store) -> None:
    """The keys of ``podman images --format json``."""
    app, busybox = shelf.ok("images", "--format", "json").json
    assert {
        "Id", "ParentId", "RepoTags", "RepoDigests", "Size", "SharedSize", "VirtualSize", "Labels",
        "Containers", "Names", "Digest", "History", "Created", "CreatedAt", "Arch", "Os",
    } <= set(busybox)  # fmt: skip
    assert isinstance(busybox["Created"], int)
    assert app["Labels"]["stage"] == "test"
    line = shelf.ok("images", "app", "--format", "{{.ID}}|{{.Tag}}|{{.Labels}}|{{.Names}}|"
                    "{{.Label `stage`}}|{{.ReadOnly}}|{{.Containers}}").line  # fmt: skip
    assert line.split("|")[1:] == [
        "v2", "map[stage:test tier:back]", "[localhost:5000/team/app:v2]", "test", "false", "0",
    ]  # fmt: skip
    head = shelf.ok("images", "--format", "table {{.ID}} {{.CreatedSince}} {{.ReadOnly}}").out
    assert head.splitlines()[0].split("  ")[0] == "IMAGE ID"
    assert head.splitlines()[0].endswith("R/O")
    assert shelf.ok("images").out.split()[:7] == [
        "REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "localhost:5000/team/app",
    ]  # fmt: skip
    assert shelf.ok("images", "-q", "--no-trunc").out.startswith("sha256:")


def test_history_has_podmans_fields(shelf: Store) -> None:
    newest, _ = shelf.ok("history", "--format", "json", "localhost:5000/team/app:v2").json
    assert {"id", "created", "CreatedBy", "size", "comment", "Created"} <= set(newest)
    line = shelf.ok("history", "--format", "{{.Size}}|{{.Tags}}|{{.CreatedSince}}", "busybox").line
    assert line.split("|")[1] == "[localhost/busybox:latest]"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["data", "named"]),
        (("name=^na",), ["named"]),
        (("name=a", "label=tier"), ["named"]),
        (("label!=tier",), ["data"]),
        (("dangling=true",), ["named"]),
        (("dangling=false",), ["data"]),
        (("since=data",), ["named"]),
        (("driver=local", "scope=local"), ["data", "named"]),
        (("anonymous=true",), []),
        (("until=1h",), []),
    ],
)
def test_filters_choose_volumes(shelf: Store, filters: tuple[str, ...], found: list[str]) -> None:
    words = [word for item in filters for word in ("--filter", item)]
    assert shelf.ok("volume", "ls", "-q", *words).out.split() == found


def test_volumes_have_podmans_fields(shelf: Store) -> None:
    table = shelf.ok("volume", "ls", "--format", "table {{.Name}} {{.Labels}} {{.MountCount}}").out
    assert table.splitlines() == [
        "VOLUME NAME  LABELS           MOUNT COUNT",
        "data         map[]            1",
        "named        map[tier:front]  0",
    ]
    assert shelf.ok("volume", "ls", "--format", '{{.Name}}:{{.Label "tier"}}').out.split() == [
        "data:", "named:front",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("images", "--filter", "color=red"), '"color" is an invalid image filter'),
        (("images", "--filter", "since=nobody"), "nobody: image not known"),
        (("images", "--filter", "dangling=perhaps"), '"perhaps" is not a valid value'),
        (("images", "--filter", "label=x", "busybox"), "cannot specify an image and a filter(s)"),
        (("images", "--sort", "age"), 'invalid argument "age"'),
        (("volume", "ls", "--filter", "color=red"), '"color" is an invalid volume filter'),
        (("volume", "ls", "--filter", "dangling=perhaps"), '"perhaps" is not a valid value'),
        (("volume", "ls", "--filter", "since=nobody"), "no such volume"),
        (("history", "nobody"), "nobody: image not known"),
    ],
)
def test_what_listings_refuse(shelf: Store, words: tuple[str, ...], message: str) -> None:
    outcome = shelf.strata(*words)
    assert (outcome.rc, outcome.out) == (125, "")
    assert message in outcome.err.splitlines()[0]


def test_df_is_laid_out_as_podman_does(shelf: Store) -> None:
    """The keys of ``podman system df --format json`` (5)."""
    rows = shelf.ok("system", "df", "--format", "json").json
    assert [row["Type"] for row in rows[:3]] == ["Images", "Containers", "Local Volumes"]
    for row in rows:
        assert {"Type", "Total", "Active", "Size", "Reclaimable", "RawSize", "RawReclaimable",
                "TotalCount"} == set(row)  # fmt: skip
    assert rows[0]["Size"].endswith("MB")
    assert shelf.ok("system", "df").out.split()[:5] == [
        "TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE",
    ]  # fmt: skip
    line = shelf.ok("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}").out
    assert line.splitlines()[0] == "Images 2 1"
    titles = [line for line in shelf.ok("system", "df", "-v").out.splitlines() if "usage" in line]
    assert titles[:3] == [
        "Images space usage:", "Containers space usage:", "Local Volumes space usage:",
    ]  # fmt: skip
    assert "IMAGE ID" in shelf.ok("system", "df", "-v").out


def test_networks_are_inspected_too(shelf: Store) -> None:
    [found] = shelf.ok("inspect", "--type", "network", "podman").json
    assert found["driver"] == "bridge"
    line = shelf.ok("inspect", "-f", "{{.Driver}} {{.IPv6Enabled}} {{range .Subnets}}{{.Subnet}}"
                    "{{end}}", "podman").line  # fmt: skip
    assert line.startswith("bridge false 10.")


#: what podman info and docker info of 5.4 and 26 have, by the names their formats use
@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("{{.Host.NetworkBackend}} {{.Host.CgroupManager}}", "strata cgroupfs"),
        ("{{.Host.RemoteSocket.Exists}} {{.Store.TransientStore}}", "false false"),
        ("{{.Store.ConfigFile}}", "{root}/store.json"),
        ("{{.Version.APIVersion}} {{.Version.OsArch}}", f"{__version__} linux/"),
        ("{{range .Plugins.Log}}{{.}} {{end}}{{.Plugins.Network}}", "k8s-file json-file journald"),
        ("{{.Plugins.Network}}", "[bridge macvlan ipvlan wireguard]"),
        ("{{.Host.Security.DefaultCapabilities}}", "CAP_CHOWN,"),
        ("{{.Registries}} {{.Store.GraphStatus}} {{.Host.IDMappings.UIDMap}}", "map[] map[] <nil>"),
        ("{{.ContainersPaused}} {{.Swarm.LocalNodeState}} {{.Driver}}", "0 inactive btrfs"),
        ("{{range $name, $it := .Runtimes}}{{$name}} {{end}}", "crun "),
    ],
)
def test_info_has_the_fields_that_scripts_ask_for(shelf: Store, format: str, text: str) -> None:
    found = shelf.ok("info", "--format", format).line
    assert found.startswith(text.replace("{root}", shelf.root))


def test_info_and_version_are_one_line_as_json(shelf: Store) -> None:
    for words in (["info"], ["version"]):
        text = shelf.ok(*words, "--format", "{{json .}}").out
        assert text.count("\n") == 1
        assert ", " not in text.partition("Path")[0]
    assert shelf.ok("version", "-f", "{{.Version}} {{.Server.Version}}").line == (
        f"{__version__} {__version__}"
    )
    assert shelf.ok("version").out.splitlines()[:2] == [
        "Client:         Strata Engine", f"Version:        {__version__}",
    ]  # fmt: skip


def test_info_says_where_a_setting_is_from_and_whether_it_counts(
    shelf: Store, tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "one.conf").write_text('[containers]\ntz = "UTC"\nbase_hosts_file = "x"\n')
    (tmp_path / "over.conf").write_text("[engine]\nstop_timeout = 3\n")
    environment = {
        "CONTAINERS_CONF": f"{tmp_path}/one.conf",
        "CONTAINERS_CONF_OVERRIDE": f"{tmp_path}/over.conf",
    }  # fmt: skip
    found = shelf.ok("info", "--format", "json", env=environment).json["config"]
    assert found["files"] == [f"{tmp_path}/one.conf", f"{tmp_path}/over.conf"]
    assert found["values"] == {
        "containers.tz": {"value": "UTC", "source": f"{tmp_path}/one.conf", "used": True},
        "containers.base_hosts_file": {
            "value": "x", "source": f"{tmp_path}/one.conf", "used": False,
        },
        "engine.stop_timeout": {"value": 3, "source": f"{tmp_path}/over.conf", "used": True},
    }  # fmt: skip
