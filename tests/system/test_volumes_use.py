"""Volumes: what the image has there, who uses them, how long they live."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store, list_store_mounts

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


def volumes(store: Store) -> list[str]:
    return store.ok("volume", "ls", "-q").out.split()


def mountpoint(store: Store, name: str) -> str:
    [found] = store.ok("volume", "inspect", name).json
    return str(found["Mountpoint"])


def test_data_outlives_its_containers(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--rm", "-v", "keep:/d", IMAGE, "sh", "-c", "echo kept >/d/file")
    assert ok("run", "--rm", "-v", "keep:/other", IMAGE, "cat", "/other/file").line == "kept"
    assert volumes(busybox_store) == ["keep"]
    ok("volume", "rm", "keep")
    assert volumes(busybox_store) == []


def test_a_new_volume_gets_what_the_image_has_with_owner_and_mode(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "maker", IMAGE, "sh", "-c",
       "mkdir -p /srv/deep; echo x >/srv/deep/f; ln -s deep/f /srv/link; chown 7:8 /srv "
       "/srv/deep/f; chmod 4750 /srv/deep/f; mkdir /srv/empty; chmod 2751 /srv; "
       "touch -d '2001-02-03 04:05' /srv/deep/f")  # fmt: skip
    ok("commit", "maker", "localhost/filled")
    image = "localhost/filled"
    script = "stat -c '%a %u %g %n' /s /s/deep/f /s/empty; readlink /s/link; stat -c %Y /s/deep/f"
    try:
        out = ok("run", "--rm", "-v", "filled:/srv", "-v", "filled:/s", "localhost/filled", "sh",
                 "-c", script).out.split("\n")  # fmt: skip
        assert out[:4] == ["2751 7 8 /s", "4750 7 8 /s/deep/f", "755 0 0 /s/empty", "deep/f"]
        assert int(out[4]) < 1_000_000_000
        # Only once: what was removed does not come back.
        ok("run", "--rm", "-v", "filled:/srv", "localhost/filled", "rm", "/srv/deep/f")
        assert ok("run", "--rm", "-v", "filled:/srv", image, "ls", "/srv/deep").out == ""
        ok("volume", "create", "first")
        assert ok("run", "--rm", "-v", "first:/srv", image, "ls", "/srv/deep").line == "f"
        ok("run", "--rm", "-v", "not:/srv:nocopy", "localhost/filled", "sh", "-c",
           "test -z \"$(ls /srv)\"")  # fmt: skip
    finally:
        for name in ("filled", "first", "not"):
            busybox_store.strata("volume", "rm", name)
        ok("rm", "maker")
        ok("rmi", "localhost/filled")


def test_content_is_never_copied_through_a_link_out_of_the_image(
    busybox_store: Store, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host")
    ok = busybox_store.ok
    ok("run", "--name", "liar", IMAGE, "sh", "-c", f"rm -rf /srv; ln -s {tmp_path} /srv; "
       "ln -s ../../../../../../.. /up")  # fmt: skip
    ok("commit", "liar", "localhost/liar")
    try:
        for target in ("/srv", "/up/etc"):
            outcome = busybox_store.strata("run", "--rm", "-v", f"x:{target}", "localhost/liar",
                                           "ls", "-a", target)  # fmt: skip
            assert "secret" not in outcome.out
            assert "shadow" not in os.listdir(mountpoint(busybox_store, "x"))
            busybox_store.ok("volume", "rm", "x")
        assert os.listdir(tmp_path) == ["secret"]
    finally:
        ok("rm", "liar")
        ok("rmi", "localhost/liar")


def test_an_anonymous_volume_lives_as_long_as_asked(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "--rm", "-v", "/a", "-v", "named:/b", IMAGE, "true")
    assert volumes(busybox_store) == ["named"], "--rm takes the anonymous one only"
    ok("run", "--name", "one", "-v", "/a", "-v", "named:/b", IMAGE, "true")
    assert len(volumes(busybox_store)) == 2
    ok("rm", "one")
    assert len(volumes(busybox_store)) == 2, "rm leaves it"
    ok("volume", "prune", "-f")
    assert volumes(busybox_store) == ["named"], "prune takes what nobody uses"
    ok("run", "--name", "two", "-v", "/a", "-v", "named:/b", IMAGE, "true")
    ok("rm", "-v", "two")
    assert volumes(busybox_store) == ["named"], "rm -v takes it"
    ok("volume", "rm", "named")


def test_an_anonymous_volume_used_by_another_container_stays(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("create", "--name", "one", "-v", "/a", IMAGE)
    [volume] = volumes(busybox_store)
    ok("create", "--name", "two", "-v", f"{volume}:/b", IMAGE)
    ok("rm", "-v", "one")
    assert volumes(busybox_store) == [volume]
    ok("rm", "-v", "two")
    busybox_store.strata("volume", "rm", volume)
    assert volumes(busybox_store) == []


def test_volumes_of_an_image(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("create", "--name", "base", IMAGE)
    ok("commit", "-c", "VOLUME /data", "base", "localhost/withvolume")
    try:
        out = ok("run", "--rm", "localhost/withvolume", "sh", "-c",
                 "cat /data/seed; grep -c ' /data ' /proc/mounts")  # fmt: skip
        assert out.out == "from the image\n1\n"
        assert volumes(busybox_store) == []
        out = ok("run", "--rm", "--tmpfs", "/data", "localhost/withvolume", "grep", " /data ",
                 "/proc/mounts")  # fmt: skip
        assert out.out.startswith("tmpfs")
    finally:
        ok("rm", "base")
        ok("rmi", "localhost/withvolume")


def test_a_used_volume_is_not_removed(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "-d", "--name", "user", "-v", "used:/d", IMAGE, "sleep", "1000")
    outcome = busybox_store.strata("volume", "rm", "used")
    assert outcome.rc == 2
    assert "user" in outcome.err
    ok("volume", "prune", "-f", "--all")
    assert volumes(busybox_store) == ["used"]
    ok("exec", "user", "touch", "/d/still-writable")
    ok("volume", "rm", "-f", "-t", "0", "used")
    assert volumes(busybox_store) == []
    assert busybox_store.strata("container", "exists", "user").rc == 1


def test_the_mountpoint_on_the_host_is_the_data(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("volume", "create", "seen")
    path = mountpoint(busybox_store, "seen")
    Path(path, "from-host").write_text("h")
    out = ok("run", "--rm", "-v", "seen:/d", IMAGE, "sh", "-c", "cat /d/from-host; echo c >/d/back")
    assert out.out == "h"
    assert Path(path, "back").read_text() == "c\n"
    flags = os.statvfs(path).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    folder = os.path.dirname(path)
    while folder != busybox_store.root:
        assert os.stat(folder).st_mode & 0o077 == 0
        folder = os.path.dirname(folder)
    ok("volume", "rm", "seen")
    assert not os.path.exists(path)
    assert not any("/seen/" in target for target in list_store_mounts(busybox_store.base))


def test_a_removed_volume_names_itself_at_the_next_start(busybox_store: Store) -> None:
    """Removal is refused, but a record may outlive its volume in other ways."""
    ok = busybox_store.ok
    ok("create", "--name", "left", "-v", "gone:/d", IMAGE, "true")
    e = busybox_store.engine()
    record = e.records.get("volume", e.records.resolve("volume", "gone"))
    e.unmount_volume("gone")
    e.records.drop_name("volume", "gone", record["id"])
    e.records.delete("volume", record["id"])
    outcome = busybox_store.strata("start", "left")
    assert outcome.rc == 125
    assert "no such volume: 'gone'" in outcome.err
    assert "/d" in outcome.err
    ok("rm", "left")
    e.destroy_dataset(record["dataset"])


def test_volumes_are_writable_in_a_read_only_container(busybox_store: Store) -> None:
    out = busybox_store.ok(
        "run", "--rm", "--read-only", "-v", "/w", "-v", "ro:/r:ro", IMAGE, "sh", "-c",
        "touch /w/x && echo w; touch /r/x 2>/dev/null || echo ro",
    )  # fmt: skip
    assert out.out.split() == ["w", "ro"]
    busybox_store.ok("volume", "rm", "ro")


def test_two_containers_share_a_volume_at_once(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("run", "-d", "--name", "writer", "-v", "shared:/d", IMAGE, "sh", "-c",
       "echo hello >/d/f; echo ready; sleep 1000")  # fmt: skip
    busybox_store.wait_for_log("writer", "ready")
    assert ok("run", "--rm", "-v", "shared:/e", IMAGE, "cat", "/e/f").line == "hello"
    ok("rm", "-f", "-t", "0", "writer")
    ok("volume", "rm", "shared")


def test_options_and_labels(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("volume", "create", "-l", "a=b", "--label", "c", "--name", "labelled")
    [found] = ok("volume", "inspect", "labelled").json
    assert found["Labels"] == {"a": "b", "c": ""}
    assert ok("volume", "ls", "-q", "--filter", "label=a=b").line == "labelled"
    assert ok("volume", "ls", "-q", "--filter", "label=a=x").out == ""
    assert ok("volume", "ls", "-q", "--filter", "name=label").line == "labelled"
    assert ok("volume", "ls", "-q", "--filter", "dangling=true").line == "labelled"
    outcome = busybox_store.strata("volume", "create", "labelled")
    assert outcome.rc == 125
    assert "already" in outcome.err or "exists" in outcome.err
    ok("volume", "rm", "labelled")
    for option in ("mountpoint=/etc", "canmount=on", "sharenfs=on", "strata:id=x", "nonsense=1",
                   "size=-1", "size=x", "keylocation=file:///etc/passwd"):  # fmt: skip
        outcome = busybox_store.strata("volume", "create", "-o", option, "bad")
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.count("\n") <= 2
    assert volumes(busybox_store) == []


def test_a_quota_holds(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("volume", "create", "-o", "size=8M", "small")
    out = ok(
        "run",
        "--rm",
        "-v",
        "small:/d",
        IMAGE,
        "sh",
        "-c",
        "head -c 30000000 /dev/urandom >/d/big || echo refused; sync; stat -c %s /d/big",
    )
    refused, size = out.out.split()
    assert refused == "refused"
    assert int(size) <= 8 << 20
    ok("run", "--rm", "-v", "small:/d", IMAGE, "rm", "/d/big")
    ok("volume", "rm", "small")


def test_names_that_do_not_exist(busybox_store: Store) -> None:
    assert busybox_store.strata("volume", "exists", "none").rc == 1
    assert busybox_store.strata("volume", "inspect", "none").rc == 125
    assert busybox_store.strata("volume", "rm", "none").rc == 1
    assert busybox_store.strata("volume", "rm", "-f", "none").rc == 0


def test_a_volume_goes_out_and_comes_in_as_an_archive(busybox_store: Store, tmp_path: Path) -> None:
    store, archive = busybox_store, f"{tmp_path}/out.tar"
    store.ok("run", "--rm", "-v", "goes:/v", BUSYBOX, "sh", "-c",
             "mkdir -p /v/a/b; echo hi > /v/a/b/f; ln -s a/b/f /v/l; chown 7:8 /v/a")  # fmt: skip
    try:
        store.ok("volume", "export", "-o", archive, "goes")
        with tarfile.open(archive) as tar:
            assert sorted(tar.getnames()) == ["a", "a/b", "a/b/f", "l"]
        with open(archive, "rb") as file:
            data = file.read()
        store.ok("volume", "create", "comes")
        store.ok("volume", "import", "comes", "-", input=gzip.compress(data))
        seen = store.ok("run", "--rm", "-v", "comes:/v", BUSYBOX, "sh", "-c",
                        "cat /v/l; stat -c %u:%g /v/a; ls /v").out  # fmt: skip
        assert seen == "hi\n7:8\na\nl\n"
        broken = store.strata("volume", "import", "comes", "-", input=data[:700])
        assert broken.rc == 125
        assert store.ok("run", "--rm", "-v", "comes:/v", BUSYBOX, "ls", "/v").out == "a\nl\n"
        assert store.strata("volume", "export", "nothing").rc == 125
        assert store.strata("volume", "import", "comes", "/nothing").rc == 125
        assert os.listdir(f"{store.pool}/images/spool") == []
    finally:
        store.ok("volume", "rm", "--now", "goes", "comes")
