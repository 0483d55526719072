"""The rarer mounts, seen from inside the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.store import Outcome, Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


def run(store: Store, *options: str, sh: str) -> Outcome:
    return store.ok("run", "--rm", "--network", "none", *options, IMAGE, "sh", "-c", sh)


def test_volumes_and_binds_of_another_container(busybox_store: Store, tmp_path: Path) -> None:
    ok = busybox_store.ok
    (tmp_path / "file").write_text("of the host\n")
    ok("create", "--name", "giver", "-v", "shared:/shared", "-v", "/own", "-v",
       f"{tmp_path}:/host:ro", IMAGE)  # fmt: skip
    try:
        script = "cat /host/file; touch /shared/x /own/y; ls -d /own; touch /host/z || echo ro"
        out = run(busybox_store, "--volumes-from", "giver", sh=f"({script}) 2>/dev/null")
        assert out.out.split("\n")[:3] == ["of the host", "/own", "ro"]
        out = run(busybox_store, "--volumes-from", "giver:ro", "--tmpfs", "/own",
                  sh="ls /shared /own; touch /shared/z 2>/dev/null || echo ro")  # fmt: skip
        assert out.out.split() == ["/own:", "/shared:", "x", "ro"]
        # Its anonymous volume is still there: another container had it too.
        assert run(busybox_store, "--volumes-from", "giver", sh="ls /own").line == "y"
        outcome = busybox_store.strata("create", "--volumes-from", "giver:fast", IMAGE)
        assert outcome.rc == 125
        assert 'invalid option "fast"' in outcome.err
    finally:
        busybox_store.strata("rm", "-v", "giver")
        busybox_store.strata("volume", "rm", "shared")


def test_an_image_as_a_mount(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "maker", IMAGE, "sh", "-c", "mkdir /tools; echo tool >/tools/t")
    ok("commit", "maker", "tools")
    ok("rm", "maker")
    try:
        out = run(busybox_store, "--mount", "type=image,src=tools,dst=/mnt", "--mount",
                  "type=image,src=tools,dst=/part,subpath=tools",
                  sh="cat /mnt/tools/t /part/t; touch /mnt/x 2>/dev/null || echo ro")  # fmt: skip
        assert out.out.split() == ["tool", "tool", "ro"]
        ok("create", "--name", "user", "--mount", "type=image,src=tools,dst=/mnt", IMAGE)
        outcome = busybox_store.strata("rmi", "tools")
        assert outcome.rc == 2
        assert "in use" in outcome.err
        missing = busybox_store.strata("create", "--mount", "type=image,src=nobody,dst=/x", IMAGE)
        assert "image not known" in missing.err
        missing = busybox_store.strata("run", "--rm", "--mount",
                                       "type=image,src=tools,dst=/x,subpath=no", IMAGE)  # fmt: skip
        assert missing.rc == 125
        assert "no such file" in missing.err
    finally:
        busybox_store.strata("rm", "-f", "user")
        busybox_store.strata("rmi", "-f", "tools")


def test_a_part_of_a_volume_never_leads_outside(busybox_store: Store) -> None:
    run(
        busybox_store,
        "-v",
        "parts:/v",
        sh="mkdir -p /v/a/b; echo inside >/v/a/b/f; ln -s /a /v/link; ln -s ../../../etc /v/out",
    )
    try:
        for path in ("a/b", "link/b"):
            out = run(busybox_store, "--mount", f"type=volume,src=parts,dst=/p,subpath={path}",
                      sh="cat /p/f; echo more >>/p/f")  # fmt: skip
            assert out.out.split("\n")[0] == "inside"
        file = run(busybox_store, "--mount", "type=volume,src=parts,dst=/p,subpath=a/b/f",
                   sh="wc -l </p")  # fmt: skip
        assert file.line == "3"
        outcome = busybox_store.strata(
            "run", "--rm", "--mount", "type=volume,src=parts,dst=/p,subpath=out", IMAGE
        )
        assert outcome.rc == 125
        assert "no such file" in outcome.err
    finally:
        busybox_store.ok("volume", "rm", "parts")


def test_the_users_own_tree(busybox_store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").touch()
    os.symlink("/etc/hostname", folder / "link")
    before = os.stat("/etc/hostname").st_uid
    out = run(
        busybox_store,
        "-u",
        "user",
        "-v",
        f"{folder}:/tree:U",
        "-v",
        "owned:/vol:U",
        sh="touch /tree/sub/new /vol/new; stat -c %u:%g /tree /tree/sub/file /vol",
    )
    assert out.out.split() == ["1000:1000"] * 3
    assert os.stat(folder / "sub" / "new").st_uid == 1000
    assert os.stat("/etc/hostname").st_uid == before
    busybox_store.ok("volume", "rm", "owned")
    outcome = busybox_store.strata("run", "--rm", "-v", "/etc:/x:U", IMAGE, "true")
    assert outcome.rc == 125
    assert "chowning /etc is not allowed" in outcome.err


def test_kernel_file_systems_and_patterns(busybox_store: Store, tmp_path: Path) -> None:
    for name in ("one.conf", "two.conf", "other"):
        (tmp_path / name).write_text(name)
    out = run(
        busybox_store, "--mount", "type=devpts,dst=/pts,mode=0600", "--mount",
        "type=ramfs,dst=/ram", "--mount", f"type=glob,src={tmp_path}/*.conf,dst=/conf,ro",
        "--mount", "type=tmpfs,dst=/data,notmpcopyup,noexec,mode=0700",
        sh="awk '$2==\"/pts\" || $2==\"/ram\" {print $3}' /proc/mounts | sort; ls /conf; "
        "stat -c %a /data; grep -c 'data.*noexec' /proc/mounts",
    )  # fmt: skip
    assert out.out.split() == ["devpts", "ramfs", "one.conf", "two.conf", "700", "1"]
