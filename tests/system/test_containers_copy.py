"""``cp``: what goes in and out, and what a container cannot make of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"
SECRET = "of the host"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host with a secret, and one to copy to."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture(params=["running", "stopped"])
def box(busybox_store: Store, host: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container full of traps that point to the host's directory."""
    script = (
        f"ln -s {host}/secret /link; ln -s ../../../../../../../..{host} /up; ln -s loop /loop; "
        "mkdir -p /dir/sub; echo inside >/dir/sub/file; chmod 640 /dir/sub/file; "
        "chown 5:6 /dir/sub/file; ln -s sub/file /dir/good; mkfifo /dir/fifo; "
        "mknod /dir/null c 1 3; cp /bin/busybox /dir/setuid; chmod 6755 /dir/setuid; "
        "ln -s /etc /conf; echo v >/vol/in-volume; echo ready; exec sleep 1000"
    )
    busybox_store.ok("run", "-d", "--name", "box", "--stop-timeout", "0", "--cap-add", "MKNOD",
                     "-v", "cpvol:/vol", IMAGE, "sh", "-c", script)  # fmt: skip
    busybox_store.wait_for_log("box", "ready")
    if request.param == "stopped":
        busybox_store.ok("stop", "box")
    yield "box"
    busybox_store.ok("rm", "-f", "box")
    busybox_store.ok("volume", "rm", "cpvol")


def test_links_of_the_container_never_lead_to_the_host(
    busybox_store: Store, box: str, host: Path
) -> None:
    cp = busybox_store.strata
    out = host / "out"
    for flags in ((), ("-L",)):
        for path in ("/up/secret", "/loop/x", "/link/", "../../../../../../.." + str(host)):
            outcome = cp("cp", *flags, f"box:{path}", str(out / "x"))
            assert outcome.rc == 125, repr(outcome)
            assert not os.path.lexists(out / "x")
    outcome = cp("cp", "-L", "box:/link", str(out / "x"))
    assert outcome.rc == 125
    busybox_store.ok("cp", "box:/link", str(out / "x"))
    assert os.readlink(out / "x") == f"{host}/secret", "a link is copied as a link"
    (host / "new").write_text("from outside")
    cp("cp", str(host / "new"), "box:/up")
    cp("cp", str(host / "new"), "box:/link")
    cp("cp", str(host / "new"), "box:/up/made")
    assert (host / "secret").read_text() == SECRET
    assert sorted(os.listdir(host)) == ["new", "out", "secret"]
    busybox_store.ok("cp", str(host / "new"), "box:/conf/made")
    busybox_store.ok("cp", "box:/etc/made", str(out / "made"))
    assert (out / "made").read_text() == "from outside", "a link inside is followed inside"
    assert not os.path.exists("/etc/made")


def test_trees_come_out_without_what_gives_rights(
    busybox_store: Store, box: str, host: Path
) -> None:
    outcome = busybox_store.ok("cp", "box:/dir", str(host / "out"))
    top = host / "out" / "dir"
    assert sorted(os.listdir(top)) == ["fifo", "good", "setuid", "sub"]
    assert "null" in outcome.err
    assert stat.S_IMODE(os.stat(top / "setuid").st_mode) == 0o755
    facts = os.stat(top / "sub" / "file")
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o640, 0, 0)
    assert stat.S_ISFIFO(os.lstat(top / "fifo").st_mode)
    assert os.readlink(top / "good") == "sub/file"
    busybox_store.ok("cp", "-a=false", "box:/dir/sub/file", str(host / "out" / "owned"))
    assert os.stat(host / "out" / "owned").st_uid == 5


def test_names_and_places(busybox_store: Store, box: str, host: Path) -> None:
    ok, out = busybox_store.ok, host / "out"
    tree = host / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "b").write_text("b")
    ok("cp", str(tree), "box:/")  # /tree
    ok("cp", f"{tree}/.", "box:/new")  # /new/a
    ok("cp", str(tree), "box:/new")  # /new/tree
    ok("cp", str(tree / "a" / "b"), "box:/new/c")
    ok("cp", str(tree / "a" / "b"), "box:new/")  # relative: to the working directory
    ok("cp", "box:/new", str(out))
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert found == ["new", "new/a", "new/a/b", "new/b", "new/c", "new/tree", "new/tree/a",
                     "new/tree/a/b"]  # fmt: skip
    ok("cp", "box:/vol/in-volume", str(out / "v"))
    assert (out / "v").read_text() == "v\n"
    ok("cp", "box:/tree/a/b", "box:/copied")
    ok("cp", "box:/copied", str(out / "back"))
    assert (out / "back").read_text() == "b"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("box:/none", "OUT/x"), ("HOST/none", "box:/x"), ("HOST/secret", "box:/none/x"),
        ("HOST/secret", "box:/none/"), ("HOST/secret", "box:/etc/passwd/x"),
        ("HOST/out", "box:/etc/passwd"), ("HOST/secret", "HOST/y"), ("nobody:/x", "OUT/x"),
        ("box:/etc/passwd/.", "OUT/x"), ("box:/.strata/record.json", "OUT/x"),
        ("box:/../.strata/record.json", "OUT/x"), ("box:/" + "x" * 300, "OUT/x"),
        ("box:/" + "x/" * 3000, "OUT/x"), ("-", "box:/x"), ("box:/etc/passwd", "OUT/no/no"),
    ],
)  # fmt: skip
def test_what_cannot_be(
    busybox_store: Store, host: Path, shared_box: str, source: str, target: str
) -> None:
    argv = [text.replace("HOST", str(host)).replace("OUT", f"{host}/out").replace("box:", "cpbox:")
            for text in (source, target)]  # fmt: skip
    outcome = busybox_store.strata("cp", *argv)
    assert outcome.rc == 125, repr(outcome)
    assert outcome.err.startswith("Error: ")
    assert "internal error" not in outcome.err
    assert os.listdir(host / "out") == []
    assert sorted(os.listdir(host)) == ["out", "secret"]


@pytest.fixture(scope="module")
def shared_box(busybox_store: Store) -> Iterator[str]:
    busybox_store.ok("create", "--name", "cpbox", IMAGE)
    yield "cpbox"
    busybox_store.ok("rm", "cpbox")


def test_the_whole_of_a_running_container(busybox_store: Store, host: Path) -> None:
    busybox_store.ok("run", "-d", "--name", "whole", "--stop-timeout", "0", IMAGE, "sleep", "1000")
    busybox_store.ok("cp", "whole:/", str(host / "copy"))
    assert (host / "copy" / "data" / "seed").read_text() == "from the image\n"
    assert os.listdir(host / "copy" / "proc") == [], "what the kernel shows there is not copied"
    busybox_store.ok("cp", "whole:/proc/version", str(host / "version"))
    assert (host / "version").read_text().startswith("Linux")
    busybox_store.ok("rm", "-f", "whole")


def test_a_container_that_swaps_directories_for_links_meanwhile(
    busybox_store: Store, host: Path
) -> None:
    """The container changes names as fast as it can while files are copied in and out."""
    script = (
        f"mkdir /d; echo inside >/d/secret; echo ready; "
        f"while :; do mv /d /e; ln -s {host} /d; rm /d; mv /e /d; done"
    )
    busybox_store.ok("run", "-d", "--name", "racer", "--stop-timeout", "0", IMAGE, "sh", "-c",
                     script)  # fmt: skip
    busybox_store.wait_for_log("racer", "ready")
    (host / "new").write_text("x")
    for number in range(15):
        target = host / "out" / str(number)
        busybox_store.strata("cp", "racer:/d/secret", str(target))
        assert not target.exists() or target.read_text() in ("inside\n", "x")
        busybox_store.strata("cp", str(host / "new"), "racer:/d/planted")
        busybox_store.strata("cp", "--overwrite", str(host / "new"), "racer:/d/secret")
        assert not (host / "planted").exists()
        assert (host / "secret").read_text() == SECRET
        busybox_store.strata("exec", "racer", "sh", "-c", "echo inside >/d/secret")
    busybox_store.ok("rm", "-f", "racer")


def test_the_record_is_out_of_reach_from_inside(busybox_store: Store) -> None:
    """Neither by name nor by `..`, nor by descriptors of the host, nor with every capability."""
    out = busybox_store.ok(
        "run", "--rm", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", IMAGE, "sh",
        "-c", "ls -a / /.. /../.. /proc/self/root/..; ls -l /proc/self/fd /proc/1/fd; "
        "find / -xdev -name '.strata*'; find / -xdev -name record.json",
    ).out  # fmt: skip
    assert ".strata" not in out
    assert "record.json" not in out
    assert busybox_store.base not in out


def test_an_interrupted_copy_can_be_done_again(busybox_store: Store, host: Path) -> None:
    big = host / "big"
    with big.open("wb") as file:
        file.truncate(80 << 20)
    busybox_store.ok("create", "--name", "cut", IMAGE)
    with busybox_store.start("cp", str(host), "cut:/there", stderr=subprocess.DEVNULL) as process:
        process.send_signal(signal.SIGKILL)
    busybox_store.ok("cp", f"{host}/.", "cut:/there")
    busybox_store.ok("cp", "cut:/there/big", str(host / "out" / "big"))
    assert os.path.getsize(host / "out" / "big") == 80 << 20
    busybox_store.ok("rm", "cut")
