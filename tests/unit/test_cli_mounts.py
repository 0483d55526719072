"""Mount options: volumes, host paths and memory file systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli import mounts
from strata.errors import UsageError

HERE = "/srv/app"


def shape(kind: str, source: str, destination: str, *options: str) -> dict[str, Any]:
    return {
        "type": kind,
        "source": source,
        "volume": "",
        "destination": destination,
        "options": list(options),
        "anonymous": kind == "volume" and not source,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", shape("volume", "", "/data")),
        ("data:/data", shape("volume", "data", "/data")),
        ("data:/data:ro,nocopy", shape("volume", "data", "/data", "ro", "nocopy")),
        ("/host:/data", shape("bind", "/host", "/data")),
        ("/host/../x:/data/", shape("bind", "/x", "/data")),
        ("./site:/data:ro", shape("bind", "/srv/app/site", "/data", "ro")),
        ("../site:/data", shape("bind", "/srv/site", "/data")),
        (".:/data", shape("bind", "/srv/app", "/data")),
        ("/h:/d:rslave,z", shape("bind", "/h", "/d", "rslave", "z")),
        ("/h://d/../e", shape("bind", "/h", "/e")),
        (
            "/h:/d:O,upperdir=up,workdir=/w",
            shape("bind", "/h", "/d", "O", f"upperdir={HERE}/up", "workdir=/w"),
        ),
        ("data:/d:O,U", shape("volume", "data", "/d", "O", "U")),
    ],
)
def test_volumes(text: str, expected: dict[str, Any]) -> None:
    assert mounts.parse_volume(text, HERE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "incorrect volume format"),
        ("a:b:c:d", "incorrect volume format"),
        (":/data", "host directory cannot be empty"),
        ("data", "must be an absolute path"),
        ("data:data", "must be an absolute path"),
        ("data:/", "the root cannot be a mount"),
        ("data:/x/..", "the root cannot be a mount"),
        ("a/b:/data", "neither a volume's name nor an absolute path"),
        (".hidden:/data", "neither a volume's name nor an absolute path"),
        ("da ta:/data", "names must match"),
        ("data:/data:rw,ro", "cannot pass both"),
        ("data:/data:shared,rslave", "more than one propagation"),
        ("data:/data:fast", "unknown mount option"),
        ("/host:/data:copy", "unknown mount option"),
        ("/host:/data:O,upperdir=/up", "must set both"),
    ],
)
def test_other_volumes_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        mounts.parse_volume(text, HERE)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,source=/h,destination=/d", shape("bind", "/h", "/d")),
        ("type=bind,src=h,dst=/d,ro", shape("bind", "/srv/app/h", "/d", "ro")),
        ("type=bind,src=/h,target=/d,readonly=false", shape("bind", "/h", "/d", "rw")),
        ("type=bind,src=/h,dst=/d,rw=false", shape("bind", "/h", "/d", "ro")),
        (
            "type=bind,src=/h,dst=/d,bind-propagation=rshared",
            shape("bind", "/h", "/d", "rshared"),
        ),
        ('type=bind,"src=/a,b",dst=/d', shape("bind", "/a,b", "/d")),
        ("type=volume,src=data,dst=/d,nosuid", shape("volume", "data", "/d", "nosuid")),
        ("src=data,dst=/d", shape("volume", "data", "/d")),
        ("dst=/d", shape("volume", "", "/d")),
        (
            "type=tmpfs,dst=/d,tmpfs-size=64m,tmpfs-mode=1777,noexec",
            shape("tmpfs", "", "/d", f"size={64 << 20}", "mode=1777", "noexec"),
        ),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    assert mounts.parse_mount(text, HERE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must set volume destination"),
        ("type=bind,src=/h", "must set volume destination"),
        ("type=bind,dst=/d", "must set source"),
        ("type=nfs,dst=/d", "invalid filesystem type"),
        ("type=image,dst=/d", "must set source"),
        ("type=image,src=x,dst=/d,rw=true,subpath=y", "overlay over all of the image"),
        ("type=overlay,dst=/d", "not available in this version"),
        ("type=bind,src=/h,dst=/d,subpath=x", "not supported"),
        ("type=volume,src=v,dst=/d,subpath=../x", "must lie inside"),
        ("type=volume,src=v,dst=/d,volume-opt=o=x", "does not configure a volume"),
        ("type=bind,src=/h,dst=/d,relabel=x", "must be shared or private"),
        ("type=devpts,dst=/d,size=3", "unknown mount option"),
        ("type=glob,src=/nowhere/*,dst=/d,fast", "unknown mount option"),
        ("type=tmpfs,src=/h,dst=/d", "not supported"),
        ("type=volume,src=/h,dst=/d", "not the name of a volume"),
        ("type=bind,src=/h,dst=/d,ro=maybe", "neither true nor false"),
        ("type=bind,src=/h,dst=/d,fast", "unknown mount option"),
        ("type=tmpfs,dst=/d,size=x", "invalid size"),
        ("type=tmpfs,dst=/d,mode=9", "invalid tmpfs mode"),
        ('type=bind,"src=/h', "quote is not closed"),
    ],
)
def test_other_mounts_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        mounts.parse_mount(text, HERE)
    assert message in caught.value.message


def test_memory_file_systems() -> None:
    assert mounts.parse_tmpfs("/run") == ("/run", "")
    assert mounts.parse_tmpfs("/run:size=1m,mode=755,noexec") == (
        "/run",
        f"size={1 << 20},mode=755,noexec",
    )
    assert mounts.parse_tmpfs("/run:size=50%") == ("/run", "size=50%")
    for text in ("run", "/", "/run:fast", "/run:exec,noexec", "/run:size=x"):
        with pytest.raises(UsageError):
            mounts.parse_tmpfs(text)


def test_all_three_options_together() -> None:
    found, memory = mounts.combine(
        ["data:/data"], ["type=bind,src=/h,dst=/h", "type=tmpfs,dst=/m,tmpfs-size=1k"],
        ["/run:ro"], HERE,
    )  # fmt: skip
    assert [mount["destination"] for mount in found] == ["/data", "/h"]
    assert memory == {"/m": "size=1024", "/run": "ro"}


@pytest.mark.parametrize(
    ("volumes", "given", "tmpfs"),
    [
        (["a:/d", "b:/d/"], [], []),
        (["a:/d"], ["type=bind,src=/h,dst=/d"], []),
        (["a:/d"], [], ["/d"]),
        ([], [], ["/d", "/d"]),
    ],
)
def test_a_destination_is_mounted_once(
    volumes: list[str], given: list[str], tmpfs: list[str]
) -> None:
    with pytest.raises(UsageError, match="duplicate mount destination"):
        mounts.combine(volumes, given, tmpfs, HERE)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (mounts.parse_volume, mounts.parse_mount):
        try:
            found = read(text, HERE)
        except UsageError:
            pass
        else:
            assert found["destination"].startswith("/")
            assert "/../" not in found["destination"] + "/"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/h,dst=/d,U=true,relabel=shared", shape("bind", "/h", "/d", "U", "z")),
        ("type=bind,src=/h,dst=/d,chown=false,consistency=cached", shape("bind", "/h", "/d")),
        ("/h:/d:U,ro", shape("bind", "/h", "/d", "U", "ro")),
        ("type=image,src=alpine,dst=/d", shape("image", "alpine", "/d", "ro")),
        ("type=image,src=alpine,dst=/d,rw=false,subpath=/etc/",
         {**shape("image", "alpine", "/d", "ro"), "subpath": "etc"}),
        ("type=volume,src=v,dst=/d,subpath=a//b,volume-driver=local",
         {**shape("volume", "v", "/d"), "subpath": "a/b"}),
        ("type=devpts,dst=/d,uid=5,max=3", shape("devpts", "", "/d", "uid=5", "max=3")),
        ("type=ramfs,dst=/d,size=1m", shape("ramfs", "", "/d", "size=1048576")),
    ],
)  # fmt: skip
def test_rarer_mounts(text: str, expected: dict[str, Any]) -> None:
    read = mounts.parse_mount if text.startswith("type=") else mounts.parse_volume
    assert read(text, HERE) == expected


def test_a_pattern_stands_for_each_file_it_matches(tmp_path: Path) -> None:
    for name in ("libb", "liba", "other"):
        (tmp_path / name).touch()
    found, _ = mounts.combine([], [f"type=glob,src={tmp_path}/lib*,dst=/usr/lib,ro"], [], HERE)
    assert [(m["source"], m["destination"], m["options"]) for m in found] == [
        (f"{tmp_path}/liba", "/usr/lib/liba", ["ro"]),
        (f"{tmp_path}/libb", "/usr/lib/libb", ["ro"]),
    ]
    with pytest.raises(UsageError, match="no file paths matching glob"):
        mounts.combine([], [f"type=glob,src={tmp_path}/none*,dst=/usr/lib"], [], HERE)


def test_the_same_mount_twice_is_one() -> None:
    found, memory = mounts.combine(["data:/d", "data:/d"], ["type=tmpfs,dst=/t,chown"], [], "/here")
    assert [mount["destination"] for mount in found] == ["/d"]
    assert list(memory) == ["/t"]
