"""What answers look like: sizes, times, tables, JSON and Go templates."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli import format as formats
from strata.cli.handlers import images, ps
from strata.errors import UsageError

NOW = 1_700_000_000.0
ROW: dict[str, Any] = {
    "Id": "0123456789abcdef" * 4,
    "Names": ["web"],
    "Image": "docker.io/library/debian:12",
    "ImageID": "f" * 64,
    "Command": ["sh", "-c", "echo a rather long command"],
    "Created": NOW - 150,
    "StartedAt": NOW - 120,
    "ExitedAt": 0.0,
    "ExitCode": 0,
    "Pid": 42,
    "State": "running",
    "Labels": {"app": "x", "tier": "front"},
    "Mounts": ["/data"],
    "Volumes": ["data"],
    "Networks": [],
    "NetworkMode": "host",
    "Ports": [],
    "ExposedPorts": [],
    "AutoRemove": False,
    "Restarts": 0,
    "RestartPolicy": "no",
    "Health": "",
    "Size": None,
    "Dataset": "containers/web.0123",
    "Namespaces": {"MNT": "1", "Cgroup": "", "IPC": "2"},
    "CreatedAt": "2023-11-14T22:10:50.5Z",
}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (170_400_000, "170 MB"),
        (999_600, "1 MB"),
        (5_000_000_000, "5 GB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert formats.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 15, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert formats.human_duration(seconds) == text


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_rfc3339_moment_is_read(moment: datetime, offset: int) -> None:
    from datetime import timezone

    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert formats.to_seconds(aware.isoformat()) == pytest.approx(aware.timestamp(), abs=1e-5)
    text = moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    expected = moment.replace(tzinfo=UTC).timestamp()
    assert formats.to_seconds(text) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("moment", [None, 0, "", "nonsense", "0001-01-01T00:00:00Z", "20xx-01-01T"])
def test_no_moment_is_nothing(moment: Any) -> None:
    assert formats.to_seconds(moment) is None
    assert formats.ago(moment, NOW) == ""
    assert formats.go_time(moment) == ""


def test_moments_as_go_prints_them() -> None:
    assert formats.go_time(NOW) == "2023-11-14 22:13:20 +0000 UTC"
    assert formats.ago("2023-11-14T22:11:20Z", NOW) == "2 minutes ago"


def test_columns_are_laid_out_as_podman_does() -> None:
    lines = formats.render_table(
        ["REPOSITORY", "TAG", "IMAGE ID"],
        [["docker.io/library/debian", "12", "abc"], ["x", "latest", "d\x1b[31me"]],
    )
    assert lines == [
        "REPOSITORY                TAG         IMAGE ID",
        "docker.io/library/debian  12          abc",
        "x                         latest      d\\x1b[31me",
    ]
    assert formats.render_table([], []) == []


def show(capsys: pytest.CaptureFixture[str], *, format: str = "", **more: Any) -> str:
    rows = [ps.describe_fields(ROW, NOW, full=False)]
    columns = [("CONTAINER ID", "ID"), ("NAMES", "Names"), ("STATUS", "Status")]
    formats.show_rows(rows, columns, format=format, raw=[ps.make_json(ROW, NOW)], **more)
    return capsys.readouterr().out


def test_a_table_has_podmans_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(capsys) == (
        "CONTAINER ID  NAMES       STATUS\n0123456789ab  web         Up 2 minutes\n"
    )
    assert show(capsys, heading=False) == "0123456789ab  web         Up 2 minutes\n"


def test_json_has_podmans_keys_and_types(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of ``podman ps --format json`` (4.3), and what 5 added: CIDFile, ExposedPorts."""
    for format in ("json", "{{json .}}", "{{ json }}"):
        text = show(capsys, format=format)
        if format != "json":
            assert text.count("\n") == 1, "an object on a line of its own"
            assert ", " not in text.replace("2 minutes", "")
            text = f"[{text}]"
        [row] = json.loads(text)
        assert set(row) == {
            "AutoRemove", "CIDFile", "Command", "Created", "CreatedAt", "ExitCode", "Exited",
            "ExitedAt", "ExposedPorts", "Id", "Image", "ImageID", "IsInfra", "Labels", "Mounts",
            "Names", "Namespaces", "Networks", "Pid", "Pod", "PodName", "Ports", "Restarts",
            "Size", "StartedAt", "State", "Status",
        }  # fmt: skip
        assert row["Created"] == int(NOW) - 150
        assert row["StartedAt"] == int(NOW) - 120
        assert row["ExitedAt"] == -62135596800
        assert row["Namespaces"] == {"IPC": "2", "MNT": "1"}
    exposed = ps.make_json({**ROW, "ExposedPorts": ["53/udp", "53/tcp"]}, NOW)["ExposedPorts"]
    assert exposed == {"53": ["udp", "tcp"]}


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("{{.ID}} {{.Names}}", "0123456789ab web\n"),
        ("{{.Names}}\\t{{.Image}}", "web\tdocker.io/library/debian:12\n"),
        (
            "table {{.ID}}\\t{{.Names}}\\t{{upper .State}}",
            "CONTAINER ID  NAMES       STATE\n0123456789ab  web         RUNNING\n",
        ),
        ("{{json .Names}}", '"web"\n'),
        ("{{.Command}}", "sh -c echo a rath...\n"),
        (
            "{{.RunningFor}}|{{.Labels}}|{{.Mounts}}",
            "2 minutes ago|map[app:x tier:front]|[/data]\n",
        ),
        ('{{.Label "app"}}{{.Labels.tier}}{{index .Labels "no"}}', "xfront\n"),
        ("{{.CreatedAt}}", "2023-11-14 22:10:50.5 +0000 UTC\n"),
        ("{{range .}}{{.Names}};{{end}}", "web;\n"),
        ("{{range . }}{{.Names}}\\n{{end -}}", "web\n"),
        ("{{if .Exited}}gone{{else}}{{.State}}{{end}} {{.Namespaces.IPC}}", "running 2\n"),
        (
            "table {{.Names}} {{.RunningFor}} {{.ExitCode}}",
            "NAMES       RUNNING FOR    EXIT CODE\nweb         2 minutes ago  0\n",
        ),
        ("table {{.ImageID}}\\t{{.IsInfra}}", "IMAGE ID      IS INFRA\nffffffffffff  false\n"),
        ('table {{.ID}} {{join .Mounts ", "}}', "CONTAINER ID  MOUNTS\n0123456789ab  /data\n"),
        (
            "table {{.Names}}\\t{{range .Mounts}}{{.}} {{end}}",
            "NAMES       MOUNTS\nweb         /data\n",
        ),
    ],
)
def test_formats(capsys: pytest.CaptureFixture[str], format: str, text: str) -> None:
    assert show(capsys, format=format) == text


def test_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match='unknown format "yaml"'):
        show(capsys, format="yaml")
    with pytest.raises(UsageError, match="field Nope"):
        show(capsys, format="{{.Nope}}")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "Up 2 minutes"),
        ({"State": "created"}, "Created"),
        ({"State": "exited", "ExitCode": 3, "ExitedAt": NOW - 7200}, "Exited (3) 2 hours ago"),
        ({"State": "removing"}, "Removing"),
        ({"Health": "healthy"}, "Up 2 minutes (healthy)"),
        ({"State": "paused"}, "Paused"),
        ({"State": "stopping"}, "Stopping"),
    ],
)
def test_a_status_in_words(change: dict[str, Any], status: str) -> None:
    assert ps.describe_status({**ROW, **change}, NOW) == status


@pytest.mark.parametrize(
    ("ports", "exposed", "text"),
    [
        ([], [], ""),
        ([{"host_ip": "", "host_port": 8080, "container_port": 80}], [], "0.0.0.0:8080->80/tcp"),
        (
            [
                {"host_ip": "127.0.0.1", "host_port": 53, "container_port": 53, "protocol": "udp"},
                {"host_port": 2000, "container_port": 3000, "range": 7, "protocol": "tcp"},
            ],
            ["3001/tcp", "443"],
            "127.0.0.1:53->53/udp, 0.0.0.0:2000-2006->3000-3006/tcp, 443/tcp",
        ),
    ],
)
def test_ports_in_words(ports: list[dict[str, Any]], exposed: list[str], text: str) -> None:
    assert ps.describe_ports(ports, exposed) == text


@pytest.mark.parametrize(
    ("size", "digits", "text"),
    [(12, 3, "12B"), (0, 3, "0B"), (1_982_725, 3, "1.98MB"), (2_018_411, 4, "2.018MB")],
)
def test_short_sizes(size: int, digits: int, text: str) -> None:
    assert formats.short_size(size, digits) == text


def test_an_image_has_a_row_for_every_name() -> None:
    image = {
        "Id": "a" * 64, "Names": ["docker.io/library/debian:12", "localhost:5000/x:y"],
        "Created": NOW - 86400 * 3, "Size": 170_400_000, "Digest": "", "Labels": {},
    }  # fmt: skip
    rows = images.describe_images(image, NOW, full=False)
    assert [(row["Repository"], row["Tag"]) for row in rows] == [
        ("docker.io/library/debian", "12"),
        ("localhost:5000/x", "y"),
    ]
    assert rows[0]["CreatedSince"] == "3 days ago"
    assert rows[0]["Size"] == "170 MB"
    nameless = images.describe_images({**image, "Names": []}, NOW, full=True)
    assert (nameless[0]["Repository"], nameless[0]["Tag"]) == ("<none>", "<none>")
    assert nameless[0]["ID"] == f"sha256:{'a' * 64}"
    assert images.split_name("localhost:5000/x") == ("localhost:5000/x", "<none>")


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("debian", True),
        ("debian:12", True),
        ("library/debian", True),
        ("docker.io/library/debian:12", True),
        ("deb*", True),
        ("debian:1*", True),
        ("aaaa", True),
        ("debian:13", False),
        ("ubuntu", False),
        ("ebian", False),
        ("a", False),
    ],
)
def test_an_image_is_named_as_people_do(wanted: str, named: bool) -> None:
    row = {"_id": "a" * 64, "Repository": "docker.io/library/debian", "Tag": "12"}
    assert images.is_named(row, wanted) is named
